/* The split is found by the bound, not by trying splits: for a bound on the dearest stage, filling
 * stages greedily tells whether n stages are enough; the smallest bound that is enough is found by
 * bisection over the sums that can occur. Then the layers are dealt under that bound. */
#include "pipe/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pipe/parcel.h"
#include "pipe/report.h"
#include "pipe/ring.h"

enum { DEPTH = 3 };

/* Bytes that one token reads in a layer: weights, and a sequence's cache as far as it is seen. */
static uint64_t layer_cost(const ps_ckpt *ckpt, int layer, const ps_limits *limits)
{
    const ps_spec *s = &ckpt->spec;
    const int64_t reach = ps_spec_reach(s, layer), bound = reach + s->n_kept;
    // Half the context is what a growing cache costs on average.
    int64_t seen = limits->context / 2;
    if (reach > 0 && (bound < seen || limits->context == 0)) seen = bound;
    const ps_kv_layout layout = ps_kv_layout_make(s->n_kv_heads, s->head_dim, 0, limits->cache);
    return ps_weights_layer_bytes(ckpt, layer) + (uint64_t)seen * ps_kv_read_bytes(&layout);
}

/* Deals layers under the bound: returns true when all fit. counts[n_stages] gets the layers of
 * each. */
static bool deal(const uint64_t *costs, int n_layers, uint64_t head, int n_stages, uint64_t bound,
                 int *counts)
{
    int layer = 0;
    for (int s = 0; s < n_stages; s++) {
        uint64_t sum = s == 0 ? head : 0;
        const int keep = n_stages - 1 - s; // layers that the later stages need
        counts[s] = 0;
        while (layer < n_layers - keep && sum + costs[layer] <= bound) {
            sum += costs[layer++];
            counts[s]++;
        }
        if (s > 0 && counts[s] == 0) return false;
    }
    return layer == n_layers;
}

static void split_by_cost(const uint64_t *costs, int n_layers, uint64_t head, int n_stages,
                          int *counts)
{
    uint64_t low = 0, high = head;
    for (int l = 0; l < n_layers; l++) {
        high += costs[l];
        if (costs[l] > low) low = costs[l];
    }
    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        if (deal(costs, n_layers, head, n_stages, middle, counts)) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    // `high` always deals: one stage could take all layers that the others do not need.
    (void)deal(costs, n_layers, head, n_stages, high, counts);
}

static ps_err split_by_hand(const char *text, int n_layers, int n_stages, int *counts)
{
    int sum = 0, n = 0;
    const char *at = text;
    while (*at != '\0') {
        char *end;
        const long count = strtol(at, &end, 10);
        if (end == at || count < 0 || count > n_layers || (*end != ',' && *end != '\0') ||
            (*end == ',' && end[1] == '\0'))
            return PS_FAIL(PS_ERR_USAGE, "--split %s: \"%s\" is not a number of layers", text, at);
        if (n == n_stages)
            return PS_FAIL(PS_ERR_USAGE, "--split %s: names more stages than the %d ranks", text,
                           n_stages);
        if (count == 0 && n > 0)
            return PS_FAIL(PS_ERR_USAGE, "--split %s: only stage 0 may own no layer", text);
        counts[n++] = (int)count;
        sum += (int)count;
        at = *end == ',' ? end + 1 : end;
    }
    if (n != n_stages)
        return PS_FAIL(PS_ERR_USAGE, "--split %s: names %d stages for %d ranks", text, n, n_stages);
    if (sum != n_layers)
        return PS_FAIL(PS_ERR_USAGE, "--split %s: adds up to %d layers, the model has %d", text,
                       sum, n_layers);
    return PS_OK;
}

static uint64_t head_cost(const ps_plan_params *params)
{
    const uint64_t bytes = ps_weights_head_bytes(params->ckpt);
    const int ids = params->limits.head_ids, all = params->ckpt->spec.vocab_size;
    return ids > 0 && ids < all ? bytes / (uint64_t)all * (uint64_t)ids : bytes;
}

static ps_err find_counts(const ps_plan_params *params, const uint64_t *costs, int *counts)
{
    const int n_layers = params->ckpt->spec.n_layers;
    if (params->n_stages > n_layers + 1)
        return PS_FAIL(PS_ERR_USAGE,
                       "%d ranks, but a model of %d layers makes at most %d stages: start %d ranks",
                       params->n_stages, n_layers, n_layers + 1, n_layers + 1);
    if (params->split) return split_by_hand(params->split, n_layers, params->n_stages, counts);
    split_by_cost(costs, n_layers, head_cost(params), params->n_stages, counts);
    return PS_OK;
}

static ps_err fill_stages(const ps_plan_params *params, const uint64_t *costs, const int *counts,
                          ps_plan *plan)
{
    int layer = 0;
    for (int s = 0; s < plan->n_stages; s++) {
        ps_plan_stage *stage = &plan->stages[s];
        stage->part =
            (ps_part){.first_layer = layer, .end_layer = layer + counts[s], .ends = s == 0};
        stage->cost_bytes = s == 0 ? head_cost(params) : 0;
        for (int i = 0; i < counts[s]; i++) {
            stage->cost_bytes += costs[layer++];
        }
        PS_TRY(ps_stage_measure(params->ckpt, &stage->part, &params->limits, params->gemm,
                                params->activations, params->n_threads, &stage->size));
        stage->ring_bytes = ps_ring_bytes(s, plan->depth, plan->parcel_bytes);
    }
    return PS_OK;
}

ps_err ps_plan_make(const ps_plan_params *params, ps_plan *out)
{
    const int n_layers = params->ckpt->spec.n_layers;
    *out = (ps_plan){.n_stages = params->n_stages, .limits = params->limits, .depth = DEPTH};
    const int credits = params->n_stages * DEPTH - 1;
    out->in_flight = params->in_flight > 0 ? params->in_flight : params->n_stages;
    if (out->in_flight > credits)
        return PS_FAIL(PS_ERR_USAGE, "--in-flight %d: %d ranks have buffers for at most %d parcels",
                       params->in_flight, params->n_stages, credits);
    ps_parcel_limits parcel = {.rows_max = params->limits.rows_max,
                               .n_slots = params->limits.n_slots,
                               .stride = (uint32_t)ps_stage_stride(&params->ckpt->spec),
                               .report_bytes = (size_t)params->n_stages * sizeof(ps_stage_report)};
    out->parcel_bytes = ps_parcel_bytes_max(&parcel);
    out->hop_bytes = sizeof(ps_parcel_head) + 64 + parcel.stride * sizeof(float);
    out->stages = ps_mem_new((size_t)params->n_stages, sizeof *out->stages);
    uint64_t *costs = ps_mem_new((size_t)n_layers, sizeof *costs);
    int *counts = ps_mem_new((size_t)params->n_stages, sizeof *counts);
    for (int l = 0; l < n_layers; l++) {
        costs[l] = layer_cost(params->ckpt, l, &params->limits);
    }
    ps_err err = find_counts(params, costs, counts);
    if (!err) err = fill_stages(params, costs, counts, out);
    ps_mem_free(counts);
    ps_mem_free(costs);
    if (err) ps_plan_release(out);
    return err;
}

void ps_plan_release(ps_plan *plan)
{
    ps_mem_free(plan->stages);
    *plan = (ps_plan){0};
}

size_t ps_plan_taken_bytes(const ps_plan_stage *stage)
{
    return stage->size.weights_bytes + stage->size.cache_bytes + stage->size.buffer_bytes +
           stage->ring_bytes;
}

size_t ps_plan_all_bytes(const ps_plan_stage *stage)
{
    return stage->size.mapped_bytes + ps_plan_taken_bytes(stage);
}

static double mib(size_t bytes)
{
    return (double)bytes / 1048576.0;
}

ps_err ps_plan_check_memory(const ps_plan *plan, int first, int end, size_t limit_bytes,
                            const char *limit_source)
{
    size_t sum = 0;
    for (int s = first; s < end; s++) {
        if (!ps_mem_add(sum, ps_plan_all_bytes(&plan->stages[s]), &sum)) sum = SIZE_MAX;
    }
    if (sum <= limit_bytes) return PS_OK;
    char who[48];
    if (end == first + 1)
        snprintf(who, sizeof who, "stage %d needs", first);
    else
        snprintf(who, sizeof who, "stages %d..%d need", first, end - 1);
    return PS_FAIL(PS_ERR_LIMIT,
                   "%s %.1f MiB (weights, caches, buffers), the limit (%s) leaves %.1f MiB: take "
                   "more ranks, a smaller --ctx or fewer --slots",
                   who, mib(sum), limit_source, mib(limit_bytes));
}

void ps_plan_describe(const ps_plan *plan, ps_text *out)
{
    ps_text_appendf(out,
                    "stage     layers  weights MiB  tables MiB  caches MiB  buffers MiB  total MiB"
                    "  read MiB/token\n");
    for (int s = 0; s < plan->n_stages; s++) {
        const ps_plan_stage *stage = &plan->stages[s];
        char layers[32] = "none";
        if (stage->part.end_layer > stage->part.first_layer)
            snprintf(layers, sizeof layers, "%d..%d", stage->part.first_layer,
                     stage->part.end_layer - 1);
        ps_text_appendf(out, "%5d %10s %12.1f %11.1f %11.1f %12.1f %10.1f %15.1f\n", s, layers,
                        mib(stage->size.mapped_bytes), mib(stage->size.weights_bytes),
                        mib(stage->size.cache_bytes),
                        mib(stage->size.buffer_bytes + stage->ring_bytes),
                        mib(ps_plan_all_bytes(stage)), mib(stage->cost_bytes));
    }
    char context[32] = "not bounded";
    if (plan->limits.context < PS_CONTEXT_ENDLESS)
        snprintf(context, sizeof context, "%lld", (long long)plan->limits.context);
    ps_text_appendf(
        out,
        "slots %d, context %s, rows of a parcel %d, of a prompt chunk %d, parcels in flight "
        "%d\nbytes a hop: %zu for one row, %zu for the largest parcel\n",
        plan->limits.n_slots, context, plan->limits.rows_max, plan->limits.chunk_rows,
        plan->in_flight, plan->hop_bytes, plan->parcel_bytes);
}

void ps_plan_to_json(const ps_plan *plan, ps_text *out)
{
    ps_text_appendf(
        out,
        "{\"slots\": %d, \"context\": %lld, \"rows\": %d, \"chunk_rows\": %d, \"in_flight\": "
        "%d, \"hop_bytes\": %zu, \"parcel_bytes\": %zu, \"stages\": [",
        plan->limits.n_slots, (long long)plan->limits.context, plan->limits.rows_max,
        plan->limits.chunk_rows, plan->in_flight, plan->hop_bytes, plan->parcel_bytes);
    for (int s = 0; s < plan->n_stages; s++) {
        const ps_plan_stage *stage = &plan->stages[s];
        ps_text_appendf(out,
                        "%s{\"first_layer\": %d, \"end_layer\": %d, \"mapped_bytes\": %zu, "
                        "\"weights_bytes\": %zu, \"cache_bytes\": %zu, \"buffer_bytes\": %zu, "
                        "\"ring_bytes\": %zu, \"read_bytes_per_token\": %llu}",
                        s ? ", " : "", stage->part.first_layer, stage->part.end_layer,
                        stage->size.mapped_bytes, stage->size.weights_bytes,
                        stage->size.cache_bytes, stage->size.buffer_bytes, stage->ring_bytes,
                        (unsigned long long)stage->cost_bytes);
    }
    ps_text_append_str(out, "]}");
}
