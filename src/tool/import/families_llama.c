/* Families whose names and keys descend from Llama's. */
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "tool/import/families_parts.h"

#define LAYER "model.layers.%d."

const ps_tensor_from ps_from_llama[PS_ROLE_COUNT] = {
    [PS_ROLE_EMBED] = {.name = "model.embed_tokens.weight"},
    [PS_ROLE_FINAL_NORM] = {.name = "model.norm.weight"},
    [PS_ROLE_FINAL_NORM_BIAS] = {.name = "model.norm.bias"},
    [PS_ROLE_HEAD] = {.name = "lm_head.weight"},
    [PS_ROLE_ATTENTION_NORM] = {.name = LAYER "input_layernorm.weight"},
    [PS_ROLE_ATTENTION_NORM_BIAS] = {.name = LAYER "input_layernorm.bias"},
    [PS_ROLE_Q] = {.name = LAYER "self_attn.q_proj.weight"},
    [PS_ROLE_K] = {.name = LAYER "self_attn.k_proj.weight"},
    [PS_ROLE_V] = {.name = LAYER "self_attn.v_proj.weight"},
    [PS_ROLE_O] = {.name = LAYER "self_attn.o_proj.weight"},
    [PS_ROLE_Q_BIAS] = {.name = LAYER "self_attn.q_proj.bias"},
    [PS_ROLE_K_BIAS] = {.name = LAYER "self_attn.k_proj.bias"},
    [PS_ROLE_V_BIAS] = {.name = LAYER "self_attn.v_proj.bias"},
    [PS_ROLE_O_BIAS] = {.name = LAYER "self_attn.o_proj.bias"},
    [PS_ROLE_Q_NORM] = {.name = LAYER "self_attn.q_norm.weight"},
    [PS_ROLE_K_NORM] = {.name = LAYER "self_attn.k_norm.weight"},
    [PS_ROLE_SINKS] = {.name = LAYER "self_attn.sinks"},
    [PS_ROLE_REL_POS_W] = {.name = LAYER "self_attn.linear_pos.weight"},
    [PS_ROLE_REL_POS_U] = {.name = LAYER "self_attn.pos_bias_u"},
    [PS_ROLE_REL_POS_V] = {.name = LAYER "self_attn.pos_bias_v"},
    [PS_ROLE_T5_TABLE] = {.name = LAYER "self_attn.relative_attention_bias.weight"},
    [PS_ROLE_KERPLE_LOG_P] = {.name = LAYER "self_attn.kerple_log.p"},
    [PS_ROLE_KERPLE_LOG_A] = {.name = LAYER "self_attn.kerple_log.a"},
    [PS_ROLE_KERPLE_POWER_P] = {.name = LAYER "self_attn.kerple_power.p"},
    [PS_ROLE_KERPLE_POWER_EXPONENT] = {.name = LAYER "self_attn.kerple_power.exponent"},
    [PS_ROLE_FIRE_W1] = {.name = LAYER "self_attn.fire.w1"},
    [PS_ROLE_FIRE_B1] = {.name = LAYER "self_attn.fire.b1"},
    [PS_ROLE_FIRE_W2] = {.name = LAYER "self_attn.fire.w2"},
    [PS_ROLE_FIRE_B2] = {.name = LAYER "self_attn.fire.b2"},
    [PS_ROLE_FIRE_SCALARS] = {.name = LAYER "self_attn.fire.scalars"},
    [PS_ROLE_FOX_WEIGHT] = {.name = LAYER "self_attn.fgate_proj.weight"},
    [PS_ROLE_FOX_BIAS] = {.name = LAYER "self_attn.fgate_proj.bias"},
    [PS_ROLE_OUTPUT_GATE] = {.name = LAYER "self_attn.output_gate.weight"},
    [PS_ROLE_OUTPUT_GATE_BIAS] = {.name = LAYER "self_attn.output_gate.bias"},
    [PS_ROLE_MLP_NORM] = {.name = LAYER "post_attention_layernorm.weight"},
    [PS_ROLE_MLP_NORM_BIAS] = {.name = LAYER "post_attention_layernorm.bias"},
    [PS_ROLE_GATE] = {.name = LAYER "mlp.gate_proj.weight"},
    [PS_ROLE_UP] = {.name = LAYER "mlp.up_proj.weight"},
    [PS_ROLE_DOWN] = {.name = LAYER "mlp.down_proj.weight"},
    [PS_ROLE_GATE_BIAS] = {.name = LAYER "mlp.gate_proj.bias"},
    [PS_ROLE_UP_BIAS] = {.name = LAYER "mlp.up_proj.bias"},
    [PS_ROLE_DOWN_BIAS] = {.name = LAYER "mlp.down_proj.bias"},
    [PS_ROLE_ROUTER] = {.name = LAYER "mlp.gate.weight"},
    [PS_ROLE_EXPERT_GATE] = {.name = LAYER "mlp.experts.%e.gate_proj.weight"},
    [PS_ROLE_EXPERT_UP] = {.name = LAYER "mlp.experts.%e.up_proj.weight"},
    [PS_ROLE_EXPERT_DOWN] = {.name = LAYER "mlp.experts.%e.down_proj.weight"},
};

static void rename_tensor(ps_import *m, ps_role role, const char *name)
{
    m->from[role] = (ps_tensor_from){.name = name};
}

/* Sizes, RMS norms, gated silu: what most of these families share. What a file leaves out has the
 * value that the family was published with: `eps`, the base of the rotation, windows, ties. */
static ps_err read_common(ps_config *c, ps_spec *s, double eps)
{
    PS_TRY(ps_read_sizes(c, s, &ps_size_keys_llama));
    PS_TRY(ps_read_norm(c, s, PS_NORM_RMS, "rms_norm_eps", eps));
    return ps_read_activation(c, s, "hidden_act", "silu");
}

/* RoPE over the whole head, and windows of all layers alike unless layer_types says otherwise. */
static ps_err read_positions(ps_config *c, ps_spec *s, double theta, int window)
{
    PS_TRY(ps_read_rope(c, s, s->head_dim, theta));
    PS_TRY(ps_read_windows(c, s, window, ps_slides_from, 0));
    ps_give_ropes(s);
    return PS_OK;
}

static ps_err read_llama(ps_config *c, ps_import *m)
{
    PS_TRY(read_common(c, &m->spec, 1e-6));
    PS_TRY(ps_read_attention_bias(c, &m->spec, false));
    PS_TRY(ps_config_bool(c, "mlp_bias", &m->spec.mlp_bias));
    return read_positions(c, &m->spec, 1e4, 0);
}

static ps_err read_mistral(ps_config *c, ps_import *m)
{
    int window;
    PS_TRY(read_common(c, &m->spec, 1e-6));
    PS_TRY(ps_read_window(c, 4096, &window));
    return read_positions(c, &m->spec, 1e4, window);
}

/* Qwen's windows: layers from max_window_layers on, if use_sliding_window. */
static ps_err read_qwen_windows(ps_config *c, ps_spec *s)
{
    bool use_window = false;
    int window, max_window_layers = 28; // what the families' configurations have where it is absent
    PS_TRY(ps_config_bool(c, "use_sliding_window", &use_window));
    PS_TRY(ps_read_window(c, 4096, &window));
    PS_TRY(ps_config_int(c, "max_window_layers", 0, INT32_MAX, &max_window_layers));
    PS_TRY(ps_read_rope(c, s, s->head_dim, 1e4));
    PS_TRY(ps_read_windows(c, s, use_window ? window : 0, ps_slides_from, max_window_layers));
    ps_give_ropes(s);
    return PS_OK;
}

static ps_err read_qwen2(ps_config *c, ps_import *m)
{
    PS_TRY(read_common(c, &m->spec, 1e-6));
    m->spec.qkv_bias = true;
    return read_qwen_windows(c, &m->spec);
}

static ps_err read_qwen3(ps_config *c, ps_import *m)
{
    PS_TRY(read_common(c, &m->spec, 1e-6));
    m->spec.qk_norm = PS_QK_NORM_HEAD;
    PS_TRY(ps_read_attention_bias(c, &m->spec, false));
    return read_qwen_windows(c, &m->spec);
}

/* ---- mixtures of experts ---- */

static ps_err read_experts(ps_config *c, ps_spec *s, const char *width_key, int n_experts, int used)
{
    s->n_experts = n_experts;
    s->n_experts_used = used;
    PS_TRY(ps_config_int(c, "num_experts", 1, PS_SPEC_EXPERTS_MAX, &s->n_experts));
    PS_TRY(ps_config_int(c, "num_local_experts", 1, PS_SPEC_EXPERTS_MAX, &s->n_experts));
    PS_TRY(ps_config_int(c, "num_experts_per_tok", 1, s->n_experts, &s->n_experts_used));
    PS_TRY(ps_config_need_int(c, width_key, 1, PS_SPEC_WIDTH_MAX, &s->d_ff_expert));
    for (int l = 0; l < s->n_layers; l++) {
        s->layers[l].mixture = true;
    }
    return PS_OK;
}

static ps_err read_mixtral(ps_config *c, ps_import *m)
{
    int window;
    PS_TRY(read_common(c, &m->spec, 1e-5));
    PS_TRY(read_experts(c, &m->spec, "intermediate_size", 8, 2));
    PS_TRY(ps_read_window(c, 0, &window));
    rename_tensor(m, PS_ROLE_ROUTER, LAYER "block_sparse_moe.gate.weight");
    rename_tensor(m, PS_ROLE_EXPERT_GATE, LAYER "block_sparse_moe.experts.%e.w1.weight");
    rename_tensor(m, PS_ROLE_EXPERT_UP, LAYER "block_sparse_moe.experts.%e.w3.weight");
    rename_tensor(m, PS_ROLE_EXPERT_DOWN, LAYER "block_sparse_moe.experts.%e.w2.weight");
    return read_positions(c, &m->spec, 1e6, window);
}

/* Layers without experts: mlp_only_layers, and those between every decoder_sparse_step. */
static ps_err read_dense_layers(ps_config *c, ps_spec *s)
{
    int step = 1;
    PS_TRY(ps_config_int(c, "decoder_sparse_step", 1, INT32_MAX, &step));
    for (int l = 0; l < s->n_layers; l++) {
        s->layers[l].mixture = (l + 1) % step == 0;
    }
    const json_t *dense = ps_config_take(c, "mlp_only_layers");
    if (dense && !json_is_array(dense))
        return PS_FAIL(PS_ERR_FORMAT, "%s: mlp_only_layers is not a list", c->path);
    for (size_t i = 0; i < json_array_size(dense); i++) {
        const json_t *layer = json_array_get(dense, i);
        const json_int_t l = json_is_integer(layer) ? json_integer_value(layer) : -1;
        if (l < 0 || l >= s->n_layers)
            return PS_FAIL(PS_ERR_FORMAT, "%s: mlp_only_layers[%zu] is no layer of %d", c->path, i,
                           s->n_layers);
        s->layers[l].mixture = false;
    }
    return PS_OK;
}

static ps_err read_qwen3_moe(ps_config *c, ps_import *m)
{
    bool norm_topk = false;
    PS_TRY(read_qwen3(c, m));
    PS_TRY(read_experts(c, &m->spec, "moe_intermediate_size", 128, 8));
    PS_TRY(ps_config_bool(c, "norm_topk_prob", &norm_topk));
    m->spec.router = norm_topk ? PS_ROUTER_CHOSEN : PS_ROUTER_ALL;
    return read_dense_layers(c, &m->spec);
}

/* What published files say a second time under another name. */
static ps_err check_gpt_oss_doubles(ps_config *c, const ps_spec *s)
{
    int used = s->n_experts_used, initial = 0;
    PS_TRY(ps_config_int(c, "experts_per_token", 1, s->n_experts, &used));
    if (used != s->n_experts_used)
        return PS_FAIL(PS_ERR_FORMAT, "%s: experts_per_token is %d, but num_experts_per_tok is %d",
                       c->path, used, s->n_experts_used);
    return ps_config_int(c, "initial_context_length", 1, INT32_MAX, &initial); // the rope has it
}

/* Whether the experts are stored as mxfp4: quantization_config names the method, and modules that
 * are left alone, which their tensors show by themselves. */
static ps_err read_mxfp4(ps_config *c, bool *mxfp4)
{
    const json_t *o = ps_config_take(c, "quantization_config");
    *mxfp4 = o != NULL;
    if (!o) return PS_OK;
    const char *method = json_string_value(json_object_get(o, "quant_method"));
    if (method && strcmp(method, "mxfp4") == 0) return PS_OK;
    return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: quantization_config has method %s, wanted mxfp4",
                   c->path, method ? method : "none");
}

/* Sinks, alternating windows, YaRN that is not rounded unless the file says so. */
static ps_err read_gpt_oss(ps_config *c, ps_import *m)
{
    ps_spec *s = &m->spec;
    int window;
    s->swiglu_alpha = 1.702;
    s->swiglu_limit = 7.0;
    PS_TRY(read_common(c, s, 1e-5));
    PS_TRY(ps_read_attention_bias(c, s, true));
    PS_TRY(read_experts(c, s, "intermediate_size", 128, 4));
    PS_TRY(check_gpt_oss_doubles(c, s));
    PS_TRY(ps_config_real(c, "swiglu_alpha", &s->swiglu_alpha));
    PS_TRY(ps_config_real(c, "swiglu_limit", &s->swiglu_limit));
    s->activation = PS_ACTIVATION_SWIGLU_OSS;
    s->sinks = s->router_bias = s->expert_bias = true;
    PS_TRY(ps_read_window(c, 128, &window));
    PS_TRY(ps_read_rope(c, s, s->head_dim, 150000.0));
    if (!json_object_get(c->root, "rope_parameters") && !json_object_get(c->root, "rope_scaling"))
        return PS_FAIL(PS_ERR_FORMAT, "%s: key rope_parameters is missing", c->path);
    const json_t *rope = ps_config_take(c, "rope_parameters");
    if (!rope) rope = ps_config_take(c, "rope_scaling");
    if (!json_object_get(rope, "truncate")) s->ropes[0].truncate = false;
    PS_TRY(ps_read_windows(c, s, window, ps_slides_but_every, 2));
    ps_give_ropes(s);
    static const char gate_up[] = LAYER "mlp.experts.gate_up_proj";
    static const char gate_up_bias[] = LAYER "mlp.experts.gate_up_proj_bias";
    rename_tensor(m, PS_ROLE_ROUTER, LAYER "mlp.router.weight");
    rename_tensor(m, PS_ROLE_ROUTER_BIAS, LAYER "mlp.router.bias");
    bool mxfp4; // stored by rows; plain experts are stored by columns
    PS_TRY(read_mxfp4(c, &mxfp4));
    m->from[PS_ROLE_EXPERT_GATE] = (ps_tensor_from){gate_up, PS_ROWS_GATE_UP_PAIRS, !mxfp4};
    m->from[PS_ROLE_EXPERT_UP] = (ps_tensor_from){gate_up, PS_ROWS_GATE_UP_PAIRS, !mxfp4};
    m->from[PS_ROLE_EXPERT_DOWN] =
        (ps_tensor_from){LAYER "mlp.experts.down_proj", PS_ROWS_PLAIN, !mxfp4};
    m->from[PS_ROLE_EXPERT_GATE_BIAS] =
        (ps_tensor_from){gate_up_bias, PS_ROWS_GATE_UP_PAIRS, false};
    m->from[PS_ROLE_EXPERT_UP_BIAS] = (ps_tensor_from){gate_up_bias, PS_ROWS_GATE_UP_PAIRS, false};
    rename_tensor(m, PS_ROLE_EXPERT_DOWN_BIAS, LAYER "mlp.experts.down_proj_bias");
    return PS_OK;
}

/* ---- Gemma ---- */

static ps_err read_gemma_common(ps_config *c, ps_import *m, const char *activation_key)
{
    ps_spec *s = &m->spec;
    PS_TRY(read_common(c, s, 1e-6));
    PS_TRY(ps_read_activation(c, s, activation_key, "gelu_pytorch_tanh"));
    PS_TRY(ps_want_flag(c, "use_bidirectional_attention", false));
    PS_TRY(ps_read_attention_bias(c, s, false));
    m->norm_plus_one = true;
    s->embed_scale = sqrt((double)s->d_model);
    return PS_OK;
}

/* Gemma 1 has files that say hidden_act gelu and mean its tanh form: hidden_activation, where it
 * stands, decides, and gelu is read as that. */
static ps_err read_gemma(ps_config *c, ps_import *m)
{
    const char *stated = NULL;
    PS_TRY(ps_config_text(c, "hidden_activation", &stated));
    PS_TRY(read_gemma_common(c, m, stated ? "hidden_activation" : "hidden_act"));
    if (m->spec.activation == PS_ACTIVATION_GELU) m->spec.activation = PS_ACTIVATION_GELU_TANH;
    return read_positions(c, &m->spec, 1e4, 0);
}

/* Norms before and after both branches, a scale of the scores of its own. */
static ps_err read_gemma2_block(ps_config *c, ps_import *m)
{
    ps_spec *s = &m->spec;
    double scalar = 256.0;
    PS_TRY(read_gemma_common(c, m, "hidden_activation"));
    PS_TRY(ps_config_real(c, "query_pre_attn_scalar", &scalar));
    if (!(scalar > 0.0))
        return PS_FAIL(PS_ERR_FORMAT, "%s: query_pre_attn_scalar is %g, wanted a positive number",
                       c->path, scalar);
    s->attention_scale = 1.0 / sqrt(scalar);
    PS_TRY(ps_config_real(c, "attn_logit_softcapping", &s->softcap));
    PS_TRY(ps_config_real(c, "final_logit_softcapping", &s->final_softcap));
    s->post_norm = true;
    rename_tensor(m, PS_ROLE_ATTENTION_POST_NORM, LAYER "post_attention_layernorm.weight");
    rename_tensor(m, PS_ROLE_MLP_NORM, LAYER "pre_feedforward_layernorm.weight");
    rename_tensor(m, PS_ROLE_MLP_POST_NORM, LAYER "post_feedforward_layernorm.weight");
    return PS_OK;
}

static ps_err read_gemma2(ps_config *c, ps_import *m)
{
    int window;
    PS_TRY(read_gemma2_block(c, m));
    // The family's configuration caps where the file says nothing.
    if (!json_object_get(c->root, "attn_logit_softcapping")) m->spec.softcap = 50.0;
    if (!json_object_get(c->root, "final_logit_softcapping")) m->spec.final_softcap = 30.0;
    PS_TRY(ps_read_window(c, 4096, &window));
    PS_TRY(ps_read_rope(c, &m->spec, m->spec.head_dim, 10000.0));
    PS_TRY(ps_read_windows(c, &m->spec, window, ps_slides_but_every, 2));
    ps_give_ropes(&m->spec);
    return PS_OK;
}

static ps_err read_gemma3(ps_config *c, ps_import *m)
{
    ps_spec *s = &m->spec;
    int window, pattern = 6;
    double local_base = 10000.0;
    PS_TRY(read_gemma2_block(c, m));
    s->qk_norm = PS_QK_NORM_HEAD;
    PS_TRY(ps_read_window(c, 4096, &window));
    PS_TRY(ps_config_int(c, "_sliding_window_pattern", 1, INT32_MAX, &pattern));
    PS_TRY(ps_config_int(c, "sliding_window_pattern", 1, INT32_MAX, &pattern));
    PS_TRY(ps_config_real(c, "rope_local_base_freq", &local_base));
    PS_TRY(ps_read_rope(c, s, s->head_dim, 1000000.0));
    if (s->n_ropes == 1) { // older files: scaling is for the global layers alone
        s->n_ropes = 2;
        s->ropes[1] = (ps_rope){.kind = PS_ROPE_DEFAULT,
                                .dims = s->ropes[0].dims,
                                .base = local_base,
                                .magnitude = 1.0};
    }
    PS_TRY(ps_read_windows(c, s, window, ps_slides_but_every, pattern));
    ps_give_ropes(s);
    return PS_OK;
}

/* ---- others ---- */

static ps_err read_phi3(ps_config *c, ps_import *m)
{
    static const char qkv[] = LAYER "self_attn.qkv_proj.weight";
    static const char gate_up[] = LAYER "mlp.gate_up_proj.weight";
    int window;
    PS_TRY(read_common(c, &m->spec, 1e-5));
    PS_TRY(ps_want_flag(c, "attention_bias", false));
    PS_TRY(ps_read_window(c, 0, &window));
    m->from[PS_ROLE_Q] = m->from[PS_ROLE_K] = m->from[PS_ROLE_V] =
        (ps_tensor_from){qkv, PS_ROWS_QKV, false};
    m->from[PS_ROLE_GATE] = m->from[PS_ROLE_UP] = (ps_tensor_from){gate_up, PS_ROWS_GATE_UP, false};
    (void)ps_config_take(c, "original_max_position_embeddings"); // longrope asks for it
    return read_positions(c, &m->spec, 1e4, window);
}

/* Layers without RoPE: no_rope_layers (1 is one with it), or every no_rope_layer_interval-th. */
static ps_err read_rotated_layers(ps_config *c, ps_spec *s)
{
    int interval = 4;
    PS_TRY(ps_config_int(c, "no_rope_layer_interval", 1, INT32_MAX, &interval));
    const json_t *list = ps_config_take(c, "no_rope_layers");
    if (list && (!json_is_array(list) || json_array_size(list) != (size_t)s->n_layers))
        return PS_FAIL(PS_ERR_FORMAT, "%s: no_rope_layers does not name %d layers", c->path,
                       s->n_layers);
    for (int l = 0; l < s->n_layers; l++) {
        const json_t *flag = list ? json_array_get(list, (size_t)l) : NULL;
        if (flag && !json_is_boolean(flag) && !json_is_integer(flag))
            return PS_FAIL(PS_ERR_FORMAT, "%s: no_rope_layers[%d] is neither 0 nor 1", c->path, l);
        bool rotated = (l + 1) % interval != 0;
        if (flag) rotated = json_is_true(flag) || json_integer_value(flag) != 0;
        s->layers[l].rope = rotated ? 0 : -1;
    }
    return PS_OK;
}

/* Windows, if use_sliding_window: of the layers without RoPE, unless layer_types says otherwise. */
static ps_err read_smollm3(ps_config *c, ps_import *m)
{
    ps_spec *s = &m->spec;
    int window;
    bool use_window = false;
    PS_TRY(read_common(c, s, 1e-6));
    PS_TRY(ps_read_attention_bias(c, s, false));
    PS_TRY(ps_config_bool(c, "mlp_bias", &s->mlp_bias));
    PS_TRY(ps_read_rope(c, s, s->head_dim, 2e6));
    PS_TRY(read_rotated_layers(c, s));
    PS_TRY(ps_config_bool(c, "use_sliding_window", &use_window));
    PS_TRY(ps_read_window(c, 0, &window));
    if (!use_window) window = 0;
    PS_TRY(ps_read_windows(c, s, window, ps_slides_never, 0));
    for (int l = 0; l < s->n_layers && !ps_config_take(c, "layer_types"); l++) {
        if (s->layers[l].rope < 0) s->layers[l].window = window;
    }
    return PS_OK;
}

/* Norms of the branches' outputs only, and one norm over all of q and of k. */
static ps_err read_olmo2_block(ps_config *c, ps_import *m)
{
    ps_spec *s = &m->spec;
    PS_TRY(read_common(c, s, 1e-5));
    PS_TRY(ps_read_attention_bias(c, s, false));
    s->pre_norm = false;
    s->post_norm = true;
    s->qk_norm = PS_QK_NORM_ALL;
    rename_tensor(m, PS_ROLE_ATTENTION_POST_NORM, LAYER "post_attention_layernorm.weight");
    rename_tensor(m, PS_ROLE_MLP_POST_NORM, LAYER "post_feedforward_layernorm.weight");
    return PS_OK;
}

static ps_err read_olmo2(ps_config *c, ps_import *m)
{
    PS_TRY(read_olmo2_block(c, m));
    return read_positions(c, &m->spec, 1e4, 0);
}

static ps_err read_olmo3(ps_config *c, ps_import *m)
{
    ps_spec *s = &m->spec;
    int window;
    PS_TRY(read_olmo2_block(c, m));
    PS_TRY(ps_read_window(c, 4096, &window));
    PS_TRY(ps_read_rope(c, s, s->head_dim, 500000.0));
    if (s->n_ropes == 1 && s->ropes[0].kind != PS_ROPE_DEFAULT) { // scaled on full layers alone
        s->n_ropes = 2;
        s->ropes[1] = (ps_rope){.kind = PS_ROPE_DEFAULT,
                                .dims = s->ropes[0].dims,
                                .base = s->ropes[0].base,
                                .magnitude = 1.0};
    }
    PS_TRY(ps_read_windows(c, s, window, ps_slides_but_every, 4));
    ps_give_ropes(s);
    return PS_OK;
}

static ps_err read_cohere_block(ps_config *c, ps_import *m)
{
    ps_spec *s = &m->spec;
    PS_TRY(ps_read_sizes(c, s, &ps_size_keys_llama));
    PS_TRY(ps_read_norm(c, s, PS_NORM_LAYER, "layer_norm_eps", 1e-5));
    PS_TRY(ps_read_activation(c, s, "hidden_act", "silu"));
    PS_TRY(ps_read_attention_bias(c, s, false));
    s->logit_scale = 0.0625;
    PS_TRY(ps_config_real(c, "logit_scale", &s->logit_scale));
    s->parallel = s->shared_norm = true;
    m->interleaved = true;
    return PS_OK;
}

static ps_err read_cohere(ps_config *c, ps_import *m)
{
    bool qk_norm = false;
    PS_TRY(read_cohere_block(c, m));
    PS_TRY(ps_config_bool(c, "use_qk_norm", &qk_norm));
    if (qk_norm) m->spec.qk_norm = PS_QK_NORM_HEADS;
    return read_positions(c, &m->spec, 1e4, 0);
}

/* Keys of the first release, which say what the block is anyway. */
static ps_err check_cohere2_block(ps_config *c)
{
    const char *order = "local_attn_first", *positions = "rope_gptj";
    PS_TRY(ps_config_text(c, "order_of_interleaved_layers", &order));
    PS_TRY(ps_config_text(c, "position_embedding_type", &positions));
    if (strcmp(order, "local_attn_first") != 0 || strcmp(positions, "rope_gptj") != 0)
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: %s with %s is not computed here", c->path, order,
                       positions);
    (void)ps_config_take(c, "use_parallel_embedding"); // of runs over several devices
    PS_TRY(ps_want_flag(c, "use_embedding_sharing", true));
    PS_TRY(ps_want_flag(c, "use_gated_activation", true));
    PS_TRY(ps_want_flag(c, "use_qk_norm", false));
    return ps_want_flag(c, "use_parallel_block", true);
}

/* Windowed layers rotate, full ones do not. */
static ps_err read_cohere2(ps_config *c, ps_import *m)
{
    ps_spec *s = &m->spec;
    int window, pattern = 4;
    PS_TRY(read_cohere_block(c, m));
    PS_TRY(check_cohere2_block(c));
    PS_TRY(ps_read_window(c, 4096, &window));
    PS_TRY(ps_config_int(c, "layer_switch", 1, INT32_MAX, &pattern));
    PS_TRY(ps_config_int(c, "_sliding_window_pattern", 1, INT32_MAX, &pattern));
    PS_TRY(ps_config_int(c, "sliding_window_pattern", 1, INT32_MAX, &pattern));
    PS_TRY(ps_read_rope(c, s, s->head_dim, 1e4));
    PS_TRY(ps_read_windows(c, s, window, ps_slides_but_every, pattern));
    for (int l = 0; l < s->n_layers; l++) {
        s->layers[l].rope = s->layers[l].window > 0 ? 0 : -1;
    }
    return PS_OK;
}

static ps_err read_granite(ps_config *c, ps_import *m)
{
    ps_spec *s = &m->spec;
    double divisor = 1.0;
    PS_TRY(read_llama(c, m));
    s->attention_scale = 1.0;
    PS_TRY(ps_config_real(c, "attention_multiplier", &s->attention_scale));
    PS_TRY(ps_config_real(c, "embedding_multiplier", &s->embed_scale));
    PS_TRY(ps_config_real(c, "residual_multiplier", &s->residual_scale));
    PS_TRY(ps_config_real(c, "logits_scaling", &divisor));
    if (!(divisor > 0.0))
        return PS_FAIL(PS_ERR_FORMAT, "%s: logits_scaling is %g, wanted a positive number", c->path,
                       divisor);
    s->logit_scale = 1.0 / divisor;
    return PS_OK;
}

static ps_err read_stablelm(ps_config *c, ps_import *m)
{
    ps_spec *s = &m->spec;
    bool qk_norm = false;
    PS_TRY(ps_read_sizes(c, s, &ps_size_keys_llama));
    PS_TRY(ps_read_norm(c, s, PS_NORM_LAYER, "layer_norm_eps", 1e-5));
    PS_TRY(ps_read_activation(c, s, "hidden_act", "silu"));
    s->norm_bias = true;
    PS_TRY(ps_config_bool(c, "use_qkv_bias", &s->qkv_bias));
    PS_TRY(ps_config_bool(c, "qk_layernorm", &qk_norm));
    PS_TRY(ps_config_bool(c, "use_parallel_residual", &s->parallel));
    s->shared_norm = s->parallel;
    if (qk_norm) s->qk_norm = PS_QK_NORM_HEADS;
    rename_tensor(m, PS_ROLE_Q_NORM, LAYER "self_attn.q_layernorm.norms.%h.weight");
    rename_tensor(m, PS_ROLE_K_NORM, LAYER "self_attn.k_layernorm.norms.%h.weight");
    PS_TRY(ps_read_rope(c, s, s->head_dim / 4, 10000.0));
    PS_TRY(ps_read_windows(c, s, 0, ps_slides_never, 0));
    ps_give_ropes(s);
    return PS_OK;
}

static ps_err read_starcoder2(ps_config *c, ps_import *m)
{
    ps_spec *s = &m->spec;
    bool bias = true;
    int window;
    PS_TRY(ps_read_sizes(c, s, &ps_size_keys_llama));
    PS_TRY(ps_read_norm(c, s, PS_NORM_LAYER, "norm_epsilon", 1e-5));
    PS_TRY(ps_read_activation(c, s, "hidden_act", "gelu_pytorch_tanh"));
    PS_TRY(ps_config_bool(c, "use_bias", &bias));
    const char *norm_type = "layer_norm";
    PS_TRY(ps_config_text(c, "norm_type", &norm_type));
    if (strcmp(norm_type, "layer_norm") != 0)
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: norm_type %s is not computed here", c->path,
                       norm_type);
    s->norm_bias = true;
    s->qkv_bias = s->o_bias = s->mlp_bias = bias;
    s->gated = false;
    PS_TRY(ps_read_window(c, 0, &window));
    rename_tensor(m, PS_ROLE_UP, LAYER "mlp.c_fc.weight");
    rename_tensor(m, PS_ROLE_UP_BIAS, LAYER "mlp.c_fc.bias");
    rename_tensor(m, PS_ROLE_DOWN, LAYER "mlp.c_proj.weight");
    rename_tensor(m, PS_ROLE_DOWN_BIAS, LAYER "mlp.c_proj.bias");
    return read_positions(c, s, 1e4, window);
}

/* 7B has RoPE and says max_position_embeddings; 13B has ALiBi and says model_max_length. The
 * second generation (z_loss_weight, or its vocabulary of 125696) scales the rows of the head to
 * length 1. */
static ps_err read_baichuan(ps_config *c, ps_import *m)
{
    ps_spec *s = &m->spec;
    static const char pack[] = LAYER "self_attn.W_pack.weight";
    const bool rotary = json_is_integer(json_object_get(c->root, "max_position_embeddings"));
    int longest = 0;
    PS_TRY(read_common(c, s, 1e-6));
    PS_TRY(ps_config_int(c, "model_max_length", 1, INT32_MAX, &longest));
    if (s->context == 0) s->context = longest;
    m->unit_head_rows = ps_config_take(c, "z_loss_weight") != NULL || s->vocab_size == 125696;
    m->from[PS_ROLE_Q] = m->from[PS_ROLE_K] = m->from[PS_ROLE_V] =
        (ps_tensor_from){pack, PS_ROWS_QKV, false};
    PS_TRY(read_positions(c, s, 1e4, 0));
    if (!rotary) ps_give_alibi(s, 8.0, 1.0);
    return PS_OK;
}

const ps_family ps_families_llama[] = {
    {"llama", read_llama, ps_from_llama, false},
    {"mistral", read_mistral, ps_from_llama, false},
    {"mixtral", read_mixtral, ps_from_llama, false},
    {"qwen2", read_qwen2, ps_from_llama, false},
    {"qwen3", read_qwen3, ps_from_llama, false},
    {"qwen3_moe", read_qwen3_moe, ps_from_llama, false},
    {"gpt_oss", read_gpt_oss, ps_from_llama, false},
    {"gemma", read_gemma, ps_from_llama, true},
    {"gemma2", read_gemma2, ps_from_llama, true},
    {"gemma3_text", read_gemma3, ps_from_llama, true},
    {"phi3", read_phi3, ps_from_llama, false},
    {"smollm3", read_smollm3, ps_from_llama, true},
    {"olmo2", read_olmo2, ps_from_llama, false},
    {"olmo3", read_olmo3, ps_from_llama, false},
    {"cohere", read_cohere, ps_from_llama, true},
    {"cohere2", read_cohere2, ps_from_llama, true},
    {"granite", read_granite, ps_from_llama, false},
    {"stablelm", read_stablelm, ps_from_llama, false},
    {"starcoder2", read_starcoder2, ps_from_llama, true},
    {"baichuan", read_baichuan, ps_from_llama, false},
    {0},
};
