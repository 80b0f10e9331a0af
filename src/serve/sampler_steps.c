/* The steps of the sampler over the tokens that are left.
 *
 * The tokens stand compact and in ascending id order all the time, so that sums have one order and
 * ties go to the lower id without being looked at. top_k, top_p and typical all keep "the smallest
 * keys until their mass reaches a target"; one radix selection finds the last key in O(V), four
 * passes at worst, where qsort takes 22 ms for 152k tokens. top_p's key is z itself, turned
 * into an integer that orders descending: equal z have equal keys and nothing else has.
 *
 * Partial sums of the selection are in bucket order, not in sorted order, so a p within rounding
 * (1e-13) of a cumulative probability may fall on either side of it; it falls on the same side
 * everywhere.
 *
 * exp is a lane version of ps_real_exp with * and + instead of fma: fma() without the instruction
 * in the build's target is a function call, and 152k exponentials took 5.8 ms that take 0.6 so.
 *
 * Measured, median ms of a pick, V = 151,936, bell-shaped logits, one 2.6 GHz Xeon core, gcc -O2
 * (SSE2 code): greedy 0.17, greedy with repetition penalty 0.37, no truncation 1.3, temperature 0.8
 * and top_p 0.95 2.0, top_k 40 0.59, all three 0.80, typical 2.1. All logits equal, the worst for
 * the selection: top_p 3.5, top_k 3.2. */
#include "serve/sampler_steps.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "math/dtype.h"
#include "math/real.h"

enum { LANES = 4 };

typedef double lanes __attribute__((vector_size(LANES * sizeof(double))));
typedef uint64_t lane_bits __attribute__((vector_size(LANES * sizeof(double))));

/* Of a function of lanes the program may hold a build of its own for AVX2, which the loader
 * chooses: the same operations, four at once for two. Sanitizers do not let functions be chosen
 * before they have started. */
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) &&                 \
    !defined(__SANITIZE_THREAD__) && !defined(__clang__)
#define LANES_BUILDS __attribute__((target_clones("avx2", "default")))
#else
#define LANES_BUILDS
#endif

/* x = n ln2 + r, Taylor to r^13. n ln2's first part is exact for |n| < 2^20. */
static inline __attribute__((always_inline)) void exp_lanes(const double x[LANES],
                                                            double out[LANES])
{
    static const double inverse_factorial[14] = {1.0 / 6227020800.0,
                                                 1.0 / 479001600.0,
                                                 1.0 / 39916800.0,
                                                 1.0 / 3628800.0,
                                                 1.0 / 362880.0,
                                                 1.0 / 40320.0,
                                                 1.0 / 5040.0,
                                                 1.0 / 720.0,
                                                 1.0 / 120.0,
                                                 1.0 / 24.0,
                                                 1.0 / 6.0,
                                                 0.5,
                                                 1.0,
                                                 1.0};
    lanes v;
    memcpy(&v, x, sizeof v);
    // Adding 1.5 * 2^52 leaves the nearest integer in the low bits of the sum.
    const lanes shifted = v * 0x1.71547652b82fep0 + 0x1.8p52;
    const lanes n = shifted - 0x1.8p52;
    const lanes r = (v - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33;
    lanes p = inverse_factorial[0] * r + inverse_factorial[1];
    for (int i = 2; i < 14; i++) {
        p = p * r + inverse_factorial[i];
    }
    const lane_bits power = ((lane_bits)shifted + 1023) << 52;
    const lane_bits in_range = (lane_bits)(v >= -708.0);
    const lane_bits result = (lane_bits)(p * (lanes)power) & in_range;
    memcpy(out, &result, sizeof result);
}

LANES_BUILDS void ps_sampler_exp(const double *x, double *out, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        exp_lanes(x + i, out + i);
    }
    if (i == n) return;
    double rest[LANES] = {0};
    memcpy(rest, x + i, (n - i) * sizeof *rest);
    exp_lanes(rest, rest);
    memcpy(out + i, rest, (n - i) * sizeof *rest);
}

ps_err ps_sampler_reject(int token, float x)
{
    return PS_FAIL(PS_ERR_NUMERIC, "logits: token %d has %s, wanted a number or -inf", token,
                   isnan(x) ? "NaN" : "+inf");
}

ps_err ps_sampler_reject_all(int V)
{
    return PS_FAIL(PS_ERR_NUMERIC, "logits: all %d tokens have -inf, wanted a number somewhere", V);
}

/* Adds tokens first .. end-1 but for those with -inf. */
static ps_err load_some(ps_sampler_work *c, const float *logits, int first, int end)
{
    const size_t count = (size_t)(end - first);
    int n = c->n;
    // Nearly always so, and then there is nothing to decide for each.
    if (ps_dtype_first_not_finite(PS_F32, logits + first, count) == count) {
        for (int v = first; v < end; v++, n++) {
            c->token[n] = v;
            c->z[n] = (double)logits[v];
        }
        c->n = n;
        return PS_OK;
    }
    for (int v = first; v < end; v++) {
        const float x = logits[v];
        if (!(x < INFINITY)) return ps_sampler_reject(v, x);
        c->token[n] = v;
        c->z[n] = (double)x;
        n += x > -INFINITY; // a removed token is written over by the next one
    }
    c->n = n;
    return PS_OK;
}

ps_err ps_sampler_load(ps_sampler_work *c, const ps_sampler_input *in)
{
    enum { SOME = 1024 };
    const ps_id_range whole = {0, c->V};
    const ps_id_range *ranges = in->n_ranges > 0 ? in->ranges : &whole;
    c->n = 0;
    c->weighted = false;
    for (int r = 0; r == 0 || r < in->n_ranges; r++) {
        const int end = ranges[r].end;
        assert(ranges[r].first >= 0 && end <= c->V);
        for (int v = ranges[r].first; v < end; v += SOME) {
            PS_TRY(load_some(c, in->logits, v, end - v < SOME ? end : v + SOME));
        }
    }
    return c->n > 0 ? PS_OK : ps_sampler_reject_all(c->V);
}

/* Moves a token that stays to its new place. */
static void keep(ps_sampler_work *c, int from, int to)
{
    c->token[to] = c->token[from];
    c->z[to] = c->z[from];
    c->weight[to] = c->weight[from];
}

/* Index of a token, or -1 when it has been removed. Ids ascend, so index <= id. */
static int find(const ps_sampler_work *c, int32_t token)
{
    int low = 0, high = token < c->n ? token : c->n - 1;
    while (low <= high) {
        const int middle = low + (high - low) / 2;
        if (c->token[middle] == token) return middle;
        if (c->token[middle] < token) {
            low = middle + 1;
        } else {
            high = middle - 1;
        }
    }
    return -1;
}

ps_err ps_sampler_guide(ps_sampler_work *c, const float *unconditional, double scale)
{
    int left = 0;
    for (int i = 0; i < c->n; i++) {
        const float x = unconditional[c->token[i]];
        if (!(x < INFINITY)) return ps_sampler_reject(c->token[i], x);
        if (!(x > -INFINITY)) continue;
        c->token[left] = c->token[i];
        c->z[left++] = (double)x + scale * (c->z[i] - (double)x);
    }
    c->n = left;
    c->weighted = false;
    return PS_OK;
}

void ps_sampler_show(ps_sampler_work *c)
{
    for (int i = 0; i < c->n; i++) {
        c->shown[c->token[i]] = (float)c->z[i];
    }
}

void ps_sampler_hide(ps_sampler_work *c)
{
    for (int i = 0; i < c->n; i++) {
        c->shown[c->token[i]] = -INFINITY;
    }
}

void ps_sampler_bias(ps_sampler_work *c, const ps_sample_bias *bias, int n)
{
    for (int i = 0; i < n; i++) {
        const int at = find(c, bias[i].token);
        if (at >= 0) c->z[at] += (double)bias[i].bias;
    }
    c->weighted = false;
}

void ps_sampler_ban(ps_sampler_work *c, const int32_t *tokens, int n)
{
    for (int i = 0; i < n; i++) {
        const int at = find(c, tokens[i]);
        if (at >= 0) c->z[at] = -HUGE_VAL;
    }
    int left = 0;
    for (int i = 0; i < c->n; i++) {
        if (c->z[i] > -HUGE_VAL) keep(c, i, left++);
    }
    c->n = left;
}

void ps_sampler_repetition(ps_sampler_work *c, const uint32_t *seen, double penalty)
{
    for (int i = 0; i < c->n; i++) {
        if (seen[c->token[i]] == 0) continue;
        c->z[i] = c->z[i] > 0.0 ? c->z[i] / penalty : c->z[i] * penalty;
    }
    c->weighted = false;
}

void ps_sampler_frequency(ps_sampler_work *c, const uint32_t *drawn, double penalty)
{
    for (int i = 0; i < c->n; i++) {
        c->z[i] -= penalty * (double)drawn[c->token[i]];
    }
    c->weighted = false;
}

void ps_sampler_presence(ps_sampler_work *c, const uint32_t *drawn, double penalty)
{
    for (int i = 0; i < c->n; i++) {
        if (drawn[c->token[i]] > 0) c->z[i] -= penalty;
    }
    c->weighted = false;
}

void ps_sampler_constrain(ps_sampler_work *c, const uint64_t *allowed)
{
    int left = 0;
    for (int i = 0; i < c->n; i++) {
        const uint32_t v = (uint32_t)c->token[i];
        if (allowed[v / 64] >> (v % 64) & 1) keep(c, i, left++);
    }
    c->n = left;
}

void ps_sampler_temperature(ps_sampler_work *c, double temperature)
{
    for (int i = 0; i < c->n; i++) {
        c->z[i] /= temperature;
    }
    c->weighted = false;
}

int ps_sampler_largest(const ps_sampler_work *c)
{
    assert(c->n >= 1);
    int at = 0;
    double best = c->z[0];
    for (int i = 1; i < c->n; i++) {
        if (c->z[i] > best) {
            best = c->z[i];
            at = i;
        }
    }
    return at;
}

/* Its value alone, by chains that do not wait for each other. */
static double largest_z(const ps_sampler_work *c)
{
    double best[LANES];
    for (int l = 0; l < LANES; l++) {
        best[l] = c->z[0];
    }
    int i = 0;
    for (; i + LANES <= c->n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            best[l] = c->z[i + l] > best[l] ? c->z[i + l] : best[l];
        }
    }
    for (; i < c->n; i++) {
        best[0] = c->z[i] > best[0] ? c->z[i] : best[0];
    }
    for (int l = 1; l < LANES; l++) {
        best[0] = best[l] > best[0] ? best[l] : best[0];
    }
    return best[0];
}

double ps_sampler_weigh(ps_sampler_work *c)
{
    if (!c->weighted) {
        const double largest = largest_z(c);
        for (int i = 0; i < c->n; i++) {
            c->weight[i] = c->z[i] - largest;
        }
        ps_sampler_exp(c->weight, c->weight, (size_t)c->n);
        c->weighted = true;
    }
    double sum = 0.0;
    for (int i = 0; i < c->n; i++) {
        sum += c->weight[i];
    }
    return sum;
}

/* An integer that grows with x, for any x but NaN; both zeros have the same. */
static uint64_t ascending_key(double x)
{
    const double one_zero = x + 0.0; // -0 + 0 = +0
    uint64_t bits;
    memcpy(&bits, &one_zero, sizeof bits);
    return bits >> 63 ? ~bits : bits | (uint64_t)1 << 63;
}

static void set_keys_by_z(ps_sampler_work *c)
{
    for (int i = 0; i < c->n; i++) {
        c->key[i] = ~ascending_key(c->z[i]);
    }
}

/* Bucket in which the running mass reaches the target; *before grows by what lies in front of it.
 * Where rounding makes the buckets' sum fall short of the target, it is the last bucket with mass.
 */
static uint64_t find_bucket(const double *mass, double target, double *before)
{
    uint64_t last = 0;
    double running = *before;
    for (uint64_t b = 0; b < PS_SAMPLER_DIGITS; b++) {
        if (mass[b] == 0.0) continue;
        *before = running;
        running += mass[b];
        last = b;
        if (running >= target) break;
    }
    return last;
}

/* The key at which the mass of all smaller or equal keys reaches `target`; *before is the mass of
 * the smaller ones. weight NULL: each token counts 1. Goes down digit by digit, and looks only at
 * the tokens that share all digits so far. */
static uint64_t select_key(ps_sampler_work *c, const double *weight, double target, double *before)
{
    assert(c->n >= 1);
    int n = c->n;
    for (int i = 0; i < n; i++) {
        c->member[i] = i;
    }
    *before = 0.0;
    for (int shift = 64 - PS_SAMPLER_DIGIT_BITS; shift >= 0 && n > 1;
         shift -= PS_SAMPLER_DIGIT_BITS) {
        memset(c->mass, 0, PS_SAMPLER_DIGITS * sizeof *c->mass);
        for (int i = 0; i < n; i++) {
            const int m = c->member[i];
            c->mass[c->key[m] >> shift & (PS_SAMPLER_DIGITS - 1)] += weight ? weight[m] : 1.0;
        }
        const uint64_t bucket = find_bucket(c->mass, target, before);
        int left = 0;
        for (int i = 0; i < n; i++) {
            const int m = c->member[i];
            if ((c->key[m] >> shift & (PS_SAMPLER_DIGITS - 1)) == bucket) c->member[left++] = m;
        }
        n = left;
    }
    return c->key[c->member[0]];
}

static void keep_up_to(ps_sampler_work *c, uint64_t last)
{
    int left = 0;
    for (int i = 0; i < c->n; i++) {
        if (c->key[i] <= last) keep(c, i, left++);
    }
    c->n = left;
}

void ps_sampler_top_k(ps_sampler_work *c, int k)
{
    assert(k >= 1);
    if (k >= c->n) return;
    double before;
    set_keys_by_z(c);
    keep_up_to(c, select_key(c, NULL, (double)k, &before));
}

void ps_sampler_top_p(ps_sampler_work *c, double p)
{
    const double target = p * ps_sampler_weigh(c);
    double running;
    set_keys_by_z(c);
    const uint64_t last = select_key(c, c->weight, target, &running);
    int left = 0;
    bool first = true; // of those that equal the last one: it stays in any case
    for (int i = 0; i < c->n; i++) {
        if (c->key[i] > last) continue;
        if (c->key[i] == last) {
            if (!first && running >= target) continue;
            first = false;
            running += c->weight[i];
        }
        keep(c, i, left++);
    }
    c->n = left;
}

void ps_sampler_min_p(ps_sampler_work *c, double p)
{
    const double least = c->z[ps_sampler_largest(c)] + ps_real_log(p);
    int left = 0;
    for (int i = 0; i < c->n; i++) {
        if (c->z[i] >= least) keep(c, i, left++);
    }
    c->n = left;
}

/* -log p_v - H = sum_u p_u z_u - z_v: the logarithm of the sum cancels. */
void ps_sampler_typical(ps_sampler_work *c, double mass)
{
    const double sum = ps_sampler_weigh(c);
    double mean = 0.0;
    for (int i = 0; i < c->n; i++) {
        mean += c->weight[i] / sum * c->z[i];
    }
    for (int i = 0; i < c->n; i++) {
        const double distance = fabs(mean - c->z[i]);
        c->key[i] = ascending_key(distance);
    }
    double before;
    keep_up_to(c, select_key(c, c->weight, mass * sum, &before));
}
