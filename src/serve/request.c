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
    ps_tokens_release(&request->negative);
    if (request->constraint) request->constraint->kind->free(request->constraint);
    *request = (ps_request){0};
}

bool ps_request_is_guided(const ps_request *request)
{
    return request->guidance > 1.0;
}

int64_t ps_request_longest_prompt(const ps_request *request)
{
    const size_t n = request->prompt.n, negative = request->negative.n;
    return (int64_t)(ps_request_is_guided(request) && negative > n ? negative : n);
}

int ps_request_sequences(const ps_request *request)
{
    return request->n_samples * (ps_request_is_guided(request) ? 2 : 1);
}

void ps_completion_release(ps_completion *completion)
{
    ps_tokens_release(&completion->tokens);
    ps_text_release(&completion->text);
    ps_mem_free(completion->logprobs);
    *completion = (ps_completion){0};
}
