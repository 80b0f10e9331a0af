/* The table of providers, and the two that need little arithmetic of their own.
 *
 * ALiBi in the form slope * (j - i): what the published forms add beyond it is the same for all
 * keys of a query and cancels in the softmax, but costs digits far from the start. */
#include "math/bias.h"

#include <assert.h>
#include <math.h>

#include "math/bias_kinds.h"
#include "math/real.h"

static void alibi_fill(const ps_bias *bias, const struct ps_kernels *kernels,
                       const ps_bias_tile *tile)
{
    (void)kernels;
    for (int r = 0; r < tile->n_heads * tile->n_queries; r++) {
        const float slope = bias->slopes[tile->first_head + r / tile->n_queries];
        const int64_t position = tile->first_position + r % tile->n_queries;
        float *row = tile->bias + (size_t)r * PS_SEGMENT;
        for (int j = tile->first; j < tile->last; j++) {
            row[j] += slope * (float)(tile->start + j - position);
        }
    }
}

static int one_number(const ps_bias *bias)
{
    (void)bias;
    return 1;
}

static void key_mask_prepare(const ps_bias *bias, const ps_bias_row *row)
{
    (void)bias;
    row->numbers[0] = row->hidden ? -INFINITY : 0.0f;
}

static void key_mask_fill(const ps_bias *bias, const struct ps_kernels *kernels,
                          const ps_bias_tile *tile)
{
    (void)bias;
    (void)kernels;
    for (int r = 0; r < tile->n_heads * tile->n_queries; r++) {
        float *row = tile->bias + (size_t)r * PS_SEGMENT;
        for (int j = tile->first; j < tile->last; j++) {
            row[j] += tile->numbers[j];
        }
    }
}

static void prepare_nothing(const ps_bias *bias, const ps_bias_row *row)
{
    (void)bias;
    (void)row;
}

static int no_needs(const ps_bias *bias)
{
    (void)bias;
    return 0;
}

static int custom_features(const ps_bias *bias)
{
    return bias->n_features;
}

static int custom_numbers(const ps_bias *bias)
{
    return bias->n_numbers;
}

static void custom_prepare(const ps_bias *bias, const ps_bias_row *row)
{
    if (bias->prepare) bias->prepare(bias, row);
}

static void custom_accumulate(const ps_bias *bias, const ps_bias_step *step)
{
    if (bias->accumulate) bias->accumulate(bias, step);
}

static void custom_fill(const ps_bias *bias, const struct ps_kernels *kernels,
                        const ps_bias_tile *tile)
{
    bias->fill(bias, kernels, tile);
}

static const struct {
    const char *name;
    int (*features)(const ps_bias *bias);
    int (*numbers)(const ps_bias *bias);
    ps_bias_prepare *prepare;
    ps_bias_accumulate *accumulate; // NULL: nothing is summed
    ps_bias_fill *fill;
} table[] = {
    [PS_BIAS_ALIBI] = {"alibi", no_needs, no_needs, prepare_nothing, NULL, alibi_fill},
    [PS_BIAS_REL_POS] = {"rel_pos", ps_rel_pos_features, ps_rel_pos_numbers, ps_rel_pos_prepare,
                         NULL, ps_rel_pos_fill},
    [PS_BIAS_T5] = {"t5", no_needs, no_needs, prepare_nothing, NULL, ps_distance_fill},
    [PS_BIAS_KERPLE_LOG] = {"kerple_log", no_needs, no_needs, prepare_nothing, NULL,
                            ps_distance_fill},
    [PS_BIAS_KERPLE_POWER] = {"kerple_power", no_needs, no_needs, prepare_nothing, NULL,
                              ps_distance_fill},
    [PS_BIAS_SANDWICH] = {"sandwich", no_needs, no_needs, prepare_nothing, NULL, ps_distance_fill},
    [PS_BIAS_FIRE] = {"fire", no_needs, no_needs, prepare_nothing, NULL, ps_fire_fill},
    [PS_BIAS_FOX] = {"fox", ps_fox_floats, ps_fox_floats, ps_fox_prepare, ps_fox_accumulate,
                     ps_fox_fill},
    [PS_BIAS_KEY_MASK] = {"key_mask", no_needs, one_number, key_mask_prepare, NULL, key_mask_fill},
    [PS_BIAS_CUSTOM] = {"custom", custom_features, custom_numbers, custom_prepare,
                        custom_accumulate, custom_fill},
};

_Static_assert(sizeof table / sizeof table[0] == PS_BIAS_KIND_COUNT, "one row for each provider");

const char *ps_bias_kind_name(ps_bias_kind kind)
{
    return table[kind].name;
}

int ps_bias_features(const ps_bias *bias)
{
    return table[bias->kind].features(bias);
}

int ps_bias_numbers(const ps_bias *bias)
{
    return table[bias->kind].numbers(bias);
}

void ps_bias_prepare_row(const ps_bias *bias, const ps_bias_row *row)
{
    table[bias->kind].prepare(bias, row);
}

int ps_bias_projected(const ps_bias *bias)
{
    return bias->projection ? bias->projection->n : 0;
}

bool ps_bias_accumulates(const ps_bias *bias)
{
    if (bias->kind == PS_BIAS_CUSTOM) return bias->accumulate != NULL;
    return table[bias->kind].accumulate != NULL;
}

void ps_bias_accumulate_step(const ps_bias *bias, const ps_bias_step *step)
{
    table[bias->kind].accumulate(bias, step);
}

static void gather_numbers(const ps_bias_run *run, int64_t position, int n, float *out)
{
    for (int i = 0; i < n; i++) {
        out[i] = *ps_kv_number(run->view, position, run->number_at + i);
    }
}

void ps_bias_accumulate_run(const ps_bias *bias, const ps_bias_run *run)
{
    const int n = ps_bias_numbers(bias);
    if (run->first > 0) gather_numbers(run, run->first - 1, n, run->before);
    const float *before = run->first > 0 ? run->before : NULL;
    for (int r = 0; r < run->n_rows; r++) {
        const int64_t position = run->first + r;
        float *numbers = run->numbers + (size_t)r * run->number_stride;
        const ps_bias_step step = {.sequence = run->sequence,
                                   .position = position,
                                   .before = before,
                                   .features = run->features + (size_t)r * run->feature_stride,
                                   .numbers = numbers};
        ps_bias_accumulate_step(bias, &step);
        for (int i = 0; i < n; i++) {
            *ps_kv_number(run->view, position, run->number_at + i) = numbers[i];
        }
        before = numbers;
    }
}

void ps_bias_fill_tile(const ps_bias *bias, const struct ps_kernels *kernels,
                       const ps_bias_tile *tile)
{
    table[bias->kind].fill(bias, kernels, tile);
}

void ps_bias_fill_key_part(const ps_bias *bias, const struct ps_kernels *kernels,
                           const ps_bias_tile *tile)
{
    if (bias->kind == PS_BIAS_REL_POS) {
        ps_rel_pos_fill_key_part(bias, kernels, tile);
    } else if (ps_bias_numbers(bias) > 0) {
        ps_bias_fill_tile(bias, kernels, tile);
    }
}

size_t ps_bias_scratch_floats(int n_queries)
{
    const size_t rel_pos = ps_rel_pos_scratch_floats(n_queries);
    return rel_pos > PS_DOUBLES_SCRATCH_FLOATS ? rel_pos : PS_DOUBLES_SCRATCH_FLOATS;
}

void ps_bias_alibi_slopes(int n_heads, double max_exponent, double factor, float *slopes)
{
    assert(n_heads >= 1);
    int power = 1;
    while (power * 2 <= n_heads) {
        power *= 2;
    }
    const double ln2 = 0x1.62e42fefa39efp-1;
    for (int h = 0; h < n_heads; h++) {
        const double exponent =
            h < power ? max_exponent * (double)(h + 1) / (double)power
                      : max_exponent / 2.0 * (double)(2 * (h - power) + 1) / (double)power;
        slopes[h] = (float)(factor * ps_real_exp(-exponent * ln2));
    }
}
