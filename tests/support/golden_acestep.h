/* ACE-Step's language model as reference data: a directory with model/ (config.json, safetensors,
 * tokenizer), generate.jsonl, fsm.jsonl, logits.h5, genres.txt, as its README says.
 *
 *   logits.h5        score: logits, hidden values, log-probabilities, likeliest tokens
 *   generate.jsonl   acestep: both phases of each run, prompts, tokens, metadata, block, codes
 *   fsm.jsonl        acestep: those runs of the model that the program's requests can say. The
 *                    others name flags that no flow of ACE-Step's sets, and are the states' own
 *                    test's
 * All runs of a file go through one process, side by side.
 *
 * MPI: local. */
#ifndef TESTS_SUPPORT_GOLDEN_ACESTEP_H
#define TESTS_SUPPORT_GOLDEN_ACESTEP_H

#include "support/golden_run.h"

/* Checks what is of this kind in a directory; false if nothing is. */
bool golden_check_acestep(golden *g, const char *directory, const char *name);

#endif
