/* The states over the tokenizer of the reference data, and a machine that writes down what it is led
 * through. Failures are Check's.   MPI: local. */
#ifndef TESTS_SUPPORT_ACESTEP_MACHINE_H
#define TESTS_SUPPORT_ACESTEP_MACHINE_H

#include "base/text.h"
#include "support/acestep_lm.h"

extern acestep_lm lm; // between open_lm and close_lm, which are a fixture
void open_lm(void);
void close_lm(void);

typedef struct machine {
    ps_constraint *c;
    int V;
    float *logits;     // [V]
    uint64_t *allowed; // [ceil(V/64)]
    ps_text text;      // of all tokens so far
} machine;

machine open_machine(const ps_acestep_params *p);
machine open_machine_of(const ps_acestep_vocabulary *v, int V, const ps_acestep_params *p);
machine copy_machine(const machine *m);
void close_machine(machine *m);

void expect_state(const machine *m, const char *name);
int32_t token_of(const char *text); // a token of the vocabulary as it is stored

/* The token that is certain; -1: none is. */
int32_t certain(machine *m);
void advance(machine *m, int32_t token);

/* Follows what is certain up to COMPLETED, and says what it was. */
const char *follow_certain(machine *m);

/* Asks what is allowed. The logits are 0, and 1 at `largest` if that is not -1. Says whether all
 * is allowed; m->allowed has the bits either way. */
bool find_allowed(machine *m, int32_t largest);
bool is_allowed(const machine *m, int32_t token);
int count_allowed(const machine *m);

/* Writes a token, a text in the tokens that it is encoded in: each has the largest logit and must
 * be allowed. */
void take(machine *m, int32_t token);
void take_text(machine *m, const char *text);

#endif
