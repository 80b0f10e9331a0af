#include "tool/run_record.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/lock.h"
#include "tool/input.h"
#include "tool/version.h"

enum { VERSION = 1 };

static void append_text(ps_text *out, const char *key, const char *value)
{
    ps_text_appendf(out, "\"%s\": ", key);
    ps_json_append_text(out, value, strlen(value));
    ps_text_append_str(out, ",\n");
}

/* null for NULL. */
static void append_path(ps_text *out, const char *key, const char *path)
{
    if (path) {
        append_text(out, key, path);
    } else {
        ps_text_appendf(out, "\"%s\": null,\n", key);
    }
}

static void append_end(bool ended, ps_err err, ps_text *out)
{
    append_text(out, "state", ended ? "ended" : "running");
    if (ended) {
        ps_text_appendf(out, "\"exit_status\": %d,\n", ps_err_exit_status(err));
    } else {
        ps_text_append_str(out, "\"exit_status\": null,\n");
    }
    append_text(out, "reason", !ended ? "" : err ? ps_err_name(err) : "done");
    append_text(out, "message", ended && err ? ps_err_message() : "");
}

static void append_command(const ps_job *job, ps_text *out)
{
    char mpi[256];
    ps_comm_library_version(mpi, sizeof mpi);
    append_text(out, "program_version", ps_version());
    append_text(out, "mpi", mpi);
    append_text(out, "command", job->command->name);
    ps_text_append_str(out, "\"arguments\": [");
    for (int i = 0; i < job->argc; i++) {
        if (i > 0) ps_text_append_str(out, ", ");
        ps_json_append_text(out, job->argv[i], strlen(job->argv[i]));
    }
    ps_text_append_str(out, "],\n\"options\": [");
    ps_text dump = {0};
    const char *line;
    size_t at = 0, n;
    bool first = true;
    ps_job_dump_options(job, &dump);
    while (ps_input_next_line(&dump, &at, &line, &n)) {
        if (n == 0 || *line == '#') continue;
        if (!first) ps_text_append_str(out, ", ");
        ps_json_append_text(out, line, n);
        first = false;
    }
    ps_text_release(&dump);
    ps_text_append_str(out, "],\n");
}

static void append_place(ps_text *out)
{
    char host[256] = "";
    ps_text batch_job = {0};
    int restart;
    gethostname(host, sizeof host - 1);
    ps_lock_batch_job(&batch_job, &restart);
    append_text(out, "host", host);
    ps_text_appendf(out, "\"pid\": %ld,\n", (long)getpid());
    append_text(out, "job", ps_text_str(&batch_job));
    ps_text_appendf(out, "\"restart\": %d,\n", restart);
    ps_text_release(&batch_job);
}

static void append_times(const ps_job *job, bool ended, ps_text *out)
{
    char utc[PS_CLOCK_UTC_BYTES];
    ps_clock_utc_text(job->begun_unix_s, utc);
    append_text(out, "begun", utc);
    ps_clock_utc_text(ps_clock_unix_s(), utc);
    append_path(out, "ended", ended ? utc : NULL);
}

static void append_stages(const ps_job *job, ps_text *out)
{
    ps_text_appendf(out, "\"ranks\": %d,\n\"stages\": [", job->size);
    for (int r = 0; r < job->size; r++) {
        const char *host = job->comm ? ps_comm_host(job->comm, r) : "";
        ps_text_appendf(out, "%s{\"rank\": %d, \"ring\": %d, \"host\": ", r > 0 ? ", " : "", r,
                        job->n_stages > 0 ? r / job->n_stages : 0);
        ps_json_append_text(out, host, strlen(host));
        if (job->plan.n_stages > 0) {
            const ps_part *part = &job->plan.stages[r % job->plan.n_stages].part;
            ps_text_appendf(out, ", \"first_layer\": %d, \"end_layer\": %d", part->first_layer,
                            part->end_layer);
        } else {
            ps_text_append_str(out, ", \"first_layer\": null, \"end_layer\": null");
        }
        int threads = job->reports ? job->reports[r].n_threads : 0;
        if (r == 0 && job->engine.pool) threads = ps_pool_threads(job->engine.pool);
        if (threads > 0) {
            ps_text_appendf(out, ", \"threads\": %d}", threads);
        } else {
            ps_text_append_str(out, ", \"threads\": null}");
        }
    }
    ps_text_append_str(out, "],\n");
}

static void append_work(const ps_job *job, const ps_ledger *l, ps_text *out)
{
    const size_t all = ps_ledger_requests(l), failed = ps_ledger_failed(l);
    const size_t with_result = ps_ledger_finished(l);
    const ps_generate_counts *c = &job->counts;
    ps_text_appendf(out,
                    "\"requests\": {\"all\": %zu, \"finished\": %zu, \"failed\": %zu, "
                    "\"left\": %zu},\n",
                    all, with_result - failed, failed, all - with_result);
    if (job->n_rings > 1 && !job->ring_counts) {
        ps_text_append_str(out, "\"tokens\": null,\n");
    } else {
        ps_text_appendf(out,
                        "\"tokens\": {\"prompt\": %llu, \"generated\": %llu, \"begun\": %llu},\n",
                        (unsigned long long)c->prompt_tokens, (unsigned long long)c->new_tokens,
                        (unsigned long long)c->begun_tokens);
    }
    ps_text_appendf(out, "\"earlier_runs\": %d\n", ps_ledger_earlier_runs(l));
}

void ps_run_record_describe(const ps_job *job, const ps_ledger *l, bool ended, ps_err err,
                            ps_text *out)
{
    ps_text_appendf(out, "{\n\"format\": \"pipestep-run\",\n\"version\": %d,\n", VERSION);
    append_end(ended, err, out);
    append_command(job, out);
    append_text(out, "model", job->ckpt.path);
    ps_text_appendf(out, "\"model_identity\": \"%016llx\",\n",
                    (unsigned long long)job->ckpt.identity);
    append_place(out);
    append_times(job, ended, out);
    append_stages(job, out);
    append_path(out, "output", ps_ledger_output(l));
    // A run that is done removes it.
    append_path(out, "journal", ended && !err ? NULL : ps_ledger_journal(l));
    append_work(job, l, out);
    ps_text_append_str(out, "}\n");
}

static ps_err write_record(const ps_job *job, const ps_ledger *l, bool ended, ps_err err)
{
    ps_text path = {0}, text = {0};
    ps_file_writer file;
    ps_text_appendf(&path, "%s.run.json", ps_ledger_output(l));
    ps_run_record_describe(job, l, ended, err, &text);
    ps_err written = ps_file_writer_open(ps_text_str(&path), &file);
    if (!written) {
        ps_file_writer_write(&file, text.data, text.len);
        written = ps_file_writer_commit(&file);
    }
    ps_text_release(&path);
    ps_text_release(&text);
    return written;
}

ps_err ps_run_record_begin(const ps_job *job, const ps_ledger *l)
{
    return ps_ledger_output(l) ? write_record(job, l, false, PS_OK) : PS_OK;
}

ps_err ps_run_record_end(const ps_job *job, const ps_ledger *l, ps_err err)
{
    return l && ps_ledger_output(l) ? write_record(job, l, true, err) : PS_OK;
}
