#include "tool/synthetic.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/progress.h"
#include "math/panel.h"
#include "math/rng.h"
#include "model/ckpt.h"

typedef struct shape {
    int layers, d, heads, kv, head_dim, ff, vocab, window, context;
    bool rel_pos, tied;
    ps_dtype dtype;
    uint64_t seed;
} shape;

static const struct {
    const char *name;
    shape shape;
} presets[] = {
    {"llama-0.3b", {16, 1024, 16, 4, 64, 4096, 32000, 0, 4096, false, true, PS_F16, 1}},
    {"llama-1.1b", {22, 2048, 32, 4, 64, 5632, 32000, 0, 2048, false, false, PS_F16, 1}},
    {"tunes", {8, 192, 6, 2, 32, 512, 768, 64, 0, true, true, PS_BF16, 1}},
};

#define AT(field) offsetof(shape, field)
static const struct {
    const char *name;
    size_t offset;
    int max;
} keys[] = {
    {"layers", AT(layers), PS_SPEC_LAYERS_MAX},
    {"d", AT(d), PS_SPEC_WIDTH_MAX},
    {"heads", AT(heads), PS_SPEC_WIDTH_MAX},
    {"kv", AT(kv), PS_SPEC_WIDTH_MAX},
    {"head_dim", AT(head_dim), PS_SPEC_HEAD_DIM_MAX},
    {"ff", AT(ff), PS_SPEC_WIDTH_MAX},
    {"vocab", AT(vocab), PS_SPEC_VOCAB_MAX},
    {"window", AT(window), INT32_MAX},
    {"context", AT(context), INT32_MAX},
};

static ps_err set_key(shape *s, const char *name, const char *value)
{
    char *end;
    const long number = strtol(value, &end, 10);
    if (strcmp(name, "type") == 0) {
        if (ps_dtype_from_name(value, &s->dtype) && ps_dtype_can_narrow(s->dtype)) return PS_OK;
        return PS_FAIL(PS_ERR_USAGE,
                       "--synthetic: type %s is not one of f32 f16 bf16 q8_0 q4_0 q4_k", value);
    }
    const bool whole = end != value && *end == '\0' && number >= 0;
    if (strcmp(name, "seed") == 0 && whole) {
        s->seed = (uint64_t)number;
        return PS_OK;
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strcmp(keys[i].name, name) != 0) continue;
        if (!whole || number > keys[i].max) break;
        *(int *)(void *)((char *)s + keys[i].offset) = (int)number;
        return PS_OK;
    }
    return PS_FAIL(PS_ERR_USAGE, "--synthetic: \"%s=%s\" is not understood", name, value);
}

static ps_err parse_shape(const char *text, shape *out)
{
    char *copy = ps_mem_copy_text(text), *save = NULL;
    const char *preset = strtok_r(copy, ",", &save);
    ps_err err =
        PS_FAIL(PS_ERR_USAGE, "--synthetic %s: begin with llama-0.3b, llama-1.1b or tunes", text);
    for (size_t i = 0; preset && i < sizeof presets / sizeof presets[0]; i++) {
        if (strcmp(presets[i].name, preset) != 0) continue;
        *out = presets[i].shape;
        err = PS_OK;
    }
    for (char *part; !err && (part = strtok_r(NULL, ",", &save)) != NULL;) {
        char *equals = strchr(part, '=');
        if (!equals) {
            err = PS_FAIL(PS_ERR_USAGE, "--synthetic: \"%s\" is not key=value", part);
            break;
        }
        *equals = '\0';
        err = set_key(out, part, equals + 1);
    }
    ps_mem_free(copy);
    return err;
}

static void fill_spec(const shape *s, ps_spec *spec)
{
    *spec = ps_spec_plain();
    snprintf(spec->family, sizeof spec->family, "synthetic");
    spec->d_model = s->d;
    spec->n_heads = s->heads;
    spec->n_kv_heads = s->kv;
    spec->head_dim = s->head_dim;
    spec->d_ff = s->ff;
    spec->vocab_size = s->vocab;
    spec->norm_eps = 1e-5;
    spec->attention_scale = 1.0 / sqrt((double)s->head_dim);
    spec->tied_head = s->tied;
    spec->context = s->context;
    spec->n_ropes = 1;
    spec->ropes[0] =
        (ps_rope){.kind = PS_ROPE_DEFAULT, .dims = s->head_dim, .base = 10000.0, .magnitude = 1.0};
    ps_spec_take_layers(spec, s->layers);
    for (int l = 0; l < s->layers; l++) {
        spec->layers[l].window = s->window;
        if (!s->rel_pos) continue;
        spec->layers[l].n_biases = 1;
        spec->layers[l].biases[0] =
            (ps_bias_spec){.kind = PS_BIAS_REL_POS, .dim = s->d, .theta = 10000.0};
    }
}

/* n uniform values of variance 1/k; draws of tensor `stream` from number `first` on. */
static void draw(uint64_t seed, uint32_t stream, uint64_t first, size_t n, int k, float *out)
{
    const float width = sqrtf(12.0f / (float)k);
    for (size_t i = 0; i < n; i += 4) {
        const uint64_t number = first + i / 4;
        const ps_rng_block counter = {{(uint32_t)number, (uint32_t)(number >> 32), stream, 1}};
        const ps_rng_block block = ps_rng_philox(seed, counter);
        for (size_t j = 0; j < 4 && i + j < n; j++) {
            out[i + j] = ((float)(block.word[j] >> 8) * 0x1p-24f - 0.5f) * width;
        }
    }
}

static ps_err write_panels(const shape *s, ps_ckpt_writer *w, const ps_tensor_need *need,
                           uint32_t stream)
{
    const size_t values = (size_t)need->k * PS_PANEL_LANES;
    const size_t bytes = ps_panel_bytes(s->dtype, need->k), row_bytes = bytes / PS_PANEL_LANES;
    float *random = ps_mem_new(values, sizeof *random);
    char *panel = ps_mem_new(bytes, 1), *rows = ps_mem_new(bytes, 1);
    const int n_panels = ps_panel_count(need->n);
    ps_err err = PS_OK;
    for (int p = 0; p < n_panels && !err; p++) {
        draw(s->seed, stream, (uint64_t)p * ((values + 3) / 4), values, need->k, random);
        ps_dtype_narrow(s->dtype, random, values, rows);
        const int left = need->n - p * PS_PANEL_LANES;
        ps_panel_pack(s->dtype, rows, left < PS_PANEL_LANES ? left : PS_PANEL_LANES, row_bytes,
                      need->k, panel);
        err = ps_ckpt_append(w, panel, bytes);
    }
    ps_mem_free(panel);
    ps_mem_free(rows);
    ps_mem_free(random);
    return err;
}

static ps_err write_vector(ps_ckpt_writer *w, const ps_tensor_need *need)
{
    float *values = ps_mem_new((size_t)need->n, sizeof *values);
    const bool norm = need->role == PS_ROLE_FINAL_NORM || need->role == PS_ROLE_ATTENTION_NORM ||
                      need->role == PS_ROLE_MLP_NORM;
    for (int i = 0; i < need->n; i++) {
        values[i] = norm ? 1.0f : 0.0f;
    }
    const ps_err err = ps_ckpt_append(w, values, (size_t)need->n * sizeof *values);
    ps_mem_free(values);
    return err;
}

static ps_err write_tensors(const shape *s, const ps_spec *spec, ps_ckpt_writer *w, bool progress)
{
    int cursor = 0;
    uint64_t total = 0, done = 0;
    ps_tensor_need need;
    while (ps_tensor_next(spec, &cursor, &need)) {
        total += (uint64_t)need.n * (uint64_t)need.k;
        if (need.panel && need.k % ps_dtype_block_values(s->dtype) != 0)
            return PS_FAIL(PS_ERR_USAGE, "--synthetic: rows of %d values, type %s has blocks of %d",
                           need.k, ps_dtype_name(s->dtype), ps_dtype_block_values(s->dtype));
    }
    ps_progress bar;
    ps_progress_begin(&bar, "synthetic model", total, "values", !progress);
    ps_err err = PS_OK;
    cursor = 0;
    for (uint32_t stream = 0; !err && ps_tensor_next(spec, &cursor, &need); stream++) {
        err = ps_ckpt_begin(w, &need, need.panel ? s->dtype : PS_F32);
        if (!err) err = need.panel ? write_panels(s, w, &need, stream) : write_vector(w, &need);
        if (!err) err = ps_ckpt_end(w);
        done += (uint64_t)need.n * (uint64_t)need.k;
        ps_progress_update(&bar, done);
    }
    ps_progress_end(&bar);
    return err;
}

ps_err ps_synthetic_write(const char *spec_text, const char *output, bool progress)
{
    shape s = {0};
    ps_spec spec;
    ps_ckpt_writer *w = NULL;
    PS_TRY(parse_shape(spec_text, &s));
    fill_spec(&s, &spec);
    ps_err err = ps_spec_check(&spec, "--synthetic");
    if (!err) err = ps_ckpt_create(output, &spec, &w);
    if (!err) err = write_tensors(&s, &spec, w, progress);
    if (err) {
        ps_ckpt_abandon(w);
    } else {
        err = ps_ckpt_commit(w);
    }
    ps_spec_release(&spec);
    return err;
}
