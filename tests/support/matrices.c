#include "support/matrices.h"

#include <math.h>

#include "base/mem.h"
#include "math/panel.h"
#include "support/floats.h"

static void pack(const char *rows, ps_dtype dtype, int n, int k, char *panels)
{
    const size_t row_bytes = (size_t)k * ps_dtype_block_bytes(dtype);
    for (int p = 0; p < ps_panel_count(n); p++) {
        const int first = p * PS_PANEL_LANES, left = n - first;
        ps_panel_pack(dtype, rows + (size_t)first * row_bytes,
                      left < PS_PANEL_LANES ? left : PS_PANEL_LANES, row_bytes, k,
                      panels + (size_t)p * ps_panel_bytes(dtype, k));
    }
}

matrix matrix_roll(dice *d, ps_dtype dtype, int n, int k, double size, bool with_bias)
{
    const size_t count = (size_t)n * (size_t)k;
    const size_t padded = (size_t)ps_panel_count(n) * PS_PANEL_LANES;
    matrix m = {.values = floats_new_rolled(d, count, -size, size),
                .panels = ps_mem_new(padded * (size_t)k, ps_dtype_block_bytes(dtype)),
                .bias = with_bias ? floats_new(padded) : NULL};
    char *rows = ps_mem_new(count, ps_dtype_block_bytes(dtype));
    ps_dtype_narrow(dtype, m.values, count, rows);
    ps_dtype_widen(dtype, rows, count, m.values);
    pack(rows, dtype, n, k, m.panels);
    ps_mem_free(rows);
    if (with_bias) floats_roll(d, m.bias, (size_t)n, -size, size);
    m.linear = (ps_linear){.dtype = dtype, .n = n, .k = k, .panels = m.panels, .bias = m.bias};
    return m;
}

void matrix_release(matrix *m)
{
    ps_mem_free(m->values);
    ps_mem_free(m->panels);
    ps_mem_free(m->bias);
    *m = (matrix){0};
}

float matrix_row_times(const matrix *m, int output, const float *x)
{
    const float *w = m->values + (size_t)output * (size_t)m->linear.k;
    float sum = 0.0f;
    for (int start = 0; start < m->linear.k; start += PS_PANEL_BLOCK) {
        const int end = start + PS_PANEL_BLOCK < m->linear.k ? start + PS_PANEL_BLOCK : m->linear.k;
        float block = 0.0f;
        for (int k = start; k < end; k++) {
            block = fmaf(x[k], w[k], block);
        }
        sum = start == 0 ? block : sum + block;
    }
    return m->bias ? sum + m->bias[output] : sum;
}
