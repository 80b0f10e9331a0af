/* Elementary functions in double precision, made of + - * / and fma alone.
 *
 * The mathematical library's results differ between versions and processors; these do not, since
 * every operation in them is rounded the same way everywhere (IEEE 754, no contraction). They serve
 * RoPE tables, position encodings, slopes and the sampler: places where a few ns do not matter.
 *
 * Errors against the true value, measured over random arguments in tests/unit/math/test_real.c:
 * exp, log 2 ulp; log1p 4 ulp; sin, cos 2^-52 absolute for |x| < 2^40.   NaN gives NaN.
 * MPI: local.
 */
#ifndef PS_MATH_REAL_H
#define PS_MATH_REAL_H

double ps_real_exp(double x);   // exp(-inf) = 0, exp(0) = 1 exactly, overflow to inf
double ps_real_log(double x);   // log(0) = -inf, log(1) = 0 exactly, log(x < 0) = NaN
double ps_real_log1p(double x); // log(1 + x) without loss near 0; x >= 0
double ps_real_pow(double base, double exponent);            // exp(exponent * log(base)), base > 0
void ps_real_sincos(double x, double *sine, double *cosine); // |x| < 2^40

#endif
