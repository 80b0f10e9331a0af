/* The table of tensors: which a spec calls for, in what shape and order, under what name. */
#include <string.h>

#include "base/mem.h"
#include "model/tensors.h"
#include "support/scratch.h"

/* Sizes that are all different, so that no two dimensions can be mixed up. */
static ps_spec make_spec(int n_layers)
{
    ps_spec s = ps_spec_plain();
    s.d_model = 48;
    s.n_heads = 6;
    s.n_kv_heads = 2;
    s.head_dim = 12;
    s.d_ff = 100;
    s.vocab_size = 300;
    ps_spec_take_layers(&s, n_layers);
    return s;
}

/* "name panel n k", with "xcount" where they are stacked, of every tensor, a line each. */
static char *list(const ps_spec *spec)
{
    ps_text out = {0};
    int cursor = 0;
    ps_tensor_need need;
    while (ps_tensor_next(spec, &cursor, &need)) {
        char name[PS_TENSOR_NAME_BYTES];
        ps_tensor_name(need.role, need.layer, name);
        ps_text_appendf(&out, "%s %s %d %d", name, need.panel ? "panel" : "vector", need.n, need.k);
        if (need.count > 1) ps_text_appendf(&out, " x%d", need.count);
        ps_text_append_char(&out, '\n');
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
    s.qkv_bias = s.o_bias = s.mlp_bias = s.tied_head = true;
    s.qk_norm = PS_QK_NORM_HEAD;
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

/* The tensors that `with` has and the plain spec does not, each "name panel n k", then "-name" for
 * those that only the plain one has. Both are released. */
static void assert_differences(ps_spec with, const char *wanted)
{
    ps_spec plain = make_spec(with.n_layers);
    char *ours = list(&with), *theirs = list(&plain);
    ps_text found = {0};
    for (char *line = strtok(ours, "\n"); line; line = strtok(NULL, "\n")) {
        if (!strstr(theirs, line)) ps_text_appendf(&found, "%s\n", line);
    }
    ps_mem_free(ours);
    ours = list(&with);
    for (char *line = strtok(theirs, "\n"); line; line = strtok(NULL, "\n")) {
        if (!strstr(ours, line)) ps_text_appendf(&found, "-%s\n", line);
    }
    ck_assert_str_eq(ps_text_str(&found), wanted);
    ps_text_release(&found);
    ps_mem_free(ours);
    ps_mem_free(theirs);
    ps_spec_release(&plain);
    ps_spec_release(&with);
}

START_TEST(each_flag_adds_or_takes_away_its_tensors)
{
    ps_spec s = make_spec(1);
    s.norm = PS_NORM_LAYER;
    s.norm_bias = s.embed_norm = true;
    assert_differences(s, "/embed/norm vector 48 1\n/embed/norm_bias vector 48 1\n"
                          "/norm/bias vector 48 1\n/layers/000/attention/norm_bias vector 48 1\n"
                          "/layers/000/mlp/norm_bias vector 48 1\n");
    s = make_spec(1);
    s.embed_norm = s.head_bias = s.sinks = true;
    s.n_positions = 77;
    assert_differences(s, "/embed/positions panel 77 48\n/embed/norm vector 48 1\n"
                          "/head/bias vector 300 1\n/layers/000/attention/sinks vector 6 1\n");
    s = make_spec(1);
    s.pre_norm = false;
    s.post_norm = s.norm_bias = true;
    assert_differences(s, "/norm/bias vector 48 1\n/layers/000/attention/post_norm vector 48 1\n"
                          "/layers/000/mlp/post_norm vector 48 1\n"
                          "-/layers/000/attention/norm vector 48 1\n"
                          "-/layers/000/mlp/norm vector 48 1\n");
    s = make_spec(1);
    s.parallel = s.shared_norm = s.norm_bias = true;
    assert_differences(s, "/norm/bias vector 48 1\n/layers/000/attention/norm_bias vector 48 1\n"
                          "-/layers/000/mlp/norm vector 48 1\n");
    s = make_spec(1);
    s.gated = false;
    s.mlp_bias = true;
    assert_differences(s, "/layers/000/mlp/up_bias vector 100 1\n"
                          "/layers/000/mlp/down_bias vector 48 1\n"
                          "-/layers/000/mlp/gate panel 100 48\n");
}
END_TEST

START_TEST(each_norm_of_q_and_k_has_its_length)
{
    static const int lengths[PS_QK_NORM_COUNT][2] = {
        [PS_QK_NORM_HEAD] = {12, 12}, [PS_QK_NORM_HEADS] = {72, 24}, [PS_QK_NORM_ALL] = {72, 24}};
    ps_spec s = make_spec(1);
    ps_tensor_need need;
    ck_assert(!ps_tensor_needed(&s, PS_ROLE_Q_NORM, 0, &need));
    for (int kind = PS_QK_NORM_HEAD; kind < PS_QK_NORM_COUNT; kind++) {
        s.qk_norm = (ps_qk_norm)kind;
        ck_assert(ps_tensor_needed(&s, PS_ROLE_Q_NORM, 0, &need));
        ck_assert(need.n == lengths[kind][0] && need.k == 1 && !need.panel && need.count == 1);
        ck_assert(ps_tensor_needed(&s, PS_ROLE_K_NORM, 0, &need));
        ck_assert_int_eq(need.n, lengths[kind][1]);
    }
    ps_spec_release(&s);
}
END_TEST

static ps_spec mixture_spec(int n_layers, int mixture_layer)
{
    ps_spec s = make_spec(n_layers);
    s.n_experts = 5;
    s.n_experts_used = 2;
    s.d_ff_expert = 20;
    s.layers[mixture_layer].mixture = true;
    return s;
}

START_TEST(a_layer_with_a_mixture_has_stacked_experts_in_place_of_the_dense_part)
{
    ps_spec s = mixture_spec(2, 1);
    s.mlp_bias = true; // of dense layers alone
    assert_differences(s, "/layers/000/mlp/gate_bias vector 100 1\n"
                          "/layers/000/mlp/up_bias vector 100 1\n"
                          "/layers/000/mlp/down_bias vector 48 1\n"
                          "/layers/001/mlp/router panel 5 48\n"
                          "/layers/001/experts/gate panel 20 48 x5\n"
                          "/layers/001/experts/up panel 20 48 x5\n"
                          "/layers/001/experts/down panel 48 20 x5\n"
                          "-/layers/001/mlp/gate panel 100 48\n"
                          "-/layers/001/mlp/up panel 100 48\n"
                          "-/layers/001/mlp/down panel 48 100\n");
    s = mixture_spec(1, 0);
    s.router_bias = s.expert_bias = true;
    s.gated = false;
    assert_differences(s, "/layers/000/mlp/router panel 5 48\n"
                          "/layers/000/mlp/router_bias vector 5 1\n"
                          "/layers/000/experts/up panel 20 48 x5\n"
                          "/layers/000/experts/down panel 48 20 x5\n"
                          "/layers/000/experts/up_bias vector 20 1 x5\n"
                          "/layers/000/experts/down_bias vector 48 1 x5\n"
                          "-/layers/000/mlp/gate panel 100 48\n"
                          "-/layers/000/mlp/up panel 100 48\n"
                          "-/layers/000/mlp/down panel 48 100\n");
    s = mixture_spec(1, 0);
    s.expert_bias = true;
    ps_tensor_need need;
    ck_assert(ps_tensor_needed(&s, PS_ROLE_EXPERT_GATE_BIAS, 0, &need));
    ck_assert(need.n == 20 && need.count == 5 && !need.panel);
    ps_spec_release(&s);
}
END_TEST

START_TEST(shapes_leave_out_what_is_one_of_necessity)
{
    int shape[3];
    ps_tensor_need need = {.panel = true, .n = 20, .k = 48, .count = 5};
    ck_assert_int_eq(ps_tensor_shape(&need, shape), 3);
    ck_assert(shape[0] == 5 && shape[1] == 20 && shape[2] == 48);
    need.count = 1;
    ck_assert_int_eq(ps_tensor_shape(&need, shape), 2);
    ck_assert(shape[0] == 20 && shape[1] == 48);
    need = (ps_tensor_need){.n = 20, .k = 1, .count = 5};
    ck_assert_int_eq(ps_tensor_shape(&need, shape), 2);
    ck_assert(shape[0] == 5 && shape[1] == 20);
    need.count = 1;
    ck_assert_int_eq(ps_tensor_shape(&need, shape), 1);
    ck_assert_int_eq(shape[0], 20);
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
    tcase_add_test(tcase, each_flag_adds_or_takes_away_its_tensors);
    tcase_add_test(tcase, each_norm_of_q_and_k_has_its_length);
    tcase_add_test(tcase, a_layer_with_a_mixture_has_stacked_experts_in_place_of_the_dense_part);
    tcase_add_test(tcase, shapes_leave_out_what_is_one_of_necessity);
    tcase_add_test(tcase, only_layers_with_rel_pos_have_its_tensors);
    tcase_add_test(tcase, a_role_of_the_model_is_not_one_of_a_layer);
    tcase_add_test(tcase, names_of_all_layers_are_different_and_fit);
    tcase_add_test(tcase, the_walk_ends_and_stays_at_its_end);
    return scratch_run(suite);
}
