#include "tool/metrics.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "tool/version.h"

struct ps_metrics {
    const ps_job *job;
    ps_metrics_work work, last; // now, and at the last update
    int64_t begun_ns, updated_ns, next_ns;
    double prompt_rate, generated_rate;
    bool warned;
    ps_text text; // scratch
};

/* ---- the format ---- */

static void begin_metric(ps_text *out, const char *name, const char *type, const char *help)
{
    ps_text_appendf(out, "# HELP pipestep_%s %s\n# TYPE pipestep_%s %s\n", name, help, name, type);
}

static void append_value(double value, ps_text *out)
{
    char number[40];
    snprintf(number, sizeof number, isfinite(value) ? "%.17g" : "NaN", value);
    ps_text_appendf(out, " %s\n", number);
}

/* name="value", escaped: what is not UTF-8 or a control character becomes a question mark. */
static void append_label(ps_text *out, const char *name, const char *value)
{
    ps_text_appendf(out, "%s=\"", name);
    for (size_t n = strlen(value); n > 0;) {
        size_t used = ps_utf8_valid_prefix(value, n < 4 ? n : 4, NULL);
        const unsigned char c = (unsigned char)*value;
        if (used > 0) {
            uint32_t ignored;
            used = ps_utf8_decode(value, n, &ignored);
        }
        if (c == '\\' || c == '"') {
            ps_text_appendf(out, "\\%c", c);
        } else if (c == '\n') {
            ps_text_append_str(out, "\\n");
        } else if (used == 0 || c < 0x20) {
            ps_text_append_char(out, '?');
        } else {
            ps_text_append(out, value, used);
        }
        if (used == 0) used = 1;
        value += used;
        n -= used;
    }
    ps_text_append_char(out, '"');
}

static void append_sample(ps_text *out, const char *name, double value)
{
    ps_text_appendf(out, "pipestep_%s", name);
    append_value(value, out);
}

static void append_labelled(ps_text *out, const char *name, const char *label, const char *is,
                            double value)
{
    ps_text_appendf(out, "pipestep_%s{", name);
    append_label(out, label, is);
    ps_text_append_char(out, '}');
    append_value(value, out);
}

/* Of one ring; `kind` NULL: nothing else. */
static void append_of_ring(ps_text *out, const char *name, int ring, const char *kind, double value)
{
    ps_text_appendf(out, "pipestep_%s{ring=\"%d\"", name, ring);
    if (kind) ps_text_appendf(out, ",kind=\"%s\"", kind);
    ps_text_append_char(out, '}');
    append_value(value, out);
}

/* ---- the metrics ---- */

static void append_info(const ps_job *job, ps_text *out)
{
    char identity[32];
    snprintf(identity, sizeof identity, "%016llx", (unsigned long long)job->ckpt.identity);
    begin_metric(out, "info", "gauge", "What runs.");
    ps_text_append_str(out, "pipestep_info{");
    append_label(out, "version", ps_version());
    ps_text_append_char(out, ',');
    append_label(out, "command", job->command->name);
    ps_text_append_char(out, ',');
    append_label(out, "model", job->ckpt.path);
    ps_text_append_char(out, ',');
    append_label(out, "model_identity", identity);
    ps_text_append_str(out, "} 1\n");
}

static void append_status(const ps_job *job, bool ended, ps_err err, ps_text *out)
{
    begin_metric(out, "start_time_seconds", "gauge", "When the program began, since 1970.");
    append_sample(out, "start_time_seconds", (double)job->begun_unix_s);
    begin_metric(out, "update_time_seconds", "gauge", "When this was written, since 1970.");
    append_sample(out, "update_time_seconds", (double)ps_clock_unix_ms() * 1e-3);
    begin_metric(out, "running", "gauge", "Whether the program runs: 1, or 0 in the end.");
    append_sample(out, "running", ended ? 0.0 : 1.0);
    if (!ended) return;
    begin_metric(out, "exit_status", "gauge", "What the program ended with.");
    append_sample(out, "exit_status", ps_err_exit_status(err));
}

static void append_work(const ps_metrics *m, ps_text *out)
{
    const ps_metrics_work *w = &m->work;
    begin_metric(out, "requests", "gauge", "Requests by what became of them.");
    append_labelled(out, "requests", "state", "finished", (double)w->finished);
    append_labelled(out, "requests", "state", "failed", (double)w->failed);
    append_labelled(out, "requests", "state", "begun", (double)w->begun);
    append_labelled(out, "requests", "state", "waiting", (double)w->waiting);
}

static void append_tokens(const ps_metrics *m, ps_text *out)
{
    const ps_metrics_work *w = &m->work;
    const ps_job *job = m->job;
    begin_metric(out, "tokens_total", "counter", "Tokens that this run computed, by ring.");
    append_of_ring(out, "tokens_total", 0, "prompt", (double)w->prompt_tokens);
    append_of_ring(out, "tokens_total", 0, "generated", (double)w->generated_tokens);
    for (int r = 1; r < job->n_rings && job->ring_counts; r++) {
        const ps_generate_counts *c = &job->ring_counts[r];
        append_of_ring(out, "tokens_total", r, "prompt", (double)c->prompt_tokens);
        append_of_ring(out, "tokens_total", r, "generated", (double)c->new_tokens);
    }
    begin_metric(out, "tokens_per_second", "gauge",
                 "Rate since the update before; in the end that of the whole run.");
    append_of_ring(out, "tokens_per_second", 0, "prompt", m->prompt_rate);
    append_of_ring(out, "tokens_per_second", 0, "generated", m->generated_rate);
    begin_metric(out, "slots", "gauge", "Sequences that can run side by side in a ring.");
    append_sample(out, "slots", job->limits.n_slots);
    begin_metric(out, "slots_used", "gauge", "Sequences that do.");
    append_of_ring(out, "slots_used", 0, NULL, w->slots_used);
}

static void append_caches(const ps_job *job, ps_text *out)
{
    begin_metric(out, "cache_bytes", "gauge", "Memory that the rank has for keys and values.");
    for (int r = 0; r < job->size && job->plan.n_stages > 0; r++) {
        char rank[16];
        snprintf(rank, sizeof rank, "%d", r);
        append_labelled(out, "cache_bytes", "rank", rank,
                        (double)job->plan.stages[r % job->plan.n_stages].size.cache_bytes);
    }
}

static void append_times_of(int rank, const ps_stage_report *r, ps_text *out)
{
    const struct {
        const char *activity;
        int64_t ns;
    } times[] = {{"busy", r->busy_ns}, {"wait", r->wait_ns}, {"send", r->send_ns}};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        ps_text_appendf(out, "pipestep_time_ratio{rank=\"%d\",", rank);
        append_label(out, "host", r->host);
        ps_text_appendf(out, ",activity=\"%s\"}", times[i].activity);
        append_value(r->wall_ns > 0 ? (double)times[i].ns / (double)r->wall_ns : 0.0, out);
    }
}

static void append_times(const ps_job *job, bool ended, ps_text *out)
{
    begin_metric(out, "time_ratio", "gauge",
                 "Share of the time since its first parcel that the rank spent so.");
    if (ended && job->reports) {
        for (int r = 0; r < job->size; r++) {
            // A rank that was lost before it could report has none.
            if (job->reports[r].n_threads > 0) append_times_of(r, &job->reports[r], out);
        }
    } else if (job->pipeline) {
        ps_stage_report own;
        ps_pipeline_report(job->pipeline, &own);
        append_times_of(0, &own, out);
    }
}

static void write_file(ps_metrics *m, bool ended, ps_err err)
{
    const ps_job *job = m->job;
    ps_text *out = &m->text;
    ps_text_clear(out);
    append_info(job, out);
    append_status(job, ended, err, out);
    append_work(m, out);
    append_tokens(m, out);
    append_caches(job, out);
    append_times(job, ended, out);
    ps_file_writer file;
    ps_err written = ps_file_writer_open(job->run.metrics, &file);
    if (!written) {
        ps_file_writer_write(&file, out->data, out->len);
        written = ps_file_writer_replace(&file);
    }
    if (written && !m->warned) ps_log(PS_LOG_WARNING, "--metrics: %s", ps_err_message());
    m->warned = m->warned || written;
}

/* ---- when ---- */

static double rate(uint64_t before, uint64_t now, int64_t ns)
{
    return ns > 0 && now > before ? (double)(now - before) * 1e9 / (double)ns : 0.0;
}

ps_metrics *ps_metrics_open(const ps_job *job)
{
    if (!job->run.metrics) return NULL;
    ps_metrics *m = ps_mem_new(1, sizeof *m);
    m->job = job;
    m->begun_ns = m->updated_ns = ps_clock_now_ns();
    m->next_ns = m->begun_ns + (int64_t)(job->run.metrics_every_s * 1e9);
    write_file(m, false, PS_OK);
    return m;
}

bool ps_metrics_due(const ps_metrics *m)
{
    return m && ps_clock_now_ns() >= m->next_ns;
}

void ps_metrics_update(ps_metrics *m, const ps_metrics_work *work)
{
    if (!m) return;
    const int64_t now = ps_clock_now_ns(), ns = now - m->updated_ns;
    m->work = *work;
    m->prompt_rate = rate(m->last.prompt_tokens, work->prompt_tokens, ns);
    m->generated_rate = rate(m->last.generated_tokens, work->generated_tokens, ns);
    m->last = *work;
    m->updated_ns = now;
    m->next_ns = now + (int64_t)(m->job->run.metrics_every_s * 1e9);
    write_file(m, false, PS_OK);
}

void ps_metrics_end(ps_metrics *m, ps_err err)
{
    if (!m) return;
    // The message of the error is still to be said, or recorded.
    char message[PS_ERR_MESSAGE_BYTES];
    snprintf(message, sizeof message, "%s", ps_err_message());
    const int64_t ns = m->updated_ns - m->begun_ns;
    m->prompt_rate = rate(0, m->work.prompt_tokens, ns);
    m->generated_rate = rate(0, m->work.generated_tokens, ns);
    write_file(m, true, err);
    ps_err_set(err, "%s", message);
}

void ps_metrics_free(ps_metrics *m)
{
    if (!m) return;
    ps_text_release(&m->text);
    ps_mem_free(m);
}

void ps_metrics_add_counts(ps_metrics_work *work, const ps_generate_counts *counts)
{
    work->prompt_tokens = counts->prompt_tokens;
    work->generated_tokens = counts->new_tokens;
    work->slots_used = counts->slots_used;
}
