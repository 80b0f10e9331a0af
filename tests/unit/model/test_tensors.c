/* The table of tensors: which a spec calls for, in what shape and order, under what name. */
#include <string.h>

#include "base/mem.h"
#include "model/tensors.h"
#include "support/scratch.h"

/* Sizes that are all different, so that no two dimensions can be mixed up. */
static ps_spec make_spec(int n_layers)
{
    ps_spec s = {.d_model = 48,
                 .n_heads = 6,
                 .n_kv_heads = 2,
                 .head_dim = 12,
                 .d_ff = 100,
                 .vocab_size = 300};
    ps_spec_take_layers(&s, n_layers);
    return s;
}

/* "name panel n k" of every tensor, a line each. */
static char *list(const ps_spec *spec)
{
    ps_text out = {0};
    int cursor = 0;
    ps_tensor_need need;
    while (ps_tensor_next(spec, &cursor, &need)) {
        char name[PS_TENSOR_NAME_BYTES];
        ps_tensor_name(need.role, need.layer, name);
        ps_text_appendf(&out, "%s %s %d %d\n", name, need.panel ? "panel" : "vector", need.n,
                        need.k);
    }
    return ps_text_take(&out);
}

#define LAYER(number, biases)                                                                      \
    "/layers/" number "/attention/norm vector 48 1\n"                                              \
    "/layers/" number "/attention/q panel 72 48\n"                                                 \
    "/layers/" number "/attention/k panel 24 48\n"                                                 \
    "/layers/" number "/attention/v panel 24 48\n"                                                 \
    "/layers/" number "/attention/o panel 48 72\n" biases "/layers/" number                        \
    "/mlp/norm vector 48 1\n"                                                                      \
    "/layers/" number "/mlp/gate panel 100 48\n"                                                   \
    "/layers/" number "/mlp/up panel 100 48\n"                                                     \
    "/layers/" number "/mlp/down panel 48 100\n"

static void assert_list(const ps_spec *spec, const char *wanted)
{
    char *found = list(spec);
    ck_assert_str_eq(found, wanted);
    ps_mem_free(found);
}

START_TEST(a_plain_spec_calls_for_the_plain_tensors_layer_by_layer)
{
    ps_spec s = make_spec(2);
    assert_list(&s, "/embed/weight panel 300 48\n/norm/weight vector 48 1\n"
                    "/head/weight panel 300 48\n" LAYER("000", "") LAYER("001", ""));
    ps_spec_release(&s);
}
END_TEST

START_TEST(a_tied_head_has_no_tensor)
{
    ps_spec s = make_spec(1);
    s.tied_head = true;
    assert_list(&s, "/embed/weight panel 300 48\n/norm/weight vector 48 1\n" LAYER("000", ""));
    ps_spec_release(&s);
}
END_TEST

START_TEST(options_add_their_tensors)
{
    ps_spec s = make_spec(1);
    s.qkv_bias = s.o_bias = s.qk_norm = s.mlp_bias = s.tied_head = true;
    assert_list(
        &s,
        "/embed/weight panel 300 48\n/norm/weight vector 48 1\n" LAYER(
            "000",
            "/layers/000/attention/q_bias vector 72 1\n"
            "/layers/000/attention/k_bias vector 24 1\n"
            "/layers/000/attention/v_bias vector 24 1\n"
            "/layers/000/attention/o_bias vector 48 1\n"
            "/layers/000/attention/q_norm vector 12 1\n"
            "/layers/000/attention/k_norm vector 12 1\n") "/layers/000/mlp/gate_bias vector 100 1\n"
                                                          "/layers/000/mlp/up_bias vector 100 1\n"
                                                          "/layers/000/mlp/down_bias vector 48 "
                                                          "1\n");
    ps_spec_release(&s);
}
END_TEST

START_TEST(only_layers_with_rel_pos_have_its_tensors)
{
    ps_spec s = make_spec(2);
    s.layers[0].n_biases = 1;
    s.layers[0].biases[0] = (ps_bias_spec){.kind = PS_BIAS_ALIBI, .max_exponent = 8.0};
    s.layers[1].n_biases = 2;
    s.layers[1].biases[0] = s.layers[0].biases[0];
    s.layers[1].biases[1] = (ps_bias_spec){.kind = PS_BIAS_REL_POS, .dim = 34, .theta = 10.0};
    assert_list(&s, "/embed/weight panel 300 48\n/norm/weight vector 48 1\n"
                    "/head/weight panel 300 48\n" LAYER("000", "")
                        LAYER("001", "/layers/001/rel_pos/w_pos panel 72 34\n"
                                     "/layers/001/rel_pos/u vector 72 1\n"
                                     "/layers/001/rel_pos/v vector 72 1\n"));
    ps_spec_release(&s);
}
END_TEST

START_TEST(a_role_of_the_model_is_not_one_of_a_layer)
{
    ps_spec s = make_spec(1);
    ps_tensor_need need;
    for (int role = 0; role < PS_ROLE_COUNT; role++) {
        const bool of_layer = role >= PS_ROLE_FIRST_OF_LAYER;
        ck_assert(!ps_tensor_needed(&s, (ps_role)role, of_layer ? -1 : 0, &need));
    }
    ck_assert(ps_tensor_needed(&s, PS_ROLE_EMBED, -1, &need));
    ck_assert(ps_tensor_needed(&s, PS_ROLE_DOWN, 0, &need));
    ps_spec_release(&s);
}
END_TEST

START_TEST(names_of_all_layers_are_different_and_fit)
{
    char name[PS_TENSOR_NAME_BYTES];
    for (int role = PS_ROLE_FIRST_OF_LAYER; role < PS_ROLE_COUNT; role++) {
        char other[PS_TENSOR_NAME_BYTES];
        ps_tensor_name((ps_role)role, PS_SPEC_LAYERS_MAX - 1, name);
        ck_assert_uint_lt(strlen(name), PS_TENSOR_NAME_BYTES - 1);
        ck_assert_int_eq(strncmp(name, "/layers/4095/", 13), 0);
        for (int next = role + 1; next < PS_ROLE_COUNT; next++) {
            ps_tensor_name((ps_role)next, PS_SPEC_LAYERS_MAX - 1, other);
            ck_assert_str_ne(name, other);
        }
    }
}
END_TEST

START_TEST(the_walk_ends_and_stays_at_its_end)
{
    ps_spec s = make_spec(1);
    int cursor = 0, n = 0;
    ps_tensor_need need;
    while (ps_tensor_next(&s, &cursor, &need)) {
        n++;
    }
    ck_assert_int_eq(n, 3 + 9);
    ck_assert(!ps_tensor_next(&s, &cursor, &need));
    ps_spec_release(&s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/tensors");
    TCase *tcase = scratch_case(suite, "tensors");
    tcase_add_test(tcase, a_plain_spec_calls_for_the_plain_tensors_layer_by_layer);
    tcase_add_test(tcase, a_tied_head_has_no_tensor);
    tcase_add_test(tcase, options_add_their_tensors);
    tcase_add_test(tcase, only_layers_with_rel_pos_have_its_tensors);
    tcase_add_test(tcase, a_role_of_the_model_is_not_one_of_a_layer);
    tcase_add_test(tcase, names_of_all_layers_are_different_and_fit);
    tcase_add_test(tcase, the_walk_ends_and_stays_at_its_end);
    return scratch_run(suite);
}
