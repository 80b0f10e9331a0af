/* The architectures: what is special about each, and the table. Where a number stands here and not
 * in the files, it is the one that ggml computes with. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "tool/import/gguf_families.h"
#include "tool/import/gguf_reader.h"

/* ---- windows ---- */

/* Windows of attention.sliding_window keys. Which layers have one says sliding_window_pattern, as a
 * period or layer by layer; else, in files without it, the architecture's own period: the last
 * layer of each period sees everything. Period 1: none of them does. */
static ps_err read_windows(const ps_gguf_reader *r, int period, int window)
{
    ps_spec *s = r->spec;
    PS_TRY(ps_gguf_reader_int(r, "attention.sliding_window", 0, INT32_MAX, &window));
    const ps_gguf_value *pattern = ps_gguf_reader_find(r, "attention.sliding_window_pattern");
    const bool by_layer = pattern && pattern->is_array;
    if (by_layer && (pattern->n != (size_t)s->n_layers || pattern->kind == PS_GGUF_STRING ||
                     pattern->kind == PS_GGUF_F32 || pattern->kind == PS_GGUF_F64))
        return PS_FAIL(PS_ERR_FORMAT, "%s: key %s does not say yes or no for %d layers",
                       ps_gguf_path(r->gguf), pattern->key, s->n_layers);
    if (pattern && !by_layer)
        PS_TRY(ps_gguf_reader_int(r, "attention.sliding_window_pattern", 0, INT32_MAX, &period));
    for (int l = 0; l < s->n_layers; l++) {
        // ggml: period 0 is a window everywhere, 1 nowhere.
        const bool has_window = by_layer ? ps_gguf_int_at(pattern, (size_t)l) != 0
                                         : period == 0 || l % period < period - 1;
        s->layers[l].window = has_window ? window : 0;
    }
    return PS_OK;
}

/* A plain rotation of another base for the layers with a window, where it is another one. */
static ps_err rotate_windows(const ps_gguf_reader *r, double base)
{
    ps_spec *s = r->spec;
    PS_TRY(ps_gguf_reader_real(r, "rope.freq_base_swa", &base));
    const ps_rope *global = &s->ropes[0];
    if (global->kind == PS_ROPE_DEFAULT && global->base == base && global->magnitude == 1.0)
        return PS_OK;
    for (int l = 0; l < s->n_layers; l++) {
        if (s->layers[l].window == 0) continue;
        s->layers[l].rope = 1;
        s->n_ropes = 2;
    }
    s->ropes[1] =
        (ps_rope){.kind = PS_ROPE_DEFAULT, .dims = global->dims, .base = base, .magnitude = 1.0};
    return PS_OK;
}

/* ---- architectures ---- */

static ps_err read_qwen3(const ps_gguf_reader *r)
{
    r->spec->qk_norm = PS_QK_NORM_HEAD;
    return PS_OK;
}

static ps_err read_llama(const ps_gguf_reader *r)
{
    return ps_gguf_reader_real(r, "attention.scale", &r->spec->attention_scale);
}

/* Every fourth layer goes without rotation, which no key says. */
static ps_err read_smollm3(const ps_gguf_reader *r)
{
    enum { STEP = 4 };
    for (int l = 0; l < r->spec->n_layers; l++) {
        if ((l + 1) % STEP == 0) r->spec->layers[l].rope = -1;
    }
    return read_llama(r);
}

static ps_err read_granite(const ps_gguf_reader *r)
{
    ps_spec *s = r->spec;
    double logits = 1.0;
    bool rotates = true; // the family's use of this key
    PS_TRY(ps_gguf_reader_need_real(r, "logit_scale", &logits));
    s->logit_scale = 1.0 / logits;
    PS_TRY(ps_gguf_reader_real(r, "residual_scale", &s->residual_scale));
    PS_TRY(ps_gguf_reader_real(r, "embedding_scale", &s->embed_scale));
    PS_TRY(ps_gguf_reader_bool(r, "rope.scaling.finetuned", &rotates));
    for (int l = 0; l < s->n_layers && !rotates; l++) {
        s->layers[l].rope = -1;
    }
    return read_llama(r);
}

/* Largest models of Gemma 2 and 3 scale by the width over the heads, all others by the head. */
static void scale_gemma(ps_spec *s, int largest_layers)
{
    s->embed_scale = sqrt((double)s->d_model);
    const int width_of_head = s->d_model / s->n_heads;
    if (s->n_layers == largest_layers) s->attention_scale = 1.0 / sqrt((double)width_of_head);
}

static ps_err read_gemma(const ps_gguf_reader *r)
{
    scale_gemma(r->spec, 0);
    return PS_OK;
}

static ps_err read_gemma2(const ps_gguf_reader *r)
{
    ps_spec *s = r->spec;
    scale_gemma(s, 46);
    s->post_norm = true;
    s->softcap = 50.0;
    s->final_softcap = 30.0;
    PS_TRY(ps_gguf_reader_real(r, "attn_logit_softcapping", &s->softcap));
    PS_TRY(ps_gguf_reader_real(r, "final_logit_softcapping", &s->final_softcap));
    return read_windows(r, 2, 4096);
}

/* Layers with a window rotate by a base of their own, and are never stretched. */
static ps_err read_gemma3(const ps_gguf_reader *r)
{
    ps_spec *s = r->spec;
    scale_gemma(s, 62);
    s->post_norm = true;
    s->qk_norm = PS_QK_NORM_HEAD;
    PS_TRY(ps_gguf_reader_real(r, "final_logit_softcapping", &s->final_softcap));
    PS_TRY(read_windows(r, 6, 0));
    return rotate_windows(r, 10000.0);
}

/* The window is the model's own in every layer. */
static ps_err read_phi3(const ps_gguf_reader *r)
{
    return read_windows(r, 0, 0);
}

/* OLMo 2, and OLMo 3 when there is a window: then those layers are not stretched. */
static ps_err read_olmo2(const ps_gguf_reader *r)
{
    ps_spec *s = r->spec;
    s->pre_norm = false;
    s->post_norm = true;
    s->qk_norm = PS_QK_NORM_ALL;
    PS_TRY(read_windows(r, 4, 0));
    return rotate_windows(r, s->ropes[0].base);
}

static ps_err read_command_r(const ps_gguf_reader *r)
{
    ps_spec *s = r->spec;
    s->parallel = s->shared_norm = true;
    if (ps_gguf_reader_has(r, "blk.0.attn_q_norm.weight")) s->qk_norm = PS_QK_NORM_HEADS;
    return ps_gguf_reader_need_real(r, "logit_scale", &s->logit_scale);
}

/* Layers that see everything are not rotated. */
static ps_err read_cohere2(const ps_gguf_reader *r)
{
    ps_spec *s = r->spec;
    PS_TRY(read_command_r(r));
    PS_TRY(read_windows(r, 4, 0));
    for (int l = 0; l < s->n_layers; l++) {
        if (s->layers[l].window == 0) s->layers[l].rope = -1;
    }
    return PS_OK;
}

static void add_alibi(ps_spec *s, double max_exponent)
{
    for (int l = 0; l < s->n_layers; l++) {
        s->layers[l].n_biases = 1;
        s->layers[l].biases[0] =
            (ps_bias_spec){.kind = PS_BIAS_ALIBI, .max_exponent = max_exponent, .factor = 1.0};
    }
}

static ps_err read_positions(const ps_gguf_reader *r)
{
    const ps_gguf_tensor *t = ps_gguf_find_tensor(r->gguf, "position_embd.weight");
    if (!t)
        return PS_FAIL(PS_ERR_FORMAT, "%s: tensor position_embd.weight is missing",
                       ps_gguf_path(r->gguf));
    if (t->n_dims != 2 || t->shape[0] > INT32_MAX / 2)
        return PS_FAIL(PS_ERR_SHAPE,
                       "%s: tensor position_embd.weight has %d dimensions and %zu rows",
                       ps_gguf_file(r->gguf, t), t->n_dims, t->shape[0]);
    r->spec->n_positions = (int)t->shape[0];
    return PS_OK;
}

static ps_err read_mpt(const ps_gguf_reader *r)
{
    double max_exponent = 0.0;
    PS_TRY(ps_gguf_reader_real(r, "attention.max_alibi_bias", &max_exponent));
    if (max_exponent > 0.0) add_alibi(r->spec, max_exponent);
    PS_TRY(ps_gguf_reader_real(r, "attention.clamp_kqv", &r->spec->qkv_clip));
    if (ps_gguf_reader_has(r, "blk.0.attn_q_norm.weight")) r->spec->qk_norm = PS_QK_NORM_ALL;
    return ps_gguf_reader_has(r, "position_embd.weight") ? read_positions(r) : PS_OK;
}

static ps_err read_bloom(const ps_gguf_reader *r)
{
    add_alibi(r->spec, 8.0);
    return PS_OK;
}

/* Baichuan 2 (it has a vocabulary of its own) scales the rows of its head to length 1 whenever it
 * is used. Files hold them scaled or not, as who made them did, and ggml takes them as they are. */
static ps_err check_head_of_baichuan2(const ps_gguf_reader *r)
{
    enum { VOCABULARY = 125696, ROWS = 16 };
    const ps_gguf_tensor *t = ps_gguf_find_tensor(r->gguf, "output.weight");
    const size_t d = (size_t)r->spec->d_model;
    ps_dtype dtype;
    if (r->spec->vocab_size != VOCABULARY || !t || t->n_dims != 2 || t->shape[0] != VOCABULARY ||
        t->shape[1] != d || !ps_gguf_format(t, &dtype))
        return PS_OK; // another model; or what is wrong is said when the tensors are converted
    const size_t bytes = t->bytes / VOCABULARY * ROWS;
    char *rows = ps_mem_copy_bytes(t->data, bytes); // the source aligns nothing
    float *values = ps_mem_new(ROWS * d, sizeof *values);
    ps_dtype_widen(dtype, rows, ROWS * d, values);
    double worst = 0.0;
    for (size_t row = 0; row < ROWS; row++) {
        double squares = 0.0;
        for (size_t i = 0; i < d; i++) {
            squares += (double)values[row * d + i] * (double)values[row * d + i];
        }
        worst = fmax(worst, fabs(sqrt(squares) - 1.0));
    }
    ps_mem_free(values);
    ps_mem_free(rows);
    if (worst < 0.05) return PS_OK; // formats of few bits are off by about 0.01
    return PS_FAIL(PS_ERR_UNSUPPORTED,
                   "%s: rows of output.weight are not of length 1 (off by %.2g), as Baichuan 2 has "
                   "them: convert the model that this was made from",
                   ps_gguf_path(r->gguf), worst);
}

/* The two sizes that there are: one rotates, the other has linear biases. No key tells them. */
static ps_err read_baichuan(const ps_gguf_reader *r)
{
    ps_spec *s = r->spec;
    PS_TRY(check_head_of_baichuan2(r));
    if (s->n_layers == 32) return PS_OK;
    if (s->n_layers != 40)
        return PS_FAIL(PS_ERR_UNSUPPORTED,
                       "%s: baichuan with %d layers; 32 rotate, 40 have linear biases, others are "
                       "not known",
                       ps_gguf_path(r->gguf), s->n_layers);
    for (int l = 0; l < s->n_layers; l++) {
        s->layers[l].rope = -1;
    }
    s->n_ropes = 0;
    add_alibi(s, 8.0);
    return PS_OK;
}

static ps_err read_falcon(const ps_gguf_reader *r)
{
    r->spec->parallel = true;
    r->spec->shared_norm = !ps_gguf_reader_has(r, "blk.0.attn_norm_2.weight");
    return PS_OK;
}

static ps_err read_gptneox(const ps_gguf_reader *r)
{
    r->spec->parallel = true;
    return ps_gguf_reader_bool(r, "use_parallel_residual", &r->spec->parallel);
}

static ps_err read_phi2(const ps_gguf_reader *r)
{
    r->spec->parallel = r->spec->shared_norm = true;
    return PS_OK;
}

/* Parallel where there is no second norm. The key use_parallel_residual says yes in files of models
 * that are not. */
static ps_err read_stablelm(const ps_gguf_reader *r)
{
    ps_spec *s = r->spec;
    bool ignored = true;
    s->parallel = s->shared_norm = !ps_gguf_reader_has(r, "blk.0.ffn_norm.weight");
    if (ps_gguf_reader_has(r, "blk.0.attn_q_norm.weight")) s->qk_norm = PS_QK_NORM_HEADS;
    return ps_gguf_reader_bool(r, "use_parallel_residual", &ignored);
}

/* The frequencies are blended at unrounded places, which no key says. */
static ps_err read_gpt_oss(const ps_gguf_reader *r)
{
    ps_spec *s = r->spec;
    s->swiglu_alpha = 1.702;
    s->swiglu_limit = 7.0;
    s->ropes[0].truncate = false;
    if (s->n_experts == 0)
        return PS_FAIL(PS_ERR_FORMAT, "%s: key gpt-oss.expert_count is missing",
                       ps_gguf_path(r->gguf));
    return read_windows(r, 2, 0);
}

const ps_gguf_family ps_gguf_families[] = {
    {.arch = "llama",
     .gated = true,
     .rotation = PS_GGUF_ROTATES_NEIGHBOURS,
     .read = read_llama,
     .mixture = true},
    {.arch = "qwen2", .gated = true, .rotation = PS_GGUF_ROTATES_HALVES},
    {.arch = "qwen3", .gated = true, .rotation = PS_GGUF_ROTATES_HALVES, .read = read_qwen3},
    {.arch = "qwen3moe",
     .gated = true,
     .rotation = PS_GGUF_ROTATES_HALVES,
     .read = read_qwen3,
     .mixture = true},
    {.arch = "gemma",
     .activation = PS_ACTIVATION_GELU_TANH,
     .gated = true,
     .rotation = PS_GGUF_ROTATES_HALVES,
     .read = read_gemma},
    {.arch = "gemma2",
     .activation = PS_ACTIVATION_GELU_TANH,
     .gated = true,
     .rotation = PS_GGUF_ROTATES_HALVES,
     .read = read_gemma2},
    {.arch = "gemma3",
     .activation = PS_ACTIVATION_GELU_TANH,
     .gated = true,
     .rotation = PS_GGUF_ROTATES_HALVES,
     .read = read_gemma3},
    {.arch = "phi3", .gated = true, .rotation = PS_GGUF_ROTATES_HALVES, .read = read_phi3},
    {.arch = "olmo2", .gated = true, .rotation = PS_GGUF_ROTATES_HALVES, .read = read_olmo2},
    {.arch = "smollm3",
     .gated = true,
     .rotation = PS_GGUF_ROTATES_NEIGHBOURS,
     .read = read_smollm3},
    {.arch = "granite",
     .gated = true,
     .rotation = PS_GGUF_ROTATES_NEIGHBOURS,
     .read = read_granite},
    {.arch = "baichuan",
     .gated = true,
     .rotation = PS_GGUF_ROTATES_NEIGHBOURS,
     .read = read_baichuan},
    {.arch = "gpt-oss",
     .activation = PS_ACTIVATION_SWIGLU_OSS,
     .gated = true,
     .rotation = PS_GGUF_ROTATES_HALVES,
     .read = read_gpt_oss,
     .mixture = true},
    {.arch = "command-r",
     .norm = PS_NORM_LAYER,
     .gated = true,
     .rotation = PS_GGUF_ROTATES_NEIGHBOURS,
     .read = read_command_r},
    {.arch = "cohere2",
     .norm = PS_NORM_LAYER,
     .gated = true,
     .rotation = PS_GGUF_ROTATES_NEIGHBOURS,
     .read = read_cohere2},
    {.arch = "stablelm",
     .norm = PS_NORM_LAYER,
     .gated = true,
     .rotation = PS_GGUF_ROTATES_HALVES,
     .read = read_stablelm},
    {.arch = "mpt", .norm = PS_NORM_LAYER, .activation = PS_ACTIVATION_GELU, .read = read_mpt},
    {.arch = "falcon",
     .norm = PS_NORM_LAYER,
     .activation = PS_ACTIVATION_GELU,
     .rotation = PS_GGUF_ROTATES_HALVES,
     .read = read_falcon},
    {.arch = "gptneox",
     .norm = PS_NORM_LAYER,
     .activation = PS_ACTIVATION_GELU,
     .rotation = PS_GGUF_ROTATES_HALVES,
     .read = read_gptneox},
    {.arch = "phi2",
     .norm = PS_NORM_LAYER,
     .activation = PS_ACTIVATION_GELU_TANH,
     .rotation = PS_GGUF_ROTATES_HALVES,
     .read = read_phi2},
    {.arch = "starcoder2",
     .norm = PS_NORM_LAYER,
     .activation = PS_ACTIVATION_GELU_TANH,
     .rotation = PS_GGUF_ROTATES_HALVES},
    {.arch = "bloom",
     .norm = PS_NORM_LAYER,
     .activation = PS_ACTIVATION_GELU_TANH,
     .read = read_bloom},
    {.arch = "gpt2",
     .norm = PS_NORM_LAYER,
     .activation = PS_ACTIVATION_GELU_TANH,
     .read = read_positions},
    {.arch = "starcoder",
     .norm = PS_NORM_LAYER,
     .activation = PS_ACTIVATION_GELU_TANH,
     .read = read_positions},
    {0},
};
