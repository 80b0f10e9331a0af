/* Lines of a ledger's journal: texts and back. Readers refuse what no writer makes. */
#ifndef PS_TOOL_LEDGER_LINES_H
#define PS_TOOL_LEDGER_LINES_H

#include <jansson.h>

#include "serve/request.h"

/* "H {...}" for these lines "name = value" and so many requests. */
void ps_ledger_write_head(const char *identity, size_t n, ps_text *out);

/* PS_ERR_USAGE, naming the first difference, for the head of another job. */
ps_err ps_ledger_check_head(const char *body, size_t n_body, const char *identity, size_t n,
                            const char *path) PS_MUST_CHECK;

/* "J {...}" */
void ps_ledger_write_run(int n_ranks, int n_threads, ps_text *out);
bool ps_ledger_read_run(const char *body, size_t n, int *n_ranks, int *n_threads);

/* "P number sample first {...}" */
void ps_ledger_write_note(size_t number, int sample, size_t first, const ps_completion *so_far,
                          ps_text *out);

/* Puts the tokens of a note into begun[n_samples], whose tokens from `first` on they replace. False
 * when they do not fit: another sample, a gap, an id outside the vocabulary, other
 * log-probabilities. */
bool ps_ledger_read_note(const char *body, size_t n, int n_samples, int n_logprobs, int vocab_size,
                         ps_completion *begun);

/* The decimal number behind *at; false when there is none, or it has no end or is over `max`. *at is
 * moved behind the blank that ends it. */
bool ps_ledger_read_number(const char *body, size_t n, size_t *at, uint64_t max, uint64_t *out);

#endif
