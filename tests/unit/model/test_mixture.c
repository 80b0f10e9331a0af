/* Mixtures of experts: whom a row chooses, and that its sum is its own. Against the plain
 * computation they are tested in test_block.c with everything else. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "math/isa.h"
#include "support/dice.h"
#include "support/naive_spec.h"
#include "support/scratch.h"
#include "support/stage_runner.h"

enum { N = 40 };

/* One layer, a mixture, and nothing else that is special. */
static spec_model mixture_model(int n_experts, int used, ps_router router)
{
    spec_model m = {.spec = ps_spec_plain(), .seed = 5};
    ps_spec *s = &m.spec;
    s->d_model = 20;
    s->n_heads = s->n_kv_heads = 1;
    s->head_dim = 4;
    s->d_ff = 8;
    s->vocab_size = 50;
    s->norm_eps = 1e-5;
    s->attention_scale = 0.5;
    s->n_experts = n_experts;
    s->n_experts_used = used;
    s->d_ff_expert = 12;
    s->router = router;
    s->router_bias = true;
    ps_spec_take_layers(s, 1);
    s->layers[0].rope = -1;
    s->layers[0].mixture = true;
    return m;
}

static void fill_tokens(const spec_model *m, int32_t *tokens)
{
    dice d = {.seed = 3};
    for (int i = 0; i < N; i++) {
        tokens[i] = dice_throw(&d, m->spec.vocab_size);
    }
}

static float *run(const stage_runner_params *params, const spec_model *m, int chunk)
{
    stage_runner r;
    int32_t tokens[N];
    float *logits = ps_mem_new((size_t)N * (size_t)m->spec.vocab_size, sizeof *logits);
    fill_tokens(m, tokens);
    assert_ok(stage_runner_open(params, &r));
    stage_runner_run(&r, 0, 0, tokens, N, chunk, logits);
    stage_runner_close(&r);
    return logits;
}

/* Logits of the model as it is, which must be near the plain ones; owned by the caller. */
static float *checked_logits(const spec_model *m)
{
    const size_t n = (size_t)N * (size_t)m->spec.vocab_size;
    int32_t tokens[N];
    double *wanted = ps_mem_new(n, sizeof *wanted), largest = 0.0;
    fill_tokens(m, tokens);
    assert_ok(spec_model_write(m, "m.h5"));
    naive_spec_forward(m, tokens, N, N, wanted);
    float *found = run(&(stage_runner_params){.path = "m.h5"}, m, N);
    for (size_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs(wanted[i]));
    }
    for (size_t i = 0; i < n; i++) {
        ck_assert_double_le(fabs((double)found[i] - wanted[i]), 1e-5 * largest);
    }
    ps_mem_free(wanted);
    return found;
}

/* A router whose rows are all alike: every score is the same, or as the bias makes it. */
static float *equal_rows(const spec_model *m)
{
    float *router = spec_model_values(m, PS_ROLE_ROUTER, 0);
    const size_t d = (size_t)m->spec.d_model;
    for (int e = 1; e < m->spec.n_experts; e++) {
        memcpy(router + (size_t)e * d, router, d * sizeof *router);
    }
    return router;
}

START_TEST(of_equal_scores_the_lowest_experts_are_chosen)
{
    for (int router = 0; router < PS_ROUTER_COUNT; router++) {
        for (int used = 1; used <= 5; used++) {
            spec_model m = mixture_model(5, used, (ps_router)router);
            m.spec.router_bias = false;
            float *rows = equal_rows(&m);
            m.edits[0] = (spec_model_edit){PS_ROLE_ROUTER, 0, rows};
            float *logits = checked_logits(&m); // the plain computation takes the lowest, too
            ps_mem_free(logits);
            ps_mem_free(rows);
            spec_model_release(&m);
        }
    }
}
END_TEST

/* Ties at the border alone, between experts that stand apart. */
START_TEST(ties_at_the_border_go_to_the_lowest)
{
    static const float biases[][6] = {{0.0f, 1.0f, 0.0f, 2.0f, 1.0f, 1.0f},
                                      {1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 2.0f},
                                      {-1.0f, 3.0f, -1.0f, -1.0f, -1.0f, -1.0f}};
    for (int i = 0; i < 3; i++) {
        spec_model m = mixture_model(6, 2, i % 2 ? PS_ROUTER_ALL : PS_ROUTER_CHOSEN);
        float *rows = equal_rows(&m); // experts of equal biases have equal scores
        m.edits[0] = (spec_model_edit){PS_ROLE_ROUTER, 0, rows};
        m.edits[1] = (spec_model_edit){PS_ROLE_ROUTER_BIAS, 0, biases[i]};
        float *logits = checked_logits(&m);
        ps_mem_free(logits);
        ps_mem_free(rows);
        spec_model_release(&m);
    }
}
END_TEST

START_TEST(all_rows_may_choose_the_same_experts_or_all_of_them)
{
    float bias[9] = {0};
    for (int used = 1; used <= 9; used += 4) {
        spec_model m = mixture_model(9, used, PS_ROUTER_CHOSEN);
        memset(bias, 0, sizeof bias);
        bias[7] = bias[2] = 100.0f; // far above the others
        m.edits[0] = (spec_model_edit){PS_ROLE_ROUTER_BIAS, 0, bias};
        float *logits = checked_logits(&m);
        ps_mem_free(logits);
        spec_model_release(&m);
    }
}
END_TEST

START_TEST(as_many_experts_as_a_model_may_have)
{
    spec_model m = mixture_model(PS_SPEC_EXPERTS_MAX, 7, PS_ROUTER_ALL);
    float *logits = checked_logits(&m);
    ps_mem_free(logits);
    spec_model_release(&m);
}
END_TEST

/* Rows that share experts are gathered together: with more or fewer of them beside, on any
 * threads, a row's bits stay. */
START_TEST(a_rows_bits_do_not_depend_on_the_rows_beside_it)
{
    static const int chunks[] = {1, 2, 3, 8, 9, 17, 39};
    spec_model m = mixture_model(3 + _i, 1 + _i % 3, (ps_router)(_i % PS_ROUTER_COUNT));
    const size_t bytes = (size_t)N * (size_t)m.spec.vocab_size * sizeof(float);
    float *wanted = checked_logits(&m);
    for (int i = 0; i < 7; i++) {
        for (int threads = 1; threads <= 4; threads++) {
            const int isa = (i + threads) % ps_isa_count();
            const stage_runner_params p = {.path = "m.h5",
                                           .n_threads = threads,
                                           .isa = ps_isa_supported(isa) ? ps_isa_name(isa) : NULL};
            float *found = run(&p, &m, chunks[i]);
            ck_assert_mem_eq(found, wanted, bytes);
            ps_mem_free(found);
        }
    }
    ps_mem_free(wanted);
    spec_model_release(&m);
}
END_TEST

/* Matrices are counted once for all the rows that chose them, and not at all where nobody did. */
START_TEST(only_the_chosen_experts_are_read)
{
    spec_model m = mixture_model(6, 2, PS_ROUTER_CHOSEN);
    static const float biases[6] = {0.0f, 0.0f, 9.0f, 0.0f, 9.0f, 0.0f};
    float *rows = equal_rows(&m);
    m.edits[0] = (spec_model_edit){PS_ROLE_ROUTER, 0, rows};
    m.edits[1] = (spec_model_edit){PS_ROLE_ROUTER_BIAS, 0, biases};
    assert_ok(spec_model_write(&m, "m.h5"));
    float *logits = ps_mem_new((size_t)N * (size_t)m.spec.vocab_size, sizeof *logits);
    int32_t tokens[N];
    stage_runner r;
    fill_tokens(&m, tokens);
    assert_ok(stage_runner_open(&(stage_runner_params){.path = "m.h5"}, &r));
    size_t of_one = 0;
    for (int role = PS_ROLE_EXPERT_GATE; role <= PS_ROLE_EXPERT_DOWN; role++) {
        const ps_ckpt_tensor *t = ps_ckpt_find(&r.ckpt, (ps_role)role, 0);
        of_one += t->bytes / (size_t)t->need.count;
    }
    for (int n = 1; n <= N; n += 13) {
        stage_runner_run(&r, 0, 0, tokens, n, n, logits);
        ck_assert_uint_eq(ps_stage_expert_bytes_read(r.parts[0]), 2 * of_one);
        stage_runner_end(&r, 0);
    }
    ck_assert_uint_eq(ps_weights_layer_bytes(&r.ckpt, 0),
                      ps_weights_shared_bytes(&r.ckpt, 0) + 2 * of_one);
    stage_runner_close(&r);
    ps_mem_free(logits);
    ps_mem_free(rows);
    spec_model_release(&m);
}
END_TEST

START_TEST(scores_that_are_no_numbers_choose_somebody)
{
    spec_model m = mixture_model(4, 2, PS_ROUTER_CHOSEN);
    float embed[50 * 20];
    for (int i = 0; i < 50 * 20; i++) {
        embed[i] = i / 20 == 7 ? 3e38f : 0.5f; // the squares of token 7's norm overflow
    }
    m.edits[0] = (spec_model_edit){PS_ROLE_EMBED, -1, embed};
    assert_ok(spec_model_write(&m, "m.h5"));
    stage_runner r;
    float logits[3 * 50];
    assert_ok(stage_runner_open(&(stage_runner_params){.path = "m.h5"}, &r));
    stage_runner_run(&r, 0, 0, (int32_t[]){1, 2, 7}, 3, 3, logits);
    for (int i = 0; i < 100; i++) {
        ck_assert(isfinite(logits[i])); // the rows before it are as they were
    }
    stage_runner_close(&r);
    spec_model_release(&m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/mixture");
    TCase *tcase = scratch_case(suite, "mixture");
    tcase_add_test(tcase, of_equal_scores_the_lowest_experts_are_chosen);
    tcase_add_test(tcase, ties_at_the_border_go_to_the_lowest);
    tcase_add_test(tcase, all_rows_may_choose_the_same_experts_or_all_of_them);
    tcase_add_test(tcase, as_many_experts_as_a_model_may_have);
    tcase_add_loop_test(tcase, a_rows_bits_do_not_depend_on_the_rows_beside_it, 0, 6);
    tcase_add_test(tcase, only_the_chosen_experts_are_read);
    tcase_add_test(tcase, scores_that_are_no_numbers_choose_somebody);
    return scratch_run(suite);
}
