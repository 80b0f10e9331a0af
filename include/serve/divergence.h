/* How far the predictions of one run are from those of another, the reference.
 *
 *   KL(P || Q) = sum_v p_v (log p_v - log q_v)      p = softmax(reference), q = softmax(logits)
 *
 * over the whole vocabulary, ids ascending, in double precision with functions made of + - * /
 * alone, so equal logits give equal numbers on every machine, and 0 exactly against themselves.
 *
 * MPI: local.
 */
#ifndef PS_SERVE_DIVERGENCE_H
#define PS_SERVE_DIVERGENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* One prediction. */
typedef struct ps_divergence {
    double kl;                // nats, >= 0
    double logprob;           // of the token that came next
    double reference_logprob; // the same by the reference
    bool same_top;            // the likeliest token is the same, of equals the lowest id
} ps_divergence;

/* logits[V], reference[V], borrowed; 0 <= next < V is asserted.
 * Cost: three passes over V and two exponentials for each, no allocation.
 * Errors: PS_ERR_NUMERIC for NaN or +inf in either, and where the divergence is infinite: -inf for
 * a token that the reference gives a probability. */
ps_err ps_divergence_find(const float *logits, const float *reference, int V, int32_t next,
                          ps_divergence *out) PS_MUST_CHECK;

typedef struct ps_divergence_summary {
    size_t n;
    double kl_mean, kl_median, kl_99, kl_max; // kl_99: 99 % are not above it
    double same_top;                          // share, 0 .. 1
    double perplexity, reference_perplexity;  // exp(-mean log-probability)
} ps_divergence_summary;

/* Of all predictions, in their order. Quantiles lie between neighbours: quantile f of the sorted
 * values is at the place f (n - 1). n >= 1 is asserted.   Cost: sorts; allocates n numbers. */
void ps_divergence_summarise(const ps_divergence *predictions, size_t n,
                             ps_divergence_summary *out);

#endif
