/* The providers with trained parameters of a few numbers: rolled, and written down once more by
 * their papers, with the mathematical library and without tables. */
#include "support/provider_formulas.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "support/floats.h"

static void roll_t5(provider *p, dice *d)
{
    ps_bias *b = &p->bias;
    b->kind = PS_BIAS_T5;
    b->bidirectional = dice_throw(d, 2);
    b->n_buckets = 4 * (1 + dice_throw(d, 12));
    b->max_distance = b->n_buckets / (b->bidirectional ? 4 : 2) + 1 + dice_throw(d, 200);
    p->own[0] = floats_new_rolled(d, (size_t)(b->n_buckets * b->n_heads), -3.0, 3.0);
    b->buckets = p->own[0];
}

static void roll_kerple(provider *p, ps_bias_kind kind, double a_max, dice *d)
{
    const size_t n = (size_t)p->bias.n_heads;
    p->bias.kind = kind;
    p->own[0] = floats_new_rolled(d, n, -0.2, 1.0);
    p->own[1] = floats_new_rolled(d, n, -0.2, a_max);
    p->bias.p = p->own[0];
    p->bias.a = p->own[1];
}

static void roll_fire(provider *p, dice *d)
{
    const int width = 1 + dice_throw(d, 40), heads = p->bias.n_heads;
    p->bias.kind = PS_BIAS_FIRE;
    p->width = width;
    p->own[0] = floats_new_rolled(d, (size_t)width, -2.0, 2.0);
    p->own[1] = floats_new_rolled(d, (size_t)width, -1.5, 1.5);
    p->own[2] = floats_new_rolled(d, (size_t)(width * heads), -0.5, 0.5);
    p->own[3] = floats_new_rolled(d, (size_t)heads, -1.0, 1.0);
    p->own[4] = floats_new_rolled(d, 3, 0.1, 2.0);
    p->own[4][2] = (float)(5 + dice_throw(d, 300));
    if (dice_throw(d, 2)) p->own[4][0] *= -1.0f;
    if (dice_throw(d, 2)) p->own[0][0] = 0.0f; // a unit without a knot
    const ps_bias_fire_weights w = {width, p->own[0], p->own[1], p->own[2], p->own[3], p->own[4]};
    p->doubles = ps_mem_new(ps_bias_fire_doubles(&p->bias, width), sizeof *p->doubles);
    ps_bias_make_fire(&w, p->doubles, &p->bias);
}

static void roll_fox(provider *p, int width, dice *d)
{
    p->bias.kind = PS_BIAS_FOX;
    p->gate = matrix_roll(d, PS_F32, p->bias.n_heads, width, 1.5, true);
    p->gates = ps_mem_new(1, sizeof *p->gates);
}

void provider_roll_formula(provider *p, int width, dice *d)
{
    switch (p->kind) {
    case PROVIDER_T5:
        roll_t5(p, d);
        break;
    case PROVIDER_KERPLE_LOG:
        roll_kerple(p, PS_BIAS_KERPLE_LOG, 2.0, d);
        break;
    case PROVIDER_KERPLE_POWER:
        roll_kerple(p, PS_BIAS_KERPLE_POWER, 2.5, d);
        break;
    case PROVIDER_SANDWICH:
        p->bias.kind = PS_BIAS_SANDWICH;
        p->bias.dim = 2 + dice_throw(d, 7);
        break;
    case PROVIDER_FIRE:
        roll_fire(p, d);
        break;
    default:
        roll_fox(p, width, d);
    }
    if (!ps_bias_is_of_distance(p->bias.kind)) return;
    p->table = floats_new_poisoned(ps_bias_distance_floats(&p->bias));
    ps_bias_make_distances(&p->bias, p->table);
    p->bias.table = p->table;
}

/* As the published code has it. */
static int t5_bucket(const ps_bias *b, int64_t distance)
{
    int n = b->n_buckets, bucket = 0;
    double size = (double)distance;
    if (b->bidirectional) {
        n /= 2;
        if (distance < 0) bucket = n;
        size = fabs(size);
    }
    if (size < 0.0) size = 0.0;
    const int exact = n / 2;
    if (size < exact) return bucket + (int)size;
    // The least bit of the logarithms must not decide at whole powers.
    const double part = log(size / exact) / log((double)b->max_distance / exact) * (n - exact);
    const int large = exact + (int)floor(part * (1.0 + 1e-14) + 1e-14);
    return bucket + (large < n - 1 ? large : n - 1);
}

static double kerple(const provider *p, const provider_pair *pair)
{
    const double size = fabs((double)pair->distance);
    const double gain = fmax((double)p->own[0][pair->head], 0.01);
    const double a = fmax((double)p->own[1][pair->head], 0.01);
    if (p->kind == PROVIDER_KERPLE_LOG) return -gain * log(1.0 + a * size);
    return -gain * pow(size, fmin(a, 2.0));
}

static double sandwich(const ps_bias *b, const provider_pair *pair)
{
    double sum = 0.0;
    for (int c = 0; c < b->dim / 2; c++) {
        sum += cos((double)pair->distance * pow(10000.0, -2.0 * c / b->dim));
    }
    return b->n_heads / (8.0 * (pair->head + 1)) * sum;
}

static double fire(const provider *p, const provider_pair *pair)
{
    const double c = (double)p->own[4][0];
    const double length = fabs((double)p->own[4][1] * (double)p->own[4][2]);
    const double reach = fmax((double)pair->position, length);
    const double x =
        log(1.0 + fabs(c * (double)pair->distance)) / (log(1.0 + fabs(c * reach)) + 1e-6);
    double sum = (double)p->own[3][pair->head];
    for (int u = 0; u < p->width; u++) {
        const double hidden = (double)p->own[0][u] * x + (double)p->own[1][u];
        sum += (double)p->own[2][pair->head * p->width + u] * fmax(hidden, 0.0);
    }
    return sum;
}

static void add_gates(const provider *p, const provider_pair *pair)
{
    gate_sums *g = p->gates;
    ps_mem_free(g->sums);
    *g = (gate_sums){pair->query_x, pair->head, pair->rows, NULL};
    g->sums = ps_mem_new((size_t)g->n + 1, sizeof *g->sums);
    g->sums[0] = 0.0;
    for (int64_t t = 0; t < g->n; t++) {
        const float *x = pair->query_x - t * pair->x_stride;
        double z = (double)p->gate.bias[pair->head];
        for (int k = 0; k < p->gate.linear.k; k++) {
            z += (double)p->gate.values[pair->head * p->gate.linear.k + k] * (double)x[k];
        }
        g->sums[t + 1] = g->sums[t] - log(1.0 + exp(-z));
    }
}

/* Sum of the logarithms of the gates between key and query. */
static double fox(const provider *p, const provider_pair *pair)
{
    const gate_sums *g = p->gates;
    if (g->query_x != pair->query_x || g->head != pair->head || g->n < pair->rows)
        add_gates(p, pair);
    return g->sums[pair->rows];
}

double provider_formula(const provider *p, const provider_pair *pair)
{
    switch (p->kind) {
    case PROVIDER_T5:
        return (double)
            p->own[0][t5_bucket(&p->bias, pair->distance) * p->bias.n_heads + pair->head];
    case PROVIDER_KERPLE_LOG:
    case PROVIDER_KERPLE_POWER:
        return kerple(p, pair);
    case PROVIDER_SANDWICH:
        return sandwich(&p->bias, pair);
    case PROVIDER_FIRE:
        return fire(p, pair);
    case PROVIDER_FOX:
        return fox(p, pair);
    default:
        return 0.0; // not one of these, and added elsewhere
    }
}
