#include "support/providers.h"

#include <check.h>
#include <math.h>

#include "base/mem.h"
#include "math/isa.h"
#include "support/floats.h"
#include "support/provider_formulas.h"

enum { TABLE_DISTANCES = 32 };

static const double THETA = 10000.0;

/* What the custom providers get by their user pointer. */
struct custom_numbers {
    float *gain;  // [n_heads]
    float *table; // [n_heads, TABLE_DISTANCES]
};

static void dot_prepare(const ps_bias *bias, const ps_bias_row *row)
{
    (void)bias;
    row->features[0] = row->q[0];
    row->features[1] = row->x[0];
    row->features[2] = row->x[1];
    row->numbers[0] = row->k[0];
    row->numbers[1] = row->x[2];
}

/* gain_h (f0 n0 + f1 n1) + f2 (i - j) / 64 */
static void dot_fill(const ps_bias *bias, const struct ps_kernels *kernels,
                     const ps_bias_tile *tile)
{
    (void)kernels;
    const struct custom_numbers *own = bias->user;
    for (int r = 0; r < tile->n_heads * tile->n_queries; r++) {
        const float gain = own->gain[tile->first_head + r / tile->n_queries];
        const int query = r % tile->n_queries;
        const float *f = tile->features + (size_t)query * tile->feature_stride;
        for (int j = tile->first; j < tile->last; j++) {
            const float *numbers = tile->numbers + j;
            const int64_t distance = tile->first_position + query - tile->start - j;
            const float dot = f[0] * numbers[0] + f[1] * numbers[PS_SEGMENT];
            tile->bias[(size_t)r * PS_SEGMENT + (size_t)j] +=
                gain * dot + f[2] * (float)distance / 64.0f;
        }
    }
}

static int64_t bucket(int64_t distance)
{
    return distance < 0 ? 0 : distance < TABLE_DISTANCES ? distance : TABLE_DISTANCES - 1;
}

static void table_fill(const ps_bias *bias, const struct ps_kernels *kernels,
                       const ps_bias_tile *tile)
{
    (void)kernels;
    const struct custom_numbers *own = bias->user;
    for (int r = 0; r < tile->n_heads * tile->n_queries; r++) {
        const float *table =
            own->table + (size_t)(tile->first_head + r / tile->n_queries) * TABLE_DISTANCES;
        const int64_t position = tile->first_position + r % tile->n_queries;
        for (int j = tile->first; j < tile->last; j++) {
            tile->bias[(size_t)r * PS_SEGMENT + (size_t)j] +=
                table[bucket(position - tile->start - j)];
        }
    }
}

/* P[r] = W_pos PE(r) by its definition. */
static double *make_positions(const matrix *w_pos, int64_t span, int64_t ahead)
{
    const size_t n = (size_t)w_pos->linear.n, d = (size_t)w_pos->linear.k;
    double *positions = ps_mem_new((size_t)(span + ahead) * n, sizeof *positions);
    double *encoding = ps_mem_new(d, sizeof *encoding);
    for (int64_t r = -ahead; r < span; r++) {
        for (size_t t = 0; t < d; t++) {
            const double w = pow(THETA, -2.0 * (double)(t / 2) / (double)d);
            encoding[t] = t % 2 ? cos((double)r * w) : sin((double)r * w);
        }
        for (size_t o = 0; o < n; o++) {
            double sum = 0.0;
            for (size_t t = 0; t < d; t++) {
                sum += (double)w_pos->values[o * d + t] * encoding[t];
            }
            positions[(size_t)(r + ahead) * n + o] = sum;
        }
    }
    ps_mem_free(encoding);
    return positions;
}

static void make_rel_pos(provider *p, const provider_shape *shape, const ps_engine *engine, dice *d)
{
    const size_t n = (size_t)shape->n_heads * (size_t)shape->head_dim;
    const int width = 1 + dice_throw(d, 12);
    const ps_dtype dtype = (ps_dtype)dice_throw(d, PS_DTYPE_FLOATS);
    p->u = floats_new_rolled(d, n, -1.0, 1.0);
    p->v = floats_new_rolled(d, n, -1.0, 1.0);
    p->w_pos = matrix_roll(d, dtype, (int)n, width, 0.7, false);
    p->positions = make_positions(&p->w_pos, shape->span, shape->ahead);
    p->table = floats_new_poisoned(
        ps_bias_table_floats(shape->n_heads, shape->head_dim, shape->span, shape->ahead));
    float *scratch =
        floats_new(ps_bias_table_scratch_floats(shape->n_heads, shape->head_dim, width));
    ps_bias_make_table(engine, &p->w_pos.linear, THETA, shape->n_heads, shape->head_dim,
                       shape->span, shape->ahead, scratch, p->table);
    ps_mem_free(scratch);
    p->bias.kind = PS_BIAS_REL_POS;
    p->bias.u = p->u;
    p->bias.v = p->v;
    p->bias.table = p->table;
}

static void make_custom(provider *p, const provider_shape *shape, dice *d)
{
    const size_t n = (size_t)shape->n_heads;
    p->custom = ps_mem_new(1, sizeof *p->custom);
    p->custom->gain = floats_new_rolled(d, n, -1.0, 1.0);
    p->custom->table = floats_new_rolled(d, n * TABLE_DISTANCES, -3.0, 3.0);
    p->bias.kind = PS_BIAS_CUSTOM;
    p->bias.user = p->custom;
    if (p->kind == PROVIDER_TABLE) {
        p->bias.fill = table_fill;
        return;
    }
    p->bias.n_features = 3;
    p->bias.n_numbers = 2;
    p->bias.prepare = dot_prepare;
    p->bias.fill = dot_fill;
}

void providers_add(providers *list, provider_kind kind, const provider_shape *shape,
                   const ps_engine *engine, dice *d)
{
    ck_assert_int_lt(list->n, PS_BIAS_MAX);
    provider p = {.kind = kind,
                  .bias = {.n_heads = shape->n_heads,
                           .n_kv_heads = shape->n_kv_heads,
                           .head_dim = shape->head_dim,
                           .scale = shape->scale,
                           .span = shape->span,
                           .ahead = shape->ahead}};
    switch (kind) {
    case PROVIDER_ALIBI:
        p.slopes = floats_new((size_t)shape->n_heads);
        ps_bias_alibi_slopes(shape->n_heads, 8.0, 1.0, p.slopes);
        p.bias.kind = PS_BIAS_ALIBI;
        p.bias.slopes = p.slopes;
        break;
    case PROVIDER_REL_POS:
        make_rel_pos(&p, shape, engine, d);
        break;
    case PROVIDER_DOT:
    case PROVIDER_TABLE:
        make_custom(&p, shape, d);
        break;
    default:
        provider_roll_formula(&p, shape->width, d);
    }
    list->bias[list->n] = p.bias;
    list->item[list->n] = p;
    if (kind == PROVIDER_FOX) list->bias[list->n].projection = &list->item[list->n].gate.linear;
    list->n++;
    list->n_features += ps_bias_features(&p.bias);
    list->n_numbers += ps_bias_numbers(&p.bias);
}

void providers_release(providers *list)
{
    for (int i = 0; i < list->n; i++) {
        provider *p = &list->item[i];
        ps_mem_free(p->slopes);
        ps_mem_free(p->u);
        ps_mem_free(p->v);
        ps_mem_free(p->table);
        ps_mem_free(p->positions);
        matrix_release(&p->w_pos);
        matrix_release(&p->gate);
        ps_mem_free(p->doubles);
        if (p->gates) ps_mem_free(p->gates->sums);
        ps_mem_free(p->gates);
        for (int own = 0; own < 5; own++) {
            ps_mem_free(p->own[own]);
        }
        if (!p->custom) continue;
        ps_mem_free(p->custom->gain);
        ps_mem_free(p->custom->table);
        ps_mem_free(p->custom);
    }
    *list = (providers){0};
}

void providers_prepare(const providers *list, const ps_bias_row *row)
{
    ps_bias_row r = *row;
    ck_assert_int_eq(ps_isa_kernels("auto", &r.kernels), PS_OK);
    for (int i = 0; i < list->n; i++) {
        const matrix *gate = &list->item[i].gate;
        float *projected = floats_new((size_t)gate->linear.n + 1);
        for (int o = 0; o < gate->linear.n; o++) {
            projected[o] = matrix_row_times(gate, o, row->x);
        }
        r.projected = projected;
        ps_bias_prepare_row(&list->bias[i], &r);
        r.features += ps_bias_features(&list->bias[i]);
        r.numbers += ps_bias_numbers(&list->bias[i]);
        ps_mem_free(projected);
    }
}

void providers_accumulate(const providers *list, const ps_bias_run *run)
{
    ps_bias_run r = *run;
    for (int i = 0; i < list->n; i++) {
        if (ps_bias_accumulates(&list->bias[i])) ps_bias_accumulate_run(&list->bias[i], &r);
        r.features += ps_bias_features(&list->bias[i]);
        r.numbers += ps_bias_numbers(&list->bias[i]);
        r.number_at += ps_bias_numbers(&list->bias[i]);
    }
}

static double rel_pos_reference(const provider *p, const provider_pair *pair)
{
    const ps_bias *b = &p->bias;
    const size_t k = (size_t)b->head_dim, head = (size_t)pair->head;
    const size_t kv_head = head / (size_t)(b->n_heads / b->n_kv_heads);
    const double *position =
        p->positions + ((size_t)(pair->distance + b->ahead) * (size_t)b->n_heads + head) * k;
    const float *key = pair->k + kv_head * k, *q = pair->q + head * k;
    double sum = 0.0;
    for (size_t t = 0; t < k; t++) {
        sum += (double)b->u[head * k + t] * (double)key[t];
        sum += ((double)q[t] + (double)b->v[head * k + t]) * position[t];
    }
    return sum * (double)b->scale;
}

double provider_reference(const provider *p, const provider_pair *pair)
{
    switch (p->kind) {
    case PROVIDER_ALIBI:
        return -(double)p->slopes[pair->head] * (double)pair->distance;
    case PROVIDER_REL_POS:
        return rel_pos_reference(p, pair);
    case PROVIDER_TABLE:
        return (double)p->custom->table[pair->head * TABLE_DISTANCES + bucket(pair->distance)];
    case PROVIDER_DOT:
        return (double)p->custom->gain[pair->head] *
                   ((double)pair->q[0] * (double)pair->k[0] +
                    (double)pair->query_x[0] * (double)pair->key_x[2]) +
               (double)pair->query_x[1] * (double)pair->distance / 64.0;
    default:
        return provider_formula(p, pair);
    }
}
