/* The families that are about scores: everything that relpos_llama can say, the forgetting
 * transformer, and what is refused. */
#include "family_reading.h"

#define OF(model_type, rest)                                                                       \
    "{'model_type': '" model_type "', 'hidden_size': 24, 'intermediate_size': 20, "                \
    "'num_hidden_layers': 4, 'num_attention_heads': 2, 'vocab_size': 30" rest "}"
#define OWN(rest) OF("relpos_llama", rest)
#define FOX(rest)                                                                                  \
    "{'model_type': 'forgetting_transformer-project_fox', 'hidden_size': 24, "                     \
    "'num_hidden_layers': 4, 'num_heads': 2, 'vocab_size': 30" rest "}"

/* The kinds of each layer, "+" between them, " " between layers. */
static void assert_kinds(const char *config, const char *wanted)
{
    ps_import import = import_of(config);
    ps_text found = {0};
    for (int l = 0; l < import.spec.n_layers; l++) {
        const ps_layer_spec *layer = &import.spec.layers[l];
        if (l > 0) ps_text_append_char(&found, ' ');
        if (layer->n_biases == 0) ps_text_append_str(&found, "none");
        for (int b = 0; b < layer->n_biases; b++) {
            ps_text_appendf(&found, "%s%s", b > 0 ? "+" : "",
                            ps_bias_kind_name(layer->biases[b].kind));
        }
    }
    ck_assert_str_eq(ps_text_str(&found), wanted);
    ps_text_release(&found);
    ps_spec_release(&import.spec);
}

START_TEST(biases_are_named_for_all_layers_or_for_each)
{
    assert_kinds(OWN(""), "none none none none");
    assert_kinds(OWN(", 'attention_score_bias': 'alibi'"), "alibi alibi alibi alibi");
    assert_kinds(OWN(", 'attention_score_bias': ['fox', {'kind': 't5'}]"),
                 "fox+t5 fox+t5 fox+t5 fox+t5");
    assert_kinds(OWN(", 'layer_score_biases': ['kerple_log', null, ['fire', 'kerple_power', "
                     "'sandwich', 'sandwich'], []]"),
                 "kerple_log none fire+kerple_power+sandwich+sandwich none");
    assert_kinds(FOX(""), "fox fox fox fox");
}
END_TEST

START_TEST(numbers_of_biases_are_published_ones_or_those_of_the_object)
{
    ps_import import = import_of(OWN(", 'layer_score_biases': [['alibi', 't5', 'fire', 'sandwich'],"
                                     "[{'kind': 't5', 'n_buckets': 8, 'max_distance': 20, "
                                     "'bidirectional': true}, {'kind': 'fire', 'width': 5}, "
                                     "{'kind': 'sandwich', 'dim': 6}], 'rel_pos', "
                                     "{'kind': 'rel_pos', 'dim': 9}], 'rel_pos_theta': 100"));
    const ps_layer_spec *l = import.spec.layers;
    ck_assert(l[0].biases[0].max_exponent == 8.0 && l[0].biases[0].factor == 1.0);
    ck_assert(l[0].biases[1].n_buckets == 32 && l[0].biases[1].max_distance == 128);
    ck_assert(!l[0].biases[1].bidirectional && l[0].biases[2].width == 32);
    ck_assert(l[0].biases[3].dim == 128);
    ck_assert(l[1].biases[0].n_buckets == 8 && l[1].biases[0].max_distance == 20);
    ck_assert(l[1].biases[0].bidirectional && l[1].biases[1].width == 5);
    ck_assert(l[1].biases[2].dim == 6);
    ck_assert(l[2].biases[0].dim == 24 && l[2].biases[0].theta == 100.0);
    ck_assert(l[3].biases[0].dim == 9 && l[3].biases[0].theta == 100.0);
    ps_spec_release(&import.spec);
}
END_TEST

START_TEST(what_is_visible_and_the_softmax_are_read)
{
    ps_import import =
        import_of(OWN(", 'layer_windows': [7, null, null, 9], 'layer_chunks': [null, 8, 16, null], "
                      "'left_chunks': 2, 'look_ahead': true, 'kept_tokens': 3, "
                      "'kept_at_cache': false, 'quiet_softmax': true, 'output_gate': 'heads', "
                      "'attn_logit_softcapping': 20, 'use_rope': false"));
    const ps_spec *s = &import.spec;
    ck_assert(s->layers[0].window == 7 && s->layers[0].chunk == 0 && !s->layers[0].look_ahead);
    ck_assert(s->layers[1].chunk == 8 && s->layers[1].left_chunks == 2 && s->layers[1].look_ahead);
    ck_assert(s->layers[2].chunk == 16 && s->layers[3].window == 9);
    ck_assert(s->n_kept == 3 && !s->kept_at_cache && s->quiet_softmax && !s->sinks);
    ck_assert(s->output_gate == PS_OUTPUT_GATE_HEADS && s->softcap == 20.0);
    ck_assert(s->n_ropes == 0 && s->layers[2].rope == -1);
    ps_spec_release(&import.spec);
    import = import_of(OWN(", 'attention_sinks': true"));
    ck_assert(import.spec.sinks && import.spec.layers[0].rope == 0);
    ps_spec_release(&import.spec);
}
END_TEST

START_TEST(the_forgetting_transformer_has_its_own_keys_and_names)
{
    ps_import import = import_of(FOX(""));
    ck_assert_str_eq(import.spec.family, "forgetting_transformer");
    ck_assert(import.spec.n_heads == 2 && import.spec.head_dim == 12 && import.spec.n_ropes == 0);
    ck_assert(import.spec.d_ff == 256); // 24 * 4 * 2/3, rounded up
    ck_assert(import.spec.norm_eps == 1e-6 && !import.spec.tied_head);
    ck_assert(import.spec.output_gate == PS_OUTPUT_GATE_NONE);
    assert_name(&import, PS_ROLE_FOX_WEIGHT, "model.layers.3.attn.fgate_proj.weight");
    assert_name(&import, PS_ROLE_FOX_BIAS, "model.layers.3.attn.fgate_proj.bias");
    assert_name(&import, PS_ROLE_UP, "model.layers.3.mlp.gate_proj.weight");
    assert_name(&import, PS_ROLE_MLP_NORM, "model.layers.3.mlp_norm.weight");
    ck_assert_int_eq(import.from[PS_ROLE_UP].rows, PS_ROWS_GATE_UP);
    ps_spec_release(&import.spec);
    import = import_of(FOX(", 'intermediate_size': 40, 'use_rope': true, 'rope_base': 500, "
                           "'use_output_gate': true, 'fuse_norm': true, 'norm_eps': 1e-5"));
    ck_assert(import.spec.d_ff == 40 && import.spec.n_ropes == 1);
    ck_assert(import.spec.ropes[0].base == 500.0 && import.spec.layers[3].rope == 0);
    ck_assert(import.spec.output_gate == PS_OUTPUT_GATE_ELEMENTS);
    ck_assert(import.spec.norm_eps == 1e-5);
    ps_spec_release(&import.spec);
}
END_TEST

static const struct {
    const char *config;
    ps_err code;
    const char *message;
} refusals[] = {
    {OWN(", 'attention_score_bias': 'cope'"), PS_ERR_UNSUPPORTED,
     "config.json: attention_score_bias cope is not computed here"},
    {OWN(", 'attention_score_bias': 'custom'"), PS_ERR_UNSUPPORTED,
     "config.json: attention_score_bias custom is not computed here"},
    {OWN(", 'attention_score_bias': ['fox', 'fox']"), PS_ERR_FORMAT,
     "config.json: a layer has two fox biases, wanted one at most"},
    {OWN(", 'attention_score_bias': 7"), PS_ERR_FORMAT,
     "config.json: attention_score_bias holds something that names no bias"},
    {OWN(", 'attention_score_bias': ['alibi', 'alibi', 'alibi', 'alibi', 'alibi']"), PS_ERR_FORMAT,
     "config.json: attention_score_bias has 5 biases, wanted at most 4"},
    {OWN(", 'attention_score_bias': {'kind': 't5', 'width': 3}"), PS_ERR_FORMAT,
     "config.json: unknown key width of a bias (made by a newer version?)"},
    {OWN(", 'attention_score_bias': 'fox', 'layer_score_biases': [null, null, null, null]"),
     PS_ERR_FORMAT, "config.json: attention_score_bias and layer_score_biases, wanted one of them"},
    {OWN(", 'layer_score_biases': ['fox']"), PS_ERR_FORMAT,
     "config.json: layer_score_biases does not name 4 layers"},
    {OWN(", 'layer_chunks': [8, 0, 8, 8]"), PS_ERR_FORMAT,
     "config.json: layer_chunks[1] is not a number of positions"},
    {OWN(", 'layer_chunks': [8, 8, 8, 8], 'look_ahead': true, 'attention_score_bias': 'fox'"),
     PS_ERR_UNSUPPORTED,
     "config.json: fox biases sum over the past, found one in a layer with look_ahead"},
    {OWN(", 'attention_sinks': true, 'quiet_softmax': true"), PS_ERR_FORMAT,
     "config.json: sinks and quiet_softmax are both true, wanted one of them"},
    {OWN(", 'output_gate': 'rows'"), PS_ERR_UNSUPPORTED,
     "config.json: output_gate rows is not computed here"},
    {FOX(", 'qk_norm': true"), PS_ERR_UNSUPPORTED,
     "config.json: qk_norm true is not computed here"},
    {FOX(", 'use_k_shift': true"), PS_ERR_UNSUPPORTED,
     "config.json: use_k_shift true is not computed here"},
    {FOX(", 'use_output_norm': true"), PS_ERR_UNSUPPORTED,
     "config.json: use_output_norm true is not computed here"},
    {FOX(", 'fgate_type': 'bias_only'"), PS_ERR_UNSUPPORTED,
     "config.json: fgate_type bias_only is not computed here"},
    {FOX(", 'ogate_act': 'silu'"), PS_ERR_UNSUPPORTED,
     "config.json: ogate_act silu is not computed here"},
    {FOX(", 'window_size': 8"), PS_ERR_UNSUPPORTED,
     "config.json: window_size is not computed here"},
    {FOX(", 'hidden_ratio': -1"), PS_ERR_FORMAT,
     "config.json: hidden_ratio is -1, wanted a width of 1..1048320"},
    {FOX(", 'num_kv_groups': 2"), PS_ERR_UNSUPPORTED,
     "config.json: key num_kv_groups is not understood, and it may change the computation"},
};

START_TEST(what_is_not_computed_is_refused)
{
    refuse(refusals[_i].config, refusals[_i].code, refusals[_i].message);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/families score");
    TCase *tcase = scratch_case(suite, "read");
    tcase_add_test(tcase, biases_are_named_for_all_layers_or_for_each);
    tcase_add_test(tcase, numbers_of_biases_are_published_ones_or_those_of_the_object);
    tcase_add_test(tcase, what_is_visible_and_the_softmax_are_read);
    tcase_add_test(tcase, the_forgetting_transformer_has_its_own_keys_and_names);
    tcase_add_loop_test(tcase, what_is_not_computed_is_refused, 0,
                        (int)(sizeof refusals / sizeof refusals[0]));
    return scratch_run(suite);
}
