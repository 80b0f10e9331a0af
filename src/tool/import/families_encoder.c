/* Encoders with relative positions: the lyric encoder of ACE-Step v1, alone or inside the
 * checkpoint of its diffusion model, and ESPnet's encoders for tokens. All are the same pre-norm
 * block; they differ in how a token becomes the first block's input, and in names. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tool/import/families_parts.h"

/* What all of them have: every layer sees the whole sequence and takes the relative bias; padding
 * can be hidden. */
static void give_encoder(ps_spec *s, double theta)
{
    s->encoder = true;
    s->norm = PS_NORM_LAYER;
    s->norm_bias = s->qkv_bias = s->o_bias = s->mlp_bias = true;
    s->gated = false;
    for (int l = 0; l < s->n_layers; l++) {
        s->layers[l].rope = -1;
        s->layers[l].look_ahead = true;
        s->layers[l].n_biases = 2;
        s->layers[l].biases[0] =
            (ps_bias_spec){.kind = PS_BIAS_REL_POS, .dim = s->d_model, .theta = theta};
        s->layers[l].biases[1] = (ps_bias_spec){.kind = PS_BIAS_KEY_MASK};
    }
}

static ps_err check_heads(const ps_config *c, const ps_spec *s)
{
    if (s->n_heads * s->head_dim == s->d_model) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "%s: %d heads of %d do not fill the width %d", c->path,
                   s->n_heads, s->head_dim, s->d_model);
}

/* ---- ACE-Step v1 ---- */

#define LYRIC "lyric_encoder.encoders.%d."

static const ps_tensor_from lyric_from[PS_ROLE_COUNT] = {
    [PS_ROLE_EMBED] = {.name = "lyric_embs.weight"},
    [PS_ROLE_EMBED_NORM] = {.name = "lyric_encoder.embed.out.1.weight"},
    [PS_ROLE_EMBED_NORM_BIAS] = {.name = "lyric_encoder.embed.out.1.bias"},
    [PS_ROLE_FINAL_NORM] = {.name = "lyric_encoder.after_norm.weight"},
    [PS_ROLE_FINAL_NORM_BIAS] = {.name = "lyric_encoder.after_norm.bias"},
    [PS_ROLE_HEAD] = {.name = "lyric_proj.weight"},
    [PS_ROLE_HEAD_BIAS] = {.name = "lyric_proj.bias"},
    [PS_ROLE_ATTENTION_NORM] = {.name = LYRIC "norm_mha.weight"},
    [PS_ROLE_ATTENTION_NORM_BIAS] = {.name = LYRIC "norm_mha.bias"},
    [PS_ROLE_Q] = {.name = LYRIC "self_attn.linear_q.weight"},
    [PS_ROLE_K] = {.name = LYRIC "self_attn.linear_k.weight"},
    [PS_ROLE_V] = {.name = LYRIC "self_attn.linear_v.weight"},
    [PS_ROLE_O] = {.name = LYRIC "self_attn.linear_out.weight"},
    [PS_ROLE_Q_BIAS] = {.name = LYRIC "self_attn.linear_q.bias"},
    [PS_ROLE_K_BIAS] = {.name = LYRIC "self_attn.linear_k.bias"},
    [PS_ROLE_V_BIAS] = {.name = LYRIC "self_attn.linear_v.bias"},
    [PS_ROLE_O_BIAS] = {.name = LYRIC "self_attn.linear_out.bias"},
    [PS_ROLE_REL_POS_W] = {.name = LYRIC "self_attn.linear_pos.weight"},
    [PS_ROLE_REL_POS_U] = {.name = LYRIC "self_attn.pos_bias_u"},
    [PS_ROLE_REL_POS_V] = {.name = LYRIC "self_attn.pos_bias_v"},
    [PS_ROLE_MLP_NORM] = {.name = LYRIC "norm_ff.weight"},
    [PS_ROLE_MLP_NORM_BIAS] = {.name = LYRIC "norm_ff.bias"},
    [PS_ROLE_UP] = {.name = LYRIC "feed_forward.w_1.weight"},
    [PS_ROLE_UP_BIAS] = {.name = LYRIC "feed_forward.w_1.bias"},
    [PS_ROLE_DOWN] = {.name = LYRIC "feed_forward.w_2.weight"},
    [PS_ROLE_DOWN_BIAS] = {.name = LYRIC "feed_forward.w_2.bias"},
};

/* x = sqrt(d) LayerNorm(W E[t] + b): W goes into the embedding, the root into the norm. */
static void give_lyric_parts(ps_import *m, double theta)
{
    ps_spec *s = &m->spec;
    give_encoder(s, theta);
    s->embed_norm = s->head_bias = true;
    m->embed_linear = "lyric_encoder.embed.out.0";
    m->embed_norm_factor = sqrt((double)s->d_model);
    m->own_prefix = "lyric_";
}

/* The encoder alone, with every size in its configuration. */
static ps_err read_lyric_encoder(ps_config *c, ps_import *m)
{
    static const ps_size_keys keys = {.width = {"hidden_size"},
                                      .ffn = {"ff_size"},
                                      .layers = {"num_blocks"},
                                      .heads = {"num_heads"},
                                      .head_dim = "head_dim"};
    ps_spec *s = &m->spec;
    double theta = 10000.0;
    const char *scale = "sqrt(hidden_size)";
    PS_TRY(ps_read_sizes(c, s, &keys));
    PS_TRY(check_heads(c, s));
    PS_TRY(ps_config_need_int(c, "proj_size", 1, PS_SPEC_WIDTH_MAX, &s->n_outputs));
    PS_TRY(ps_read_norm(c, s, PS_NORM_LAYER, "layer_norm_eps", 1e-5));
    PS_TRY(ps_read_activation(c, s, "activation", "silu"));
    PS_TRY(ps_config_real(c, "pos_base", &theta));
    PS_TRY(ps_config_text(c, "input_scale", &scale));
    if (strcmp(scale, "sqrt(hidden_size)") != 0)
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: input_scale %s is not computed here", c->path,
                       scale);
    // A window that its makers stream with; ours is named where it is used (encode --stream).
    (void)ps_config_take(c, "stream_window");
    give_lyric_parts(m, theta);
    return PS_OK;
}

/* Inside the whole model. Its configuration speaks of the diffusion part; the encoder's own numbers
 * are constants of the published class. */
static ps_err read_ace_step(ps_config *c, ps_import *m)
{
    enum { HEADS = 16, BLOCKS = 6, FF = 4096 };
    static const char *const diffusion[] = {
        "in_channels",     "inner_dim",          "max_height",        "max_position",
        "max_width",       "mlp_ratio",          "num_layers",        "out_channels",
        "patch_size",      "rope_theta",         "ssl_names",         "speaker_embedding_dim",
        "ssl_latent_dims", "text_embedding_dim", "ssl_encoder_depths"};
    ps_spec *s = &m->spec;
    int width = 0, heads = 0, head_dim = 0;
    PS_TRY(ps_config_need_int(c, "lyric_encoder_vocab_size", 1, PS_SPEC_VOCAB_MAX, &s->vocab_size));
    PS_TRY(ps_config_need_int(c, "lyric_hidden_size", HEADS, PS_SPEC_WIDTH_MAX, &width));
    PS_TRY(ps_config_need_int(c, "num_attention_heads", 1, 1024, &heads));
    PS_TRY(ps_config_need_int(c, "attention_head_dim", 1, PS_SPEC_WIDTH_MAX / 1024, &head_dim));
    for (size_t i = 0; i < sizeof diffusion / sizeof diffusion[0]; i++) {
        (void)ps_config_take(c, diffusion[i]);
    }
    snprintf(s->family, sizeof s->family, "acestep_lyric_encoder");
    s->d_model = width;
    s->n_heads = s->n_kv_heads = HEADS;
    s->head_dim = width / HEADS;
    PS_TRY(check_heads(c, s));
    s->attention_scale = 1.0 / sqrt((double)s->head_dim);
    s->d_ff = FF;
    s->n_outputs = heads * head_dim;
    s->norm_eps = 1e-5;
    s->activation = PS_ACTIVATION_SILU;
    ps_spec_take_layers(s, BLOCKS);
    give_lyric_parts(m, 10000.0);
    return PS_OK;
}

/* ---- ESPnet ---- */

#define ESPNET "encoder.encoders.%d."

static const ps_tensor_from espnet_from[PS_ROLE_COUNT] = {
    [PS_ROLE_EMBED] = {.name = "encoder.embed.0.weight"},
    [PS_ROLE_FINAL_NORM] = {.name = "encoder.after_norm.weight"},
    [PS_ROLE_FINAL_NORM_BIAS] = {.name = "encoder.after_norm.bias"},
    [PS_ROLE_ATTENTION_NORM] = {.name = ESPNET "norm_mha.weight"},
    [PS_ROLE_ATTENTION_NORM_BIAS] = {.name = ESPNET "norm_mha.bias"},
    [PS_ROLE_Q] = {.name = ESPNET "self_attn.linear_q.weight"},
    [PS_ROLE_K] = {.name = ESPNET "self_attn.linear_k.weight"},
    [PS_ROLE_V] = {.name = ESPNET "self_attn.linear_v.weight"},
    [PS_ROLE_O] = {.name = ESPNET "self_attn.linear_out.weight"},
    [PS_ROLE_Q_BIAS] = {.name = ESPNET "self_attn.linear_q.bias"},
    [PS_ROLE_K_BIAS] = {.name = ESPNET "self_attn.linear_k.bias"},
    [PS_ROLE_V_BIAS] = {.name = ESPNET "self_attn.linear_v.bias"},
    [PS_ROLE_O_BIAS] = {.name = ESPNET "self_attn.linear_out.bias"},
    [PS_ROLE_REL_POS_W] = {.name = ESPNET "self_attn.linear_pos.weight"},
    [PS_ROLE_REL_POS_U] = {.name = ESPNET "self_attn.pos_bias_u"},
    [PS_ROLE_REL_POS_V] = {.name = ESPNET "self_attn.pos_bias_v"},
    [PS_ROLE_MLP_NORM] = {.name = ESPNET "norm_ff.weight"},
    [PS_ROLE_MLP_NORM_BIAS] = {.name = ESPNET "norm_ff.bias"},
    [PS_ROLE_UP] = {.name = ESPNET "feed_forward.w_1.weight"},
    [PS_ROLE_UP_BIAS] = {.name = ESPNET "feed_forward.w_1.bias"},
    [PS_ROLE_DOWN] = {.name = ESPNET "feed_forward.w_2.weight"},
    [PS_ROLE_DOWN_BIAS] = {.name = ESPNET "feed_forward.w_2.bias"},
};

/* A text key of encoder_conf that has one value here; `fallback` is what its absence means. */
static ps_err want_text(ps_config *c, const char *key, const char *wanted, const char *fallback)
{
    const char *found = fallback;
    PS_TRY(ps_config_text(c, key, &found));
    if (strcmp(found, wanted) == 0) return PS_OK;
    return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: %s %s is not computed here, only %s", c->path, key,
                   found, wanted);
}

/* Conformer blocks have a convolution unless the configuration says otherwise. */
static ps_err want_no_convolution(ps_config *c)
{
    bool convolution = true;
    PS_TRY(ps_config_bool(c, "use_cnn_module", &convolution));
    (void)ps_config_take(c, "cnn_module_kernel");
    if (!convolution) return PS_OK;
    return PS_FAIL(PS_ERR_UNSUPPORTED,
                   "%s: use_cnn_module true (or absent) is not computed here: no convolutions",
                   c->path);
}

/* config.json holds encoder_conf as ESPnet writes it, and vocab_size. */
static ps_err read_espnet(ps_config *c, ps_import *m)
{
    static const ps_size_keys keys = {.width = {"output_size"},
                                      .ffn = {"linear_units"},
                                      .layers = {"num_blocks"},
                                      .heads = {"attention_heads"}};
    ps_spec *s = &m->spec;
    PS_TRY(want_text(c, "input_layer", "embed", "conv2d"));
    PS_TRY(want_text(c, "pos_enc_layer_type", "rel_pos", "rel_pos"));
    PS_TRY(want_text(c, "selfattention_layer_type", "rel_selfattn", "rel_selfattn"));
    PS_TRY(want_text(c, "rel_pos_type", "latest", "legacy"));
    PS_TRY(want_text(c, "positionwise_layer_type", "linear", "linear"));
    PS_TRY(ps_want_flag(c, "normalize_before", true));
    PS_TRY(ps_want_flag(c, "concat_after", false));
    PS_TRY(ps_want_flag(c, "macaron_style", false));
    PS_TRY(ps_want_flag(c, "zero_triu", false));
    PS_TRY(want_no_convolution(c));
    PS_TRY(ps_read_sizes(c, s, &keys));
    PS_TRY(check_heads(c, s));
    PS_TRY(ps_read_norm(c, s, PS_NORM_LAYER, "layer_norm_eps", 1e-12));
    PS_TRY(ps_read_activation(c, s, "activation_type", "swish"));
    static const char *const training[] = {"dropout_rate", "positional_dropout_rate",
                                           "attention_dropout_rate", "padding_idx",
                                           "stochastic_depth_rate"};
    for (size_t i = 0; i < sizeof training / sizeof training[0]; i++) {
        (void)ps_config_take(c, training[i]);
    }
    give_encoder(s, 10000.0);
    s->embed_scale = sqrt((double)s->d_model);
    m->own_prefix = "encoder";
    return PS_OK;
}

const ps_family ps_families_encoder[] = {
    {"acestep_lyric_encoder", read_lyric_encoder, lyric_from, false},
    {"ACEStepTransformer2DModel", read_ace_step, lyric_from, false},
    {"espnet_encoder", read_espnet, espnet_from, false},
    {0},
};
