/* The commands: one function each, called with the arguments behind the command's name. They return
 * the exit status. */
#ifndef PS_TOOL_COMMANDS_H
#define PS_TOOL_COMMANDS_H

typedef struct ps_command {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv);
} ps_command;

int ps_cmd_generate(int argc, char **argv);
int ps_cmd_batch(int argc, char **argv);
int ps_cmd_acestep(int argc, char **argv);
int ps_cmd_score(int argc, char **argv);
int ps_cmd_encode(int argc, char **argv);
int ps_cmd_tokenize(int argc, char **argv);
int ps_cmd_detokenize(int argc, char **argv);
int ps_cmd_plan(int argc, char **argv);
int ps_cmd_inspect(int argc, char **argv);
int ps_cmd_convert(int argc, char **argv);
int ps_cmd_bias(int argc, char **argv);
int ps_cmd_bench(int argc, char **argv);

#endif
