/* pipestep inspect: architecture, tensors, sizes and checksums of a model file. */
#include <string.h>

#include "base/json.h"
#include "tool/commands.h"
#include "tool/describe.h"
#include "tool/job.h"

typedef struct state {
    bool json, verify_now;
} state;

static const ps_opt rows[] = {
    {"json", 0, PS_OPT_FLAG, offsetof(state, json), 0, 0, NULL, NULL, NULL, "prints JSON"},
    {"verify", 0, PS_OPT_FLAG, offsetof(state, verify_now), 0, 0, NULL, NULL, NULL,
     "reads everything and compares the checksums"},
};

static uint64_t count_parameters(const ps_ckpt *c)
{
    uint64_t n = 0;
    for (int i = 0; i < c->n_tensors; i++) {
        const ps_tensor_need *need = &c->tensors[i].need;
        n += (uint64_t)need->count * (uint64_t)need->n * (uint64_t)need->k;
    }
    return n;
}

static uint64_t count_bytes(const ps_ckpt *c)
{
    uint64_t n = 0;
    for (int i = 0; i < c->n_tensors; i++) {
        n += c->tensors[i].bytes;
    }
    return n;
}

static void append_shape(const ps_tensor_need *need, ps_text *out)
{
    int shape[3];
    const int rank = ps_tensor_shape(need, shape);
    for (int i = 0; i < rank; i++) {
        ps_text_appendf(out, i ? ", %d" : "[%d", shape[i]);
    }
    ps_text_append_char(out, ']');
}

static void describe_json(const ps_ckpt *c, bool verified, ps_text *out)
{
    ps_text_append_str(out, "{\"path\": ");
    ps_json_append_text(out, c->path, strlen(c->path));
    ps_text_appendf(
        out,
        ", \"file_bytes\": %llu, \"identity\": \"%016llx\", \"parameters\": %llu, "
        "\"tensor_bytes\": %llu, \"tokenizer_bytes\": %zu, \"verified\": %s,\n\"spec\": ",
        (unsigned long long)c->file_bytes, (unsigned long long)c->identity,
        (unsigned long long)count_parameters(c), (unsigned long long)count_bytes(c),
        c->tokenizer.len, verified ? "true" : "false");
    ps_spec_to_json(&c->spec, out);
    ps_text_appendf(out, ", \"source\": %s, \"tensors\": [\n", ps_text_str(&c->source));
    for (int i = 0; i < c->n_tensors; i++) {
        const ps_ckpt_tensor *t = &c->tensors[i];
        char name[PS_TENSOR_NAME_BYTES];
        ps_tensor_name(t->need.role, t->need.layer, name);
        ps_text_appendf(
            out, "{\"name\": \"%s\", \"dtype\": \"%s\", \"layout\": \"%s\", \"shape\": ", name,
            ps_dtype_name(t->dtype), ps_ckpt_layout(&t->need, t->dtype));
        append_shape(&t->need, out);
        ps_text_appendf(out, ", \"bytes\": %llu, \"xxh3\": \"%016llx\"}%s\n",
                        (unsigned long long)t->bytes, (unsigned long long)t->hash,
                        i + 1 < c->n_tensors ? "," : "");
    }
    ps_text_append_str(out, "]}\n");
}

static void describe(const ps_ckpt *c, bool verified, ps_text *out)
{
    const ps_spec *s = &c->spec;
    ps_text_appendf(out, "%s: %s, %llu parameters, %.1f MiB, identity %016llx\n", c->path,
                    s->family, (unsigned long long)count_parameters(c),
                    (double)c->file_bytes / 1048576.0, (unsigned long long)c->identity);
    ps_describe_spec(s, out);
    ps_text_appendf(out, "tokenizer      %zu bytes\n\n", c->tokenizer.len);
    ps_text_append_str(out, "checksum (XXH3)   dtype         bytes  tensor\n");
    for (int i = 0; i < c->n_tensors; i++) {
        const ps_ckpt_tensor *t = &c->tensors[i];
        char name[PS_TENSOR_NAME_BYTES];
        ps_tensor_name(t->need.role, t->need.layer, name);
        ps_text_appendf(out, "%016llx  %-5s %13llu  %s ", (unsigned long long)t->hash,
                        ps_dtype_name(t->dtype), (unsigned long long)t->bytes, name);
        append_shape(&t->need, out);
        ps_text_append_str(out, "\n");
    }
    if (verified) ps_text_append_str(out, "all checksums agree\n");
}

/* Reads every tensor of the file, whatever the record of earlier checks says. */
static ps_err verify(ps_job *job)
{
    ps_engine_params params;
    ps_weights weights;
    const ps_part all = {.first_layer = 0, .end_layer = job->ckpt.spec.n_layers, .ends = true};
    PS_TRY(ps_job_engine_params(job, false, &params));
    PS_TRY(ps_engine_open(&params, &job->engine));
    PS_TRY(ps_weights_open(&job->ckpt, &all, 1, PS_WEIGHTS_MAP, &job->engine, &weights));
    const ps_err err = ps_weights_verify(&weights, PS_VERIFY_ALWAYS, &job->engine);
    ps_weights_close(&weights);
    return err;
}

static ps_err work(void *arg, ps_job *job)
{
    const state *s = arg;
    char *path;
    PS_TRY(ps_job_model_file(job, &path));
    ps_err err = ps_ckpt_open(path, &job->ckpt);
    ps_mem_free(path);
    if (!err && s->verify_now) err = verify(job);
    if (err) return err;
    ps_text text = {0};
    if (s->json) {
        describe_json(&job->ckpt, s->verify_now, &text);
    } else {
        describe(&job->ckpt, s->verify_now, &text);
    }
    err = ps_output_write(&job->output, text.data, text.len);
    ps_text_release(&text);
    return err;
}

int ps_cmd_inspect(int argc, char **argv)
{
    state s = {0};
    ps_job job = {0};
    ps_opt_group groups[] = {{"Output", rows, sizeof rows / sizeof rows[0], &s},
                             ps_cache_group(&job.run),
                             ps_base_group(&job.run)};
    static const char *const names[] = {"MODEL"};
    const ps_job_command command = {.name = "inspect",
                                    .groups = groups,
                                    .n_groups = 3,
                                    .positionals = {names, 0, 1},
                                    .work = work,
                                    .state = &s};
    return ps_job_main_alone(&command, &job, argc, argv);
}
