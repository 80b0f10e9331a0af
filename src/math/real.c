/* exp: x = n ln2 + r, Taylor to r^14.  log: x = 2^e m, atanh series in s = (m-1)/(m+1).
 * sin, cos: x = n pi/2 + r with pi/2 in three parts, Taylor to r^17 and r^18.
 * Rounding to the nearest integer is done by adding and taking away 1.5 * 2^52. */
#include "math/real.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

static const double ROUNDER = 0x1.8p52;

/* 2^n for -1022 <= n <= 1023, built from its bits. */
static double power_of_two(int64_t n)
{
    const uint64_t bits = (uint64_t)(n + 1023) << 52;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

double ps_real_exp(double x)
{
    if (isnan(x)) return x;
    if (x > 709.8) return INFINITY;
    if (x < -745.2) return 0.0;
    const double n = (x * 0x1.71547652b82fep0 + ROUNDER) - ROUNDER;
    double r = fma(-n, 0x1.62e42fefa39efp-1, x);
    r = fma(-n, 0x1.abc9e3b39803fp-56, r);
    double p = 1.0 / 87178291200.0;
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
    for (int i = 0; i < 14; i++) {
        p = fma(p, r, inverse_factorial[i]);
    }
    const int64_t whole = (int64_t)n, half = whole / 2;
    return p * power_of_two(half) * power_of_two(whole - half);
}

double ps_real_log(double x)
{
    if (isnan(x) || x < 0.0) return NAN;
    if (x == 0.0) return -INFINITY;
    if (isinf(x)) return x;
    int64_t exponent = 0;
    if (x < 0x1p-1022) {
        x *= 0x1p54;
        exponent = -54;
    }
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    // Take sqrt(1/2)'s mantissa away first, so that m lies in [sqrt(1/2), sqrt(2)).
    const uint64_t base = 0x3FE6A09E667F3BCDu;
    const int64_t shift = (int64_t)(bits - base) >> 52;
    exponent += shift;
    bits -= (uint64_t)shift << 52;
    double m;
    memcpy(&m, &bits, sizeof m);
    const double s = (m - 1.0) / (m + 1.0), s2 = s * s;
    double p = 1.0 / 25.0;
    for (int k = 23; k >= 3; k -= 2) {
        p = fma(p, s2, 1.0 / (double)k);
    }
    const double e = (double)exponent;
    // log m = 2s + 2s^3 p; the large part of e ln2 is exact and is added last.
    const double tail = fma(2.0 * s * s2, p, e * 0x1.abc9e3b39803fp-56);
    return fma(e, 0x1.62e42fefa39efp-1, 2.0 * s + tail);
}

/* The factor repairs what 1 + x lost: log(u) / (u - 1) hardly changes between u and 1 + x. */
double ps_real_log1p(double x)
{
    const double u = 1.0 + x;
    if (u == 1.0 || isinf(u)) return x;
    return ps_real_log(u) * (x / (u - 1.0));
}

double ps_real_pow(double base, double exponent)
{
    return ps_real_exp(exponent * ps_real_log(base));
}

void ps_real_sincos(double x, double *sine, double *cosine)
{
    const double n = (x * 0x1.45f306dc9c883p-1 + ROUNDER) - ROUNDER;
    double r = fma(-n, 0x1.921fb54442d18p0, x);
    r = fma(-n, 0x1.1a62633145c07p-54, r);
    r = fma(-n, -0x1.f1976b7ed8fbcp-110, r);
    const double r2 = r * r;
    double s = 1.0 / 355687428096000.0;
    static const double sine_terms[7] = {
        -1.0 / 1307674368000.0, 1.0 / 6227020800.0, -1.0 / 39916800.0, 1.0 / 362880.0,
        -1.0 / 5040.0,          1.0 / 120.0,        -1.0 / 6.0};
    for (int i = 0; i < 7; i++) {
        s = fma(s, r2, sine_terms[i]);
    }
    s = fma(s * r2, r, r);
    double c = -1.0 / 6402373705728000.0;
    static const double cosine_terms[8] = {
        1.0 / 20922789888000.0, -1.0 / 87178291200.0, 1.0 / 479001600.0, -1.0 / 3628800.0,
        1.0 / 40320.0,          -1.0 / 720.0,         1.0 / 24.0,        -0.5};
    for (int i = 0; i < 8; i++) {
        c = fma(c, r2, cosine_terms[i]);
    }
    c = fma(c, r2, 1.0);
    switch ((int64_t)n & 3) {
    case 0:
        *sine = s, *cosine = c;
        break;
    case 1:
        *sine = c, *cosine = -s;
        break;
    case 2:
        *sine = -s, *cosine = -c;
        break;
    default:
        *sine = -c, *cosine = s;
    }
}
