/* What somebody asks of ACE-Step's language model, as plain data.
 *
 *   generate     caption and lyrics to metadata and audio codes
 *   understand   audio codes to metadata and lyrics
 *   inspiration  a wish (in `caption`) to metadata and lyrics
 *   rewrite      caption and lyrics to better ones
 *
 * MPI: local, rank 0.
 */
#ifndef PS_TOOL_ACESTEP_REQUEST_H
#define PS_TOOL_ACESTEP_REQUEST_H

#include "serve/acestep_states.h"
#include "serve/sampler.h"
#include "tool/acestep/metadata.h"
#include "tool/acestep/prompts.h"

typedef enum ps_acestep_mode {
    PS_ACESTEP_GENERATE,
    PS_ACESTEP_MODE_UNDERSTAND,
    PS_ACESTEP_INSPIRATION,
    PS_ACESTEP_REWRITE,
    PS_ACESTEP_MODES
} ps_acestep_mode;

/* "generate", "understand", "inspiration", "rewrite"; static. */
const char *ps_acestep_mode_name(ps_acestep_mode mode);

enum { PS_ACESTEP_SAMPLES_MAX = 64, PS_ACESTEP_TOKENS_MAX = 1 << 20 };

/* Starts from ps_acestep_request_default, ends with ps_acestep_request_release. */
typedef struct ps_acestep_request {
    ps_acestep_mode mode;
    ps_acestep_format format;
    ps_text caption, lyrics, negative;   // owned
    ps_tokens codes;                     // understand: their numbers; owned
    bool instrumental;                   // lyrics are [Instrumental]
    ps_metadata user;                    // what is given and not asked of the model; owned
    double duration;                     // seconds as given, the metadata have them whole; 0: not
    double target_duration;              // seconds of codes, whatever the metadata say; 0: theirs
    int max_duration;                    // longest that the model may choose, seconds
    bool cot, cot_caption, cot_language; // what the first phase writes: anything, these fields
    double cfg_scale;                    // guidance of the codes; <= 1: none
    double temperature, top_p;
    int top_k;
    bool has_top_p;         // was given: other modes than generate have none by default
    ps_sample_params order; // its order alone
    uint64_t seed;
    int n_samples;  // generate: code sequences of the same metadata
    int max_tokens; // new tokens of a phase at most; 0: as many as upstream allows
} ps_acestep_request;

ps_acestep_request ps_acestep_request_default(void);
void ps_acestep_request_release(ps_acestep_request *request);

/* *out is released by the caller. */
void ps_acestep_request_copy(const ps_acestep_request *from, ps_acestep_request *out);

/* Sets a field of `user` after looking at it; `where` begins messages (tool/acestep/limits.h).
 * "unknown" leaves the language to the model. */
ps_err ps_acestep_set_bpm(ps_acestep_request *r, const char *where, double bpm) PS_MUST_CHECK;
ps_err ps_acestep_set_duration(ps_acestep_request *r, const char *where,
                               double seconds) PS_MUST_CHECK;
ps_err ps_acestep_set_keyscale(ps_acestep_request *r, const char *where,
                               ps_span text) PS_MUST_CHECK;
ps_err ps_acestep_set_timesignature(ps_acestep_request *r, const char *where,
                                    ps_span text) PS_MUST_CHECK;
ps_err ps_acestep_set_language(ps_acestep_request *r, const char *where,
                               ps_span text) PS_MUST_CHECK;

/* Codes as <|audio_code_N|> or as numbers with commas or white space between them. */
ps_err ps_acestep_set_codes(ps_acestep_request *r, const char *where, ps_span text) PS_MUST_CHECK;

/* Codes as the tokens that stand for them, one behind the other. */
void ps_acestep_append_codes(ps_text *out, const ps_tokens *codes);

/* What the setters cannot see: texts that contradict each other, or that the mode has no use for.
 * `option` says how a thing is called in messages: "--" or "". */
ps_err ps_acestep_request_check(const ps_acestep_request *r, const char *option) PS_MUST_CHECK;

/* Lyrics as the prompts have them: those given, or [Instrumental]. */
ps_span ps_acestep_lyrics(const ps_acestep_request *r);

#endif
