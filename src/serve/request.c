#include "serve/request.h"

#include "base/mem.h"

static const char *const finish_names[PS_FINISH_COUNT] = {
    [PS_FINISH_NONE] = "none", [PS_FINISH_STOP] = "stop", [PS_FINISH_LENGTH] = "length"};

const char *ps_finish_name(ps_finish finish)
{
    return finish_names[finish];
}

/* Arrays that belong to a request are const to everyone else. */
static void free_const(const void *p)
{
    ps_mem_free((void *)(uintptr_t)p);
}

void ps_request_release(ps_request *request)
{
    for (int i = 0; i < request->n_stops; i++) {
        free_const(request->stops[i].bytes);
    }
    ps_mem_free(request->stops);
    free_const(request->sampling.logit_bias);
    free_const(request->sampling.banned);
    ps_tokens_release(&request->prompt);
    *request = (ps_request){0};
}

void ps_completion_release(ps_completion *completion)
{
    ps_tokens_release(&completion->tokens);
    ps_text_release(&completion->text);
    ps_mem_free(completion->logprobs);
    *completion = (ps_completion){0};
}
