/* The reference data of ACE-Step's language model (golden/acestep/lm): its tokenizer with what the
 * states need of it, and the recorded runs of its constrained decoding.   MPI: local. */
#ifndef TESTS_SUPPORT_ACESTEP_LM_H
#define TESTS_SUPPORT_ACESTEP_LM_H

#include <jansson.h>

#include "base/text.h"
#include "serve/acestep_states.h"
#include "serve/tokenizer.h"

typedef struct acestep_lm {
    ps_tokenizer *tokenizer;
    ps_acestep_vocabulary *vocabulary; // legal codes as acestep.json says
    ps_acestep_genres *genres;         // genres.txt
    const ps_acestep_ids *ids;         // the vocabulary's
    int V;                             // logits and tokens
} acestep_lm;

ps_err acestep_lm_open(acestep_lm *out) PS_MUST_CHECK;
void acestep_lm_close(acestep_lm *lm);

/* A file of the data as a whole, appended. */
ps_err acestep_lm_read(const char *name, ps_text *out) PS_MUST_CHECK;

/* A recorded run of fsm.jsonl as parameters. Texts of values are appended to *texts, which outlives
 * *out. */
enum { ACESTEP_LM_TEXTS_MAX = 256 };
typedef struct acestep_lm_texts {
    char value[PS_ACESTEP_FIELDS][ACESTEP_LM_TEXTS_MAX];
} acestep_lm_texts;
ps_err acestep_lm_params(const acestep_lm *lm, const json_t *run, acestep_lm_texts *texts,
                         ps_acestep_params *out) PS_MUST_CHECK;

/* The logits of a run that has {hash_seed, boosts}, behind t tokens; with a cfg_scale over 1 the
 * guided ones of rows 0 and 1. */
void acestep_lm_hash_logits(const json_t *run, int t, int V, float *out);

/* Whether the bits are the recorded set {n, sha256}; if not, *found says what they are. */
bool acestep_lm_is_set(const json_t *set, const uint64_t *bits, int V, ps_text *found);

#endif
