/* The families with names of their own one by one, as test_families_llama.c does it. */
#include "family_reading.h"

/* Sizes in the spellings of GPT-2 and GPT-J, of BLOOM, and of MPT. */
#define GPT(model_type, rest)                                                                      \
    "{'model_type': '" model_type                                                                  \
    "', 'n_embd': 24, 'n_layer': 4, 'n_head': 2, 'vocab_size': 30" rest "}"
#define BLOOM(rest)                                                                                \
    "{'model_type': 'bloom', 'hidden_size': 24, 'n_layer': 4, 'n_head': 2, 'vocab_size': 30" rest  \
    "}"
#define FALCON(rest)                                                                               \
    "{'model_type': 'falcon', 'hidden_size': 24, 'num_hidden_layers': 4, 'num_attention_heads': "  \
    "4, "                                                                                          \
    "'vocab_size': 30" rest "}"
#define MPT(attention, rest)                                                                       \
    "{'model_type': 'mpt', 'd_model': 24, 'n_layers': 4, 'n_heads': 2, 'vocab_size': 30, "         \
    "'attn_config': {'alibi': true" attention "}" rest "}"
#define OPT(rest)                                                                                  \
    "{'model_type': 'opt', 'hidden_size': 24, 'ffn_dim': 20, 'num_hidden_layers': 4, "             \
    "'num_attention_heads': 2, 'vocab_size': 30" rest "}"
#define LLAMA OF("llama", "")

static const struct {
    const char *base, *config, *differences;
} readings[] = {
    {LLAMA, GPT("gpt2", ""),
     "'d_ff': 96,\n"
     "'norm': 'layer',\n"
     "'norm_eps': 1e-05,\n"
     "'norm_bias': true,\n"
     "'qkv_bias': true,\n"
     "'o_bias': true,\n"
     "'mlp_bias': true,\n"
     "'activation': 'gelu_tanh',\n"
     "'gated': false,\n"
     "'n_positions': 1024,\n"
     "'tied_head': true,\n"
     "'context': 1024,\n"
     "'ropes': [],\n"
     "layers 0/-1 0/-1 0/-1 0/-1\n"},
    {GPT("gpt2", ""),
     GPT("gpt2", ", 'n_ctx': 64, 'n_positions': 64, 'n_inner': 50, 'layer_norm_epsilon': 1e-3, "
                 "'activation_function': 'relu', 'scale_attn_weights': false, "
                 "'scale_attn_by_inverse_layer_idx': false, 'reorder_and_upcast_attn': false, "
                 "'tie_word_embeddings': false, 'add_cross_attention': false"),
     "'d_ff': 50,\n"
     "'norm_eps': 0.001,\n"
     "'attention_scale': 1,\n"
     "'activation': 'relu',\n"
     "'n_positions': 64,\n"
     "'tied_head': false,\n"
     "'context': 64,\n"},
    {LLAMA, GPT("gptj", ""),
     "'d_ff': 96,\n"
     "'norm': 'layer',\n"
     "'norm_eps': 1e-05,\n"
     "'norm_bias': true,\n"
     "'parallel': true,\n"
     "'shared_norm': true,\n"
     "'mlp_bias': true,\n"
     "'activation': 'gelu_tanh',\n"
     "'gated': false,\n"
     "'head_bias': true,\n"},
    {GPT("gptj", ""),
     GPT("gptj", ", 'rotary_dim': 4, 'n_positions': 64, 'n_inner': null, 'rotary': true, "
                 "'activation_function': 'gelu', 'tie_word_embeddings': true"),
     "'activation': 'gelu',\n"
     "'tied_head': true,\n"
     "'context': 64,\n"
     "'ropes': [{'kind': 'default', 'dims': 4, 'base': 10000, 'magnitude': 1}],\n"},
    {LLAMA, OF("gpt_neox", ", 'rotary_pct': 0.5"),
     "'norm': 'layer',\n"
     "'norm_eps': 1e-05,\n"
     "'norm_bias': true,\n"
     "'parallel': true,\n"
     "'qkv_bias': true,\n"
     "'o_bias': true,\n"
     "'mlp_bias': true,\n"
     "'activation': 'gelu',\n"
     "'gated': false,\n"
     "'ropes': [{'kind': 'default', 'dims': 6, 'base': 10000, 'magnitude': 1}],\n"},
    {OF("gpt_neox", ", 'rotary_pct': 0.5"),
     OF("gpt_neox", ", 'rotary_pct': 1.0, 'rotary_emb_base': 5000, 'attention_bias': false, "
                    "'use_parallel_residual': false, 'hidden_act': 'gelu_fast', "
                    "'max_position_embeddings': 64, 'layer_norm_eps': 1e-3"),
     "'norm_eps': 0.001,\n"
     "'parallel': false,\n"
     "'qkv_bias': false,\n"
     "'o_bias': false,\n"
     "'activation': 'gelu_tanh',\n"
     "'context': 64,\n"
     "'ropes': [{'kind': 'default', 'dims': 12, 'base': 5000, 'magnitude': 1}],\n"},
    {LLAMA, BLOOM(""),
     "'d_ff': 96,\n"
     "'norm': 'layer',\n"
     "'norm_eps': 1e-05,\n"
     "'norm_bias': true,\n"
     "'qkv_bias': true,\n"
     "'o_bias': true,\n"
     "'mlp_bias': true,\n"
     "'activation': 'gelu_tanh',\n"
     "'gated': false,\n"
     "'embed_norm': true,\n"
     "'tied_head': true,\n"
     "'ropes': [],\n"
     "layers 0/-1+a 0/-1+a 0/-1+a 0/-1+a\n"},
    {BLOOM(""),
     BLOOM(", 'seq_length': 64, 'n_inner': null, 'n_embed': 24, 'num_attention_heads': 2, "
           "'num_hidden_layers': 4, 'apply_residual_connection_post_layernorm': false"),
     "'context': 64,\n"},
    {LLAMA, FALCON(""),
     "'n_heads': 4,\n"
     "'n_kv_heads': 1,\n"
     "'head_dim': 6,\n"
     "'d_ff': 96,\n"
     "'norm': 'layer',\n"
     "'norm_eps': 1e-05,\n"
     "'norm_bias': true,\n"
     "'parallel': true,\n"
     "'shared_norm': true,\n"
     "'attention_scale': 0.4082482904638631,\n"
     "'activation': 'gelu',\n"
     "'gated': false,\n"
     "'tied_head': true,\n"
     "'ropes': [{'kind': 'default', 'dims': 6, 'base': 10000, 'magnitude': 1}],\n"},
    {FALCON(""),
     FALCON(", 'multi_query': true, 'parallel_attn': true, 'bias': true, 'alibi': true, "
            "'ffn_hidden_size': 40, 'max_position_embeddings': 64, 'activation': 'gelu'"),
     "'d_ff': 40,\n"
     "'qkv_bias': true,\n"
     "'o_bias': true,\n"
     "'mlp_bias': true,\n"
     "'context': 64,\n"
     "'ropes': [],\n"
     "layers 0/-1+a 0/-1+a 0/-1+a 0/-1+a\n"},
    {FALCON(""), FALCON(", 'multi_query': false, 'parallel_attn': false, 'n_head': 4"),
     "'n_kv_heads': 4,\n"
     "'parallel': false,\n"
     "'shared_norm': false,\n"},
    {FALCON(""), FALCON(", 'new_decoder_architecture': true, 'num_kv_heads': 2"),
     "'n_kv_heads': 2,\n"
     "'shared_norm': false,\n"},
    {FALCON(""),
     FALCON(", 'new_decoder_architecture': true, 'n_head_kv': 2, 'num_ln_in_parallel_attn': 1, "
            "'rope_theta': 500042"),
     "'n_kv_heads': 2,\n"
     "'ropes': [{'kind': 'default', 'dims': 6, 'base': 500042, 'magnitude': 1}],\n"},
    {LLAMA, MPT("", ""),
     "'d_ff': 96,\n"
     "'norm': 'layer',\n"
     "'norm_eps': 1e-05,\n"
     "'activation': 'gelu',\n"
     "'gated': false,\n"
     "'tied_head': true,\n"
     "'ropes': [],\n"
     "layers 0/-1+a 0/-1+a 0/-1+a 0/-1+a\n"},
    {MPT("", ""),
     MPT(", 'alibi_bias_max': 16, 'clip_qkv': 6, 'softmax_scale': 0.5, 'kv_n_heads': 1, "
         "'qk_ln': false, 'prefix_lm': false, 'attn_impl': 'torch', 'attn_type': "
         "'multihead_attention', "
         "'attn_uses_sequence_id': false, 'attn_pdrop': 0",
         ", 'expansion_ratio': 2, 'max_seq_len': 64, 'logit_scale': 0.25, 'no_bias': true, "
         "'embedding_fraction': 1.0, 'learned_pos_emb': true, 'norm_type': 'layernorm'"),
     "'n_kv_heads': 1,\n"
     "'d_ff': 48,\n"
     "'attention_scale': 0.5,\n"
     "'qkv_clip': 6,\n"
     "'logit_scale': 0.25,\n"
     "'context': 64,\n"},
    {MPT("", ""), MPT("", ", 'logit_scale': 'inv_sqrt_d_model'"),
     "'logit_scale': 0.20412414523193154,\n"},
    {LLAMA, OF("phi", ""),
     "'norm': 'layer',\n"
     "'norm_eps': 1e-05,\n"
     "'norm_bias': true,\n"
     "'parallel': true,\n"
     "'shared_norm': true,\n"
     "'qkv_bias': true,\n"
     "'o_bias': true,\n"
     "'mlp_bias': true,\n"
     "'activation': 'gelu_tanh',\n"
     "'gated': false,\n"
     "'head_bias': true,\n"
     "'ropes': [{'kind': 'default', 'dims': 6, 'base': 10000, 'magnitude': 1}],\n"},
    {OF("phi", ""),
     OF("phi", ", 'partial_rotary_factor': 1.0, 'qk_layernorm': false, 'rope_theta': 5000, "
               "'num_key_value_heads': 1, 'hidden_act': 'gelu'"),
     "'n_kv_heads': 1,\n"
     "'activation': 'gelu',\n"
     "'ropes': [{'kind': 'default', 'dims': 12, 'base': 5000, 'magnitude': 1}],\n"},
    {LLAMA, OPT(""),
     "'norm': 'layer',\n"
     "'norm_eps': 1e-05,\n"
     "'norm_bias': true,\n"
     "'qkv_bias': true,\n"
     "'o_bias': true,\n"
     "'mlp_bias': true,\n"
     "'activation': 'relu',\n"
     "'gated': false,\n"
     "'n_positions': 2048,\n"
     "'tied_head': true,\n"
     "'context': 2048,\n"
     "'ropes': [],\n"
     "layers 0/-1 0/-1 0/-1 0/-1\n"},
    {OPT(""),
     OPT(", 'max_position_embeddings': 64, 'enable_bias': false, 'word_embed_proj_dim': 24, "
         "'do_layer_norm_before': true, 'layer_norm_elementwise_affine': true, "
         "'_remove_final_layer_norm': false, 'activation_function': 'gelu'"),
     "'qkv_bias': false,\n"
     "'o_bias': false,\n"
     "'mlp_bias': false,\n"
     "'activation': 'gelu',\n"
     "'n_positions': 64,\n"
     "'context': 64,\n"},
};

START_TEST(each_family_reads_its_keys)
{
    assert_spec(readings[_i].base, readings[_i].config, readings[_i].differences);
}
END_TEST

START_TEST(what_a_spec_does_not_say_is_with_the_import)
{
    static const struct {
        const char *config;
        bool interleaved;
        int skip_positions;
        double max_exponent, factor; // of ALiBi; 0: none
    } rows[] = {
        {GPT("gpt2", ""), false, 0, 0.0, 0.0},
        {GPT("gptj", ""), true, 0, 0.0, 0.0},
        {OF("gpt_neox", ", 'rotary_pct': 0.5"), false, 0, 0.0, 0.0},
        {BLOOM(""), false, 0, 8.0, 1.0},
        {FALCON(", 'alibi': true"), false, 0, 8.0, 0.4082482904638631},
        {MPT("", ""), false, 0, 8.0, 1.0},
        {MPT(", 'alibi_bias_max': 16", ""), false, 0, 16.0, 1.0},
        {OF("phi", ""), false, 0, 0.0, 0.0},
        {OPT(""), false, 2, 0.0, 0.0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ps_import import = import_of(rows[i].config);
        const ps_layer_spec *last = &import.spec.layers[3];
        ck_assert_int_eq(import.interleaved, rows[i].interleaved);
        ck_assert_int_eq(import.skip_positions, rows[i].skip_positions);
        ck_assert(!import.norm_plus_one && !import.unit_head_rows);
        ck_assert_int_eq(last->n_biases, rows[i].factor > 0.0);
        ck_assert(last->biases[0].max_exponent == rows[i].max_exponent);
        ck_assert(last->biases[0].factor == rows[i].factor);
        ps_spec_release(&import.spec);
    }
}
END_TEST

START_TEST(tensors_have_their_families_names_and_rows)
{
    static const struct {
        const char *config;
        ps_role role;
        const char *name;
        ps_rows_from rows;
        bool columns;
    } rows[] = {
        {GPT("gpt2", ""), PS_ROLE_K, "transformer.h.3.attn.c_attn.weight", PS_ROWS_QKV, true},
        {GPT("gpt2", ""), PS_ROLE_K_BIAS, "transformer.h.3.attn.c_attn.bias", PS_ROWS_QKV, false},
        {GPT("gpt2", ""), PS_ROLE_O, "transformer.h.3.attn.c_proj.weight", PS_ROWS_PLAIN, true},
        {GPT("gpt2", ""), PS_ROLE_DOWN, "transformer.h.3.mlp.c_proj.weight", PS_ROWS_PLAIN, true},
        {GPT("gpt2", ""), PS_ROLE_POSITIONS, "transformer.wpe.weight", PS_ROWS_PLAIN, false},
        {GPT("gptj", ""), PS_ROLE_UP, "transformer.h.3.mlp.fc_in.weight", PS_ROWS_PLAIN, false},
        {OF("gpt_neox", ", 'rotary_pct': 0.5"), PS_ROLE_V,
         "gpt_neox.layers.3.attention.query_key_value.weight", PS_ROWS_QKV_HEADS, false},
        {OF("gpt_neox", ", 'rotary_pct': 0.5"), PS_ROLE_HEAD, "embed_out.weight", PS_ROWS_PLAIN,
         false},
        {BLOOM(""), PS_ROLE_Q_BIAS, "transformer.h.3.self_attention.query_key_value.bias",
         PS_ROWS_QKV_HEADS, false},
        {BLOOM(""), PS_ROLE_EMBED_NORM, "transformer.word_embeddings_layernorm.weight",
         PS_ROWS_PLAIN, false},
        {FALCON(", 'multi_query': false"), PS_ROLE_Q,
         "transformer.h.3.self_attention.query_key_value.weight", PS_ROWS_QKV_HEADS, false},
        {FALCON(""), PS_ROLE_Q, "transformer.h.3.self_attention.query_key_value.weight",
         PS_ROWS_QKV, false},
        {FALCON(""), PS_ROLE_O, "transformer.h.3.self_attention.dense.weight", PS_ROWS_PLAIN,
         false},
        {FALCON(", 'new_decoder_architecture': true"), PS_ROLE_V_BIAS,
         "transformer.h.3.self_attention.query_key_value.bias", PS_ROWS_QKV_GROUPS, false},
        {FALCON(", 'new_decoder_architecture': true"), PS_ROLE_ATTENTION_NORM,
         "transformer.h.3.ln_attn.weight", PS_ROWS_PLAIN, false},
        {FALCON(", 'new_decoder_architecture': true"), PS_ROLE_MLP_NORM_BIAS,
         "transformer.h.3.ln_mlp.bias", PS_ROWS_PLAIN, false},
        {FALCON(", 'new_decoder_architecture': true, 'num_ln_in_parallel_attn': 1"),
         PS_ROLE_ATTENTION_NORM, "transformer.h.3.input_layernorm.weight", PS_ROWS_PLAIN, false},
        {MPT("", ""), PS_ROLE_V, "transformer.blocks.3.attn.Wqkv.weight", PS_ROWS_QKV, false},
        {OF("phi", ""), PS_ROLE_O_BIAS, "model.layers.3.self_attn.dense.bias", PS_ROWS_PLAIN,
         false},
        {OPT(""), PS_ROLE_MLP_NORM, "model.decoder.layers.3.final_layer_norm.weight", PS_ROWS_PLAIN,
         false},
        {OPT(""), PS_ROLE_FINAL_NORM, "model.decoder.final_layer_norm.weight", PS_ROWS_PLAIN,
         false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ps_import import = import_of(rows[i].config);
        assert_name(&import, rows[i].role, rows[i].name);
        ck_assert_int_eq(import.from[rows[i].role].rows, rows[i].rows);
        ck_assert_int_eq(import.from[rows[i].role].columns, rows[i].columns);
        ps_spec_release(&import.spec);
    }
}
END_TEST

static const struct {
    const char *config;
    ps_err code;
    const char *message;
} refusals[] = {
    {GPT("gpt2", ", 'n_ctx': 64, 'n_positions': 128"), PS_ERR_FORMAT,
     "config.json: n_positions is 128, but n_ctx is 64"},
    {"{'model_type': 'gpt2', 'n_embd': 24, 'n_layer': 4, 'n_head': 2}", PS_ERR_FORMAT,
     "config.json: key vocab_size is missing"},
    {"{'model_type': 'gpt2', 'n_layer': 4, 'n_head': 2, 'vocab_size': 30}", PS_ERR_FORMAT,
     "config.json: key n_embd is missing"},
    {GPT("gpt2", ", 'scale_attn_by_inverse_layer_idx': true"), PS_ERR_UNSUPPORTED,
     "config.json: scale_attn_by_inverse_layer_idx true is not computed here"},
    {GPT("gpt2", ", 'add_cross_attention': true"), PS_ERR_UNSUPPORTED,
     "config.json: add_cross_attention true is not computed here"},
    {GPT("gpt2", ", 'rope_theta': 10000"), PS_ERR_UNSUPPORTED,
     "config.json: key rope_theta is not understood, and it may change the computation"},
    {GPT("gptj", ", 'rotary': false"), PS_ERR_UNSUPPORTED,
     "config.json: rotary false is not computed here"},
    {GPT("gptj", ", 'rotary_dim': 13"), PS_ERR_FORMAT,
     "config.json: rotary_dim is 13, wanted 2..12"},
    {GPT("gptj", ", 'rotary_dim': 5"), PS_ERR_FORMAT,
     "config.json: rope dims is 5, wanted an even number"},
    {OF("gpt_neox", ", 'rotary_pct': 2"), PS_ERR_FORMAT,
     "config.json: the rotated part of a head is 2, wanted 0..1"},
    {BLOOM(", 'apply_residual_connection_post_layernorm': true"), PS_ERR_UNSUPPORTED,
     "config.json: apply_residual_connection_post_layernorm true is not computed here"},
    {BLOOM(", 'n_embed': 25"), PS_ERR_FORMAT, "config.json: hidden_size is 24, but n_embed is 25"},
    {FALCON(", 'num_ln_in_parallel_attn': 2"), PS_ERR_UNSUPPORTED,
     "config.json: num_ln_in_parallel_attn without new_decoder_architecture"},
    {FALCON(", 'new_decoder_architecture': true, 'num_ln_in_parallel_attn': 3"), PS_ERR_FORMAT,
     "config.json: num_ln_in_parallel_attn is 3, wanted 1..2"},
    {FALCON(", 'num_kv_heads': 5"), PS_ERR_FORMAT, "config.json: num_kv_heads is 5, wanted 1..4"},
    {FALCON(", 'new_decoder_architecture': true, 'num_kv_heads': 3"), PS_ERR_FORMAT,
     "config.json: n_heads 4 is not a multiple of n_kv_heads 3"},
    {"{'model_type': 'mpt', 'd_model': 24, 'n_layers': 4, 'n_heads': 2, 'vocab_size': 30}",
     PS_ERR_FORMAT, "config.json: attn_config is missing"},
    {"{'model_type': 'mpt', 'd_model': 24, 'n_layers': 4, 'n_heads': 2, 'vocab_size': 30, "
     "'attn_config': {}}",
     PS_ERR_UNSUPPORTED,
     "config.json: attn_config must have alibi, and neither qk_ln, prefix_lm nor "
     "attn_uses_sequence_id"},
    {MPT(", 'qk_ln': true", ""), PS_ERR_UNSUPPORTED,
     "config.json: attn_config must have alibi, and neither qk_ln, prefix_lm nor "
     "attn_uses_sequence_id"},
    {MPT(", 'rope': true", ""), PS_ERR_UNSUPPORTED,
     "config.json: key rope of attn_config is not understood"},
    {MPT(", 'attn_type': 'linear'", ""), PS_ERR_UNSUPPORTED,
     "config.json: attn_type linear is not computed here"},
    {MPT(", 'kv_n_heads': 3", ""), PS_ERR_FORMAT, "config.json: kv_n_heads is 3, wanted 1..2"},
    {MPT(", 'clip_qkv': -1", ""), PS_ERR_FORMAT, "config.json: qkv_clip is -1, wanted >= 0"},
    {MPT("", ", 'logit_scale': 'sqrt'"), PS_ERR_UNSUPPORTED,
     "config.json: logit_scale is neither a number nor inv_sqrt_d_model"},
    {MPT("", ", 'no_bias': false"), PS_ERR_UNSUPPORTED,
     "config.json: no_bias false is not computed here"},
    {MPT("", ", 'norm_type': 'rmsnorm'"), PS_ERR_UNSUPPORTED,
     "config.json: norm_type rmsnorm is not computed here"},
    {OF("phi", ", 'qk_layernorm': true"), PS_ERR_UNSUPPORTED,
     "config.json: qk_layernorm true is not computed here"},
    {OPT(", 'do_layer_norm_before': false"), PS_ERR_UNSUPPORTED,
     "config.json: do_layer_norm_before false is not computed here"},
    {OPT(", '_remove_final_layer_norm': true"), PS_ERR_UNSUPPORTED,
     "config.json: _remove_final_layer_norm true is not computed here"},
    {OPT(", 'word_embed_proj_dim': 12"), PS_ERR_UNSUPPORTED,
     "config.json: word_embed_proj_dim 12 differs from hidden_size 24"},
    {"{'model_type': 'opt', 'hidden_size': 24, 'num_hidden_layers': 4, 'num_attention_heads': 2, "
     "'vocab_size': 30}",
     PS_ERR_FORMAT, "config.json: key ffn_dim is missing"},
};

START_TEST(what_a_family_does_not_compute_is_refused)
{
    refuse(refusals[_i].config, refusals[_i].code, refusals[_i].message);
}
END_TEST

START_TEST(multiquery_attention_of_mpt_has_one_key_head)
{
    ps_import import = import_of(MPT(", 'attn_type': 'multiquery_attention'", ""));
    ck_assert_int_eq(import.spec.n_kv_heads, 1);
    ps_spec_release(&import.spec);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/families gpt");
    TCase *tcase = scratch_case(suite, "read");
    tcase_add_loop_test(tcase, each_family_reads_its_keys, 0,
                        (int)(sizeof readings / sizeof readings[0]));
    tcase_add_test(tcase, what_a_spec_does_not_say_is_with_the_import);
    tcase_add_test(tcase, tensors_have_their_families_names_and_rows);
    tcase_add_loop_test(tcase, what_a_family_does_not_compute_is_refused, 0,
                        (int)(sizeof refusals / sizeof refusals[0]));
    tcase_add_test(tcase, multiquery_attention_of_mpt_has_one_key_head);
    return scratch_run(suite);
}
