/* Packing is a transpose of 16 rows; values are moved as they are, never rounded. */
#include "math/panel.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "math/quant.h"

int ps_panel_count(int n)
{
    return n / PS_PANEL_LANES + (n % PS_PANEL_LANES != 0); // n + 15 might overflow
}

size_t ps_panel_bytes(ps_dtype dtype, int k)
{
    assert(k % ps_dtype_block_values(dtype) == 0);
    const size_t blocks = (size_t)(k / ps_dtype_block_values(dtype));
    return blocks * PS_PANEL_LANES * ps_dtype_block_bytes(dtype);
}

bool ps_panel_matrix_bytes(ps_dtype dtype, int n, int k, size_t *out)
{
    return k % ps_dtype_block_values(dtype) == 0 &&
           ps_mem_mul((size_t)ps_panel_count(n), ps_panel_bytes(dtype, k), out);
}

static void pack_floats(const char *rows, int n_rows, size_t row_bytes, int k, size_t size,
                        char *out)
{
    for (int i = 0; i < k; i++) {
        for (int lane = 0; lane < n_rows; lane++) {
            const char *in = rows + (size_t)lane * row_bytes + (size_t)i * size;
            memcpy(out + ((size_t)i * PS_PANEL_LANES + (size_t)lane) * size, in, size);
        }
    }
}

static void pack_blocks(ps_dtype dtype, const uint8_t *rows, int n_rows, size_t row_bytes, int k,
                        uint8_t *out)
{
    const size_t bytes = ps_dtype_block_bytes(dtype);
    for (int i = 0; i < k / ps_dtype_block_values(dtype); i++) {
        for (int lane = 0; lane < n_rows; lane++) {
            ps_quant_block block;
            ps_quant_read(dtype, rows + (size_t)lane * row_bytes + (size_t)i * bytes, &block);
            ps_quant_put(dtype, &block, lane, out + (size_t)i * bytes * PS_PANEL_LANES);
        }
    }
}

void ps_panel_pack(ps_dtype dtype, const void *rows, int n_rows, size_t row_bytes, int k, void *out)
{
    assert(n_rows >= 1 && n_rows <= PS_PANEL_LANES);
    const bool quantised = ps_dtype_is_quantised(dtype);
    if (n_rows < PS_PANEL_LANES || quantised) memset(out, 0, ps_panel_bytes(dtype, k));
    if (quantised) {
        pack_blocks(dtype, rows, n_rows, row_bytes, k, out);
    } else if (ps_dtype_block_bytes(dtype) == 2) {
        pack_floats(rows, n_rows, row_bytes, k, 2, out);
    } else {
        pack_floats(rows, n_rows, row_bytes, k, 4, out);
    }
}

static void unpack_blocks(ps_dtype dtype, const uint8_t *panel, int lane, int k, float *out)
{
    const int values = ps_dtype_block_values(dtype);
    const size_t bytes = ps_dtype_block_bytes(dtype) * PS_PANEL_LANES;
    for (int i = 0; i < k; i += values, panel += bytes) {
        ps_quant_block block;
        ps_quant_get(dtype, panel, lane, &block);
        ps_quant_values(dtype, &block, out + i);
    }
}

void ps_panel_unpack_row(ps_dtype dtype, const void *panels, int k, int row, float *out)
{
    const int lane = row % PS_PANEL_LANES;
    const char *panel =
        (const char *)panels + (size_t)(row / PS_PANEL_LANES) * ps_panel_bytes(dtype, k);
    if (ps_dtype_is_quantised(dtype)) {
        unpack_blocks(dtype, (const uint8_t *)panel, lane, k, out);
        return;
    }
    const size_t size = ps_dtype_block_bytes(dtype);
    const char *value = panel + (size_t)lane * size;
    for (int i = 0; i < k; i++) {
        ps_dtype_widen(dtype, value, 1, &out[i]);
        value += PS_PANEL_LANES * size;
    }
}

/* The lanes that are no rows hold zeros, so the lanes of all panels are searched alike. */
static bool find_in_floats(ps_dtype dtype, const void *panels, int n, int k, int *row, int *column)
{
    const size_t values = (size_t)ps_panel_count(n) * PS_PANEL_LANES * (size_t)k;
    const size_t at = ps_dtype_first_not_finite(dtype, panels, values);
    if (at == values) return false;
    const size_t line = at / PS_PANEL_LANES;
    *row = (int)(line / (size_t)k * PS_PANEL_LANES + at % PS_PANEL_LANES);
    *column = (int)(line % (size_t)k);
    return true;
}

static bool find_in_blocks(ps_dtype dtype, const uint8_t *block, int n, int k, int *row,
                           int *column)
{
    const int values = ps_dtype_block_values(dtype);
    const size_t bytes = ps_dtype_block_bytes(dtype) * PS_PANEL_LANES;
    for (int panel = 0; panel < ps_panel_count(n); panel++) {
        for (int i = 0; i < k; i += values, block += bytes) {
            for (int lane = 0; lane < PS_PANEL_LANES; lane++) {
                uint16_t d, m;
                ps_quant_get_scales(dtype, block, lane, &d, &m);
                if (ps_quant_is_finite(dtype, d, m)) continue;
                *row = panel * PS_PANEL_LANES + lane;
                *column = i;
                return true;
            }
        }
    }
    return false;
}

bool ps_panel_find_not_finite(ps_dtype dtype, const void *panels, int n, int k, int *row,
                              int *column)
{
    if (ps_dtype_is_quantised(dtype)) return find_in_blocks(dtype, panels, n, k, row, column);
    return find_in_floats(dtype, panels, n, k, row, column);
}
