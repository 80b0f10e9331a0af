/* The feed-forward part as a mixture of experts.
 *
 *   s = Wr n (+ b);  the n_experts_used highest scores are chosen, of equals the lowest expert
 *   added = sum over the chosen e, ascending: weight_e Wdown_e act(...)_e
 *
 * The rows that chose an expert are gathered, so that an expert's matrices are read once for all of
 * them and those of experts that nobody chose are not read at all. A row's result does not depend
 * on the rows beside it: its products do not, and its sum goes over its own experts in their order.
 */
#include <string.h>

#include "math/kernels.h"
#include "model/block.h"

typedef struct mixture_pass {
    const ps_block *block;
    const float *input; // [R, d_stride]
} mixture_pass;

/* The row's highest scores, as experts in ascending order. */
static void choose(const float *scores, int n_experts, int used, int *chosen)
{
    for (int i = 0; i < used; i++) {
        int best = -1;
        for (int e = 0; e < n_experts; e++) {
            bool taken = false;
            for (int j = 0; j < i && !taken; j++) {
                taken = chosen[j] == e;
            }
            if (!taken && (best < 0 || scores[e] > scores[best])) best = e;
        }
        chosen[i] = best;
    }
    for (int i = 1; i < used; i++) {
        const int expert = chosen[i];
        int j = i;
        for (; j > 0 && chosen[j - 1] > expert; j--) {
            chosen[j] = chosen[j - 1];
        }
        chosen[j] = expert;
    }
}

/* Weights of the chosen: their share of a softmax over the chosen, or over all. */
static void weigh(const ps_block *b, const float *scores, const int *chosen, float *weights)
{
    const int used = b->spec->n_experts_used;
    const bool over_all = b->spec->router == PS_ROUTER_ALL;
    const int n = over_all ? b->spec->n_experts : used;
    float maximum = scores[chosen[0]], sum = 0.0f;
    for (int i = 1; i < used; i++) {
        if (scores[chosen[i]] > maximum) maximum = scores[chosen[i]];
    }
    for (int i = 0; i < n; i++) {
        sum += b->engine->kernels->exp(scores[over_all ? i : chosen[i]] - maximum);
    }
    for (int i = 0; i < used; i++) {
        weights[i] = b->engine->kernels->exp(scores[chosen[i]] - maximum) / sum;
    }
}

static void route_row(void *arg, int row)
{
    const mixture_pass *p = arg;
    const ps_spec *s = p->block->spec;
    const ps_mixture_work *m = &p->block->work->mixture;
    const float *scores = m->scores + (size_t)row * m->score_stride;
    const size_t at = (size_t)row * (size_t)s->n_experts_used;
    choose(scores, s->n_experts, s->n_experts_used, m->chosen + at);
    weigh(p->block, scores, m->chosen + at, m->weights + at);
}

/* Gives each (row, chosen expert) its entry of the table. */
static void make_table(const ps_block *b, int n)
{
    ps_mixture_work *m = &b->work->mixture;
    const int n_choices = n * b->spec->n_experts_used;
    memset(m->first_entry, 0, ((size_t)b->spec->n_experts + 1) * sizeof *m->first_entry);
    for (int c = 0; c < n_choices; c++) {
        m->places[c] = m->first_entry[m->chosen[c] + 1]++; // its turn among the expert's own
    }
    for (int e = 0; e < b->spec->n_experts; e++) {
        m->first_entry[e + 1] += m->first_entry[e];
    }
    for (int c = 0; c < n_choices; c++) {
        m->places[c] += m->first_entry[m->chosen[c]];
    }
}

static void gather_row(void *arg, int row)
{
    const mixture_pass *p = arg;
    const ps_workspace *w = p->block->work;
    const int used = p->block->spec->n_experts_used;
    for (int i = 0; i < used; i++) {
        const size_t entry = (size_t)w->mixture.places[row * used + i];
        memcpy(w->mixture.x + entry * w->d_stride, p->input + (size_t)row * w->d_stride,
               w->d_stride * sizeof(float));
    }
}

static void activate_entry(void *arg, int entry)
{
    const ps_block *b = ((const mixture_pass *)arg)->block;
    const ps_mixture_work *m = &b->work->mixture;
    const size_t at = (size_t)entry * m->f_stride;
    ps_block_activate(b, m->gate + at, m->up + at, b->spec->d_ff_expert);
}

static void combine_row(void *arg, int row)
{
    const mixture_pass *p = arg;
    const ps_workspace *w = p->block->work;
    const ps_mixture_work *m = &w->mixture;
    const int used = p->block->spec->n_experts_used, d = p->block->spec->d_model;
    float *added = w->added + (size_t)row * w->d_stride;
    memset(added, 0, w->d_stride * sizeof *added);
    for (int i = 0; i < used; i++) {
        const int c = row * used + i;
        p->block->engine->kernels->fold(added, m->out + (size_t)m->places[c] * w->d_stride, 1.0f,
                                        m->weights[c], d);
    }
}

/* Adds a product of every chosen expert's matrix with its rows of the table. */
static int add_calls(const ps_block *b, const ps_expert_linear *experts, const float *x,
                     size_t x_stride, float *out, size_t out_stride, int n_calls)
{
    ps_mixture_work *m = &b->work->mixture;
    for (int e = 0; e < b->spec->n_experts; e++) {
        const int first = m->first_entry[e], rows = m->first_entry[e + 1] - first;
        if (rows == 0) continue;
        m->matrices[n_calls] = ps_expert_at(experts, e);
        m->calls[n_calls] = (ps_linear_call){.weight = &m->matrices[n_calls],
                                             .x = x + (size_t)first * x_stride,
                                             .x_stride = x_stride,
                                             .out = out + (size_t)first * out_stride,
                                             .out_stride = out_stride,
                                             .rows = rows};
        m->bytes_read += experts->panel_bytes;
        n_calls++;
    }
    return n_calls;
}

void ps_mixture_forward(const ps_block *b, const float *input, int n)
{
    ps_workspace *w = b->work;
    ps_mixture_work *m = &w->mixture;
    const ps_layer_weights *lw = b->weights;
    mixture_pass p = {.block = b, .input = input};
    const ps_linear_call router =
        ps_linear_call_make(&lw->router, input, w->d_stride, m->scores, m->score_stride, n);
    ps_linear_forward(b->engine, &router, 1, &w->linear);
    ps_block_each_row(b->engine, n, route_row, &p);
    make_table(b, n);
    ps_block_each_row(b->engine, n, gather_row, &p);
    int n_calls = add_calls(b, &lw->expert_up, m->x, w->d_stride, m->up, m->f_stride, 0);
    if (b->spec->gated)
        n_calls = add_calls(b, &lw->expert_gate, m->x, w->d_stride, m->gate, m->f_stride, n_calls);
    ps_linear_forward(b->engine, m->calls, n_calls, &w->linear);
    ps_block_each_row(b->engine, n * b->spec->n_experts_used, activate_entry, &p);
    n_calls = add_calls(b, &lw->expert_down, m->gate, m->f_stride, m->out, w->d_stride, 0);
    ps_linear_forward(b->engine, m->calls, n_calls, &w->linear);
    ps_block_each_row(b->engine, n, combine_row, &p);
}
