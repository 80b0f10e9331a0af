#include "support/floats.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

static const uint32_t POISON = 0x7FC0DEADu; // a quiet NaN that no arithmetic makes

float *floats_new(size_t n)
{
    return ps_mem_new(n, sizeof(float));
}

void floats_roll(dice *d, float *out, size_t n, double low, double high)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = (float)dice_real(d, low, high);
    }
}

float *floats_new_rolled(dice *d, size_t n, double low, double high)
{
    float *values = floats_new(n);
    floats_roll(d, values, n, low, high);
    return values;
}

void floats_poison(float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        memcpy(&out[i], &POISON, sizeof POISON);
    }
}

float *floats_new_poisoned(size_t n)
{
    float *values = floats_new(n);
    floats_poison(values, n);
    return values;
}

bool floats_untouched(const float *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&values[i], &POISON, sizeof POISON) != 0) return false;
    }
    return true;
}

size_t floats_first_difference(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (isnan(a[i]) && isnan(b[i])) continue;
        if (memcmp(&a[i], &b[i], sizeof *a) != 0) return i;
    }
    return n;
}

double floats_distance(const float *a, const double *b, size_t n)
{
    double worst = 0.0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(a[i]) && isnan(b[i])) continue;
        const double distance = fabs((double)a[i] - b[i]);
        if (isnan(distance)) return HUGE_VAL;
        if (distance > worst) worst = distance;
    }
    return worst;
}
