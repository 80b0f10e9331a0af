/* Each architecture both ways: a Hugging Face directory of the reference data becomes a model file;
 * that becomes the GGUF file which llama.cpp's converter would have made of the directory; and this
 * must give the same spec and the same weights, value by value. What GGUF cannot say is taken out
 * of the spec first. */
#include <check.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "support/dice.h"
#include "support/gguf_model.h"
#include "support/golden_tokenizer.h"
#include "support/scratch.h"
#include "support/tiny_model.h"
#include "tool/import/convert.h"

/* Changes to the spec that a GGUF file cannot express, and keys of the architecture. */
typedef void adapt_spec(ps_spec *s);
typedef void put_special_keys(gguf_file *f, const ps_spec *s);

typedef struct family_case {
    const char *directory, *arch;
    int flags, n_layers; // n_layers 0: all
    adapt_spec *adapt;
    put_special_keys *keys;
} family_case;

/* ---- what GGUF cannot say ---- */

static void without_windows(ps_spec *s)
{
    for (int l = 0; l < s->n_layers; l++) {
        s->layers[l].window = 0;
    }
}

/* Files hold the divisors, as f32, that Llama 3's rule leads to. */
static void with_divisors(ps_spec *s)
{
    ps_rope *rope = &s->ropes[0];
    double plain[PS_ROPE_FACTORS_MAX], scaled[PS_ROPE_FACTORS_MAX];
    const ps_rope unscaled = {
        .kind = PS_ROPE_DEFAULT, .dims = rope->dims, .base = rope->base, .magnitude = 1.0};
    ps_rope_frequencies(&unscaled, 0, plain);
    ps_rope_frequencies(rope, 0, scaled);
    ps_rope divided = unscaled;
    divided.kind = PS_ROPE_DIVIDED;
    for (int t = 0; t < rope->dims / 2; t++) {
        divided.factors[t] = (double)(float)(plain[t] / scaled[t]);
    }
    *rope = divided;
}

static void with_scale_of_heads(ps_spec *s)
{
    s->attention_scale = 1.0 / sqrt((double)s->head_dim);
}

/* ggml's own magnitude of YaRN. */
static void with_natural_yarn(ps_spec *s)
{
    s->ropes[0].magnitude = 0.1 * log(s->ropes[0].factor) + 1.0;
}

static void with_f32_factors(ps_spec *s)
{
    for (int t = 0; t < s->ropes[0].dims / 2; t++) {
        s->ropes[0].factors[t] = (double)(float)s->ropes[0].factors[t];
        s->ropes[0].long_factors[t] = (double)(float)s->ropes[0].long_factors[t];
    }
}

/* ---- keys of architectures ---- */

static int64_t window_of(const ps_spec *s)
{
    int64_t window = 0;
    for (int l = 0; l < s->n_layers; l++) {
        if (s->layers[l].window > 0) window = s->layers[l].window;
    }
    return window;
}

static void gemma2_keys(gguf_file *f, const ps_spec *s)
{
    gguf_model_int(f, "gemma2", "attention.sliding_window", window_of(s));
    gguf_model_real(f, "gemma2", "attn_logit_softcapping", s->softcap);
    gguf_model_real(f, "gemma2", "final_logit_softcapping", s->final_softcap);
}

static void gemma3_keys(gguf_file *f, const ps_spec *s)
{
    gguf_model_int(f, "gemma3", "attention.sliding_window", window_of(s));
    gguf_model_real(f, "gemma3", "rope.freq_base_swa", s->ropes[1].base);
}

static void gemma3_classic_keys(gguf_file *f, const ps_spec *s)
{
    gemma3_keys(f, s);
    gguf_model_int(f, "gemma3", "attention.sliding_window_pattern", 3);
}

static void gpt_oss_keys(gguf_file *f, const ps_spec *s)
{
    gguf_model_int(f, "gpt-oss", "attention.sliding_window", window_of(s));
}

static void phi3_keys(gguf_file *f, const ps_spec *s)
{
    if (window_of(s) > 0) gguf_model_int(f, "phi3", "attention.sliding_window", window_of(s));
}

/* Which layers have the window stands there layer by layer. */
static void olmo3_keys(gguf_file *f, const ps_spec *s)
{
    int64_t flags[16];
    for (int l = 0; l < s->n_layers; l++) {
        flags[l] = s->layers[l].window > 0;
    }
    gguf_model_int(f, "olmo2", "attention.sliding_window", window_of(s));
    gguf_file_ints(f, "olmo2.attention.sliding_window_pattern", PS_GGUF_BOOL, (size_t)s->n_layers,
                   flags);
}

static void command_r_keys(gguf_file *f, const ps_spec *s)
{
    gguf_model_real(f, "command-r", "logit_scale", s->logit_scale);
}

static void cohere2_keys(gguf_file *f, const ps_spec *s)
{
    gguf_model_real(f, "cohere2", "logit_scale", s->logit_scale);
    gguf_model_int(f, "cohere2", "attention.sliding_window", window_of(s));
}

static void granite_keys(gguf_file *f, const ps_spec *s)
{
    gguf_model_real(f, "granite", "logit_scale", 1.0 / s->logit_scale);
    gguf_model_real(f, "granite", "residual_scale", s->residual_scale);
    gguf_model_real(f, "granite", "embedding_scale", s->embed_scale);
    gguf_model_real(f, "granite", "attention.scale", s->attention_scale);
}

static void mpt_keys(gguf_file *f, const ps_spec *s)
{
    gguf_model_real(f, "mpt", "attention.max_alibi_bias", s->layers[0].biases[0].max_exponent);
    gguf_model_real(f, "mpt", "attention.clamp_kqv", s->qkv_clip);
}

static void gptneox_keys(gguf_file *f, const ps_spec *s)
{
    gguf_file_int(f, "gptneox.use_parallel_residual", PS_GGUF_BOOL, s->parallel);
}

/* Says yes whatever the model, as files of StableLM 3B do. */
static void stablelm_keys(gguf_file *f, const ps_spec *s)
{
    (void)s;
    gguf_file_int(f, "stablelm.use_parallel_residual", PS_GGUF_BOOL, 1);
}

enum {
    NEIGHBOURS = GGUF_MODEL_NEIGHBOURS,
    FUSED = GGUF_MODEL_FUSED_QKV,
    FUSED_ALL = GGUF_MODEL_FUSED_QKV | GGUF_MODEL_FUSED_UP
};

static const family_case cases[] = {
    {"llama", "llama", NEIGHBOURS, 0, with_divisors, NULL},
    {"llama-bias", "llama", NEIGHBOURS, 0, NULL, NULL},
    {"llama-bias", "llama", NEIGHBOURS | FUSED, 0, NULL, NULL},
    {"mixtral", "llama", NEIGHBOURS, 0, NULL, NULL},
    {"mixtral", "llama", NEIGHBOURS | GGUF_MODEL_SINGLE, 0, NULL, NULL},
    {"qwen2", "qwen2", 0, 0, without_windows, NULL},
    {"qwen2-yarn", "qwen2", 0, 0, NULL, NULL},
    {"qwen3", "qwen3", 0, 0, NULL, NULL},
    {"qwen3_moe", "qwen3moe", 0, 1, NULL, NULL}, // its second layer has no experts
    {"gpt_oss", "gpt-oss", GGUF_MODEL_POST_NORM, 0, NULL, gpt_oss_keys},
    {"gemma", "gemma", 0, 0, NULL, NULL},
    {"gemma2", "gemma2", 0, 0, with_scale_of_heads, gemma2_keys},
    {"gemma3_text", "gemma3", 0, 0, with_scale_of_heads, gemma3_keys},
    {"gemma3_text-classic", "gemma3", 0, 0, with_scale_of_heads, gemma3_classic_keys},
    {"phi3", "phi3", FUSED_ALL, 0, NULL, phi3_keys},
    {"phi3-longrope", "phi3", FUSED_ALL, 0, with_f32_factors, phi3_keys},
    {"phi3-longrope-short", "phi3", FUSED_ALL, 0, with_f32_factors, phi3_keys},
    {"smollm3", "smollm3", NEIGHBOURS, 0, NULL, NULL},
    {"olmo2", "olmo2", 0, 0, NULL, NULL},
    {"olmo3", "olmo2", 0, 0, with_natural_yarn, olmo3_keys},
    {"cohere", "command-r", NEIGHBOURS, 0, NULL, command_r_keys},
    {"cohere2", "cohere2", NEIGHBOURS, 0, NULL, cohere2_keys},
    {"granite", "granite", NEIGHBOURS, 0, NULL, granite_keys},
    {"mpt", "mpt", FUSED, 0, NULL, mpt_keys},
    {"bloom", "bloom", FUSED, 0, NULL, NULL},
    {"falcon-7b", "falcon", FUSED, 0, NULL, NULL},
    {"falcon-new", "falcon", FUSED | GGUF_MODEL_NORM_2, 0, NULL, NULL},
    {"gpt2", "gpt2", FUSED, 0, NULL, NULL},
    {"gpt_neox", "gptneox", FUSED, 0, NULL, gptneox_keys},
    {"gpt_neox-seq", "gptneox", FUSED, 0, NULL, gptneox_keys},
    {"phi", "phi2", 0, 0, NULL, NULL},
    {"starcoder2", "starcoder2", 0, 0, without_windows, NULL},
    {"stablelm", "stablelm", 0, 0, NULL, stablelm_keys},
    {"stablelm-qknorm", "stablelm", 0, 0, NULL, stablelm_keys},
};
enum { N_CASES = sizeof cases / sizeof cases[0] };

/* ---- there and back ---- */

static char root[PATH_MAX]; // of the reference data, wherever a test runs

/* What the two ways may differ in: the name, and the tokens, which stand in other places. */
static void take_names(ps_spec *s, const ps_spec *from)
{
    memcpy(s->family, from->family, sizeof s->family);
    memcpy(s->eos_ids, from->eos_ids, sizeof s->eos_ids);
    s->n_eos = from->n_eos;
    s->bos_id = from->bos_id;
    s->add_bos = from->add_bos;
}

static void check_spec(const ps_spec *found, const ps_spec *wanted)
{
    ps_text a = {0}, b = {0};
    ps_spec_to_json(found, &a);
    ps_spec_to_json(wanted, &b);
    ck_assert_str_eq(ps_text_str(&a), ps_text_str(&b));
    ps_text_release(&b);
    ps_text_release(&a);
}

static void check_weights(const ps_ckpt *found, const ps_ckpt *wanted, int n_layers)
{
    int cursor = 0;
    ps_tensor_need need;
    while (ps_tensor_next(&wanted->spec, &cursor, &need) && need.layer < n_layers) {
        size_t n_found = 0, n_wanted = 0;
        float *a = gguf_model_values(found, need.role, need.layer, &n_found);
        float *b = gguf_model_values(wanted, need.role, need.layer, &n_wanted);
        ck_assert_uint_eq(n_found, n_wanted);
        ck_assert_msg(memcmp(a, b, n_found * sizeof *a) == 0, "role %d of layer %d", need.role,
                      need.layer);
        ps_mem_free(a);
        ps_mem_free(b);
    }
}

/* The model file of a directory of the reference data, with the spec that GGUF can say. */
static ps_ckpt convert_directory(const family_case *c)
{
    ps_text path = {0};
    ps_ckpt ckpt;
    ps_text_appendf(&path, "%s/families/%s", root, c->directory);
    assert_ok(ps_convert_directory(ps_text_str(&path), "a.h5", NULL));
    assert_ok(ps_ckpt_open("a.h5", &ckpt));
    ps_text_release(&path);
    if (c->adapt) c->adapt(&ckpt.spec);
    return ckpt;
}

static void write_gguf(const family_case *c, const ps_ckpt *ckpt, int n_layers)
{
    gguf_file f = {0};
    gguf_model_add(&f, ckpt, c->arch, c->flags, n_layers);
    if (c->keys) c->keys(&f, &ckpt->spec);
    gguf_file_write(&f, "b.gguf");
    gguf_file_release(&f);
}

START_TEST(an_architecture_is_the_family_that_it_was_made_from)
{
    const family_case *c = &cases[_i];
    ps_ckpt a = convert_directory(c), b;
    const int n_layers = c->n_layers ? c->n_layers : a.spec.n_layers;
    write_gguf(c, &a, n_layers);
    assert_ok(ps_convert_gguf("b.gguf", "b.h5", NULL));
    assert_ok(ps_ckpt_open("b.h5", &b));
    ck_assert_str_eq(b.spec.family, c->arch);
    take_names(&a.spec, &b.spec);
    const int all = a.spec.n_layers;
    a.spec.n_layers = n_layers;
    check_spec(&b.spec, &a.spec);
    a.spec.n_layers = all;
    check_weights(&b, &a, n_layers);
    ps_ckpt_close(&b);
    ps_ckpt_close(&a);
}

/* ---- refusals ---- */

/* A small model as a GGUF file that is not written yet. */
static gguf_file small_file(const char *arch)
{
    gguf_file f = {0};
    ps_ckpt ckpt;
    tiny_model m = tiny_model_default(TINY_LLAMA);
    m.layers = 2;
    assert_ok(tiny_model_convert(&m, "a.h5"));
    assert_ok(ps_ckpt_open("a.h5", &ckpt));
    gguf_model_add(&f, &ckpt, arch, NEIGHBOURS, 2);
    ps_ckpt_close(&ckpt);
    return f;
}

static void accept(gguf_file *f)
{
    gguf_file_write(f, "b.gguf");
    gguf_file_release(f);
    assert_ok(ps_convert_gguf("b.gguf", "b.h5", NULL));
}

static void refuse(gguf_file *f, ps_err code, const char *message)
{
    gguf_file_write(f, "b.gguf");
    gguf_file_release(f);
    const ps_err err = ps_convert_gguf("b.gguf", "refused.h5", NULL);
    ck_assert_str_eq(ps_err_name(err), ps_err_name(code));
    assert_message(message);
    ck_assert(!scratch_exists("refused.h5"));
}

START_TEST(a_key_that_nobody_understands_is_named)
{
    gguf_file f = small_file("llama");
    gguf_file_int(&f, "llama.attention.sliding_window", PS_GGUF_U32, 64);
    refuse(&f, PS_ERR_UNSUPPORTED,
           "b.gguf: key llama.attention.sliding_window is not understood, and it may change the "
           "computation");
}

START_TEST(keys_that_leave_the_computation_alone_are_accepted)
{
    gguf_file f = small_file("llama");
    gguf_file_text(&f, "general.name", "some \"model\"");
    gguf_file_text(&f, "general.type", "model");
    gguf_file_int(&f, "general.quantization_version", PS_GGUF_U32, 2);
    gguf_file_text(&f, "somebody.quantize.remark", "x");
    gguf_file_text(&f, "llama.tensor_data_layout", "Meta AI original pth");
    gguf_file_int(&f, "llama.rope.scaling.finetuned", PS_GGUF_BOOL, 1);
    gguf_file_int(&f, "llama.expert_count", PS_GGUF_U32, 0);
    gguf_file_int(&f, "llama.expert_shared_count", PS_GGUF_U32, 0);
    gguf_file_int(&f, "llama.attention.causal", PS_GGUF_BOOL, 1);
    accept(&f);
}

START_TEST(parts_that_are_not_computed_are_refused_unless_there_are_none)
{
    gguf_file f = small_file("llama");
    gguf_file_int(&f, "llama.expert_shared_count", PS_GGUF_U32, 1);
    refuse(&f, PS_ERR_UNSUPPORTED,
           "b.gguf: key llama.expert_shared_count is not understood, and it may change the "
           "computation");
}

START_TEST(an_unknown_architecture_is_refused_with_those_that_are_known)
{
    gguf_file f = small_file("mamba");
    gguf_file_write(&f, "b.gguf");
    gguf_file_release(&f);
    ck_assert_int_eq(ps_convert_gguf("b.gguf", "b.h5", NULL), PS_ERR_UNSUPPORTED);
    assert_mentions("b.gguf: architecture mamba is not one of llama qwen2 qwen3 ");
    f = small_file("llama");
    gguf_file_drop(&f, "general.architecture");
    refuse(&f, PS_ERR_FORMAT, "b.gguf: key general.architecture is missing");
}

START_TEST(what_is_no_model_is_refused)
{
    gguf_file f = small_file("llama");
    gguf_file_text(&f, "general.type", "adapter");
    refuse(&f, PS_ERR_UNSUPPORTED, "b.gguf: general.type is adapter, wanted model");
    f = small_file("llama");
    gguf_file_int(&f, "general.quantization_version", PS_GGUF_U32, 1);
    refuse(&f, PS_ERR_UNSUPPORTED, "b.gguf: quantisation version 1, wanted 2");
    f = small_file("llama");
    gguf_file_int(&f, "llama.attention.causal", PS_GGUF_BOOL, 0);
    refuse(&f, PS_ERR_UNSUPPORTED, "b.gguf: attention to later positions is not computed here");
}

START_TEST(missing_keys_are_named)
{
    static const char *const needed[] = {"block_count", "embedding_length", "feed_forward_length",
                                         "attention.head_count",
                                         "attention.layer_norm_rms_epsilon"};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        char key[80], message[160];
        snprintf(key, sizeof key, "llama.%s", needed[i]);
        snprintf(message, sizeof message, "b.gguf: key %s is missing", key);
        gguf_file f = small_file("llama");
        gguf_file_drop(&f, key);
        refuse(&f, PS_ERR_FORMAT, message);
    }
}

START_TEST(a_number_for_each_layer_must_be_the_same)
{
    gguf_file f = small_file("llama");
    gguf_file_drop(&f, "llama.attention.head_count");
    gguf_file_ints(&f, "llama.attention.head_count", PS_GGUF_I32, 2, (int64_t[]){4, 4});
    accept(&f);
    f = small_file("llama");
    gguf_file_drop(&f, "llama.attention.head_count");
    gguf_file_ints(&f, "llama.attention.head_count", PS_GGUF_I32, 2, (int64_t[]){4, 2});
    refuse(&f, PS_ERR_UNSUPPORTED,
           "b.gguf: key llama.attention.head_count differs between layers (4 and 2), which is not "
           "computed here");
    f = small_file("llama");
    gguf_file_drop(&f, "llama.attention.head_count");
    gguf_file_ints(&f, "llama.attention.head_count", PS_GGUF_I32, 3, (int64_t[]){4, 4, 4});
    refuse(&f, PS_ERR_FORMAT, "b.gguf: key llama.attention.head_count has 3 values for 2 layers");
}

START_TEST(tensors_that_are_missing_left_over_or_of_another_shape_are_named)
{
    gguf_file f = small_file("llama");
    gguf_file_rename(&f, "blk.1.ffn_up.weight", "blk.1.ffn_xx.weight");
    refuse(&f, PS_ERR_FORMAT, "b.gguf: tensor blk.1.ffn_up.weight is missing");
    f = small_file("llama");
    gguf_file_tensor(&f, "blk.0.attn_gate.weight", 0, 1, (uint64_t[]){1}, "\0\0\0\0", 4);
    refuse(&f, PS_ERR_FORMAT,
           "b.gguf: tensor blk.0.attn_gate.weight belongs to no part of a llama model");
    f = small_file("llama");
    gguf_file_drop(&f, "llama.feed_forward_length");
    gguf_file_int(&f, "llama.feed_forward_length", PS_GGUF_U32, 7);
    gguf_file_write(&f, "b.gguf");
    gguf_file_release(&f);
    ck_assert_int_eq(ps_convert_gguf("b.gguf", "b.h5", NULL), PS_ERR_SHAPE);
    assert_mentions("b.gguf: tensor blk.0.ffn_gate.weight is [");
    f = small_file("llama");
    gguf_file_int(&f, "llama.vocab_size", PS_GGUF_U32, 3);
    gguf_file_write(&f, "b.gguf");
    gguf_file_release(&f);
    ck_assert_int_eq(ps_convert_gguf("b.gguf", "b.h5", NULL), PS_ERR_SHAPE);
    assert_mentions("b.gguf: key llama.vocab_size is 3, token_embd.weight has ");
}

START_TEST(types_that_a_model_file_does_not_hold_are_named)
{
    gguf_file f = small_file("llama");
    const size_t zeros = 1 << 20;
    char *bytes = ps_mem_new(zeros, 1);
    gguf_file_rename(&f, "token_embd.weight", "tooken_embd.weigh");
    gguf_file_tensor(&f, "token_embd.weight", 16, 2, (uint64_t[]){256, 8}, bytes, 8 * 66);
    gguf_file_drop(&f, "llama.embedding_length");
    gguf_file_int(&f, "llama.embedding_length", PS_GGUF_U32, 256);
    ps_mem_free(bytes);
    gguf_file_write(&f, "b.gguf");
    gguf_file_release(&f);
    ck_assert_int_eq(ps_convert_gguf("b.gguf", "b.h5", NULL), PS_ERR_UNSUPPORTED);
    assert_mentions("b.gguf: tensor token_embd.weight is IQ2_XXS");
}

START_TEST(rotations_that_are_not_computed_are_refused)
{
    gguf_file f = small_file("llama");
    gguf_file_text(&f, "llama.rope.scaling.type", "mrope");
    refuse(&f, PS_ERR_UNSUPPORTED,
           "b.gguf: key llama.rope.scaling.type is mrope, which is not known");
    f = small_file("llama");
    gguf_file_text(&f, "llama.rope.scaling.type", "yarn");
    gguf_file_real(&f, "llama.rope.scaling.factor", PS_GGUF_F32, 4.0);
    gguf_file_real(&f, "llama.rope.scaling.yarn_attn_factor", PS_GGUF_F32, 1.5);
    refuse(&f, PS_ERR_UNSUPPORTED,
           "b.gguf: YaRN with yarn_ext_factor 1, yarn_attn_factor 1.5 and yarn_log_multiplier 0, "
           "wanted 1, 1.13863 and 0");
    f = small_file("llama");
    gguf_file_text(&f, "llama.rope.scaling.type", "longrope");
    refuse(&f, PS_ERR_UNSUPPORTED,
           "b.gguf: rope factors of another kind than rope_freqs alone, or rope_factors_long and "
           "rope_factors_short, without scaling");
    f = small_file("llama");
    gguf_file_int(&f, "llama.rope.dimension_sections", PS_GGUF_U32, 1);
    refuse(&f, PS_ERR_UNSUPPORTED,
           "b.gguf: key llama.rope.dimension_sections is not understood, and it may change the "
           "computation");
}

START_TEST(rope_factors_must_be_as_many_positive_f32_values)
{
    const float bad[3] = {1.0f, 0.0f, -1.0f};
    gguf_file f = small_file("llama");
    gguf_file_tensor(&f, "rope_freqs.weight", 0, 1, (uint64_t[]){3}, bad, 12);
    gguf_file_write(&f, "b.gguf");
    gguf_file_release(&f);
    ck_assert_int_eq(ps_convert_gguf("b.gguf", "b.h5", NULL), PS_ERR_SHAPE);
    assert_mentions("b.gguf: tensor rope_freqs.weight has 3 values, wanted ");
    f = small_file("llama");
    gguf_file_drop(&f, "llama.rope.dimension_count");
    gguf_file_int(&f, "llama.rope.dimension_count", PS_GGUF_U32, 6);
    gguf_file_tensor(&f, "rope_freqs.weight", 0, 1, (uint64_t[]){3}, bad, 12);
    refuse(&f, PS_ERR_NUMERIC, "b.gguf: tensor rope_freqs.weight holds 0, wanted positive numbers");
}

START_TEST(experts_of_an_architecture_without_them_are_refused)
{
    gguf_file f = small_file("qwen2");
    gguf_file_int(&f, "qwen2.expert_count", PS_GGUF_U32, 4);
    refuse(&f, PS_ERR_UNSUPPORTED, "b.gguf: experts of architecture qwen2 are not computed here");
}

START_TEST(a_baichuan_of_unknown_size_is_refused)
{
    gguf_file f = small_file("baichuan");
    refuse(&f, PS_ERR_UNSUPPORTED,
           "b.gguf: baichuan with 2 layers; 32 rotate, 40 have linear biases, others are not "
           "known");
}

START_TEST(baichuan_2_is_converted_if_the_rows_of_its_head_have_length_1)
{
    enum { VOCABULARY = 125696, WIDTH = 8 };
    ps_ckpt a;
    gguf_file f = {0};
    tiny_model m = tiny_model_default(TINY_LLAMA);
    m.layers = 32;
    m.width = m.head_dim = WIDTH;
    m.heads = m.kv_heads = 1;
    m.vocabulary = VOCABULARY;
    m.tied_head = false;
    assert_ok(tiny_model_convert(&m, "a.h5"));
    assert_ok(ps_ckpt_open("a.h5", &a));
    gguf_model_add(&f, &a, "baichuan", NEIGHBOURS, 32);
    ps_ckpt_close(&a);
    gguf_file_write(&f, "b.gguf");
    ck_assert_int_eq(ps_convert_gguf("b.gguf", "b.h5", NULL), PS_ERR_UNSUPPORTED);
    assert_mentions("b.gguf: rows of output.weight are not of length 1 (off by ");
    char *rows = gguf_file_data(&f, "output.weight");
    for (int row = 0; row < VOCABULARY; row++) {
        float unit[WIDTH] = {0};
        unit[row % WIDTH] = row % 2 ? 1.0f : -1.0f;
        memcpy(rows + (size_t)row * sizeof unit, unit, sizeof unit);
    }
    accept(&f);
}

START_TEST(values_and_keys_of_different_sizes_are_refused)
{
    gguf_file f = small_file("llama");
    gguf_file_drop(&f, "llama.attention.value_length");
    gguf_file_int(&f, "llama.attention.value_length", PS_GGUF_U32, 4);
    gguf_file_write(&f, "b.gguf");
    gguf_file_release(&f);
    ck_assert_int_eq(ps_convert_gguf("b.gguf", "b.h5", NULL), PS_ERR_UNSUPPORTED);
    assert_mentions(" and values of 4 numbers a head are not computed here");
}

/* A vocabulary of five pieces, two of which merge. */
static void add_vocabulary(gguf_file *f, const char *model)
{
    static const char *const tokens[] = {"<unk>", "<s>", "</s>", "<eot>", "a", "b", "ab"};
    static const char *const merges[] = {"a b"};
    static const int64_t types[] = {2, 3, 3, 3, 1, 1, 1};
    static const float scores[] = {0, 0, 0, 0, -2, -3, -1};
    gguf_file_text(f, "tokenizer.ggml.model", model);
    gguf_file_texts(f, "tokenizer.ggml.tokens", 7, tokens);
    gguf_file_ints(f, "tokenizer.ggml.token_type", PS_GGUF_I32, 7, types);
    gguf_file_reals(f, "tokenizer.ggml.scores", 7, scores);
    gguf_file_texts(f, "tokenizer.ggml.merges", 1, merges);
}

START_TEST(tokens_come_from_the_keys_of_the_vocabulary)
{
    ps_ckpt b;
    gguf_file f = small_file("llama");
    add_vocabulary(&f, "llama");
    gguf_file_int(&f, "tokenizer.ggml.bos_token_id", PS_GGUF_U32, 1);
    gguf_file_int(&f, "tokenizer.ggml.eos_token_id", PS_GGUF_U32, 2);
    gguf_file_int(&f, "tokenizer.ggml.eot_token_id", PS_GGUF_U32, 3);
    gguf_file_int(&f, "tokenizer.ggml.eom_token_id", PS_GGUF_U32, UINT32_MAX);
    accept(&f);
    assert_ok(ps_ckpt_open("b.h5", &b));
    ck_assert_int_eq(b.spec.bos_id, 1);
    ck_assert(b.spec.add_bos); // the default of this kind of vocabulary
    ck_assert_int_eq(b.spec.n_eos, 2);
    ck_assert_int_eq(b.spec.eos_ids[0], 2);
    ck_assert_int_eq(b.spec.eos_ids[1], 3);
    ps_ckpt_close(&b);
    f = small_file("llama");
    add_vocabulary(&f, "gpt2");
    gguf_file_int(&f, "tokenizer.ggml.bos_token_id", PS_GGUF_U32, 1);
    accept(&f);
    assert_ok(ps_ckpt_open("b.h5", &b));
    ck_assert(!b.spec.add_bos);
    ps_ckpt_close(&b);
    f = small_file("llama");
    gguf_file_int(&f, "tokenizer.ggml.eos_token_id", PS_GGUF_U32, 1000000);
    gguf_file_write(&f, "b.gguf");
    gguf_file_release(&f);
    ck_assert_int_eq(ps_convert_gguf("b.gguf", "c.h5", NULL), PS_ERR_FORMAT);
    assert_mentions("b.gguf: key tokenizer.ggml.eos_token_id is 1000000, wanted -1..");
}

/* The reader lets much through that is no model; what reads the metadata must not trust it. */
START_TEST(changed_bytes_of_the_head_of_a_model_do_no_harm)
{
    dice d = {.seed = (uint64_t)_i};
    static const char *const archs[] = {"llama", "qwen3", "gemma3", "falcon", "mpt", "gpt-oss"};
    const char *arch = archs[_i % 6];
    gguf_file f = small_file(arch);
    char key[80];
    snprintf(key, sizeof key, "%s.attention.sliding_window", arch);
    gguf_file_int(&f, key, PS_GGUF_U32, 8);
    add_vocabulary(&f, "llama");
    gguf_file_int(&f, "tokenizer.ggml.bos_token_id", PS_GGUF_U32, 1);
    ps_text bytes = gguf_file_bytes(&f);
    const int head = (int)gguf_file_head_bytes(&f);
    for (int round = 0; round < 200 / SCRATCH_SHARE; round++) {
        const int at = 4 + dice_throw(&d, head - 4);
        const char kept = bytes.data[at];
        bytes.data[at] = (char)(dice_throw(&d, 2) ? dice_throw(&d, 256) : kept ^ 1);
        scratch_write("b.gguf", bytes.data, bytes.len);
        if (ps_convert_gguf("b.gguf", "b.h5", false) != PS_OK)
            ck_assert_ptr_nonnull(strstr(ps_err_message(), "b.gguf"));
        bytes.data[at] = kept;
    }
    ps_text_release(&bytes);
    gguf_file_release(&f);
}

int main(void)
{
    if (!realpath(golden_root(), root)) {
        perror(golden_root());
        return EXIT_FAILURE;
    }
    Suite *suite = suite_create("tool/gguf_families");
    TCase *tcase = scratch_case(suite, "families");
    tcase_add_loop_test(tcase, an_architecture_is_the_family_that_it_was_made_from, 0, N_CASES);
    TCase *refusals = scratch_case(suite, "refusals");
    tcase_add_test(refusals, a_key_that_nobody_understands_is_named);
    tcase_add_test(refusals, keys_that_leave_the_computation_alone_are_accepted);
    tcase_add_test(refusals, parts_that_are_not_computed_are_refused_unless_there_are_none);
    tcase_add_test(refusals, an_unknown_architecture_is_refused_with_those_that_are_known);
    tcase_add_test(refusals, what_is_no_model_is_refused);
    tcase_add_test(refusals, missing_keys_are_named);
    tcase_add_test(refusals, a_number_for_each_layer_must_be_the_same);
    tcase_add_test(refusals, tensors_that_are_missing_left_over_or_of_another_shape_are_named);
    tcase_add_test(refusals, types_that_a_model_file_does_not_hold_are_named);
    tcase_add_test(refusals, rotations_that_are_not_computed_are_refused);
    tcase_add_test(refusals, rope_factors_must_be_as_many_positive_f32_values);
    tcase_add_test(refusals, experts_of_an_architecture_without_them_are_refused);
    tcase_add_test(refusals, a_baichuan_of_unknown_size_is_refused);
    tcase_add_test(refusals, baichuan_2_is_converted_if_the_rows_of_its_head_have_length_1);
    tcase_add_test(refusals, values_and_keys_of_different_sizes_are_refused);
    tcase_add_test(refusals, tokens_come_from_the_keys_of_the_vocabulary);
    TCase *damage = scratch_case(suite, "damage");
    tcase_add_loop_test(damage, changed_bytes_of_the_head_of_a_model_do_no_harm, 0, 18);
    return scratch_run(suite);
}
