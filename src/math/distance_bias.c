/* Biases that are functions of head and distance alone.
 *
 * One function of the kind gives the value in double precision; the table holds it rounded to f32,
 * in the order of ascending keys, so that a query's row of the table is added as it lies. Distances
 * beyond the table (kept first tokens may be any distance away) and keys ahead ask the function
 * itself: the same bits. */
#include <assert.h>
#include <math.h>

#include "math/bias_kinds.h"
#include "math/kernels.h"
#include "math/panel.h"
#include "math/real.h"

/* Half a megabyte a head; farther keys, if they are seen at all, cost a function call. A tile holds
 * the keys of all its queries: up to a block of queries more than one sees, on either side. */
enum { TABLE_DISTANCES_MAX = 131072, MARGIN = 2 * PS_PANEL_LANES };

static const double LEAST_PARAMETER = 0.01, LARGEST_EXPONENT = 2.0;

/* Half of the buckets stand for one distance each, the others for ranges that grow up to
 * max_distance. Of bidirectional ones the upper half is for keys ahead. */
static int t5_bucket(const ps_bias *bias, int64_t distance)
{
    int n = bias->n_buckets, first = 0;
    if (bias->bidirectional) {
        n /= 2;
        if (distance < 0) first = n;
    }
    int64_t size = distance < 0 ? -distance : distance;
    if (!bias->bidirectional && distance < 0) size = 0;
    const int exact = n / 2;
    if (size < exact) return first + (int)size;
    if (size >= bias->max_distance) return first + n - 1;
    const double part = ps_real_log((double)size / exact) /
                        ps_real_log((double)bias->max_distance / exact) * (n - exact);
    const int bucket = exact + (int)part;
    return first + (bucket < n - 1 ? bucket : n - 1);
}

static double held(double value, double low, double high)
{
    return value < low ? low : value > high ? high : value;
}

static double kerple_log(const ps_bias *bias, int head, double size)
{
    const double p = held((double)bias->p[head], LEAST_PARAMETER, (double)INFINITY);
    const double a = held((double)bias->a[head], LEAST_PARAMETER, (double)INFINITY);
    return -p * ps_real_log1p(a * size);
}

static double kerple_power(const ps_bias *bias, int head, double size)
{
    const double p = held((double)bias->p[head], LEAST_PARAMETER, (double)INFINITY);
    const double exponent = held((double)bias->a[head], LEAST_PARAMETER, LARGEST_EXPONENT);
    return size == 0.0 ? 0.0 : -p * ps_real_pow(size, exponent);
}

static double sandwich(const ps_bias *bias, int head, double size)
{
    const double ratio = ps_real_pow(10000.0, -2.0 / (double)bias->dim);
    double sum = 0.0, frequency = 1.0;
    for (int c = 0; c < bias->dim / 2; c++) {
        double sine, cosine;
        ps_real_sincos(size * frequency, &sine, &cosine);
        sum += cosine;
        frequency *= ratio;
    }
    return (double)bias->n_heads / (8.0 * (double)(head + 1)) * sum;
}

double ps_bias_distance_value(const ps_bias *bias, int head, int64_t distance)
{
    const double size = (double)(distance < 0 ? -distance : distance);
    switch (bias->kind) {
    case PS_BIAS_T5:
        return (double)bias->buckets[t5_bucket(bias, distance) * bias->n_heads + head];
    case PS_BIAS_KERPLE_LOG:
        return kerple_log(bias, head, size);
    case PS_BIAS_KERPLE_POWER:
        return kerple_power(bias, head, size);
    default:
        assert(bias->kind == PS_BIAS_SANDWICH);
        return sandwich(bias, head, size);
    }
}

bool ps_bias_is_of_distance(ps_bias_kind kind)
{
    return kind == PS_BIAS_T5 || kind == PS_BIAS_KERPLE_LOG || kind == PS_BIAS_KERPLE_POWER ||
           kind == PS_BIAS_SANDWICH;
}

static int64_t bounded(int64_t distances)
{
    return distances < TABLE_DISTANCES_MAX ? distances : TABLE_DISTANCES_MAX;
}

/* The last lane is the distance below zero that is farthest away. */
static int64_t farthest_ahead(const ps_bias *bias)
{
    return bounded(bias->ahead) + MARGIN;
}

static int64_t table_lanes(const ps_bias *bias)
{
    const int64_t n = bounded(bias->span) + MARGIN + farthest_ahead(bias);
    return (int64_t)ps_mem_round_up((size_t)n, PS_PANEL_LANES);
}

size_t ps_bias_distance_floats(const ps_bias *bias)
{
    return (size_t)bias->n_heads * (size_t)table_lanes(bias);
}

void ps_bias_make_distances(const ps_bias *bias, float *table)
{
    const int64_t lanes = table_lanes(bias), top = lanes - 1 - farthest_ahead(bias);
    for (int h = 0; h < bias->n_heads; h++) {
        for (int64_t n = 0; n < lanes; n++) {
            table[h * lanes + n] = (float)ps_bias_distance_value(bias, h, top - n);
        }
    }
}

/* row[j] += value of the keys [first, last), one by one. */
static void add_values(const ps_bias *bias, int head, int64_t position, int64_t start, int first,
                       int last, float *row)
{
    for (int j = first; j < last; j++) {
        row[j] += (float)ps_bias_distance_value(bias, head, position - start - j);
    }
}

static int held_to(int64_t value, int low, int high)
{
    return value < low ? low : value > high ? high : (int)value;
}

void ps_distance_fill(const ps_bias *bias, const struct ps_kernels *kernels,
                      const ps_bias_tile *tile)
{
    const int64_t lanes = table_lanes(bias), n_ahead = farthest_ahead(bias);
    const int64_t top = lanes - 1 - n_ahead;
    for (int r = 0; r < tile->n_heads * tile->n_queries; r++) {
        const int head = tile->first_head + r / tile->n_queries;
        const int64_t position = tile->first_position + r % tile->n_queries;
        float *row = tile->bias + (size_t)r * PS_SEGMENT;
        const int near = held_to(position - top - tile->start, tile->first, tile->last);
        const int ahead = held_to(position + n_ahead + 1 - tile->start, near, tile->last);
        add_values(bias, head, position, tile->start, tile->first, near, row);
        if (near < ahead) {
            const int64_t lane = top - (position - tile->start - near);
            kernels->add(bias->table + head * lanes + lane, row + near, ahead - near);
        }
        add_values(bias, head, position, tile->start, ahead, tile->last, row);
    }
}
