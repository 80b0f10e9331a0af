/* What somebody asks of ACE-Step's language model, as plain data.
 *
 *   generate     caption and lyrics to metadata and audio codes
 *   understand   audio codes to metadata and lyrics
 *   inspiration  a wish, which stands in `caption`, to metadata and lyrics
 *   rewrite      caption and lyrics to better ones
 *
 * Every parameter has a name as an option and one as a key of a JSON object, which is upstream's.
 * Setting one looks at its value and notes that it was given, so that what a mode has no use for
 * is refused and not ignored.
 *
 * MPI: local.
 */
#ifndef PS_TOOL_ACESTEP_REQUEST_H
#define PS_TOOL_ACESTEP_REQUEST_H

#include "serve/sampler.h"
#include "tool/acestep/metadata.h"
#include "tool/acestep/prompts.h"

typedef enum ps_acestep_mode {
    PS_ACESTEP_MODE_GENERATE,
    PS_ACESTEP_MODE_UNDERSTAND,
    PS_ACESTEP_MODE_INSPIRATION,
    PS_ACESTEP_MODE_REWRITE,
    PS_ACESTEP_MODES
} ps_acestep_mode;

/* "generate", "understand", "inspiration", "rewrite"; static. */
const char *ps_acestep_mode_name(ps_acestep_mode mode);

typedef enum ps_acestep_parameter {
    PS_ACESTEP_P_CAPTION,
    PS_ACESTEP_P_LYRICS,
    PS_ACESTEP_P_INSTRUMENTAL,
    PS_ACESTEP_P_CODES,
    PS_ACESTEP_P_BPM,
    PS_ACESTEP_P_DURATION,
    PS_ACESTEP_P_KEYSCALE,
    PS_ACESTEP_P_LANGUAGE,
    PS_ACESTEP_P_TIMESIGNATURE,
    PS_ACESTEP_P_NEGATIVE,
    PS_ACESTEP_P_CFG_SCALE,
    PS_ACESTEP_P_TOP_P,
    PS_ACESTEP_P_SAMPLES,
    PS_ACESTEP_P_FORMAT,
    PS_ACESTEP_P_COT,
    PS_ACESTEP_P_COT_CAPTION,
    PS_ACESTEP_P_COT_LANGUAGE,
    PS_ACESTEP_P_CODES_WANTED,
    PS_ACESTEP_P_TARGET_DURATION,
    PS_ACESTEP_P_MAX_DURATION,
    PS_ACESTEP_PARAMETERS
} ps_acestep_parameter;

enum { PS_ACESTEP_SAMPLES_MAX = 64, PS_ACESTEP_TOKENS_MAX = 1 << 20 };

/* Starts from ps_acestep_request_default, ends with ps_acestep_request_release. */
typedef struct ps_acestep_request {
    ps_acestep_mode mode;
    ps_acestep_format format;
    ps_text caption, lyrics, negative; // owned
    ps_tokens codes;                   // understand: their numbers; owned
    bool instrumental;                 // lyrics are [Instrumental]
    ps_metadata user;                  // what the model is not asked for; owned
    double duration;                   // seconds as given (`user` has them whole); 0: not given
    double target_duration;            // seconds of codes, whatever the metadata say; 0: theirs
    int max_duration;                  // longest that the model may choose, seconds
    bool cot;                          // generate: there is a first phase ...
    bool cot_caption, cot_language;    // ... which writes these fields too
    bool wants_codes;                  // ... and a second
    double cfg_scale;                  // guidance of the codes; <= 1: none
    ps_sample_params sampling;         // temperature, top_p, top_k, seed, order
    int n_samples;                     // generate: sequences of codes for the same metadata
    int max_tokens;                    // new tokens of a phase at most; 0: the phase's own bound
    uint32_t given;                    // bit p: parameter p was set
} ps_acestep_request;

/* Generate in the new format: temperature 0.85, top-p 0.9, guidance 2, order "pytorch". */
ps_acestep_request ps_acestep_request_default(void);
void ps_acestep_request_release(ps_acestep_request *r);

/* *out is released by the caller. */
void ps_acestep_request_copy(const ps_acestep_request *from, ps_acestep_request *out);

/* Name of a parameter in messages: "--cfg-scale", or "lm_cfg_scale" for a key; static. */
const char *ps_acestep_option_name(ps_acestep_parameter p);
const char *ps_acestep_key_name(ps_acestep_parameter p);

void ps_acestep_note_given(ps_acestep_request *r, ps_acestep_parameter p);

/* Values with limits (tool/acestep/limits.h); `where` begins messages. The setters note that they
 * were given, except "unknown", which leaves the language to the model. */
ps_err ps_acestep_set_caption(ps_acestep_request *r, const char *where, ps_span text) PS_MUST_CHECK;
ps_err ps_acestep_set_lyrics(ps_acestep_request *r, const char *where, ps_span text) PS_MUST_CHECK;
ps_err ps_acestep_set_negative(ps_acestep_request *r, const char *where,
                               ps_span text) PS_MUST_CHECK;
ps_err ps_acestep_set_bpm(ps_acestep_request *r, const char *where, double bpm) PS_MUST_CHECK;
ps_err ps_acestep_set_duration(ps_acestep_request *r, const char *where,
                               double seconds) PS_MUST_CHECK;
ps_err ps_acestep_set_keyscale(ps_acestep_request *r, const char *where,
                               ps_span text) PS_MUST_CHECK;
ps_err ps_acestep_set_timesignature(ps_acestep_request *r, const char *where,
                                    ps_span text) PS_MUST_CHECK;
ps_err ps_acestep_set_language(ps_acestep_request *r, const char *where,
                               ps_span text) PS_MUST_CHECK;

/* Codes as <|audio_code_N|>, or as numbers with commas or white space between them. */
ps_err ps_acestep_set_codes(ps_acestep_request *r, const char *where, ps_span text) PS_MUST_CHECK;

/* Appends codes as the tokens that stand for them, one behind the other. */
void ps_acestep_append_codes(ps_text *out, const ps_tokens *codes);

/* PS_ERR_USAGE for what contradicts itself, is missing, or goes with another mode. `name` is one of
 * the two functions above. */
ps_err ps_acestep_request_check(const ps_acestep_request *r,
                                const char *(*name)(ps_acestep_parameter)) PS_MUST_CHECK;

/* Lyrics as the prompts have them: those given, or [Instrumental]. */
ps_span ps_acestep_request_lyrics(const ps_acestep_request *r);

#endif
