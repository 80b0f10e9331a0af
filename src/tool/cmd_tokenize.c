/* pipestep tokenize and detokenize: standard input to standard output. */
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "tool/commands.h"
#include "tool/import/tokenizers.h"
#include "tool/input.h"
#include "tool/job.h"

typedef struct state {
    bool special, jsonl, skip_special;
} state;

static const ps_opt tokenize_rows[] = {
    {"special", 0, PS_OPT_FLAG, offsetof(state, special), 0, 0, "true", NULL, NULL,
     "adds what a prompt gets around it (bos and the like)"},
    {"jsonl", 0, PS_OPT_FLAG, offsetof(state, jsonl), 0, 0, NULL, NULL, NULL,
     "one JSON string a line in, one array of ids a line out"},
};

static const ps_opt detokenize_rows[] = {
    {"skip-special", 0, PS_OPT_FLAG, offsetof(state, skip_special), 0, 0, NULL, NULL, NULL,
     "leaves control tokens out of the text"},
    {"jsonl", 0, PS_OPT_FLAG, offsetof(state, jsonl), 0, 0, NULL, NULL, NULL,
     "one array of ids a line in, one JSON string a line out"},
};

static ps_err open_model(ps_job *job, const char *path)
{
    PS_TRY(ps_ckpt_open(path, &job->ckpt));
    const ps_text *packed = &job->ckpt.tokenizer;
    if (packed->len == 0) return PS_FAIL(PS_ERR_USAGE, "%s: this model has no tokenizer", path);
    return ps_tokenizer_open(packed->data, packed->len, path, &job->tokenizer);
}

/* The tokenizer of a model file, or of a file or directory that is not converted yet. */
static ps_err open_tokenizer(ps_job *job)
{
    char *path;
    PS_TRY(ps_job_model_path(job, &path));
    ps_err err;
    if (ps_tokenizers_knows(path)) {
        job->ckpt.spec.bos_id = -1;
        err = ps_tokenizers_open(path, &job->tokenizer);
        if (!err && !job->tokenizer) err = PS_FAIL(PS_ERR_USAGE, "%s: holds no tokenizer", path);
    } else {
        err = open_model(job, path);
    }
    ps_mem_free(path);
    return err;
}

static ps_err encode(const state *s, const ps_job *job, const char *text, size_t n, ps_tokens *out)
{
    static const char where[] = "standard input";
    if (s->special) return ps_job_encode(job, where, text, n, out);
    PS_TRY(ps_job_check_text(where, text, n));
    return ps_tokenizer_encode(job->tokenizer, text, n, false, out);
}

static void append_ids(const ps_tokens *tokens, const char *separator, ps_text *out)
{
    for (size_t i = 0; i < tokens->n; i++) {
        ps_text_appendf(out, "%s%d", i ? separator : "", tokens->ids[i]);
    }
}

static ps_err tokenize_line(const state *s, const ps_job *job, const char *line, size_t n,
                            int number, ps_text *out)
{
    char where[64];
    json_t *value;
    ps_tokens tokens = {0};
    snprintf(where, sizeof where, "standard input:%d", number);
    json_error_t error;
    value = json_loadb(line, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (!value)
        return PS_FAIL(PS_ERR_FORMAT, "%s: not valid JSON: column %d: %s", where, error.column,
                       error.text);
    if (!json_is_string(value)) {
        json_decref(value);
        return PS_FAIL(PS_ERR_FORMAT, "%s: not a JSON string", where);
    }
    const ps_err err = encode(s, job, json_string_value(value), json_string_length(value), &tokens);
    if (!err) {
        ps_text_append_str(out, "[");
        append_ids(&tokens, ", ", out);
        ps_text_append_str(out, "]\n");
    }
    ps_tokens_release(&tokens);
    json_decref(value);
    return err;
}

static ps_err read_array(const char *line, size_t n, int number, ps_tokens *out)
{
    json_error_t error;
    json_t *value = json_loadb(line, n, 0, &error);
    bool good = json_is_array(value);
    for (size_t i = 0; good && i < json_array_size(value); i++) {
        const json_t *id = json_array_get(value, i);
        const json_int_t number_of = json_is_integer(id) ? json_integer_value(id) : -1;
        good = number_of >= 0 && number_of <= INT32_MAX;
        if (good) ps_tokens_append(out, (int32_t)number_of);
    }
    json_decref(value);
    if (good) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "standard input:%d: not a JSON array of token ids", number);
}

/* An id that neither tokenizer nor model knows is a mistake, and would vanish from the text. */
static ps_err check_ids(const ps_job *job, const ps_tokens *tokens, int line)
{
    const int known = ps_tokenizer_size(job->tokenizer);
    const int n = known > job->ckpt.spec.vocab_size ? known : job->ckpt.spec.vocab_size;
    for (size_t i = 0; i < tokens->n; i++) {
        if (tokens->ids[i] < n) continue;
        return PS_FAIL(PS_ERR_FORMAT, "standard input:%d: token id %d, the vocabulary has 0..%d",
                       line, tokens->ids[i], n - 1);
    }
    return PS_OK;
}

static ps_err detokenize_line(const state *s, const ps_job *job, const char *line, size_t n,
                              int number, ps_text *out)
{
    ps_tokens tokens = {0};
    ps_text text = {0};
    ps_err err = read_array(line, n, number, &tokens);
    if (!err) err = check_ids(job, &tokens, number);
    if (!err)
        err = ps_tokenizer_decode(job->tokenizer, tokens.ids, tokens.n, s->skip_special, &text);
    if (!err) {
        ps_json_append_text(out, ps_text_str(&text), text.len);
        ps_text_append_str(out, "\n");
    }
    ps_text_release(&text);
    ps_tokens_release(&tokens);
    return err;
}

typedef ps_err line_function(const state *s, const ps_job *job, const char *line, size_t n,
                             int number, ps_text *out);

static ps_err each_line(const state *s, const ps_job *job, const ps_text *input,
                        line_function *function)
{
    ps_text out = {0};
    const char *line;
    size_t at = 0, n;
    ps_err err = PS_OK;
    for (int number = 1; !err && ps_input_next_line(input, &at, &line, &n); number++) {
        err = function(s, job, line, n, number, &out);
        if (!err && (out.len > 65536 || at >= input->len)) {
            err = ps_output_write(&job->output, out.data, out.len);
            ps_text_clear(&out);
        }
    }
    ps_text_release(&out);
    return err;
}

static ps_err tokenize_all(const state *s, const ps_job *job, const ps_text *input)
{
    ps_tokens tokens = {0};
    ps_text out = {0};
    ps_err err = encode(s, job, ps_text_str(input), input->len, &tokens);
    if (!err) {
        append_ids(&tokens, " ", &out);
        ps_text_append_str(&out, "\n");
        err = ps_output_write(&job->output, out.data, out.len);
    }
    ps_text_release(&out);
    ps_tokens_release(&tokens);
    return err;
}

static ps_err detokenize_all(const state *s, const ps_job *job, const ps_text *input)
{
    ps_tokens tokens = {0};
    ps_text out = {0};
    const char *line;
    size_t at = 0, n;
    ps_err err = PS_OK;
    for (int number = 1; !err && ps_input_next_line(input, &at, &line, &n); number++) {
        err = ps_input_parse_ids(line, n, "standard input", number, &tokens);
        if (!err) err = check_ids(job, &tokens, number);
    }
    if (!err)
        err = ps_tokenizer_decode(job->tokenizer, tokens.ids, tokens.n, s->skip_special, &out);
    if (!err) err = ps_output_write(&job->output, ps_text_str(&out), out.len);
    ps_text_release(&out);
    ps_tokens_release(&tokens);
    return err;
}

typedef ps_err all_function(const state *s, const ps_job *job, const ps_text *input);

static ps_err run(const state *s, ps_job *job, line_function *line, all_function *all)
{
    PS_TRY(open_tokenizer(job));
    ps_text input = {0};
    ps_err err = ps_file_read("-", PS_INPUT_BYTES_MAX, &input);
    if (!err) err = s->jsonl ? each_line(s, job, &input, line) : all(s, job, &input);
    ps_text_release(&input);
    return err;
}

static ps_err tokenize(void *arg, ps_job *job)
{
    return run(arg, job, tokenize_line, tokenize_all);
}

static ps_err detokenize(void *arg, ps_job *job)
{
    return run(arg, job, detokenize_line, detokenize_all);
}

static int run_command(const char *name, const ps_opt *rows, ps_err (*work)(void *, ps_job *),
                       int argc, char **argv)
{
    state s = {0};
    ps_job job = {0};
    ps_opt_group groups[] = {{"Text", rows, 2, &s}, ps_base_group(&job.run)};
    static const char *const names[] = {"MODEL"};
    const ps_job_command command = {.name = name,
                                    .groups = groups,
                                    .n_groups = 2,
                                    .positionals = {names, 0, 1},
                                    .work = work,
                                    .state = &s};
    return ps_job_main_alone(&command, &job, argc, argv);
}

int ps_cmd_tokenize(int argc, char **argv)
{
    return run_command("tokenize", tokenize_rows, tokenize, argc, argv);
}

int ps_cmd_detokenize(int argc, char **argv)
{
    return run_command("detokenize", detokenize_rows, detokenize, argc, argv);
}
