/* The one message of the ring.
 *
 *   head     64 bytes
 *   actions  [n_actions] 16 bytes each: begin, end or fork of a slot; done before the rows
 *   rows     [n_rows]    16 bytes each: slot, position, whether logits are wanted, whether the
 *            row's key is hidden from all queries (padding)
 *   data     f32 [n_data, stride], 64-byte aligned: the rows' activations; on the way back to
 *            rank 0 only those of rows whose logits are wanted. Of a STOP parcel: one report for
 *            each rank; of SAVE and LOAD: one ps_parcel_state, in which the first rank that fails
 *            says why.
 *
 * The hash (XXH3-64) covers everything behind itself. Sequence numbers ascend by one: a parcel that
 * was lost, doubled or changed on the way is found at the next hop.
 *
 * All ranks run the same version (checked at the start), so numbers travel as they lie in memory.
 * Errors: PS_ERR_LOST from open, with what differs.   MPI: local.
 */
#ifndef PS_PIPE_PARCEL_H
#define PS_PIPE_PARCEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef enum ps_parcel_kind {
    PS_PARCEL_WORK = 1,
    PS_PARCEL_STOP,
    PS_PARCEL_SAVE, // each stage in turn adds a slot's caches to a state file
    PS_PARCEL_LOAD  // each stage fills a slot from one
} ps_parcel_kind;

typedef enum ps_action_kind { PS_ACTION_END = 1, PS_ACTION_FORK, PS_ACTION_BEGIN } ps_action_kind;

typedef struct ps_parcel_head {
    uint64_t hash;
    uint32_t magic, kind;
    uint64_t sequence, bytes;
    uint32_t n_actions, n_rows, n_data, stride;
    uint64_t slowest_ns; // WORK: what the stage took that took longest so far
    uint64_t reserved;   // zero
} ps_parcel_head;

typedef struct ps_parcel_action {
    int32_t kind, slot;
    int64_t argument; // FORK: slot to copy; BEGIN: most positions of the sequence, 0: no end
} ps_parcel_action;

typedef struct ps_parcel_row {
    int64_t position;
    int32_t slot;
    int16_t wants_logits;
    int16_t hidden;
} ps_parcel_row;

enum { PS_PARCEL_PATH_BYTES = 4096 };

/* The data of SAVE and LOAD. */
typedef struct ps_parcel_state {
    int64_t position; // positions 0 .. position-1 are saved or loaded
    int64_t length;   // LOAD: most positions that the sequence may reach; 0: no end
    int32_t slot;
    int32_t err; // ps_err of the first rank that failed
    char message[PS_ERR_MESSAGE_BYTES];
    char path[PS_PARCEL_PATH_BYTES];
} ps_parcel_state;

_Static_assert(sizeof(ps_parcel_state) % sizeof(float) == 0, "data is counted in floats");
_Static_assert(sizeof(ps_parcel_head) == 64, "the head is 64 bytes");
_Static_assert(sizeof(ps_parcel_action) == 16 && sizeof(ps_parcel_row) == 16, "16 bytes an entry");

/* Sizes of the largest parcel of a run. */
typedef struct ps_parcel_limits {
    int rows_max, n_slots;
    uint32_t stride;
    size_t report_bytes; // of all ranks together, for STOP
} ps_parcel_limits;

/* A parcel in a buffer; the pointers lead into it. */
typedef struct ps_parcel {
    ps_parcel_head *head;
    ps_parcel_action *actions;
    ps_parcel_row *rows;
    float *data;
} ps_parcel;

/* Room for rows_max rows and two actions for each slot. */
size_t ps_parcel_bytes_max(const ps_parcel_limits *limits);

/* Begins a parcel with its numbers of actions and rows; the caller fills entries and data, then
 * seals. */
ps_parcel ps_parcel_begin(char *buffer, ps_parcel_kind kind, uint64_t sequence, int n_actions,
                          int n_rows, uint32_t stride);

/* Sets n_data and bytes, writes the hash; returns the bytes to send. */
size_t ps_parcel_seal(const ps_parcel *parcel, int n_data);

/* Checks a received parcel and points into it. */
ps_err ps_parcel_open(char *buffer, size_t bytes, uint64_t sequence, const ps_parcel_limits *limits,
                      ps_parcel *out) PS_MUST_CHECK;

#endif
