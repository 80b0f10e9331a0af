/* The split is found by the bound, not by trying splits: for a bound on the dearest stage it is easy
 * to tell whether the stages are enough; the smallest bound for which they are is found by bisection.
 * Then the layers are dealt under that bound. Stages that take different times for the same layer may
 * leave holes (a layer too dear for one of them), so what is possible is found from the last stage
 * back, not by filling stages one after the other. */
#include "pipe/plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pipe/parcel.h"
#include "pipe/report.h"
#include "pipe/ring.h"

enum { DEPTH = 3 };

/* What the dealing looks at, in bytes or nanoseconds. */
typedef struct costs {
    int n_stages, n_layers;
    uint64_t *layers; // [n_stages, n_layers] owned
    uint64_t head;
} costs;

/* Bytes of a sequence's cache that one token reads in a layer, as far as it is seen. */
static uint64_t cache_cost(const ps_ckpt *ckpt, int layer, const ps_limits *limits)
{
    const ps_spec *s = &ckpt->spec;
    const int64_t reach = ps_spec_reach(s, layer), bound = reach + s->n_kept;
    // Half the context is what a growing cache costs on average.
    int64_t seen = limits->context / 2;
    if (reach > 0 && (bound < seen || limits->context == 0)) seen = bound;
    const ps_kv_layout layout = ps_kv_layout_make(s->n_kv_heads, s->head_dim, 0, limits->cache);
    return (uint64_t)seen * ps_kv_read_bytes(&layout);
}

/* Bytes that one token reads in a layer: weights and cache. */
static uint64_t layer_cost(const ps_ckpt *ckpt, int layer, const ps_limits *limits)
{
    return ps_weights_layer_bytes(ckpt, layer) + cache_cost(ckpt, layer, limits);
}

/* Time that a parcel takes in a layer on a stage. */
static double layer_ns(const ps_plan_params *params, int stage, int layer)
{
    const ps_plan_times *t = params->times;
    const double cached =
        (double)t->rows * (double)cache_cost(params->ckpt, layer, &params->limits);
    return t->layer_ns[(size_t)stage * (size_t)t->n_layers + (size_t)layer] +
           cached * t->byte_ns[stage];
}

static uint64_t head_cost(const ps_plan_params *params)
{
    const uint64_t bytes = ps_weights_head_bytes(params->ckpt);
    const int ids = params->limits.head_ids, all = params->ckpt->spec.vocab_size;
    return ids > 0 && ids < all ? bytes / (uint64_t)all * (uint64_t)ids : bytes;
}

static costs find_costs(const ps_plan_params *params)
{
    costs c = {.n_stages = params->n_stages, .n_layers = params->ckpt->spec.n_layers};
    c.layers = ps_mem_new((size_t)c.n_stages * (size_t)c.n_layers, sizeof *c.layers);
    c.head = params->times ? (uint64_t)llround(params->times->head_ns) : head_cost(params);
    for (int s = 0; s < c.n_stages; s++) {
        for (int l = 0; l < c.n_layers; l++) {
            c.layers[(size_t)s * (size_t)c.n_layers + (size_t)l] =
                params->times ? (uint64_t)llround(layer_ns(params, s, l))
                              : layer_cost(params->ckpt, l, &params->limits);
        }
    }
    return c;
}

/* can[s, i]: stages s, s+1, ... can take layers i, i+1, ... under the bound; the row behind the last
 * stage says that nothing is left. counts_before is scratch. */
static void find_possible(const costs *c, uint64_t bound, bool *can, int *counts_before)
{
    const int n = c->n_layers;
    for (int i = 0; i <= n; i++) {
        can[(size_t)c->n_stages * (size_t)(n + 1) + (size_t)i] = i == n;
    }
    for (int s = c->n_stages - 1; s >= 0; s--) {
        const uint64_t *own = c->layers + (size_t)s * (size_t)n;
        bool *row = can + (size_t)s * (size_t)(n + 1);
        const bool *next = row + n + 1;
        counts_before[0] = 0;
        for (int i = 0; i <= n; i++) {
            counts_before[i + 1] = counts_before[i] + next[i];
        }
        // Layers i .. end-1 are all that the stage can take from i on. A head over the bound leaves
        // stage 0 none, and the others are still dealt alike.
        uint64_t sum = s == 0 ? c->head : 0;
        for (int i = n, end = n; i >= 0; i--) {
            if (i < n) sum += own[i];
            while (sum > bound && end > i) {
                sum -= own[--end];
            }
            const int first = i + (s > 0);
            row[i] = end >= first && counts_before[end + 1] > counts_before[first];
        }
    }
}

/* Deals layers under the bound, if that can be done: counts[n_stages] gets the layers of each. An
 * earlier stage takes all that it can. */
static bool deal(const costs *c, uint64_t bound, int *counts)
{
    const int n = c->n_layers;
    bool *can = ps_mem_new((size_t)(c->n_stages + 1) * (size_t)(n + 1), sizeof *can);
    int *scratch = ps_mem_new((size_t)n + 2, sizeof *scratch);
    find_possible(c, bound, can, scratch);
    const bool possible = can[0];
    int layer = 0;
    for (int s = 0; possible && s < c->n_stages; s++) {
        const uint64_t *own = c->layers + (size_t)s * (size_t)n;
        const bool *next = can + (size_t)(s + 1) * (size_t)(n + 1);
        uint64_t sum = s == 0 ? c->head : 0;
        int taken = s == 0 && next[layer] ? layer : -1;
        for (int end = layer + 1; end <= n; end++) {
            sum += own[end - 1];
            if (sum > bound) break;
            if (next[end]) taken = end;
        }
        counts[s] = taken - layer;
        layer = taken;
    }
    ps_mem_free(scratch);
    ps_mem_free(can);
    return possible;
}

/* No split is dearer than all layers, each where it costs most, on one stage. */
static uint64_t highest_bound(const costs *c)
{
    uint64_t sum = c->head;
    for (int l = 0; l < c->n_layers; l++) {
        uint64_t most = 0;
        for (int s = 0; s < c->n_stages; s++) {
            const uint64_t cost = c->layers[(size_t)s * (size_t)c->n_layers + (size_t)l];
            if (cost > most) most = cost;
        }
        sum += most;
    }
    return sum;
}

static void split_by_cost(const costs *c, int *counts)
{
    uint64_t low = 0, high = highest_bound(c);
    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        if (deal(c, middle, counts)) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    // The highest bound always deals: one stage could take all layers that the others do not need.
    (void)deal(c, high, counts);
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

static ps_err find_counts(const ps_plan_params *params, int *counts)
{
    const int n_layers = params->ckpt->spec.n_layers;
    if (params->n_stages > n_layers + 1)
        return PS_FAIL(PS_ERR_USAGE,
                       "%d ranks, but a model of %d layers makes at most %d stages: start %d ranks",
                       params->n_stages, n_layers, n_layers + 1, n_layers + 1);
    if (params->split) return split_by_hand(params->split, n_layers, params->n_stages, counts);
    costs c = find_costs(params);
    split_by_cost(&c, counts);
    ps_mem_free(c.layers);
    return PS_OK;
}

static ps_err fill_stages(const ps_plan_params *params, const int *counts, ps_plan *plan)
{
    int layer = 0;
    for (int s = 0; s < plan->n_stages; s++) {
        ps_plan_stage *stage = &plan->stages[s];
        stage->part =
            (ps_part){.first_layer = layer, .end_layer = layer + counts[s], .ends = s == 0};
        stage->cost_bytes = s == 0 ? head_cost(params) : 0;
        if (params->times && s == 0) stage->time_ns = params->times->head_ns;
        for (int i = 0; i < counts[s]; i++, layer++) {
            stage->cost_bytes += layer_cost(params->ckpt, layer, &params->limits);
            if (params->times) stage->time_ns += layer_ns(params, s, layer);
        }
        PS_TRY(ps_stage_measure(params->ckpt, &stage->part, &params->limits, params->gemm,
                                params->activations, params->n_threads, &stage->size));
        stage->ring_bytes = ps_ring_bytes(s, plan->depth, plan->parcel_bytes);
    }
    return PS_OK;
}

static double slowest_ns(const ps_plan *plan)
{
    double most = 0.0;
    for (int s = 0; s < plan->n_stages; s++) {
        if (plan->stages[s].time_ns > most) most = plan->stages[s].time_ns;
    }
    return most;
}

double ps_plan_round_ns(const ps_plan *plan)
{
    double sum = plan->n_stages > 1 ? plan->n_stages * plan->hop_ns : 0.0;
    for (int s = 0; s < plan->n_stages; s++) {
        sum += plan->stages[s].time_ns;
    }
    return sum;
}

double ps_plan_tokens_per_s(const ps_plan *plan)
{
    const double round = ps_plan_round_ns(plan), slowest = slowest_ns(plan);
    if (!(slowest > 0.0)) return 0.0;
    const int full = plan->limits.n_slots / plan->timed_rows;
    const int parcels = full < 1 ? 1 : full < plan->in_flight ? full : plan->in_flight;
    return plan->timed_rows * 1e9 * fmin(parcels / round, 1.0 / slowest);
}

/* The least that keep the slowest stage busy. Times are not better known than to a tenth: of two
 * equal stages a hop that takes no time would ask for a third parcel. */
static int needed_in_flight(const ps_plan *plan, int credits)
{
    const double slowest = slowest_ns(plan);
    if (!(slowest > 0.0)) return plan->n_stages;
    const double needed = ceil(ps_plan_round_ns(plan) / slowest - 0.1);
    return needed < 1.0 ? 1 : needed > credits ? credits : (int)needed;
}

ps_err ps_plan_make(const ps_plan_params *params, ps_plan *out)
{
    *out = (ps_plan){0};
    const int credits = params->n_stages * DEPTH - 1;
    if (params->in_flight > credits)
        return PS_FAIL(
            PS_ERR_USAGE, "--in-flight %d: a ring of %d rank%s has buffers for at most %d parcels",
            params->in_flight, params->n_stages, params->n_stages == 1 ? "" : "s", credits);
    *out = (ps_plan){.n_stages = params->n_stages, .limits = params->limits, .depth = DEPTH};
    out->in_flight = params->in_flight > 0 ? params->in_flight : params->n_stages;
    ps_parcel_limits parcel = {.rows_max = params->limits.rows_max,
                               .n_slots = params->limits.n_slots,
                               .stride = (uint32_t)ps_stage_stride(&params->ckpt->spec),
                               .report_bytes = (size_t)params->n_stages * sizeof(ps_stage_report)};
    out->parcel_bytes = ps_parcel_bytes_max(&parcel);
    out->hop_bytes = sizeof(ps_parcel_head) + 64 + parcel.stride * sizeof(float);
    out->stages = ps_mem_new((size_t)params->n_stages, sizeof *out->stages);
    int *counts = ps_mem_new((size_t)params->n_stages, sizeof *counts);
    ps_err err = find_counts(params, counts);
    if (!err) err = fill_stages(params, counts, out);
    ps_mem_free(counts);
    if (err) {
        ps_plan_release(out);
        return err;
    }
    if (!params->times) return PS_OK;
    out->timed_rows = params->times->rows;
    out->hop_ns = params->times->hop_ns;
    out->head_ns = params->times->head_ns;
    if (params->in_flight == 0) out->in_flight = needed_in_flight(out, credits);
    return PS_OK;
}

void ps_plan_times_release(ps_plan_times *times)
{
    ps_mem_free(times->layer_ns);
    ps_mem_free(times->byte_ns);
    *times = (ps_plan_times){0};
}

void ps_plan_release(ps_plan *plan)
{
    ps_mem_free(plan->stages);
    *plan = (ps_plan){0};
}

void ps_plan_set_access(ps_plan *plan, const ps_ckpt *ckpt, int stage, ps_weights_access access,
                        const char *why)
{
    ps_plan_stage *s = &plan->stages[stage];
    const ps_weights_size size = ps_weights_measure(ckpt, &s->part, plan->limits.context, access);
    s->size.mapped_bytes = size.mapped_bytes;
    s->size.copied_bytes = size.copied_bytes;
    s->size.weights_bytes = size.taken_bytes;
    s->access = access;
    snprintf(s->access_why, sizeof s->access_why, "%s", why);
}

size_t ps_plan_taken_bytes(const ps_plan_stage *stage)
{
    return stage->size.copied_bytes + stage->size.weights_bytes + stage->size.cache_bytes +
           stage->size.buffer_bytes + stage->ring_bytes;
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
    size_t sum = 0, copied = 0;
    const bool own_only = strcmp(limit_source, "RLIMIT_DATA") == 0;
    for (int s = first; s < end; s++) {
        const ps_plan_stage *stage = &plan->stages[s];
        const size_t bytes = own_only ? ps_plan_taken_bytes(stage) : ps_plan_all_bytes(stage);
        if (!ps_mem_add(sum, bytes, &sum)) sum = SIZE_MAX;
        copied += stage->size.copied_bytes;
    }
    if (sum <= limit_bytes) return PS_OK;
    char who[48];
    if (end == first + 1)
        snprintf(who, sizeof who, "stage %d needs", first);
    else
        snprintf(who, sizeof who, "stages %d..%d need", first, end - 1);
    return PS_FAIL(PS_ERR_LIMIT,
                   "%s %.1f MiB (%s, caches, buffers), the limit (%s) leaves %.1f MiB: take "
                   "more ranks, a smaller --ctx%s or fewer --slots",
                   who, mib(sum), copied > 0 ? "copied weights" : "weights", limit_source,
                   mib(limit_bytes), own_only && copied > 0 ? ", --weights map" : "");
}

static bool same_access(const ps_plan_stage *a, const ps_plan_stage *b)
{
    return a->access == b->access && strcmp(a->access_why, b->access_why) == 0;
}

void ps_plan_describe_access(const ps_plan *plan, ps_text *out)
{
    for (int first = 0, end; first < plan->n_stages; first = end) {
        const ps_plan_stage *stage = &plan->stages[first];
        end = first + 1;
        while (end < plan->n_stages && same_access(stage, &plan->stages[end])) {
            end++;
        }
        ps_text_append_str(out, "weights");
        const bool all = end - first == plan->n_stages;
        if (!all && end == first + 1) ps_text_appendf(out, " of stage %d", first);
        if (!all && end > first + 1) ps_text_appendf(out, " of stages %d..%d", first, end - 1);
        ps_text_appendf(out, ": %s",
                        stage->access == PS_WEIGHTS_COPY ? "copied into memory" : "mapped");
        if (stage->access_why[0] != '\0') ps_text_appendf(out, " (%s)", stage->access_why);
        ps_text_append_str(out, "\n");
    }
}

void ps_plan_describe(const ps_plan *plan, ps_text *out)
{
    ps_text_appendf(out,
                    "stage     layers  weights MiB  tables MiB  caches MiB  buffers MiB  total MiB"
                    "  read MiB/token%s\n",
                    plan->timed_rows > 0 ? "  ms/parcel" : "");
    for (int s = 0; s < plan->n_stages; s++) {
        const ps_plan_stage *stage = &plan->stages[s];
        char layers[32] = "none";
        if (stage->part.end_layer > stage->part.first_layer)
            snprintf(layers, sizeof layers, "%d..%d", stage->part.first_layer,
                     stage->part.end_layer - 1);
        ps_text_appendf(out, "%5d %10s %12.1f %11.1f %11.1f %12.1f %10.1f %15.1f", s, layers,
                        mib(stage->size.mapped_bytes + stage->size.copied_bytes),
                        mib(stage->size.weights_bytes), mib(stage->size.cache_bytes),
                        mib(stage->size.buffer_bytes + stage->ring_bytes),
                        mib(ps_plan_all_bytes(stage)), mib(stage->cost_bytes));
        if (plan->timed_rows > 0) ps_text_appendf(out, " %10.3f", stage->time_ns * 1e-6);
        ps_text_append_str(out, "\n");
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
    ps_plan_describe_access(plan, out);
    if (plan->timed_rows == 0) return;
    ps_text_appendf(out,
                    "measured: head %.3f ms, hop %.1f us, a round %.3f ms; with parcels of %d "
                    "rows %.1f tokens/s\n",
                    plan->head_ns * 1e-6, plan->hop_ns * 1e-3, ps_plan_round_ns(plan) * 1e-6,
                    plan->timed_rows, ps_plan_tokens_per_s(plan));
    if (plan->limits.chunk_overhead > 0.0)
        ps_text_appendf(out, "a prompt's parcel takes as long as %.1f rows beside its own\n",
                        plan->limits.chunk_overhead);
}

/* What only a measured plan says. */
static void append_times(const ps_plan *plan, ps_text *out)
{
    if (plan->timed_rows == 0) return;
    ps_text_appendf(out,
                    "\"timed_rows\": %d, \"head_ns\": %.0f, \"hop_ns\": %.0f, \"round_ns\": %.0f, "
                    "\"planned_tokens_per_s\": %.3f, \"chunk_overhead_rows\": %.3f, ",
                    plan->timed_rows, plan->head_ns, plan->hop_ns, ps_plan_round_ns(plan),
                    ps_plan_tokens_per_s(plan), plan->limits.chunk_overhead);
}

void ps_plan_to_json(const ps_plan *plan, ps_text *out)
{
    ps_text_appendf(
        out,
        "{\"slots\": %d, \"context\": %lld, \"rows\": %d, \"chunk_rows\": %d, \"in_flight\": "
        "%d, \"hop_bytes\": %zu, \"parcel_bytes\": %zu, ",
        plan->limits.n_slots, (long long)plan->limits.context, plan->limits.rows_max,
        plan->limits.chunk_rows, plan->in_flight, plan->hop_bytes, plan->parcel_bytes);
    append_times(plan, out);
    ps_text_append_str(out, "\"stages\": [");
    for (int s = 0; s < plan->n_stages; s++) {
        const ps_plan_stage *stage = &plan->stages[s];
        ps_text_appendf(
            out,
            "%s{\"first_layer\": %d, \"end_layer\": %d, \"mapped_bytes\": %zu, "
            "\"copied_bytes\": %zu, \"weights_bytes\": %zu, \"cache_bytes\": %zu, "
            "\"buffer_bytes\": %zu, "
            "\"ring_bytes\": %zu, \"read_bytes_per_token\": %llu",
            s ? ", " : "", stage->part.first_layer, stage->part.end_layer, stage->size.mapped_bytes,
            stage->size.copied_bytes, stage->size.weights_bytes, stage->size.cache_bytes,
            stage->size.buffer_bytes, stage->ring_bytes, (unsigned long long)stage->cost_bytes);
        if (plan->timed_rows > 0) ps_text_appendf(out, ", \"time_ns\": %.0f", stage->time_ns);
        ps_text_appendf(out, ", \"weights\": \"%s\", \"weights_why\": \"%s\"}",
                        stage->access == PS_WEIGHTS_COPY ? "copy" : "map", stage->access_why);
    }
    ps_text_append_str(out, "]}");
}
