#include "tool/trace.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

enum { SPANS_MAX = 1 << 18 };

/* Travels as it lies in memory, as parcels do. */
typedef struct span {
    int64_t begin_ns, end_ns;
    uint64_t sequence;
    int32_t kind, reserved;
} span;

struct ps_trace {
    span *spans; // [SPANS_MAX]
    size_t n;
    uint64_t dropped;
    int rank;
    bool worked; // anything but waiting for the first parcel
};

static const char *const names[PS_SPAN_COUNT] = {[PS_SPAN_WAIT] = "wait",
                                                 [PS_SPAN_EMBED] = "embed",
                                                 [PS_SPAN_BLOCKS] = "blocks",
                                                 [PS_SPAN_HEAD] = "head",
                                                 [PS_SPAN_SEND] = "send"};

static void note(void *arg, ps_stage_span kind, uint64_t sequence, int64_t begin_ns, int64_t end_ns)
{
    ps_trace *t = arg;
    // The report's time begins with the first parcel, and so does the trace.
    if (kind == PS_SPAN_WAIT && !t->worked) return;
    t->worked = true;
    if (t->n == SPANS_MAX) {
        t->dropped++;
        return;
    }
    t->spans[t->n++] = (span){begin_ns, end_ns, sequence, (int32_t)kind, 0};
}

ps_trace *ps_trace_open(ps_pipeline *pipeline, int rank)
{
    ps_trace *t = ps_mem_new(1, sizeof *t);
    t->spans = ps_mem_new(SPANS_MAX, sizeof *t->spans);
    t->rank = rank;
    ps_pipeline_observe_spans(pipeline, note, t);
    return t;
}

void ps_trace_free(ps_trace *t)
{
    if (!t) return;
    ps_mem_free(t->spans);
    ps_mem_free(t);
}

static void append_process(const ps_stage_report *r, uint64_t dropped, ps_text *out)
{
    ps_text name = {0};
    ps_text_appendf(&name, "rank %d (%s), layers %d to %d", r->rank, r->host, r->first_layer,
                    r->end_layer - 1);
    if (r->first_layer == r->end_layer) {
        ps_text_clear(&name);
        ps_text_appendf(&name, "rank %d (%s), no layers", r->rank, r->host);
    }
    ps_text_appendf(out, "%s{\"ph\": \"M\", \"name\": \"process_name\", \"pid\": %d, \"args\": ",
                    r->rank ? ",\n" : "", r->rank);
    ps_text_append_str(out, "{\"name\": ");
    ps_json_append_text(out, name.data, name.len);
    ps_text_appendf(out, ", \"dropped\": %llu}}", (unsigned long long)dropped);
    ps_text_release(&name);
}

/* Events in microseconds from the moment that rank 0's first span began. */
static void append_spans(int rank, const span *spans, size_t n, int64_t zero_ns, ps_text *out)
{
    for (size_t i = 0; i < n; i++) {
        const span *s = &spans[i];
        ps_text_appendf(
            out,
            ",\n{\"ph\": \"X\", \"name\": \"%s\", \"pid\": %d, \"tid\": 0, \"ts\": %.3f, "
            "\"dur\": %.3f, \"args\": {\"parcel\": %llu}}",
            names[s->kind], rank, (double)(s->begin_ns - zero_ns) * 1e-3,
            (double)(s->end_ns - s->begin_ns) * 1e-3, (unsigned long long)s->sequence);
    }
}

/* Spans of one rank, on rank 0. `from` holds what it sent: how many were dropped, then spans. */
static void append_rank(const ps_text *from, const ps_stage_report *report, int64_t zero_ns,
                        ps_text *out)
{
    uint64_t dropped;
    memcpy(&dropped, from->data, sizeof dropped);
    const size_t n = (from->len - sizeof dropped) / sizeof(span);
    span *spans = ps_mem_new(n, sizeof *spans);
    if (n > 0) memcpy(spans, from->data + sizeof dropped, n * sizeof *spans);
    append_process(report, dropped, out);
    append_spans(report->rank, spans, n, zero_ns, out);
    ps_mem_free(spans);
}

static ps_err write_file(const char *path, const ps_text *text)
{
    ps_file_writer file;
    PS_TRY(ps_file_writer_open(path, &file));
    ps_file_writer_write(&file, text->data, text->len);
    return ps_file_writer_commit(&file);
}

ps_err ps_trace_write(const ps_trace *t, ps_comm *comm, const ps_stage_report *reports,
                      const char *path)
{
    ps_text json = {0};
    ps_err err = PS_OK;
    const int64_t zero_ns = t->n > 0 ? t->spans[0].begin_ns : 0;
    ps_text_append_str(&json, "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n");
    for (int r = 0; r < ps_comm_size(comm) && !err; r++) {
        int64_t ahead_ns;
        ps_text from = {0};
        if (t->rank == r) {
            ps_text_append(&from, (const char *)&t->dropped, sizeof t->dropped);
            ps_text_append(&from, (const char *)t->spans, t->n * sizeof *t->spans);
        }
        err = ps_comm_compare_clocks(comm, r, &ahead_ns);
        if (!err) err = ps_comm_bring(comm, r, &from);
        if (!err && t->rank == 0) append_rank(&from, &reports[r], zero_ns + ahead_ns, &json);
        ps_text_release(&from);
    }
    ps_text_append_str(&json, "\n]}\n");
    if (!err && t->rank == 0) err = write_file(path, &json);
    ps_text_release(&json);
    return err == PS_ERR_LOST ? err : ps_comm_agree(comm, err);
}
