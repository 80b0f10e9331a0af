/* One layer's weights are asked for by their source names as they are needed, so that a wrong name
 * or shape in the table of families cannot be repeated here. */
#include "support/naive_model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

typedef struct pass {
    const tiny_model *m;
    int n;     // positions
    int layer; // -1: outside the layers
} pass;

/* Weights by the name inside the layer; NULL where the model has none. Owned by the caller. */
static float *weights(const pass *p, const char *name)
{
    char full[80];
    if (p->layer < 0) {
        snprintf(full, sizeof full, "%s", name);
    } else {
        snprintf(full, sizeof full, "model.layers.%d.%s", p->layer, name);
    }
    return tiny_model_values(p->m, full);
}

static double *new_rows(const pass *p, int columns)
{
    return ps_mem_new((size_t)p->n * (size_t)columns, sizeof(double));
}

static void norm_vector(const double *x, const float *weight, int n, double *out)
{
    double squares = 0.0;
    for (int i = 0; i < n; i++) {
        squares += x[i] * x[i];
    }
    const double factor = 1.0 / sqrt(squares / n + TINY_NORM_EPS);
    for (int i = 0; i < n; i++) {
        out[i] = x[i] * factor * weight[i];
    }
}

static double *norm(const pass *p, const double *x, const char *name)
{
    const int d = p->m->width;
    float *weight = weights(p, name);
    double *out = new_rows(p, d);
    for (int i = 0; i < p->n; i++) {
        norm_vector(x + (size_t)i * (size_t)d, weight, d, out + (size_t)i * (size_t)d);
    }
    ps_mem_free(weight);
    return out;
}

/* x [n, k] -> out [n, rows], with the bias where the model has one. */
static double *linear(const pass *p, const double *x, int k, int rows, const char *name,
                      const char *bias_name)
{
    float *w = weights(p, name), *b = bias_name ? weights(p, bias_name) : NULL;
    double *out = new_rows(p, rows);
    for (int i = 0; i < p->n; i++) {
        for (int r = 0; r < rows; r++) {
            double sum = b ? b[r] : 0.0;
            for (int c = 0; c < k; c++) {
                sum += (double)w[(size_t)r * (size_t)k + (size_t)c] *
                       x[(size_t)i * (size_t)k + (size_t)c];
            }
            out[(size_t)i * (size_t)rows + (size_t)r] = sum;
        }
    }
    ps_mem_free(b);
    ps_mem_free(w);
    return out;
}

static void norm_heads(const pass *p, double *x, int heads, const char *name)
{
    const int k = p->m->head_dim;
    float *weight = weights(p, name);
    for (int i = 0; weight && i < p->n * heads; i++) {
        norm_vector(x + (size_t)i * (size_t)k, weight, k, x + (size_t)i * (size_t)k);
    }
    ps_mem_free(weight);
}

/* Frequency of pair t of `dims` rotated dimensions (arXiv 2104.09864; Llama 3.1's own scaling). */
static double frequency(const tiny_model *m, int t, int dims)
{
    const double f = pow(TINY_ROPE_THETA, -2.0 * t / dims);
    if (m->rope == PS_ROPE_LINEAR) return f / TINY_ROPE_FACTOR;
    if (m->rope != PS_ROPE_LLAMA3) return f;
    const double turns = TINY_ROPE_LENGTH * f / (2.0 * M_PI);
    if (turns > TINY_ROPE_HIGH) return f;
    if (turns < TINY_ROPE_LOW) return f / TINY_ROPE_FACTOR;
    const double u = (turns - TINY_ROPE_LOW) / (TINY_ROPE_HIGH - TINY_ROPE_LOW);
    return (1.0 - u) * f / TINY_ROPE_FACTOR + u * f;
}

static double *rotated(const pass *p, const double *x, int heads)
{
    const int k = p->m->head_dim, dims = p->m->half_rotary ? k / 2 : k, half = dims / 2;
    double *out = new_rows(p, heads * k);
    memcpy(out, x, (size_t)p->n * (size_t)(heads * k) * sizeof *out);
    for (int i = 0; i < p->n * heads; i++) {
        const double *from = x + (size_t)i * (size_t)k;
        double *to = out + (size_t)i * (size_t)k;
        for (int t = 0; t < half; t++) {
            const double angle = (double)(i / heads) * frequency(p->m, t, dims);
            to[t] = from[t] * cos(angle) - from[t + half] * sin(angle);
            to[t + half] = from[t + half] * cos(angle) + from[t] * sin(angle);
        }
    }
    return out;
}

/* P[r] = W_pos PE(r) for every distance; NULL for families without the bias. */
static double *position_table(const pass *p)
{
    const int d = p->m->rel_pos_dim;
    if (p->m->family != TINY_RELPOS_LLAMA) return NULL;
    double *encoding = new_rows(p, d);
    for (int r = 0; r < p->n; r++) {
        for (int c = 0; c < d; c++) {
            const double angle = r * pow(TINY_REL_POS_THETA, -2.0 * (c / 2) / d);
            encoding[(size_t)r * (size_t)d + (size_t)c] = c % 2 == 0 ? sin(angle) : cos(angle);
        }
    }
    double *table =
        linear(p, encoding, d, p->m->heads * p->m->head_dim, "self_attn.linear_pos.weight", NULL);
    ps_mem_free(encoding);
    return table;
}

typedef struct attention {
    double *q, *k, *v; // [n, heads or kv heads, K] before the rotation
    double *q_rotated, *k_rotated;
    double *table;     // [n, heads, K] by distance, or NULL
    float *u, *bias_v; // [heads, K], or NULL
} attention;

static double dot(const double *a, const double *b, int n)
{
    double sum = 0.0;
    for (int i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

static double score(const pass *p, const attention *a, int head, int i, int j)
{
    const tiny_model *m = p->m;
    const int size = m->head_dim, kv_head = head / (m->heads / m->kv_heads);
    const size_t q_at = ((size_t)i * (size_t)m->heads + (size_t)head) * (size_t)size;
    const size_t k_at = ((size_t)j * (size_t)m->kv_heads + (size_t)kv_head) * (size_t)size;
    double z = dot(a->q_rotated + q_at, a->k_rotated + k_at, size);
    if (a->table) {
        const size_t p_at = ((size_t)(i - j) * (size_t)m->heads + (size_t)head) * (size_t)size;
        for (int t = 0; t < size; t++) {
            const size_t h_at = (size_t)head * (size_t)size + (size_t)t;
            z += (double)a->u[h_at] * a->k[k_at + (size_t)t];
            z += (a->q[q_at + (size_t)t] + (double)a->bias_v[h_at]) * a->table[p_at + (size_t)t];
        }
    }
    return z / sqrt((double)size);
}

/* out[K] of one head of one query. */
static void attend(const pass *p, const attention *a, int head, int i, double *out)
{
    const tiny_model *m = p->m;
    const int size = m->head_dim, kv_head = head / (m->heads / m->kv_heads);
    const int window = tiny_model_window(m, p->layer);
    const int first = window > 0 && i - window + 1 > 0 ? i - window + 1 : 0;
    double *z = new_rows(p, 1), largest = -INFINITY, sum = 0.0;
    for (int j = first; j <= i; j++) {
        z[j] = score(p, a, head, i, j);
        largest = fmax(largest, z[j]);
    }
    for (int j = first; j <= i; j++) {
        z[j] = exp(z[j] - largest);
        sum += z[j];
    }
    for (int j = first; j <= i; j++) {
        const double *v = a->v + ((size_t)j * (size_t)m->kv_heads + (size_t)kv_head) * (size_t)size;
        for (int t = 0; t < size; t++) {
            out[t] += z[j] / sum * v[t];
        }
    }
    ps_mem_free(z);
}

static double *attention_of(const pass *p, const double *x)
{
    const tiny_model *m = p->m;
    const int q_size = m->heads * m->head_dim, kv_size = m->kv_heads * m->head_dim;
    attention a = {
        .q = linear(p, x, m->width, q_size, "self_attn.q_proj.weight", "self_attn.q_proj.bias"),
        .k = linear(p, x, m->width, kv_size, "self_attn.k_proj.weight", "self_attn.k_proj.bias"),
        .v = linear(p, x, m->width, kv_size, "self_attn.v_proj.weight", "self_attn.v_proj.bias"),
        .table = position_table(p),
        .u = weights(p, "self_attn.pos_bias_u"),
        .bias_v = weights(p, "self_attn.pos_bias_v"),
    };
    norm_heads(p, a.q, m->heads, "self_attn.q_norm.weight");
    norm_heads(p, a.k, m->kv_heads, "self_attn.k_norm.weight");
    a.q_rotated = rotated(p, a.q, m->heads);
    a.k_rotated = rotated(p, a.k, m->kv_heads);
    double *mixed = new_rows(p, q_size);
    for (int i = 0; i < p->n; i++) {
        for (int h = 0; h < m->heads; h++) {
            attend(p, &a, h, i,
                   mixed + (size_t)i * (size_t)q_size + (size_t)h * (size_t)m->head_dim);
        }
    }
    double *out =
        linear(p, mixed, q_size, m->width, "self_attn.o_proj.weight", "self_attn.o_proj.bias");
    void *all[] = {a.q, a.k, a.v, a.q_rotated, a.k_rotated, a.table, a.u, a.bias_v, mixed};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        ps_mem_free(all[i]);
    }
    return out;
}

static double *mlp(const pass *p, const double *x)
{
    const int d = p->m->width, f = p->m->ffn;
    double *gate = linear(p, x, d, f, "mlp.gate_proj.weight", "mlp.gate_proj.bias");
    double *up = linear(p, x, d, f, "mlp.up_proj.weight", "mlp.up_proj.bias");
    for (int i = 0; i < p->n * f; i++) {
        gate[i] = gate[i] / (1.0 + exp(-gate[i])) * up[i];
    }
    double *out = linear(p, gate, f, d, "mlp.down_proj.weight", "mlp.down_proj.bias");
    ps_mem_free(up);
    ps_mem_free(gate);
    return out;
}

/* x += part(norm(x)) */
static void add_part(const pass *p, double *x, const char *norm_name,
                     double *(*part)(const pass *p, const double *x))
{
    double *normed = norm(p, x, norm_name);
    double *added = part(p, normed);
    for (int i = 0; i < p->n * p->m->width; i++) {
        x[i] += added[i];
    }
    ps_mem_free(added);
    ps_mem_free(normed);
}

void naive_model_forward(const tiny_model *m, const int32_t *tokens, int n, double *logits)
{
    pass p = {.m = m, .n = n, .layer = -1};
    const size_t d = (size_t)m->width;
    float *embedding = weights(&p, "model.embed_tokens.weight");
    double *x = new_rows(&p, m->width);
    for (size_t i = 0; i < (size_t)n * d; i++) {
        x[i] = embedding[(size_t)tokens[i / d] * d + i % d];
    }
    for (p.layer = 0; p.layer < m->layers; p.layer++) {
        add_part(&p, x, "input_layernorm.weight", attention_of);
        add_part(&p, x, "post_attention_layernorm.weight", mlp);
    }
    p.layer = -1;
    double *normed = norm(&p, x, "model.norm.weight");
    double *found = linear(&p, normed, m->width, m->vocabulary,
                           m->tied_head ? "model.embed_tokens.weight" : "lm_head.weight", NULL);
    memcpy(logits, found, (size_t)n * (size_t)m->vocabulary * sizeof *logits);
    ps_mem_free(found);
    ps_mem_free(normed);
    ps_mem_free(x);
    ps_mem_free(embedding);
}
