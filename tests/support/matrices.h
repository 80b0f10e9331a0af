/* Random weight matrices in panel layout, with the values that they hold. */
#ifndef PS_TESTS_MATRICES_H
#define PS_TESTS_MATRICES_H

#include "math/linear.h"
#include "support/dice.h"

typedef struct matrix {
    ps_linear linear; // panels, and a bias if asked for
    float *values;    // [n, k] as the format holds them, widened
    void *panels;
    float *bias; // [round_up(n, 16)] or NULL
} matrix;

/* Values within -size .. size, rounded to the format. */
matrix matrix_roll(dice *d, ps_dtype dtype, int n, int k, double size, bool with_bias);
void matrix_release(matrix *m);

/* out[r, o] for one row x[k], in the order that math/panel.h states: one fused multiply-add a k,
 * ascending, from 0 in every block; block sums added in order; then the bias. */
float matrix_row_times(const matrix *m, int output, const float *x);

#endif
