/* The forgetting gate. c_i is the sum of log f over the positions up to i, for each head; the bias
 * of a pair is c_i - c_j.
 *
 * c falls without a bound as the sequence goes on, and what counts are small differences of large
 * numbers: so it is summed and subtracted in double precision. The cache keeps floats: a double
 * lies in two of them, as the upper and the lower half of its bits. The number of the key before is
 * all the state that there is, so forks, rings and saved sequences need nothing more. */
#include <string.h>

#include "math/bias_kinds.h"
#include "math/real.h"

int ps_fox_floats(const ps_bias *bias)
{
    return 2 * bias->n_heads;
}

static double join(const float *upper, const float *lower)
{
    uint32_t high, low;
    memcpy(&high, upper, sizeof high);
    memcpy(&low, lower, sizeof low);
    const uint64_t bits = (uint64_t)high << 32 | low;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void split(double value, float *upper, float *lower)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t high = (uint32_t)(bits >> 32), low = (uint32_t)bits;
    memcpy(upper, &high, sizeof high);
    memcpy(lower, &low, sizeof low);
}

/* log(1 / (1 + e^-z)) without overflow on either side. */
static double log_sigmoid(double z)
{
    if (z >= 0.0) return -ps_real_log1p(ps_real_exp(-z));
    return z - ps_real_log1p(ps_real_exp(z));
}

/* The row's own log f; accumulate adds what was before. */
void ps_fox_prepare(const ps_bias *bias, const ps_bias_row *row)
{
    const int n = bias->n_heads;
    for (int h = 0; h < n; h++) {
        split(log_sigmoid((double)row->projected[h]), &row->numbers[h], &row->numbers[n + h]);
    }
    memcpy(row->features, row->numbers, (size_t)(2 * n) * sizeof *row->features);
}

void ps_fox_accumulate(const ps_bias *bias, const ps_bias_step *step)
{
    const int n = bias->n_heads;
    for (int h = 0; h < n && step->before; h++) {
        const double before = join(&step->before[h], &step->before[n + h]);
        const double own = join(&step->numbers[h], &step->numbers[n + h]);
        split(before + own, &step->numbers[h], &step->numbers[n + h]);
    }
    memcpy(step->features, step->numbers, (size_t)(2 * n) * sizeof *step->features);
}

void ps_fox_fill(const ps_bias *bias, const struct ps_kernels *kernels, const ps_bias_tile *tile)
{
    (void)kernels;
    double *sums = (double *)(void *)tile->scratch;
    for (int h = 0; h < tile->n_heads; h++) {
        const int head = tile->first_head + h;
        for (int j = tile->first; j < tile->last; j++) {
            const float *numbers = tile->numbers + j;
            sums[j] =
                join(numbers + head * PS_SEGMENT, numbers + (bias->n_heads + head) * PS_SEGMENT);
        }
        for (int i = 0; i < tile->n_queries; i++) {
            const float *features = tile->features + (size_t)i * tile->feature_stride;
            const double own = join(&features[head], &features[bias->n_heads + head]);
            float *row = tile->bias + (size_t)(h * tile->n_queries + i) * PS_SEGMENT;
            for (int j = tile->first; j < tile->last; j++) {
                row[j] += (float)(own - sums[j]);
            }
        }
    }
}
