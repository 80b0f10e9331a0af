/* Rounds the inputs of products with quantised weights to integers (math/panel.h): either before the
 * product, each input once for all calls that share it, or column by column as it is made. */
#include "math/linear_parts.h"

#include <assert.h>

#include "base/mem.h"

static bool needs_rounding(const ps_engine *engine, const ps_linear_call *call)
{
    return ps_dtype_is_quantised(call->weight->dtype) &&
           engine->activations != PS_ACTIVATIONS_F32 && !ps_linear_uses_blas(engine, call);
}

static bool same_input(const ps_linear_call *a, const ps_linear_call *b)
{
    return a->x == b->x && a->x_stride == b->x_stride && a->rows == b->rows &&
           a->weight->k == b->weight->k;
}

/* Whether the first call and those behind it that share its input want it as pairs. */
static bool all_want_pairs(const ps_engine *engine, const ps_linear_call *calls, int n_calls)
{
    if (calls[0].rows > engine->kernels->pair_rows) return false;
    for (int c = 0; c < n_calls; c++) {
        if (!needs_rounding(engine, &calls[c])) continue;
        if (!same_input(&calls[c], &calls[0])) break;
        if (!ps_quant_in_halves(&ps_quant_formats[calls[c].weight->dtype])) return false;
    }
    return true;
}

/* One input being rounded: items are rows. */
typedef struct rounding {
    const ps_engine *engine;
    const ps_linear_call *call;
    bool pairs;
    ps_rounded *out;
} rounding;

static void round_columns(const rounding *r, int row, int first, int end)
{
    const int limit =
        r->engine->activations == PS_ACTIVATIONS_I8 ? PS_ROUNDED_LIMIT_I8 : PS_ROUNDED_LIMIT_I16;
    ps_rounded *out = r->out + (size_t)row * ps_linear_runs(r->call->weight->k);
    const float *x = r->call->x + (size_t)row * r->call->x_stride;
    r->engine->kernels->round_row(x + first, end - first, limit, r->pairs,
                                  out + first / PS_QUANT_RUN);
}

static void round_item(void *arg, int item, int thread)
{
    (void)thread;
    const rounding *r = arg;
    round_columns(r, item, 0, r->call->weight->k);
}

/* A few rows are rounded in less time than the threads need to take them over. */
static void round_input(rounding *r)
{
    enum { ALONE_VALUES = 32768 };
    if ((size_t)r->call->rows * (size_t)r->call->weight->k >= ALONE_VALUES) {
        ps_pool_run(r->engine->pool, r->call->rows, round_item, r);
        return;
    }
    for (int row = 0; row < r->call->rows; row++) {
        round_item(r, row, 0);
    }
}

char *ps_linear_round_inputs(const ps_engine *engine, const ps_linear_call *calls, int n_calls,
                             char *scratch, const char *end, ps_linear_input *inputs)
{
    int last = -1; // the call that was rounded last
    for (int c = 0; c < n_calls; c++) {
        const ps_linear_call *call = &calls[c];
        inputs[c] = (ps_linear_input){call->rounded, call->pairs};
        if (call->rounded || !needs_rounding(engine, call)) continue;
        if (last >= 0 && same_input(call, &calls[last])) {
            inputs[c] = inputs[last];
            continue;
        }
        rounding r = {engine, call, all_want_pairs(engine, call, n_calls - c),
                      (ps_rounded *)(void *)scratch};
        scratch += (size_t)call->rows * ps_linear_runs(call->weight->k) * sizeof *r.out;
        assert(scratch <= end && "ps_linear_scratch_bytes");
        (void)end;
        round_input(&r);
        inputs[c] = (ps_linear_input){r.out, r.pairs};
        last = c;
    }
    return scratch;
}

size_t ps_linear_rounded_bytes(ps_activations activations, int rows, int k)
{
    if (activations == PS_ACTIVATIONS_F32) return 0;
    return ps_mem_round_up((size_t)rows * ps_linear_runs(k) * sizeof(ps_rounded), PS_MEM_ALIGN);
}

void ps_linear_expect(const ps_engine *engine, ps_linear_call *call,
                      const ps_linear_scratch *scratch)
{
    call->rounded = NULL;
    if (!needs_rounding(engine, call)) return;
    assert(scratch->bytes >=
           ps_linear_rounded_bytes(engine->activations, call->rows, call->weight->k));
    call->rounded = scratch->memory;
    call->pairs = all_want_pairs(engine, call, 1);
}

void ps_linear_round_columns(const ps_engine *engine, const ps_linear_call *call, int row,
                             int first, int end)
{
    if (!call->rounded) return;
    assert(first % PS_QUANT_RUN == 0 && end % PS_QUANT_RUN == 0);
    const rounding r = {engine, call, call->pairs, call->rounded};
    round_columns(&r, row, first, end);
}
