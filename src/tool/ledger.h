/* The ledger of a batch: results of numbered requests go through a journal to an output, and a job
 * that was killed goes on where its journal ends.
 *
 *   OUTPUT           a projection of the journal: each result once, in the order of the numbers or
 *                    of their completion
 *   OUTPUT.journal   what is true (base/journal.h), until the job is done. Lines:
 *                      H {...}                   format, requests, what the job was begun with
 *                      J {...}                   a run begins: host, job, ranks, threads, time
 *                      P number sample first {"tokens": [...], "logprobs": [[...], ...]}
 *                                                tokens first.. of a sample under way
 *                      R number result           the whole line of the output
 *                      E number result           the same of a request that could not run
 *   OUTPUT.lock      the job that writes them (base/lock.h)
 *
 * It knows nothing of what is asked: a request is a number, a result is bytes that end in a line
 * end. Outputs that are no regular files (pipes, standard output) have neither journal nor lock.
 *
 * A journal of another model, other options or other inputs is refused, with a line that names what
 * differs. On going on the output is cut back to what the journal confirms.
 *
 * Errors: PS_ERR_USAGE (refusals), PS_ERR_IO, PS_ERR_FORMAT, PS_ERR_LIMIT (locked), PS_ERR_CLOSED.
 * MPI: rank 0.
 */
#ifndef PS_TOOL_LEDGER_H
#define PS_TOOL_LEDGER_H

#include "serve/request.h"
#include "tool/output.h"

typedef enum ps_ledger_order { PS_ORDER_INPUT, PS_ORDER_FINISH } ps_ledger_order;

typedef enum ps_resume {
    PS_RESUME_AUTO, // goes on where there is a journal
    PS_RESUME_NO,   // begins again
    PS_RESUME_YES   // there must be a journal
} ps_resume;

typedef struct ps_ledger_params {
    const char *out; // - is standard output
    size_t n;        // requests 0 .. n-1
    ps_ledger_order order;
    ps_resume resume;
    bool journal;         // keep one where the output allows it
    bool exact;           // a run that goes on gives the same bytes: else only PS_RESUME_YES does
    const char *identity; // lines "name = value" that must be the same in the run that goes on
} ps_ledger_params;

typedef struct ps_ledger ps_ledger;

/* Opens output, lock and journal; nothing is written to the output yet. */
ps_err ps_ledger_open(const ps_ledger_params *params, ps_ledger **out) PS_MUST_CHECK;

/* Removes the lock, and with `done` the journal: the job is over, and what it made is on the disk.
 */
void ps_ledger_close(ps_ledger *l, bool done);

/* The run begins: notes it, brings the output in order, and writes what the journal has for it.
 * `output` is how standard output is written; borrowed from here on. */
ps_err ps_ledger_begin(ps_ledger *l, int n_ranks, int n_threads,
                       const ps_output *output) PS_MUST_CHECK;

/* Whether the result is there already; how many requests there are, how many have their result, for
 * how many of these it is that they could not run, and how many results are in the output. */
bool ps_ledger_has(const ps_ledger *l, size_t number);
size_t ps_ledger_requests(const ps_ledger *l);
size_t ps_ledger_finished(const ps_ledger *l);
size_t ps_ledger_failed(const ps_ledger *l);
size_t ps_ledger_written(const ps_ledger *l);

/* Runs before this one that had a part in it. */
int ps_ledger_earlier_runs(const ps_ledger *l);

/* What an earlier run had of a request: begun[n_samples], the caller's. False, and nothing, when
 * there is nothing, or nothing that fits such a request. */
bool ps_ledger_begun(const ps_ledger *l, size_t number, int n_samples, int n_logprobs,
                     int vocab_size, ps_completion *begun);

/* A sample under way has these tokens from `first` on; for ps_generate_note. */
ps_err ps_ledger_note(ps_ledger *l, size_t number, int sample, size_t first,
                      const ps_completion *so_far) PS_MUST_CHECK;

/* The same, written by ps_ledger_write_note somewhere else (tool/ledger_lines.h). */
ps_err ps_ledger_note_line(ps_ledger *l, const ps_text *line) PS_MUST_CHECK;

/* A request is done; takes the text, a line with its end. */
ps_err ps_ledger_put(ps_ledger *l, size_t number, ps_text *result) PS_MUST_CHECK;

/* The same for a request that could not run: the result says why. */
ps_err ps_ledger_put_failed(ps_ledger *l, size_t number, ps_text *result) PS_MUST_CHECK;

/* What is in the journal is on the disk. */
ps_err ps_ledger_sync(ps_ledger *l) PS_MUST_CHECK;

/* All results are there: output and journal are on the disk. */
ps_err ps_ledger_finish(ps_ledger *l) PS_MUST_CHECK;

/* Path of the journal; NULL: there is none. */
const char *ps_ledger_journal(const ps_ledger *l);

/* Path of the output, all links followed; NULL: it is no regular file. */
const char *ps_ledger_output(const ps_ledger *l);

#endif
