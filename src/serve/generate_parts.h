/* What the halves of the generator share: requests under way (generate.c), and those that come from
 * a state or leave one (generate_state.c). */
#ifndef PS_SERVE_GENERATE_PARTS_H
#define PS_SERVE_GENERATE_PARTS_H

#include "serve/generate.h"

typedef struct ps_generate_job ps_generate_job;

/* One sample under way. */
typedef struct ps_sequence {
    ps_task task;
    ps_task negative; // its partner, with guidance
    ps_generate_job *job;
    int sample;
    ps_sampler *sampler;
    ps_detokenizer *detokenizer; // NULL without a tokenizer
    ps_stop *stop;
    ps_constraint *constraint; // NULL: none
    ps_expectation expected;   // of the next token, with a constraint
    ps_completion *completion;
    int64_t n_new;
    int64_t token_ns; // when the last token came
} ps_sequence;

struct ps_generate_job {
    uint64_t number;
    ps_request request;
    ps_completion *completions; // [n_samples]
    ps_completion *earlier;     // [n_samples] of another run, until they are fed again; NULL
    size_t *noted;              // [n_samples] tokens that ps_generate_note has shown, or knows
    ps_sequence *sequences;     // [wave] those of the present wave
    int wave, first_sample;     // samples first_sample .. + wave are under way
    int n_open;                 // of the wave, not yet done
    bool begun;                 // the wave has seen logits
    int64_t known;              // tokens before the first new one
    ps_tokens recent;           // with keeps_state: the newest tokens of prompt and output
    int64_t shared;             // of them, positions that the prefix gives
    int64_t common;             // positions that the negative prompt takes from the prompt
    int64_t computed;           // positions that this request runs
    int64_t added_ns;
    ps_generate_job *next, **link; // of the generator's list; *link points here
};

struct ps_generate {
    ps_generate_params params;
    ps_sched *sched;
    ps_generate_job *jobs; // all that are not done, and the one that is kept
    ps_generate_job *kept; // done, its slot held for ps_generate_save
    ps_task prefix;
    bool prefix_begun;
    ps_sampler_work *work;
    ps_text piece, shown; // scratch
    ps_generate_counts counts;
    float *token_ms; // [TIMES_MAX]
    uint64_t n_times;
};

/* A job for the request, whose contents are moved, in the generator's list. */
ps_generate_job *ps_generate_new_job(ps_generate *g, uint64_t number, ps_request *request);

/* Sampler, stop strings and detokenizer of a sample; no tokens yet. */
ps_err ps_generate_open_sequence(ps_generate *g, ps_generate_job *j, int sample,
                                 ps_sequence *q) PS_MUST_CHECK;
/* What the next token depends on; the sampler takes and the scheduler computes no more. */
void ps_generate_expect(ps_sequence *q);

void ps_generate_close_wave(ps_generate_job *j);
void ps_generate_free_job(ps_generate_job *j);

void ps_generate_free_earlier(ps_generate_job *j);

/* The prompt or the output of a job with keeps_state grew by a token. */
void ps_generate_note_recent(ps_generate_job *j, int32_t token);

#endif
