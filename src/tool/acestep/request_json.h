/* A request as a JSON object, with the names of ACE-Step's own parameters.
 *
 *   id                           any JSON value, given back as it is
 *   mode                         generate, understand, inspiration, rewrite
 *   caption  lyrics  instrumental  query (a caption)       texts
 *   audio_codes                  understand: a text, or an array of numbers
 *   bpm  duration  keyscale  timesignature  vocal_language (language)
 *                                what is given; 0, -1, "", "N/A" and null are not
 *   lm_temperature  lm_top_p  lm_top_k  lm_cfg_scale  lm_negative_prompt  sampler_order
 *   seed                         0 or more; -1: from the run's
 *   batch_size                   sequences of codes
 *   use_cot_metas  use_cot_caption  use_cot_language       what the model thinks about
 *   thinking                     false: metadata alone
 *   format  target_duration  max_duration  max_tokens
 *   task_type  inference_steps  guidance_scale  shift  infer_method  audio_format
 *                                the other model's; not looked at
 * Any other key is an error.
 *
 * MPI: local.   Errors: PS_ERR_FORMAT, PS_ERR_USAGE, PS_ERR_LIMIT naming the key.
 */
#ifndef PS_TOOL_ACESTEP_REQUEST_JSON_H
#define PS_TOOL_ACESTEP_REQUEST_JSON_H

#include <jansson.h>

#include "tool/acestep/request.h"

/* What the line leaves out is as in `defaults`, but for the seed, which is then `seed`. On success
 * *out is to be released; *id (may be NULL) is the caller's in every case. */
ps_err ps_acestep_request_parse(const char *line, size_t n, const ps_acestep_request *defaults,
                                uint64_t seed, json_t **id, ps_acestep_request *out) PS_MUST_CHECK;

/* Modes and formats by name; `where` begins messages. */
ps_err ps_acestep_parse_mode(const char *where, const char *name,
                             ps_acestep_mode *out) PS_MUST_CHECK;
ps_err ps_acestep_parse_format(const char *where, const char *name,
                               ps_acestep_format *out) PS_MUST_CHECK;

#endif
