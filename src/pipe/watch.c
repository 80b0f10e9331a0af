#include "pipe/watch.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

enum {
    POLL_EVERY_NS = 1000000,
    LEAVE_NS = 50 * 1000000,
    TABLE_AFTER_NS = 100 * 1000000,
    BEATS_PER_TIMEOUT = 10,
    TEXT_BYTES = 200,
    RANK_BYTES = 128,
    SILENCE_BYTES = 2 * RANK_BYTES + 64,
    LAYERS_UNKNOWN = -1
};

static const double BEAT_MAX_S = 1.0, GRACE_MAX_S = 2.0, WARN_PART = 0.25;

typedef enum note_kind { NOTE_BEAT = 1, NOTE_LEAVE } note_kind;

typedef struct note {
    uint32_t kind;
    int32_t code; // of a LEAVE
    uint64_t progress;
    int64_t waiting_ns;
    int32_t waits_for, first_layer, end_layer;
    uint16_t suspended, expects_progress; // the latter of a ring's head
    uint32_t stop, tells;                 // ps_asked; how often SIGUSR2 came
    uint64_t steps;
    char text[TEXT_BYTES]; // of a LEAVE
} note;

_Static_assert(sizeof(note) <= PS_NOTE_BYTES, "a note fits into its message");

/* What is known of another rank. */
typedef struct peer {
    int64_t seen_ns;
    note last;
    bool leave_sent;
    bool missed; // a warning was given
} peer;

/* What rank 0 knows of a ring. */
typedef struct ring_progress {
    uint64_t sum;
    int64_t moved_ns; // when it changed, or nothing had to move
} ring_progress;

struct ps_watch {
    ps_comm *comm;
    double timeout_s;
    int64_t beat_ns, polled_ns, beaten_ns;
    note own;
    int64_t waits_since_ns;
    peer *peers; // [size]; other ranks fill only entry 0
    bool told;
    int ring_size;
    ring_progress *rings; // [size / ring_size]
    bool tell, has_told;
    int64_t table_ns; // when the next table is to be printed; 0: none is
};

static ps_err idle(void *arg)
{
    return ps_watch_poll(arg);
}

ps_watch *ps_watch_open(ps_comm *comm, double timeout_s)
{
    ps_watch *w = ps_mem_new(1, sizeof *w);
    w->comm = comm;
    w->timeout_s = timeout_s;
    const double beat_s = timeout_s / BEATS_PER_TIMEOUT;
    w->beat_ns = (int64_t)((beat_s < BEAT_MAX_S ? beat_s : BEAT_MAX_S) * 1e9);
    w->own = (note){.kind = NOTE_BEAT, .waits_for = -1, .first_layer = LAYERS_UNKNOWN};
    w->peers = ps_mem_new((size_t)ps_comm_size(comm), sizeof *w->peers);
    const int64_t now = ps_clock_now_ns();
    for (int r = 0; r < ps_comm_size(comm); r++) {
        w->peers[r] = (peer){.seen_ns = now, .last = w->own};
    }
    ps_watch_set_ring_size(w, ps_comm_size(comm));
    ps_comm_set_idle(comm, idle, w);
    return w;
}

void ps_watch_close(ps_watch *watch)
{
    if (!watch) return;
    ps_comm_set_idle(watch->comm, NULL, NULL);
    ps_mem_free(watch->rings);
    ps_mem_free(watch->peers);
    ps_mem_free(watch);
}

static int count_rings(const ps_watch *w)
{
    return ps_comm_size(w->comm) / w->ring_size;
}

static void all_moved(ps_watch *w, int64_t now)
{
    for (int i = 0; i < count_rings(w); i++) {
        w->rings[i].moved_ns = now;
    }
}

void ps_watch_set_ring_size(ps_watch *watch, int ring_size)
{
    watch->ring_size = ring_size;
    ps_mem_free(watch->rings);
    watch->rings = ps_mem_new((size_t)count_rings(watch), sizeof *watch->rings);
    all_moved(watch, ps_clock_now_ns());
}

void ps_watch_progress(ps_watch *watch)
{
    watch->own.progress++;
}

void ps_watch_step(ps_watch *watch)
{
    watch->own.progress++;
    watch->own.steps++;
}

void ps_watch_waits_for(ps_watch *watch, int rank)
{
    watch->own.waits_for = rank;
    watch->waits_since_ns = ps_clock_now_ns();
}

void ps_watch_expect_progress(ps_watch *watch, bool expect)
{
    // Rank 0's own ring; it sees the other heads' next sign of life.
    if (expect && !watch->own.expects_progress) watch->rings[0].moved_ns = ps_clock_now_ns();
    watch->own.expects_progress = expect;
}

bool ps_watch_is_told(const ps_watch *watch)
{
    return watch->told;
}

static bool is_off(const ps_watch *w)
{
    return w->timeout_s == 0.0;
}

static void send_beat(ps_watch *w)
{
    const int end = ps_comm_rank(w->comm) == 0 ? ps_comm_size(w->comm) : 1;
    for (int r = 0; r < end; r++) {
        // One that is dropped since the last has not left yet is no loss.
        if (r != ps_comm_rank(w->comm)) ps_comm_note_send(w->comm, r, &w->own, sizeof w->own);
    }
}

static void beat(ps_watch *w, int64_t now)
{
    if (is_off(w)) return;
    w->own.waiting_ns = w->own.waits_for >= 0 ? now - w->waits_since_ns : 0;
    send_beat(w);
    w->beaten_ns = now;
}

void ps_watch_set_layers(ps_watch *watch, int first_layer, int end_layer)
{
    watch->own.first_layer = first_layer;
    watch->own.end_layer = end_layer;
    // Said at once, so that it is known of a rank that dies before its next sign of life.
    beat(watch, ps_clock_now_ns());
}

void ps_watch_suspend(ps_watch *watch, bool suspend)
{
    watch->own.suspended = suspend;
    // Said at once: there will be no beat while this rank is away.
    beat(watch, ps_clock_now_ns());
}

void ps_watch_tell_all(ps_watch *watch, ps_err err, const char *message)
{
    if (is_off(watch)) return;
    note n = {.kind = NOTE_LEAVE, .code = (int32_t)err};
    snprintf(n.text, sizeof n.text, "%.*s", TEXT_BYTES - 1, message);
    // A moment for the notes to leave, since what follows is the end of the process.
    const int64_t begin = ps_clock_now_ns();
    while (ps_clock_now_ns() - begin < LEAVE_NS) {
        for (int r = 0; r < ps_comm_size(watch->comm); r++) {
            if (r == ps_comm_rank(watch->comm) || watch->peers[r].leave_sent) continue;
            watch->peers[r].leave_sent = ps_comm_note_send(watch->comm, r, &n, sizeof n);
        }
        char ignored[PS_NOTE_BYTES];
        int from;
        ps_comm_note_receive(watch->comm, ignored, &from);
        ps_clock_sleep_us(1000);
    }
}

static ps_err take_notes(ps_watch *w, int64_t now)
{
    union {
        note n;
        char bytes[PS_NOTE_BYTES];
    } in;
    int from;
    while (ps_comm_note_receive(w->comm, in.bytes, &from)) {
        w->peers[from].seen_ns = now;
        if (in.n.kind == NOTE_LEAVE) {
            w->told = true;
            in.n.text[TEXT_BYTES - 1] = '\0';
            return PS_FAIL(PS_ERR_LOST, "%s", in.n.text);
        }
        if (in.n.tells != w->peers[from].last.tells) w->tell = true;
        w->peers[from].last = in.n;
    }
    return PS_OK;
}

/* "rank 3 (host, layers 4..7)" */
static void describe_rank(const ps_watch *w, int rank, char out[RANK_BYTES])
{
    const note *state = rank == ps_comm_rank(w->comm) ? &w->own : &w->peers[rank].last;
    const char *host = ps_comm_host(w->comm, rank);
    if (state->first_layer == LAYERS_UNKNOWN) {
        snprintf(out, RANK_BYTES, "rank %d (%s)", rank, host);
    } else if (state->first_layer == state->end_layer) {
        snprintf(out, RANK_BYTES, "rank %d (%s, no layers)", rank, host);
    } else {
        snprintf(out, RANK_BYTES, "rank %d (%s, layers %d..%d)", rank, host, state->first_layer,
                 state->end_layer - 1);
    }
}

/* A rank that waits for the lost one, or -1. */
static int find_waiter(const ps_watch *w, int lost)
{
    for (int r = 0; r < ps_comm_size(w->comm); r++) {
        const note *state = r == ps_comm_rank(w->comm) ? &w->own : &w->peers[r].last;
        if (state->waits_for == lost && r != lost) return r;
    }
    return -1;
}

/* "rank 3 (...) gave no sign of life for 2.0 s; rank 0 (...) waits for it" */
static void describe_silence(const ps_watch *w, int silent, double silent_s,
                             char out[SILENCE_BYTES])
{
    char who[RANK_BYTES], waiter[RANK_BYTES] = "";
    const int waiting = find_waiter(w, silent);
    describe_rank(w, silent, who);
    if (waiting >= 0) describe_rank(w, waiting, waiter);
    snprintf(out, SILENCE_BYTES, "%s gave no sign of life for %.1f s%s%s%s", who, silent_s,
             waiting >= 0 ? "; " : "", waiter, waiting >= 0 ? " waits for it" : "");
}

/* Says once, well before the deadline, that somebody is missed, and once that it is back. Rank 0
 * speaks; of rank 0, rank 1 does. */
static void warn_of_silence(ps_watch *w, int silent, double silent_s)
{
    peer *p = &w->peers[silent];
    if (ps_comm_rank(w->comm) > 1) return;
    if (p->missed == (silent_s > WARN_PART * w->timeout_s)) return;
    p->missed = !p->missed;
    char text[SILENCE_BYTES], who[RANK_BYTES];
    describe_silence(w, silent, silent_s, text);
    describe_rank(w, silent, who);
    if (p->missed) {
        ps_log(PS_LOG_WARNING, "%s; waiting for it until %.0f s", text, w->timeout_s);
    } else {
        ps_log(PS_LOG_WARNING, "%s is back", who);
    }
}

/* Rank 0 speaks for all. Without it rank 1 does: the others leave it the time to do so, since the
 * first rank that leaves may end all. */
static double deadline_s(const ps_watch *w)
{
    const double grace_s = 0.5 * w->timeout_s < GRACE_MAX_S ? 0.5 * w->timeout_s : GRACE_MAX_S;
    return ps_comm_rank(w->comm) > 1 ? w->timeout_s + grace_s : w->timeout_s;
}

static ps_err check_silence(ps_watch *w, int64_t now)
{
    const int end = ps_comm_rank(w->comm) == 0 ? ps_comm_size(w->comm) : 1;
    for (int r = 0; r < end; r++) {
        if (r == ps_comm_rank(w->comm) || w->peers[r].last.suspended) continue;
        const double silent_s = ps_clock_seconds_between(w->peers[r].seen_ns, now);
        warn_of_silence(w, r, silent_s);
        if (silent_s <= deadline_s(w)) continue;
        char text[SILENCE_BYTES];
        describe_silence(w, r, silent_s, text);
        return PS_FAIL(PS_ERR_LOST, "%s", text);
    }
    return PS_OK;
}

static const note *note_of(const ps_watch *w, int rank)
{
    return rank == ps_comm_rank(w->comm) ? &w->own : &w->peers[rank].last;
}

/* The rank of ranks first .. end-1 that waits for longest, rank 0 aside; -1: none does. */
static int find_longest_waiter(const ps_watch *w, int first, int end)
{
    int longest = -1;
    int64_t longest_ns = -1;
    for (int r = first > 0 ? first : 1; r < end; r++) {
        const note *n = note_of(w, r);
        if (n->waits_for < 0 || n->waiting_ns <= longest_ns) continue;
        longest = r;
        longest_ns = n->waiting_ns;
    }
    return longest;
}

static ps_err check_ring(ps_watch *w, int ring, int64_t now)
{
    ring_progress *p = &w->rings[ring];
    const int first = ring * w->ring_size, end = first + w->ring_size;
    uint64_t sum = 0;
    for (int r = first; r < end; r++) {
        sum += note_of(w, r)->progress;
    }
    if (sum != p->sum || !note_of(w, first)->expects_progress) {
        p->sum = sum;
        p->moved_ns = now;
    }
    const double still_s = ps_clock_seconds_between(p->moved_ns, now);
    if (still_s <= w->timeout_s) return PS_OK;
    char what[RANK_BYTES] = "nothing", waiter[RANK_BYTES], who[RANK_BYTES];
    if (count_rings(w) > 1)
        snprintf(what, sizeof what, "nothing in the ring of ranks %d..%d", first, end - 1);
    const int longest = find_longest_waiter(w, first, end);
    if (longest < 0)
        return PS_FAIL(PS_ERR_LOST, "%s has moved for %.1f s although work is under way", what,
                       still_s);
    describe_rank(w, longest, waiter);
    describe_rank(w, w->peers[longest].last.waits_for, who);
    return PS_FAIL(PS_ERR_LOST,
                   "%s has moved for %.1f s although work is under way; %s waits for %s", what,
                   still_s, waiter, who);
}

/* Rank 0: does anything move in each ring while parcels are under way there? */
static ps_err check_progress(ps_watch *w, int64_t now)
{
    for (int i = 0; ps_comm_rank(w->comm) == 0 && i < count_rings(w); i++) {
        PS_TRY(check_ring(w, i, now));
    }
    return PS_OK;
}

/* ---- signals ---- */

ps_asked ps_watch_asked(const ps_watch *watch)
{
    uint32_t stop = ps_signals_asked();
    for (int r = 0; ps_comm_rank(watch->comm) == 0 && r < ps_comm_size(watch->comm); r++) {
        if (watch->peers[r].last.stop > stop) stop = watch->peers[r].last.stop;
    }
    return (ps_asked)stop;
}

bool ps_watch_take_tell(ps_watch *watch)
{
    const bool told = watch->has_told;
    watch->has_told = false;
    return told;
}

/* One line for each rank, as it last said. */
static void print_table(ps_watch *w, int64_t now)
{
    for (int r = 0; r < ps_comm_size(w->comm); r++) {
        const bool own = r == ps_comm_rank(w->comm);
        const note *n = own ? &w->own : &w->peers[r].last;
        const int64_t waiting_ns = own ? now - w->waits_since_ns : n->waiting_ns;
        char who[RANK_BYTES], waits[RANK_BYTES] = "works";
        describe_rank(w, r, who);
        if (n->suspended) snprintf(waits, sizeof waits, "is away, reading or writing files");
        if (n->waits_for >= 0)
            snprintf(waits, sizeof waits, "waits for rank %d since %.1f s", n->waits_for,
                     (double)waiting_ns * 1e-9);
        ps_log(PS_LOG_STATUS, "%s: %llu steps, %s; %.1f s ago", who, (unsigned long long)n->steps,
               waits, own ? 0.0 : ps_clock_seconds_between(w->peers[r].seen_ns, now));
    }
    w->has_told = true;
}

/* Passes on what was asked of this rank; rank 0 prints the table, once for all who were asked, and
 * a moment later, when they have said how they are. */
static void heed_signals(ps_watch *w, int64_t now)
{
    const bool first = ps_comm_rank(w->comm) == 0;
    if (ps_signals_take_tell()) {
        w->tell = true;
        w->own.tells++;
        if (!first) beat(w, now);
    }
    if (!first && w->own.stop != ps_signals_asked()) {
        w->own.stop = ps_signals_asked();
        beat(w, now);
    }
    if (first && w->tell && w->table_ns == 0) w->table_ns = now + TABLE_AFTER_NS;
    w->tell = false;
    if (w->table_ns == 0 || now < w->table_ns) return;
    w->table_ns = 0;
    print_table(w, now);
}

ps_err ps_watch_poll(ps_watch *w)
{
    if (is_off(w)) return PS_OK;
    const int64_t now = ps_clock_now_ns();
    if (now - w->polled_ns < POLL_EVERY_NS) return PS_OK;
    // Who was away itself (stopped, swapped out) cannot judge the others' silence yet.
    const bool was_away = (double)(now - w->polled_ns) > 0.5e9 * w->timeout_s;
    w->polled_ns = now;
    for (int r = 0; was_away && r < ps_comm_size(w->comm); r++) {
        w->peers[r].seen_ns = now;
    }
    if (was_away) all_moved(w, now);
    if (now - w->beaten_ns >= w->beat_ns) beat(w, now);
    PS_TRY(take_notes(w, now));
    heed_signals(w, now);
    PS_TRY(check_silence(w, now));
    return check_progress(w, now);
}
