/* Activations of the feed-forward part.
 *
 *   silu        x sigmoid(x)
 *   gelu        x Phi(x), Phi(x) = erfc(-x / sqrt 2) / 2      Hendrycks & Gimpel, arXiv 1606.08415
 *   gelu_tanh   x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3))    the same paper's approximation
 *   gelu_quick  x sigmoid(1.702 x)                            the same paper's other one
 *   relu        max(x, 0)
 *   relu2       max(x, 0)^2                                   So et al., arXiv 2109.08668
 *   swiglu_oss  g sigmoid(alpha g) (u + 1)                    gpt-oss
 *               g = min(gate, limit), u = up held within +-limit
 *
 * A gated one is multiplied by `up`; swiglu_oss is gated always. MPI: local.
 */
#ifndef PS_MATH_ACTIVATION_H
#define PS_MATH_ACTIVATION_H

typedef enum ps_activation_kind {
    PS_ACTIVATION_SILU,
    PS_ACTIVATION_GELU,
    PS_ACTIVATION_GELU_TANH,
    PS_ACTIVATION_GELU_QUICK,
    PS_ACTIVATION_RELU,
    PS_ACTIVATION_RELU2,
    PS_ACTIVATION_SWIGLU_OSS,
    PS_ACTIVATION_KIND_COUNT
} ps_activation_kind;

typedef struct ps_activation {
    ps_activation_kind kind;
    float alpha, limit; // swiglu_oss
} ps_activation;

const char *ps_activation_name(ps_activation_kind kind);

#endif
