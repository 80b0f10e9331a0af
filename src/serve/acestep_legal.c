/* Sets of tokens as ranges. They are built in ascending order, so that neighbours melt together. */
#include <assert.h>

#include "base/mem.h"
#include "serve/acestep_parts.h"

void acestep_legal_clear(acestep_legal *legal)
{
    legal->n = 0;
    legal->choice = CHOICE_FREE;
}

void acestep_legal_add(acestep_legal *legal, int32_t first, int32_t end)
{
    if (first >= end) return;
    ps_id_range *last = legal->n > 0 ? &legal->ranges[legal->n - 1] : NULL;
    assert(!last || first >= last->end);
    if (last && last->end == first) {
        last->end = end;
        return;
    }
    legal->ranges =
        ps_mem_grow(legal->ranges, &legal->capacity, legal->n + 1, sizeof *legal->ranges);
    legal->ranges[legal->n++] = (ps_id_range){first, end};
}

ps_id_range acestep_legal_codes(const ps_acestep_vocabulary *v)
{
    return (ps_id_range){v->ids.first_code, v->ids.first_code + v->ids.n_legal_codes};
}

void acestep_legal_add_text(acestep_legal *legal, const ps_acestep_vocabulary *v, int32_t excepted)
{
    const ps_id_range codes = acestep_legal_codes(v), one = {excepted, excepted + 1};
    const bool is_before = excepted < codes.first;
    const ps_id_range *hole[2] = {is_before ? &one : &codes, is_before ? &codes : &one};
    int32_t from = 0;
    for (int i = 0; i < 2; i++) {
        if (hole[i]->first < 0) continue;
        acestep_legal_add(legal, from, hole[i]->first);
        from = hole[i]->end;
    }
    acestep_legal_add(legal, from, v->n_tokens);
}

int32_t acestep_legal_largest(const acestep_legal *legal, const float *logits)
{
    assert(legal->n > 0);
    int32_t largest = legal->ranges[0].first;
    for (size_t i = 0; i < legal->n; i++) {
        for (int32_t id = legal->ranges[i].first; id < legal->ranges[i].end; id++) {
            if (logits[id] > logits[largest]) largest = id;
        }
    }
    return largest;
}
