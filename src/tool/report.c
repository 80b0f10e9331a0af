#include "tool/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "math/kernels.h"
#include "tool/version.h"

static double seconds(int64_t ns)
{
    return (double)ns * 1e-9;
}

static double mib(uint64_t bytes)
{
    return (double)bytes / 1048576.0;
}

static double ratio(double a, double b)
{
    return b > 0.0 ? a / b : 0.0;
}

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

typedef struct summary {
    double first_token_s; // mean over the requests, from the time that each was queued
    double decode_s, token_p50_ms, token_p99_ms;
    double prompt_rate, decode_rate, bubble, read_gb_s;
    double wall_s;
} summary;

static void find_percentiles(const ps_generate_counts *c, summary *s)
{
    if (c->n_token_ms == 0) return;
    float *sorted = ps_mem_new(c->n_token_ms, sizeof *sorted);
    memcpy(sorted, c->token_ms, c->n_token_ms * sizeof *sorted);
    qsort(sorted, c->n_token_ms, sizeof *sorted, by_value);
    s->token_p50_ms = (double)sorted[(c->n_token_ms - 1) / 2];
    s->token_p99_ms = (double)sorted[(c->n_token_ms - 1) * 99 / 100];
    ps_mem_free(sorted);
}

static summary summarize(const ps_job *job)
{
    const ps_generate_counts *c = &job->counts;
    summary s = {0};
    if (c->first_token_ns) {
        s.first_token_s = ratio(seconds(c->prompt_ns), (double)c->n_prompts);
        s.decode_s = seconds(c->last_token_ns - c->first_token_ns);
        s.prompt_rate = ratio((double)c->prompt_tokens, seconds(c->last_prompt_ns - c->begun_ns));
        if (c->new_tokens > 1) s.decode_rate = ratio((double)(c->new_tokens - 1), s.decode_s);
        find_percentiles(c, &s);
    }
    double busy = 0.0, bytes = 0.0;
    for (int r = 0; r < job->size; r++) {
        busy += seconds(job->reports[r].busy_ns);
        bytes += (double)(job->reports[r].weight_bytes + job->reports[r].cache_bytes);
        if (seconds(job->reports[r].wall_ns) > s.wall_s)
            s.wall_s = seconds(job->reports[r].wall_ns);
    }
    if (!c->first_token_ns) s.prompt_rate = ratio((double)c->prompt_tokens, s.wall_s);
    s.bubble = s.wall_s > 0.0 ? 1.0 - busy / ((double)job->size * s.wall_s) : 0.0;
    s.read_gb_s = ratio(bytes * 1e-9, s.wall_s);
    return s;
}

/* Positions that left the caches, and the layers with windows that they left. */
static void find_evicted(const ps_job *job, uint64_t *positions, int64_t *layers)
{
    *positions = 0;
    *layers = 0;
    for (int r = 0; r < job->size; r++) {
        *positions += job->reports[r].evicted;
        *layers += job->reports[r].window_layers;
    }
}

/* What did not have to be computed, and what was given up. */
static void describe_positions(const ps_job *job, ps_text *out)
{
    const ps_generate_counts *c = &job->counts;
    uint64_t evicted;
    int64_t layers;
    find_evicted(job, &evicted, &layers);
    if (c->prefix_tokens > 0)
        ps_text_appendf(out, "prefix: %llu tokens computed%s, %llu prompt tokens saved\n",
                        (unsigned long long)c->prefix_tokens,
                        job->n_rings > 1 ? " by all rings, once in each" : " once",
                        (unsigned long long)c->shared_tokens);
    if (c->begun_tokens > 0)
        ps_text_appendf(out, "begun: %llu tokens of an earlier run were fed again\n",
                        (unsigned long long)c->begun_tokens);
    if (evicted > 0)
        ps_text_appendf(out, "evicted: %llu positions from %lld layers with windows\n",
                        (unsigned long long)evicted, (long long)layers);
}

/* The variants of ropes that the shortest and the longest sequence took, as one where they are the
 * same; nothing where no rope depends on the length. */
static void find_ropes(const ps_job *job, ps_text *out)
{
    const ps_generate_counts *c = &job->counts;
    if (c->longest == 0) return;
    ps_text longest = {0};
    ps_spec_describe_ropes(&job->ckpt.spec, c->shortest == INT64_MAX ? 0 : c->shortest, out);
    ps_spec_describe_ropes(&job->ckpt.spec, c->longest == INT64_MAX ? 0 : c->longest, &longest);
    if (strcmp(ps_text_str(out), ps_text_str(&longest)) != 0)
        ps_text_appendf(out, " to %s", ps_text_str(&longest));
    ps_text_release(&longest);
}

/* Bytes of keys, values and providers' numbers of one position in all layers. */
static size_t cache_bytes_per_token(const ps_job *job)
{
    const ps_spec *spec = &job->ckpt.spec;
    size_t bytes = 0;
    for (int l = 0; l < spec->n_layers; l++) {
        const ps_kv_layout layout = ps_kv_layout_make(
            spec->n_kv_heads, spec->head_dim, ps_spec_layer_numbers(spec, l), job->limits.cache);
        bytes += ps_kv_position_bytes(&layout);
    }
    return bytes;
}

/* Caches of another type than f32, and what the layers see where that is not as the model has it. */
static void describe_caches(const ps_job *job, ps_text *out)
{
    const ps_kv_types *types = &job->limits.cache;
    const ps_spec *spec = &job->ckpt.spec;
    if (types->key != PS_F32 || types->value != PS_F32)
        ps_text_appendf(out, "caches: %s keys, %s values, %zu bytes a token\n",
                        ps_dtype_name(types->key), ps_dtype_name(types->value),
                        cache_bytes_per_token(job));
    if (job->run.windows)
        ps_text_appendf(out, "windows: %s, in the place of the model's\n", job->run.windows);
    if (spec->n_kept > 0)
        ps_text_appendf(out, "kept: the first %lld tokens, at %s\n", (long long)spec->n_kept,
                        spec->kept_at_cache ? "cache positions (an approximation)"
                                            : "their true positions");
}

static void append_caches(const ps_job *job, ps_text *out)
{
    const ps_spec *spec = &job->ckpt.spec;
    ps_text_appendf(out,
                    ",\n \"cache\": {\"keys\": \"%s\", \"values\": \"%s\", "
                    "\"bytes_per_token\": %zu, \"windows\": ",
                    ps_dtype_name(job->limits.cache.key), ps_dtype_name(job->limits.cache.value),
                    cache_bytes_per_token(job));
    const char *windows = job->run.windows ? job->run.windows : "model";
    ps_json_append_text(out, windows, strlen(windows));
    ps_text_appendf(out, ", \"kept_tokens\": %lld, \"approximate\": %s}", (long long)spec->n_kept,
                    spec->kept_at_cache ? "true" : "false");
}

/* The way to the first token, in seconds. Mapping and verifying are those of the slowest rank. */
typedef struct start_parts {
    double join, index, input, plan, open, map, verify, first, second, all;
} start_parts;

static start_parts find_start(const ps_job *job)
{
    const ps_job_start *t = &job->start;
    const ps_generate_counts *c = &job->counts;
    start_parts s = {.join = seconds(t->joined_ns - t->begun_ns),
                     .index = seconds(t->indexed_ns - t->joined_ns),
                     .input = seconds(t->input_ns - t->indexed_ns),
                     .plan = seconds(t->planned_ns - t->input_ns),
                     .open = seconds(t->opened_ns - t->planned_ns),
                     .second = seconds(c->second_token_ns)};
    for (int r = 0; r < job->size; r++) {
        s.map = fmax(s.map, seconds(job->reports[r].map_ns));
        s.verify = fmax(s.verify, seconds(job->reports[r].verify_ns));
    }
    if (c->first_token_ns == 0) return s;
    s.first = seconds(c->first_token_ns - t->opened_ns);
    s.all = seconds(c->first_token_ns - t->begun_ns);
    return s;
}

static bool copies(const ps_plan *plan)
{
    for (int s = 0; s < plan->n_stages; s++) {
        if (plan->stages[s].access == PS_WEIGHTS_COPY) return true;
    }
    return false;
}

static void describe_start(const ps_job *job, ps_text *out)
{
    const start_parts s = find_start(job);
    if (job->counts.first_token_ns == 0) return;
    ps_text_appendf(out,
                    "to the first token %.3f s: ranks %.3f, index %.3f, input %.3f, plan %.3f, "
                    "opening %.3f (weights %s %.3f, verified %.3f), prompt %.3f; its next "
                    "token %.3f\n",
                    s.all, s.join, s.index, s.input, s.plan, s.open,
                    copies(&job->plan) ? "read" : "mapped", s.map, s.verify, s.first, s.second);
}

/* What one of several rings did; its ranks' times are those of the whole work. */
typedef struct ring_share {
    int first_rank, end_rank;
    double rate, busy; // new tokens/s; share of its ranks' time
} ring_share;

static ring_share share_of_ring(const ps_job *job, int ring)
{
    const ps_generate_counts *c = &job->ring_counts[ring];
    ring_share s = {.first_rank = ring * job->n_stages, .end_rank = (ring + 1) * job->n_stages};
    double busy = 0.0, wall = 0.0;
    for (int r = s.first_rank; r < s.end_rank; r++) {
        busy += seconds(job->reports[r].busy_ns);
        wall += seconds(job->reports[r].wall_ns);
    }
    s.busy = ratio(busy, wall);
    if (c->new_tokens > 1)
        s.rate = ratio((double)(c->new_tokens - 1), seconds(c->last_token_ns - c->first_token_ns));
    return s;
}

static void describe_rings(const ps_job *job, ps_text *out)
{
    for (int i = 0; job->n_rings > 1 && i < job->n_rings; i++) {
        const ps_generate_counts *c = &job->ring_counts[i];
        const ring_share s = share_of_ring(job, i);
        ps_text_appendf(
            out,
            "ring %d, ranks %d..%d: %llu requests, %llu new tokens, %.1f tokens/s, busy "
            "%.0f %%\n",
            i, s.first_rank, s.end_rank - 1, (unsigned long long)c->requests,
            (unsigned long long)c->new_tokens, s.rate, 100.0 * s.busy);
    }
}

void ps_report_describe(const ps_job *job, ps_text *out)
{
    const ps_generate_counts *c = &job->counts;
    const summary s = summarize(job);
    ps_text_appendf(out, "%llu prompt and %llu new tokens in %.3f s",
                    (unsigned long long)c->prompt_tokens, (unsigned long long)c->new_tokens,
                    s.wall_s);
    if (c->first_token_ns)
        ps_text_appendf(out,
                        "; first token after %.3f s, prompt %.1f tokens/s, then %.1f tokens/s "
                        "(a token p50 %.2f ms, p99 %.2f ms)",
                        s.first_token_s, s.prompt_rate, s.decode_rate, s.token_p50_ms,
                        s.token_p99_ms);
    else if (s.prompt_rate > 0.0)
        ps_text_appendf(out, "; %.1f tokens/s", s.prompt_rate);
    ps_text_appendf(out, "; bubble %.1f %%, %.2f GB/s of weights and caches read\n",
                    100.0 * s.bubble, s.read_gb_s);
    describe_start(job, out);
    ps_plan_describe_access(&job->plan, out);
    describe_caches(job, out);
    ps_text ropes = {0};
    find_ropes(job, &ropes);
    if (ropes.len > 0) ps_text_appendf(out, "rope: %s\n", ropes.data);
    ps_text_release(&ropes);
    describe_positions(job, out);
    describe_rings(job, out);
    ps_text_append_str(
        out, "rank host             layers threads  busy   wait   send   GB/s  sent/parcel"
             "  peak MiB  base MiB  plan MiB\n");
    for (int i = 0; i < job->size; i++) {
        const ps_stage_report *r = &job->reports[i];
        const double wall = seconds(r->wall_ns);
        char layers[32] = "none";
        if (r->end_layer > r->first_layer)
            snprintf(layers, sizeof layers, "%d..%d", r->first_layer, r->end_layer - 1);
        ps_text_appendf(
            out,
            "%4d %-14.14s %8s %7d %4.0f %% %4.0f %% %4.0f %% %6.2f %8llu B %9.1f %9.1f %9.1f\n",
            r->rank, r->host, layers, r->n_threads, 100.0 * ratio(seconds(r->busy_ns), wall),
            100.0 * ratio(seconds(r->wait_ns), wall), 100.0 * ratio(seconds(r->send_ns), wall),
            ratio((double)(r->weight_bytes + r->cache_bytes) * 1e-9, seconds(r->busy_ns)),
            (unsigned long long)(r->parcels ? r->sent_bytes / r->parcels : 0),
            mib(r->peak_resident_bytes), mib(r->base_resident_bytes), mib(job->planned_bytes[i]));
    }
}

static void append_number(ps_text *out, const char *key, double value)
{
    ps_text_appendf(out, "\"%s\": ", key);
    ps_json_append_real(out, value);
    ps_text_append_str(out, ", ");
}

static void append_start(const ps_job *job, ps_text *out)
{
    const start_parts s = find_start(job);
    ps_text_append_str(out, "\"start\": {");
    append_number(out, "join_s", s.join);
    append_number(out, "index_s", s.index);
    append_number(out, "input_s", s.input);
    append_number(out, "plan_s", s.plan);
    append_number(out, "open_s", s.open);
    append_number(out, "map_s", s.map);
    append_number(out, "verify_s", s.verify);
    append_number(out, "prompt_s", s.first);
    append_number(out, "next_token_s", s.second);
    ps_text_append_str(out, "\"to_first_token_s\": ");
    ps_json_append_real(out, s.all);
    ps_text_append_str(out, "},\n ");
}

static void append_stage(const ps_stage_report *r, ps_text *out)
{
    ps_text_appendf(out, "  {\"rank\": %d, \"host\": ", r->rank);
    ps_json_append_text(out, r->host, strlen(r->host));
    ps_text_appendf(
        out,
        ", \"first_layer\": %d, \"end_layer\": %d, \"threads\": %d, \"isa\": \"%s\", "
        "\"parcels\": %llu, \"rows\": %llu, \"sent_bytes\": %llu, \"weight_bytes\": %llu, "
        "\"cache_bytes\": %llu, \"peak_resident_bytes\": %llu, \"base_resident_bytes\": "
        "%llu, ",
        r->first_layer, r->end_layer, r->n_threads, r->isa, (unsigned long long)r->parcels,
        (unsigned long long)r->rows, (unsigned long long)r->sent_bytes,
        (unsigned long long)r->weight_bytes, (unsigned long long)r->cache_bytes,
        (unsigned long long)r->peak_resident_bytes, (unsigned long long)r->base_resident_bytes);
    append_number(out, "wall_s", seconds(r->wall_ns));
    append_number(out, "busy_s", seconds(r->busy_ns));
    append_number(out, "wait_s", seconds(r->wait_ns));
    ps_text_append_str(out, "\"send_s\": ");
    ps_json_append_real(out, seconds(r->send_ns));
    ps_text_append_str(out, "}");
}

static void append_rings(const ps_job *job, ps_text *out)
{
    if (job->n_rings == 1) return;
    ps_text_append_str(out, "\n \"rings\": [\n");
    for (int i = 0; i < job->n_rings; i++) {
        const ps_generate_counts *c = &job->ring_counts[i];
        const ring_share s = share_of_ring(job, i);
        ps_text_appendf(out,
                        "  {\"first_rank\": %d, \"end_rank\": %d, \"requests\": %llu, "
                        "\"prompt_tokens\": %llu, \"new_tokens\": %llu, ",
                        s.first_rank, s.end_rank, (unsigned long long)c->requests,
                        (unsigned long long)c->prompt_tokens, (unsigned long long)c->new_tokens);
        append_number(out, "new_tokens_per_s", s.rate);
        ps_text_append_str(out, "\"busy\": ");
        ps_json_append_real(out, s.busy);
        ps_text_append_str(out, i + 1 < job->n_rings ? "},\n" : "}\n ],");
    }
}

void ps_report_to_json(const ps_job *job, ps_text *out)
{
    const ps_generate_counts *c = &job->counts;
    const summary s = summarize(job);
    char utc[PS_CLOCK_UTC_BYTES];
    ps_clock_utc_text(ps_clock_unix_s(), utc);
    ps_text_appendf(out, "{\"program\": \"pipestep\", \"version\": \"%s\", \"ended\": \"%s\",\n",
                    ps_version(), utc);
    ps_text_append_str(out, " \"model\": ");
    ps_json_append_text(out, job->ckpt.path, strlen(job->ckpt.path));
    ps_text_appendf(out,
                    ", \"model_identity\": \"%016llx\", \"gemm\": \"%s\", "
                    "\"activations\": \"%s\",\n \"plan\": ",
                    (unsigned long long)job->ckpt.identity,
                    job->engine.gemm == PS_GEMM_BLAS ? "blas" : "panel",
                    ps_activations_name(job->engine.activations));
    ps_plan_to_json(&job->plan, out);
    append_caches(job, out);
    ps_text ropes = {0};
    find_ropes(job, &ropes);
    if (ropes.len > 0) {
        ps_text_append_str(out, ",\n \"rope\": ");
        ps_json_append_text(out, ropes.data, ropes.len);
    }
    ps_text_release(&ropes);
    ps_text_appendf(out,
                    ",\n \"requests\": %llu, \"prompt_tokens\": %llu, \"new_tokens\": %llu,\n ",
                    (unsigned long long)c->requests, (unsigned long long)c->prompt_tokens,
                    (unsigned long long)c->new_tokens);
    uint64_t evicted;
    int64_t layers;
    find_evicted(job, &evicted, &layers);
    ps_text_appendf(out,
                    "\"begun_tokens\": %llu, \"prefix_tokens\": %llu, "
                    "\"shared_prompt_tokens\": %llu, "
                    "\"evicted_positions\": %llu, \"window_layers\": %lld,\n ",
                    (unsigned long long)c->begun_tokens, (unsigned long long)c->prefix_tokens,
                    (unsigned long long)c->shared_tokens, (unsigned long long)evicted,
                    (long long)layers);
    append_start(job, out);
    append_number(out, "wall_s", s.wall_s);
    append_number(out, "first_token_s", s.first_token_s);
    append_number(out, "prompt_tokens_per_s", s.prompt_rate);
    append_number(out, "new_tokens_per_s", s.decode_rate);
    append_number(out, "token_p50_ms", s.token_p50_ms);
    append_number(out, "token_p99_ms", s.token_p99_ms);
    append_number(out, "bubble", s.bubble);
    append_number(out, "read_gb_per_s", s.read_gb_s);
    append_rings(job, out);
    ps_text_append_str(out, "\n \"stages\": [\n");
    for (int i = 0; i < job->size; i++) {
        append_stage(&job->reports[i], out);
        ps_text_append_str(out, i + 1 < job->size ? ",\n" : "\n");
    }
    ps_text_append_str(out, " ]}\n");
}
