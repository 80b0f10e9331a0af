#include "support/golden_quants.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "math/panel.h"
#include "model/h5.h"

static ps_err read(ps_h5_file *file, const char *name, ps_h5_type type, ps_h5_info *info,
                   void **out)
{
    PS_TRY(ps_h5_find(file, name, info));
    if (info->type != type || info->rank != 2)
        return PS_FAIL(PS_ERR_FORMAT, "%s is not a matrix of %s", name, ps_h5_type_name(type));
    *out = ps_mem_new(info->bytes, 1);
    return ps_h5_read(file, name, info, *out);
}

static ps_err read_group(ps_h5_file *file, golden_quant *g, bool *found)
{
    char name[64] = "/", path[80];
    const char *lower = ps_dtype_name(g->dtype);
    for (size_t i = 0; lower[i]; i++) { // "q4_k" is the group Q4_K
        name[i + 1] = (char)(lower[i] >= 'a' ? lower[i] - 'a' + 'A' : lower[i]);
    }
    *found = ps_h5_exists(file, name);
    if (!*found) return PS_OK;
    ps_h5_info raw, values;
    void *bytes = NULL, *floats = NULL;
    snprintf(path, sizeof path, "%s/raw", name);
    ps_err err = read(file, path, PS_H5_U8, &raw, &bytes);
    snprintf(path, sizeof path, "%s/values", name);
    if (!err) err = read(file, path, PS_H5_F32, &values, &floats);
    g->raw = bytes;
    g->values = floats;
    PS_TRY(err);
    g->rows = (int)raw.dims[0];
    g->row_bytes = (size_t)raw.dims[1];
    g->k = (int)values.dims[1];
    size_t wanted;
    if (raw.dims[0] != values.dims[0] || !ps_dtype_row_bytes(g->dtype, (size_t)g->k, &wanted) ||
        wanted != g->row_bytes)
        return PS_FAIL(PS_ERR_SHAPE, "%s: raw and values do not belong together", name);
    return PS_OK;
}

ps_err golden_quant_open(const char *path, ps_dtype dtype, golden_quant *out, bool *found)
{
    *out = (golden_quant){.dtype = dtype};
    *found = false;
    ps_h5_file *file;
    PS_TRY(ps_h5_open(path, &file));
    const ps_err err = read_group(file, out, found);
    ps_h5_close(file);
    if (err) golden_quant_release(out);
    return err;
}

void golden_quant_release(golden_quant *g)
{
    ps_mem_free(g->raw);
    ps_mem_free(g->values);
    *g = (golden_quant){0};
}

static int compare(const golden_quant *g, const char *way, int row, const float *found,
                   ps_text *first)
{
    const float *wanted = g->values + (size_t)row * (size_t)g->k;
    int wrong = 0;
    for (int i = 0; i < g->k; i++) {
        if (memcmp(&found[i], &wanted[i], sizeof *found) == 0) continue;
        wrong++;
        if (first->len > 0) continue;
        ps_text_appendf(first, "%s, row %d value %d is %a, not %a", way, row, i, (double)found[i],
                        (double)wanted[i]);
    }
    return wrong;
}

int golden_quant_count_wrong(const golden_quant *g, ps_text *first)
{
    const size_t panel_bytes = ps_panel_bytes(g->dtype, g->k);
    float *row = ps_mem_new((size_t)g->k, sizeof *row);
    char *panels = ps_mem_new((size_t)ps_panel_count(g->rows), panel_bytes);
    int wrong = 0;
    for (int p = 0; p < ps_panel_count(g->rows); p++) {
        const int at = p * PS_PANEL_LANES, left = g->rows - at;
        ps_panel_pack(g->dtype, g->raw + (size_t)at * g->row_bytes,
                      left < PS_PANEL_LANES ? left : PS_PANEL_LANES, g->row_bytes, g->k,
                      panels + (size_t)p * panel_bytes);
    }
    for (int r = 0; r < g->rows; r++) {
        ps_dtype_widen(g->dtype, g->raw + (size_t)r * g->row_bytes, (size_t)g->k, row);
        wrong += compare(g, "widened", r, row, first);
        ps_panel_unpack_row(g->dtype, panels, g->k, r, row);
        wrong += compare(g, "packed", r, row, first);
    }
    ps_mem_free(row);
    ps_mem_free(panels);
    return wrong;
}
