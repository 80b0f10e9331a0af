/* The JSON of a state file, between serve/state.c and serve/state_json.c. */
#ifndef PS_SERVE_STATE_PARTS_H
#define PS_SERVE_STATE_PARTS_H

#include "serve/state.h"

void ps_state_to_json(const ps_state *state, const ps_state_origin *origin, ps_text *out);

/* Fills everything but tokens, texts and the bytes of stop strings: their lengths are there. */
ps_err ps_state_from_json(const char *json, size_t n, const char *where,
                          const ps_state_origin *origin, ps_state *out) PS_MUST_CHECK;

#endif
