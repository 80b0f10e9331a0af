/* Logits of some ids: the same bits as among all of them, -inf for the others, whatever the rows of
 * a call and the calls before it wanted; and no more weights read than their panels. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "math/panel.h"
#include "model/stage_model.h"
#include "support/dice.h"
#include "support/scratch.h"
#include "support/stage_runner.h"
#include "tool/synthetic.h"

enum { WIDTH = 256, VOCABULARY = 5003, RANGES_MAX = 400 };

static const char *const types[] = {"f32", "bf16", "q8_0", "q4_k"};

/* A model with its head, and rows that nobody computed. */
typedef struct stage {
    stage_runner runner;
    size_t stride, row_bytes;
    float *x;   // [PS_HEAD_ROWS, WIDTH]
    float *all; // [PS_HEAD_ROWS, stride] every logit of x
} stage;

/* In place: the model points into it. */
static void open_stage(const char *type, int n_threads, stage *s)
{
    char spec[160];
    snprintf(spec, sizeof spec,
             "llama-0.3b,layers=1,d=%d,heads=4,kv=2,head_dim=64,ff=256,vocab=%d,type=%s", WIDTH,
             VOCABULARY, type);
    assert_ok(ps_synthetic_write(spec, "m.h5", false));
    *s = (stage){0};
    const stage_runner_params params = {.path = "m.h5", .n_threads = n_threads};
    assert_ok(stage_runner_open(&params, &s->runner));
    s->runner.ckpt.spec.logit_scale = 0.5;
    s->runner.ckpt.spec.final_softcap = 3.0;
    s->stride = ps_stage_logits_stride(&s->runner.ckpt.spec);
    s->x = ps_mem_new(PS_HEAD_ROWS * WIDTH, sizeof *s->x);
    s->all = ps_mem_new(PS_HEAD_ROWS * s->stride, sizeof *s->all);
    dice d = {.seed = 9};
    for (int i = 0; i < PS_HEAD_ROWS * WIDTH; i++) {
        s->x[i] = (float)dice_real(&d, -1.0, 1.0);
    }
    memcpy(s->all, ps_stage_head(s->runner.parts[0], s->x, PS_HEAD_ROWS, NULL),
           PS_HEAD_ROWS * s->stride * sizeof *s->all);
    s->row_bytes = ps_stage_head_bytes_read(s->runner.parts[0]) /
                   (size_t)(ps_panel_count(VOCABULARY) * PS_PANEL_LANES);
}

static void close_stage(stage *s)
{
    ps_mem_free(s->x);
    ps_mem_free(s->all);
    stage_runner_close(&s->runner);
}

static bool is_wanted(const ps_logits_wanted *w, int v)
{
    if (w->n_ranges == 0) return true;
    for (int i = 0; i < w->n_ranges; i++) {
        if (v >= w->ranges[i].first && v < w->ranges[i].end) return true;
    }
    return false;
}

/* The head of rows first .. first+n-1 of x, wanted[n]. */
static void check(const stage *s, int first, int n, const ps_logits_wanted *wanted)
{
    const float minus = -INFINITY;
    const float *found = ps_stage_head(s->runner.parts[0], s->x + (size_t)first * WIDTH, n, wanted);
    for (int r = 0; r < n; r++) {
        const float *row = found + (size_t)r * s->stride;
        const float *all = s->all + (size_t)(first + r) * s->stride;
        for (int v = 0; v < VOCABULARY; v++) {
            const float *right = is_wanted(&wanted[r], v) ? &all[v] : &minus;
            ck_assert_msg(memcmp(&row[v], right, sizeof minus) == 0, "row %d, id %d: %g, not %g", r,
                          v, (double)row[v], (double)*right);
        }
    }
}

/* From a single id to hundreds of ranges. */
static ps_logits_wanted throw_wanted(dice *d, ps_id_range *ranges)
{
    const int kind = dice_throw(d, 4);
    if (kind == 0) return (ps_logits_wanted){0};
    const int length = kind == 1 ? 1500 : 12, gap = kind == 3 ? 20 : 900;
    int n = 0;
    for (int at = dice_throw(d, gap); at < VOCABULARY && n < RANGES_MAX;) {
        const int end = at + 1 + dice_throw(d, length);
        ranges[n++] = (ps_id_range){at, end < VOCABULARY ? end : VOCABULARY};
        at = end + 1 + dice_throw(d, gap);
    }
    return (ps_logits_wanted){ranges, n};
}

START_TEST(what_is_wanted_has_its_bits_and_the_rest_is_minus_infinity)
{
    static ps_id_range ranges[PS_HEAD_ROWS][RANGES_MAX];
    ps_logits_wanted wanted[PS_HEAD_ROWS];
    for (int n_threads = 1; n_threads <= 2; n_threads++) {
        stage s;
        open_stage(types[_i], n_threads, &s);
        dice d = {.seed = (uint64_t)_i};
        for (int call = 0; call < 20; call++) {
            const int n = 1 + dice_throw(&d, PS_HEAD_ROWS);
            const bool alike = dice_throw(&d, 2);
            for (int r = 0; r < n; r++) {
                wanted[r] = alike && r > 0 ? wanted[0] : throw_wanted(&d, ranges[r]);
            }
            check(&s, dice_throw(&d, PS_HEAD_ROWS - n + 1), n, wanted);
        }
        close_stage(&s);
    }
}
END_TEST

/* The ends of panels and of the vocabulary. */
START_TEST(ranges_may_end_anywhere)
{
    stage s;
    open_stage("f32", 1, &s);
    const int edges[] = {0, 1, 15, 16, 17, 31, 32, 1023, 1024, 1025, 5000, 5002, VOCABULARY};
    const int n = sizeof edges / sizeof edges[0];
    for (int a = 0; a < n; a++) {
        for (int b = a + 1; b < n; b++) {
            const ps_id_range range = {edges[a], edges[b]};
            check(&s, 0, 1, &(ps_logits_wanted){&range, 1});
        }
    }
    close_stage(&s);
}
END_TEST

static size_t bytes_of(const stage *s, const ps_logits_wanted *wanted, int n)
{
    ps_stage_head(s->runner.parts[0], s->x, n, wanted);
    return ps_stage_head_bytes_read(s->runner.parts[0]);
}

START_TEST(only_panels_that_somebody_wants_are_read)
{
    stage s;
    open_stage("q8_0", 1, &s);
    ck_assert_uint_eq(s.row_bytes, WIDTH / 32 * 34);
    const ps_id_range one = {70, 71}, far[] = {{0, 16}, {1600, 1633}, {5002, 5003}};
    const ps_logits_wanted wanted[] = {{&one, 1}, {far, 3}, {0}};
    ck_assert_uint_eq(bytes_of(&s, &wanted[0], 1), 16 * s.row_bytes);
    ck_assert_uint_eq(bytes_of(&s, &wanted[1], 1), (16 + 48 + 16) * s.row_bytes);
    // Panels 0 and 4 are so near that those between are computed too.
    ck_assert_uint_eq(bytes_of(&s, wanted, 2), (80 + 48 + 16) * s.row_bytes);
    ck_assert_uint_eq(bytes_of(&s, wanted, 3), 5008 * s.row_bytes);
    ck_assert_uint_eq(bytes_of(&s, NULL, 1), 5008 * s.row_bytes);
    close_stage(&s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/head");
    TCase *tcase = scratch_case(suite, "head");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, what_is_wanted_has_its_bits_and_the_rest_is_minus_infinity, 0, 4);
    tcase_add_test(tcase, ranges_may_end_anywhere);
    tcase_add_test(tcase, only_panels_that_somebody_wants_are_read);
    return scratch_run(suite);
}
