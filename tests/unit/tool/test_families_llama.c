/* The families of Llama's kind one by one: what each makes of the sizes alone, of every key of its
 * own, and what it refuses. Specs are compared as a whole: each row lists all lines that differ
 * from a base, so that nothing unexpected comes with them. */
#include "family_reading.h"

#define LLAMA        OF("llama", "")
#define GPT_OSS      OF("gpt_oss", ", 'rope_scaling': null")
#define RELPOS(rest) OF("relpos_llama", ", 'attention_score_bias': 'rel_pos'" rest)

static const struct {
    const char *base, *config, *differences;
} readings[] = {
    {LLAMA, OF("llama", ""), ""},
    {LLAMA, OF("llama", ", 'attention_bias': true"),
     "'qkv_bias': true,\n"
     "'o_bias': true,\n"},
    {LLAMA, OF("llama", ", 'mlp_bias': true"), "'mlp_bias': true,\n"},
    {LLAMA, OF("mistral", ""), "layers 4096/0 4096/0 4096/0 4096/0\n"},
    {LLAMA, OF("mistral", ", 'sliding_window': null"), ""},
    {LLAMA,
     OF("mistral", ", 'sliding_window': 7, 'layer_types': ['full_attention', 'sliding_attention', "
                   "'full_attention', 'full_attention']"),
     "layers 0/0 7/0 0/0 0/0\n"},
    {LLAMA, OF("mixtral", ""),
     "'norm_eps': 1e-05,\n"
     "'n_experts': 8,\n"
     "'n_experts_used': 2,\n"
     "'d_ff_expert': 20,\n"
     "'ropes': [{'kind': 'default', 'dims': 12, 'base': 1000000, 'magnitude': 1}],\n"
     "layers 0/0+m 0/0+m 0/0+m 0/0+m\n"},
    {OF("mixtral", ""),
     OF("mixtral", ", 'num_local_experts': 6, 'num_experts_per_tok': 3, 'sliding_window': 9, "
                   "'router_jitter_noise': 0.1, 'output_router_logits': false"),
     "'n_experts': 6,\n"
     "'n_experts_used': 3,\n"
     "layers 9/0+m 9/0+m 9/0+m 9/0+m\n"},
    {LLAMA, OF("qwen2", ""), "'qkv_bias': true,\n"},
    {OF("qwen2", ""), OF("qwen2", ", 'use_sliding_window': true, 'max_window_layers': 1"),
     "layers 0/0 4096/0 4096/0 4096/0\n"},
    {OF("qwen2", ""),
     OF("qwen2", ", 'use_sliding_window': true, 'max_window_layers': 1, 'sliding_window': 6"),
     "layers 0/0 6/0 6/0 6/0\n"},
    {OF("qwen2", ""), OF("qwen2", ", 'use_sliding_window': true"), ""}, // from layer 28 on
    {OF("qwen2", ""),
     OF("qwen2", ", 'use_sliding_window': true, 'max_window_layers': 1, 'sliding_window': null"),
     ""},
    {OF("qwen2", ""), OF("qwen2", ", 'use_sliding_window': false, 'max_window_layers': 0"), ""},
    {LLAMA, OF("qwen3", ""), "'qk_norm': 'head',\n"},
    {OF("qwen3", ""),
     OF("qwen3", ", 'attention_bias': true, 'use_sliding_window': true, 'sliding_window': 5, "
                 "'max_window_layers': 1, 'layer_types': ['sliding_attention', "
                 "'sliding_attention', 'full_attention', 'full_attention']"),
     "'qkv_bias': true,\n"
     "'o_bias': true,\n"
     "layers 5/0 5/0 0/0 0/0\n"},
    {LLAMA, OF("qwen3_moe", ", 'moe_intermediate_size': 7"),
     "'qk_norm': 'head',\n"
     "'n_experts': 128,\n"
     "'n_experts_used': 8,\n"
     "'d_ff_expert': 7,\n"
     "'router': 'all',\n"
     "layers 0/0+m 0/0+m 0/0+m 0/0+m\n"},
    {OF("qwen3_moe", ", 'moe_intermediate_size': 7"),
     OF("qwen3_moe", ", 'moe_intermediate_size': 7, 'num_experts': 6, 'num_experts_per_tok': 2, "
                     "'norm_topk_prob': true, 'decoder_sparse_step': 2, 'mlp_only_layers': [3]"),
     "'n_experts': 6,\n"
     "'n_experts_used': 2,\n"
     "'router': 'chosen',\n"
     "layers 0/0 0/0+m 0/0 0/0\n"},
    {LLAMA, GPT_OSS,
     "'norm_eps': 1e-05,\n"
     "'qkv_bias': true,\n"
     "'o_bias': true,\n"
     "'sinks': true,\n"
     "'activation': 'swiglu_oss',\n"
     "'swiglu_alpha': 1.702,\n"
     "'swiglu_limit': 7,\n"
     "'n_experts': 128,\n"
     "'n_experts_used': 4,\n"
     "'d_ff_expert': 20,\n"
     "'router_bias': true,\n"
     "'expert_bias': true,\n"
     "'ropes': [{'kind': 'default', 'dims': 12, 'base': 150000, 'magnitude': 1}],\n"
     "layers 128/0+m 0/0+m 128/0+m 0/0+m\n"},
    {GPT_OSS,
     OF("gpt_oss", ", 'num_local_experts': 8, 'num_experts_per_tok': 2, 'experts_per_token': 2, "
                   "'sliding_window': 6, 'swiglu_limit': 5, 'swiglu_alpha': 1.5, "
                   "'attention_bias': false, 'initial_context_length': 64, "
                   "'max_position_embeddings': 256, 'rope_scaling': {'rope_type': 'yarn', "
                   "'factor': 32, 'beta_fast': 32, 'beta_slow': 1, "
                   "'original_max_position_embeddings': 64}, 'layer_types': ["
                   "'full_attention', 'sliding_attention', 'full_attention', 'full_attention']"),
     "'qkv_bias': false,\n"
     "'o_bias': false,\n"
     "'swiglu_alpha': 1.5,\n"
     "'swiglu_limit': 5,\n"
     "'n_experts': 8,\n"
     "'n_experts_used': 2,\n"
     "'context': 256,\n"
     "'ropes': [{'kind': 'yarn', 'dims': 12, 'base': 150000, 'magnitude': 1.3465735902799727, "
     "'factor': 32, 'original_length': 64, 'beta_fast': 32, 'beta_slow': 1, 'truncate': false}],\n"
     "layers 0/0+m 6/0+m 0/0+m 0/0+m\n"},
    {GPT_OSS,
     OF("gpt_oss", ", 'rope_scaling': {'rope_type': 'yarn', 'factor': 32, 'truncate': true, "
                   "'original_max_position_embeddings': 64}"),
     "'ropes': [{'kind': 'yarn', 'dims': 12, 'base': 150000, 'magnitude': 1.3465735902799727, "
     "'factor': 32, 'original_length': 64, 'beta_fast': 32, 'beta_slow': 1, 'truncate': true}],\n"},
    {LLAMA, OF("gemma", ""),
     "'activation': 'gelu_tanh',\n"
     "'embed_scale': 4.898979485566356,\n"
     "'tied_head': true,\n"},
    {OF("gemma", ""), OF("gemma", ", 'hidden_act': 'gelu', 'hidden_activation': null"), ""},
    {OF("gemma", ""), OF("gemma", ", 'hidden_act': 'gelu', 'hidden_activation': 'relu'"),
     "'activation': 'relu',\n"},
    {LLAMA, OF("gemma2", ""),
     "'post_norm': true,\n"
     "'attention_scale': 0.0625,\n"
     "'softcap': 50,\n"
     "'activation': 'gelu_tanh',\n"
     "'embed_scale': 4.898979485566356,\n"
     "'final_softcap': 30,\n"
     "'tied_head': true,\n"
     "layers 4096/0 0/0 4096/0 0/0\n"},
    {OF("gemma2", ""),
     OF("gemma2", ", 'query_pre_attn_scalar': 16, 'attn_logit_softcapping': 5, "
                  "'final_logit_softcapping': 6, 'sliding_window': 3, 'hidden_activation': 'gelu', "
                  "'attention_bias': true"),
     "'attention_scale': 0.25,\n"
     "'softcap': 5,\n"
     "'qkv_bias': true,\n"
     "'o_bias': true,\n"
     "'activation': 'gelu',\n"
     "'final_softcap': 6,\n"
     "layers 3/0 0/0 3/0 0/0\n"},
    {OF("gemma2", ""),
     OF("gemma2", ", 'attn_logit_softcapping': null, 'final_logit_softcapping': null"),
     "'softcap': 0,\n"
     "'final_softcap': 0,\n"},
    {LLAMA, OF("gemma3_text", ""),
     "'post_norm': true,\n"
     "'attention_scale': 0.0625,\n"
     "'qk_norm': 'head',\n"
     "'activation': 'gelu_tanh',\n"
     "'embed_scale': 4.898979485566356,\n"
     "'tied_head': true,\n"
     "'ropes': [{'kind': 'default', 'dims': 12, 'base': 1000000, 'magnitude': 1}, {'kind': "
     "'default', 'dims': 12, 'base': 10000, 'magnitude': 1}],\n"
     "layers 4096/1 4096/1 4096/1 4096/1\n"},
    {OF("gemma3_text", ""),
     OF("gemma3_text", ", '_sliding_window_pattern': 3, 'sliding_window': 5, "
                       "'query_pre_attn_scalar': 16, 'use_bidirectional_attention': false, "
                       "'attn_logit_softcapping': null, 'final_logit_softcapping': 8"),
     "'attention_scale': 0.25,\n"
     "'final_softcap': 8,\n"
     "layers 5/1 5/1 0/0 5/1\n"},
    {LLAMA, OF("phi3", ""), "'norm_eps': 1e-05,\n"},
    {OF("phi3", ""),
     OF("phi3", ", 'sliding_window': 5, 'attention_bias': false, "
                "'original_max_position_embeddings': 64, 'partial_rotary_factor': 0.5"),
     "'ropes': [{'kind': 'default', 'dims': 6, 'base': 10000, 'magnitude': 1}],\n"
     "layers 5/0 5/0 5/0 5/0\n"},
    {LLAMA, OF("smollm3", ""),
     "'tied_head': true,\n"
     "'ropes': [{'kind': 'default', 'dims': 12, 'base': 2000000, 'magnitude': 1}],\n"
     "layers 0/0 0/0 0/0 0/-1\n"},
    {OF("smollm3", ""), OF("smollm3", ", 'no_rope_layer_interval': 2, 'mlp_bias': true"),
     "'mlp_bias': true,\n"
     "layers 0/0 0/-1 0/0 0/-1\n"},
    {OF("smollm3", ""), OF("smollm3", ", 'no_rope_layers': [0, 1, 1, true]"),
     "layers 0/-1 0/0 0/0 0/0\n"},
    {OF("smollm3", ""), OF("smollm3", ", 'use_sliding_window': true, 'sliding_window': 9"),
     "layers 0/0 0/0 0/0 9/-1\n"},
    {OF("smollm3", ""),
     OF("smollm3", ", 'use_sliding_window': true, 'sliding_window': 9, 'layer_types': ["
                   "'sliding_attention', 'full_attention', 'full_attention', 'full_attention']"),
     "layers 9/0 0/0 0/0 0/-1\n"},
    {LLAMA, OF("olmo2", ""),
     "'norm_eps': 1e-05,\n"
     "'pre_norm': false,\n"
     "'post_norm': true,\n"
     "'qk_norm': 'all',\n"},
    {OF("olmo2", ""), OF("olmo2", ", 'attention_bias': true"),
     "'qkv_bias': true,\n"
     "'o_bias': true,\n"},
    {LLAMA, OF("olmo3", ""),
     "'norm_eps': 1e-05,\n"
     "'pre_norm': false,\n"
     "'post_norm': true,\n"
     "'qk_norm': 'all',\n"
     "'ropes': [{'kind': 'default', 'dims': 12, 'base': 500000, 'magnitude': 1}],\n"
     "layers 4096/0 4096/0 4096/0 0/0\n"},
    {OF("olmo3", ""), OF("olmo3", ", 'sliding_window': 7"), "layers 7/0 7/0 7/0 0/0\n"},
    {LLAMA, OF("cohere", ""),
     "'norm': 'layer',\n"
     "'norm_eps': 1e-05,\n"
     "'parallel': true,\n"
     "'shared_norm': true,\n"
     "'logit_scale': 0.0625,\n"
     "'tied_head': true,\n"},
    {OF("cohere", ""),
     OF("cohere", ", 'use_qk_norm': true, 'logit_scale': 0.25, 'layer_norm_eps': 1e-3, "
                  "'attention_bias': true"),
     "'norm_eps': 0.001,\n"
     "'qkv_bias': true,\n"
     "'o_bias': true,\n"
     "'qk_norm': 'heads',\n"
     "'logit_scale': 0.25,\n"},
    {LLAMA, OF("cohere2", ""),
     "'norm': 'layer',\n"
     "'norm_eps': 1e-05,\n"
     "'parallel': true,\n"
     "'shared_norm': true,\n"
     "'logit_scale': 0.0625,\n"
     "'tied_head': true,\n"
     "layers 4096/0 4096/0 4096/0 0/-1\n"},
    {OF("cohere2", ""),
     OF("cohere2", ", 'sliding_window': 7, 'layer_switch': 4, 'sliding_window_pattern': 2, "
                   "'order_of_interleaved_layers': 'local_attn_first', 'rotary_pct': 1.0, "
                   "'position_embedding_type': 'rope_gptj', 'use_embedding_sharing': true, "
                   "'use_gated_activation': true, 'use_parallel_block': true, "
                   "'use_parallel_embedding': true, 'use_qk_norm': false"),
     "layers 7/0 0/-1 7/0 0/-1\n"},
    {LLAMA, OF("granite", ""), "'attention_scale': 1,\n"},
    {OF("granite", ""),
     OF("granite", ", 'attention_multiplier': 0.5, 'embedding_multiplier': 12, "
                   "'residual_multiplier': 0.25, 'logits_scaling': 8, 'attention_bias': true, "
                   "'mlp_bias': true"),
     "'attention_scale': 0.5,\n"
     "'qkv_bias': true,\n"
     "'o_bias': true,\n"
     "'mlp_bias': true,\n"
     "'embed_scale': 12,\n"
     "'residual_scale': 0.25,\n"
     "'logit_scale': 0.125,\n"},
    {OF("llama", ", 'head_dim': 16"), OF("stablelm", ", 'head_dim': 16"),
     "'norm': 'layer',\n"
     "'norm_eps': 1e-05,\n"
     "'norm_bias': true,\n"
     "'ropes': [{'kind': 'default', 'dims': 4, 'base': 10000, 'magnitude': 1}],\n"},
    {OF("stablelm", ", 'head_dim': 16"),
     OF("stablelm", ", 'head_dim': 16, 'use_qkv_bias': true, 'qk_layernorm': true, "
                    "'use_parallel_residual': true, 'partial_rotary_factor': 0.5"),
     "'parallel': true,\n"
     "'shared_norm': true,\n"
     "'qkv_bias': true,\n"
     "'qk_norm': 'heads',\n"
     "'ropes': [{'kind': 'default', 'dims': 8, 'base': 10000, 'magnitude': 1}],\n"},
    {LLAMA, OF("starcoder2", ""),
     "'norm': 'layer',\n"
     "'norm_eps': 1e-05,\n"
     "'norm_bias': true,\n"
     "'qkv_bias': true,\n"
     "'o_bias': true,\n"
     "'mlp_bias': true,\n"
     "'activation': 'gelu_tanh',\n"
     "'gated': false,\n"
     "'tied_head': true,\n"},
    {OF("starcoder2", ""),
     OF("starcoder2", ", 'use_bias': false, 'sliding_window': 8, 'norm_epsilon': 1e-3, "
                      "'norm_type': 'layer_norm', 'hidden_act': 'gelu'"),
     "'norm_eps': 0.001,\n"
     "'qkv_bias': false,\n"
     "'o_bias': false,\n"
     "'mlp_bias': false,\n"
     "'activation': 'gelu',\n"
     "layers 8/0 8/0 8/0 8/0\n"},
    {LLAMA, OF("baichuan", ", 'max_position_embeddings': 64"), "'context': 64,\n"},
    {LLAMA, OF("baichuan", ", 'model_max_length': 64"),
     "'context': 64,\n"
     "'ropes': [],\n"
     "layers 0/-1+a 0/-1+a 0/-1+a 0/-1+a\n"},
    {LLAMA, RELPOS(""), "layers 0/0+p 0/0+p 0/0+p 0/0+p\n"},
    {RELPOS(""),
     OF("relpos_llama", ", 'attention_score_bias': 'rel_pos', 'rel_pos_dim': 10, "
                        "'rel_pos_theta': 100, 'layer_windows': [7, null, 9, 70], "
                        "'attention_bias': true"),
     "'qkv_bias': true,\n"
     "'o_bias': true,\n"
     "layers 7/0+p 0/0+p 9/0+p 70/0+p\n"},
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
        bool interleaved, norm_plus_one, unit_head_rows;
    } rows[] = {
        {LLAMA, false, false, false},
        {OF("gemma", ""), false, true, false},
        {OF("gemma2", ""), false, true, false},
        {OF("gemma3_text", ""), false, true, false},
        {OF("cohere", ""), true, false, false},
        {OF("cohere2", ""), true, false, false},
        {OF("baichuan", ""), false, false, false},
        {OF("baichuan", ", 'z_loss_weight': 0"), false, false, true},
        {OF("baichuan", ", 'z_loss_weight': null"), false, false, false},
        {"{'model_type': 'baichuan', 'hidden_size': 24, 'intermediate_size': 20, "
         "'num_hidden_layers': 4, 'num_attention_heads': 2, 'vocab_size': 125696}",
         false, false, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ps_import import = import_of(rows[i].config);
        ck_assert_msg(import.interleaved == rows[i].interleaved &&
                          import.norm_plus_one == rows[i].norm_plus_one &&
                          import.unit_head_rows == rows[i].unit_head_rows,
                      "%s", rows[i].config);
        ck_assert_int_eq(import.skip_positions, 0);
        ps_spec_release(&import.spec);
    }
}
END_TEST

START_TEST(numbers_of_biases_are_the_families_own)
{
    ps_import import = import_of(OF("baichuan", ""));
    ck_assert(import.spec.layers[3].biases[0].max_exponent == 8.0);
    ck_assert(import.spec.layers[3].biases[0].factor == 1.0);
    ps_spec_release(&import.spec);
    import = import_of(OF("relpos_llama", ", 'attention_score_bias': 'rel_pos'"));
    ck_assert(import.spec.layers[2].biases[0].dim == 24);
    ck_assert(import.spec.layers[2].biases[0].theta == 10000.0);
    ps_spec_release(&import.spec);
    import = import_of(OF("relpos_llama", ", 'attention_score_bias': 'rel_pos', "
                                          "'rel_pos_dim': 10, 'rel_pos_theta': 100"));
    ck_assert(import.spec.layers[0].biases[0].dim == 10);
    ck_assert(import.spec.layers[0].biases[0].theta == 100.0);
    ps_spec_release(&import.spec);
}
END_TEST

#define IN_LAYER "model.layers.3."

START_TEST(tensors_have_their_families_names_and_rows)
{
    static const struct {
        const char *config;
        ps_role role;
        const char *name;
        ps_rows_from rows;
        bool columns;
    } rows[] = {
        {OF("mixtral", ""), PS_ROLE_ROUTER, IN_LAYER "block_sparse_moe.gate.weight", 0, false},
        {OF("mixtral", ""), PS_ROLE_EXPERT_GATE, IN_LAYER "block_sparse_moe.experts.5.w1.weight", 0,
         false},
        {OF("mixtral", ""), PS_ROLE_EXPERT_UP, IN_LAYER "block_sparse_moe.experts.5.w3.weight", 0,
         false},
        {OF("mixtral", ""), PS_ROLE_EXPERT_DOWN, IN_LAYER "block_sparse_moe.experts.5.w2.weight", 0,
         false},
        {OF("qwen3_moe", ", 'moe_intermediate_size': 7"), PS_ROLE_EXPERT_DOWN,
         IN_LAYER "mlp.experts.5.down_proj.weight", 0, false},
        {OF("qwen3_moe", ", 'moe_intermediate_size': 7"), PS_ROLE_ROUTER,
         IN_LAYER "mlp.gate.weight", 0, false},
        {GPT_OSS, PS_ROLE_EXPERT_GATE, IN_LAYER "mlp.experts.gate_up_proj", PS_ROWS_GATE_UP_PAIRS,
         true},
        {GPT_OSS, PS_ROLE_EXPERT_UP, IN_LAYER "mlp.experts.gate_up_proj", PS_ROWS_GATE_UP_PAIRS,
         true},
        {GPT_OSS, PS_ROLE_EXPERT_UP_BIAS, IN_LAYER "mlp.experts.gate_up_proj_bias",
         PS_ROWS_GATE_UP_PAIRS, false},
        {GPT_OSS, PS_ROLE_EXPERT_DOWN, IN_LAYER "mlp.experts.down_proj", 0, true},
        {GPT_OSS, PS_ROLE_EXPERT_DOWN_BIAS, IN_LAYER "mlp.experts.down_proj_bias", 0, false},
        {GPT_OSS, PS_ROLE_ROUTER_BIAS, IN_LAYER "mlp.router.bias", 0, false},
        {GPT_OSS, PS_ROLE_SINKS, IN_LAYER "self_attn.sinks", 0, false},
        {OF("gemma2", ""), PS_ROLE_ATTENTION_POST_NORM, IN_LAYER "post_attention_layernorm.weight",
         0, false},
        {OF("gemma2", ""), PS_ROLE_MLP_NORM, IN_LAYER "pre_feedforward_layernorm.weight", 0, false},
        {OF("gemma2", ""), PS_ROLE_MLP_POST_NORM, IN_LAYER "post_feedforward_layernorm.weight", 0,
         false},
        {OF("olmo2", ""), PS_ROLE_ATTENTION_POST_NORM, IN_LAYER "post_attention_layernorm.weight",
         0, false},
        {OF("phi3", ""), PS_ROLE_K, IN_LAYER "self_attn.qkv_proj.weight", PS_ROWS_QKV, false},
        {OF("phi3", ""), PS_ROLE_UP, IN_LAYER "mlp.gate_up_proj.weight", PS_ROWS_GATE_UP, false},
        {OF("stablelm", ", 'head_dim': 16"), PS_ROLE_K_NORM,
         IN_LAYER "self_attn.k_layernorm.norms.5.weight", 0, false},
        {OF("starcoder2", ""), PS_ROLE_UP_BIAS, IN_LAYER "mlp.c_fc.bias", 0, false},
        {OF("starcoder2", ""), PS_ROLE_DOWN, IN_LAYER "mlp.c_proj.weight", 0, false},
        {OF("baichuan", ""), PS_ROLE_V, IN_LAYER "self_attn.W_pack.weight", PS_ROWS_QKV, false},
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
    {OF("mixtral", ", 'num_experts_per_tok': 9"), PS_ERR_FORMAT,
     "config.json: num_experts_per_tok is 9, wanted 1..8"},
    {OF("mixtral", ", 'num_local_experts': 513"), PS_ERR_FORMAT,
     "config.json: num_local_experts is 513, wanted 1..512"},
    {OF("qwen3_moe", ""), PS_ERR_FORMAT, "config.json: key moe_intermediate_size is missing"},
    {OF("qwen3_moe", ", 'moe_intermediate_size': 7, 'mlp_only_layers': 1"), PS_ERR_FORMAT,
     "config.json: mlp_only_layers is not a list"},
    {OF("qwen3_moe", ", 'moe_intermediate_size': 7, 'mlp_only_layers': [0, 4]"), PS_ERR_FORMAT,
     "config.json: mlp_only_layers[1] is no layer of 4"},
    {OF("qwen3_moe", ", 'moe_intermediate_size': 7, 'decoder_sparse_step': 0"), PS_ERR_FORMAT,
     "config.json: decoder_sparse_step is 0, wanted 1..2147483647"},
    {OF("gpt_oss", ""), PS_ERR_FORMAT, "config.json: key rope_parameters is missing"},
    {OF("gpt_oss", ", 'rope_scaling': null, 'experts_per_token': 3"), PS_ERR_FORMAT,
     "config.json: experts_per_token is 3, but num_experts_per_tok is 4"},
    {OF("gpt_oss", ", 'rope_scaling': null, 'swiglu_limit': 0"), PS_ERR_FORMAT,
     "config.json: swiglu_limit is 0, wanted a positive number"},
    {OF("gemma2", ", 'query_pre_attn_scalar': 0"), PS_ERR_FORMAT,
     "config.json: query_pre_attn_scalar is 0, wanted a positive number"},
    {OF("gemma2", ", 'attn_logit_softcapping': -1"), PS_ERR_FORMAT,
     "config.json: softcap is -1, wanted >= 0"},
    {OF("gemma3_text", ", 'use_bidirectional_attention': true"), PS_ERR_UNSUPPORTED,
     "config.json: use_bidirectional_attention true is not computed here"},
    {OF("gemma3_text", ", 'sliding_window_pattern': 0"), PS_ERR_FORMAT,
     "config.json: sliding_window_pattern is 0, wanted 1..2147483647"},
    {OF("phi3", ", 'attention_bias': true"), PS_ERR_UNSUPPORTED,
     "config.json: attention_bias true is not computed here"},
    {OF("smollm3", ", 'no_rope_layers': [1, 1]"), PS_ERR_FORMAT,
     "config.json: no_rope_layers does not name 4 layers"},
    {OF("smollm3", ", 'no_rope_layers': [1, 1, 'x', 0]"), PS_ERR_FORMAT,
     "config.json: no_rope_layers[2] is neither 0 nor 1"},
    {OF("smollm3", ", 'no_rope_layer_interval': 0"), PS_ERR_FORMAT,
     "config.json: no_rope_layer_interval is 0, wanted 1..2147483647"},
    {OF("cohere2", ", 'use_parallel_block': false"), PS_ERR_UNSUPPORTED,
     "config.json: use_parallel_block false is not computed here"},
    {OF("cohere2", ", 'use_qk_norm': true"), PS_ERR_UNSUPPORTED,
     "config.json: use_qk_norm true is not computed here"},
    {OF("cohere2", ", 'order_of_interleaved_layers': 'global_attn_first'"), PS_ERR_UNSUPPORTED,
     "config.json: global_attn_first with rope_gptj is not computed here"},
    {OF("cohere", ", 'logit_scale': 0"), PS_ERR_FORMAT,
     "config.json: logit_scale is 0, wanted a positive number"},
    {OF("granite", ", 'logits_scaling': 0"), PS_ERR_FORMAT,
     "config.json: logits_scaling is 0, wanted a positive number"},
    {OF("granite", ", 'attention_multiplier': 0"), PS_ERR_FORMAT,
     "config.json: attention_scale is 0, wanted a positive number"},
    {OF("starcoder2", ", 'norm_type': 'rms_norm'"), PS_ERR_UNSUPPORTED,
     "config.json: norm_type rms_norm is not computed here"},
    {RELPOS(", 'layer_windows': [7, 8]"), PS_ERR_FORMAT,
     "config.json: layer_windows does not name 4 layers"},
    {RELPOS(", 'layer_windows': [7, 0, null, 1]"), PS_ERR_FORMAT,
     "config.json: layer_windows[1] is not a number of positions"},
    {RELPOS(", 'layer_windows': [7, 'x', null, 1]"), PS_ERR_FORMAT,
     "config.json: layer_windows[1] is not a number of positions"},
    {RELPOS(", 'rel_pos_dim': 1"), PS_ERR_FORMAT,
     "config.json: rel_pos_dim is 1, wanted 2..1048576"},
    {RELPOS(", 'rel_pos_theta': -1"), PS_ERR_FORMAT,
     "config.json: rel_pos theta is -1, wanted a positive number"},
};

START_TEST(what_a_family_does_not_compute_is_refused)
{
    refuse(refusals[_i].config, refusals[_i].code, refusals[_i].message);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/families llama");
    TCase *tcase = scratch_case(suite, "read");
    tcase_add_loop_test(tcase, each_family_reads_its_keys, 0,
                        (int)(sizeof readings / sizeof readings[0]));
    tcase_add_test(tcase, what_a_spec_does_not_say_is_with_the_import);
    tcase_add_test(tcase, numbers_of_biases_are_the_families_own);
    tcase_add_test(tcase, tensors_have_their_families_names_and_rows);
    tcase_add_loop_test(tcase, what_a_family_does_not_compute_is_refused, 0,
                        (int)(sizeof refusals / sizeof refusals[0]));
    return scratch_run(suite);
}
