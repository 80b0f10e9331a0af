/* Functional interpolation: a small network of one hidden layer over a number x in [0, 1] that
 * tells how far away a key is, relative to the query's position.
 *
 * For each head that network is piecewise linear in x, and its knots are those of the hidden units,
 * the same for all heads. So knots, slopes and intercepts are made once in double precision, and a
 * pair costs one multiplication and one addition: over ascending keys x falls, and the keys between
 * two knots are a run. Which piece a pair belongs to depends on its x alone. */
#include <assert.h>
#include <math.h>

#include "math/bias_kinds.h"
#include "math/panel.h"
#include "math/real.h"

/* A tile's queries see up to a block of keys more than one of them does. */
enum { LOGS_MAX = 131072, MARGIN = 32 };

static const double NORMALIZER_EPS = 1e-6; // as published: the divisor of x is never 0

static size_t logs_of(const ps_bias *bias)
{
    const int64_t n = bias->span < LOGS_MAX ? bias->span : LOGS_MAX;
    return (size_t)n + MARGIN;
}

size_t ps_bias_fire_doubles(const ps_bias *bias, int width)
{
    const size_t pieces = (size_t)width + 1;
    return (size_t)width + 2 * pieces * (size_t)bias->n_heads + logs_of(bias);
}

/* Ascending knots of the hidden units that have one: where w1 x + b1 = 0. */
static int find_knots(const ps_bias_fire_weights *w, double *knots)
{
    int n = 0;
    for (int u = 0; u < w->width; u++) {
        if (w->w1[u] == 0.0f) continue;
        const double knot = -(double)w->b1[u] / (double)w->w1[u];
        int at = n++;
        for (; at > 0 && knots[at - 1] > knot; at--) {
            knots[at] = knots[at - 1];
        }
        knots[at] = knot;
    }
    return n;
}

/* Whether a unit is above 0 between two neighbouring knots. */
static bool is_active(const ps_bias_fire_weights *w, int unit, const double *knots, int piece)
{
    const double slope = (double)w->w1[unit], offset = (double)w->b1[unit];
    if (slope == 0.0) return offset > 0.0;
    const double knot = -offset / slope;
    // A unit that rises is active in the pieces that begin at its knot or behind it.
    const bool behind = piece > 0 && knots[piece - 1] >= knot;
    return slope > 0.0 ? behind : !behind;
}

static void make_piece(const ps_bias_fire_weights *w, const double *knots, int piece, int head,
                       double *slope, double *intercept)
{
    double sum = 0.0, constant = (double)w->b2[head];
    for (int u = 0; u < w->width; u++) {
        if (!is_active(w, u, knots, piece)) continue;
        const double weight = (double)w->w2[head * w->width + u];
        sum += weight * (double)w->w1[u];
        constant += weight * (double)w->b1[u];
    }
    *slope = sum;
    *intercept = constant;
}

void ps_bias_make_fire(const ps_bias_fire_weights *w, double *memory, ps_bias *bias)
{
    const size_t heads = (size_t)bias->n_heads, pieces = (size_t)w->width + 1;
    double *knots = memory, *slopes = knots + w->width, *intercepts = slopes + pieces * heads;
    double *logs = intercepts + pieces * heads;
    const double c = fabs((double)w->scalars[0]);
    const int n_knots = find_knots(w, knots);
    for (int piece = 0; piece <= n_knots; piece++) {
        for (int h = 0; h < bias->n_heads; h++) {
            const size_t at = (size_t)piece * heads + (size_t)h;
            make_piece(w, knots, piece, h, &slopes[at], &intercepts[at]);
        }
    }
    for (size_t d = 0; d < logs_of(bias); d++) {
        logs[d] = ps_real_log1p(c * (double)d);
    }
    bias->fire = (ps_bias_fire){.c = c,
                                .length = fabs((double)w->scalars[1] * (double)w->scalars[2]),
                                .n_knots = n_knots,
                                .knots = knots,
                                .slopes = slopes,
                                .intercepts = intercepts,
                                .logs = logs};
}

/* x of the keys [first, last) for the query at `position`. */
static void find_x(const ps_bias *bias, const ps_bias_tile *tile, int64_t position, double *x)
{
    const ps_bias_fire *f = &bias->fire;
    const int64_t n_logs = (int64_t)logs_of(bias);
    const double reach = (double)position > f->length ? (double)position : f->length;
    const double divisor = ps_real_log1p(f->c * reach) + NORMALIZER_EPS;
    for (int j = tile->first; j < tile->last; j++) {
        const int64_t distance = position - tile->start - j;
        const int64_t size = distance < 0 ? -distance : distance;
        x[j] = size < n_logs ? f->logs[size] : ps_real_log1p(f->c * (double)size);
    }
    for (int j = tile->first; j < tile->last; j++) {
        x[j] /= divisor;
    }
}

/* The piece that x lies in, looked for from a neighbour's on. A NaN stays where it is. */
static int piece_of(const ps_bias_fire *f, double x, int piece)
{
    while (piece > 0 && x < f->knots[piece - 1]) {
        piece--;
    }
    while (piece < f->n_knots && x >= f->knots[piece]) {
        piece++;
    }
    return piece;
}

void ps_fire_fill(const ps_bias *bias, const struct ps_kernels *kernels, const ps_bias_tile *tile)
{
    (void)kernels;
    const ps_bias_fire *f = &bias->fire;
    double *x = (double *)(void *)tile->scratch;
    for (int i = 0; i < tile->n_queries; i++) {
        find_x(bias, tile, tile->first_position + i, x);
        int piece = f->n_knots;
        for (int j = tile->first; j < tile->last;) {
            piece = piece_of(f, x[j], piece);
            int end = j + 1;
            while (end < tile->last && piece_of(f, x[end], piece) == piece) {
                end++;
            }
            const size_t at = (size_t)piece * (size_t)bias->n_heads + (size_t)tile->first_head;
            for (int h = 0; h < tile->n_heads; h++) {
                const double slope = f->slopes[at + (size_t)h];
                const double intercept = f->intercepts[at + (size_t)h];
                float *row = tile->bias + (size_t)(h * tile->n_queries + i) * PS_SEGMENT;
                for (int k = j; k < end; k++) {
                    row[k] += (float)(slope * x[k] + intercept);
                }
            }
            j = end;
        }
    }
}
