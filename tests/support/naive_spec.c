#include "support/naive_spec.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "support/provider_formulas.h"

typedef struct pass {
    const spec_model *m;
    const ps_spec *s;
    int n, layer;
    int64_t length;
} pass;

static float *weights(const pass *p, ps_role role)
{
    return spec_model_values(p->m, role, (int)role >= PS_ROLE_FIRST_OF_LAYER ? p->layer : -1);
}

static double *new_rows(int n, int columns)
{
    return ps_mem_new((size_t)n * (size_t)columns, sizeof(double));
}

static double dot(const double *a, const double *b, int n)
{
    double sum = 0.0;
    for (int i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

/* ---- norms and products ---- */

/* In place. weight and bias may be NULL: 1 and 0. */
static void norm_vector(const ps_spec *s, double *x, const float *weight, const float *bias, int n)
{
    double mean = 0.0, squares = 0.0;
    for (int i = 0; i < n && s->norm == PS_NORM_LAYER; i++) {
        mean += x[i] / n;
    }
    for (int i = 0; i < n; i++) {
        squares += (x[i] - mean) * (x[i] - mean);
    }
    for (int i = 0; i < n; i++) {
        x[i] = (x[i] - mean) / sqrt(squares / n + s->norm_eps) * (double)weight[i];
        if (bias) x[i] += (double)bias[i];
    }
}

/* A normed copy of x[n, D]; a copy as it is where the spec has no such norm. bias_role may be
 * PS_ROLE_COUNT. */
static double *normed(const pass *p, const double *x, ps_role role, ps_role bias_role)
{
    const int d = p->s->d_model;
    float *weight = weights(p, role);
    float *bias = bias_role != PS_ROLE_COUNT ? weights(p, bias_role) : NULL;
    double *out = new_rows(p->n, d);
    memcpy(out, x, (size_t)p->n * (size_t)d * sizeof *out);
    for (int i = 0; i < p->n && weight; i++) {
        norm_vector(p->s, out + i * d, weight, bias, d);
    }
    ps_mem_free(bias);
    ps_mem_free(weight);
    return out;
}

/* out[rows] = W x + b, of matrix `item` of a stack */
static void product(const double *x, int k, int rows, const float *w, const float *b, int item,
                    double *out)
{
    const size_t at = (size_t)item * (size_t)rows;
    for (int r = 0; r < rows; r++) {
        out[r] = b ? (double)b[at + (size_t)r] : 0.0;
        for (int c = 0; c < k; c++) {
            out[r] += (double)w[(at + (size_t)r) * (size_t)k + (size_t)c] * x[c];
        }
    }
}

static double *linear(const pass *p, const double *x, int k, int rows, ps_role role,
                      ps_role bias_role)
{
    float *w = weights(p, role), *b = weights(p, bias_role);
    double *out = new_rows(p->n, rows);
    for (int i = 0; i < p->n; i++) {
        product(x + i * k, k, rows, w, b, 0, out + i * rows);
    }
    ps_mem_free(b);
    ps_mem_free(w);
    return out;
}

/* ---- positions ---- */

static double ramp_end(const ps_rope *r, double turns)
{
    return r->dims * log(r->original_length / (2.0 * M_PI * turns)) / (2.0 * log(r->base));
}

static double yarn(const ps_rope *r, double f, int t)
{
    double a = ramp_end(r, r->beta_fast), z = ramp_end(r, r->beta_slow);
    if (r->truncate) {
        a = floor(a);
        z = ceil(z);
    }
    a = fmax(a, 0.0);
    z = fmin(z, r->dims - 1.0);
    const double u = fmin(fmax((t - a) / (z - a), 0.0), 1.0);
    return (1.0 - u) * f + u * f / r->factor;
}

static double llama3(const ps_rope *r, double f)
{
    const double turns = r->original_length * f / (2.0 * M_PI);
    const double u = (turns - r->low_factor) / (r->high_factor - r->low_factor);
    return u >= 1.0 ? f : u <= 0.0 ? f / r->factor : (1.0 - u) * f / r->factor + u * f;
}

double naive_spec_frequency(const ps_rope *r, int64_t length, int t)
{
    const double f = pow(r->base, -2.0 * t / r->dims), n = r->dims;
    const double reach = length > 0 ? (double)length : r->factor * r->original_length;
    switch (r->kind) {
    case PS_ROPE_LINEAR:
        return f / r->factor;
    case PS_ROPE_LLAMA3:
        return llama3(r, f);
    case PS_ROPE_DIVIDED:
        return f / r->factors[t];
    case PS_ROPE_YARN:
        return yarn(r, f, t);
    case PS_ROPE_DYNAMIC:
        if (reach <= r->original_length || r->dims == 2) return f;
        return pow(r->base * pow(r->factor * reach / r->original_length - (r->factor - 1.0),
                                 n / (n - 2.0)),
                   -2.0 * t / n);
    case PS_ROPE_LONGROPE:
        if (length > 0 && (double)length <= r->original_length) return f / r->factors[t];
        return f / r->long_factors[t];
    default:
        return f;
    }
}

static double *rotated(const pass *p, const double *x, int heads)
{
    const int k = p->s->head_dim, rope = p->s->layers[p->layer].rope;
    double *out = new_rows(p->n, heads * k);
    memcpy(out, x, (size_t)p->n * (size_t)(heads * k) * sizeof *out);
    if (rope < 0) return out;
    const ps_rope *r = &p->s->ropes[rope];
    const int half = r->dims / 2;
    for (int i = 0; i < p->n * heads; i++) {
        const double *from = x + i * k;
        double *to = out + i * k;
        for (int t = 0; t < half; t++) {
            const double angle = (i / heads) * naive_spec_frequency(r, p->length, t);
            const double c = r->magnitude * cos(angle), s = r->magnitude * sin(angle);
            to[t] = from[t] * c - from[t + half] * s;
            to[t + half] = from[t + half] * c + from[t] * s;
        }
    }
    return out;
}

/* The slopes of the ALiBi paper's code. */
static double slope_of(int head, int heads, const ps_bias_spec *bias)
{
    int power = 1;
    while (2 * power <= heads) {
        power *= 2;
    }
    const double e = bias->max_exponent;
    const double exponent =
        head < power ? e * (head + 1) / power : e / 2.0 * (2 * (head - power) + 1) / power;
    return bias->factor * pow(2.0, -exponent);
}

/* ---- attention ---- */

typedef struct attention {
    double *q, *k, *v, *q_rotated, *k_rotated; // [n, heads or key heads, K]
    double *table;                             // [n, heads, K] by distance, or NULL
    float *u, *bias_v, *sinks;                 // or NULL
    provider formulas[PS_BIAS_MAX];            // of the layer's list, where they are formulas
    double *forgotten;                         // fox: [n, heads] sums of log f, or NULL
} attention;

/* Parameters of the providers that support/provider_formulas.h writes down. */
static void open_formulas(const pass *p, attention *a)
{
    const ps_layer_spec *layer = &p->s->layers[p->layer];
    static const struct {
        ps_bias_kind kind;
        provider_kind formula;
        ps_role roles[5];
        int n;
    } rows[] = {
        {PS_BIAS_T5, PROVIDER_T5, {PS_ROLE_T5_TABLE}, 1},
        {PS_BIAS_KERPLE_LOG, PROVIDER_KERPLE_LOG, {PS_ROLE_KERPLE_LOG_P, PS_ROLE_KERPLE_LOG_A}, 2},
        {PS_BIAS_KERPLE_POWER,
         PROVIDER_KERPLE_POWER,
         {PS_ROLE_KERPLE_POWER_P, PS_ROLE_KERPLE_POWER_EXPONENT},
         2},
        {PS_BIAS_SANDWICH, PROVIDER_SANDWICH, {PS_ROLE_COUNT}, 0},
        {PS_BIAS_FIRE,
         PROVIDER_FIRE,
         {PS_ROLE_FIRE_W1, PS_ROLE_FIRE_B1, PS_ROLE_FIRE_W2, PS_ROLE_FIRE_B2, PS_ROLE_FIRE_SCALARS},
         5},
    };
    for (int b = 0; b < layer->n_biases; b++) {
        const ps_bias_spec *spec = &layer->biases[b];
        for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
            if (rows[r].kind != spec->kind) continue;
            a->formulas[b] = (provider){.kind = rows[r].formula,
                                        .width = spec->width,
                                        .bias = {.n_heads = p->s->n_heads,
                                                 .n_buckets = spec->n_buckets,
                                                 .max_distance = spec->max_distance,
                                                 .bidirectional = spec->bidirectional,
                                                 .dim = spec->dim}};
            for (int i = 0; i < rows[r].n; i++) {
                a->formulas[b].own[i] = weights(p, rows[r].roles[i]);
            }
        }
    }
}

static void close_formulas(attention *a)
{
    for (int b = 0; b < PS_BIAS_MAX; b++) {
        for (int i = 0; i < 5; i++) {
            ps_mem_free(a->formulas[b].own[i]);
        }
    }
}

/* Sums of log sigmoid of the gate's products, or NULL. */
static double *forgotten(const pass *p, const double *x)
{
    float *w = weights(p, PS_ROLE_FOX_WEIGHT);
    if (!w) return NULL;
    const int heads = p->s->n_heads;
    double *sums = linear(p, x, p->s->d_model, heads, PS_ROLE_FOX_WEIGHT, PS_ROLE_FOX_BIAS);
    for (int i = 0; i < p->n * heads; i++) {
        sums[i] = -log1p(exp(-sums[i])) + (i >= heads ? sums[i - heads] : 0.0);
    }
    ps_mem_free(w);
    return sums;
}

/* P[r] = W_pos PE(r) for every distance; NULL for layers without the bias. */
static double *position_table(const pass *p)
{
    float *w = weights(p, PS_ROLE_REL_POS_W);
    if (!w) return NULL;
    const ps_layer_spec *layer = &p->s->layers[p->layer];
    const ps_bias_spec *bias = layer->biases;
    while (bias->kind != PS_BIAS_REL_POS) {
        bias++;
    }
    const int d = bias->dim, rows = p->s->n_heads * p->s->head_dim;
    double *encoding = new_rows(1, d), *table = new_rows(p->n, rows);
    for (int r = 0; r < p->n; r++) {
        for (int c = 0; c < d; c++) {
            const double angle = r * pow(bias->theta, -2.0 * (c / 2) / d);
            encoding[c] = c % 2 == 0 ? sin(angle) : cos(angle);
        }
        product(encoding, d, rows, w, NULL, 0, table + r * rows);
    }
    ps_mem_free(encoding);
    ps_mem_free(w);
    return table;
}

static double bias_of(const pass *p, const attention *a, int head, int i, int j)
{
    const ps_spec *s = p->s;
    const ps_layer_spec *layer = &s->layers[p->layer];
    const int k = s->head_dim, kv_head = head / (s->n_heads / s->n_kv_heads);
    double sum = 0.0;
    for (int b = 0; b < layer->n_biases; b++) {
        if (layer->biases[b].kind == PS_BIAS_ALIBI) {
            sum += slope_of(head, s->n_heads, &layer->biases[b]) * (j - i);
            continue;
        }
        if (layer->biases[b].kind == PS_BIAS_FOX) {
            sum += a->forgotten[i * s->n_heads + head] - a->forgotten[j * s->n_heads + head];
            continue;
        }
        if (layer->biases[b].kind != PS_BIAS_REL_POS) {
            const provider_pair pair = {.head = head, .distance = i - j, .position = i};
            sum += provider_formula(&a->formulas[b], &pair);
            continue;
        }
        for (int t = 0; t < k; t++) {
            const double key = a->k[(j * s->n_kv_heads + kv_head) * k + t];
            const double query = a->q[(i * s->n_heads + head) * k + t];
            const double place = a->table[((i - j) * s->n_heads + head) * k + t];
            sum += s->attention_scale * ((double)a->u[head * k + t] * key +
                                         (query + (double)a->bias_v[head * k + t]) * place);
        }
    }
    return sum;
}

/* out[K] of one head of one query. */
static void attend(const pass *p, const attention *a, int head, int i, double *z, double *out)
{
    const ps_spec *s = p->s;
    const int k = s->head_dim, kv_head = head / (s->n_heads / s->n_kv_heads);
    const int64_t window = s->layers[p->layer].window;
    const int first = window > 0 && i - window + 1 > 0 ? (int)(i - window + 1) : 0;
    double largest = a->sinks ? (double)a->sinks[head] : s->quiet_softmax ? 0.0 : -INFINITY;
    for (int j = first; j <= i; j++) {
        z[j] = s->attention_scale * dot(a->q_rotated + (i * s->n_heads + head) * k,
                                        a->k_rotated + (j * s->n_kv_heads + kv_head) * k, k);
        if (s->softcap > 0.0) z[j] = s->softcap * tanh(z[j] / s->softcap);
        z[j] += bias_of(p, a, head, i, j);
        largest = fmax(largest, z[j]);
    }
    double sum = a->sinks           ? exp((double)a->sinks[head] - largest)
                 : s->quiet_softmax ? exp(-largest)
                                    : 0.0;
    for (int j = first; j <= i; j++) {
        z[j] = exp(z[j] - largest);
        sum += z[j];
    }
    for (int j = first; j <= i; j++) {
        for (int t = 0; t < k; t++) {
            out[t] += z[j] / sum * a->v[(j * s->n_kv_heads + kv_head) * k + t];
        }
    }
}

static void clip(const pass *p, double *x, int heads)
{
    for (int i = 0; i < p->n * heads * p->s->head_dim && p->s->qkv_clip > 0.0; i++) {
        x[i] = fmin(fmax(x[i], -p->s->qkv_clip), p->s->qkv_clip);
    }
}

static void norm_heads(const pass *p, double *x, int heads, ps_role role)
{
    const int k = p->s->head_dim;
    float *weight = weights(p, role);
    const bool all = p->s->qk_norm == PS_QK_NORM_ALL;
    const int n = all ? heads * k : k, groups = all ? 1 : heads;
    for (int i = 0; i < p->n * groups && weight; i++) {
        const int own = p->s->qk_norm == PS_QK_NORM_HEADS ? i % groups * k : 0;
        norm_vector(p->s, x + i * n, weight + own, NULL, n);
    }
    ps_mem_free(weight);
}

/* The output gate, in place. */
static void gate(const pass *p, const double *x, double *mixed)
{
    const ps_spec *s = p->s;
    const int hk = s->n_heads * s->head_dim;
    if (s->output_gate == PS_OUTPUT_GATE_NONE) return;
    const bool heads = s->output_gate == PS_OUTPUT_GATE_HEADS;
    const int n = heads ? s->n_heads : hk;
    double *gates = linear(p, x, s->d_model, n, PS_ROLE_OUTPUT_GATE, PS_ROLE_OUTPUT_GATE_BIAS);
    for (int i = 0; i < p->n * hk; i++) {
        const int at = heads ? i / s->head_dim : i;
        mixed[i] /= 1.0 + exp(-gates[at]);
    }
    ps_mem_free(gates);
}

static double *attention_of(const pass *p, const double *x)
{
    const ps_spec *s = p->s;
    const int d = s->d_model, hk = s->n_heads * s->head_dim, gk = s->n_kv_heads * s->head_dim;
    attention a = {.q = linear(p, x, d, hk, PS_ROLE_Q, PS_ROLE_Q_BIAS),
                   .k = linear(p, x, d, gk, PS_ROLE_K, PS_ROLE_K_BIAS),
                   .v = linear(p, x, d, gk, PS_ROLE_V, PS_ROLE_V_BIAS),
                   .table = position_table(p),
                   .u = weights(p, PS_ROLE_REL_POS_U),
                   .bias_v = weights(p, PS_ROLE_REL_POS_V),
                   .sinks = weights(p, PS_ROLE_SINKS)};
    open_formulas(p, &a);
    a.forgotten = forgotten(p, x);
    clip(p, a.q, s->n_heads);
    clip(p, a.k, s->n_kv_heads);
    clip(p, a.v, s->n_kv_heads);
    norm_heads(p, a.q, s->n_heads, PS_ROLE_Q_NORM);
    norm_heads(p, a.k, s->n_kv_heads, PS_ROLE_K_NORM);
    a.q_rotated = rotated(p, a.q, s->n_heads);
    a.k_rotated = rotated(p, a.k, s->n_kv_heads);
    double *mixed = new_rows(p->n, hk), *z = new_rows(p->n, 1);
    for (int i = 0; i < p->n; i++) {
        for (int h = 0; h < s->n_heads; h++) {
            attend(p, &a, h, i, z, mixed + i * hk + h * s->head_dim);
        }
    }
    gate(p, x, mixed);
    double *out = linear(p, mixed, hk, d, PS_ROLE_O, PS_ROLE_O_BIAS);
    void *all[] = {a.q, a.k,      a.v,     a.q_rotated, a.k_rotated, a.table,
                   a.u, a.bias_v, a.sinks, a.forgotten, mixed,       z};
    close_formulas(&a);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        ps_mem_free(all[i]);
    }
    return out;
}

/* ---- feed-forward ---- */

static double activated(const ps_spec *s, double g)
{
    switch (s->activation) {
    case PS_ACTIVATION_SILU:
        return g / (1.0 + exp(-g));
    case PS_ACTIVATION_GELU:
        return 0.5 * g * erfc(-g / sqrt(2.0));
    case PS_ACTIVATION_GELU_TANH:
        return 0.5 * g * (1.0 + tanh(sqrt(2.0 / M_PI) * (g + 0.044715 * g * g * g)));
    case PS_ACTIVATION_GELU_QUICK:
        return g / (1.0 + exp(-1.702 * g));
    case PS_ACTIVATION_RELU:
        return fmax(g, 0.0);
    case PS_ACTIVATION_RELU2:
        return fmax(g, 0.0) * fmax(g, 0.0);
    default:
        g = fmin(g, s->swiglu_limit);
        return g / (1.0 + exp(-s->swiglu_alpha * g));
    }
}

/* Matrices and biases of a feed-forward part, dense or of all experts. */
typedef struct mlp {
    float *gate, *up, *down, *gate_bias, *up_bias, *down_bias;
    int width;
} mlp;

static mlp mlp_open(const pass *p, bool mixture)
{
    const ps_role r[6] = {PS_ROLE_GATE,      PS_ROLE_UP,      PS_ROLE_DOWN,
                          PS_ROLE_GATE_BIAS, PS_ROLE_UP_BIAS, PS_ROLE_DOWN_BIAS};
    const ps_role e[6] = {PS_ROLE_EXPERT_GATE,    PS_ROLE_EXPERT_UP,
                          PS_ROLE_EXPERT_DOWN,    PS_ROLE_EXPERT_GATE_BIAS,
                          PS_ROLE_EXPERT_UP_BIAS, PS_ROLE_EXPERT_DOWN_BIAS};
    const ps_role *roles = mixture ? e : r;
    return (mlp){weights(p, roles[0]),
                 weights(p, roles[1]),
                 weights(p, roles[2]),
                 weights(p, roles[3]),
                 weights(p, roles[4]),
                 weights(p, roles[5]),
                 mixture ? p->s->d_ff_expert : p->s->d_ff};
}

static void mlp_close(mlp *m)
{
    float *all[] = {m->gate, m->up, m->down, m->gate_bias, m->up_bias, m->down_bias};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        ps_mem_free(all[i]);
    }
}

/* out[D] += weight * mlp(x) of matrix `item` */
static void add_mlp(const ps_spec *s, const mlp *m, int item, const double *x, double weight,
                    double *out)
{
    const int d = s->d_model, f = m->width;
    double *gate = new_rows(1, f), *up = new_rows(1, f), *down = new_rows(1, d);
    product(x, d, f, m->up, m->up_bias, item, up);
    if (s->gated) product(x, d, f, m->gate, m->gate_bias, item, gate);
    for (int i = 0; i < f; i++) {
        const double limit = s->swiglu_limit;
        double u = up[i];
        if (s->activation == PS_ACTIVATION_SWIGLU_OSS) u = fmin(fmax(u, -limit), limit) + 1.0;
        up[i] = s->gated ? activated(s, gate[i]) * u : activated(s, up[i]);
    }
    product(up, f, d, m->down, m->down_bias, item, down);
    for (int i = 0; i < d; i++) {
        out[i] += weight * down[i];
    }
    ps_mem_free(gate);
    ps_mem_free(up);
    ps_mem_free(down);
}

/* The row's experts and their weights, in weight[n_experts]; 0: not chosen. */
static void route(const ps_spec *s, const double *scores, double *weight)
{
    double sum = 0.0;
    for (int e = 0; e < s->n_experts; e++) {
        int better = 0;
        for (int o = 0; o < s->n_experts; o++) {
            better += scores[o] > scores[e] || (scores[o] == scores[e] && o < e);
        }
        weight[e] = better < s->n_experts_used ? exp(scores[e]) : 0.0;
        sum += s->router == PS_ROUTER_ALL ? exp(scores[e]) : weight[e];
    }
    for (int e = 0; e < s->n_experts; e++) {
        weight[e] /= sum;
    }
}

static double *mlp_of(const pass *p, const double *x)
{
    const ps_spec *s = p->s;
    const int d = s->d_model;
    const bool mixture = s->layers[p->layer].mixture;
    double *out = new_rows(p->n, d), *scores = NULL, *weight = new_rows(1, s->n_experts + 1);
    mlp m = mlp_open(p, mixture);
    if (mixture) scores = linear(p, x, d, s->n_experts, PS_ROLE_ROUTER, PS_ROLE_ROUTER_BIAS);
    for (int i = 0; i < p->n; i++) {
        if (!mixture) add_mlp(s, &m, 0, x + i * d, 1.0, out + i * d);
        if (mixture) route(s, scores + i * s->n_experts, weight);
        for (int e = 0; e < s->n_experts && mixture; e++) {
            if (weight[e] > 0.0) add_mlp(s, &m, e, x + i * d, weight[e], out + i * d);
        }
    }
    mlp_close(&m);
    ps_mem_free(weight);
    ps_mem_free(scores);
    return out;
}

/* ---- the model ---- */

/* x += residual_scale * (post norm of) part; part is freed. */
static void add_part(const pass *p, double *x, double *part, ps_role post_norm)
{
    double *added = normed(p, part, post_norm, PS_ROLE_COUNT);
    for (int i = 0; i < p->n * p->s->d_model; i++) {
        x[i] += p->s->residual_scale * added[i];
    }
    ps_mem_free(added);
    ps_mem_free(part);
}

static void one_layer(const pass *p, double *x)
{
    const ps_spec *s = p->s;
    double *a = normed(p, x, PS_ROLE_ATTENTION_NORM, PS_ROLE_ATTENTION_NORM_BIAS);
    double *o = attention_of(p, a), *m;
    if (s->parallel) {
        double *n = normed(p, x, PS_ROLE_MLP_NORM, PS_ROLE_MLP_NORM_BIAS);
        m = mlp_of(p, s->shared_norm ? a : n);
        add_part(p, x, o, PS_ROLE_ATTENTION_POST_NORM);
        ps_mem_free(n);
    } else {
        add_part(p, x, o, PS_ROLE_ATTENTION_POST_NORM);
        double *n = normed(p, x, PS_ROLE_MLP_NORM, PS_ROLE_MLP_NORM_BIAS);
        m = mlp_of(p, n);
        ps_mem_free(n);
    }
    add_part(p, x, m, PS_ROLE_MLP_POST_NORM);
    ps_mem_free(a);
}

static double *embedded(const pass *p, const int32_t *tokens)
{
    const int d = p->s->d_model;
    float *embed = weights(p, PS_ROLE_EMBED), *positions = weights(p, PS_ROLE_POSITIONS);
    double *x = new_rows(p->n, d);
    for (int i = 0; i < p->n * d; i++) {
        x[i] = p->s->embed_scale * (double)embed[tokens[i / d] * d + i % d];
        if (positions) x[i] += (double)positions[i];
    }
    double *out = normed(p, x, PS_ROLE_EMBED_NORM, PS_ROLE_EMBED_NORM_BIAS);
    ps_mem_free(x);
    ps_mem_free(positions);
    ps_mem_free(embed);
    return out;
}

void naive_spec_forward(const spec_model *m, const int32_t *tokens, int n, int64_t length,
                        double *logits)
{
    const ps_spec *s = &m->spec;
    pass p = {.m = m, .s = s, .n = n, .length = length};
    double *x = embedded(&p, tokens);
    for (p.layer = 0; p.layer < s->n_layers; p.layer++) {
        one_layer(&p, x);
    }
    double *last = normed(&p, x, PS_ROLE_FINAL_NORM, PS_ROLE_FINAL_NORM_BIAS);
    double *head = linear(&p, last, s->d_model, s->vocab_size,
                          s->tied_head ? PS_ROLE_EMBED : PS_ROLE_HEAD, PS_ROLE_HEAD_BIAS);
    for (int i = 0; i < n * s->vocab_size; i++) {
        logits[i] = s->logit_scale * head[i];
        if (s->final_softcap > 0.0)
            logits[i] = s->final_softcap * tanh(logits[i] / s->final_softcap);
    }
    ps_mem_free(head);
    ps_mem_free(last);
    ps_mem_free(x);
}
