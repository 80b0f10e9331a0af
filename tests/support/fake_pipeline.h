/* A pipeline without ranks and without a model, for tests of what drives one: it checks every batch
 * against the rules, and its logits are a pure function of the tokens that a slot has seen, so that
 * a test can say beforehand what must come out.
 *
 * The linker puts it in place of pipe/pipeline (LINK_test_sched and its like in the Makefile). A
 * rule that is broken fails the test: rows of a slot follow each other without a gap, a slot is
 * ended before it begins anew, a fork goes into a free slot, no batch is over its limits, no more
 * batches are under way than allowed, they are collected and released in turn, and slots are saved
 * and loaded when none is under way. A saved slot is its tokens, in the place of layer 0's cache.
 * The head's input is its output. Logits that a row does not want are NaN.
 *
 * MPI: none.
 */
#ifndef TESTS_SUPPORT_FAKE_PIPELINE_H
#define TESTS_SUPPORT_FAKE_PIPELINE_H

#include "pipe/pipeline.h"
#include "serve/tokenizer.h"

/* One batch as it was submitted. */
typedef struct fake_batch {
    ps_parcel_action *actions;
    ps_batch_row *rows;
    int n_actions, n_rows;
    int in_flight; // batches under way, this one included
} fake_batch;

ps_pipeline *fake_pipeline_new(const ps_limits *limits, int in_flight, int vocabulary);
void fake_pipeline_free(ps_pipeline *p);

int fake_pipeline_count(const ps_pipeline *p); // batches so far
const fake_batch *fake_pipeline_batch(const ps_pipeline *p, int number);

/* The collect of this batch fails with PS_ERR_LOST, "lost". */
void fake_pipeline_lose(ps_pipeline *p, int number);

/* After n batches another can be submitted only when somebody has waited; 0, at first: any number.
 */
void fake_pipeline_set_buffers(ps_pipeline *p, int n);

/* What the slowest stage takes for a batch, and more for each of its rows; 0, at first: not known. */
void fake_pipeline_set_times(ps_pipeline *p, int64_t batch_ns, int64_t row_ns);

/* Tokens that a slot holds now; 0: it is free. */
size_t fake_pipeline_length(const ps_pipeline *p, int slot);

/* logits[vocabulary], out, behind these n tokens. */
void fake_logits(const int32_t *tokens, size_t n, int vocabulary, float *logits);

/* The least spec that goes with it; released with ps_spec_release. No window: the context bounds
 * sequences. */
ps_spec fake_spec(int vocabulary, bool endless);

#endif
