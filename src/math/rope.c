#include "math/rope.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

#include "math/kernels.h"
#include "math/real.h"

#define TWO_PI 0x1.921fb54442d18p2

static const char *const kind_names[] = {
    [PS_ROPE_NONE] = "none",       [PS_ROPE_DEFAULT] = "default",   [PS_ROPE_LINEAR] = "linear",
    [PS_ROPE_LLAMA3] = "llama3",   [PS_ROPE_DIVIDED] = "divided",   [PS_ROPE_YARN] = "yarn",
    [PS_ROPE_DYNAMIC] = "dynamic", [PS_ROPE_LONGROPE] = "longrope",
};

_Static_assert(sizeof kind_names / sizeof kind_names[0] == PS_ROPE_KIND_COUNT,
               "a name for each kind");

const char *ps_rope_kind_name(ps_rope_kind kind)
{
    return kind_names[kind];
}

bool ps_rope_depends_on_length(const ps_rope *rope)
{
    return rope->kind == PS_ROPE_DYNAMIC || rope->kind == PS_ROPE_LONGROPE;
}

static double llama3_frequency(const ps_rope *rope, double f)
{
    const double wavelength = TWO_PI / f;
    if (wavelength < rope->original_length / rope->high_factor) return f;
    if (wavelength > rope->original_length / rope->low_factor) return f / rope->factor;
    const double u = (rope->original_length / wavelength - rope->low_factor) /
                     (rope->high_factor - rope->low_factor);
    return (1.0 - u) * f / rope->factor + u * f;
}

/* The pair that turns `turns` times over the original length. */
static double yarn_pair(const ps_rope *rope, double turns)
{
    return (double)rope->dims * ps_real_log(rope->original_length / (turns * TWO_PI)) /
           (2.0 * ps_real_log(rope->base));
}

static double yarn_frequency(const ps_rope *rope, int t, double f)
{
    double first = yarn_pair(rope, rope->beta_fast), last = yarn_pair(rope, rope->beta_slow);
    if (rope->truncate) {
        first = floor(first);
        last = ceil(last);
    }
    if (first < 0.0) first = 0.0;
    if (last > (double)(rope->dims - 1)) last = (double)(rope->dims - 1);
    if (first == last) last += 0.001;
    double ramp = ((double)t - first) / (last - first);
    ramp = ramp < 0.0 ? 0.0 : ramp > 1.0 ? 1.0 : ramp;
    return f * (1.0 - ramp) + f / rope->factor * ramp;
}

static double base_for(const ps_rope *rope, int64_t length)
{
    if (rope->kind != PS_ROPE_DYNAMIC) return rope->base;
    const double s = rope->factor, original = rope->original_length, n = (double)rope->dims;
    const double reach = length > 0 ? (double)length : s * original;
    if (reach <= original || rope->dims <= 2) return rope->base;
    return rope->base * ps_real_pow(s * reach / original - (s - 1.0), n / (n - 2.0));
}

/* Whether a longrope takes its long factors. */
static bool is_long(const ps_rope *rope, int64_t length)
{
    return length == 0 || (double)length > rope->original_length;
}

void ps_rope_variant(const ps_rope *rope, int64_t length, char *out)
{
    const char *kind = ps_rope_kind_name(rope->kind);
    switch (rope->kind) {
    case PS_ROPE_LONGROPE:
        snprintf(out, PS_ROPE_VARIANT_BYTES, "%s, %s factors", kind,
                 is_long(rope, length) ? "long" : "short");
        break;
    case PS_ROPE_DYNAMIC:
        snprintf(out, PS_ROPE_VARIANT_BYTES, "%s, base %g", kind, base_for(rope, length));
        break;
    default:
        snprintf(out, PS_ROPE_VARIANT_BYTES, "%s", kind);
    }
}

void ps_rope_frequencies(const ps_rope *rope, int64_t length, double *frequencies)
{
    assert(rope->dims % 2 == 0 && rope->dims / 2 <= PS_ROPE_FACTORS_MAX);
    const double base = base_for(rope, length);
    const bool takes_long = is_long(rope, length);
    for (int t = 0; t < rope->dims / 2; t++) {
        const double f = ps_real_pow(base, -2.0 * (double)t / (double)rope->dims);
        switch (rope->kind) {
        case PS_ROPE_LINEAR:
            frequencies[t] = f / rope->factor;
            break;
        case PS_ROPE_LLAMA3:
            frequencies[t] = llama3_frequency(rope, f);
            break;
        case PS_ROPE_DIVIDED:
            frequencies[t] = f / rope->factors[t];
            break;
        case PS_ROPE_YARN:
            frequencies[t] = yarn_frequency(rope, t, f);
            break;
        case PS_ROPE_LONGROPE:
            frequencies[t] = f / (takes_long ? rope->long_factors[t] : rope->factors[t]);
            break;
        default:
            frequencies[t] = f;
        }
    }
}

void ps_rope_angles(const double *frequencies, double magnitude, int half, int64_t position,
                    float *cosine, float *sine)
{
    for (int t = 0; t < half; t++) {
        double s, c;
        ps_real_sincos((double)position * frequencies[t], &s, &c);
        cosine[t] = (float)(magnitude * c);
        sine[t] = (float)(magnitude * s);
    }
}

void ps_rope_rotate(const ps_engine *engine, float *x, int n_heads, size_t head_stride,
                    const float *cosine, const float *sine, int half)
{
    for (int h = 0; h < n_heads; h++) {
        engine->kernels->rope_half(x + (size_t)h * head_stride, cosine, sine, half);
    }
}
