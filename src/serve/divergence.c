#include "serve/divergence.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "math/real.h"
#include "serve/sampler.h"
#include "serve/sampler_steps.h"

enum { BLOCK = 256 };

/* What makes log-probabilities of logits: lp_v = (x_v - largest) - log_sum. */
typedef struct softmax {
    const float *x; // [V]
    double largest, log_sum;
    double chosen; // lp of the next token
    int32_t top;
} softmax;

static ps_err prepare(const float *x, int V, int32_t next, softmax *out)
{
    ps_sampler_logprobs lp;
    PS_TRY(ps_sampler_find_logprobs(x, V, next, 1, &lp));
    // The likeliest has x = largest, so its log-probability is -log_sum to the last bit.
    *out = (softmax){.x = x,
                     .largest = (double)x[lp.token[0]],
                     .log_sum = -lp.logprob[0],
                     .chosen = lp.chosen,
                     .top = lp.token[0]};
    return PS_OK;
}

static double logprob_of(const softmax *s, int v)
{
    return ((double)s->x[v] - s->largest) - s->log_sum;
}

static ps_err sum_divergence(const softmax *p, const softmax *q, int V, double *out)
{
    double logprob[BLOCK], probability[BLOCK], sum = 0.0;
    for (int from = 0; from < V; from += BLOCK) {
        const int n = V - from < BLOCK ? V - from : BLOCK;
        for (int i = 0; i < n; i++) {
            logprob[i] = logprob_of(p, from + i);
        }
        ps_sampler_exp(logprob, probability, (size_t)n);
        for (int i = 0; i < n; i++) {
            if (!(probability[i] > 0.0)) continue;
            const double other = logprob_of(q, from + i);
            if (!(other > -INFINITY))
                return PS_FAIL(PS_ERR_NUMERIC,
                               "token %d has the logit -inf, and the probability %g by the "
                               "reference: the divergence is infinite",
                               from + i, probability[i]);
            sum += probability[i] * (logprob[i] - other);
        }
    }
    // Never negative but for what rounding leaves of nearly equal logits.
    *out = sum > 0.0 ? sum : 0.0;
    return PS_OK;
}

ps_err ps_divergence_find(const float *logits, const float *reference, int V, int32_t next,
                          ps_divergence *out)
{
    softmax p, q;
    PS_TRY(prepare(reference, V, next, &p));
    PS_TRY(prepare(logits, V, next, &q));
    *out = (ps_divergence){
        .logprob = q.chosen, .reference_logprob = p.chosen, .same_top = p.top == q.top};
    return sum_divergence(&p, &q, V, &out->kl);
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *sorted, size_t n, double f)
{
    const double place = f * (double)(n - 1);
    const size_t below = (size_t)place;
    if (below + 1 >= n) return sorted[n - 1];
    const double above_share = place - (double)below;
    return (1.0 - above_share) * sorted[below] + above_share * sorted[below + 1];
}

void ps_divergence_summarise(const ps_divergence *predictions, size_t n, ps_divergence_summary *out)
{
    assert(n >= 1);
    double *kl = ps_mem_new(n, sizeof *kl);
    double sum = 0.0, logprob = 0.0, reference_logprob = 0.0;
    size_t n_same = 0;
    for (size_t i = 0; i < n; i++) {
        kl[i] = predictions[i].kl;
        sum += kl[i];
        logprob += predictions[i].logprob;
        reference_logprob += predictions[i].reference_logprob;
        n_same += predictions[i].same_top;
    }
    qsort(kl, n, sizeof *kl, compare);
    *out = (ps_divergence_summary){.n = n,
                                   .kl_mean = sum / (double)n,
                                   .kl_median = quantile(kl, n, 0.5),
                                   .kl_99 = quantile(kl, n, 0.99),
                                   .kl_max = kl[n - 1],
                                   .same_top = (double)n_same / (double)n,
                                   .perplexity = ps_real_exp(-logprob / (double)n),
                                   .reference_perplexity =
                                       ps_real_exp(-reference_logprob / (double)n)};
    ps_mem_free(kl);
}
