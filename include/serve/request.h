/* What somebody asks for, and what comes out: plain data between the tool floor and the generator.
 *
 * Field names follow the OpenAI completions interface.   MPI: local.
 */
#ifndef PS_SERVE_REQUEST_H
#define PS_SERVE_REQUEST_H

#include "serve/constraint.h"
#include "serve/sampler.h"
#include "serve/stop.h"
#include "serve/tokenizer.h"

enum { PS_REQUEST_LOGPROBS_MAX = 20, PS_REQUEST_SAMPLES_MAX = 1024, PS_REQUEST_ENDS_MAX = 4 };

#define PS_REQUEST_ENDLESS (-1)

typedef struct ps_request {
    ps_tokens prompt;   // whole, with bos where it belongs; owned
    ps_tokens negative; // with guidance: what the output is led away from, whole; owned
    double guidance;    // scale of guidance, the sampler's; <= 1: off, and `negative` not looked at
    ps_constraint *constraint; // each sample works on a copy; NULL: none; owned
    int64_t max_tokens;        // new tokens; PS_REQUEST_ENDLESS never stops
    bool streamed;             // tokens and text go to on_token alone; an endless request is
    int n_samples;
    int n_logprobs;  // -1: none; else that many alternatives beside the chosen token
    bool ignore_eos; // nor end_ids
    int32_t end_ids[PS_REQUEST_ENDS_MAX]; // [n_end_ids] tokens that end it, besides the model's
    int n_end_ids;
    ps_sample_params sampling; // sample number 0; its arrays are owned by the request
    ps_stop_string *stops;     // [n_stops] owned, bytes too
    int n_stops;
    bool keeps_state; // ps_generate_save can follow; one sample with an end, neither guidance nor
                      // constraint
} ps_request;

void ps_request_release(ps_request *request);

bool ps_request_is_guided(const ps_request *request);

/* Tokens of the longer prompt, and how many sequences its samples are: two each with guidance. */
int64_t ps_request_longest_prompt(const ps_request *request);
int ps_request_sequences(const ps_request *request);

typedef enum ps_finish {
    PS_FINISH_NONE,
    PS_FINISH_STOP,   // an end token or a stop string
    PS_FINISH_LENGTH, // max_tokens, or the context is full
    PS_FINISH_COUNT
} ps_finish;

const char *ps_finish_name(ps_finish finish);

typedef struct ps_completion {
    ps_tokens tokens; // new tokens, an end token included
    ps_text text;     // new text, without end tokens and stop strings
    ps_finish finish;
    ps_sampler_logprobs *logprobs; // [tokens.n] if asked for
    size_t logprobs_capacity;
} ps_completion;

void ps_completion_release(ps_completion *completion);

#endif
