/* What requests under way have so far, for another run. Beginning with it is in generate.c. */
#include "base/mem.h"
#include "serve/generate_parts.h"

void ps_generate_free_earlier(ps_generate_job *j)
{
    for (int i = 0; j->earlier && i < j->request.n_samples; i++) {
        ps_completion_release(&j->earlier[i]);
    }
    ps_mem_free(j->earlier);
    j->earlier = NULL;
}

ps_err ps_generate_note(ps_generate *g, size_t every, ps_generate_noter *noter, void *arg)
{
    for (ps_generate_job *j = g->jobs; j; j = j->next) {
        for (int i = 0; i < j->request.n_samples; i++) {
            const size_t n = j->completions[i].tokens.n;
            if (n <= j->noted[i] || n - j->noted[i] < every) continue;
            PS_TRY(noter(arg, j->number, i, j->noted[i], &j->completions[i]));
            j->noted[i] = n;
        }
    }
    return PS_OK;
}
