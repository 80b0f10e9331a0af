/* Options of the acestep command, and the request that they make.   MPI: local. */
#ifndef PS_TOOL_ACESTEP_OPTIONS_H
#define PS_TOOL_ACESTEP_OPTIONS_H

#include "tool/acestep/request.h"
#include "tool/options.h"

typedef struct ps_acestep_options {
    int mode, format;
    const char *caption, *lyrics, *lyrics_file, *negative, *audio_codes;
    const char *keyscale, *timesignature, *language;
    double bpm, duration, target_duration;
    bool instrumental, cot, cot_caption, cot_language, metadata_only;
    int max_duration, codebook;
    const char *genres;
    double temperature, top_p, cfg_scale;
    int top_k, batch, max_tokens;
    uint64_t seed;
    const char *order;
    bool json, timings;
    const char *codes, *requests, *out;
} ps_acestep_options;

/* The groups over the caller's struct. */
enum { PS_ACESTEP_GROUPS = 3 };
void ps_acestep_groups(ps_acestep_options *target, ps_opt_group groups[PS_ACESTEP_GROUPS]);

/* What the table cannot say; ends the help. */
const char *ps_acestep_notes(void);

/* Looks at all options together and fills the request, which is the caller's; a seed that is not
 * given is drawn. Files are not read yet. Errors: PS_ERR_USAGE, PS_ERR_LIMIT, PS_ERR_FORMAT. */
ps_err ps_acestep_options_to_request(const ps_acestep_options *o, const ps_opt_parsed *parsed,
                                     const ps_run_options *run,
                                     ps_acestep_request *out) PS_MUST_CHECK;

#endif
