/* Packing is a transpose of 16 rows; values are moved as they are, never rounded. */
#include "math/panel.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

int ps_panel_count(int n)
{
    return n / PS_PANEL_LANES + (n % PS_PANEL_LANES != 0); // n + 15 might overflow
}

size_t ps_panel_bytes(ps_dtype dtype, int k)
{
    return (size_t)k * PS_PANEL_LANES * ps_dtype_bytes(dtype);
}

bool ps_panel_matrix_bytes(ps_dtype dtype, int n, int k, size_t *out)
{
    return ps_mem_mul((size_t)ps_panel_count(n), ps_panel_bytes(dtype, k), out);
}

static void pack_16(const uint16_t *in, int rows, size_t row_stride, int k, uint16_t *out)
{
    for (int i = 0; i < k; i++) {
        for (int lane = 0; lane < rows; lane++) {
            out[(size_t)i * PS_PANEL_LANES + (size_t)lane] =
                in[(size_t)lane * row_stride + (size_t)i];
        }
    }
}

static void pack_32(const uint32_t *in, int rows, size_t row_stride, int k, uint32_t *out)
{
    for (int i = 0; i < k; i++) {
        for (int lane = 0; lane < rows; lane++) {
            out[(size_t)i * PS_PANEL_LANES + (size_t)lane] =
                in[(size_t)lane * row_stride + (size_t)i];
        }
    }
}

void ps_panel_pack(ps_dtype dtype, const void *in, int rows, size_t row_stride, int k, void *out)
{
    assert(rows >= 1 && rows <= PS_PANEL_LANES);
    if (rows < PS_PANEL_LANES) memset(out, 0, ps_panel_bytes(dtype, k));
    if (ps_dtype_bytes(dtype) == 2) {
        pack_16(in, rows, row_stride, k, out);
    } else {
        pack_32(in, rows, row_stride, k, out);
    }
}

void ps_panel_unpack_row(ps_dtype dtype, const void *panels, int k, int row, float *out)
{
    const size_t size = ps_dtype_bytes(dtype);
    const char *panel =
        (const char *)panels + (size_t)(row / PS_PANEL_LANES) * ps_panel_bytes(dtype, k);
    const char *value = panel + (size_t)(row % PS_PANEL_LANES) * size;
    for (int i = 0; i < k; i++) {
        ps_dtype_widen(dtype, value, 1, &out[i]);
        value += PS_PANEL_LANES * size;
    }
}
