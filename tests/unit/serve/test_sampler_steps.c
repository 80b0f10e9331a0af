/* The sampler's steps against plain ones: every step by its definition, over all tokens, with a
 * full sort and the mathematical library's exp and log. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../support/dice.h"
#include "../../support/fixed_constraint.h"
#include "serve/sampler.h"
#include "serve/sampler_steps.h"

enum { V_MAX = 400, HISTORY_MAX = 60 };

/* --- the plain sampler ------------------------------------------------------------------------ */

typedef struct scene {
    int V;
    float logits[V_MAX], unconditional[V_MAX];
    bool allowed[V_MAX];
    uint64_t allowed_bits[(V_MAX + 63) / 64];
    int32_t history[HISTORY_MAX];
    bool is_prompt[HISTORY_MAX];
    int n_history;
    ps_sample_bias bias[6];
    int32_t banned[4], end_tokens[2];
    ps_sample_params params;
} scene;

typedef struct ranked {
    double by; // descending
    int token; // ascending among equals
    double p;
} ranked;

static int compare_ranked(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->by != y->by) return x->by > y->by ? -1 : 1;
    return x->token - y->token;
}

/* z is -inf for what was removed. */
static void plain_softmax(const double *z, int V, double *p)
{
    double largest = -HUGE_VAL, sum = 0.0;
    for (int v = 0; v < V; v++) {
        if (z[v] > largest) largest = z[v];
    }
    for (int v = 0; v < V; v++) {
        p[v] = exp(z[v] - largest);
        sum += p[v];
    }
    for (int v = 0; v < V; v++) {
        p[v] /= sum;
    }
}

static int plain_rank(const double *z, const double *by, int V, ranked *list)
{
    double p[V_MAX];
    int n = 0;
    plain_softmax(z, V, p);
    for (int v = 0; v < V; v++) {
        if (isfinite(z[v])) list[n++] = (ranked){by[v], v, p[v]};
    }
    qsort(list, (size_t)n, sizeof *list, compare_ranked);
    return n;
}

/* Entries of the shortest prefix whose probabilities reach `mass`; at least one. */
static int plain_prefix(const ranked *list, int n, double mass)
{
    double sum = list[0].p;
    int k = 1;
    while (k < n && sum < mass) {
        sum += list[k++].p;
    }
    return k;
}

static void plain_keep(double *z, int V, const ranked *list, int n)
{
    bool stays[V_MAX] = {false};
    for (int i = 0; i < n; i++) {
        stays[list[i].token] = true;
    }
    for (int v = 0; v < V; v++) {
        if (!stays[v]) z[v] = -HUGE_VAL;
    }
}

static int with_equals(const ranked *list, int n, int k)
{
    while (k < n && list[k].by == list[k - 1].by) {
        k++;
    }
    return k;
}

static void plain_typical(double *z, int V, double mass)
{
    double p[V_MAX], by[V_MAX], entropy = 0.0;
    ranked list[V_MAX];
    plain_softmax(z, V, p);
    for (int v = 0; v < V; v++) {
        if (p[v] > 0.0) entropy -= p[v] * log(p[v]);
    }
    for (int v = 0; v < V; v++) {
        by[v] = -fabs(-log(p[v]) - entropy);
    }
    const int n = plain_rank(z, by, V, list);
    plain_keep(z, V, list, with_equals(list, n, plain_prefix(list, n, mass)));
}

static int times_seen(const scene *c, int token, bool prompt_too)
{
    const int window = c->params.repeat_last_n;
    int times = 0;
    for (int i = window > 0 && c->n_history > window ? c->n_history - window : 0; i < c->n_history;
         i++) {
        times += c->history[i] == token && (prompt_too || !c->is_prompt[i]);
    }
    return times;
}

static int times_generated(const scene *c)
{
    int times = 0;
    for (int i = 0; i < c->n_history; i++) {
        times += !c->is_prompt[i];
    }
    return times;
}

static void plain_ban(const scene *c, double *z)
{
    const ps_sample_params *p = &c->params;
    for (int i = 0; i < p->n_banned; i++) {
        z[p->banned[i]] = -HUGE_VAL;
    }
    for (int i = 0; i < p->n_end_tokens && times_generated(c) < p->min_new_tokens; i++) {
        z[p->end_tokens[i]] = -HUGE_VAL;
    }
}

static void plain_step(const scene *c, ps_sample_step step, double *z)
{
    const ps_sample_params *p = &c->params;
    ranked list[V_MAX];
    const int n = plain_rank(z, z, c->V, list);
    if (n == 0) return;
    switch (step) {
    case PS_SAMPLE_GUIDANCE:
        for (int v = 0; v < c->V && p->guidance > 1.0; v++) {
            const double u = (double)c->unconditional[v];
            z[v] = isfinite(u) && isfinite(z[v]) ? u + p->guidance * (z[v] - u) : -HUGE_VAL;
        }
        break;
    case PS_SAMPLE_LOGIT_BIAS:
        for (int i = 0; i < p->n_logit_bias; i++) {
            z[p->logit_bias[i].token] += (double)p->logit_bias[i].bias;
        }
        break;
    case PS_SAMPLE_BANNED:
        plain_ban(c, z);
        break;
    case PS_SAMPLE_REPETITION:
    case PS_SAMPLE_OUTPUT_REPETITION:
        for (int v = 0; v < c->V; v++) {
            if (times_seen(c, v, step == PS_SAMPLE_REPETITION) > 0)
                z[v] = z[v] > 0.0 ? z[v] / p->repetition_penalty : z[v] * p->repetition_penalty;
        }
        break;
    case PS_SAMPLE_FREQUENCY:
        for (int v = 0; v < c->V; v++) {
            z[v] -= p->frequency_penalty * times_seen(c, v, false);
        }
        break;
    case PS_SAMPLE_PRESENCE:
        for (int v = 0; v < c->V; v++) {
            if (times_seen(c, v, false) > 0) z[v] -= p->presence_penalty;
        }
        break;
    case PS_SAMPLE_CONSTRAINT:
        for (int v = 0; v < c->V; v++) {
            if (!c->allowed[v]) z[v] = -HUGE_VAL;
        }
        break;
    case PS_SAMPLE_TEMPERATURE:
        for (int v = 0; v < c->V; v++) {
            z[v] /= p->temperature;
        }
        break;
    case PS_SAMPLE_TOP_K:
        if (p->top_k > 0 && p->top_k < n) plain_keep(z, c->V, list, with_equals(list, n, p->top_k));
        break;
    case PS_SAMPLE_TOP_P:
        if (p->top_p < 1.0) plain_keep(z, c->V, list, plain_prefix(list, n, p->top_p));
        break;
    case PS_SAMPLE_MIN_P:
        for (int v = 0; v < c->V; v++) {
            if (exp(z[v] - list[0].by) < p->min_p) z[v] = -HUGE_VAL;
        }
        break;
    case PS_SAMPLE_TYPICAL:
        if (p->typical_p < 1.0) plain_typical(z, c->V, p->typical_p);
        break;
    case PS_SAMPLE_STEP_COUNT:
        break;
    }
}

/* Number of tokens left; their probabilities. */
static int plain_probabilities(const scene *c, double *probability)
{
    double z[V_MAX] = {0};
    int left = 0;
    for (int v = 0; v < c->V; v++) {
        z[v] = (double)c->logits[v];
    }
    for (int i = 0; i < c->params.n_order; i++) {
        plain_step(c, c->params.order[i], z);
    }
    for (int v = 0; v < c->V; v++) {
        left += isfinite(z[v]) != 0;
    }
    plain_softmax(z, c->V, probability);
    return left;
}

/* --- random scenes ---------------------------------------------------------------------------- */

/* Multiples of 1/4, so that there are ties; some zeros of both signs, some -inf. */
static void random_logits(dice *d, scene *c)
{
    c->V = 1 + dice_throw(d, dice_throw(d, 4) == 0 ? V_MAX : 40);
    const int spread = 1 + dice_throw(d, 40);
    for (int v = 0; v < c->V; v++) {
        const int kind = dice_throw(d, 12);
        c->logits[v] = (float)(dice_throw(d, 2 * spread) - spread) * 0.25f;
        if (kind == 0 && v > 0) c->logits[v] = -INFINITY;
        if (kind == 1) c->logits[v] = -0.0f;
        c->unconditional[v] = (float)(dice_throw(d, 2 * spread) - spread) * 0.25f;
        if (kind == 2 && v > 0) c->unconditional[v] = -INFINITY;
    }
}

static void random_history(dice *d, scene *c)
{
    c->n_history = dice_throw(d, HISTORY_MAX);
    const int n_prompt = dice_throw(d, HISTORY_MAX);
    for (int i = 0; i < c->n_history; i++) {
        c->history[i] = dice_throw(d, c->V < 12 ? c->V : 12);
        c->is_prompt[i] = i < n_prompt;
    }
}

static void random_lists(dice *d, scene *c)
{
    for (int v = 0; v < c->V; v++) {
        c->allowed[v] = dice_throw(d, 3) > 0;
        if (c->allowed[v]) c->allowed_bits[v / 64] |= (uint64_t)1 << (v % 64);
    }
    for (int i = 0; i < 6; i++) {
        c->bias[i] = (ps_sample_bias){dice_throw(d, c->V), (float)dice_real(d, -3.0, 3.0)};
        if (i < 4) c->banned[i] = dice_throw(d, c->V);
        if (i < 2) c->end_tokens[i] = dice_throw(d, c->V);
    }
}

static void random_scene(dice *d, scene *c)
{
    *c = (scene){.params = ps_sample_params_default()};
    random_logits(d, c);
    random_history(d, c);
    random_lists(d, c);
    ps_sample_params *p = &c->params;
    p->temperature = dice_real(d, 0.2, 2.0);
    p->top_k = 1 + dice_throw(d, c->V + 5);
    p->top_p = dice_real(d, 0.0, 1.0);
    p->min_p = dice_real(d, 0.0, 0.3);
    p->typical_p = dice_real(d, 0.01, 1.0);
    p->guidance = dice_real(d, 0.0, 3.0);
    p->repetition_penalty = dice_real(d, 0.5, 2.0);
    p->frequency_penalty = dice_real(d, -1.0, 1.0);
    p->presence_penalty = dice_real(d, -1.0, 1.0);
    p->repeat_last_n = dice_throw(d, 2) ? dice_throw(d, 30) - 1 : 0;
    p->logit_bias = c->bias;
    p->n_logit_bias = dice_throw(d, 7);
    p->banned = c->banned;
    p->n_banned = dice_throw(d, 5);
    p->end_tokens = c->end_tokens;
    p->n_end_tokens = dice_throw(d, 3);
    p->min_new_tokens = dice_throw(d, 40);
    p->seed = dice_bits(d);
    p->sample = (uint32_t)dice_throw(d, 5);
}

/* Switches off what the order does not name. */
static void switch_off_unnamed(ps_sample_params *p)
{
    const ps_sample_params off = ps_sample_params_default();
    bool named[PS_SAMPLE_STEP_COUNT] = {false};
    for (int i = 0; i < p->n_order; i++) {
        named[p->order[i]] = true;
    }
    if (!named[PS_SAMPLE_TEMPERATURE]) p->temperature = off.temperature;
    if (!named[PS_SAMPLE_TOP_K]) p->top_k = off.top_k;
    if (!named[PS_SAMPLE_TOP_P]) p->top_p = off.top_p;
    if (!named[PS_SAMPLE_MIN_P]) p->min_p = off.min_p;
    if (!named[PS_SAMPLE_TYPICAL]) p->typical_p = off.typical_p;
    if (!named[PS_SAMPLE_GUIDANCE]) p->guidance = off.guidance;
    if (!named[PS_SAMPLE_REPETITION] && !named[PS_SAMPLE_OUTPUT_REPETITION])
        p->repetition_penalty = off.repetition_penalty;
    if (!named[PS_SAMPLE_FREQUENCY]) p->frequency_penalty = off.frequency_penalty;
    if (!named[PS_SAMPLE_PRESENCE]) p->presence_penalty = off.presence_penalty;
    if (!named[PS_SAMPLE_LOGIT_BIAS]) p->n_logit_bias = 0;
    if (!named[PS_SAMPLE_BANNED]) p->n_banned = p->n_end_tokens = 0;
}

static void random_order(dice *d, ps_sample_params *p)
{
    for (int i = 0; i < PS_SAMPLE_STEP_COUNT; i++) {
        p->order[i] = (ps_sample_step)i;
    }
    for (int i = PS_SAMPLE_STEP_COUNT - 1; i > 0; i--) {
        const int j = dice_throw(d, i + 1);
        const ps_sample_step swapped = p->order[i];
        p->order[i] = p->order[j];
        p->order[j] = swapped;
    }
    p->n_order = dice_throw(d, PS_SAMPLE_STEP_COUNT + 1);
}

static ps_sampler *sampler_of(const scene *c)
{
    ps_sampler *s;
    ck_assert_msg(ps_sampler_new(&c->params, c->V, &s) == PS_OK, "%s", ps_err_message());
    for (int i = 0; i < c->n_history; i++) {
        ps_sampler_advance(s, c->history[i], c->is_prompt[i]);
    }
    return s;
}

static bool is_constrained(const scene *c)
{
    for (int i = 0; i < c->params.n_order; i++) {
        if (c->params.order[i] == PS_SAMPLE_CONSTRAINT) return true;
    }
    return false;
}

/* The draw by its definition. */
static int32_t plain_draw(const scene *c, const double *p)
{
    const ps_rng_block counter = {{c->params.sample, (uint32_t)times_generated(c), 0x64726177, 0}};
    const double u = ps_rng_uniform(ps_rng_philox(c->params.seed, counter));
    double running = 0.0;
    int32_t last = 0;
    for (int32_t v = 0; v < c->V; v++) {
        if (p[v] == 0.0) continue;
        last = v;
        running += p[v];
        if (running > u) break;
    }
    return last;
}

static void compare_scene(const scene *c)
{
    double wanted[V_MAX], found[V_MAX];
    float before[V_MAX];
    memcpy(before, c->logits, sizeof before);
    ps_sampler *s = sampler_of(c);
    ps_sampler_work *work = ps_sampler_work_new(c->V);
    const int left = plain_probabilities(c, wanted);
    int32_t token = -1;
    fixed_constraint constraint = fixed_constraint_of(c->allowed_bits, c->V);
    const ps_sampler_input in = {.logits = c->logits,
                                 .unconditional = c->unconditional,
                                 .constraint = is_constrained(c) ? &constraint.base : NULL};
    const ps_err err = ps_sampler_probabilities(s, work, &in, found);
    ck_assert_int_eq(ps_sampler_pick(s, work, &in, &token), err);
    ck_assert_int_eq(err, left > 0 ? PS_OK : PS_ERR_NUMERIC);
    if (!err) {
        for (int v = 0; v < c->V; v++) {
            ck_assert_msg((wanted[v] > 0.0) == (found[v] > 0.0), "token %d of %d: %g, wanted %g", v,
                          c->V, found[v], wanted[v]);
            ck_assert_double_eq_tol(found[v], wanted[v], 1e-13);
        }
        ck_assert_int_eq(token, plain_draw(c, wanted));
    }
    ck_assert_mem_eq(before, c->logits, sizeof before);
    ps_sampler_work_free(work);
    ps_sampler_free(s);
}

START_TEST(each_step_alone_equals_the_plain_one)
{
    for (uint64_t run = 0; run < 300; run++) {
        dice d = {.seed = run};
        scene c;
        random_scene(&d, &c);
        c.params.order[0] = (ps_sample_step)_i;
        c.params.n_order = 1;
        switch_off_unnamed(&c.params);
        compare_scene(&c);
    }
}
END_TEST

START_TEST(steps_in_any_order_equal_the_plain_ones)
{
    for (uint64_t run = 0; run < 200; run++) {
        dice d = {.seed = (uint64_t)_i * 1000 + run};
        scene c;
        random_scene(&d, &c);
        random_order(&d, &c.params);
        switch_off_unnamed(&c.params);
        compare_scene(&c);
    }
}
END_TEST

/* --- exp -------------------------------------------------------------------------------------- */

START_TEST(exp_is_within_one_ulp_and_exact_at_the_ends)
{
    double x[103], y[103];
    dice d = {.seed = (uint64_t)_i};
    for (int i = 0; i < 103; i++) {
        x[i] = i % 3 ? dice_real(&d, -708.0, 0.0) : dice_real(&d, -3.0, 0.0);
    }
    x[0] = 0.0, x[1] = -INFINITY, x[2] = -1e300, x[102] = -0.0;
    ps_sampler_exp(x, y, 103);
    ck_assert(y[0] == 1.0 && y[1] == 0.0 && y[2] == 0.0 && y[102] == 1.0);
    for (int i = 3; i < 102; i++) {
        const double wanted = exp(x[i]), ulp = nextafter(wanted, 2.0) - wanted;
        ck_assert_msg(fabs(y[i] - wanted) <= 1.5 * ulp, "exp(%a) is %a, wanted %a", x[i], y[i],
                      wanted);
    }
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("steps");
    tcase_add_loop_test(tcase, each_step_alone_equals_the_plain_one, 0, PS_SAMPLE_STEP_COUNT);
    tcase_add_loop_test(tcase, steps_in_any_order_equal_the_plain_ones, 0, 20);
    tcase_add_loop_test(tcase, exp_is_within_one_ulp_and_exact_at_the_ends, 0, 20);
    Suite *suite = suite_create("serve/sampler_steps");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
