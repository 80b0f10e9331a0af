/* The scheduler: sequences to rows and back.
 *
 * A task is one sequence of tokens that goes through the model: a prompt that is scored, or a
 * prompt whose continuation is sampled token by token. The scheduler gives tasks slots, cuts
 * prompts into chunks, deals sequences that are one token at a time over the parcels in flight (so
 * that every stage of the pipeline has a parcel, without any barrier), and lets prompts ride along
 * with them.
 *
 *   waiting -> has a slot -> rows submitted, rows come back: on_row -> ... -> ps_sched_finish
 *
 * on_row sees the logits of a row that wanted them (of the last known token; of every token if the
 * task wants all). It then appends the next token to the task, finishes, holds or forks it.
 *
 * A pair is two sequences that are looked at together: a task and its partner, each with its own
 * tokens, slot and length. Their last known tokens go into the same parcel, and on_row sees both
 * rows of logits at once. Whoever appends a token to the one appends it to the other. What their
 * tokens have in common at the beginning can be computed once.
 *
 * The numbers do not depend on anything decided here (DESIGN law 2), only the speed does.
 *
 * Memory: a few pointers for each task. Errors: those of the pipeline and of on_row.   MPI: rank 0
 * only.
 */
#ifndef PS_SERVE_SCHED_H
#define PS_SERVE_SCHED_H

#include "pipe/pipeline.h"
#include "serve/tokenizer.h"

typedef struct ps_task {
    ps_tokens tokens;        // the sequence from position `first` on; owned by the caller
    int64_t first;           // tokens before it were submitted and forgotten
    bool wants_all;          // logits of every token from `wants_from` on, not only of the last
    int64_t wants_from;      // a position
    int n_slots;             // slots to reserve when it starts: 1 + forks to come, twice for a pair
    int64_t length;          // most positions that it may reach; 0: no end
    struct ps_task *parent;  // begins as a copy of this held task's cache: `first` is then the
                             // number of its positions; NULL: begins at position 0
    struct ps_task *partner; // makes it a pair; the partner has none, and nothing is done to it
                             // alone. With `first` > 0 the partner begins as a copy of the first
                             // `first` positions of this task, with 0 by itself. NULL: no pair
    ps_logits_wanted wanted; // what is looked at of the next logits; all by default
    void *user;
    // private to the scheduler
    int slot, n_reserved; // slot -1: not begun
    bool held;
    int64_t n_submitted;
    struct ps_task *lead; // whose partner it is
    struct ps_task *next_waiting;
} ps_task;

/* The sequence grows by a token. What has been submitted long ago is forgotten, so that an endless
 * sequence takes no more memory as it goes on. */
void ps_task_append(ps_task *task, int32_t token);

typedef struct ps_sched ps_sched;

/* The row at `position` of the task has these logits[V], valid during the call. Of a pair it is
 * called once, for the task; the partner's are a stride of ps_stage_logits_stride behind. */
typedef ps_err ps_sched_on_row(void *arg, ps_sched *sched, ps_task *task, int64_t position,
                               const float *logits);

typedef struct ps_sched_params {
    ps_pipeline *pipeline; // borrowed
    const ps_spec *spec;   // borrowed
    ps_limits limits;
    int in_flight;
    ps_sched_on_row *on_row;
    void *arg;
} ps_sched_params;

ps_sched *ps_sched_new(const ps_sched_params *params);
void ps_sched_free(ps_sched *sched);

/* Puts a task at the end of the queue; a parent comes before its copies. It has at least one token,
 * at most `context` (where layers without a window bound it), and asks for at most limits.n_slots
 * slots. A pair has tokens of their own behind what they share. Borrowed until it is finished. */
void ps_sched_add(ps_sched *sched, ps_task *task);

int ps_sched_waiting(const ps_sched *sched); // tasks without a slot
bool ps_sched_busy(const ps_sched *sched);   // anything waiting or running
int ps_sched_slots_used(const ps_sched *sched);

/* Submits what can be submitted and handles what came back: one parcel at most of each. */
ps_err ps_sched_step(ps_sched *sched) PS_MUST_CHECK;

/* From within on_row: the task, which is no pair, rests. It keeps its slot and what is cached there,
 * other tasks may begin as copies of it, and it does not count as busy. ps_sched_finish ends it. */
void ps_sched_hold(ps_sched *sched, ps_task *task);

/* Gives a task a slot at once, held, as if positions 0 .. first-1 had gone through: whoever calls
 * fills the slot's caches, then lets it run with ps_sched_resume. Only while nothing is waiting or
 * running, and with a slot free. Returns the slot. */
int ps_sched_place(ps_sched *sched, ps_task *task);
void ps_sched_resume(ps_sched *sched, ps_task *task);

/* From within on_row, or for a held task: the task is over, its slot free. The task is the caller's
 * again. */
void ps_sched_finish(ps_sched *sched, ps_task *task);

/* From within on_row: `child` goes on as a copy of `task`, sharing its cache, in one of the slots
 * that the task reserved; a pair as a copy of a pair. The child's tokens must begin with the rows
 * submitted so far. */
void ps_sched_fork(ps_sched *sched, ps_task *task, ps_task *child);

#endif
