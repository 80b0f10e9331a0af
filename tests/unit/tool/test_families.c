/* What every family's config.json has: sizes, norms, activations, tokens, tensors' names; and what
 * is refused. The families one by one are in test_families_llama.c and test_families_gpt.c, RoPE
 * in test_families_rope.c. */
#include "family_reading.h"
#include "support/tiny_model.h"

/* ---- accepted ---- */

START_TEST(sizes_of_whole_files_are_read)
{
    const tiny_model m = tiny_model_default((tiny_family)_i);
    char *config = tiny_model_config(&m);
    ps_import import = import_of(config);
    const ps_spec *s = &import.spec;
    ck_assert_str_eq(s->family, tiny_model_family_name(m.family));
    ck_assert(s->n_layers == m.layers && s->d_model == m.width && s->d_ff == m.ffn);
    ck_assert(s->n_heads == m.heads && s->n_kv_heads == m.kv_heads && s->head_dim == m.head_dim);
    ck_assert(s->vocab_size == m.vocabulary && s->context == m.context);
    ck_assert(s->tied_head == m.tied_head && s->norm_eps == TINY_NORM_EPS);
    ck_assert(s->attention_scale == 1.0 / sqrt(12.0));
    ck_assert(s->bos_id == 0 && s->n_eos == 1 && s->eos_ids[0] == 1);
    ck_assert(!s->qkv_bias && !s->o_bias && !s->mlp_bias);
    ck_assert_int_eq(s->qk_norm, m.family == TINY_QWEN3 ? PS_QK_NORM_HEAD : PS_QK_NORM_NONE);
    ck_assert(s->n_ropes == 1 && s->ropes[0].kind == PS_ROPE_DEFAULT && s->ropes[0].dims == 12);
    ck_assert(s->ropes[0].base == TINY_ROPE_THETA);
    for (int l = 0; l < s->n_layers; l++) {
        ck_assert_int_eq(s->layers[l].window, tiny_model_window(&m, l));
        ck_assert_int_eq(s->layers[l].rope, 0);
        ck_assert_int_eq(s->layers[l].n_biases, m.family == TINY_RELPOS_LLAMA);
    }
    ps_spec_release(&import.spec);
    ps_mem_free(config);
}
END_TEST

START_TEST(absent_and_null_are_the_default)
{
    ps_import import = import_of(OF("llama", ""));
    const ps_spec *s = &import.spec;
    ck_assert(s->n_kv_heads == 2 && s->head_dim == 12 && s->context == 0 && s->d_ff == 20);
    ck_assert(s->norm_eps == 1e-6 && !s->tied_head && s->ropes[0].base == 10000.0);
    ck_assert(s->bos_id == -1 && s->n_eos == 0 && s->activation == PS_ACTIVATION_SILU);
    ps_spec_release(&import.spec);
    assert_same_spec(OF("llama", ""),
                     OF("llama", ", 'num_key_value_heads': null, 'head_dim': null, "
                                 "'hidden_act': null, 'attention_bias': null, "
                                 "'rope_theta': null, 'layer_types': null, "
                                 "'unheard_of': null"));
    assert_same_spec(OF("llama", ""), OF("llama", ", 'mlp_bias': false, 'rms_norm_eps': 1e-6"));
}
END_TEST

START_TEST(activations_have_their_published_names)
{
    static const struct {
        const char *name;
        ps_activation_kind kind;
    } names[] = {{"silu", PS_ACTIVATION_SILU},
                 {"swish", PS_ACTIVATION_SILU},
                 {"gelu", PS_ACTIVATION_GELU},
                 {"gelu_python", PS_ACTIVATION_GELU},
                 {"gelu_new", PS_ACTIVATION_GELU_TANH},
                 {"gelu_fast", PS_ACTIVATION_GELU_TANH},
                 {"gelu_pytorch_tanh", PS_ACTIVATION_GELU_TANH},
                 {"quick_gelu", PS_ACTIVATION_GELU_QUICK},
                 {"relu", PS_ACTIVATION_RELU},
                 {"relu2", PS_ACTIVATION_RELU2}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        ps_text config = {0};
        ps_text_appendf(&config, OF("llama", ", 'hidden_act': '%s'"), names[i].name);
        ps_import import = import_of(config.data);
        ck_assert_int_eq(import.spec.activation, names[i].kind);
        ps_spec_release(&import.spec);
        ps_text_release(&config);
    }
}
END_TEST

START_TEST(eos_may_be_a_list)
{
    ps_import import = import_of(OF("llama", ", 'eos_token_id': [2, 3, 2], 'bos_token_id': [5]"));
    const ps_spec *s = &import.spec;
    ck_assert(s->n_eos == 2 && s->eos_ids[0] == 2 && s->eos_ids[1] == 3 && s->bos_id == 5);
    ps_spec_release(&import.spec);
}
END_TEST

/* ---- refused ---- */

static const struct {
    const char *config;
    ps_err code;
    const char *message;
} refusals[] = {
    {"{}", PS_ERR_FORMAT, "config.json: key model_type is missing"},
    {"{'model_type': 5}", PS_ERR_FORMAT, "config.json: model_type is an integer, wanted a string"},
    {OF("llama", ", 'hidden_act': 'mish'"), PS_ERR_UNSUPPORTED,
     "config.json: hidden_act mish is not computed here"},
    {OF("llama", ", 'hidden_act': 3"), PS_ERR_FORMAT,
     "config.json: hidden_act is an integer, wanted a string"},
    {OF("llama", ", 'logits_soft_cap': 30"), PS_ERR_UNSUPPORTED,
     "config.json: key logits_soft_cap is not understood, and it may change the computation"},
    {OF("llama", ", 'quantization_config': {}"), PS_ERR_UNSUPPORTED,
     "config.json: key quantization_config is not understood, and it may change the computation"},
    {OF("llama", ", 'sliding_window': 5"), PS_ERR_UNSUPPORTED,
     "config.json: key sliding_window is not understood, and it may change the computation"},
    {OF("mistral", ", 'attention_bias': false"), PS_ERR_UNSUPPORTED,
     "config.json: key attention_bias is not understood, and it may change the computation"},
    {OF("llama", ", 'rel_pos_dim': 12"), PS_ERR_UNSUPPORTED,
     "config.json: key rel_pos_dim is not understood, and it may change the computation"},
    // sizes
    {OF("llama", ", 'num_key_value_heads': 3"), PS_ERR_FORMAT,
     "config.json: num_key_value_heads is 3, wanted 1..2"},
    {OF("llama", ", 'num_key_value_heads': 0"), PS_ERR_FORMAT,
     "config.json: num_key_value_heads is 0, wanted 1..2"},
    {OF("llama", ", 'head_dim': 2000"), PS_ERR_FORMAT,
     "config.json: head_dim is 2000, wanted 1..1024"},
    {OF("llama", ", 'head_dim': 7"), PS_ERR_FORMAT,
     "config.json: rope dims is 7, wanted an even number"},
    {OF("llama", ", 'rms_norm_eps': -1.0"), PS_ERR_FORMAT,
     "config.json: norm_eps is -1, wanted >= 0"},
    {OF("llama", ", 'rms_norm_eps': '1e-6'"), PS_ERR_FORMAT,
     "config.json: rms_norm_eps is a string, wanted a number"},
    {OF("llama", ", 'max_position_embeddings': -5"), PS_ERR_FORMAT,
     "config.json: max_position_embeddings is -5, wanted 0..2147483647"},
    {OF("llama", ", 'tie_word_embeddings': 1"), PS_ERR_FORMAT,
     "config.json: tie_word_embeddings is an integer, wanted a boolean"},
    {"{'model_type': 'llama', 'hidden_size': 3, 'intermediate_size': 20, 'num_hidden_layers': 2, "
     "'num_attention_heads': 4, 'vocab_size': 30}",
     PS_ERR_FORMAT, "config.json: 4 heads leave none of the width 3 to each"},
    {"{'model_type': 'llama', 'hidden_size': 36, 'intermediate_size': 20, "
     "'num_hidden_layers': 4097, 'num_attention_heads': 4, 'vocab_size': 30}",
     PS_ERR_FORMAT, "config.json: num_hidden_layers is 4097, wanted 1..4096"},
    {"{'model_type': 'llama', 'hidden_size': 1048577, 'intermediate_size': 20, "
     "'num_hidden_layers': 4, 'num_attention_heads': 4, 'vocab_size': 30}",
     PS_ERR_FORMAT, "config.json: hidden_size is 1048577, wanted 1..1048576"},
    {"{'model_type': 'llama', 'hidden_size': 36, 'intermediate_size': 20, 'num_hidden_layers': 4, "
     "'num_attention_heads': 4, 'num_key_value_heads': 3, 'vocab_size': 30}",
     PS_ERR_FORMAT, "config.json: n_heads 4 is not a multiple of n_kv_heads 3"},
    // tokens
    {OF("llama", ", 'eos_token_id': 30"), PS_ERR_FORMAT,
     "config.json: eos_ids is 30, wanted 0..29"},
    {OF("llama", ", 'bos_token_id': 30"), PS_ERR_FORMAT,
     "config.json: bos_id is 30, wanted -1..29"},
    {OF("llama", ", 'bos_token_id': [1, 2]"), PS_ERR_LIMIT,
     "config.json: bos_token_id has more than 1 ids"},
    // windows
    {OF("llama", ", 'layer_types': ['full_attention']"), PS_ERR_FORMAT,
     "config.json: layer_types does not name 4 layers"},
    {OF("llama", ", 'layer_types': 'full_attention'"), PS_ERR_FORMAT,
     "config.json: layer_types does not name 4 layers"},
    {OF("llama", ", 'layer_types': ['full_attention', 'chunked_attention', 'full_attention', "
                 "'full_attention']"),
     PS_ERR_UNSUPPORTED, "config.json: layer_types[1] is chunked_attention, not computed here"},
    {OF("llama", ", 'layer_types': [1, 2, 3, 4]"), PS_ERR_UNSUPPORTED,
     "config.json: layer_types[0] is no string, not computed here"},
    {OF("llama", ", 'layer_types': ['full_attention', 'sliding_attention', 'full_attention', "
                 "'full_attention']"),
     PS_ERR_FORMAT, "config.json: layer_types[1] slides, but sliding_window is not set"},
    {OF("mistral", ", 'sliding_window': 0"), PS_ERR_FORMAT,
     "config.json: sliding_window is 0, wanted 1..2147483647"},
};

START_TEST(what_is_not_understood_is_refused_by_name)
{
    refuse(refusals[_i].config, refusals[_i].code, refusals[_i].message);
}
END_TEST

START_TEST(an_unknown_model_type_is_refused_with_those_that_are_known)
{
    ps_import import;
    ck_assert_int_eq(read_import("{'model_type': 'bert'}", &import), PS_ERR_UNSUPPORTED);
    assert_mentions("config.json: model_type bert is not one of llama mistral mixtral qwen2 qwen3");
    assert_mentions(" relpos_llama");
    assert_mentions(" gpt2");
    assert_mentions(" opt");
    ps_spec_release(&import.spec);
}
END_TEST

START_TEST(each_missing_size_is_named)
{
    static const char *const keys[] = {"'hidden_size'", "'intermediate_size'",
                                       "'num_hidden_layers'", "'num_attention_heads'",
                                       "'vocab_size'"};
    char config[] = OF("llama", ""), message[100];
    char *at = strstr(config, keys[_i]);
    at[1] = '_'; // a key that begins so is not in the table
    snprintf(message, sizeof message, "config.json: key %.*s is missing", (int)strlen(keys[_i]) - 2,
             keys[_i] + 1);
    refuse(config, PS_ERR_FORMAT, message);
}
END_TEST

/* ---- tensors ---- */

START_TEST(tensor_names_carry_their_layer_and_expert)
{
    ps_import import = import_of(OF("llama", ""));
    ps_text name = {0};
    assert_name(&import, PS_ROLE_UP, "model.layers.3.mlp.up_proj.weight");
    assert_name(&import, PS_ROLE_EMBED, "model.embed_tokens.weight");
    assert_name(&import, PS_ROLE_EXPERT_UP, "model.layers.3.mlp.experts.5.up_proj.weight");
    ps_family_tensor_name(&import.from[PS_ROLE_EXPERT_UP], 123, 456, &name);
    ck_assert_str_eq(ps_text_str(&name), "model.layers.123.mlp.experts.456.up_proj.weight");
    ps_text_release(&name);
    ps_spec_release(&import.spec);
}
END_TEST

START_TEST(buffers_and_copies_of_a_tied_head_may_be_left_out)
{
    ps_import import = import_of(OF("llama", ", 'tie_word_embeddings': true"));
    ck_assert(ps_family_ignores(&import, "lm_head.weight"));
    ck_assert(ps_family_ignores(&import, "model.layers.3.self_attn.rotary_emb.inv_freq"));
    ck_assert(ps_family_ignores(&import, "model.rotary_emb.inv_freq"));
    ck_assert(ps_family_ignores(&import, "gpt_neox.layers.3.attention.bias"));
    ck_assert(ps_family_ignores(&import, "transformer.h.3.attn.bias"));
    ck_assert(ps_family_ignores(&import, "transformer.h.3.attn.masked_bias"));
    ck_assert(!ps_family_ignores(&import, "model.layers.3.self_attn.q_proj.bias"));
    ck_assert(!ps_family_ignores(&import, ".rotary_emb.inv_freq"));
    import.spec.tied_head = false;
    ck_assert(!ps_family_ignores(&import, "lm_head.weight"));
    ps_spec_release(&import.spec);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/families");
    TCase *accepted = scratch_case(suite, "accepted");
    tcase_add_loop_test(accepted, sizes_of_whole_files_are_read, 0, TINY_FAMILY_COUNT);
    tcase_add_test(accepted, absent_and_null_are_the_default);
    tcase_add_test(accepted, activations_have_their_published_names);
    tcase_add_test(accepted, eos_may_be_a_list);
    TCase *refused = scratch_case(suite, "refused");
    tcase_add_loop_test(refused, what_is_not_understood_is_refused_by_name, 0,
                        (int)(sizeof refusals / sizeof refusals[0]));
    tcase_add_test(refused, an_unknown_model_type_is_refused_with_those_that_are_known);
    tcase_add_loop_test(refused, each_missing_size_is_named, 0, 5);
    TCase *tensors = scratch_case(suite, "tensors");
    tcase_add_test(tensors, tensor_names_carry_their_layer_and_expert);
    tcase_add_test(tensors, buffers_and_copies_of_a_tied_head_may_be_left_out);
    return scratch_run(suite);
}
