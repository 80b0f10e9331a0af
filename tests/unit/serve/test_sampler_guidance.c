/* Guidance in the sampler: recorded distributions of another program, its two orders against plain
 * double loops, and what a constraint is shown. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../support/dice.h"
#include "../../support/fixed_constraint.h"
#include "base/json.h"
#include "serve/sampler_steps.h"

enum { V_MAX = 128, HISTORY_MAX = 64 };

/* What a distribution is made of. */
typedef struct scene {
    int V;
    double cond[V_MAX], uncond[V_MAX];
    bool guided, masked[V_MAX];
    int32_t history[HISTORY_MAX];
    int n_history, n_prompt; // the first n_prompt were given
    double scale, penalty, top_p, temperature;
    int top_k;
} scene;

/* ---- plain loops ---- */

static bool was_seen(const scene *c, int token, int from)
{
    for (int i = from; i < c->n_history; i++) {
        if (c->history[i] == token) return true;
    }
    return false;
}

static void plain_penalty(const scene *c, int from, double *z)
{
    for (int v = 0; v < c->V; v++) {
        if (was_seen(c, v, from)) z[v] = z[v] < 0.0 ? z[v] * c->penalty : z[v] / c->penalty;
    }
}

static void plain_guidance(const scene *c, double *z)
{
    for (int v = 0; v < c->V && c->guided; v++) {
        z[v] = c->uncond[v] + c->scale * (z[v] - c->uncond[v]);
    }
}

static void plain_mask(const scene *c, double *z)
{
    for (int v = 0; v < c->V; v++) {
        if (c->masked[v]) z[v] = -HUGE_VAL;
    }
}

static void plain_temperature(const scene *c, double *z)
{
    for (int v = 0; v < c->V && c->temperature > 0.0; v++) {
        z[v] /= c->temperature;
    }
}

static void plain_softmax(const double *z, int V, double *p)
{
    double largest = -HUGE_VAL, sum = 0.0;
    for (int v = 0; v < V; v++) {
        largest = z[v] > largest ? z[v] : largest;
    }
    for (int v = 0; v < V; v++) {
        sum += p[v] = exp(z[v] - largest);
    }
    for (int v = 0; v < V; v++) {
        p[v] /= sum;
    }
}

/* Keeps what is not smaller than the k-th largest. */
static void plain_top_k(const scene *c, double *z)
{
    double before[V_MAX];
    memcpy(before, z, sizeof before);
    for (int v = 0; v < c->V && c->top_k > 0; v++) {
        int larger = 0;
        for (int u = 0; u < c->V; u++) {
            larger += before[u] > before[v];
        }
        if (larger >= c->top_k) z[v] = -HUGE_VAL;
    }
}

/* Drops a token when those before it, by descending probability, sum to more than p. */
static void plain_top_p(const scene *c, double *z)
{
    double p[V_MAX];
    bool drop[V_MAX] = {false};
    if (!(c->top_p > 0.0 && c->top_p < 1.0)) return;
    plain_softmax(z, c->V, p);
    for (int v = 0; v < c->V; v++) {
        double sum = 0.0;
        for (int u = 0; u < c->V; u++) {
            if (p[u] > p[v] || (p[u] == p[v] && u < v)) sum += p[u];
        }
        drop[v] = sum > c->top_p;
    }
    for (int v = 0; v < c->V; v++) {
        if (drop[v]) z[v] = -HUGE_VAL;
    }
}

static void plain_finish(const scene *c, const double *z, double *p)
{
    if (c->temperature > 0.0) {
        plain_softmax(z, c->V, p);
        return;
    }
    int best = 0;
    for (int v = 0; v < c->V; v++) {
        p[v] = 0.0;
        if (z[v] > z[best]) best = v;
    }
    p[best] = 1.0;
}

static void plain_pytorch(const scene *c, double *p)
{
    double z[V_MAX];
    memcpy(z, c->cond, sizeof z);
    plain_guidance(c, z);
    plain_mask(c, z);
    plain_penalty(c, 0, z);
    plain_top_k(c, z);
    plain_top_p(c, z);
    plain_temperature(c, z);
    plain_finish(c, z, p);
}

static void plain_vllm(const scene *c, double *p)
{
    double z[V_MAX];
    memcpy(z, c->cond, sizeof z);
    plain_penalty(c, c->n_prompt, z);
    plain_guidance(c, z);
    plain_mask(c, z);
    plain_temperature(c, z);
    plain_top_k(c, z);
    plain_top_p(c, z);
    plain_finish(c, z, p);
}

/* ---- the sampler on the same ---- */

static void sample(const scene *c, const char *order, double *p)
{
    float cond[V_MAX], uncond[V_MAX];
    uint64_t allowed[V_MAX / 64] = {0};
    for (int v = 0; v < c->V; v++) {
        cond[v] = (float)c->cond[v];
        uncond[v] = (float)c->uncond[v];
        if (!c->masked[v]) allowed[v / 64] |= (uint64_t)1 << v % 64;
    }
    ps_sample_params params = ps_sample_params_default();
    ck_assert_int_eq(ps_sample_order_parse(order, &params), PS_OK);
    params.guidance = c->guided ? c->scale : 1.0;
    params.repetition_penalty = c->penalty;
    params.top_k = c->top_k;
    params.top_p = c->top_p > 0.0 ? c->top_p : 1.0; // there, 0 is off
    params.temperature = c->temperature;
    ps_sampler *s;
    ps_sampler_work *work = ps_sampler_work_new(c->V);
    ck_assert_int_eq(ps_sampler_new(&params, c->V, &s), PS_OK);
    for (int i = 0; i < c->n_history; i++) {
        ps_sampler_advance(s, c->history[i], i < c->n_prompt);
    }
    fixed_constraint constraint = fixed_constraint_of(allowed, c->V);
    const ps_sampler_input in = {
        .logits = cond, .unconditional = uncond, .constraint = &constraint.base};
    ck_assert_msg(ps_sampler_probabilities(s, work, &in, p) == PS_OK, "%s", ps_err_message());
    ps_sampler_work_free(work);
    ps_sampler_free(s);
}

static void compare(const scene *c, const double *found, const double *wanted, double tolerance)
{
    for (int v = 0; v < c->V; v++) {
        ck_assert_int_eq(found[v] > 0.0, wanted[v] > 0.0);
        ck_assert_double_eq_tol(found[v], wanted[v], tolerance);
    }
}

/* The logits that a sampler can be given. */
static void round_logits(scene *c)
{
    for (int v = 0; v < c->V; v++) {
        c->cond[v] = (double)(float)c->cond[v];
        c->uncond[v] = (double)(float)c->uncond[v];
    }
}

/* ---- recorded distributions ---- */

static int read_list(const json_t *object, const char *key, double *out)
{
    const json_t *array = json_object_get(object, key);
    const int n = (int)json_array_size(array);
    ck_assert_int_le(n, V_MAX);
    for (int i = 0; i < n; i++) {
        out[i] = json_number_value(json_array_get(array, (size_t)i));
    }
    return n;
}

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static void read_scene(const json_t *line, scene *c)
{
    double list[V_MAX];
    *c = (scene){.scale = number(line, "cfg_scale"),
                 .penalty = number(line, "repetition_penalty"),
                 .top_k = (int)number(line, "top_k"),
                 .top_p = number(line, "top_p"),
                 .temperature = number(line, "temperature")};
    c->V = read_list(line, "cond", c->cond);
    c->guided = read_list(line, "uncond", c->uncond) == c->V;
    const int n_masked = read_list(line, "masked", list);
    for (int i = 0; i < n_masked; i++) {
        c->masked[(int)list[i]] = true;
    }
    c->n_history = read_list(line, "history", list);
    ck_assert_int_le(c->n_history, HISTORY_MAX);
    c->n_prompt = c->n_history / 2;
    for (int i = 0; i < c->n_history; i++) {
        c->history[i] = (int32_t)list[i];
    }
}

/* Recorded logits have more digits than f32. So the plain loops are held against the record as it
 * stands, and the sampler against the plain loops on what f32 makes of it. */
static void check_recorded(const json_t *line)
{
    scene c;
    double recorded[V_MAX], wanted[V_MAX], found[V_MAX];
    read_scene(line, &c);
    ck_assert_int_eq(read_list(line, "probs", recorded), c.V);
    plain_pytorch(&c, wanted);
    compare(&c, wanted, recorded, 1e-9);
    sample(&c, "pytorch", found);
    compare(&c, found, recorded, 1e-6);
    round_logits(&c);
    plain_pytorch(&c, wanted);
    compare(&c, found, wanted, 1e-12);
}

START_TEST(recorded_distributions_come_out_again)
{
    FILE *f = fopen("tests/golden/acestep/lm/sampling.jsonl", "re");
    ck_assert_msg(f != NULL, "tests run from the top of the source tree");
    static char text[1 << 15];
    int lines = 0, guided = 0;
    while (fgets(text, sizeof text, f)) {
        json_t *line;
        ck_assert_int_eq(ps_json_parse(text, strlen(text), "sampling.jsonl", &line), PS_OK);
        check_recorded(line);
        guided += json_is_array(json_object_get(line, "uncond"));
        json_decref(line);
        lines++;
    }
    fclose(f);
    ck_assert_int_eq(lines, 42);
    ck_assert_int_eq(guided, 18);
}
END_TEST

/* ---- random ones ---- */

static void random_scene(dice *d, scene *c)
{
    *c = (scene){.V = 2 + dice_throw(d, V_MAX - 1), .guided = true};
    for (int v = 0; v < c->V; v++) {
        c->cond[v] = dice_real(d, -5.0, 5.0);
        c->uncond[v] = dice_real(d, -5.0, 5.0);
        c->masked[v] = v > 0 && dice_throw(d, 3) == 0;
    }
    round_logits(c);
    c->n_history = dice_throw(d, HISTORY_MAX + 1);
    c->n_prompt = dice_throw(d, c->n_history + 1);
    for (int i = 0; i < c->n_history; i++) {
        c->history[i] = dice_throw(d, c->V);
    }
    c->scale = dice_real(d, 1.01, 4.0);
    c->penalty = dice_real(d, 0.7, 2.0);
    c->top_k = dice_throw(d, 2) ? 0 : 1 + dice_throw(d, c->V);
    c->top_p = dice_throw(d, 3) ? dice_real(d, 0.05, 1.0) : 1.0;
    c->temperature = dice_throw(d, 5) ? dice_real(d, 0.2, 2.0) : 0.0;
}

START_TEST(both_orders_equal_the_plain_loops)
{
    for (uint64_t run = 0; run < 200; run++) {
        dice d = {.seed = run};
        scene c;
        double wanted[V_MAX], found[V_MAX];
        random_scene(&d, &c);
        plain_pytorch(&c, wanted);
        sample(&c, "pytorch", found);
        compare(&c, found, wanted, 1e-12);
        plain_vllm(&c, wanted);
        sample(&c, "vllm", found);
        compare(&c, found, wanted, 1e-12);
    }
}
END_TEST

/* A sum of exactly p: by its rule the other program keeps one token more. */
START_TEST(a_nucleus_of_exactly_p_is_not_made_larger)
{
    scene c = {.V = 2, .penalty = 1.0, .top_p = 0.5, .temperature = 1.0};
    double found[2], wanted[2];
    sample(&c, "pytorch", found);
    plain_pytorch(&c, wanted);
    ck_assert(found[0] == 1.0 && found[1] == 0.0);
    ck_assert(wanted[0] == 0.5 && wanted[1] == 0.5);
}
END_TEST

/* ---- what a constraint is shown, and ranges ---- */

static void show(const char *order, const ps_sampler_input *in, ps_sampler_work *work,
                 fixed_constraint *constraint)
{
    ps_sample_params params = ps_sample_params_default();
    ck_assert_int_eq(ps_sample_order_parse(order, &params), PS_OK);
    params.guidance = in->unconditional ? 3.0 : 1.0;
    params.repetition_penalty = 2.0;
    ps_sampler *s;
    int32_t token;
    ck_assert_int_eq(ps_sampler_new(&params, work->V, &s), PS_OK);
    ps_sampler_advance(s, 1, false);
    const int before = constraint->n_allows;
    ck_assert_int_eq(ps_sampler_pick(s, work, in, &token), PS_OK);
    ck_assert_int_eq(constraint->n_allows, before + 1);
    ps_sampler_free(s);
}

START_TEST(a_constraint_is_shown_the_logits_of_its_place_in_the_order)
{
    const float cond[4] = {1.0f, 0.1f, -2.0f, 4.0f}, uncond[4] = {0.5f, 0.2f, -INFINITY, 1.0f};
    fixed_constraint constraint = fixed_constraint_of(&(uint64_t){15}, 4);
    ps_sampler_work *work = ps_sampler_work_new(4);
    ps_sampler_input in = {.logits = cond, .unconditional = uncond, .constraint = &constraint.base};
    const double u = (double)uncond[1], z = (double)cond[1];
    show("pytorch", &in, work, &constraint);
    const float guided[4] = {2.0f, (float)(u + 3.0 * (z - u)), -INFINITY, 10.0f};
    ck_assert_mem_eq(constraint.shown, guided, sizeof guided);
    show("vllm", &in, work, &constraint);
    const float penalised[4] = {2.0f, (float)(u + 3.0 * (z / 2.0 - u)), -INFINITY, 10.0f};
    ck_assert_mem_eq(constraint.shown, penalised, sizeof penalised);
    // Nothing of one pick is left for the next.
    in.ranges = (const ps_id_range[]){{0, 1}, {3, 4}};
    in.n_ranges = 2;
    show("pytorch", &in, work, &constraint);
    const float narrow[4] = {2.0f, -INFINITY, -INFINITY, 10.0f};
    ck_assert_mem_eq(constraint.shown, narrow, sizeof narrow);
    in.unconditional = NULL;
    show("pytorch", &in, work, &constraint);
    const float plain[4] = {1.0f, -INFINITY, -INFINITY, 4.0f};
    ck_assert_mem_eq(constraint.shown, plain, sizeof plain);
    ps_sampler_work_free(work);
}
END_TEST

/* What lies outside need not even be a number. */
START_TEST(ranges_are_as_if_everything_else_were_minus_infinity)
{
    static const ps_id_range ranges[] = {{2, 5}, {7, 8}, {11, 40}};
    float logits[64], other[64], inside[64];
    dice d = {.seed = 4};
    for (int v = 0; v < 64; v++) {
        const bool in = (v >= 2 && v < 5) || v == 7 || (v >= 11 && v < 40);
        logits[v] = in ? (float)dice_real(&d, -3.0, 3.0) : NAN;
        inside[v] = in ? logits[v] : -INFINITY;
        other[v] = (float)dice_real(&d, -3.0, 3.0);
    }
    ps_sampler_work *work = ps_sampler_work_new(64);
    for (int i = 0; i < 40; i++) {
        ps_sample_params params = ps_sample_params_default();
        params.seed = (uint64_t)i;
        params.temperature = i % 4 ? 0.9 : 0.0;
        params.guidance = i % 3 ? 1.7 : 1.0;
        params.top_k = i % 2 ? 12 : 0;
        ps_sampler *s;
        int32_t few, all;
        ck_assert_int_eq(ps_sampler_new(&params, 64, &s), PS_OK);
        ps_sampler_input in = {
            .logits = logits, .unconditional = other, .ranges = ranges, .n_ranges = 3};
        ck_assert_int_eq(ps_sampler_pick(s, work, &in, &few), PS_OK);
        in = (ps_sampler_input){.logits = inside, .unconditional = other};
        ck_assert_int_eq(ps_sampler_pick(s, work, &in, &all), PS_OK);
        ck_assert_int_eq(few, all);
        ps_sampler_free(s);
    }
    ps_sampler_work_free(work);
}
END_TEST

START_TEST(guidance_without_the_other_logits_is_refused_and_bad_ones_are_named)
{
    const float cond[3] = {0.0f, 1.0f, 2.0f}, bad[3] = {0.0f, NAN, 1.0f};
    ps_sample_params params = ps_sample_params_default();
    params.guidance = 2.0;
    ps_sampler *s;
    int32_t token;
    ps_sampler_work *work = ps_sampler_work_new(3);
    ck_assert_int_eq(ps_sampler_new(&params, 3, &s), PS_OK);
    ps_sampler_input in = {.logits = cond};
    ck_assert_int_eq(ps_sampler_pick(s, work, &in, &token), PS_ERR_USAGE);
    ck_assert_str_eq(ps_err_message(), "guidance is 2, but there are no unconditional logits");
    in.unconditional = bad;
    ck_assert_int_eq(ps_sampler_pick(s, work, &in, &token), PS_ERR_NUMERIC);
    ck_assert_str_eq(ps_err_message(), "logits: token 1 has NaN, wanted a number or -inf");
    ps_sampler_free(s);
    ps_sampler_work_free(work);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("guidance");
    tcase_add_test(tcase, recorded_distributions_come_out_again);
    tcase_add_test(tcase, both_orders_equal_the_plain_loops);
    tcase_add_test(tcase, a_nucleus_of_exactly_p_is_not_made_larger);
    tcase_add_test(tcase, a_constraint_is_shown_the_logits_of_its_place_in_the_order);
    tcase_add_test(tcase, ranges_are_as_if_everything_else_were_minus_infinity);
    tcase_add_test(tcase, guidance_without_the_other_logits_is_refused_and_bad_ones_are_named);
    Suite *suite = suite_create("serve/sampler_guidance");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
