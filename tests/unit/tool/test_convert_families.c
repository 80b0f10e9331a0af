/* Conversion of whole directories of all families: where each value ends up, names in short, and
 * what is refused. What the values mean is tests/golden's affair. */
#include "foreign_model.h"
#include "support/same_model.h"

#define SMALL(model_type, rest)                                                                    \
    "{'model_type': '" model_type "', 'hidden_size': 24, 'intermediate_size': 20, "                \
    "'num_hidden_layers': 2, 'num_attention_heads': 2, 'vocab_size': 30" rest "}"
#define GPT2(rest)                                                                                 \
    "{'model_type': 'gpt2', 'n_embd': 24, 'n_layer': 2, 'n_head': 2, 'vocab_size': 30, "           \
    "'n_positions': 10" rest "}"
#define OPT                                                                                        \
    "{'model_type': 'opt', 'hidden_size': 24, 'ffn_dim': 20, 'num_hidden_layers': 2, "             \
    "'num_attention_heads': 2, 'vocab_size': 30, 'max_position_embeddings': 10}"
#define MIXTRAL SMALL("mixtral", ", 'num_local_experts': 3")
#define GPT_OSS                                                                                    \
    SMALL("gpt_oss", ", 'rope_scaling': null, 'num_local_experts': 3, "                            \
                     "'num_experts_per_tok': 2")

static foreign_model convert(const char *config)
{
    foreign_model m = foreign_make(config);
    foreign_write(&m);
    assert_ok(ps_convert_directory("dir", "m.h5", NULL));
    return m;
}

/* Value `index` of a source tensor. */
static float value_of(foreign_model *m, const char *name, size_t index)
{
    const foreign_tensor *t = foreign_at(m, name);
    ck_assert_uint_lt(index, foreign_values(t));
    return 10000.0f * (float)t->number + (float)index;
}

/* ---- every family ---- */

static const char *const configs[] = {
    SMALL("llama", ", 'attention_bias': true, 'mlp_bias': true"),
    SMALL("mistral", ""),
    MIXTRAL,
    SMALL("qwen2", ""),
    SMALL("qwen3", ", 'tie_word_embeddings': true"),
    SMALL("qwen3_moe", ", 'moe_intermediate_size': 7, 'num_experts': 3, 'num_experts_per_tok': 2, "
                       "'mlp_only_layers': [0]"),
    GPT_OSS,
    SMALL("gemma", ""),
    SMALL("gemma2", ""),
    SMALL("gemma3_text", ""),
    SMALL("phi3", ""),
    SMALL("smollm3", ""),
    SMALL("olmo2", ""),
    SMALL("olmo3", ""),
    SMALL("cohere", ", 'use_qk_norm': true"),
    SMALL("cohere2", ""),
    SMALL("granite", ""),
    SMALL("stablelm", ", 'head_dim': 16, 'qk_layernorm': true, 'use_qkv_bias': true"),
    SMALL("starcoder2", ""),
    SMALL("baichuan", ""),
    SMALL("relpos_llama", ", 'attention_score_bias': 'rel_pos'"),
    SMALL("relpos_llama", ", 'attention_score_bias': ['t5', 'kerple_log', 'kerple_power', "
                          "{'kind': 'fire', 'width': 3}], 'attention_bias': true, "
                          "'output_gate': 'elements', 'quiet_softmax': true"),
    SMALL("relpos_llama", ", 'layer_score_biases': [['sandwich', 'fox', 'alibi'], 'none'], "
                          "'output_gate': 'heads', 'attention_sinks': true"),
    "{'model_type': 'forgetting_transformer-project_fox', 'hidden_size': 24, "
    "'intermediate_size': 20, 'num_hidden_layers': 2, 'num_heads': 2, 'vocab_size': 30, "
    "'use_output_gate': true}",
    GPT2(""),
    "{'model_type': 'gptj', 'n_embd': 24, 'n_layer': 2, 'n_head': 2, 'vocab_size': 30}",
    SMALL("gpt_neox", ", 'rotary_pct': 0.5"),
    "{'model_type': 'bloom', 'hidden_size': 24, 'n_layer': 2, 'n_head': 2, 'vocab_size': 30}",
    "{'model_type': 'falcon', 'hidden_size': 24, 'num_hidden_layers': 2, 'num_attention_heads': 4, "
    "'vocab_size': 30, 'new_decoder_architecture': true, 'num_kv_heads': 2, 'bias': true}",
    "{'model_type': 'espnet_encoder', 'output_size': 24, 'attention_heads': 2, 'linear_units': 20, "
    "'num_blocks': 2, 'vocab_size': 30, 'input_layer': 'embed', 'rel_pos_type': 'latest', "
    "'use_cnn_module': false}",
    "{'model_type': 'mpt', 'd_model': 24, 'n_layers': 2, 'n_heads': 2, 'vocab_size': 30, "
    "'attn_config': {'alibi': true}}",
    SMALL("phi", ""),
    OPT,
};

/* Each role's values are some tensor's, all of them different; together they are all that the
 * source has, but for positions that are never used. */
START_TEST(every_value_of_the_source_arrives_once)
{
    foreign_model m = convert(configs[_i]);
    ps_import import = import_of(configs[_i]);
    size_t sizes[FOREIGN_MAX], wanted = 0, found = 0;
    char *seen[FOREIGN_MAX];
    for (int i = 0; i < m.n; i++) {
        sizes[i] = foreign_values(&m.tensors[i]);
        seen[i] = ps_mem_new(sizes[i], 1);
        wanted += sizes[i];
    }
    int cursor = 0;
    ps_tensor_need next, need;
    while (ps_tensor_next(&import.spec, &cursor, &next)) {
        float *values = converted_values(next.role, next.layer, &need);
        const bool more = import.norm_plus_one && !next.panel; // they have no other vectors
        for (size_t i = 0; i < (size_t)need.count * (size_t)need.n * (size_t)need.k; i++) {
            const int value = (int)values[i] - more;
            ck_assert_int_lt(value / 10000, m.n);
            ck_assert_uint_lt((size_t)(value % 10000), sizes[value / 10000]);
            ck_assert_int_eq(seen[value / 10000][value % 10000]++, 0);
            found++;
        }
        ps_mem_free(values);
    }
    ck_assert_uint_eq(found + (size_t)import.skip_positions * 24, wanted);
    for (int i = 0; i < m.n; i++) {
        ps_mem_free(seen[i]);
    }
    ps_spec_release(&import.spec);
}
END_TEST

/* Files of a bare model leave out the first part of their names. */
START_TEST(names_may_come_without_their_first_part)
{
    foreign_model m = foreign_make(configs[_i]);
    foreign_write(&m);
    assert_ok(ps_convert_directory("dir", "full.h5", NULL));
    for (int i = 0; i < m.n; i++) {
        const char *dot = strchr(m.tensors[i].name, '.');
        if (strncmp(m.tensors[i].name, "lm_head.", 8) == 0) continue;
        if (strncmp(m.tensors[i].name, "embed_out.", 10) == 0) continue;
        memmove(m.tensors[i].name, dot + 1, strlen(dot));
    }
    foreign_write(&m);
    assert_ok(ps_convert_directory("dir", "bare.h5", NULL));
    assert_same_model("full.h5", "bare.h5");
}
END_TEST

/* ---- single layouts ---- */

START_TEST(gpt2_stores_its_matrices_by_columns)
{
    foreign_model m = convert(GPT2(""));
    ps_tensor_need need;
    float *k = converted_values(PS_ROLE_K, 1, &need);
    ck_assert(need.n == 24 && need.k == 24);
    for (size_t row = 0; row < 24; row++) {
        for (size_t c = 0; c < 24; c++) { // [in, out], out being q, k, v
            const float wanted =
                value_of(&m, "transformer.h.1.attn.c_attn.weight", c * 72 + 24 + row);
            ck_assert(k[row * 24 + c] == wanted);
        }
    }
    ps_mem_free(k);
    float *bias = converted_values(PS_ROLE_V_BIAS, 0, &need);
    for (size_t row = 0; row < 24; row++) {
        ck_assert(bias[row] == value_of(&m, "transformer.h.0.attn.c_attn.bias", 48 + row));
    }
    ps_mem_free(bias);
    float *down = converted_values(PS_ROLE_DOWN, 1, &need);
    ck_assert(need.n == 24 && need.k == 96);
    ck_assert(down[5 * 96 + 90] == value_of(&m, "transformer.h.1.mlp.c_proj.weight", 90 * 24 + 5));
    ps_mem_free(down);
}
END_TEST

START_TEST(opt_begins_its_positions_at_the_third)
{
    foreign_model m = convert(OPT);
    ck_assert_uint_eq(foreign_at(&m, "model.decoder.embed_positions.weight")->shape[0], 12);
    ps_tensor_need need;
    float *positions = converted_values(PS_ROLE_POSITIONS, -1, &need);
    ck_assert_int_eq(need.n, 10);
    for (size_t i = 0; i < 240; i++) {
        ck_assert(positions[i] == value_of(&m, "model.decoder.embed_positions.weight", 2 * 24 + i));
    }
    ps_mem_free(positions);
}
END_TEST

START_TEST(experts_of_their_own_are_stacked_in_order)
{
    foreign_model m = convert(MIXTRAL);
    ps_tensor_need need;
    float *up = converted_values(PS_ROLE_EXPERT_UP, 1, &need);
    ck_assert(need.count == 3 && need.n == 20 && need.k == 24);
    for (size_t e = 0; e < 3; e++) {
        char name[80];
        snprintf(name, sizeof name, "model.layers.1.block_sparse_moe.experts.%zu.w3.weight", e);
        for (size_t i = 0; i < 480; i++) {
            ck_assert(up[e * 480 + i] == value_of(&m, name, i));
        }
    }
    ps_mem_free(up);
}
END_TEST

START_TEST(gpt_oss_interleaves_gate_and_up_of_stacked_experts)
{
    foreign_model m = convert(GPT_OSS);
    ps_tensor_need need;
    for (size_t up = 0; up < 2; up++) {
        float *matrix = converted_values(up ? PS_ROLE_EXPERT_UP : PS_ROLE_EXPERT_GATE, 1, &need);
        for (size_t e = 0; e < 3; e++) {
            for (size_t i = 0; i < 480; i++) { // [E][in 24][out 40]
                const size_t row = i / 24, column = i % 24;
                const size_t at = (e * 24 + column) * 40 + 2 * row + up;
                ck_assert(matrix[e * 480 + i] ==
                          value_of(&m, "model.layers.1.mlp.experts.gate_up_proj", at));
            }
        }
        ps_mem_free(matrix);
        const ps_role role = up ? PS_ROLE_EXPERT_UP_BIAS : PS_ROLE_EXPERT_GATE_BIAS;
        float *bias = converted_values(role, 0, &need);
        ck_assert(need.count == 3 && need.n == 20);
        for (size_t i = 0; i < 60; i++) {
            ck_assert(bias[i] == value_of(&m, "model.layers.0.mlp.experts.gate_up_proj_bias",
                                          i / 20 * 40 + 2 * (i % 20) + up));
        }
        ps_mem_free(bias);
    }
}
END_TEST

START_TEST(norms_of_each_head_are_put_one_behind_the_other)
{
    foreign_model m = convert(SMALL("stablelm", ", 'head_dim': 16, 'qk_layernorm': true"));
    ps_tensor_need need;
    float *norm = converted_values(PS_ROLE_Q_NORM, 1, &need);
    ck_assert_int_eq(need.n, 32);
    for (size_t i = 0; i < 32; i++) {
        char name[80];
        snprintf(name, sizeof name, "model.layers.1.self_attn.q_layernorm.norms.%zu.weight",
                 i / 16);
        ck_assert(norm[i] == value_of(&m, name, i % 16));
    }
    ps_mem_free(norm);
}
END_TEST

START_TEST(norms_of_gemma_have_their_one)
{
    foreign_model m = convert(SMALL("gemma2", ""));
    ps_tensor_need need;
    static const struct {
        ps_role role;
        const char *name;
    } norms[] = {
        {PS_ROLE_ATTENTION_NORM, "model.layers.1.input_layernorm.weight"},
        {PS_ROLE_ATTENTION_POST_NORM, "model.layers.1.post_attention_layernorm.weight"},
        {PS_ROLE_MLP_NORM, "model.layers.1.pre_feedforward_layernorm.weight"},
        {PS_ROLE_MLP_POST_NORM, "model.layers.1.post_feedforward_layernorm.weight"},
    };
    for (size_t i = 0; i < sizeof norms / sizeof norms[0]; i++) {
        float *norm = converted_values(norms[i].role, 1, &need);
        ck_assert(norm[23] == value_of(&m, norms[i].name, 23) + 1.0f);
        ps_mem_free(norm);
    }
}
END_TEST

/* The second generation of Baichuan; the head alone, not the embedding. */
START_TEST(rows_of_a_unit_head_have_length_one)
{
    foreign_model m = foreign_make(SMALL("baichuan", ", 'z_loss_weight': 0"));
    foreign_at(&m, "lm_head.weight")->dtype = PS_BF16;
    foreign_write(&m);
    assert_ok(ps_convert_directory("dir", "m.h5", NULL));
    ps_tensor_need need;
    float *head = converted_values(PS_ROLE_HEAD, -1, &need);
    for (size_t row = 0; row < 30; row++) {
        double squares = 0.0, stored = 0.0;
        float source[24];
        for (size_t i = 0; i < 24; i++) {
            char narrow[2];
            const float value = value_of(&m, "lm_head.weight", row * 24 + i);
            ps_dtype_narrow(PS_BF16, &value, 1, narrow);
            ps_dtype_widen(PS_BF16, narrow, 1, &source[i]);
            stored += (double)source[i] * (double)source[i];
            squares += (double)head[row * 24 + i] * (double)head[row * 24 + i];
        }
        ck_assert_double_eq_tol(squares, 1.0, 1e-6);
        for (size_t i = 0; i < 24; i++) {
            const float wanted = (float)((double)source[i] / sqrt(stored));
            ck_assert(head[row * 24 + i] == wanted);
        }
    }
    ps_mem_free(head);
    float *embed = converted_values(PS_ROLE_EMBED, -1, &need);
    ck_assert(embed[100] == value_of(&m, "model.embed_tokens.weight", 100));
    ps_mem_free(embed);
}
END_TEST

/* ---- refused ---- */

static void refuse_conversion(const foreign_model *m, ps_err code, const char *message)
{
    foreign_write(m);
    const ps_err err = ps_convert_directory("dir", "m.h5", NULL);
    ck_assert_str_eq(ps_err_name(err), ps_err_name(code));
    assert_message(message);
    ck_assert(!scratch_exists("m.h5"));
}

static void drop(foreign_model *m, const char *name)
{
    foreign_tensor *t = foreign_at(m, name);
    *t = m->tensors[--m->n];
}

START_TEST(a_missing_tensor_is_named_as_the_family_calls_it)
{
    static const struct {
        const char *config, *name;
    } cases[] = {
        {GPT2(""), "transformer.h.1.attn.c_attn.weight"},
        {OPT, "model.decoder.embed_positions.weight"},
        {MIXTRAL, "model.layers.1.block_sparse_moe.experts.2.w1.weight"},
        {MIXTRAL, "model.layers.0.block_sparse_moe.gate.weight"},
        {GPT_OSS, "model.layers.1.self_attn.sinks"},
        {GPT_OSS, "model.layers.0.mlp.experts.down_proj_bias"},
        {SMALL("gemma2", ""), "model.layers.1.post_feedforward_layernorm.weight"},
        {SMALL("stablelm", ", 'head_dim': 16, 'qk_layernorm': true"),
         "model.layers.0.self_attn.k_layernorm.norms.1.weight"},
        {SMALL("phi", ""), "lm_head.bias"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        foreign_model m = foreign_make(cases[i].config);
        char message[200];
        drop(&m, cases[i].name);
        snprintf(message, sizeof message, "dir: tensor %s is missing", cases[i].name);
        refuse_conversion(&m, PS_ERR_FORMAT, message);
    }
}
END_TEST

START_TEST(a_tensor_too_many_is_named)
{
    static const struct {
        const char *config, *name, *family;
    } cases[] = {
        {SMALL("olmo2", ""), "model.layers.0.input_layernorm.weight", "olmo2"},
        {SMALL("cohere", ""), "model.layers.0.post_attention_layernorm.weight", "cohere"},
        {MIXTRAL, "model.layers.0.block_sparse_moe.experts.3.w1.weight", "mixtral"},
        {SMALL("qwen2", ""), "model.layers.0.self_attn.o_proj.bias", "qwen2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        foreign_model m = foreign_make(cases[i].config);
        char message[200];
        foreign_add(&m, cases[i].name, 1, (size_t[]){3});
        snprintf(message, sizeof message,
                 "dir/model.safetensors: tensor %s belongs to no part of a %s model", cases[i].name,
                 cases[i].family);
        refuse_conversion(&m, PS_ERR_FORMAT, message);
    }
}
END_TEST

START_TEST(a_wrong_shape_is_named_with_the_one_that_was_wanted)
{
    static const struct {
        const char *config, *name;
        size_t shape[3];
        int n_dims;
        const char *shapes;
    } cases[] = {
        {GPT2(""), "transformer.h.1.attn.c_attn.weight", {72, 24}, 2, "[72,24], wanted [24,72]"},
        {OPT, "model.decoder.embed_positions.weight", {10, 24}, 2, "[10,24], wanted [12,24]"},
        {SMALL("phi3", ""),
         "model.layers.0.mlp.gate_up_proj.weight",
         {20, 24},
         2,
         "[20,24], wanted [40,24]"},
        {SMALL("baichuan", ""),
         "model.layers.0.self_attn.W_pack.weight",
         {24, 24},
         2,
         "[24,24], wanted [72,24]"},
        {GPT_OSS,
         "model.layers.1.mlp.experts.gate_up_proj",
         {3, 40, 24},
         3,
         "[3,40,24], wanted [3,24,40]"},
        {GPT_OSS,
         "model.layers.1.mlp.experts.down_proj",
         {4, 20, 24},
         3,
         "[4,20,24], wanted [3,20,24]"},
        {GPT_OSS,
         "model.layers.0.mlp.experts.gate_up_proj_bias",
         {3, 20},
         2,
         "[3,20], wanted [3,40]"},
        {MIXTRAL,
         "model.layers.0.block_sparse_moe.experts.1.w2.weight",
         {20, 24},
         2,
         "[20,24], wanted [24,20]"},
        {MIXTRAL,
         "model.layers.0.block_sparse_moe.experts.1.w2.weight",
         {480},
         1,
         "[480], wanted [24,20]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        foreign_model m = foreign_make(cases[i].config);
        foreign_tensor *t = foreign_at(&m, cases[i].name);
        char message[300];
        memcpy(t->shape, cases[i].shape, sizeof t->shape);
        t->n_dims = cases[i].n_dims;
        snprintf(message, sizeof message, "dir/model.safetensors: tensor %s is %s", cases[i].name,
                 cases[i].shapes);
        refuse_conversion(&m, PS_ERR_SHAPE, message);
    }
}
END_TEST

START_TEST(experts_of_unlike_formats_are_refused)
{
    foreign_model m = foreign_make(MIXTRAL);
    foreign_at(&m, "model.layers.0.block_sparse_moe.experts.2.w1.weight")->dtype = PS_BF16;
    refuse_conversion(&m, PS_ERR_UNSUPPORTED,
                      "dir/model.safetensors: tensor "
                      "model.layers.0.block_sparse_moe.experts.2.w1.weight is BF16, that of expert "
                      "0 is f32");
}
END_TEST

/* The numbers are those of the source, wherever the rows have gone. */
START_TEST(values_that_are_no_numbers_are_named_with_their_place_in_the_source)
{
    static const struct {
        const char *config, *name;
        size_t at;
    } cases[] = {
        {GPT2(""), "transformer.h.1.attn.c_attn.weight", 7 * 72 + 50},
        {GPT2(""), "transformer.h.1.attn.c_attn.bias", 71},
        {SMALL("phi3", ""), "model.layers.0.mlp.gate_up_proj.weight", 25 * 24 + 3},
        {SMALL("cohere", ""), "model.layers.0.self_attn.q_proj.weight", 7 * 24 + 3},
        {GPT_OSS, "model.layers.1.mlp.experts.gate_up_proj", 2 * 960 + 5 * 40 + 7},
        {GPT_OSS, "model.layers.1.mlp.experts.gate_up_proj_bias", 47},
        {OPT, "model.decoder.embed_positions.weight", 100},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        foreign_model m = foreign_make(cases[i].config);
        char message[300];
        size_t n;
        foreign_write(&m);
        char *file = scratch_read("dir/model.safetensors", &n);
        const float found = value_of(&m, cases[i].name, cases[i].at);
        const uint32_t nan = 0x7FC00000;
        char *at = memmem(file, n, &found, sizeof found);
        ck_assert_ptr_nonnull(at);
        memcpy(at, &nan, sizeof nan);
        scratch_write("dir/model.safetensors", file, n);
        ps_mem_free(file);
        ck_assert_int_eq(ps_convert_directory("dir", "m.h5", NULL), PS_ERR_NUMERIC);
        snprintf(message, sizeof message,
                 "dir/model.safetensors: tensor %s holds NaN or infinity at value %zu",
                 cases[i].name, cases[i].at);
        assert_message(message);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/convert families");
    TCase *all = scratch_case(suite, "all");
    const int n = (int)(sizeof configs / sizeof configs[0]);
    tcase_add_loop_test(all, every_value_of_the_source_arrives_once, 0, n);
    tcase_add_loop_test(all, names_may_come_without_their_first_part, 0, n);
    TCase *layouts = scratch_case(suite, "layouts");
    tcase_add_test(layouts, gpt2_stores_its_matrices_by_columns);
    tcase_add_test(layouts, opt_begins_its_positions_at_the_third);
    tcase_add_test(layouts, experts_of_their_own_are_stacked_in_order);
    tcase_add_test(layouts, gpt_oss_interleaves_gate_and_up_of_stacked_experts);
    tcase_add_test(layouts, norms_of_each_head_are_put_one_behind_the_other);
    tcase_add_test(layouts, norms_of_gemma_have_their_one);
    tcase_add_test(layouts, rows_of_a_unit_head_have_length_one);
    TCase *refused = scratch_case(suite, "refused");
    tcase_add_test(refused, a_missing_tensor_is_named_as_the_family_calls_it);
    tcase_add_test(refused, a_tensor_too_many_is_named);
    tcase_add_test(refused, a_wrong_shape_is_named_with_the_one_that_was_wanted);
    tcase_add_test(refused, experts_of_unlike_formats_are_refused);
    tcase_add_test(refused, values_that_are_no_numbers_are_named_with_their_place_in_the_source);
    return scratch_run(suite);
}
