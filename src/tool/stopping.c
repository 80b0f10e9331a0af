#include "tool/stopping.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"

static const double MARGIN_PART = 0.1, MARGIN_MIN_S = 5.0, MARGIN_MAX_S = 120.0;

ps_stopping ps_stopping_open(void)
{
    return (ps_stopping){.begun_ns = ps_clock_now_ns()};
}

/* Seconds until the batch system ends the job; 0: it does not say. */
static double seconds_left(void)
{
    const char *text = getenv("SLURM_JOB_END_TIME");
    char *end;
    if (!text || *text == '\0') return 0.0;
    const long long at = strtoll(text, &end, 10);
    const double left_s = (double)(at - ps_clock_unix_s());
    if (*end == '\0' && left_s > 0.0) return left_s;
    ps_log(PS_LOG_WARNING, "SLURM_JOB_END_TIME is \"%.40s\", which is no time to come: not heeded",
           text);
    return 0.0;
}

void ps_stopping_begin(ps_stopping *s, const ps_watch *watch, const char *what, const char *journal,
                       double after_s)
{
    s->watch = watch;
    s->what = what;
    s->journal = journal;
    if (after_s > 0.0) s->after_ns = s->begun_ns + (int64_t)(after_s * 1e9);
    const double left_s = journal ? seconds_left() : 0.0;
    if (left_s <= 0.0) return;
    double margin_s = MARGIN_PART * left_s;
    if (margin_s < MARGIN_MIN_S) margin_s = MARGIN_MIN_S;
    if (margin_s > MARGIN_MAX_S) margin_s = MARGIN_MAX_S;
    const double run_s = left_s > margin_s ? left_s - margin_s : 0.0;
    s->end_ns = ps_clock_now_ns() + (int64_t)(run_s * 1e9);
    ps_log(PS_LOG_DEBUG, "the job ends in %.0f s: saved and stopped in %.0f s", left_s, run_s);
}

static ps_err stop(const ps_stopping *s, ps_err code, const char *why)
{
    if (!s->journal && code == PS_ERR_SAVED) code = PS_ERR_TERMINATED;
    if (!s->journal)
        return PS_FAIL(code, "%s: stopped by %s; nothing is kept to go on from", s->what, why);
    return PS_FAIL(code, "%s: saved and stopped by %s; the same command goes on", s->what, why);
}

ps_err ps_stopping_check(const ps_stopping *s)
{
    switch (ps_watch_asked(s->watch)) {
    case PS_ASKED_NOTHING:
        break;
    case PS_ASKED_SAVE:
        return stop(s, PS_ERR_SAVED, "SIGUSR1");
    case PS_ASKED_INTERRUPT:
        return stop(s, PS_ERR_INTERRUPTED, "SIGINT");
    case PS_ASKED_TERMINATE:
        return stop(s, PS_ERR_TERMINATED, "SIGTERM");
    }
    if (s->after_ns == 0 && s->end_ns == 0) return PS_OK;
    const int64_t now = ps_clock_now_ns();
    if (s->after_ns && now >= s->after_ns) return stop(s, PS_ERR_SAVED, "--stop-after");
    if (s->end_ns && now >= s->end_ns)
        return stop(s, PS_ERR_SAVED, "the end of the job that is near");
    return PS_OK;
}

bool ps_stopping_asked(ps_err err)
{
    return err == PS_ERR_SAVED || err == PS_ERR_INTERRUPTED || err == PS_ERR_TERMINATED;
}
