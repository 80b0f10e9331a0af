#include "math/rope.h"

#include <assert.h>

#include "math/kernels.h"
#include "math/real.h"

static const char *const kind_names[] = {[PS_ROPE_NONE] = "none",
                                         [PS_ROPE_DEFAULT] = "default",
                                         [PS_ROPE_LINEAR] = "linear",
                                         [PS_ROPE_LLAMA3] = "llama3"};

_Static_assert(sizeof kind_names / sizeof kind_names[0] == PS_ROPE_KIND_COUNT,
               "a name for each kind");

const char *ps_rope_kind_name(ps_rope_kind kind)
{
    return kind_names[kind];
}

static double llama3_frequency(const ps_rope *rope, double f)
{
    const double wavelength = 0x1.921fb54442d18p2 / f; // 2 pi / f
    if (wavelength < rope->original_length / rope->high_factor) return f;
    if (wavelength > rope->original_length / rope->low_factor) return f / rope->factor;
    const double u = (rope->original_length / wavelength - rope->low_factor) /
                     (rope->high_factor - rope->low_factor);
    return (1.0 - u) * f / rope->factor + u * f;
}

void ps_rope_frequencies(const ps_rope *rope, double *frequencies)
{
    assert(rope->dims % 2 == 0);
    for (int t = 0; t < rope->dims / 2; t++) {
        const double f = ps_real_pow(rope->base, -2.0 * (double)t / (double)rope->dims);
        switch (rope->kind) {
        case PS_ROPE_LINEAR:
            frequencies[t] = f / rope->factor;
            break;
        case PS_ROPE_LLAMA3:
            frequencies[t] = llama3_frequency(rope, f);
            break;
        default:
            frequencies[t] = f;
        }
    }
}

void ps_rope_angles(const double *frequencies, int half, int64_t position, float *cosine,
                    float *sine)
{
    for (int t = 0; t < half; t++) {
        double s, c;
        ps_real_sincos((double)position * frequencies[t], &s, &c);
        cosine[t] = (float)c;
        sine[t] = (float)s;
    }
}

void ps_rope_rotate(const ps_engine *engine, float *x, int n_heads, size_t head_stride,
                    const float *cosine, const float *sine, int half)
{
    for (int h = 0; h < n_heads; h++) {
        engine->kernels->rope_half(x + (size_t)h * head_stride, cosine, sine, half);
    }
}
