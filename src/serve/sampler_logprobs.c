/* Log-probabilities of raw logits. The best few stand in a short sorted list: nearly every token
 * fails the one comparison with its last entry. */
#include <assert.h>
#include <math.h>

#include "math/real.h"
#include "serve/sampler.h"
#include "serve/sampler_steps.h"

enum { BLOCK = 256 };

static ps_err find_largest(const float *logits, int V, double *largest)
{
    float most = -INFINITY;
    *largest = 0.0;
    for (int v = 0; v < V; v++) {
        const float x = logits[v];
        if (!(x < INFINITY)) return ps_sampler_reject(v, x);
        if (x > most) most = x;
    }
    *largest = (double)most;
    return most > -INFINITY ? PS_OK : ps_sampler_reject_all(V);
}

static double sum_of_exp(const float *logits, int V, double largest)
{
    double term[BLOCK], sum = 0.0;
    for (int from = 0; from < V; from += BLOCK) {
        const int n = V - from < BLOCK ? V - from : BLOCK;
        for (int i = 0; i < n; i++) {
            term[i] = (double)logits[from + i] - largest;
        }
        ps_sampler_exp(term, term, (size_t)n);
        for (int i = 0; i < n; i++) {
            sum += term[i];
        }
    }
    return sum;
}

/* Ids come ascending, so a token goes behind its equals. out->logprob holds logits meanwhile. */
static void find_best(const float *logits, int V, int n_top, ps_sampler_logprobs *out)
{
    int n = 0;
    for (int v = 0; v < V; v++) {
        const double x = (double)logits[v];
        if (n == n_top && (n == 0 || x <= out->logprob[n - 1])) continue;
        int at = n < n_top ? n++ : n - 1;
        for (; at > 0 && out->logprob[at - 1] < x; at--) {
            out->logprob[at] = out->logprob[at - 1];
            out->token[at] = out->token[at - 1];
        }
        out->logprob[at] = x;
        out->token[at] = v;
    }
    out->n_top = n;
}

ps_err ps_sampler_find_logprobs(const float *logits, int V, int32_t token, int n_top,
                                ps_sampler_logprobs *out)
{
    assert(V >= 1 && token >= 0 && token < V);
    assert(n_top >= 0 && n_top <= PS_SAMPLER_LOGPROBS_MAX);
    double largest;
    PS_TRY(find_largest(logits, V, &largest));
    const double log_sum = ps_real_log(sum_of_exp(logits, V, largest));
    out->chosen = (double)logits[token] - largest - log_sum;
    find_best(logits, V, n_top, out);
    for (int i = 0; i < out->n_top; i++) {
        out->logprob[i] = out->logprob[i] - largest - log_sum;
    }
    return PS_OK;
}
