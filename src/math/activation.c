#include "math/activation.h"

static const char *const names[] = {
    [PS_ACTIVATION_SILU] = "silu",
    [PS_ACTIVATION_GELU] = "gelu",
    [PS_ACTIVATION_GELU_TANH] = "gelu_tanh",
    [PS_ACTIVATION_GELU_QUICK] = "gelu_quick",
    [PS_ACTIVATION_RELU] = "relu",
    [PS_ACTIVATION_RELU2] = "relu2",
    [PS_ACTIVATION_SWIGLU_OSS] = "swiglu_oss",
};

_Static_assert(sizeof names / sizeof names[0] == PS_ACTIVATION_KIND_COUNT, "a name for each kind");

const char *ps_activation_name(ps_activation_kind kind)
{
    return names[kind];
}
