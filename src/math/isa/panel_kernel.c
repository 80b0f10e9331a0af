/* Products of rows with panels: the kernel where all the time goes.
 *
 * A register tile of ROWS x PANELS accumulators walks k once. Which tile a row or a panel falls
 * into changes nothing in its sum: each output has its own accumulator, k ascends, one fused
 * multiply-add per k. The tile sizes are a matter of registers alone (TILE_PANELS in the vec
 * header).
 *
 * One row reads four panels at once, so that four chains hide the latency of the multiply-add and
 * the processor sees four sequential streams. */
#include "math/isa/vec.h"
#include "math/kernels.h"
#include "math/panel.h"

void PS_ISA(ps_panel_product)(const ps_panel_job *job);
void PS_ISA(ps_quant_widen)(ps_dtype dtype, const void *panel, int k0, int k1, float *out);

V_INLINE v16 load_weights(ps_dtype dtype, const void *weights, size_t at)
{
    switch (dtype) {
    case PS_F16:
        return v_load_f16((const uint16_t *)weights + at);
    case PS_BF16:
        return v_load_bf16((const uint16_t *)weights + at);
    default:
        return v_load((const float *)weights + at);
    }
}

/* One tile over k in [k0, k1). `first` tells whether out is overwritten or added to. All of dtype,
 * rows and panels are constants after inlining. */
V_INLINE void tile(const ps_panel_job *job, ps_dtype dtype, int rows, int panels, int row,
                   int panel, int k0, int k1)
{
    v16 acc[TILE_ROWS_MAX][4];
    float *out = job->out + (size_t)row * job->out_stride + (size_t)panel * PS_PANEL_LANES;
    for (int r = 0; r < rows; r++) {
        for (int p = 0; p < panels; p++) {
            acc[r][p] = job->chain
                            ? v_load(out + (size_t)r * job->out_stride + (size_t)p * PS_PANEL_LANES)
                            : v_zero();
        }
    }
    const float *x = job->x + (size_t)row * job->x_stride;
    size_t at = (size_t)panel * job->panel_stride + (size_t)k0 * job->k_stride;
    for (int k = k0; k < k1; k++, at += job->k_stride) {
        v16 w[4];
        for (int p = 0; p < panels; p++) {
            w[p] = load_weights(dtype, job->weights, at + (size_t)p * job->panel_stride);
        }
        for (int r = 0; r < rows; r++) {
            const v16 value = v_set(x[(size_t)r * job->x_stride + (size_t)k]);
            for (int p = 0; p < panels; p++) {
                acc[r][p] = v_fma(value, w[p], acc[r][p]);
            }
        }
    }
    const bool add = job->add || (!job->chain && k0 > 0);
    for (int r = 0; r < rows; r++) {
        for (int p = 0; p < panels; p++) {
            float *to = out + (size_t)r * job->out_stride + (size_t)p * PS_PANEL_LANES;
            v_store(to, add ? v_add(v_load(to), acc[r][p]) : acc[r][p]);
        }
    }
}

/* All panels for `rows` rows from `row` on: TILE_PANELS at a time, then one by one, but for one row,
 * where the last two or three together wait for one chain and not for each. */
V_INLINE void strip(const ps_panel_job *job, ps_dtype dtype, int rows, int row, int panel,
                    int panels, int k0, int k1)
{
    const int wide = TILE_PANELS(rows);
    const int end = panel + panels;
    for (; panel + wide <= end; panel += wide) {
        tile(job, dtype, rows, wide, row, panel, k0, k1);
    }
    if (wide == 1) return;
    if (rows == 1 && wide == 4 && end - panel >= 2) {
        if (end - panel == 3) {
            tile(job, dtype, 1, 3, row, panel, k0, k1);
        } else {
            tile(job, dtype, 1, 2, row, panel, k0, k1);
        }
        return;
    }
    for (; panel < end; panel++) {
        tile(job, dtype, rows, 1, row, panel, k0, k1);
    }
}

V_INLINE void all_rows(const ps_panel_job *job, ps_dtype dtype, int panel, int panels, int k0,
                       int k1)
{
    int row = 0;
    for (; row + TILE_ROWS_MAX <= job->rows; row += TILE_ROWS_MAX) {
        strip(job, dtype, TILE_ROWS_MAX, row, panel, panels, k0, k1);
    }
    switch (job->rows - row) {
#if TILE_ROWS_MAX == 6
    case 5:
        strip(job, dtype, 5, row, panel, panels, k0, k1);
        break;
    case 4:
        strip(job, dtype, 4, row, panel, panels, k0, k1);
        break;
    case 3:
        strip(job, dtype, 3, row, panel, panels, k0, k1);
        break;
    case 2:
        strip(job, dtype, 2, row, panel, panels, k0, k1);
        break;
#endif
    case 1:
        strip(job, dtype, 1, row, panel, panels, k0, k1);
        break;
    default:
        break;
    }
}

/* Groups of four panels, so that a block of their weights stays in the first cache level while all
 * rows pass over it. */
V_INLINE void product(const ps_panel_job *job, ps_dtype dtype)
{
    const int block = job->chain ? job->k : PS_PANEL_BLOCK;
    for (int panel = 0; panel < job->panels; panel += 4) {
        const int panels = job->panels - panel < 4 ? job->panels - panel : 4;
        int k0 = 0;
        do {
            const int k1 = job->k - k0 < block ? job->k : k0 + block;
            all_rows(job, dtype, panel, panels, k0, k1);
            k0 = k1;
        } while (k0 < job->k);
    }
}

/* Quantised weights under f32 activations: a block of k of a few panels is widened once for all
 * rows, and then is a product with f32 weights. */
static void widened_product(const ps_panel_job *job)
{
    enum { PANELS = 4, BLOCK = PS_PANEL_BLOCK };
    float widened[PANELS][BLOCK][PS_PANEL_LANES];
    const size_t bytes = ps_panel_bytes(job->dtype, job->k);
    const char *weights = job->weights;
    for (int panel = 0; panel < job->panels; panel += PANELS) {
        ps_panel_job part = *job;
        part.dtype = PS_F32;
        part.panels = job->panels - panel < PANELS ? job->panels - panel : PANELS;
        part.weights = widened;
        part.k_stride = PS_PANEL_LANES;
        part.panel_stride = (size_t)BLOCK * PS_PANEL_LANES;
        part.out = job->out + (size_t)panel * PS_PANEL_LANES;
        for (int k0 = 0; k0 < job->k; k0 += BLOCK) {
            part.k = job->k - k0 < BLOCK ? job->k - k0 : BLOCK;
            part.x = job->x + k0;
            part.add = job->add || k0 > 0;
            for (int p = 0; p < part.panels; p++) {
                PS_ISA(ps_quant_widen)
                (job->dtype, weights + (size_t)(panel + p) * bytes, k0, k0 + part.k, widened[p][0]);
            }
            product(&part, PS_F32);
        }
    }
}

void PS_ISA(ps_panel_product)(const ps_panel_job *job)
{
    switch (job->dtype) {
    case PS_F16:
        product(job, PS_F16);
        break;
    case PS_BF16:
        product(job, PS_BF16);
        break;
    case PS_F32:
        product(job, PS_F32);
        break;
    default:
        widened_product(job);
    }
}
