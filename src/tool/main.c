/* The program: a table of commands. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/text.h"
#include "pipe/comm.h"
#include "tool/commands.h"
#include "tool/output.h"
#include "tool/version.h"

static const ps_command commands[] = {
    {"generate", "continues a prompt, streaming the new text", ps_cmd_generate},
    {"batch", "runs a JSONL file of requests side by side", ps_cmd_batch},
    {"acestep", "caption and lyrics to audio codes, with ACE-Step's language model",
     ps_cmd_acestep},
    {"score", "log-probabilities and perplexity of given sequences", ps_cmd_score},
    {"bias", "pictures of what score biases do to attention", ps_cmd_bias},
    {"encode", "vectors of an encoder for given sequences", ps_cmd_encode},
    {"tokenize", "text on standard input to token ids", ps_cmd_tokenize},
    {"detokenize", "token ids on standard input to text", ps_cmd_detokenize},
    {"plan", "split, memory and messages of a run, without running it", ps_cmd_plan},
    {"inspect", "what is in a model file", ps_cmd_inspect},
    {"convert", "a Hugging Face directory or a GGUF file to a model file", ps_cmd_convert},
    {"bench", "measures this machine, or writes a random model", ps_cmd_bench},
};

enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static const char after_list[] =
    "\npipestep help COMMAND, or pipestep COMMAND --help, shows a command's options. Without MODEL "
    "the\n"
    "tune model that ships is used. All commands run alone or under mpirun or srun, with any "
    "number\n"
    "of ranks.\n\n"
    "Exit status: 0 done; 1 failed; 2 wrong usage or configuration; 3 a rank was lost or stalled;\n"
    "4 the reader of standard output went away; 75 saved, the same command goes on; 130 and 143 "
    "stopped\n"
    "by SIGINT and SIGTERM. Standard output carries the product alone, everything else goes to "
    "standard\nerror.\n";

static int write_once(const ps_text *text)
{
    int rank;
    ps_comm_launched(&rank);
    const ps_output output = {0};
    const ps_err err = rank == 0 ? ps_output_write(&output, text->data, text->len) : PS_OK;
    if (err && err != PS_ERR_CLOSED) ps_log(PS_LOG_ERROR, "%s", ps_err_message());
    return ps_err_exit_status(err);
}

static int show_help(void)
{
    ps_text text = {0};
    ps_text_append_str(&text, "usage: pipestep COMMAND [MODEL] [options]\n\n");
    for (int i = 0; i < N_COMMANDS; i++) {
        ps_text_appendf(&text, "  %-11s %s\n", commands[i].name, commands[i].summary);
    }
    ps_text_appendf(&text, "  %-11s %s\n", "help", "this text, or a command's options");
    ps_text_append_str(&text, after_list);
    const int status = write_once(&text);
    ps_text_release(&text);
    return status;
}

static int show_version(void)
{
    ps_text text = {0};
    ps_version_describe(&text);
    const int status = write_once(&text);
    ps_text_release(&text);
    return status;
}

static const ps_command *find(const char *name)
{
    for (int i = 0; i < N_COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0) return &commands[i];
    }
    return NULL;
}

static int unknown_command(const char *name)
{
    int rank, best = -1, distance = 4;
    for (int i = 0; i < N_COMMANDS; i++) {
        const int d = ps_text_distance(name, commands[i].name);
        if (d >= distance) continue;
        distance = d;
        best = i;
    }
    ps_comm_launched(&rank);
    if (rank == 0 && best >= 0)
        ps_log(PS_LOG_ERROR, "unknown command %s; did you mean %s?", name, commands[best].name);
    if (rank == 0 && best < 0)
        ps_log(PS_LOG_ERROR, "unknown command %s; pipestep help lists them", name);
    return ps_err_exit_status(PS_ERR_USAGE);
}

/* Whoever starts the program may have closed its standard streams. The next file or socket to be
 * opened would then get such a number, and would be written to in place of the stream: so each gets
 * a descriptor that holds the number and refuses what the stream is for. */
static void hold_standard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0) continue;
        // The lowest free number is the one given.
        (void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
    }
}

/* Errors of the command line are messages too, and come before it is understood. */
static void begin_log(int argc, char **argv)
{
    int rank;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--log-json") != 0) continue;
        ps_comm_launched(&rank);
        ps_log_set(PS_LOG_INFO, rank > 0 ? rank : 0);
        ps_log_set_json(true);
    }
}

int main(int argc, char **argv)
{
    hold_standard_streams();
    begin_log(argc, argv);
    const char *name = argc > 1 ? argv[1] : "";
    if (argc < 2) {
        show_help();
        return ps_err_exit_status(PS_ERR_USAGE);
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0) return show_version();
    const bool help =
        strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0;
    if (help && (argc < 3 || strcmp(argv[2], "help") == 0)) return show_help();
    const ps_command *command = find(help ? argv[2] : name);
    if (!command) return unknown_command(help ? argv[2] : name);
    if (!help) return command->run(argc - 2, argv + 2);
    char option[] = "--help";
    char *arguments[] = {option, NULL};
    return command->run(1, arguments);
}
