#include "tool/resuming.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "tool/input.h"
#include "tool/run_record.h"
#include "tool/stopping.h"
#include "tool/version.h"

#define AT(field) offsetof(ps_resuming_options, field)

static const ps_opt_choice orders[] = {
    {"input", PS_ORDER_INPUT}, {"finish", PS_ORDER_FINISH}, {NULL, 0}};
static const ps_opt_choice resumes[] = {
    {"auto", PS_RESUME_AUTO}, {"no", PS_RESUME_NO}, {"yes", PS_RESUME_YES}, {NULL, 0}};

static const ps_opt rows[] = {
    {"order", 0, PS_OPT_CHOICE, AT(order), 0, 0, "input", orders, NULL,
     "results in the order of the requests, or as they are finished, which may be another each "
     "time"},
    {"resume", 0, PS_OPT_CHOICE, AT(resume), 0, 0, "auto", resumes, NULL,
     "goes on where an earlier run of the same requests ended: if there was one, not at all, or "
     "surely"},
    {"journal", 0, PS_OPT_FLAG, AT(journal), 0, 0, "true", NULL, NULL,
     "keeps what another run can go on from in OUT.journal, until all is done"},
    {"stop-after", 0, PS_OPT_SECONDS, AT(stop_after_s), 0, 1e9, "0", NULL, "TIME",
     "saves and stops with exit status 75 when the run is so old; 0: never"},
};

ps_opt_group ps_resuming_group(ps_resuming_options *target)
{
    return (ps_opt_group){"Going on", rows, sizeof rows / sizeof rows[0], target};
}

void ps_resuming_add_input(ps_text *inputs, const char *name, const void *bytes, size_t n)
{
    ps_text_appendf(inputs, "%s = %zu bytes, XXH3 %016llx\n", name, n,
                    (unsigned long long)XXH3_64bits(bytes, n));
}

/* Options that change nothing in the results, whatever the command. */
static const char *const always_free[] = {
    "help",       "config",   "quiet",         "verbose",       "progress", "stall-timeout",
    "threads",    "isa",      "slots",         "stages",        "chunk",    "in-flight",
    "split",      "verify",   "start-timeout", "wait",          "bind",     "report",
    "trace",      "log-json", "cache-dir",     "out",           "resume",   "journal",
    "stop-after", "weights",  "metrics",       "metrics-every", NULL};

static bool is_in(const char *const *list, const char *row)
{
    const size_t n = strcspn(row, " ");
    for (; *list; list++) {
        if (strlen(*list) == n && memcmp(row, *list, n) == 0) return true;
    }
    return false;
}

static void describe_identity(const ps_resuming_params *p, ps_text *out)
{
    ps_text dump = {0};
    ps_text_appendf(out, "program = %s\nmodel = %016llx\n", ps_version(),
                    (unsigned long long)p->job->ckpt.identity);
    ps_text_append(out, p->inputs->data, p->inputs->len);
    ps_job_dump_options(p->job, &dump);
    size_t at = 0, n;
    const char *text;
    while (ps_input_next_line(&dump, &at, &text, &n)) {
        if (n == 0 || *text == '#' || is_in(always_free, text) || is_in(p->free_options, text))
            continue;
        ps_text_append(out, text, n);
        ps_text_append_char(out, '\n');
    }
    ps_text_release(&dump);
}

ps_err ps_resuming_open(const ps_resuming_params *p, ps_ledger **out)
{
    const ps_resuming_options *o = p->options;
    ps_text identity = {0};
    describe_identity(p, &identity);
    const ps_ledger_params params = {.out = p->out,
                                     .n = p->n,
                                     .order = (ps_ledger_order)o->order,
                                     .resume = (ps_resume)o->resume,
                                     .journal = o->journal,
                                     .exact = p->exact && p->job->run.gemm != PS_GEMM_BLAS,
                                     .identity = ps_text_str(&identity)};
    ps_err err = ps_ledger_open(&params, out);
    ps_text_release(&identity);
    if (!err && o->stop_after_s > 0.0 && !ps_ledger_journal(*out))
        err = PS_FAIL(PS_ERR_USAGE, "--stop-after: %s has no journal to go on from", p->out);
    return err ? err : ps_run_record_begin(p->job, *out);
}

ps_err ps_resuming_save(ps_ledger *l, ps_err (*note)(void *arg), void *arg, ps_err err)
{
    char message[PS_ERR_MESSAGE_BYTES];
    snprintf(message, sizeof message, "%s", ps_err_message());
    ps_err saved = note ? note(arg) : PS_OK;
    if (!saved) saved = ps_ledger_sync(l);
    if (saved && ps_stopping_asked(err)) return saved;
    return PS_FAIL(err, "%s", message);
}
