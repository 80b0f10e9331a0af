/* A result is in the journal before it is in the output. What waits for its turn is kept as text; on
 * going on, results are read from the journal when their turn comes, so that a long journal does
 * not lie in memory. */
#include "tool/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/journal.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/mem.h"
#include "tool/ledger_lines.h"

enum { COMPARE_BYTES = 1 << 16 };

typedef struct entry {
    bool done;
    char *text;              // of the result, until it is written; NULL: it is in the journal
    ps_journal_place result; // where, if there is a journal
    ps_journal_place *notes; // [n_notes] of what was begun; owned
    size_t n_notes, notes_capacity;
} entry;

struct ps_ledger {
    ps_ledger_params params; // its texts are not kept
    char *out, *journal_path;
    char *real;           // the output under its own name; NULL: no regular file
    const char *identity; // while it is opened
    const ps_output *output;
    int fd;
    bool regular;
    entry *entries;   // [n]
    size_t *finished; // [n_finished] numbers in the order of their completion
    size_t n_finished, finished_capacity, n_failed, n_written;
    ps_lock *lock;
    ps_journal *journal;
    bool resumed;
    uint64_t cut_bytes;
    int n_runs;                   // before this one
    int last_ranks, last_threads; // of the run before; 0: none
    ps_text line;                 // scratch
};

static ps_err fail_errno(const ps_ledger *l, const char *verb)
{
    return PS_FAIL(PS_ERR_IO, "%s: cannot be %s: %s", l->out, verb, strerror(errno));
}

/* ---- opening ---- */

/* Pipes and devices are written to as they are. */
static ps_err open_output(ps_ledger *l)
{
    l->fd = STDOUT_FILENO;
    if (strcmp(l->out, "-") == 0) return PS_OK;
    struct stat status;
    const bool special = stat(l->out, &status) == 0 && !S_ISREG(status.st_mode);
    l->fd = open(l->out, (special ? O_WRONLY : O_RDWR | O_CREAT) | O_CLOEXEC, 0666);
    if (l->fd < 0 || fstat(l->fd, &status) != 0) return fail_errno(l, "created");
    l->regular = S_ISREG(status.st_mode);
    if (!l->regular) return PS_OK;
    // Under whatever name the output goes by, it is one file.
    char *real = NULL;
    if (lstat(l->out, &status) == 0 && S_ISLNK(status.st_mode)) real = realpath(l->out, NULL);
    l->real = ps_mem_copy_text(real ? real : l->out);
    free(real);
    return PS_OK;
}

static ps_err renew_lock(void *arg)
{
    return ps_lock_renew(((ps_ledger *)arg)->lock);
}

static ps_err take_lock(ps_ledger *l)
{
    ps_text path = {0}, dead = {0};
    ps_text_appendf(&path, "%s.lock", l->real);
    const ps_err err = ps_lock_take(ps_text_str(&path), &dead, &l->lock);
    if (!err && dead.len > 0) ps_log(PS_LOG_WARNING, "%s: %s", l->out, ps_text_str(&dead));
    ps_text_release(&dead);
    ps_text_release(&path);
    return err;
}

static void add_finished(ps_ledger *l, size_t number)
{
    l->finished =
        ps_mem_grow(l->finished, &l->finished_capacity, l->n_finished + 1, sizeof *l->finished);
    l->finished[l->n_finished++] = number;
    entry *e = &l->entries[number];
    e->done = true;
    ps_mem_free(e->notes);
    e->notes = NULL;
    e->n_notes = e->notes_capacity = 0;
}

static ps_err on_line(void *arg, uint64_t line, const ps_journal_place *place, const char *body,
                      size_t n)
{
    ps_ledger *l = arg;
    if (line == 0) return ps_ledger_check_head(body, n, l->identity, l->params.n, l->journal_path);
    const char kind = n >= 2 && body[1] == ' ' ? body[0] : '\0';
    uint64_t number = 0;
    size_t at = 2;
    bool good = true;
    if (kind == 'P' || kind == 'R' || kind == 'E')
        good = ps_ledger_read_number(body, n, &at, SIZE_MAX, &number) && number < l->params.n &&
               !l->entries[number].done;
    if (!good || kind == '\0' || !strchr("PREJ", kind))
        return PS_FAIL(PS_ERR_FORMAT, "%s:%llu: is nothing that a journal holds", l->journal_path,
                       (unsigned long long)line + 1);
    if (kind == 'J') {
        l->n_runs++;
        ps_ledger_read_run(body, n, &l->last_ranks, &l->last_threads);
        return PS_OK;
    }
    entry *e = &l->entries[number];
    if (kind != 'P') {
        e->result = *place;
        l->n_failed += kind == 'E';
        add_finished(l, (size_t)number);
        return PS_OK;
    }
    e->notes = ps_mem_grow(e->notes, &e->notes_capacity, e->n_notes + 1, sizeof *e->notes);
    e->notes[e->n_notes++] = *place;
    return PS_OK;
}

static ps_err resume(ps_ledger *l, const ps_journal_tick *tick)
{
    if (!l->params.exact && l->params.resume != PS_RESUME_YES)
        return PS_FAIL(PS_ERR_USAGE,
                       "%s: with --gemm blas results depend on what runs side by side, and a run "
                       "that goes on has others: --resume yes goes on all the same, --resume no "
                       "begins again",
                       l->journal_path);
    PS_TRY(ps_journal_open(l->journal_path, on_line, l, tick, &l->cut_bytes, &l->journal));
    l->resumed = true;
    if (l->cut_bytes > 0)
        ps_log(PS_LOG_WARNING, "%s: the last %llu bytes are no whole lines, and were cut off",
               l->journal_path, (unsigned long long)l->cut_bytes);
    return PS_OK;
}

static ps_err begin_anew(ps_ledger *l, const ps_journal_tick *tick)
{
    ps_text_clear(&l->line);
    ps_ledger_write_head(l->identity, l->params.n, &l->line);
    return ps_journal_create(l->journal_path, l->line.data, l->line.len, tick, &l->journal);
}

static ps_err open_journal(ps_ledger *l)
{
    ps_text path = {0};
    ps_text_appendf(&path, "%s.journal", l->real);
    l->journal_path = ps_text_take(&path);
    PS_TRY(take_lock(l));
    const ps_journal_tick tick = {renew_lock, l};
    const bool there = access(l->journal_path, F_OK) == 0;
    if (!there && l->params.resume == PS_RESUME_YES)
        return PS_FAIL(PS_ERR_USAGE, "%s: is not there, nothing to go on from: --resume yes",
                       l->journal_path);
    if (there && l->params.resume != PS_RESUME_NO) return resume(l, &tick);
    return begin_anew(l, &tick);
}

ps_err ps_ledger_open(const ps_ledger_params *params, ps_ledger **out)
{
    ps_ledger *l = ps_mem_new(1, sizeof *l);
    l->params = *params;
    l->out = ps_mem_copy_text(params->out);
    l->identity = params->identity;
    l->entries = ps_mem_new(params->n, sizeof *l->entries);
    *out = l;
    ps_err err = open_output(l);
    if (!err && l->regular && params->journal) err = open_journal(l);
    if (!err && !l->journal && params->resume == PS_RESUME_YES)
        err = PS_FAIL(PS_ERR_USAGE, "%s: has no journal: --resume yes", l->out);
    l->params.out = NULL;
    l->params.identity = l->identity = NULL;
    if (!err) return PS_OK;
    ps_ledger_close(l, false);
    *out = NULL;
    return err;
}

void ps_ledger_close(ps_ledger *l, bool done)
{
    if (!l) return;
    ps_journal_close(l->journal);
    if (done && l->journal) unlink(l->journal_path);
    ps_lock_release(l->lock);
    if (l->fd > STDERR_FILENO) close(l->fd);
    for (size_t i = 0; i < l->params.n; i++) {
        ps_mem_free(l->entries[i].text);
        ps_mem_free(l->entries[i].notes);
    }
    ps_mem_free(l->entries);
    ps_mem_free(l->finished);
    ps_text_release(&l->line);
    ps_mem_free(l->journal_path);
    ps_mem_free(l->real);
    ps_mem_free(l->out);
    ps_mem_free(l);
}

const char *ps_ledger_journal(const ps_ledger *l)
{
    return l->journal ? l->journal_path : NULL;
}

const char *ps_ledger_output(const ps_ledger *l)
{
    return l->real;
}

/* ---- the output ---- */

static entry *next_entry(const ps_ledger *l)
{
    if (l->params.order == PS_ORDER_FINISH)
        return l->n_written < l->n_finished ? &l->entries[l->finished[l->n_written]] : NULL;
    entry *e = l->n_written < l->params.n ? &l->entries[l->n_written] : NULL;
    return e && e->done ? e : NULL;
}

/* The result's line, as it belongs into the output. */
static ps_err read_result(const ps_ledger *l, const entry *e, ps_text *out)
{
    ps_text body = {0};
    ps_err err = ps_journal_read(l->journal, &e->result, &body);
    uint64_t number;
    size_t at = 2;
    if (!err && ps_ledger_read_number(ps_text_str(&body), body.len, &at, SIZE_MAX, &number)) {
        ps_text_append(out, body.data + at, body.len - at);
        ps_text_append_char(out, '\n');
    }
    ps_text_release(&body);
    return err;
}

static ps_err write_text(const ps_ledger *l, const char *text, size_t n)
{
    if (l->fd == STDOUT_FILENO) return ps_output_write(l->output, text, n);
    return ps_file_write_all(l->fd, text, n, l->out);
}

/* Writes what is finished and whose turn it is. */
static ps_err write_ready(ps_ledger *l)
{
    ps_err err = PS_OK;
    for (entry *e = next_entry(l); e && !err; e = next_entry(l)) {
        if (e->text) {
            err = write_text(l, e->text, strlen(e->text));
            ps_mem_free(e->text);
            e->text = NULL;
        } else {
            ps_text_clear(&l->line);
            err = read_result(l, e, &l->line);
            if (!err) err = write_text(l, ps_text_str(&l->line), l->line.len);
        }
        l->n_written++;
    }
    return err;
}

/* Whether the output has these bytes at `offset`. */
static ps_err output_has(const ps_ledger *l, uint64_t offset, uint64_t size, const ps_text *text,
                         bool *has)
{
    *has = size >= offset && size - offset >= text->len;
    if (!*has) return PS_OK;
    char *piece = ps_mem_new(COMPARE_BYTES, 1);
    ps_err err = PS_OK;
    for (size_t at = 0; at < text->len && *has && !err; at += COMPARE_BYTES) {
        const size_t n = text->len - at < COMPARE_BYTES ? text->len - at : COMPARE_BYTES;
        err = ps_file_read_at(l->fd, l->out, offset + at, piece, n);
        if (!err) *has = memcmp(piece, text->data + at, n) == 0;
    }
    ps_mem_free(piece);
    return err;
}

/* Cuts the output behind the last result that the journal confirms; those in front count as
 * written. */
static ps_err cut_output(ps_ledger *l)
{
    struct stat status;
    if (fstat(l->fd, &status) != 0) return fail_errno(l, "looked at");
    const uint64_t size = (uint64_t)status.st_size;
    uint64_t confirmed = 0;
    bool has = true;
    for (entry *e = next_entry(l); e && has; e = next_entry(l)) {
        ps_text_clear(&l->line);
        PS_TRY(read_result(l, e, &l->line));
        PS_TRY(output_has(l, confirmed, size, &l->line, &has));
        if (!has) break;
        confirmed += l->line.len;
        l->n_written++;
    }
    if (ftruncate(l->fd, (off_t)confirmed) != 0) return fail_errno(l, "cut");
    if (lseek(l->fd, (off_t)confirmed, SEEK_SET) < 0) return fail_errno(l, "written");
    if (l->resumed && size > confirmed)
        ps_log(PS_LOG_INFO, "%s: %llu bytes that the journal does not confirm were cut off", l->out,
               (unsigned long long)(size - confirmed));
    return PS_OK;
}

static void tell_resumed(const ps_ledger *l, int n_ranks, int n_threads)
{
    size_t n_begun = 0;
    for (size_t i = 0; i < l->params.n; i++) {
        n_begun += l->entries[i].n_notes > 0;
    }
    ps_text before = {0};
    if (l->last_ranks > 0 && (l->last_ranks != n_ranks || l->last_threads != n_threads))
        ps_text_appendf(&before, "; before on %d ranks with %d threads each, now on %d with %d",
                        l->last_ranks, l->last_threads, n_ranks, n_threads);
    ps_log(PS_LOG_INFO, "%s: goes on: %zu of %zu requests are finished, %zu begun%s", l->out,
           l->n_finished, l->params.n, n_begun, ps_text_str(&before));
    ps_text_release(&before);
}

ps_err ps_ledger_begin(ps_ledger *l, int n_ranks, int n_threads, const ps_output *output)
{
    l->output = output;
    if (l->resumed) tell_resumed(l, n_ranks, n_threads);
    if (l->journal) {
        ps_text_clear(&l->line);
        ps_ledger_write_run(n_ranks, n_threads, &l->line);
        PS_TRY(ps_journal_append(l->journal, l->line.data, l->line.len, NULL));
    }
    if (l->regular) PS_TRY(cut_output(l));
    return write_ready(l);
}

/* ---- results ---- */

bool ps_ledger_has(const ps_ledger *l, size_t number)
{
    return l->entries[number].done;
}

size_t ps_ledger_requests(const ps_ledger *l)
{
    return l->params.n;
}

size_t ps_ledger_finished(const ps_ledger *l)
{
    return l->n_finished;
}

size_t ps_ledger_failed(const ps_ledger *l)
{
    return l->n_failed;
}

int ps_ledger_earlier_runs(const ps_ledger *l)
{
    return l->n_runs;
}

size_t ps_ledger_written(const ps_ledger *l)
{
    return l->n_written;
}

bool ps_ledger_begun(const ps_ledger *l, size_t number, int n_samples, int n_logprobs,
                     int vocab_size, ps_completion *begun)
{
    const entry *e = &l->entries[number];
    bool good = e->n_notes > 0;
    ps_text body = {0};
    memset(begun, 0, (size_t)n_samples * sizeof *begun);
    for (size_t i = 0; i < e->n_notes && good; i++) {
        ps_text_clear(&body);
        good = ps_journal_read(l->journal, &e->notes[i], &body) == PS_OK &&
               ps_ledger_read_note(ps_text_str(&body), body.len, n_samples, n_logprobs, vocab_size,
                                   begun);
    }
    ps_text_release(&body);
    for (int i = 0; i < n_samples && !good; i++) {
        ps_completion_release(&begun[i]);
    }
    return good;
}

ps_err ps_ledger_note(ps_ledger *l, size_t number, int sample, size_t first,
                      const ps_completion *so_far)
{
    if (!l->journal) return PS_OK;
    ps_text_clear(&l->line);
    ps_ledger_write_note(number, sample, first, so_far, &l->line);
    return ps_journal_append(l->journal, l->line.data, l->line.len, NULL);
}

ps_err ps_ledger_note_line(ps_ledger *l, const ps_text *line)
{
    return l->journal ? ps_journal_append(l->journal, line->data, line->len, NULL) : PS_OK;
}

static ps_err put(ps_ledger *l, char kind, size_t number, ps_text *result)
{
    entry *e = &l->entries[number];
    ps_err err = PS_OK;
    if (l->journal) {
        ps_text_clear(&l->line);
        ps_text_appendf(&l->line, "%c %zu ", kind, number);
        ps_text_append(&l->line, result->data, result->len - 1);
        err = ps_journal_append(l->journal, l->line.data, l->line.len, &e->result);
    }
    e->text = ps_text_take(result);
    if (err) return err;
    l->n_failed += kind == 'E';
    add_finished(l, number);
    return write_ready(l);
}

ps_err ps_ledger_put(ps_ledger *l, size_t number, ps_text *result)
{
    return put(l, 'R', number, result);
}

ps_err ps_ledger_put_failed(ps_ledger *l, size_t number, ps_text *result)
{
    return put(l, 'E', number, result);
}

ps_err ps_ledger_sync(ps_ledger *l)
{
    return l->journal ? ps_journal_sync(l->journal) : PS_OK;
}

ps_err ps_ledger_finish(ps_ledger *l)
{
    PS_TRY(ps_ledger_sync(l));
    if (l->fd == STDOUT_FILENO) return PS_OK;
    if (fsync(l->fd) != 0 && errno != EINVAL) return fail_errno(l, "written");
    const int fd = l->fd;
    l->fd = -1;
    return close(fd) == 0 ? PS_OK : fail_errno(l, "written");
}
