#include "tool/milestones.h"

#include <xxhash.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

struct ps_milestones {
    uint64_t hash;
    int64_t every, count, begun_ns;
};

ps_milestones *ps_milestones_open(int64_t every)
{
    if (every == 0) return NULL;
    ps_milestones *m = ps_mem_new(1, sizeof *m);
    *m = (ps_milestones){.every = every, .begun_ns = ps_clock_now_ns()};
    return m;
}

void ps_milestones_add(ps_milestones *m, int32_t token)
{
    if (!m) return;
    const uint32_t id = (uint32_t)token;
    const uint8_t bytes[4] = {(uint8_t)id, (uint8_t)(id >> 8), (uint8_t)(id >> 16),
                              (uint8_t)(id >> 24)};
    m->hash = XXH3_64bits_withSeed(bytes, sizeof bytes, m->hash);
    if (++m->count % m->every != 0) return;
    const int64_t now = ps_clock_now_ns();
    ps_log(PS_LOG_STATUS, "%lld tokens, hash %016llx, %.3f s, resident %.1f MiB",
           (long long)m->count, (unsigned long long)m->hash, (double)(now - m->begun_ns) * 1e-9,
           (double)ps_mem_resident() / 1048576.0);
    m->begun_ns = now;
}

void ps_milestones_close(ps_milestones *m)
{
    ps_mem_free(m);
}
