#include "tool/synthetic.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/progress.h"
#include "math/panel.h"
#include "math/quant.h"
#include "math/rng.h"
#include "model/ckpt.h"
#include "tool/synthetic_blocks.h"
#include "tool/synthetic_tokenizer.h"

typedef enum kind {
    LLAMA,
    TUNES,  // relative positions, tied
    ACESTEP // Qwen3 with the tokenizer of ACE-Step's language model, tied
} kind;

typedef struct shape {
    kind kind;
    int layers, d, heads, kv, head_dim, ff, vocab, window, context;
    bool tied;
    ps_dtype dtype;
    uint64_t seed;
} shape;

static const struct {
    const char *name;
    shape shape;
} presets[] = {
    {"llama-0.3b", {LLAMA, 16, 1024, 16, 4, 64, 4096, 32000, 0, 4096, true, PS_F16, 1}},
    {"llama-1.1b", {LLAMA, 22, 2048, 32, 4, 64, 5632, 32000, 0, 2048, false, PS_F16, 1}},
    {"tunes", {TUNES, 8, 192, 6, 2, 32, 512, 768, 64, 0, true, PS_BF16, 1}},
    {"acestep-0.6b",
     {ACESTEP, 28, 1024, 16, 8, 128, 3072, PS_SYNTHETIC_VOCABULARY, 0, 40960, true, PS_BF16, 1}},
    {"acestep-1.7b",
     {ACESTEP, 28, 2048, 16, 8, 128, 6144, PS_SYNTHETIC_VOCABULARY, 0, 40960, true, PS_BF16, 1}},
    {"acestep-4b",
     {ACESTEP, 36, 2560, 32, 8, 128, 9728, PS_SYNTHETIC_VOCABULARY, 0, 40960, true, PS_BF16, 1}},
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

static ps_err refuse_type(const char *name)
{
    char names[256] = "";
    for (int t = 0; t < PS_DTYPE_COUNT; t++) {
        const size_t at = strlen(names);
        snprintf(names + at, sizeof names - at, " %s", ps_dtype_name((ps_dtype)t));
    }
    return PS_FAIL(PS_ERR_USAGE, "--synthetic: type %s is not one of%s", name, names);
}

static ps_err set_key(shape *s, const char *name, const char *value)
{
    char *end;
    const long number = strtol(value, &end, 10);
    if (strcmp(name, "type") == 0) {
        return ps_dtype_from_name(value, &s->dtype) ? PS_OK : refuse_type(value);
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
    ps_err err = PS_FAIL(PS_ERR_USAGE,
                         "--synthetic %s: begin with llama-0.3b, llama-1.1b, tunes, acestep-0.6b, "
                         "acestep-1.7b or acestep-4b",
                         text);
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
    if (!err && out->kind == ACESTEP && out->vocab != PS_SYNTHETIC_VOCABULARY)
        return PS_FAIL(PS_ERR_USAGE, "--synthetic %s: its tokenizer has %d tokens", text,
                       PS_SYNTHETIC_VOCABULARY);
    return err;
}

static void fill_acestep(ps_spec *spec)
{
    spec->norm_eps = 1e-6;
    spec->ropes[0].base = 1e6;
    spec->qk_norm = PS_QK_NORM_HEAD;
    spec->n_eos = 1;
    spec->eos_ids[0] = PS_SYNTHETIC_END;
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
        if (s->kind != TUNES) continue;
        spec->layers[l].n_biases = 1;
        spec->layers[l].biases[0] =
            (ps_bias_spec){.kind = PS_BIAS_REL_POS, .dim = s->d, .theta = 10000.0};
    }
    if (s->kind == ACESTEP) fill_acestep(spec);
}

/* ---- random panels ---- */

// What the draws of a tensor are for.
enum { PURPOSE_VALUES = 1, PURPOSE_CHOICES, PURPOSE_BLOCKS };

static ps_rng_block throw(const shape *s, uint32_t stream, uint64_t number, uint32_t purpose)
{
    const ps_rng_block counter = {{(uint32_t)number, (uint32_t)(number >> 32), stream, purpose}};
    return ps_rng_philox(s->seed, counter);
}

/* n uniform values of variance 1/k; draws from number `first` on. */
static void draw(const shape *s, uint32_t stream, uint64_t first, size_t n, int k, float *out)
{
    const float width = sqrtf(12.0f / (float)k);
    for (size_t i = 0; i < n; i += 4) {
        const ps_rng_block block = throw(s, stream, first + i / 4, PURPOSE_VALUES);
        for (size_t j = 0; j < 4 && i + j < n; j++) {
            out[i + j] = ((float)(block.word[j] >> 8) * 0x1p-24f - 0.5f) * width;
        }
    }
}

/* Pieces of panels: so many k of 16 rows, which follow each other in a panel. Drawing, rounding and
 * packing each value of 4 G takes minutes; drawing which piece stands where takes seconds, and no
 * two rows come out alike. */
typedef struct pool {
    int k, n; // of a piece; pieces
    size_t piece_bytes;
    char *pieces; // [n, piece_bytes]
} pool;

enum { POOL_VALUES = 1 << 18, PIECE_K = 32 };

/* n_rows rows of k values each, rounded and packed; draws from number `first` on. */
static void draw_numbers(const shape *s, uint32_t stream, uint64_t first, int n_rows, int piece,
                         int k, char *out)
{
    const size_t values = (size_t)piece * PS_PANEL_LANES, bytes = ps_panel_bytes(s->dtype, piece);
    float *random = ps_mem_new(values, sizeof *random);
    char *rows = ps_mem_new(bytes, 1);
    draw(s, stream, first, values, k, random);
    ps_dtype_narrow(s->dtype, random, values, rows);
    ps_panel_pack(s->dtype, rows, n_rows, bytes / PS_PANEL_LANES, piece, out);
    ps_mem_free(rows);
    ps_mem_free(random);
}

/* The same of blocks that are drawn as such; `first` counts values. */
static void draw_blocks(const shape *s, uint32_t stream, uint64_t first, int n_rows, int piece,
                        int k, char *out)
{
    const int values = ps_dtype_block_values(s->dtype), blocks = piece / values;
    const size_t packed = ps_dtype_block_bytes(s->dtype) * PS_PANEL_LANES;
    memset(out, 0, packed * (size_t)blocks);
    for (int i = 0; i < blocks * n_rows; i++) {
        const uint64_t at = (first / (uint64_t)values + (uint64_t)i) * PS_SYNTHETIC_BLOCK_DRAWS;
        const ps_rng_block counter = {{(uint32_t)at, (uint32_t)(at >> 32), stream, PURPOSE_BLOCKS}};
        ps_quant_block block;
        ps_synthetic_block(s->dtype, s->seed, counter, 1.0f / sqrtf((float)k), &block);
        ps_quant_put(s->dtype, &block, i % n_rows, (uint8_t *)out + (size_t)(i / n_rows) * packed);
    }
}

/* n_rows rows of `piece` values each of a matrix with k of them. */
static void draw_piece(const shape *s, uint32_t stream, uint64_t first, int n_rows, int piece,
                       int k, char *out)
{
    if (ps_dtype_can_narrow(s->dtype)) {
        draw_numbers(s, stream, first, n_rows, piece, k, out);
    } else {
        draw_blocks(s, stream, first, n_rows, piece, k, out);
    }
}

static pool draw_pool(const shape *s, uint32_t stream, int k)
{
    const int block = ps_dtype_block_values(s->dtype);
    pool p = {.k = block > 1 ? block : PIECE_K};
    const size_t values = (size_t)p.k * PS_PANEL_LANES;
    p.n = (int)(POOL_VALUES / values);
    p.piece_bytes = ps_panel_bytes(s->dtype, p.k);
    p.pieces = ps_mem_new((size_t)p.n, p.piece_bytes);
    for (int i = 0; i < p.n; i++) {
        draw_piece(s, stream, (uint64_t)i * values, PS_PANEL_LANES, p.k, k,
                   p.pieces + (size_t)i * p.piece_bytes);
    }
    return p;
}

/* A panel of pieces; where they do not fill it, of a part of the last one. */
static void fill_panel(const shape *s, const pool *p, uint32_t stream, int number, size_t bytes,
                       char *panel)
{
    const size_t n = (bytes + p->piece_bytes - 1) / p->piece_bytes;
    ps_rng_block block = {{0}};
    for (size_t i = 0; i < n; i++) {
        if (i % 4 == 0) block = throw(s, stream, ((uint64_t)number << 32) + i / 4, PURPOSE_CHOICES);
        const size_t at = i * p->piece_bytes, left = bytes - at;
        memcpy(panel + at, p->pieces + block.word[i % 4] % (uint32_t)p->n * p->piece_bytes,
               left < p->piece_bytes ? left : p->piece_bytes);
    }
}

static ps_err write_panels(const shape *s, ps_ckpt_writer *w, const ps_tensor_need *need,
                           uint32_t stream)
{
    const size_t bytes = ps_panel_bytes(s->dtype, need->k);
    char *panel = ps_mem_new(bytes, 1);
    pool p = draw_pool(s, stream, need->k);
    ps_err err = PS_OK;
    for (int i = 0; i < need->n / PS_PANEL_LANES && !err; i++) {
        fill_panel(s, &p, stream, i, bytes, panel);
        err = ps_ckpt_append(w, panel, bytes);
    }
    if (!err && need->n % PS_PANEL_LANES > 0) {
        draw_piece(s, stream, POOL_VALUES, need->n % PS_PANEL_LANES, need->k, need->k, panel);
        err = ps_ckpt_append(w, panel, bytes);
    }
    ps_mem_free(p.pieces);
    ps_mem_free(panel);
    return err;
}

static ps_err write_vector(ps_ckpt_writer *w, const ps_tensor_need *need)
{
    float *values = ps_mem_new((size_t)need->n, sizeof *values);
    const bool norm = need->role == PS_ROLE_FINAL_NORM || need->role == PS_ROLE_ATTENTION_NORM ||
                      need->role == PS_ROLE_MLP_NORM || need->role == PS_ROLE_Q_NORM ||
                      need->role == PS_ROLE_K_NORM;
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

static ps_err write_tokenizer(const shape *s, ps_ckpt_writer *w)
{
    if (s->kind != ACESTEP) return PS_OK;
    ps_text packed = {0};
    ps_err err = ps_synthetic_tokenizer_pack(&packed);
    if (!err) err = ps_ckpt_put_tokenizer(w, packed.data, packed.len);
    ps_text_release(&packed);
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
    if (!err) err = write_tokenizer(&s, w);
    if (!err) err = write_tensors(&s, &spec, w, progress);
    if (err) {
        ps_ckpt_abandon(w);
    } else {
        err = ps_ckpt_commit(w);
    }
    ps_spec_release(&spec);
    return err;
}
