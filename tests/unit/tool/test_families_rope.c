/* RoPE in config.json: old and new spellings, every kind with its numbers and defaults, a rope for
 * each type of layer, and what is refused. Magnitudes are compared with numbers worked out
 * beforehand. */
#include "family_reading.h"

START_TEST(old_and_new_spellings_of_rope_are_the_same)
{
    static const char *const pairs[][2] = {
        {OF("llama", ""), OF("llama", ", 'rope_theta': 10000.0, 'rope_scaling': null")},
        {OF("llama", ", 'rope_theta': 5e5"),
         OF("llama", ", 'rope_parameters': {'rope_theta': 500000}")},
        {OF("llama", ", 'rope_theta': 5e5"),
         OF("llama", ", 'rope_theta': 1e4, 'rope_parameters': {'rope_type': 'default', "
                     "'rope_theta': 500000.0}")},
        {OF("llama", ", 'rope_scaling': {'type': 'linear', 'factor': 4}"),
         OF("llama", ", 'rope_parameters': {'rope_type': 'linear', 'factor': 4.0, "
                     "'rope_theta': 10000}")},
        {OF("llama", ", 'rope_theta': 5e5, 'rope_scaling': {'rope_type': 'llama3', 'factor': 8, "
                     "'low_freq_factor': 1, 'high_freq_factor': 4, "
                     "'original_max_position_embeddings': 8192}"),
         OF("llama", ", 'rope_parameters': {'rope_theta': 500000.0, 'rope_type': 'llama3', "
                     "'type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0, "
                     "'high_freq_factor': 4.0, 'original_max_position_embeddings': 8192}")},
        {OF("llama", ", 'partial_rotary_factor': 0.5"),
         OF("llama", ", 'rope_parameters': {'partial_rotary_factor': 0.5}")},
        {OF("llama", ", 'rope_scaling': {'type': 'linear', 'factor': 4}"),
         OF("llama", ", 'rope_scaling': {'type': 'linear', 'factor': 4}, "
                     "'rope_parameters': {'type': 'linear', 'factor': 4}")},
        {OF("llama", ""),
         OF("llama", ", 'rope_scaling': {'rope_type': 'default', 'factor': null}")},
        {OF("stablelm", ", 'partial_rotary_factor': 0.5"), OF("stablelm", ", 'rope_pct': 0.5")},
        {OF("gpt_neox", ", 'rotary_pct': 0.5, 'rotary_emb_base': 5000"),
         OF("gpt_neox", ", 'rope_parameters': {'partial_rotary_factor': 0.5, 'rope_theta': 5000}")},
        {OF("phi3", ", 'max_position_embeddings': 64, 'original_max_position_embeddings': 16, "
                    "'rope_scaling': {'type': 'su', 'short_factor': [1, 1, 1, 1, 1, 1], "
                    "'long_factor': [2, 2, 2, 2, 2, 2]}"),
         OF("phi3", ", 'max_position_embeddings': 64, 'original_max_position_embeddings': 16, "
                    "'rope_scaling': {'type': 'longrope', 'short_factor': [1, 1, 1, 1, 1, 1], "
                    "'long_factor': [2, 2, 2, 2, 2, 2]}")},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        assert_same_spec(pairs[i][0], pairs[i][1]);
    }
}
END_TEST

/* The only rope of a config; the context of the llama is 128 unless the text says more. */
static ps_rope rope_of(const char *text)
{
    ps_import import = import_of(text);
    const ps_rope rope = import.spec.ropes[0];
    ck_assert_int_eq(import.spec.n_ropes, 1);
    ps_spec_release(&import.spec);
    return rope;
}

#define SCALED(rest) OF("llama", ", 'max_position_embeddings': 128, 'rope_scaling': {" rest "}")

START_TEST(llama3_numbers_arrive)
{
    const ps_rope r = rope_of(
        OF("llama", ", 'rope_theta': 5e5, 'rope_scaling': {'rope_type': 'llama3', 'factor': 8, "
                    "'low_freq_factor': 1.5, 'high_freq_factor': 4, "
                    "'original_max_position_embeddings': 8192}, 'partial_rotary_factor': 0.5"));
    ck_assert(r.kind == PS_ROPE_LLAMA3 && r.base == 5e5 && r.factor == 8.0 && r.dims == 6);
    ck_assert(r.low_factor == 1.5 && r.high_factor == 4.0 && r.original_length == 8192.0);
    ck_assert(r.magnitude == 1.0);
}
END_TEST

START_TEST(dynamic_numbers_arrive)
{
    ps_rope r = rope_of(SCALED("'type': 'dynamic', 'factor': 4"));
    ck_assert(r.kind == PS_ROPE_DYNAMIC && r.factor == 4.0 && r.magnitude == 1.0);
    ck_assert(r.original_length == 128.0);
    r = rope_of(SCALED("'type': 'dynamic', 'factor': 4, 'original_max_position_embeddings': 32"));
    ck_assert(r.original_length == 32.0);
}
END_TEST

/* 0.1 ln 4 + 1 = 1.138629436...; (0.1 0.8 ln 4 + 1) / (0.1 0.5 ln 4 + 1) = 1.038892... */
START_TEST(yarn_numbers_and_defaults_arrive)
{
    ps_rope r = rope_of(SCALED("'type': 'yarn', 'original_max_position_embeddings': 32"));
    ck_assert(r.kind == PS_ROPE_YARN && r.factor == 4.0 && r.original_length == 32.0);
    ck_assert(r.beta_fast == 32.0 && r.beta_slow == 1.0 && r.truncate);
    ck_assert_double_eq_tol(r.magnitude, 1.138629436111989, 1e-14);
    r = rope_of(SCALED("'type': 'yarn', 'factor': 8, 'original_max_position_embeddings': 32"));
    ck_assert_double_eq_tol(r.magnitude, 1.207944154167984, 1e-14);
    r = rope_of(SCALED("'rope_type': 'yarn', 'factor': 4, 'beta_fast': 16, 'beta_slow': 2, "
                       "'truncate': false, 'mscale': 0.8, 'mscale_all_dim': 0.5"));
    ck_assert(r.beta_fast == 16.0 && r.beta_slow == 2.0 && !r.truncate);
    ck_assert(r.original_length == 128.0);
    ck_assert_double_eq_tol(r.magnitude, 1.1109035488895912 / 1.0693147180559945, 1e-14);
    r = rope_of(SCALED("'type': 'yarn', 'factor': 4, 'attention_factor': 1.25, 'mscale': 1, "
                       "'mscale_all_dim': 0.5"));
    ck_assert(r.magnitude == 1.25);
    r = rope_of(SCALED("'type': 'yarn', 'factor': 1")); // nothing is stretched
    ck_assert(r.magnitude == 1.0);
}
END_TEST

/* sqrt(1 + ln 4 / ln 32) = 1.183215956619923; of a context no longer than the original, 1. */
START_TEST(longrope_numbers_and_magnitudes_arrive)
{
#define LISTS "'short_factor': [1, 1.1, 1.2, 1.3, 1.4, 1.5], 'long_factor': [2, 2, 2, 3, 3, 4]"
    ps_rope r =
        rope_of(SCALED("'type': 'longrope', 'original_max_position_embeddings': 32, " LISTS));
    ck_assert(r.kind == PS_ROPE_LONGROPE && r.original_length == 32.0);
    ck_assert(r.factors[0] == 1.0 && r.factors[5] == 1.5);
    ck_assert(r.long_factors[0] == 2.0 && r.long_factors[5] == 4.0);
    ck_assert_double_eq_tol(r.magnitude, 1.183215956619923, 1e-14);
    r = rope_of(SCALED("'type': 'longrope', " LISTS)); // both lengths are the context
    ck_assert(r.original_length == 128.0 && r.magnitude == 1.0);
    r = rope_of(SCALED("'type': 'longrope', 'original_max_position_embeddings': 32, "
                       "'factor': 32, " LISTS));
    ck_assert_double_eq_tol(r.magnitude, 1.414213562373095, 1e-14);
    r = rope_of(SCALED("'type': 'longrope', 'original_max_position_embeddings': 32, "
                       "'attention_factor': 1.5, " LISTS));
    ck_assert(r.magnitude == 1.5);
    // An original length beside the rope, as Phi-3 has it, goes before a factor.
    r = rope_of(OF("phi3", ", 'max_position_embeddings': 128, "
                           "'original_max_position_embeddings': 32, "
                           "'rope_scaling': {'type': 'longrope', 'factor': 99, " LISTS "}"));
    ck_assert_double_eq_tol(r.magnitude, 1.183215956619923, 1e-14);
}
END_TEST

/* {kind, base, dims} of both ropes. */
static void assert_ropes(const char *text, const char *wanted, const char *layers)
{
    ps_import import = import_of(text);
    ps_text found = {0}, which = {0};
    for (int r = 0; r < import.spec.n_ropes; r++) {
        const ps_rope *rope = &import.spec.ropes[r];
        ps_text_appendf(&found, "%s%s %g %d", r ? ", " : "", ps_rope_kind_name(rope->kind),
                        rope->base, rope->dims);
    }
    for (int l = 0; l < import.spec.n_layers; l++) {
        ps_text_appendf(&which, "%d", import.spec.layers[l].rope);
    }
    ck_assert_str_eq(ps_text_str(&found), wanted);
    ck_assert_str_eq(ps_text_str(&which), layers);
    ps_text_release(&found);
    ps_text_release(&which);
    ps_spec_release(&import.spec);
}

START_TEST(layers_with_a_window_may_have_a_rope_of_their_own)
{
    assert_ropes(OF("gemma3_text", ", 'sliding_window': 8, 'layer_types': ['sliding_attention', "
                                   "'full_attention', 'sliding_attention', 'full_attention'], "
                                   "'rope_parameters': {'full_attention': {'rope_type': 'linear', "
                                   "'factor': 8, 'rope_theta': 80000, "
                                   "'partial_rotary_factor': 0.5}, "
                                   "'sliding_attention': {'rope_theta': 5000}}"),
                 "linear 80000 6, default 5000 12", "1010");
    // One type alone: the other has the plain rope of the family.
    assert_ropes(
        OF("gemma3_text", ", 'rope_parameters': {'sliding_attention': {'rope_theta': 5000}}"),
        "default 1e+06 12, default 5000 12", "1111");
    // Older files: scaling is for the full layers alone.
    assert_ropes(OF("gemma3_text", ", 'sliding_window_pattern': 2, 'rope_local_base_freq': 3000, "
                                   "'rope_theta': 90000, "
                                   "'rope_scaling': {'rope_type': 'linear', 'factor': 8}"),
                 "linear 90000 12, default 3000 12", "1010");
    assert_ropes(OF("olmo3", ", 'rope_scaling': {'rope_type': 'linear', 'factor': 8}"),
                 "linear 500000 12, default 500000 12", "1110");
    assert_ropes(OF("olmo3", ", 'rope_theta': 7000"), "default 7000 12", "0000");
    assert_ropes(OF("llama", ", 'rope_parameters': {'full_attention': {'rope_theta': 1e4}}"),
                 "default 10000 12, default 10000 12", "0000");
}
END_TEST

static const struct {
    const char *config;
    ps_err code;
    const char *message;
} refusals[] = {
    {SCALED("'type': 'mrope', 'mrope_section': [1]"), PS_ERR_UNSUPPORTED,
     "config.json: rope type mrope is not computed here"},
    {SCALED("'type': 'linear', 'factor': 4, 'attention_factor': 2"), PS_ERR_UNSUPPORTED,
     "config.json: key attention_factor of the rope parameters is not understood"},
    {SCALED("'type': 'default', 'factor': 4"), PS_ERR_UNSUPPORTED,
     "config.json: key factor of the rope parameters is not understood"},
    {SCALED("'type': 'yarn', 'factor': 4, 'finetuned': true"), PS_ERR_UNSUPPORTED,
     "config.json: key finetuned of the rope parameters is not understood"},
    {SCALED("'type': 'dynamic', 'factor': 4, 'beta_fast': 2"), PS_ERR_UNSUPPORTED,
     "config.json: key beta_fast of the rope parameters is not understood"},
    {SCALED("'full_attention': {}, 'chunked_attention': {}"), PS_ERR_UNSUPPORTED,
     "config.json: key chunked_attention of rope_parameters is not understood"},
    {SCALED("'type': 'linear'"), PS_ERR_FORMAT, "config.json: key factor is missing"},
    {SCALED("'type': 'dynamic'"), PS_ERR_FORMAT, "config.json: key factor is missing"},
    {SCALED("'type': 'linear', 'factor': -2"), PS_ERR_FORMAT,
     "config.json: rope factor is -2, wanted a positive number"},
    {SCALED("'type': 'dynamic', 'factor': 0.5"), PS_ERR_FORMAT,
     "config.json: rope factor is 0.5, wanted 1 or more"},
    {OF("llama", ", 'rope_scaling': {'type': 'dynamic', 'factor': 4}"), PS_ERR_FORMAT,
     "config.json: rope original_length is 0, wanted a positive number"},
    {OF("llama", ", 'rope_scaling': {'type': 'yarn'}"), PS_ERR_FORMAT,
     "config.json: rope factor is 0, wanted a positive number"},
    {SCALED("'type': 'yarn', 'factor': 4, 'beta_fast': 1"), PS_ERR_FORMAT,
     "config.json: rope beta_fast 1 must be above beta_slow 1"},
    {SCALED("'type': 'yarn', 'factor': 4, 'truncate': 1"), PS_ERR_FORMAT,
     "config.json: truncate is an integer, wanted a boolean"},
    {SCALED("'type': 'llama3', 'factor': 8, 'low_freq_factor': 1, 'high_freq_factor': 4"),
     PS_ERR_FORMAT, "config.json: key original_max_position_embeddings is missing"},
    {SCALED("'type': 'llama3', 'factor': 8, 'low_freq_factor': 4, 'high_freq_factor': 4, "
            "'original_max_position_embeddings': 10"),
     PS_ERR_FORMAT, "config.json: rope high_factor 4 must be above low_factor 4"},
    {SCALED("'type': 'longrope', 'short_factor': [1, 1], 'long_factor': [1, 1]"), PS_ERR_FORMAT,
     "config.json: short_factor has 2 numbers, wanted 6, half of the rotated dimensions"},
    {SCALED("'type': 'longrope', 'short_factor': [1, 1, 1, 1, 1, 1], "
            "'long_factor': [1, 1, 1, 1, 1, 'x']"),
     PS_ERR_FORMAT, "config.json: long_factor[5] is not a number"},
    {SCALED("'type': 'longrope', 'short_factor': [1, 1, 1, 1, 1, 1], "
            "'long_factor': [1, 1, 1, 1, 1, 0]"),
     PS_ERR_FORMAT, "config.json: rope long_factors is 0, wanted a positive number"},
    {SCALED("'type': 'longrope', 'long_factor': [1, 1, 1, 1, 1, 0]"), PS_ERR_FORMAT,
     "config.json: key short_factor is missing"},
    {OF("llama", ", 'rope_scaling': [1]"), PS_ERR_FORMAT,
     "config.json: the rope parameters are not an object"},
    {SCALED("'full_attention': 5"), PS_ERR_FORMAT,
     "config.json: the rope parameters are not an object"},
    {OF("llama", ", 'rope_scaling': {'type': 'linear', 'factor': 4}, "
                 "'rope_parameters': {'type': 'linear', 'factor': 8}"),
     PS_ERR_UNSUPPORTED,
     "config.json: rope_scaling and rope_parameters are both there, and differ"},
    {OF("llama", ", 'rope_theta': 0"), PS_ERR_FORMAT,
     "config.json: rope base is 0, wanted a positive number"},
    {OF("llama", ", 'partial_rotary_factor': 1.5"), PS_ERR_FORMAT,
     "config.json: the rotated part of a head is 1.5, wanted 0..1"},
    {SCALED("'partial_rotary_factor': -0.5"), PS_ERR_FORMAT,
     "config.json: partial_rotary_factor is -0.5, wanted 0..1"},
    {OF("llama", ", 'partial_rotary_factor': 0.25"), PS_ERR_FORMAT,
     "config.json: rope dims is 3, wanted an even number"},
};

START_TEST(ropes_that_are_not_understood_are_refused)
{
    refuse(refusals[_i].config, refusals[_i].code, refusals[_i].message);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/families rope");
    TCase *tcase = scratch_case(suite, "rope");
    tcase_add_test(tcase, old_and_new_spellings_of_rope_are_the_same);
    tcase_add_test(tcase, llama3_numbers_arrive);
    tcase_add_test(tcase, dynamic_numbers_arrive);
    tcase_add_test(tcase, yarn_numbers_and_defaults_arrive);
    tcase_add_test(tcase, longrope_numbers_and_magnitudes_arrive);
    tcase_add_test(tcase, layers_with_a_window_may_have_a_rope_of_their_own);
    tcase_add_loop_test(tcase, ropes_that_are_not_understood_are_refused, 0,
                        (int)(sizeof refusals / sizeof refusals[0]));
    return scratch_run(suite);
}
