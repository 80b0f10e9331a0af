/* Panels are bits: which of them a call computes, and which of a row hold numbers, so that the -inf
 * between them is not written again at every token: for a vocabulary of 217k that would be as much
 * memory as a quarter of the numbers.
 *
 * A gap of a few panels between two runs is computed too: the kernel takes four panels at once, and
 * so the runs stay few. */
#include "model/head.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "math/kernels.h"
#include "math/panel.h"

enum { RUNS_MAX = 64, GAP_PANELS = 4 };

/* Panels first .. end-1. */
typedef struct run {
    int first, end;
} run;

static int panels_of(const ps_spec *spec)
{
    return ps_panel_count(ps_spec_head_size(spec));
}

static size_t words_of(const ps_spec *spec)
{
    return ((size_t)panels_of(spec) + 63) / 64;
}

void ps_head_lay_out(const ps_spec *spec, size_t rows, ps_arena *arena, ps_head *out)
{
    const size_t words = words_of(spec);
    *out = (ps_head){0};
    out->normed = ps_arena_take(arena, rows * ps_stage_stride(spec), sizeof(float));
    out->logits = ps_arena_take(arena, rows * ps_stage_logits_stride(spec), sizeof(float));
    out->computed = ps_arena_take(arena, rows > 0 ? words : 0, sizeof(uint64_t));
    out->written = ps_arena_take(arena, rows * words, sizeof(uint64_t));
}

void ps_head_reset(const ps_spec *spec, ps_head *head)
{
    memset(head->written, 0xFF, PS_HEAD_ROWS * words_of(spec) * sizeof *head->written);
}

static bool has(const uint64_t *bits, int panel)
{
    return bits[panel / 64] >> (panel % 64) & 1;
}

static void set_panels(uint64_t *bits, int first, int end)
{
    for (int p = first; p < end; p++) {
        bits[p / 64] |= (uint64_t)1 << (p % 64);
    }
}

/* The panels of a row's ranges; all without ranges. */
static void mark(const ps_spec *spec, const ps_logits_wanted *wanted, uint64_t *bits)
{
    if (!wanted || wanted->n_ranges == 0) {
        set_panels(bits, 0, panels_of(spec));
        return;
    }
    for (int i = 0; i < wanted->n_ranges; i++) {
        const ps_id_range *r = &wanted->ranges[i];
        assert(r->first >= 0 && r->first < r->end && r->end <= ps_spec_head_size(spec));
        set_panels(bits, r->first / PS_PANEL_LANES, ps_panel_count(r->end));
    }
}

/* The panel at or behind `from` whose bit is `value`; n if there is none. */
static int find_panel(const uint64_t *bits, int from, int n, bool value)
{
    while (from < n && has(bits, from) != value) {
        // Whole words of the other kind are passed at once.
        const bool whole = from % 64 == 0 && bits[from / 64] == (value ? 0 : ~(uint64_t)0);
        from += whole ? 64 : 1;
    }
    return from < n ? from : n;
}

/* Runs of panels, gaps up to `gap` closed; more than RUNS_MAX: RUNS_MAX + 1. */
static int find_runs(const uint64_t *bits, int n, int gap, run *runs)
{
    int count = 0;
    for (int p = find_panel(bits, 0, n, true); p < n;) {
        const int end = find_panel(bits, p, n, false);
        if (count > 0 && p - runs[count - 1].end <= gap) {
            runs[count - 1].end = end;
        } else {
            if (count == RUNS_MAX) return RUNS_MAX + 1;
            runs[count++] = (run){p, end};
        }
        p = find_panel(bits, end, n, true);
    }
    return count;
}

static int find_few_runs(const uint64_t *bits, int n, run *runs)
{
    int count, gap = GAP_PANELS;
    while ((count = find_runs(bits, n, gap, runs)) > RUNS_MAX) {
        gap *= 2;
    }
    return count;
}

static void compute(const ps_spec *spec, const ps_linear *weight, const ps_engine *engine,
                    const ps_linear_scratch *scratch, int n, const run *runs, int n_runs,
                    ps_head *head)
{
    ps_linear parts[RUNS_MAX];
    ps_linear_call calls[RUNS_MAX];
    const size_t panel_bytes = ps_panel_bytes(weight->dtype, weight->k);
    for (int i = 0; i < n_runs; i++) {
        const int first = runs[i].first * PS_PANEL_LANES;
        const int left = weight->n - first, width = (runs[i].end - runs[i].first) * PS_PANEL_LANES;
        parts[i] = (ps_linear){.dtype = weight->dtype,
                               .n = left < width ? left : width,
                               .k = weight->k,
                               .panels = (const char *)weight->panels +
                                         (size_t)runs[i].first * panel_bytes,
                               .bias = weight->bias ? weight->bias + first : NULL};
        calls[i] = (ps_linear_call){.weight = &parts[i],
                                    .x = head->normed,
                                    .x_stride = ps_stage_stride(spec),
                                    .out = head->logits + first,
                                    .out_stride = ps_stage_logits_stride(spec),
                                    .rows = n};
        head->bytes_read += ps_linear_bytes(&parts[i]);
    }
    ps_linear_forward(engine, calls, n_runs, scratch);
}

/* What a model does to its logits. */
static void shape(const ps_spec *spec, const ps_kernels *kernels, int n, const run *part,
                  float *logits)
{
    const int first = part->first * PS_PANEL_LANES, left = ps_spec_head_size(spec) - first;
    const int width = (part->end - part->first) * PS_PANEL_LANES;
    const int n_out = left < width ? left : width;
    for (int r = 0; r < n; r++) {
        float *row = logits + (size_t)r * ps_stage_logits_stride(spec) + first;
        if (spec->logit_scale != 1.0) kernels->scale(row, (float)spec->logit_scale, n_out);
        if (spec->final_softcap > 0.0) kernels->softcap(row, (float)spec->final_softcap, n_out);
    }
}

static void fill(float *row, int first, int end)
{
    for (int v = first; v < end; v++) {
        row[v] = -INFINITY;
    }
}

/* Ids first .. end-1 of a row were not wanted. Panels that hold -inf since an earlier call are left
 * alone, those of which a part is wanted are not. */
static void hide(const ps_head *head, const uint64_t *written, float *row, int first, int end)
{
    const int inner = ps_panel_count(first), outer = end / PS_PANEL_LANES;
    if (inner > outer) {
        fill(row, first, end);
        return;
    }
    fill(row, first, inner * PS_PANEL_LANES);
    for (int p = inner; p < outer; p++) {
        if (p % 64 == 0 && p + 64 <= outer && !(head->computed[p / 64] | written[p / 64])) {
            p += 63;
        } else if (has(head->computed, p) || has(written, p)) {
            fill(row, p * PS_PANEL_LANES, (p + 1) * PS_PANEL_LANES);
        }
    }
    fill(row, outer * PS_PANEL_LANES, end);
}

static void hide_unwanted(const ps_spec *spec, const ps_logits_wanted *wanted, int r, ps_head *head)
{
    const size_t words = words_of(spec);
    uint64_t *written = head->written + (size_t)r * words;
    float *row = head->logits + (size_t)r * ps_stage_logits_stride(spec);
    int before = 0;
    for (int i = 0; wanted && i < wanted->n_ranges; i++) {
        hide(head, written, row, before, wanted->ranges[i].first);
        before = wanted->ranges[i].end;
    }
    if (before > 0) hide(head, written, row, before, ps_spec_head_size(spec));
    memset(written, 0, words * sizeof *written);
    mark(spec, wanted, written);
}

void ps_head_forward(const ps_spec *spec, const ps_linear *weight, const ps_engine *engine,
                     const ps_linear_scratch *scratch, int n, const ps_logits_wanted *wanted,
                     ps_head *head)
{
    run runs[RUNS_MAX];
    memset(head->computed, 0, words_of(spec) * sizeof *head->computed);
    for (int r = 0; r < n; r++) {
        mark(spec, wanted ? &wanted[r] : NULL, head->computed);
    }
    const int n_runs = find_few_runs(head->computed, panels_of(spec), runs);
    head->bytes_read = 0;
    compute(spec, weight, engine, scratch, n, runs, n_runs, head);
    for (int i = 0; i < n_runs; i++) {
        set_panels(head->computed, runs[i].first, runs[i].end);
        shape(spec, engine->kernels, n, &runs[i], head->logits);
    }
    for (int r = 0; r < n; r++) {
        hide_unwanted(spec, wanted ? &wanted[r] : NULL, r, head);
    }
}
