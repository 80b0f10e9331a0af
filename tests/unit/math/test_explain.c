/* Attention taken apart agrees with attention put together, and each part with its formula. */
#include "math/explain.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "math/kernels.h"
#include "support/attention_case.h"
#include "support/attention_picks.h"
#include "support/engines.h"
#include "support/floats.h"

enum { KEYS_MAX = 1500 };

/* What the look at each job is compared with. */
typedef struct examiner {
    const attention_case *c;
    ps_explained e;
    int64_t seen; // (row, head)s
} examiner;

/* The query as the key's pass has it. */
static const float *head_of_q(const attention_case *c, int head, int query, int key)
{
    const bool kept = key < ps_visible_kept(&c->shape.visible, c->base + query);
    const float *q = kept && c->q_kept ? c->q_kept : c->q;
    return q +
           ((size_t)query * (size_t)c->shape.n_heads + (size_t)head) * (size_t)c->shape.head_dim;
}

static const float *head_of_k(const attention_case *c, const provider_pair *pair)
{
    const int group = c->shape.n_heads / c->shape.n_kv_heads;
    return pair->k + pair->head / group * c->shape.head_dim;
}

static double dot(const float *a, const float *b, int n)
{
    double sum = 0.0;
    for (int t = 0; t < n; t++) {
        sum += (double)a[t] * (double)b[t];
    }
    return sum;
}

/* <u, k> scale of rel_pos; everything of a provider with numbers for keys; else nothing. */
static double key_part_reference(const attention_case *c, const provider *p,
                                 const provider_pair *pair)
{
    const int k = c->shape.head_dim;
    if (p->kind == PROVIDER_REL_POS)
        return dot(p->u + pair->head * k, head_of_k(c, pair), k) * (double)c->shape.scale;
    const bool of_keys = p->kind == PROVIDER_DOT || p->kind == PROVIDER_FOX;
    return of_keys ? provider_reference(p, pair) : 0.0;
}

static void check_key(const examiner *x, int head, int query, int64_t n)
{
    const attention_case *c = x->c;
    const ps_explained *e = &x->e;
    const int key = (int)(e->position[n] - c->base);
    const provider_pair pair = attention_case_pair(c, head, query, key);
    const double cap = (double)c->shape.softcap;
    double score = dot(head_of_q(c, head, query, key), head_of_k(c, &pair), c->shape.head_dim);
    double bias = 0.0, sum_of_tolerances = 1e-4;
    score *= (double)c->shape.scale;
    if (cap > 0.0) score = cap * tanh(score / cap);
    ck_assert_double_eq_tol((double)e->score[n], score, 1e-4);
    for (int p = 0; p < c->list.n; p++) {
        const double whole = provider_reference(&c->list.item[p], &pair);
        const double key_part = key_part_reference(c, &c->list.item[p], &pair);
        const double tolerance = 1e-4 + 1e-6 * fabs(whole);
        ck_assert_double_eq_tol((double)e->key_part[p][n], key_part, tolerance);
        ck_assert_double_eq_tol((double)e->position_part[p][n], whole - key_part, tolerance);
        bias += whole;
        sum_of_tolerances += tolerance;
    }
    ck_assert_double_eq_tol((double)e->bias[n], bias, sum_of_tolerances);
    ck_assert_float_eq(e->total[n], e->score[n] + e->bias[n]);
}

/* Weights of score or total sum to 1 with the sink's, and times values give attention's output. */
static void check_weights(const examiner *x, const ps_attention_job *job, int row, int head)
{
    const attention_case *c = x->c;
    const ps_explained *e = &x->e;
    const size_t k = (size_t)c->shape.head_dim, kv_heads = (size_t)c->shape.n_kv_heads;
    const size_t kv_head = (size_t)head / ((size_t)c->shape.n_heads / kv_heads);
    const float *out = job->out + (size_t)row * job->out_stride + (size_t)head * k;
    double sum = (double)e->sink_weight, plain = 0.0;
    for (int64_t n = 0; n < e->n; n++) {
        sum += (double)e->weight[n];
        plain += (double)e->plain_weight[n];
    }
    ck_assert_double_eq_tol(sum, 1.0, 1e-5);
    ck_assert(c->sinks || c->quiet ? plain <= 1.0 + 1e-5 : fabs(plain - 1.0) <= 1e-5);
    for (size_t t = 0; t < k; t++) {
        double value = 0.0;
        for (int64_t n = 0; n < e->n; n++) {
            const size_t key = (size_t)(e->position[n] - c->base);
            value += (double)e->weight[n] * (double)c->v[(key * kv_heads + kv_head) * k + t];
        }
        ck_assert_double_eq_tol((double)out[t], value, 1e-5);
    }
}

static void examine(void *arg, const ps_engine *engine, const ps_attention_job *job)
{
    examiner *x = arg;
    ck_assert_int_eq(job->n_runs, 1);
    const ps_attention_run *run = &job->runs[0];
    for (int row = 0; row < run->n_rows; row++) {
        const int query = (int)(run->first_position + row - x->c->base);
        for (int head = 0; head < job->shape.n_heads; head++, x->seen++) {
            ps_attention_explain(engine, job, run, row, head, &x->e);
            ck_assert_int_eq(x->e.n, ps_attention_count_keys(job, run, row));
            ck_assert_int_eq(x->e.position[x->e.n - 1],
                             ps_visible_end(&job->shape.visible, run->first_position + row,
                                            run->first_position + run->n_rows) -
                                 1);
            for (int64_t n = 0; n < x->e.n; n++) {
                ck_assert(n == 0 || x->e.position[n] > x->e.position[n - 1]);
                check_key(x, head, query, n);
            }
            check_weights(x, job, row, head);
        }
    }
}

START_TEST(parts_are_those_of_the_formulas_and_add_up_to_the_output)
{
    dice d = {.seed = 40 + (uint64_t)_i};
    ps_engine engine = engines_open(1 + _i % 2);
    attention_sizes sizes = attention_picks_sizes(_i * 7 % ATTENTION_PICKS, &d, 3e5);
    sizes.sinks = _i % 3 == 0 && !sizes.quiet;
    attention_case c = attention_case_roll(&sizes, &engine, &d);
    examiner x = {.c = &c};
    ck_assert_int_eq(ps_explained_open(KEYS_MAX, sizes.head_dim, &x.e), PS_OK);
    c.look = examine;
    c.look_arg = &x;
    const attention_way way = {.chunk = 1 + dice_throw(&d, 60), .ring = _i % 2};
    float *out = floats_new(attention_case_floats(&c));
    attention_case_run(&c, &engine, &way, out);
    ck_assert_int_eq(x.seen, (int64_t)attention_case_queries(&c) * c.shape.n_heads);
    ps_mem_free(out);
    ps_explained_close(&x.e);
    attention_case_release(&c);
    ps_engine_close(&engine);
}
END_TEST

/* Hides every key of even position, and all keys from odd heads. */
static void hide_fill(const ps_bias *bias, const struct ps_kernels *kernels,
                      const ps_bias_tile *tile)
{
    (void)bias;
    (void)kernels;
    for (int r = 0; r < tile->n_heads * tile->n_queries; r++) {
        const int head = tile->first_head + r / tile->n_queries;
        for (int j = tile->first; j < tile->last; j++) {
            if (head % 2 == 0 && (tile->start + j) % 2 != 0) continue;
            tile->bias[(size_t)r * PS_SEGMENT + (size_t)j] = -INFINITY;
        }
    }
}

static void examine_hidden(void *arg, const ps_engine *engine, const ps_attention_job *job)
{
    ps_explained *e = arg;
    const ps_attention_run *run = &job->runs[0];
    for (int head = 0; head < job->shape.n_heads; head++) {
        ps_attention_explain(engine, job, run, run->n_rows - 1, head, e);
        double sum = 0.0;
        for (int64_t n = 0; n < e->n; n++) {
            const bool hidden = head % 2 != 0 || e->position[n] % 2 == 0;
            ck_assert(!isnan(e->weight[n]) && (e->weight[n] == 0.0f) == hidden);
            ck_assert((e->position_part[0][n] == -INFINITY) == hidden);
            ck_assert(e->key_part[0][n] == 0.0f);
            sum += (double)e->weight[n];
        }
        ck_assert_double_eq_tol(sum, head % 2 == 0 ? 1.0 : 0.0, 1e-6);
    }
}

START_TEST(keys_at_minus_infinity_weigh_nothing_and_leave_no_nan)
{
    dice d = {.seed = 5};
    ps_engine engine = engines_open(1);
    const attention_sizes sizes = {.n_kv_heads = 2, .group = 1, .head_dim = 8, .n = 300};
    attention_case c = attention_case_roll(&sizes, &engine, &d);
    ps_explained e;
    ck_assert_int_eq(ps_explained_open(300, 8, &e), PS_OK);
    c.list.bias[0] = (ps_bias){.kind = PS_BIAS_CUSTOM, .fill = hide_fill};
    c.list.n = 1;
    c.look = examine_hidden;
    c.look_arg = &e;
    float *out = floats_new(attention_case_floats(&c));
    attention_case_run(&c, &engine, &(attention_way){.chunk = 50}, out);
    c.list.n = 0; // not the list's own
    ps_mem_free(out);
    ps_explained_close(&e);
    attention_case_release(&c);
    ps_engine_close(&engine);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("explain");
    tcase_set_timeout(tcase, 60.0);
    tcase_add_loop_test(tcase, parts_are_those_of_the_formulas_and_add_up_to_the_output, 0,
                        DICE_ROUNDS(60));
    tcase_add_test(tcase, keys_at_minus_infinity_weigh_nothing_and_leave_no_nan);
    Suite *suite = suite_create("math/explain");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
