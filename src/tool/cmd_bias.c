/* pipestep bias: what the biases of a model do to its attention, as numbers and pictures. */
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "tool/commands.h"
#include "tool/job.h"
#include "tool/pictures/figures.h"
#include "tool/pictures/page.h"
#include "tool/pictures/scene.h"
#include "tool/pictures/tables.h"
#include "tool/pictures/terminal.h"
#include "tool/prompt.h"

enum { FIGURES_BOTH, FIGURES_SVG, FIGURES_PNG, FIGURES_NONE };
enum { LAYERS_BY_ITSELF = 4, TUNE_TOKENS = 139, TUNE_SEED = 7, COLUMNS = 80 };

#define RECORD_BYTES_MAX 4e9

/* What the model that ships plays when nobody says anything else. */
static const char tune_prompt[] = "X:1\nR:jig\nM:6/8\nL:1/8\nK:D\n";

typedef struct options {
    ps_prompt prompt;
    const char *layers, *heads, *steps;
    const char *out;
    int64_t n;
    uint64_t seed;
    double temperature;
    int figures;
    bool text;
} options;

typedef struct state {
    options options;
    ps_job *job;
    bool plays_tune; // the default run of the model that ships
    ps_ranges layers, heads, steps;
    ps_request request;
    ps_scene scene;
    char *out; // --out, which outlives the options
} state;

#define AT(field) offsetof(options, field)

static const ps_opt_choice figure_choices[] = {{"both", FIGURES_BOTH},
                                               {"svg", FIGURES_SVG},
                                               {"png", FIGURES_PNG},
                                               {"none", FIGURES_NONE},
                                               {NULL, 0}};

static const ps_opt rows[] = {
    {"prompt", 'p', PS_OPT_TEXT, AT(prompt.text), 0, 0, NULL, NULL, "TEXT",
     "text to run through the model"},
    {"prompt-file", 0, PS_OPT_TEXT, AT(prompt.file), 0, 0, NULL, NULL, "FILE",
     "file with the text; - is standard input"},
    {"tokens", 0, PS_OPT_TEXT, AT(prompt.tokens_file), 0, 0, NULL, NULL, "FILE",
     "file whose first line is the text as token ids, taken as it is"},
    {"n", 'n', PS_OPT_I64, AT(n), 0, 1e9, "0", NULL, "N",
     "new tokens that follow the prompt and are looked at too"},
    {"seed", 0, PS_OPT_U64, AT(seed), 0, 0, NULL, NULL, "S",
     "draws the new tokens; without it the likeliest are taken"},
    {"temperature", 0, PS_OPT_REAL, AT(temperature), 0, 1e5, "1", NULL, "X", "of the draws"},
    {"layer", 0, PS_OPT_TEXT, AT(layers), 0, 0, NULL, NULL, "LIST",
     "layers from 0: numbers and ranges such as 0,3,5-7, or all; by default the first and the last "
     "layer of each window, four at most"},
    {"head", 0, PS_OPT_TEXT, AT(heads), 0, 0, "all", NULL, "LIST", "query heads from 0"},
    {"step", 0, PS_OPT_TEXT, AT(steps), 0, 0, "all", NULL, "LIST",
     "positions from 0 whose queries are looked at; 40- is the rest from 40 on"},
    {"out", 'o', PS_OPT_TEXT, AT(out), 0, 0, NULL, NULL, "DIR",
     "directory for index.html, figures, bias.h5 and bias.csv"},
    {"figures", 0, PS_OPT_CHOICE, AT(figures), 0, 0, "both", figure_choices, NULL,
     "with --out: which files gnuplot makes"},
    {"text", 0, PS_OPT_FLAG, AT(text), 0, 0, NULL, NULL, NULL,
     "prints a compact heat map of each head"},
};

static const char notes[] =
    "Open DIR/index.html first. The model that ships plays a jig when there is no prompt. Figures "
    "are\ndrawn by gnuplot; its scripts and data stay beside them, so that they can be redrawn "
    "another way.\n\n"
    "  pipestep bias --out pictures\n"
    "  pipestep bias --text --layer 3 --head 0,1\n"
    "  mpirun -np 4 pipestep bias model.h5 --prompt-file story.txt --layer 0,11 --out pictures\n";

/* ---- options ---- */

static ps_err check(void *arg, ps_job *job)
{
    state *s = arg;
    const options *o = &s->options;
    const int n_prompts = ps_prompt_count(&o->prompt);
    PS_TRY(ps_prompt_check(&o->prompt));
    if (!o->out && !o->text)
        return PS_FAIL(PS_ERR_USAGE, "give --out DIR for files and figures, --text, or both");
    if (!o->out && ps_opt_is_set(&job->parsed, "figures"))
        return PS_FAIL(PS_ERR_USAGE, "--figures goes with --out DIR");
    if (ps_opt_is_set(&job->parsed, "temperature") && !ps_opt_is_set(&job->parsed, "seed"))
        return PS_FAIL(PS_ERR_USAGE, "--temperature goes with --seed");
    s->plays_tune = job->parsed.n_positionals == 0 && n_prompts == 0;
    if (n_prompts == 0 && !s->plays_tune && o->n == 0)
        return PS_FAIL(PS_ERR_USAGE,
                       "give a text: --prompt, --prompt-file or --tokens, or new tokens: -n N");
    if (o->layers) PS_TRY(ps_ranges_parse("layer", o->layers, PS_SPEC_LAYERS_MAX, &s->layers));
    PS_TRY(ps_ranges_parse("head", o->heads, PS_SPEC_WIDTH_MAX, &s->heads));
    return ps_ranges_parse("step", o->steps, INT64_MAX - 1, &s->steps);
}

/* The first and the last layer of each kind: of the same keys and the same number of biases. */
static void choose_layers(const ps_spec *spec, ps_ranges *out)
{
    for (int l = 0; l < spec->n_layers; l++) {
        const ps_layer_spec *layer = &spec->layers[l];
        bool first = true, last = true;
        for (int other = 0; other < spec->n_layers; other++) {
            const ps_layer_spec *o = &spec->layers[other];
            if (o->window != layer->window || o->chunk != layer->chunk ||
                o->n_biases != layer->n_biases)
                continue;
            first = first && other >= l;
            last = last && other <= l;
        }
        if ((first || last) && out->n < LAYERS_BY_ITSELF) ps_ranges_add(out, l);
    }
}

static ps_err check_ranges(const state *s, const ps_spec *spec)
{
    if (ps_ranges_highest(&s->layers) >= spec->n_layers)
        return PS_FAIL(PS_ERR_USAGE, "--layer %s: the model has layers 0 to %d", s->options.layers,
                       spec->n_layers - 1);
    if (ps_ranges_highest(&s->heads) >= spec->n_heads)
        return PS_FAIL(PS_ERR_USAGE, "--head %s: the model has query heads 0 to %d",
                       s->options.heads, spec->n_heads - 1);
    return PS_OK;
}

/* ---- the run ---- */

static ps_err read_prompt(state *s)
{
    static const ps_prompt tune = {.text = tune_prompt};
    const ps_prompt *prompt = s->plays_tune ? &tune : &s->options.prompt;
    if (prompt->tokens_file) return ps_prompt_read_tokens(prompt, &s->request.prompt);
    ps_text text = {0};
    ps_err err = ps_prompt_read_text(prompt, &text);
    if (!err)
        err = ps_job_encode(s->job, ps_prompt_where(prompt), ps_text_str(&text), text.len,
                            &s->request.prompt);
    if (!err) err = ps_prompt_check_tokens(&s->request.prompt);
    ps_text_release(&text);
    return err;
}

static void fill_request(state *s)
{
    const options *o = &s->options;
    const bool tune = s->plays_tune && !ps_opt_is_set(&s->job->parsed, "n");
    // One more than is looked at: the last token that is drawn does not run.
    s->request.max_tokens = (tune ? TUNE_TOKENS : o->n) + 1;
    s->request.ignore_eos = tune; // the next tune follows
    s->request.n_samples = 1;
    s->request.n_logprobs = -1;
    s->request.sampling = ps_sample_params_default();
    const bool drawn = tune || ps_opt_is_set(&s->job->parsed, "seed");
    s->request.sampling.temperature = drawn ? o->temperature : 0.0;
    s->request.sampling.seed = ps_opt_is_set(&s->job->parsed, "seed") ? o->seed : TUNE_SEED;
}

/* The memory that is asked for. */
static ps_err check_size(const state *s, int64_t length)
{
    ps_record record;
    const ps_spec *spec = &s->job->ckpt.spec;
    ps_record_open(&s->layers, &s->heads, &s->steps, spec, &record);
    const double bytes = ps_record_bytes(&record, spec, length);
    ps_record_release(&record);
    if (bytes == 0.0)
        return PS_FAIL(PS_ERR_USAGE, "--step %s: the text has positions 0 to %lld",
                       s->options.steps, (long long)length - 1);
    if (bytes <= RECORD_BYTES_MAX) return PS_OK;
    return PS_FAIL(PS_ERR_LIMIT,
                   "%.1f GB of numbers are asked for, at most %.0f are kept: choose fewer with "
                   "--layer, --head or --step",
                   bytes / 1e9, RECORD_BYTES_MAX / 1e9);
}

static ps_err prepare(void *arg, ps_job *job, ps_needs *needs)
{
    state *s = arg;
    s->job = job;
    if (s->options.out && s->options.figures != FIGURES_NONE) PS_TRY(ps_figures_check());
    if (!s->options.layers) choose_layers(&job->ckpt.spec, &s->layers);
    PS_TRY(check_ranges(s, &job->ckpt.spec));
    PS_TRY(read_prompt(s));
    fill_request(s);
    needs->n_sequences = 1;
    needs->longest = (int64_t)s->request.prompt.n + s->request.max_tokens;
    PS_TRY(check_size(s, needs->longest - 1));
    return s->options.out ? ps_figures_make_directory(s->options.out) : PS_OK;
}

static ps_err begin(void *arg, ps_job *job)
{
    state *s = arg;
    s->job = job;
    if (!s->options.layers && s->layers.n == 0) choose_layers(&job->ckpt.spec, &s->layers);
    ps_record_open(&s->layers, &s->heads, &s->steps, &job->ckpt.spec, &s->scene.record);
    ps_record_watch(&s->scene.record, job->pipeline);
    return PS_OK;
}

/* Tokens of the run: those of the prompt, and what was drawn. */
static ps_err on_done(void *arg, uint64_t number, const ps_request *request,
                      const ps_completion *completions, int n)
{
    (void)number;
    (void)n;
    state *s = arg;
    const ps_tokens *drawn = &completions[0].tokens;
    s->scene.n_prompt = request->prompt.n;
    for (size_t i = 0; i < request->prompt.n; i++) {
        ps_tokens_append(&s->scene.tokens, request->prompt.ids[i]);
    }
    for (size_t i = 0; i < drawn->n && (int64_t)i + 1 < request->max_tokens; i++) {
        ps_tokens_append(&s->scene.tokens, drawn->ids[i]);
    }
    return PS_OK;
}

static ps_err work(void *arg, ps_job *job)
{
    state *s = arg;
    PS_TRY(ps_generate_check(&s->request, &job->ckpt.spec, &job->limits));
    const ps_generate_params params = {.pipeline = job->pipeline,
                                       .spec = &job->ckpt.spec,
                                       .tokenizer = job->tokenizer,
                                       .limits = job->limits,
                                       .in_flight = job->plan.in_flight,
                                       .callbacks = {NULL, on_done, s}};
    ps_generate *g = ps_generate_new(&params);
    ps_err err = ps_generate_add(g, 0, &s->request);
    while (!err && ps_generate_busy(g)) {
        err = ps_generate_step(g);
    }
    ps_generate_count(g, &job->counts);
    ps_generate_free(g);
    return err;
}

static ps_err describe(state *s)
{
    const ps_record *record = &s->scene.record;
    if (record->layers[0].n_steps == 0)
        return PS_FAIL(PS_ERR_USAGE, "--step %s: the text ended before, after %zu tokens",
                       s->options.steps, s->scene.tokens.n);
    if (s->options.out) s->out = ps_mem_copy_text(s->options.out);
    return ps_scene_describe(&s->scene, s->job);
}

static ps_err end(void *arg, ps_job *job)
{
    state *s = arg;
    PS_TRY(ps_record_gather(&s->scene.record, job->comm, &job->plan));
    return ps_comm_agree(job->comm, job->rank == 0 ? describe(s) : PS_OK);
}

/* ---- what comes of it, when the ranks have left ---- */

static ps_err write_text(const state *s)
{
    setlocale(LC_CTYPE, "");
    const bool utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    struct winsize size;
    const bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    ps_text text = {0};
    ps_terminal_draw(&s->scene, utf8, known ? size.ws_col : COLUMNS, &text);
    const ps_err err = ps_output_write(&(ps_output){0}, ps_text_str(&text), text.len);
    ps_text_release(&text);
    return err;
}

static ps_err write_files(const state *s)
{
    const options *o = &s->options;
    ps_text path = {0};
    ps_text_appendf(&path, "%s/bias.h5", s->out);
    ps_err err = ps_tables_write_h5(&s->scene, ps_text_str(&path));
    ps_text_clear(&path);
    ps_text_appendf(&path, "%s/bias.csv", s->out);
    if (!err) err = ps_tables_write_csv(&s->scene, ps_text_str(&path));
    ps_text_release(&path);
    PS_TRY(err);
    const bool svg = o->figures == FIGURES_BOTH || o->figures == FIGURES_SVG;
    const bool png = o->figures == FIGURES_BOTH || o->figures == FIGURES_PNG;
    ps_figures figures;
    err = ps_figures_draw(&s->scene, s->out, svg, png, &figures);
    if (!err) err = ps_page_write(&s->scene, &figures, svg ? "svg" : png ? "png" : NULL, s->out);
    ps_figures_release(&figures);
    return err;
}

static int write_all(const state *s)
{
    ps_err err = s->out ? write_files(s) : PS_OK;
    if (!err && s->out) ps_log(PS_LOG_INFO, "open %s/index.html for the pictures", s->out);
    if (!err && s->options.text) err = write_text(s);
    if (err && err != PS_ERR_CLOSED) ps_log(PS_LOG_ERROR, "%s", ps_err_message());
    return ps_err_exit_status(err);
}

int ps_cmd_bias(int argc, char **argv)
{
    state s = {0};
    ps_job job = {0};
    ps_opt_group groups[] = {{"Pictures", rows, sizeof rows / sizeof rows[0], &s.options},
                             ps_run_group(&job.run),
                             ps_base_group(&job.run)};
    static const char *const names[] = {"MODEL"};
    const ps_job_command command = {.name = "bias",
                                    .groups = groups,
                                    .n_groups = 3,
                                    .notes = notes,
                                    .positionals = {names, 0, 1},
                                    .check = check,
                                    .prepare = prepare,
                                    .begin = begin,
                                    .work = work,
                                    .end = end,
                                    .state = &s};
    int status = ps_job_main(&command, &job, argc, argv);
    if (status == 0 && job.rank == 0 && s.scene.texts) status = write_all(&s);
    ps_mem_free(s.out);
    ps_request_release(&s.request);
    ps_scene_release(&s.scene);
    return status;
}
