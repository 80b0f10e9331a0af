/* Encoders: what their configurations say, where their tensors come from, and what happens to those
 * that are not simply copied. */
#include "foreign_model.h"

#define LYRIC(rest)                                                                                \
    "{'model_type': 'acestep_lyric_encoder', 'hidden_size': 24, 'num_heads': 2, 'head_dim': 12, "  \
    "'ff_size': 20, 'num_blocks': 4, 'vocab_size': 30, 'proj_size': 7" rest "}"
/* As it is published, but for its sizes. */
#define ACE_STEP(rest)                                                                             \
    "{'_class_name': 'ACEStepTransformer2DModel', '_diffusers_version': '0.32.2', "                \
    "'attention_head_dim': 5, 'in_channels': 8, 'inner_dim': 15, 'lyric_encoder_vocab_size': 30, " \
    "'lyric_hidden_size': 32, 'max_height': 16, 'max_position': 32768, 'max_width': 32768, "       \
    "'mlp_ratio': 2.5, 'num_attention_heads': 3, 'num_layers': 24, 'out_channels': 8, "            \
    "'patch_size': [16, 1], 'rope_theta': 1000000.0, 'speaker_embedding_dim': 512, "               \
    "'ssl_encoder_depths': [8, 8], 'ssl_latent_dims': [1024, 768], 'ssl_names': ['mert'], "        \
    "'text_embedding_dim': 768" rest "}"
#define ESPNET_SIZES                                                                               \
    "'output_size': 24, 'attention_heads': 2, 'linear_units': 20, 'num_blocks': 4, "               \
    "'vocab_size': 30"
#define ESPNET(rest)                                                                               \
    "{'model_type': 'espnet_encoder', 'input_layer': 'embed', 'rel_pos_type': 'latest', "          \
    "'use_cnn_module': false, " ESPNET_SIZES rest "}"

#define BLOCK                                                                                      \
    "'norm': 'layer',\n"                                                                           \
    "'norm_eps': 1e-05,\n"                                                                         \
    "'norm_bias': true,\n"                                                                         \
    "'qkv_bias': true,\n"                                                                          \
    "'o_bias': true,\n"                                                                            \
    "'mlp_bias': true,\n"                                                                          \
    "'gated': false,\n"

static const struct {
    const char *base, *config, *differences;
} readings[] = {
    {OF("llama", ""), LYRIC(""),
     BLOCK "'embed_norm': true,\n"
           "'head_bias': true,\n"
           "'encoder': true,\n"
           "'n_outputs': 7,\n"
           "'ropes': [],\n"
           "layers 0/-1+p+p 0/-1+p+p 0/-1+p+p 0/-1+p+p\n"},
    {LYRIC(""),
     LYRIC(", 'layer_norm_eps': 1e-3, 'activation': 'relu', 'pos_base': 100, "
           "'input_scale': 'sqrt(hidden_size)', 'stream_window': 16"),
     "'norm_eps': 0.001,\n"
     "'activation': 'relu',\n"},
    {LYRIC(""), ACE_STEP(""),
     "'n_layers': 6,\n"
     "'d_model': 32,\n"
     "'n_heads': 16,\n"
     "'n_kv_heads': 16,\n"
     "'head_dim': 2,\n"
     "'d_ff': 4096,\n"
     "'attention_scale': 0.7071067811865475,\n"
     "'n_outputs': 15,\n"
     "layers 0/-1+p+p 0/-1+p+p 0/-1+p+p 0/-1+p+p 0/-1+p+p 0/-1+p+p\n"},
    {LYRIC(""), ESPNET(""),
     "'norm_eps': 1e-12,\n"
     "'embed_scale': 4.898979485566356,\n"
     "'embed_norm': false,\n"
     "'head_bias': false,\n"
     "'n_outputs': 0,\n"},
};

enum { N_READINGS = sizeof readings / sizeof readings[0] };

START_TEST(configurations_fill_the_spec)
{
    assert_spec(readings[_i].base, readings[_i].config, readings[_i].differences);
}
END_TEST

START_TEST(every_layer_sees_the_whole_sequence_with_the_relative_bias)
{
    static const char *const configs[] = {LYRIC(", 'pos_base': 500"), ACE_STEP(""), ESPNET("")};
    for (int i = 0; i < 3; i++) {
        ps_import import = import_of(configs[i]);
        for (int l = 0; l < import.spec.n_layers; l++) {
            const ps_layer_spec *layer = &import.spec.layers[l];
            ck_assert(layer->look_ahead && layer->window == 0 && layer->chunk == 0);
            ck_assert_int_eq(layer->biases[0].kind, PS_BIAS_REL_POS);
            ck_assert_int_eq(layer->biases[0].dim, import.spec.d_model);
            ck_assert(layer->biases[0].theta == (i == 0 ? 500.0 : 10000.0));
            ck_assert_int_eq(layer->biases[1].kind, PS_BIAS_KEY_MASK);
        }
        ps_spec_release(&import.spec);
    }
}
END_TEST

START_TEST(tensors_have_the_names_of_their_makers)
{
    ps_import lyric = import_of(LYRIC("")), espnet = import_of(ESPNET(""));
    assert_name(&lyric, PS_ROLE_Q, "lyric_encoder.encoders.3.self_attn.linear_q.weight");
    assert_name(&lyric, PS_ROLE_REL_POS_W, "lyric_encoder.encoders.3.self_attn.linear_pos.weight");
    assert_name(&lyric, PS_ROLE_REL_POS_U, "lyric_encoder.encoders.3.self_attn.pos_bias_u");
    assert_name(&lyric, PS_ROLE_MLP_NORM, "lyric_encoder.encoders.3.norm_ff.weight");
    assert_name(&lyric, PS_ROLE_DOWN_BIAS, "lyric_encoder.encoders.3.feed_forward.w_2.bias");
    assert_name(&lyric, PS_ROLE_EMBED_NORM, "lyric_encoder.embed.out.1.weight");
    assert_name(&lyric, PS_ROLE_HEAD, "lyric_proj.weight");
    assert_name(&espnet, PS_ROLE_REL_POS_V, "encoder.encoders.3.self_attn.pos_bias_v");
    assert_name(&espnet, PS_ROLE_ATTENTION_NORM, "encoder.encoders.3.norm_mha.weight");
    assert_name(&espnet, PS_ROLE_EMBED, "encoder.embed.0.weight");
    ps_spec_release(&lyric.spec);
    ps_spec_release(&espnet.spec);
}
END_TEST

static const struct {
    const char *config;
    ps_err code;
    const char *message;
} refusals[] = {
    {"{'model_type': 'acestep_lyric_encoder', 'hidden_size': 24, 'num_heads': 5, 'ff_size': 20, "
     "'num_blocks': 4, 'vocab_size': 30, 'proj_size': 7}",
     PS_ERR_FORMAT, "config.json: 5 heads of 4 do not fill the width 24"},
    {LYRIC(", 'input_scale': '1'"), PS_ERR_UNSUPPORTED,
     "config.json: input_scale 1 is not computed here"},
    {LYRIC(", 'conv_kernel': 15"), PS_ERR_UNSUPPORTED,
     "config.json: key conv_kernel is not understood, and it may change the computation"},
    {ESPNET(", 'macaron_style': true"), PS_ERR_UNSUPPORTED,
     "config.json: macaron_style true is not computed here"},
    {ESPNET(", 'normalize_before': false"), PS_ERR_UNSUPPORTED,
     "config.json: normalize_before false is not computed here"},
    {"{'model_type': 'espnet_encoder', 'rel_pos_type': 'latest', 'input_layer': "
     "'embed', " ESPNET_SIZES "}",
     PS_ERR_UNSUPPORTED,
     "config.json: use_cnn_module true (or absent) is not computed here: no convolutions"},
    {"{'model_type': 'espnet_encoder', 'rel_pos_type': 'latest', 'use_cnn_module': "
     "false, " ESPNET_SIZES "}",
     PS_ERR_UNSUPPORTED, "config.json: input_layer conv2d is not computed here, only embed"},
    {"{'model_type': 'espnet_encoder', 'input_layer': 'embed', 'use_cnn_module': "
     "false, " ESPNET_SIZES "}",
     PS_ERR_UNSUPPORTED, "config.json: rel_pos_type legacy is not computed here, only latest"},
};

enum { N_REFUSALS = sizeof refusals / sizeof refusals[0] };

START_TEST(what_is_not_computed_is_refused)
{
    refuse(refusals[_i].config, refusals[_i].code, refusals[_i].message);
}
END_TEST

/* ---- conversion ---- */

/* Small numbers that differ from tensor to tensor. */
static double small_value(void *arg, const foreign_tensor *t, size_t i)
{
    (void)arg;
    return (double)((i * 7 + (size_t)t->number * 5) % 23) / 16.0 - 0.7;
}

static foreign_model lyric_model(const char *config, size_t width)
{
    foreign_model m = foreign_make(config);
    m.value = small_value;
    foreign_add(&m, "lyric_encoder.embed.out.0.weight", 2, (const size_t[]){width, width});
    foreign_add(&m, "lyric_encoder.embed.out.0.bias", 1, &width);
    return m;
}

static float at(foreign_model *m, const char *name, size_t i)
{
    return foreign_value(m, foreign_at(m, name), i);
}

/* Every value of E' = E W^T + b, and of the norm times the square root of the width. */
static void check_folded(foreign_model *m, size_t width)
{
    ps_tensor_need need;
    const double root = sqrt((double)width);
    float *embed = converted_values(PS_ROLE_EMBED, -1, &need);
    for (size_t row = 0; row < 30; row++) {
        for (size_t i = 0; i < width; i++) {
            double sum = 0.0;
            for (size_t k = 0; k < width; k++) {
                sum += (double)at(m, "lyric_embs.weight", row * width + k) *
                       (double)at(m, "lyric_encoder.embed.out.0.weight", i * width + k);
            }
            sum += (double)at(m, "lyric_encoder.embed.out.0.bias", i);
            ck_assert(embed[row * width + i] == (float)sum);
        }
    }
    float *weight = converted_values(PS_ROLE_EMBED_NORM, -1, &need);
    float *bias = converted_values(PS_ROLE_EMBED_NORM_BIAS, -1, &need);
    for (size_t i = 0; i < width; i++) {
        const double w = (double)at(m, "lyric_encoder.embed.out.1.weight", i);
        const double b = (double)at(m, "lyric_encoder.embed.out.1.bias", i);
        ck_assert(weight[i] == (float)(root * w) && bias[i] == (float)(root * b));
    }
    ps_mem_free(bias);
    ps_mem_free(weight);
    ps_mem_free(embed);
}

START_TEST(the_input_layer_goes_into_the_embedding_and_the_scale_into_its_norm)
{
    foreign_model m = lyric_model(LYRIC(""), 24);
    foreign_write(&m);
    assert_ok(ps_convert_directory("dir", "m.h5", NULL));
    check_folded(&m, 24);
}
END_TEST

START_TEST(an_encoder_is_found_inside_the_checkpoint_of_its_model)
{
    foreign_model m = lyric_model(ACE_STEP(""), 32);
    foreign_add(&m, "transformer_blocks.0.attn.to_q.weight", 2, (const size_t[]){15, 15});
    foreign_add(&m, "proj_in.early_conv_layers.0.weight", 4, (const size_t[]){2, 2, 2, 1});
    foreign_add(&m, "genre_embedder.bias", 1, (const size_t[]){15});
    // As the published files are called.
    foreign_write_as(&m, "dir/diffusion_pytorch_model.safetensors");
    assert_ok(ps_convert_directory("dir", "m.h5", NULL));
    check_folded(&m, 32);
    ps_ckpt ckpt;
    assert_ok(ps_ckpt_open("m.h5", &ckpt));
    ck_assert_str_eq(ckpt.spec.family, "acestep_lyric_encoder");
    ps_ckpt_close(&ckpt);
}
END_TEST

START_TEST(convolutions_and_second_feed_forward_parts_are_refused_by_name)
{
    static const char *const names[] = {
        "lyric_encoder.encoders.1.conv_module.pointwise_conv1.weight",
        "lyric_encoder.encoders.1.feed_forward_macaron.w_1.weight",
        "lyric_encoder.encoders.1.norm_final.weight"};
    foreign_model m = lyric_model(LYRIC(""), 24);
    foreign_add(&m, names[_i], 1, (const size_t[]){24});
    foreign_write(&m);
    ck_assert_int_eq(ps_convert_directory("dir", "m.h5", NULL), PS_ERR_FORMAT);
    assert_mentions(names[_i]);
    assert_mentions("belongs to no part of a acestep_lyric_encoder model");
    ck_assert(!scratch_exists("m.h5"));
}
END_TEST

START_TEST(convolutions_of_espnet_are_refused_by_name)
{
    foreign_model m = foreign_make(ESPNET(""));
    m.value = small_value;
    foreign_write(&m);
    assert_ok(ps_convert_directory("dir", "m.h5", NULL));
    foreign_add(&m, "encoder.encoders.0.conv_module.norm.weight", 1, (const size_t[]){24});
    foreign_write(&m);
    ck_assert_int_eq(ps_convert_directory("dir", "m2.h5", NULL), PS_ERR_FORMAT);
    assert_mentions("encoder.encoders.0.conv_module.norm.weight");
}
END_TEST

START_TEST(a_missing_input_layer_and_one_of_another_shape_are_refused)
{
    foreign_model m = foreign_make(LYRIC(""));
    m.value = small_value;
    foreign_write(&m);
    ck_assert_int_eq(ps_convert_directory("dir", "m.h5", NULL), PS_ERR_FORMAT);
    assert_message("dir: tensor lyric_encoder.embed.out.0.weight is missing");
    foreign_add(&m, "lyric_encoder.embed.out.0.weight", 2, (const size_t[]){24, 23});
    foreign_add(&m, "lyric_encoder.embed.out.0.bias", 1, (const size_t[]){24});
    foreign_write(&m);
    ck_assert_int_eq(ps_convert_directory("dir", "m.h5", NULL), PS_ERR_SHAPE);
    assert_mentions("lyric_encoder.embed.out.0.weight has another shape than [24,24]");
}
END_TEST

static double not_finite(void *arg, const foreign_tensor *t, size_t i)
{
    return strcmp(t->name, "lyric_encoder.embed.out.0.weight") == 0 && i == 50
               ? (double)INFINITY
               : small_value(arg, t, i);
}

START_TEST(an_input_layer_that_is_not_finite_is_refused)
{
    foreign_model m = lyric_model(LYRIC(""), 24);
    m.value = not_finite;
    foreign_write(&m);
    ck_assert_int_eq(ps_convert_directory("dir", "m.h5", NULL), PS_ERR_NUMERIC);
    assert_mentions("lyric_encoder.embed.out.0.weight holds NaN or infinity at value 50");
}
END_TEST

START_TEST(a_folded_embedding_takes_the_type_that_is_asked_for)
{
    foreign_model m = lyric_model(LYRIC(""), 24);
    foreign_at(&m, "lyric_embs.weight")->dtype = PS_BF16;
    foreign_write(&m);
    const ps_dtype types[] = {PS_F32, PS_F16};
    const ps_convert_options half = {.has_type = true, .type = PS_F16};
    for (int i = 0; i < 2; i++) {
        ps_ckpt ckpt;
        assert_ok(ps_convert_directory("dir", "m.h5", i ? &half : NULL));
        assert_ok(ps_ckpt_open("m.h5", &ckpt));
        ck_assert_int_eq(ps_ckpt_find(&ckpt, PS_ROLE_EMBED, -1)->dtype, types[i]);
        ps_ckpt_close(&ckpt);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/families_encoder");
    TCase *tcase = scratch_case(suite, "encoders");
    tcase_add_loop_test(tcase, configurations_fill_the_spec, 0, N_READINGS);
    tcase_add_test(tcase, every_layer_sees_the_whole_sequence_with_the_relative_bias);
    tcase_add_test(tcase, tensors_have_the_names_of_their_makers);
    tcase_add_loop_test(tcase, what_is_not_computed_is_refused, 0, N_REFUSALS);
    tcase_add_test(tcase, the_input_layer_goes_into_the_embedding_and_the_scale_into_its_norm);
    tcase_add_test(tcase, an_encoder_is_found_inside_the_checkpoint_of_its_model);
    tcase_add_loop_test(tcase, convolutions_and_second_feed_forward_parts_are_refused_by_name, 0,
                        3);
    tcase_add_test(tcase, convolutions_of_espnet_are_refused_by_name);
    tcase_add_test(tcase, a_missing_input_layer_and_one_of_another_shape_are_refused);
    tcase_add_test(tcase, an_input_layer_that_is_not_finite_is_refused);
    tcase_add_test(tcase, a_folded_embedding_takes_the_type_that_is_asked_for);
    return scratch_run(suite);
}
