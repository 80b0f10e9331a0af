/* What the files of the sampler share: the tokens that are left, and the steps that change them.
 *
 * MPI: local.
 */
#ifndef PS_SERVE_SAMPLER_STEPS_H
#define PS_SERVE_SAMPLER_STEPS_H

#include "serve/sampler.h"

enum { PS_SAMPLER_DIGIT_BITS = 16, PS_SAMPLER_DIGITS = 1 << PS_SAMPLER_DIGIT_BITS };

/* The tokens that may still be drawn, in ascending id order; z is finite. */
struct ps_sampler_work {
    int V;
    int n;
    int32_t *token;    // [V]
    double *z;         // [V]
    double *weight;    // [V]  exp(z - maximum at the time), while `weighted`
    bool weighted;     // false as soon as a z changes
    uint64_t *key;     // [V]  scratch of one selection: smaller keys are kept first
    int32_t *member;   // [V]  scratch of one selection
    double *mass;      // [PS_SAMPLER_DIGITS]  scratch of one selection
    float *shown;      // [V]  what a constraint sees; -inf between two picks
    uint64_t *allowed; // [ceil(V/64)]  what it says
};

/* The parameter that switches a step on, or NULL while it is off. NULL for the constraint, which a
 * pick switches on. */
const char *ps_sampler_switched_on_by(const ps_sample_params *p, ps_sample_step step);

/* All tokens of the input's ranges with finite logits. Errors: PS_ERR_NUMERIC. */
ps_err ps_sampler_load(ps_sampler_work *c, const ps_sampler_input *in) PS_MUST_CHECK;

/* What makes every reader of logits reject x: NaN or +inf at `token`. */
ps_err ps_sampler_reject(int token, float x);
ps_err ps_sampler_reject_all(int V);

/* One that fails, on numbers that nobody has looked at yet. */
ps_err ps_sampler_guide(ps_sampler_work *c, const float *unconditional, double scale) PS_MUST_CHECK;

/* Sets shown[V] to z where there is a token, and back to -inf. */
void ps_sampler_show(ps_sampler_work *c);
void ps_sampler_hide(ps_sampler_work *c);

/* The steps; removing ones may leave nothing but for top_k, top_p, min_p and typical. */
void ps_sampler_bias(ps_sampler_work *c, const ps_sample_bias *bias, int n);
void ps_sampler_ban(ps_sampler_work *c, const int32_t *tokens, int n);
void ps_sampler_repetition(ps_sampler_work *c, const uint32_t *seen, double penalty);
void ps_sampler_frequency(ps_sampler_work *c, const uint32_t *drawn, double penalty);
void ps_sampler_presence(ps_sampler_work *c, const uint32_t *drawn, double penalty);
void ps_sampler_constrain(ps_sampler_work *c, const uint64_t *allowed);
void ps_sampler_temperature(ps_sampler_work *c, double temperature);
void ps_sampler_top_k(ps_sampler_work *c, int k);
void ps_sampler_top_p(ps_sampler_work *c, double p);
void ps_sampler_min_p(ps_sampler_work *c, double p);
void ps_sampler_typical(ps_sampler_work *c, double mass);

/* Makes `weight` valid and returns its sum, taken in ascending id order. c->n >= 1. */
double ps_sampler_weigh(ps_sampler_work *c);

/* Index of the largest z, the lowest id among equals. c->n >= 1. */
int ps_sampler_largest(const ps_sampler_work *c);

/* out[i] = exp(x[i]) for x <= 0, -inf included; 0 below -708; 1 ulp. out may be x. */
void ps_sampler_exp(const double *x, double *out, size_t n);

#endif
