/* Two products side by side whose columns become the input of a third, as gate, up and down of a
 * feed-forward part: the same bits as the three one after the other, for weights of every format,
 * every instruction set, activations of all kinds, any number of rows and threads.
 *
 * The loop number gives the formats and the seed. */
#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/kernels.h"
#include "math/linear.h"
#include "math/panel.h"
#include "support/dice.h"
#include "support/engines.h"
#include "support/floats.h"
#include "support/matrices.h"
#include "support/quant_rows.h"

enum { ROWS_MAX = 40, K = 512, D = 90, COLUMNS_MAX = 1024 };

/* Weights of any format. */
typedef struct weights {
    quant_matrix quantised;
    matrix plain;
    const ps_linear *linear;
} weights;

static void weights_roll(weights *w, dice *d, ps_dtype dtype, int n, int k)
{
    memset(w, 0, sizeof *w);
    const bool bias = dice_throw(d, 2) != 0;
    if (ps_dtype_is_quantised(dtype)) {
        w->quantised = quant_matrix_roll(d, dtype, n, k, QUANT_ANY, bias);
        w->linear = &w->quantised.linear;
    } else {
        w->plain = matrix_roll(d, dtype, n, k, 0.1, bias);
        w->linear = &w->plain.linear;
    }
}

static void weights_release(weights *w)
{
    if (w->linear == &w->quantised.linear) {
        quant_matrix_release(&w->quantised);
    } else {
        matrix_release(&w->plain);
    }
}

/* x[rows, K] to gate and up[rows, stride] to out[rows, out_stride] */
typedef struct chain {
    const ps_engine *engine;
    weights gate_weights, up_weights, down_weights;
    int rows;
    size_t stride, out_stride;
    float *x, *gate, *up, *out, *wanted;
    ps_linear_call calls[2], down;
    atomic_int times[COLUMNS_MAX];
} chain;

static void chain_roll(chain *c, dice *d, int number)
{
    const ps_dtype down = (ps_dtype)(number % PS_DTYPE_COUNT);
    const int values = ps_dtype_block_values(down);
    // A last group of panels that is not full, and one that is not even a panel.
    const int n = values > 1 ? values * (1 + dice_throw(d, COLUMNS_MAX / values))
                             : 1 + dice_throw(d, COLUMNS_MAX);
    c->rows = 1 + dice_throw(d, ROWS_MAX);
    c->stride = ps_mem_round_up((size_t)n, PS_PANEL_LANES) + (size_t)dice_throw(d, 3);
    c->out_stride = ps_mem_round_up(D, PS_PANEL_LANES);
    weights_roll(&c->gate_weights, d, (ps_dtype)dice_throw(d, PS_DTYPE_COUNT), n, K);
    weights_roll(&c->up_weights, d, (ps_dtype)dice_throw(d, PS_DTYPE_COUNT), n, K);
    weights_roll(&c->down_weights, d, down, D, n);
    const size_t rows = (size_t)c->rows;
    c->x = floats_new(rows * K);
    floats_roll(d, c->x, rows * K, -2.0, 2.0);
    c->gate = floats_new(rows * c->stride);
    c->up = floats_new(rows * c->stride);
    c->out = floats_new(rows * c->out_stride);
    c->wanted = floats_new(rows * c->out_stride);
    c->calls[0] = ps_linear_call_make(c->up_weights.linear, c->x, K, c->up, c->stride, c->rows);
    c->calls[1] = ps_linear_call_make(c->gate_weights.linear, c->x, K, c->gate, c->stride, c->rows);
    c->down = ps_linear_call_make(c->down_weights.linear, c->gate, c->stride, c->out, c->out_stride,
                                  c->rows);
}

static void chain_release(chain *c)
{
    weights_release(&c->gate_weights);
    weights_release(&c->up_weights);
    weights_release(&c->down_weights);
    ps_mem_free(c->x);
    ps_mem_free(c->gate);
    ps_mem_free(c->up);
    ps_mem_free(c->out);
    ps_mem_free(c->wanted);
}

static void multiply(const chain *c, int row, int first, int end)
{
    for (int i = first; i < end; i++) {
        c->gate[(size_t)row * c->stride + (size_t)i] *= c->up[(size_t)row * c->stride + (size_t)i];
    }
}

static void after(void *arg, int first, int end)
{
    chain *c = arg;
    const int n = c->calls[0].weight->n;
    ck_assert(first % 32 == 0 && first < end && end <= n && (end % 32 == 0 || end == n));
    for (int i = first; i < end; i++) {
        atomic_fetch_add(&c->times[i], 1);
    }
    for (int row = 0; row < c->rows; row++) {
        multiply(c, row, first, end);
        ps_linear_round_columns(c->engine, &c->down, row, first, end);
    }
}

static void *memory_of(ps_linear_scratch *s, size_t bytes)
{
    s->bytes = bytes;
    s->memory = ps_mem_new(bytes + 1, 1);
    return s->memory;
}

static void scratches_take(const chain *c, ps_linear_scratch *scratch, ps_linear_scratch *down)
{
    const ps_engine *e = c->engine;
    const int n = c->calls[0].weight->n;
    memory_of(scratch, ps_linear_scratch_bytes(e->gemm, e->activations, ps_pool_threads(e->pool),
                                               c->rows, n > K ? n : K));
    memory_of(down, ps_linear_rounded_bytes(e->activations, c->rows, n));
}

static void one_after_the_other(chain *c)
{
    ps_linear_scratch scratch, down;
    scratches_take(c, &scratch, &down);
    ps_linear_call last = c->down;
    last.rounded = NULL;
    last.out = c->wanted;
    ps_linear_forward(c->engine, c->calls, 2, &scratch);
    for (int row = 0; row < c->rows; row++) {
        multiply(c, row, 0, c->calls[0].weight->n);
    }
    ps_linear_forward(c->engine, &last, 1, &scratch);
    ps_mem_free(scratch.memory);
    ps_mem_free(down.memory);
}

static void side_by_side(chain *c)
{
    ps_linear_scratch scratch, down;
    scratches_take(c, &scratch, &down);
    const size_t rows = (size_t)c->rows;
    floats_poison(c->gate, rows * c->stride);
    floats_poison(c->up, rows * c->stride);
    floats_poison(c->out, rows * c->out_stride);
    memset(c->times, 0, sizeof c->times);
    ps_linear_expect(c->engine, &c->down, &down);
    ps_linear_forward_side_by_side(c->engine, c->calls, 2, after, c, &scratch);
    ps_linear_forward(c->engine, &c->down, 1, &scratch);
    ps_mem_free(scratch.memory);
    ps_mem_free(down.memory);
}

static void check(chain *c, const ps_engine *engine)
{
    c->engine = engine;
    one_after_the_other(c);
    side_by_side(c);
    const int n = c->calls[0].weight->n;
    for (int i = 0; i < COLUMNS_MAX; i++) {
        ck_assert_int_eq(atomic_load(&c->times[i]), i < n ? 1 : 0);
    }
    for (int row = 0; row < c->rows; row++) {
        const size_t at = floats_first_difference(c->out + (size_t)row * c->out_stride,
                                                  c->wanted + (size_t)row * c->out_stride, D);
        ck_assert_msg(at == D, "%s: row %d of %d, output %zu, %d columns", engine->kernels->name,
                      row, c->rows, at, n);
    }
}

START_TEST(columns_that_are_used_as_they_are_made_give_the_same_bits)
{
    static chain c;
    dice d = {.seed = 900 + (uint64_t)_i};
    chain_roll(&c, &d, _i);
    engines_all all = engines_open_all();
    for (int i = 0; i < all.n; i++) {
        for (int a = 0; a < PS_ACTIVATIONS_COUNT; a++) {
            all.engine[i].activations = (ps_activations)a;
            check(&c, &all.engine[i]);
        }
    }
    engines_close_all(&all);
    chain_release(&c);
}
END_TEST

START_TEST(so_they_do_with_blas)
{
    static chain c;
    dice d = {.seed = 950 + (uint64_t)_i};
    chain_roll(&c, &d, _i);
    const ps_engine engine = engines_open_isa(0, 1 + _i % ENGINES_THREADS_MAX, PS_GEMM_BLAS);
    check(&c, &engine);
    ps_engine copy = engine;
    ps_engine_close(&copy);
    chain_release(&c);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("columns");
    tcase_set_timeout(tcase, 120.0);
    tcase_add_loop_test(tcase, columns_that_are_used_as_they_are_made_give_the_same_bits, 0,
                        2 * PS_DTYPE_COUNT);
    tcase_add_loop_test(tcase, so_they_do_with_blas, 0, PS_DTYPE_COUNT);
    Suite *suite = suite_create("math/linear columns");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
