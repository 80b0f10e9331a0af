/* Many songs at a time through one generator, each in its own phase.
 *
 * A song of two phases begins its second as soon as its first is done, while others are anywhere in
 * theirs. What comes out of a song does not depend on those beside it.
 *
 * MPI: rank 0 only.
 */
#ifndef PS_TOOL_ACESTEP_SONGS_H
#define PS_TOOL_ACESTEP_SONGS_H

#include "serve/generate.h"
#include "tool/acestep/song.h"
#include "tool/job.h"

typedef struct ps_songs ps_songs;

/* A song is done; it goes away after the call. */
typedef ps_err ps_songs_done(void *arg, uint64_t number, const ps_song *song);

/* A song cannot go on with its second phase; the message is ps_err_message's. What it returns ends
 * the work, PS_OK goes on with the others. */
typedef ps_err ps_songs_failed(void *arg, uint64_t number, ps_err err);

typedef struct ps_songs_params {
    ps_job *job;
    ps_song_context context;
    ps_songs_done *on_done;
    ps_songs_failed *on_failed;
    void *arg;
} ps_songs_params; // all borrowed

ps_songs *ps_songs_new(const ps_songs_params *params);
void ps_songs_free(ps_songs *s);

/* Begins a song; the request is moved. `number` comes back in the callbacks. Errors: why the song
 * cannot run; nothing is called back then. */
ps_err ps_songs_add(ps_songs *s, uint64_t number, ps_acestep_request *request) PS_MUST_CHECK;

/* Songs under way, and whether one more would only wait. */
bool ps_songs_busy(const ps_songs *s);
bool ps_songs_full(const ps_songs *s);

ps_err ps_songs_step(ps_songs *s) PS_MUST_CHECK;

/* Tokens drawn so far, and how many there will be when the codes that were begun last are done; 0:
 * nobody knows yet. */
typedef struct ps_songs_progress {
    uint64_t n_tokens, n_total;
} ps_songs_progress;

void ps_songs_count(const ps_songs *s, ps_songs_progress *progress, ps_generate_counts *counts);

#endif
