/* Specs in words: what is said, what is left out, and how layers that alternate are put together.
 */
#include <string.h>

#include "base/mem.h"
#include "support/scratch.h"
#include "tool/describe.h"

static ps_spec make_spec(int n_layers)
{
    ps_spec s = ps_spec_plain();
    s.d_model = 48;
    s.n_heads = 4;
    s.n_kv_heads = 2;
    s.head_dim = 12;
    s.d_ff = 100;
    s.vocab_size = 300;
    s.norm_eps = 1e-5;
    s.attention_scale = 0.25;
    ps_spec_take_layers(&s, n_layers);
    return s;
}

/* The whole text; the spec is released. */
static void assert_description(ps_spec spec, const char *wanted)
{
    ps_text found = {0};
    ps_describe_spec(&spec, &found);
    ck_assert_str_eq(ps_text_str(&found), wanted);
    ps_text_release(&found);
    ps_spec_release(&spec);
}

START_TEST(a_plain_spec_has_few_lines)
{
    ps_spec s = make_spec(3);
    for (int l = 0; l < 3; l++) {
        s.layers[l].rope = -1;
    }
    assert_description(s, "layers         3\n"
                          "model width    48\n"
                          "heads          4 query, 2 key, of 12\n"
                          "norm           rms, eps 1e-05, before\n"
                          "feed-forward   100, silu, gated\n"
                          "vocabulary     300\n"
                          "context        not bounded\n"
                          "windows        full\n"
                          "score biases   none\n"
                          "scales         scores 0.25\n");
}
END_TEST

START_TEST(an_encoder_says_so_and_that_it_looks_both_ways)
{
    for (int n_outputs = 0; n_outputs <= 80; n_outputs += 80) {
        ps_text found = {0};
        ps_spec s = make_spec(2);
        s.encoder = true;
        s.n_outputs = n_outputs;
        for (int l = 0; l < 2; l++) {
            s.layers[l].rope = -1;
            s.layers[l].look_ahead = true;
        }
        ps_describe_spec(&s, &found);
        const char *const wanted = n_outputs ? "vocabulary     300\n"
                                               "encoder        80 outputs a token\n"
                                               "context        not bounded\n"
                                               "windows        full both ways\n"
                                             : "encoder        hidden rows alone\n";
        ck_assert_msg(strstr(ps_text_str(&found), wanted) != NULL, "%s", ps_text_str(&found));
        ps_text_release(&found);
        ps_spec_release(&s);
    }
}
END_TEST

START_TEST(a_spec_with_everything_has_every_line)
{
    ps_spec s = make_spec(4);
    s.norm = PS_NORM_LAYER;
    s.norm_bias = s.post_norm = s.embed_norm = s.parallel = s.shared_norm = true;
    s.qk_norm = PS_QK_NORM_HEADS;
    s.qkv_bias = s.o_bias = s.mlp_bias = s.sinks = s.router_bias = s.expert_bias = true;
    s.softcap = 50.0;
    s.qkv_clip = 6.0;
    s.activation = PS_ACTIVATION_SWIGLU_OSS;
    s.n_experts = 8;
    s.n_experts_used = 2;
    s.d_ff_expert = 60;
    s.router = PS_ROUTER_ALL;
    s.embed_scale = 8.0;
    s.residual_scale = 0.5;
    s.logit_scale = 0.0625;
    s.final_softcap = 30.0;
    s.n_positions = 64;
    s.tied_head = s.head_bias = true;
    s.context = 4096;
    s.n_ropes = 2;
    s.ropes[0] = (ps_rope){.kind = PS_ROPE_YARN,
                           .dims = 12,
                           .base = 1e4,
                           .magnitude = 1.25,
                           .factor = 32.0,
                           .original_length = 128.0};
    s.ropes[1] = (ps_rope){.kind = PS_ROPE_DEFAULT, .dims = 6, .base = 500.0, .magnitude = 1.0};
    for (int l = 0; l < 4; l += 2) {
        s.layers[l].window = 64;
        s.layers[l].rope = 1;
        s.layers[l].mixture = true;
        s.layers[l].n_biases = 2;
        s.layers[l].biases[0] = (ps_bias_spec){.kind = PS_BIAS_ALIBI};
        s.layers[l].biases[1] = (ps_bias_spec){.kind = PS_BIAS_REL_POS};
    }
    assert_description(
        s, "layers         4\n"
           "model width    48\n"
           "heads          4 query, 2 key, of 12\n"
           "norm           layer with bias, eps 1e-05, before and behind, of the embedding\n"
           "norm of q, k   of each head with its own weights\n"
           "attention      beside mlp, one norm, biases, sinks, softcap 50, q, k, v clipped at 6\n"
           "feed-forward   100, swiglu_oss, gated, biases\n"
           "experts        8 of 60, 2 for a token, weights over all, router bias, biases\n"
           "mlp of layers  experts, dense (repeated)\n"
           "vocabulary     300, head tied to the embedding, head with bias\n"
           "context        4096\n"
           "positions      64, learned\n"
           "rope           yarn, base 10000, dimensions 12, factor 32, original length 128, "
           "magnitude 1.25\n"
           "rope           default, base 500, dimensions 6\n"
           "rope of layers 1, 0 (repeated)\n"
           "windows        64, full (repeated)\n"
           "score biases   alibi + rel_pos, none (repeated)\n"
           "scales         embedding 8, scores 0.25, residual 0.5, logits 0.0625, logits capped "
           "at 30\n");
}
END_TEST

/* The line "windows" of layers with these windows, 0 being full. */
static void assert_windows(int n, const int *windows, const char *wanted)
{
    ps_spec s = make_spec(n);
    ps_text found = {0}, line = {0};
    for (int l = 0; l < n; l++) {
        s.layers[l].window = windows[l];
    }
    ps_describe_spec(&s, &found);
    ps_text_appendf(&line, "windows        %s\n", wanted);
    ck_assert_msg(strstr(found.data, line.data) != NULL, "%sis not in\n%s", line.data, found.data);
    ps_text_release(&line);
    ps_text_release(&found);
    ps_spec_release(&s);
}

#define WINDOWS(...)                                                                               \
    (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)), (int[])                                     \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

START_TEST(layers_that_alternate_are_put_together)
{
    assert_windows(WINDOWS(0), "full");
    assert_windows(WINDOWS(7, 7), "7");
    assert_windows(WINDOWS(7, 0), "7, full");
    assert_windows(WINDOWS(7, 0, 7, 0, 7), "7, full (repeated)");
    assert_windows(WINDOWS(7, 7, 7, 0, 7, 7, 7, 0), "3 x 7, full (repeated)");
    assert_windows(WINDOWS(7, 7, 7, 0, 7, 7), "3 x 7, full, 2 x 7"); // not repeated as a whole
    assert_windows(WINDOWS(0, 0, 9, 9, 9), "2 x full, 3 x 9");
    assert_windows(WINDOWS(1, 2, 3), "1, 2, 3");
}
END_TEST

START_TEST(experts_in_all_layers_leave_no_dense_width)
{
    ps_spec s = make_spec(2);
    ps_text found = {0};
    s.n_experts = 4;
    s.n_experts_used = 1;
    s.d_ff_expert = 20;
    s.layers[0].mixture = s.layers[1].mixture = true;
    ps_describe_spec(&s, &found);
    ck_assert_ptr_nonnull(strstr(found.data, "feed-forward   silu, gated\n"
                                             "experts        4 of 20, 1 for a token, weights over "
                                             "the chosen\nvocabulary"));
    ps_text_release(&found);
    ps_spec_release(&s);
}
END_TEST

START_TEST(kinds_of_softmax_and_gates_are_named)
{
    static const char *const wanted[PS_OUTPUT_GATE_COUNT] = {
        "attention      quiet softmax\n",
        "attention      quiet softmax, gate on the output of each head\n",
        "attention      quiet softmax, gate on each output\n"};
    for (int gate = 0; gate < PS_OUTPUT_GATE_COUNT; gate++) {
        ps_spec s = make_spec(1);
        ps_text found = {0};
        s.quiet_softmax = true;
        s.output_gate = (ps_output_gate)gate;
        ps_describe_spec(&s, &found);
        ck_assert_msg(strstr(found.data, wanted[gate]) != NULL, "%s", found.data);
        ps_text_release(&found);
        ps_spec_release(&s);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/describe");
    TCase *tcase = scratch_case(suite, "describe");
    tcase_add_test(tcase, a_plain_spec_has_few_lines);
    tcase_add_test(tcase, an_encoder_says_so_and_that_it_looks_both_ways);
    tcase_add_test(tcase, a_spec_with_everything_has_every_line);
    tcase_add_test(tcase, layers_that_alternate_are_put_together);
    tcase_add_test(tcase, experts_in_all_layers_leave_no_dense_width);
    tcase_add_test(tcase, kinds_of_softmax_and_gates_are_named);
    return scratch_run(suite);
}
