/* The sampler of one sequence, on rank 0: from the logits of a step to the next token.
 *
 *   logits [V] -> steps in a chosen order -> w_v = exp(z_v - max z) over the tokens that are left
 *              -> the first token, in ascending id order, whose running sum of w passes u * sum w
 *
 * The steps are a list, because the same settings mean different things in another order (Hugging
 * Face applies the temperature before top_p, llama.cpp after it). Every step works in double
 * precision on the tokens that are left, and on nothing but + - * / and functions made of them, so
 * the same logits give the same token on every machine.
 *
 * There is no generator state: u of the t-th generated token is Philox with the key `seed` and the
 * counter (sample, t, purpose, high word of t). What a sampler remembers (how many tokens, which
 * ones) is rebuilt by ps_sampler_advance; a pick changes nothing.
 *
 * Errors: PS_ERR_USAGE for parameters, PS_ERR_NUMERIC for logits.   MPI: local.
 */
#ifndef PS_SERVE_SAMPLER_H
#define PS_SERVE_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "math/id_range.h"
#include "serve/constraint.h"

/* Steps by their names in `--sampler-order`. A step whose parameter is off does nothing.
 *
 *   guidance     z = u + s (z - u), u the logits of the unconditional sequence; a token whose u is
 *                -inf is removed
 *   logit_bias   z += bias, for the listed tokens; a token listed twice gets both
 *   banned       removes the listed tokens, and the end tokens while fewer than min_new_tokens
 *                tokens are generated
 *   repetition   z = z > 0 ? z / r : z * r, once for each distinct token of prompt and output
 *   output_repetition  the same for the distinct tokens of the output alone
 *   frequency    z -= a * (how often the token was generated; the prompt does not count)
 *   presence     z -= a, for every token that was generated at least once
 *   constraint   removes what the constraint of a pick does not allow; it is shown z as it is then,
 *                rounded to f32
 *   temperature  z /= temperature
 *   top_k        keeps the k largest z, and whatever equals the k-th
 *   top_p        keeps the shortest prefix, by (z descending, id ascending), whose probabilities
 *                sum to p or more; at least one token. (Dropping what stands behind a sum of more
 *                than p is the same, but where a sum is p to the last bit: there it keeps one more)
 *   min_p        keeps z >= max z + log(min_p), that is p_v >= min_p * p_max
 *   typical      with H the entropy: keeps the shortest prefix by |-log p_v - H| ascending whose
 *                probabilities sum to the mass or more, and whatever equals its last one
 */
typedef enum ps_sample_step {
    PS_SAMPLE_GUIDANCE,
    PS_SAMPLE_LOGIT_BIAS,
    PS_SAMPLE_BANNED,
    PS_SAMPLE_REPETITION,
    PS_SAMPLE_OUTPUT_REPETITION,
    PS_SAMPLE_FREQUENCY,
    PS_SAMPLE_PRESENCE,
    PS_SAMPLE_CONSTRAINT,
    PS_SAMPLE_TEMPERATURE,
    PS_SAMPLE_TOP_K,
    PS_SAMPLE_TOP_P,
    PS_SAMPLE_MIN_P,
    PS_SAMPLE_TYPICAL,
    PS_SAMPLE_STEP_COUNT
} ps_sample_step;

typedef struct ps_sample_bias {
    int32_t token;
    float bias; // finite
} ps_sample_bias;

/* What a request asks for. A plain value; its arrays are borrowed, ps_sampler_new copies them. */
typedef struct ps_sample_params {
    double temperature; // 1; <= 0 is greedy: the largest z, the lowest id among equals; otherwise
                        // 1e-5 .. 1e5. Greedy leaves out temperature, top_k, top_p, min_p, typical
    int top_k;          // 0: off
    double top_p;       // 0 .. 1; 1: off; 0 keeps one token
    double min_p;       // 0 .. 1; 0: off
    double typical_p;   // 0 .. 1 without 0; 1: off
    double guidance;    // scale s, 0 .. 1e5; <= 1: off
    double repetition_penalty; // 1e-5 .. 1e5; 1: off
    double frequency_penalty;  // -1e5 .. 1e5; 0: off
    double presence_penalty;   // -1e5 .. 1e5; 0: off
    int repeat_last_n; // the three penalties see that many last tokens of prompt and output, at
                       // most PS_SAMPLE_WINDOW_MAX; 0 or -1: all of them
    const ps_sample_bias *logit_bias;
    int n_logit_bias;
    const int32_t *banned;
    int n_banned;
    const int32_t *end_tokens; // banned until min_new_tokens tokens are generated
    int n_end_tokens;
    int min_new_tokens;
    uint64_t seed;
    uint32_t sample; // which of several samples of one request: each has draws of its own
    ps_sample_step order[PS_SAMPLE_STEP_COUNT]; // "hf" by default
    int n_order;
} ps_sample_params;

#define PS_SAMPLE_WINDOW_MAX (1 << 20)

/* Everything off, temperature 1, seed 0, order "hf". */
ps_sample_params ps_sample_params_default(void);

/* Checks every number, every token against the vocabulary, and that the order names each step which
 * a parameter switches on, none twice. V 0: the vocabulary is not known yet, ids only have to be
 * >= 0. Errors: PS_ERR_USAGE with the parameter, its value and the range. */
ps_err ps_sample_params_check(const ps_sample_params *params, int V) PS_MUST_CHECK;

/* PS_ERR_USAGE when the banned tokens, with the end tokens where min_new_tokens bans them, are the
 * whole vocabulary: the first pick would fail. For parameters that have passed the check above. */
ps_err ps_sample_params_check_left(const ps_sample_params *params, int V) PS_MUST_CHECK;

/* PS_ERR_USAGE when the order does not name the constraint: no pick can have one. */
ps_err ps_sample_params_check_constraint(const ps_sample_params *params) PS_MUST_CHECK;

/* Name of a step; static. */
const char *ps_sample_step_name(ps_sample_step step);

/* Sets params->order from a list of step names with commas between them (blanks around a name do
 * not count), or from the name of a preset standing alone:
 *
 *   hf       guidance,logit_bias,banned,repetition,frequency,presence,constraint,
 *            temperature,top_k,top_p,min_p,typical
 *   llama    guidance,logit_bias,banned,repetition,frequency,presence,constraint,
 *            top_k,typical,top_p,min_p,temperature
 *   pytorch  guidance,logit_bias,banned,constraint,repetition,frequency,presence,
 *            top_k,top_p,min_p,typical,temperature
 *   vllm     output_repetition,frequency,presence,guidance,logit_bias,banned,constraint,
 *            temperature,top_k,top_p,min_p,typical
 *
 * The last two are the orders of ACE-Step's language model behind PyTorch and behind nano-vLLM.
 *
 * Errors: PS_ERR_USAGE for an unknown name (with the nearest valid one), an empty or a second one;
 * the order is then as before. */
ps_err ps_sample_order_parse(const char *text, ps_sample_params *params) PS_MUST_CHECK;

/* Scratch of a pick, for any number of samplers of one vocabulary, one thread at a time: it holds
 * nothing between two picks. Owned by the caller; 36 V bytes and half a MiB. */
typedef struct ps_sampler_work ps_sampler_work;

ps_sampler_work *ps_sampler_work_new(int V);
void ps_sampler_work_free(ps_sampler_work *work);

/* A sequence's sampler. Takes 8 V bytes if a penalty is on, 4 repeat_last_n more for its window,
 * and copies of the lists; nothing is allocated later. Owned by the caller. Errors: as the check.
 */
typedef struct ps_sampler ps_sampler;

ps_err ps_sampler_new(const ps_sample_params *params, int V, ps_sampler **out) PS_MUST_CHECK;
void ps_sampler_free(ps_sampler *s);

/* The sequence grows by one token. `is_prompt` means that the token was given and not generated: a
 * generated token of a resumed request is not a prompt, however the model is fed with it.
 * 0 <= token < V is asserted.   Cost: O(1), no allocation. */
void ps_sampler_advance(ps_sampler *s, int32_t token, bool is_prompt);

/* What a sampler remembers, besides its parameters; enough to go on with another one. `entries` are
 * the tokens of the window, oldest first, each with seen = 1 and drawn = 1 if it was generated; or
 * without a window all tokens that were seen, ascending, with how often they were seen and drawn;
 * none without penalties. */
typedef struct ps_sampler_entry {
    int64_t token, seen, drawn;
} ps_sampler_entry;

typedef struct ps_sampler_memory {
    uint64_t generated;        // tokens drawn so far: the counter of the draws
    ps_sampler_entry *entries; // [n] owned
    size_t n;
} ps_sampler_memory;

void ps_sampler_remember(const ps_sampler *s, ps_sampler_memory *out);
void ps_sampler_memory_release(ps_sampler_memory *memory);

/* Into a new sampler with the same parameters. PS_ERR_FORMAT for what no sampler remembers. */
ps_err ps_sampler_restore(ps_sampler *s, const ps_sampler_memory *memory) PS_MUST_CHECK;

/* What a pick works on; everything is borrowed and but for the constraint unchanged. */
typedef struct ps_sampler_input {
    const float *logits;        // [V] finite or -inf
    const float *unconditional; // [V] those of the guidance; NULL where it is off
    ps_constraint *constraint;  // its `allow` is called once; NULL: everything may be drawn
    const ps_id_range *ranges;  // [n_ranges] ascending, disjoint: no other logits are looked at, as
                                // if they were -inf
    int n_ranges;               // 0: all
} ps_sampler_input;

/* The next token; the caller advances by it if it takes it.
 *
 * Cost: greedy without changes one pass over the ranges; otherwise a fixed number of passes,
 * nothing is sorted and nothing allocated. 0.2 to 2.1 ms for V = 151,936; see sampler_steps.c.
 * Errors: PS_ERR_NUMERIC for NaN or +inf (with the token), for logits that are all -inf, and when
 * the steps leave no token; PS_ERR_USAGE for a constraint without `constraint` in the order, and
 * for guidance without unconditional logits; those of the constraint. */
ps_err ps_sampler_pick(const ps_sampler *s, ps_sampler_work *work, const ps_sampler_input *in,
                       int32_t *token) PS_MUST_CHECK;

/* The distribution that the pick draws from: probability[V], 0 for tokens that were removed; 1 for
 * the one that greedy takes. Cost and errors as the pick, and one pass over V. */
ps_err ps_sampler_probabilities(const ps_sampler *s, ps_sampler_work *work,
                                const ps_sampler_input *in, double *probability) PS_MUST_CHECK;

#define PS_SAMPLER_LOGPROBS_MAX 64

typedef struct ps_sampler_logprobs {
    double chosen;
    int n_top; // min(n_top asked for, V)
    int32_t token[PS_SAMPLER_LOGPROBS_MAX];
    double logprob[PS_SAMPLER_LOGPROBS_MAX];
} ps_sampler_logprobs;

/* Log-probabilities by the raw logits, before any step:
 *
 *   lp_v = (x_v - m) - log(sum_u exp(x_u - m)),   m = max x,  sum over ascending ids, one addition
 *                                                 after the other in double precision
 *
 * of `token` and of the n_top best (descending, the lower id first among equals). -inf for a logit
 * of -inf. 0 <= n_top <= PS_SAMPLER_LOGPROBS_MAX and 0 <= token < V are asserted.
 * Cost: two passes over V and V exponentials, no allocation. Errors: as the pick. */
ps_err ps_sampler_find_logprobs(const float *logits, int V, int32_t token, int n_top,
                                ps_sampler_logprobs *out) PS_MUST_CHECK;

#endif
