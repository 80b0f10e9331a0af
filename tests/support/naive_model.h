/* The forward pass of a tiny model in double precision, straight from the formulas.
 *
 *   x = E[t];  per layer:  n = norm(x);  q, k, v = W n + b;  [q, k normed per head]
 *   z[h,i,j] = (<rope q, rope k> + <u, k> + <q + v, W_pos PE(i - j)>) / sqrt(K),  0 <= i-j < window
 *   x += Wo softmax(z) v + b;  n = norm(x);  x += Wdown (silu(Wgate n + b) * (Wup n + b)) + b
 *   logits = head(norm(x))
 *
 * Plain loops over whole sequences: no panels, no cache, no chunks, no code of src/. It shares
 * with the program only the weights, which support/tiny_model.h makes from the seed.
 *
 * Cost: everything is computed anew in each call.   Errors: none.   MPI: local.
 */
#ifndef TESTS_SUPPORT_NAIVE_MODEL_H
#define TESTS_SUPPORT_NAIVE_MODEL_H

#include "support/tiny_model.h"

/* logits[n, vocabulary], out: those behind each of the n tokens. */
void naive_model_forward(const tiny_model *m, const int32_t *tokens, int n, double *logits);

#endif
