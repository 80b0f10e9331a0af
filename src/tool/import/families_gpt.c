/* Families older than Llama, or with names of their own. */
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "tool/import/families_parts.h"

/* LayerNorm with biases, an ungated feed-forward part with biases. */
static void give_gpt_block(ps_spec *s)
{
    s->norm_bias = s->mlp_bias = true;
    s->gated = false;
}

static ps_err no_windows(ps_config *c, ps_spec *s)
{
    PS_TRY(ps_read_windows(c, s, 0, ps_slides_never, 0));
    ps_give_ropes(s);
    return PS_OK;
}

/* Positions are learned, so there is no rope. */
static void give_positions(ps_spec *s, int n)
{
    s->n_positions = n;
    s->n_ropes = 0;
    for (int l = 0; l < s->n_layers; l++) {
        s->layers[l].rope = -1;
    }
}

/* ---- GPT-2 ---- */

static const ps_size_keys gpt2_keys = {
    .width = {"n_embd", "hidden_size"},
    .ffn = {"n_inner"},
    .layers = {"n_layer", "num_hidden_layers"},
    .heads = {"n_head", "num_attention_heads"},
    .context = {"n_positions", "n_ctx"},
    .ffn_optional = true,
};

#define GPT2 "transformer.h.%d."

static const ps_tensor_from gpt2_from[PS_ROLE_COUNT] = {
    [PS_ROLE_EMBED] = {.name = "transformer.wte.weight"},
    [PS_ROLE_POSITIONS] = {.name = "transformer.wpe.weight"},
    [PS_ROLE_FINAL_NORM] = {.name = "transformer.ln_f.weight"},
    [PS_ROLE_FINAL_NORM_BIAS] = {.name = "transformer.ln_f.bias"},
    [PS_ROLE_HEAD] = {.name = "lm_head.weight"},
    [PS_ROLE_ATTENTION_NORM] = {.name = GPT2 "ln_1.weight"},
    [PS_ROLE_ATTENTION_NORM_BIAS] = {.name = GPT2 "ln_1.bias"},
    [PS_ROLE_Q] = {GPT2 "attn.c_attn.weight", PS_ROWS_QKV, true},
    [PS_ROLE_K] = {GPT2 "attn.c_attn.weight", PS_ROWS_QKV, true},
    [PS_ROLE_V] = {GPT2 "attn.c_attn.weight", PS_ROWS_QKV, true},
    [PS_ROLE_Q_BIAS] = {GPT2 "attn.c_attn.bias", PS_ROWS_QKV, false},
    [PS_ROLE_K_BIAS] = {GPT2 "attn.c_attn.bias", PS_ROWS_QKV, false},
    [PS_ROLE_V_BIAS] = {GPT2 "attn.c_attn.bias", PS_ROWS_QKV, false},
    [PS_ROLE_O] = {GPT2 "attn.c_proj.weight", PS_ROWS_PLAIN, true},
    [PS_ROLE_O_BIAS] = {.name = GPT2 "attn.c_proj.bias"},
    [PS_ROLE_MLP_NORM] = {.name = GPT2 "ln_2.weight"},
    [PS_ROLE_MLP_NORM_BIAS] = {.name = GPT2 "ln_2.bias"},
    [PS_ROLE_UP] = {GPT2 "mlp.c_fc.weight", PS_ROWS_PLAIN, true},
    [PS_ROLE_UP_BIAS] = {.name = GPT2 "mlp.c_fc.bias"},
    [PS_ROLE_DOWN] = {GPT2 "mlp.c_proj.weight", PS_ROWS_PLAIN, true},
    [PS_ROLE_DOWN_BIAS] = {.name = GPT2 "mlp.c_proj.bias"},
};

static ps_err read_gpt2(ps_config *c, ps_import *m)
{
    ps_spec *s = &m->spec;
    bool scaled = true;
    PS_TRY(ps_read_sizes(c, s, &gpt2_keys));
    PS_TRY(ps_read_norm(c, s, PS_NORM_LAYER, "layer_norm_epsilon", 1e-5));
    PS_TRY(ps_read_activation(c, s, "activation_function", "gelu_new"));
    PS_TRY(ps_config_bool(c, "scale_attn_weights", &scaled));
    PS_TRY(ps_want_flag(c, "scale_attn_by_inverse_layer_idx", false));
    PS_TRY(ps_want_flag(c, "add_cross_attention", false));
    if (!scaled) s->attention_scale = 1.0;
    if (s->context == 0) s->context = 1024;
    give_gpt_block(s);
    s->qkv_bias = s->o_bias = true;
    give_positions(s, (int)s->context);
    return PS_OK;
}

/* ---- GPT-J ---- */

#define GPTJ "transformer.h.%d."

static const ps_tensor_from gptj_from[PS_ROLE_COUNT] = {
    [PS_ROLE_EMBED] = {.name = "transformer.wte.weight"},
    [PS_ROLE_FINAL_NORM] = {.name = "transformer.ln_f.weight"},
    [PS_ROLE_FINAL_NORM_BIAS] = {.name = "transformer.ln_f.bias"},
    [PS_ROLE_HEAD] = {.name = "lm_head.weight"},
    [PS_ROLE_HEAD_BIAS] = {.name = "lm_head.bias"},
    [PS_ROLE_ATTENTION_NORM] = {.name = GPTJ "ln_1.weight"},
    [PS_ROLE_ATTENTION_NORM_BIAS] = {.name = GPTJ "ln_1.bias"},
    [PS_ROLE_Q] = {.name = GPTJ "attn.q_proj.weight"},
    [PS_ROLE_K] = {.name = GPTJ "attn.k_proj.weight"},
    [PS_ROLE_V] = {.name = GPTJ "attn.v_proj.weight"},
    [PS_ROLE_O] = {.name = GPTJ "attn.out_proj.weight"},
    [PS_ROLE_UP] = {.name = GPTJ "mlp.fc_in.weight"},
    [PS_ROLE_UP_BIAS] = {.name = GPTJ "mlp.fc_in.bias"},
    [PS_ROLE_DOWN] = {.name = GPTJ "mlp.fc_out.weight"},
    [PS_ROLE_DOWN_BIAS] = {.name = GPTJ "mlp.fc_out.bias"},
};

static ps_err read_gptj(ps_config *c, ps_import *m)
{
    ps_spec *s = &m->spec;
    PS_TRY(ps_read_sizes(c, s, &gpt2_keys));
    PS_TRY(ps_read_norm(c, s, PS_NORM_LAYER, "layer_norm_epsilon", 1e-5));
    PS_TRY(ps_read_activation(c, s, "activation_function", "gelu_new"));
    PS_TRY(ps_want_flag(c, "scale_attn_weights", true));
    PS_TRY(ps_want_flag(c, "rotary", true));
    int dims = s->head_dim < 64 ? s->head_dim : 64;
    PS_TRY(ps_config_int(c, "rotary_dim", 2, s->head_dim, &dims));
    give_gpt_block(s);
    s->parallel = s->shared_norm = true;
    s->head_bias = true;
    m->interleaved = true;
    PS_TRY(ps_read_rope(c, s, dims, 10000.0));
    return no_windows(c, s);
}

/* ---- GPT-NeoX ---- */

#define NEOX "gpt_neox.layers.%d."

static const ps_tensor_from neox_from[PS_ROLE_COUNT] = {
    [PS_ROLE_EMBED] = {.name = "gpt_neox.embed_in.weight"},
    [PS_ROLE_FINAL_NORM] = {.name = "gpt_neox.final_layer_norm.weight"},
    [PS_ROLE_FINAL_NORM_BIAS] = {.name = "gpt_neox.final_layer_norm.bias"},
    [PS_ROLE_HEAD] = {.name = "embed_out.weight"},
    [PS_ROLE_ATTENTION_NORM] = {.name = NEOX "input_layernorm.weight"},
    [PS_ROLE_ATTENTION_NORM_BIAS] = {.name = NEOX "input_layernorm.bias"},
    [PS_ROLE_Q] = {NEOX "attention.query_key_value.weight", PS_ROWS_QKV_HEADS, false},
    [PS_ROLE_K] = {NEOX "attention.query_key_value.weight", PS_ROWS_QKV_HEADS, false},
    [PS_ROLE_V] = {NEOX "attention.query_key_value.weight", PS_ROWS_QKV_HEADS, false},
    [PS_ROLE_Q_BIAS] = {NEOX "attention.query_key_value.bias", PS_ROWS_QKV_HEADS, false},
    [PS_ROLE_K_BIAS] = {NEOX "attention.query_key_value.bias", PS_ROWS_QKV_HEADS, false},
    [PS_ROLE_V_BIAS] = {NEOX "attention.query_key_value.bias", PS_ROWS_QKV_HEADS, false},
    [PS_ROLE_O] = {.name = NEOX "attention.dense.weight"},
    [PS_ROLE_O_BIAS] = {.name = NEOX "attention.dense.bias"},
    [PS_ROLE_MLP_NORM] = {.name = NEOX "post_attention_layernorm.weight"},
    [PS_ROLE_MLP_NORM_BIAS] = {.name = NEOX "post_attention_layernorm.bias"},
    [PS_ROLE_UP] = {.name = NEOX "mlp.dense_h_to_4h.weight"},
    [PS_ROLE_UP_BIAS] = {.name = NEOX "mlp.dense_h_to_4h.bias"},
    [PS_ROLE_DOWN] = {.name = NEOX "mlp.dense_4h_to_h.weight"},
    [PS_ROLE_DOWN_BIAS] = {.name = NEOX "mlp.dense_4h_to_h.bias"},
};

static ps_err read_gpt_neox(ps_config *c, ps_import *m)
{
    ps_spec *s = &m->spec;
    PS_TRY(ps_read_sizes(c, s, &ps_size_keys_llama));
    PS_TRY(ps_read_norm(c, s, PS_NORM_LAYER, "layer_norm_eps", 1e-5));
    PS_TRY(ps_read_activation(c, s, "hidden_act", "gelu"));
    give_gpt_block(s);
    PS_TRY(ps_read_attention_bias(c, s, true));
    s->parallel = true;
    PS_TRY(ps_config_bool(c, "use_parallel_residual", &s->parallel));
    PS_TRY(ps_read_rope(c, s, s->head_dim / 4, 10000.0));
    return no_windows(c, s);
}

/* ---- BLOOM, and Falcon after it ---- */

#define BLOOM "transformer.h.%d."

static const ps_tensor_from bloom_from[PS_ROLE_COUNT] = {
    [PS_ROLE_EMBED] = {.name = "transformer.word_embeddings.weight"},
    [PS_ROLE_EMBED_NORM] = {.name = "transformer.word_embeddings_layernorm.weight"},
    [PS_ROLE_EMBED_NORM_BIAS] = {.name = "transformer.word_embeddings_layernorm.bias"},
    [PS_ROLE_FINAL_NORM] = {.name = "transformer.ln_f.weight"},
    [PS_ROLE_FINAL_NORM_BIAS] = {.name = "transformer.ln_f.bias"},
    [PS_ROLE_HEAD] = {.name = "lm_head.weight"},
    [PS_ROLE_ATTENTION_NORM] = {.name = BLOOM "input_layernorm.weight"},
    [PS_ROLE_ATTENTION_NORM_BIAS] = {.name = BLOOM "input_layernorm.bias"},
    [PS_ROLE_Q] = {BLOOM "self_attention.query_key_value.weight", PS_ROWS_QKV_HEADS, false},
    [PS_ROLE_K] = {BLOOM "self_attention.query_key_value.weight", PS_ROWS_QKV_HEADS, false},
    [PS_ROLE_V] = {BLOOM "self_attention.query_key_value.weight", PS_ROWS_QKV_HEADS, false},
    [PS_ROLE_Q_BIAS] = {BLOOM "self_attention.query_key_value.bias", PS_ROWS_QKV_HEADS, false},
    [PS_ROLE_K_BIAS] = {BLOOM "self_attention.query_key_value.bias", PS_ROWS_QKV_HEADS, false},
    [PS_ROLE_V_BIAS] = {BLOOM "self_attention.query_key_value.bias", PS_ROWS_QKV_HEADS, false},
    [PS_ROLE_O] = {.name = BLOOM "self_attention.dense.weight"},
    [PS_ROLE_O_BIAS] = {.name = BLOOM "self_attention.dense.bias"},
    [PS_ROLE_MLP_NORM] = {.name = BLOOM "post_attention_layernorm.weight"},
    [PS_ROLE_MLP_NORM_BIAS] = {.name = BLOOM "post_attention_layernorm.bias"},
    [PS_ROLE_UP] = {.name = BLOOM "mlp.dense_h_to_4h.weight"},
    [PS_ROLE_UP_BIAS] = {.name = BLOOM "mlp.dense_h_to_4h.bias"},
    [PS_ROLE_DOWN] = {.name = BLOOM "mlp.dense_4h_to_h.weight"},
    [PS_ROLE_DOWN_BIAS] = {.name = BLOOM "mlp.dense_4h_to_h.bias"},
};

static ps_err read_bloom(ps_config *c, ps_import *m)
{
    static const ps_size_keys keys = {
        .width = {"hidden_size", "n_embed", "n_embd"},
        .ffn = {"n_inner"},
        .layers = {"n_layer", "num_hidden_layers"},
        .heads = {"n_head", "num_attention_heads"},
        .context = {"seq_length"},
        .ffn_optional = true,
    };
    ps_spec *s = &m->spec;
    PS_TRY(ps_read_sizes(c, s, &keys));
    PS_TRY(ps_read_norm(c, s, PS_NORM_LAYER, "layer_norm_epsilon", 1e-5));
    PS_TRY(ps_want_flag(c, "apply_residual_connection_post_layernorm", false));
    s->activation = PS_ACTIVATION_GELU_TANH;
    give_gpt_block(s);
    s->qkv_bias = s->o_bias = s->embed_norm = true;
    ps_give_alibi(s, 8.0, 1.0);
    return PS_OK;
}

/* The three shapes of Falcon: one key head behind all queries (7B), a key head behind its queries
 * (40B, new_decoder_architecture), or as BLOOM (RW). */
static ps_err read_falcon_heads(ps_config *c, ps_import *m)
{
    ps_spec *s = &m->spec;
    bool multi_query = true, new_decoder = false;
    int n_kv_heads = s->n_heads;
    PS_TRY(ps_config_bool(c, "multi_query", &multi_query));
    PS_TRY(ps_config_bool(c, "new_decoder_architecture", &new_decoder));
    PS_TRY(ps_config_int(c, "n_head_kv", 1, s->n_heads, &n_kv_heads));
    PS_TRY(ps_config_int(c, "num_kv_heads", 1, s->n_heads, &n_kv_heads));
    PS_TRY(ps_config_bool(c, "parallel_attn", &s->parallel));
    ps_rows_from rows = PS_ROWS_QKV_HEADS;
    if (new_decoder) {
        int n_norms = 2;
        PS_TRY(ps_config_int(c, "num_ln_in_parallel_attn", 1, 2, &n_norms));
        s->n_kv_heads = n_kv_heads;
        s->parallel = true;
        rows = PS_ROWS_QKV_GROUPS;
        s->shared_norm = n_norms == 1;
        if (n_norms == 2) {
            m->from[PS_ROLE_ATTENTION_NORM].name = BLOOM "ln_attn.weight";
            m->from[PS_ROLE_ATTENTION_NORM_BIAS].name = BLOOM "ln_attn.bias";
            m->from[PS_ROLE_MLP_NORM].name = BLOOM "ln_mlp.weight";
            m->from[PS_ROLE_MLP_NORM_BIAS].name = BLOOM "ln_mlp.bias";
        }
    } else {
        if (ps_config_take(c, "num_ln_in_parallel_attn"))
            return PS_FAIL(PS_ERR_UNSUPPORTED,
                           "%s: num_ln_in_parallel_attn without new_decoder_architecture", c->path);
        s->n_kv_heads = multi_query ? 1 : s->n_heads;
        s->shared_norm = s->parallel;
        if (multi_query) rows = PS_ROWS_QKV;
    }
    for (int role = PS_ROLE_Q; role <= PS_ROLE_V_BIAS; role++) {
        if (role != PS_ROLE_O) m->from[role].rows = rows;
    }
    return PS_OK;
}

static ps_err read_falcon(ps_config *c, ps_import *m)
{
    static const ps_size_keys keys = {
        .width = {"hidden_size", "n_embed"},
        .ffn = {"ffn_hidden_size"},
        .layers = {"num_hidden_layers", "n_layer"},
        .heads = {"num_attention_heads", "n_head"},
        .context = {"max_position_embeddings"},
        .ffn_optional = true,
    };
    ps_spec *s = &m->spec;
    bool alibi = false, bias = false;
    PS_TRY(ps_read_sizes(c, s, &keys));
    PS_TRY(ps_read_norm(c, s, PS_NORM_LAYER, "layer_norm_epsilon", 1e-5));
    PS_TRY(ps_read_activation(c, s, "activation", "gelu"));
    PS_TRY(ps_want_flag(c, "apply_residual_connection_post_layernorm", false));
    PS_TRY(ps_config_bool(c, "alibi", &alibi));
    PS_TRY(ps_config_bool(c, "bias", &bias));
    give_gpt_block(s);
    s->qkv_bias = s->o_bias = s->mlp_bias = bias;
    s->parallel = true;
    PS_TRY(read_falcon_heads(c, m));
    PS_TRY(ps_read_rope(c, s, s->head_dim, 10000.0));
    PS_TRY(no_windows(c, s));
    // Its bias is added before the division by sqrt(head_dim).
    if (alibi) ps_give_alibi(s, 8.0, 1.0 / sqrt((double)s->head_dim));
    return PS_OK;
}

/* ---- MPT ---- */

#define MPT "transformer.blocks.%d."

static const ps_tensor_from mpt_from[PS_ROLE_COUNT] = {
    [PS_ROLE_EMBED] = {.name = "transformer.wte.weight"},
    [PS_ROLE_FINAL_NORM] = {.name = "transformer.norm_f.weight"},
    [PS_ROLE_HEAD] = {.name = "lm_head.weight"},
    [PS_ROLE_ATTENTION_NORM] = {.name = MPT "norm_1.weight"},
    [PS_ROLE_Q] = {MPT "attn.Wqkv.weight", PS_ROWS_QKV, false},
    [PS_ROLE_K] = {MPT "attn.Wqkv.weight", PS_ROWS_QKV, false},
    [PS_ROLE_V] = {MPT "attn.Wqkv.weight", PS_ROWS_QKV, false},
    [PS_ROLE_O] = {.name = MPT "attn.out_proj.weight"},
    [PS_ROLE_MLP_NORM] = {.name = MPT "norm_2.weight"},
    [PS_ROLE_UP] = {.name = MPT "ffn.up_proj.weight"},
    [PS_ROLE_DOWN] = {.name = MPT "ffn.down_proj.weight"},
};

/* Keys of attn_config that are read, or that say nothing about the forward pass. */
static ps_err check_mpt_attention(const ps_config *c, const json_t *attention)
{
    static const char *const known[] = {"alibi",
                                        "alibi_bias_max",
                                        "clip_qkv",
                                        "softmax_scale",
                                        "kv_n_heads",
                                        "qk_ln",
                                        "attn_type",
                                        "prefix_lm",
                                        "attn_pdrop",
                                        "attn_impl",
                                        "attn_uses_sequence_id",
                                        "model_type",
                                        "return_dict",
                                        "_name_or_path",
                                        "architectures",
                                        "dtype",
                                        "torch_dtype",
                                        "id2label",
                                        "label2id",
                                        "problem_type",
                                        "is_encoder_decoder",
                                        "output_attentions",
                                        "output_hidden_states",
                                        "chunk_size_feed_forward",
                                        "transformers_version"};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)attention, key, value)
    {
        bool found = json_is_null(value);
        for (size_t i = 0; i < sizeof known / sizeof known[0] && !found; i++) {
            found = strcmp(known[i], key) == 0;
        }
        if (!found)
            return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: key %s of attn_config is not understood",
                           c->path, key);
    }
    return PS_OK;
}

/* How many key heads its kind of attention has; kv_n_heads says it more exactly. */
static ps_err read_mpt_heads(const ps_config *c, const json_t *attention, ps_spec *s)
{
    const char *type = "multihead_attention";
    PS_TRY(ps_json_opt_text(attention, "attn_type", c->path, &type));
    if (strcmp(type, "multiquery_attention") == 0) {
        s->n_kv_heads = 1;
    } else if (strcmp(type, "multihead_attention") != 0 &&
               strcmp(type, "grouped_query_attention") != 0) {
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: attn_type %s is not computed here", c->path, type);
    }
    return ps_json_opt_int(attention, "kv_n_heads", 1, s->n_heads, c->path, &s->n_kv_heads);
}

static ps_err read_mpt_attention(ps_config *c, ps_spec *s)
{
    const json_t *o = ps_config_take(c, "attn_config");
    bool alibi = false, qk_norm = false, prefix = false, sequence_id = false;
    double max_exponent = 8.0;
    if (!json_is_object(o)) return PS_FAIL(PS_ERR_FORMAT, "%s: attn_config is missing", c->path);
    PS_TRY(check_mpt_attention(c, o));
    PS_TRY(ps_json_opt_bool(o, "alibi", c->path, &alibi));
    PS_TRY(ps_json_opt_bool(o, "qk_ln", c->path, &qk_norm));
    PS_TRY(ps_json_opt_bool(o, "prefix_lm", c->path, &prefix));
    PS_TRY(ps_json_opt_bool(o, "attn_uses_sequence_id", c->path, &sequence_id));
    PS_TRY(ps_json_opt_real(o, "alibi_bias_max", c->path, &max_exponent));
    PS_TRY(ps_json_opt_real(o, "clip_qkv", c->path, &s->qkv_clip));
    PS_TRY(ps_json_opt_real(o, "softmax_scale", c->path, &s->attention_scale));
    PS_TRY(read_mpt_heads(c, o, s));
    if (!alibi || qk_norm || prefix || sequence_id)
        return PS_FAIL(PS_ERR_UNSUPPORTED,
                       "%s: attn_config must have alibi, and neither qk_ln, "
                       "prefix_lm nor attn_uses_sequence_id",
                       c->path);
    ps_give_alibi(s, max_exponent, 1.0);
    return PS_OK;
}

static ps_err read_mpt_logit_scale(ps_config *c, ps_spec *s)
{
    const json_t *scale = ps_config_take(c, "logit_scale");
    if (!scale) return PS_OK;
    const char *text = json_string_value(scale);
    if (json_is_number(scale)) {
        s->logit_scale = json_number_value(scale);
    } else if (text && strcmp(text, "inv_sqrt_d_model") == 0) {
        s->logit_scale = 1.0 / sqrt((double)s->d_model);
    } else {
        return PS_FAIL(PS_ERR_UNSUPPORTED,
                       "%s: logit_scale is neither a number nor "
                       "inv_sqrt_d_model",
                       c->path);
    }
    return PS_OK;
}

/* All its layer norms are one and the same formula, whatever precision they are named after. */
static ps_err read_mpt_norm(ps_config *c)
{
    const char *type = "low_precision_layernorm";
    PS_TRY(ps_config_text(c, "norm_type", &type));
    if (strcmp(type, "low_precision_layernorm") == 0 || strcmp(type, "layernorm") == 0)
        return PS_OK;
    return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: norm_type %s is not computed here", c->path, type);
}

static ps_err read_mpt(ps_config *c, ps_import *m)
{
    static const ps_size_keys keys = {.width = {"d_model"},
                                      .layers = {"n_layers"},
                                      .heads = {"n_heads"},
                                      .context = {"max_seq_len"},
                                      .ffn_optional = true};
    ps_spec *s = &m->spec;
    int ratio = 4;
    double fraction = 1.0;
    PS_TRY(ps_read_sizes(c, s, &keys));
    PS_TRY(ps_read_norm(c, s, PS_NORM_LAYER, "layer_norm_epsilon", 1e-5));
    PS_TRY(ps_config_int(c, "expansion_ratio", 1, PS_SPEC_WIDTH_MAX / s->d_model, &ratio));
    PS_TRY(ps_config_real(c, "embedding_fraction", &fraction)); // of gradients, in training
    PS_TRY(ps_want_flag(c, "no_bias", true));
    PS_TRY(read_mpt_norm(c));
    (void)ps_config_take(c, "learned_pos_emb"); // such a table is not there where there is ALiBi
    s->d_ff = ratio * s->d_model;
    s->activation = PS_ACTIVATION_GELU;
    s->gated = false;
    PS_TRY(read_mpt_logit_scale(c, s));
    return read_mpt_attention(c, s);
}

/* ---- Phi 1 and 2 ---- */

#define PHI "model.layers.%d."

static const ps_tensor_from phi_from[PS_ROLE_COUNT] = {
    [PS_ROLE_EMBED] = {.name = "model.embed_tokens.weight"},
    [PS_ROLE_FINAL_NORM] = {.name = "model.final_layernorm.weight"},
    [PS_ROLE_FINAL_NORM_BIAS] = {.name = "model.final_layernorm.bias"},
    [PS_ROLE_HEAD] = {.name = "lm_head.weight"},
    [PS_ROLE_HEAD_BIAS] = {.name = "lm_head.bias"},
    [PS_ROLE_ATTENTION_NORM] = {.name = PHI "input_layernorm.weight"},
    [PS_ROLE_ATTENTION_NORM_BIAS] = {.name = PHI "input_layernorm.bias"},
    [PS_ROLE_Q] = {.name = PHI "self_attn.q_proj.weight"},
    [PS_ROLE_K] = {.name = PHI "self_attn.k_proj.weight"},
    [PS_ROLE_V] = {.name = PHI "self_attn.v_proj.weight"},
    [PS_ROLE_O] = {.name = PHI "self_attn.dense.weight"},
    [PS_ROLE_Q_BIAS] = {.name = PHI "self_attn.q_proj.bias"},
    [PS_ROLE_K_BIAS] = {.name = PHI "self_attn.k_proj.bias"},
    [PS_ROLE_V_BIAS] = {.name = PHI "self_attn.v_proj.bias"},
    [PS_ROLE_O_BIAS] = {.name = PHI "self_attn.dense.bias"},
    [PS_ROLE_UP] = {.name = PHI "mlp.fc1.weight"},
    [PS_ROLE_UP_BIAS] = {.name = PHI "mlp.fc1.bias"},
    [PS_ROLE_DOWN] = {.name = PHI "mlp.fc2.weight"},
    [PS_ROLE_DOWN_BIAS] = {.name = PHI "mlp.fc2.bias"},
};

static ps_err read_phi(ps_config *c, ps_import *m)
{
    ps_spec *s = &m->spec;
    PS_TRY(ps_read_sizes(c, s, &ps_size_keys_llama));
    PS_TRY(ps_read_norm(c, s, PS_NORM_LAYER, "layer_norm_eps", 1e-5));
    PS_TRY(ps_read_activation(c, s, "hidden_act", "gelu_new"));
    PS_TRY(ps_want_flag(c, "qk_layernorm", false));
    give_gpt_block(s);
    s->qkv_bias = s->o_bias = s->head_bias = true;
    s->parallel = s->shared_norm = true;
    PS_TRY(ps_read_rope(c, s, s->head_dim / 2, 10000.0));
    return no_windows(c, s);
}

/* ---- OPT ---- */

#define OPT "model.decoder.layers.%d."

static const ps_tensor_from opt_from[PS_ROLE_COUNT] = {
    [PS_ROLE_EMBED] = {.name = "model.decoder.embed_tokens.weight"},
    [PS_ROLE_POSITIONS] = {.name = "model.decoder.embed_positions.weight"},
    [PS_ROLE_FINAL_NORM] = {.name = "model.decoder.final_layer_norm.weight"},
    [PS_ROLE_FINAL_NORM_BIAS] = {.name = "model.decoder.final_layer_norm.bias"},
    [PS_ROLE_HEAD] = {.name = "lm_head.weight"},
    [PS_ROLE_ATTENTION_NORM] = {.name = OPT "self_attn_layer_norm.weight"},
    [PS_ROLE_ATTENTION_NORM_BIAS] = {.name = OPT "self_attn_layer_norm.bias"},
    [PS_ROLE_Q] = {.name = OPT "self_attn.q_proj.weight"},
    [PS_ROLE_K] = {.name = OPT "self_attn.k_proj.weight"},
    [PS_ROLE_V] = {.name = OPT "self_attn.v_proj.weight"},
    [PS_ROLE_O] = {.name = OPT "self_attn.out_proj.weight"},
    [PS_ROLE_Q_BIAS] = {.name = OPT "self_attn.q_proj.bias"},
    [PS_ROLE_K_BIAS] = {.name = OPT "self_attn.k_proj.bias"},
    [PS_ROLE_V_BIAS] = {.name = OPT "self_attn.v_proj.bias"},
    [PS_ROLE_O_BIAS] = {.name = OPT "self_attn.out_proj.bias"},
    [PS_ROLE_MLP_NORM] = {.name = OPT "final_layer_norm.weight"},
    [PS_ROLE_MLP_NORM_BIAS] = {.name = OPT "final_layer_norm.bias"},
    [PS_ROLE_UP] = {.name = OPT "fc1.weight"},
    [PS_ROLE_UP_BIAS] = {.name = OPT "fc1.bias"},
    [PS_ROLE_DOWN] = {.name = OPT "fc2.weight"},
    [PS_ROLE_DOWN_BIAS] = {.name = OPT "fc2.bias"},
};

static ps_err read_opt(ps_config *c, ps_import *m)
{
    static const ps_size_keys keys = {.width = {"hidden_size"},
                                      .ffn = {"ffn_dim"},
                                      .layers = {"num_hidden_layers"},
                                      .heads = {"num_attention_heads"},
                                      .context = {"max_position_embeddings"}};
    ps_spec *s = &m->spec;
    bool bias = true;
    PS_TRY(ps_read_sizes(c, s, &keys));
    PS_TRY(ps_read_activation(c, s, "activation_function", "relu"));
    int embed_width = s->d_model;
    s->norm = PS_NORM_LAYER;
    s->norm_eps = 1e-5; // no key: fixed
    PS_TRY(ps_config_bool(c, "enable_bias", &bias));
    PS_TRY(ps_want_flag(c, "do_layer_norm_before", true));
    PS_TRY(ps_want_flag(c, "layer_norm_elementwise_affine", true));
    PS_TRY(ps_want_flag(c, "_remove_final_layer_norm", false));
    PS_TRY(ps_config_int(c, "word_embed_proj_dim", 1, PS_SPEC_WIDTH_MAX, &embed_width));
    if (embed_width != s->d_model)
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: word_embed_proj_dim %d differs from hidden_size %d",
                       c->path, embed_width, s->d_model);
    give_gpt_block(s);
    s->qkv_bias = s->o_bias = s->mlp_bias = bias;
    m->skip_positions = 2;
    if (s->context == 0) s->context = 2048;
    give_positions(s, (int)s->context);
    return PS_OK;
}

const ps_family ps_families_gpt[] = {
    {"gpt2", read_gpt2, gpt2_from, true},
    {"gptj", read_gptj, gptj_from, false},
    {"gpt_neox", read_gpt_neox, neox_from, false},
    {"bloom", read_bloom, bloom_from, true},
    {"falcon", read_falcon, bloom_from, true},
    {"mpt", read_mpt, mpt_from, true},
    {"phi", read_phi, phi_from, false},
    {"opt", read_opt, opt_from, true},
    {0},
};
