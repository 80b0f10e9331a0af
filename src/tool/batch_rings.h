/* A batch on several rings: rank 0, which is the head of the first, gives requests to the heads of
 * the others and gets results back, through serve/dispatch.
 *
 *   to a head    REQUEST number   the request's line, then what an earlier run had of it, as notes of
 *                                 the ledger, a line each
 *                STOP 0|1         nothing more comes; 1: notes of all that is under way
 *   from a head  NOTE number      tokens of a sample under way, a line of the ledger
 *                RESULT number    a line of the output
 *                FAILED code      what ended its work; it waits for STOP
 *                DONE             the last after STOP
 *
 * A request goes to the ring that has the fewest sequences, if that has room: fewer than slots, and
 * some that wait so that a slot is not empty until rank 0 looks up.
 *
 * MPI: on heads of rings, where there are several.
 */
#ifndef PS_TOOL_BATCH_RINGS_H
#define PS_TOOL_BATCH_RINGS_H

#include "tool/batch_request.h"
#include "tool/ledger.h"

/* ---- rank 0 ---- */

typedef struct ps_batch_rings ps_batch_rings;

typedef struct ps_batch_rings_params {
    const ps_job *job;
    ps_ledger *ledger;
    size_t n;    // requests
    int n_slots; // of a ring that samples can have
    /* The result of a request that another ring ran; takes the text. */
    ps_err (*on_result)(void *arg, size_t number, ps_text *result);
    void *arg;
} ps_batch_rings_params;

ps_batch_rings *ps_batch_rings_new(const ps_batch_rings_params *params);
void ps_batch_rings_free(ps_batch_rings *r);

/* Whether any ring has room, and the one that gets request `number`, counted as its own from here
 * on until it is over. */
bool ps_batch_rings_have_room(const ps_batch_rings *r);
int ps_batch_rings_choose(ps_batch_rings *r, size_t number, const ps_request *request);
void ps_batch_rings_end_request(ps_batch_rings *r, size_t number);

/* Sends the request to that ring: its line, and begun[n_samples] of it or NULL. */
void ps_batch_rings_give(ps_batch_rings *r, int ring, size_t number, const char *line, size_t n,
                         const ps_completion *begun, int n_samples);

/* Requests that other rings have. */
bool ps_batch_rings_busy(const ps_batch_rings *r);

/* Sends and takes what there is. The error of a head that failed names its rank. */
ps_err ps_batch_rings_poll(ps_batch_rings *r) PS_MUST_CHECK;

/* A moment in which rank 0 has nothing else to do. */
ps_err ps_batch_rings_rest(const ps_batch_rings *r) PS_MUST_CHECK;

/* Stops the others, with notes of what is under way if `save`, and waits for them; the first error on
 * the way, when all have ended or one is lost. */
ps_err ps_batch_rings_stop(ps_batch_rings *r, bool save) PS_MUST_CHECK;

/* ---- all heads ---- */

/* What rank 0 knows of the model's texts and the batch becomes the others': tokenizer, source, tokens
 * of the prefix, tokens after which a sample is noted (0: never). Collective over the heads. */
ps_err ps_batch_rings_share(ps_job *job, ps_tokens *prefix, int *note_every) PS_MUST_CHECK;

/* ---- the other heads ---- */

typedef struct ps_batch_head_params {
    ps_job *job;
    ps_batch_context *batch;
    uint64_t seed; // of the run
    int note_every;
} ps_batch_head_params;

/* Runs requests until rank 0 says STOP. */
ps_err ps_batch_head_run(const ps_batch_head_params *params) PS_MUST_CHECK;

/* ---- private to both ---- */

typedef enum ps_batch_letter {
    PS_BATCH_REQUEST = 1,
    PS_BATCH_STOP,
    PS_BATCH_NOTE,
    PS_BATCH_RESULT,
    PS_BATCH_FAILED,
    PS_BATCH_DONE
} ps_batch_letter;

#endif
