#include "tool/import/fold.h"

#include <string.h>

#include "base/mem.h"
#include "base/text.h"

struct ps_fold {
    size_t width;
    double *weights; // [k][n]: by columns, so that the outputs of one row lie side by side
    double *bias;    // [n]
    double *sums;    // [n]
};

/* Values of a tensor of the source as doubles, out[rows][columns]; by columns if `turned`. */
static ps_err read_tensor(const ps_source *source, const char *where, const char *name, size_t rows,
                          size_t columns, bool turned, double *out)
{
    ps_source_tensor *t = ps_source_find(source, name);
    if (!t) return PS_FAIL(PS_ERR_FORMAT, "%s: tensor %s is missing", where, name);
    size_t bytes;
    if (!t->supported || ps_dtype_is_quantised(t->dtype) ||
        !ps_dtype_row_bytes(t->dtype, columns, &bytes))
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: tensor %s is %s, wanted floats", t->file, name,
                       t->type_name);
    const bool same = rows == 1 ? t->n_dims == 1 && t->shape[0] == columns
                                : t->n_dims == 2 && t->shape[0] == rows && t->shape[1] == columns;
    if (!same)
        return PS_FAIL(PS_ERR_SHAPE, "%s: tensor %s has another shape than [%zu,%zu]", t->file,
                       name, rows, columns);
    t->used = true;
    char *row = ps_mem_new(bytes, 1); // copied first: the source aligns nothing
    float *wide = ps_mem_new(columns, sizeof *wide);
    ps_err err = PS_OK;
    for (size_t r = 0; r < rows && !err; r++) {
        memcpy(row, t->data + r * bytes, bytes);
        ps_dtype_widen(t->dtype, row, columns, wide);
        const size_t at = ps_dtype_first_not_finite(PS_F32, wide, columns);
        if (at < columns)
            err = PS_FAIL(PS_ERR_NUMERIC, "%s: tensor %s holds NaN or infinity at value %zu",
                          t->file, name, r * columns + at);
        for (size_t k = 0; k < columns; k++) {
            out[turned ? k * rows + r : r * columns + k] = (double)wide[k];
        }
    }
    ps_mem_free(wide);
    ps_mem_free(row);
    return err;
}

ps_err ps_fold_open(const ps_source *source, const char *where, const char *layer, int width,
                    ps_fold **out)
{
    const size_t n = (size_t)width;
    ps_fold *f = ps_mem_new(1, sizeof *f);
    *f = (ps_fold){.width = n};
    f->weights = ps_mem_new(n * n, sizeof *f->weights);
    f->bias = ps_mem_new(n, sizeof *f->bias);
    f->sums = ps_mem_new(n, sizeof *f->sums);
    ps_text weight = {0}, bias = {0};
    ps_text_appendf(&weight, "%s.weight", layer);
    ps_text_appendf(&bias, "%s.bias", layer);
    ps_err err = read_tensor(source, where, ps_text_str(&weight), n, n, true, f->weights);
    if (!err) err = read_tensor(source, where, ps_text_str(&bias), 1, n, false, f->bias);
    ps_text_release(&weight);
    ps_text_release(&bias);
    if (err) {
        ps_fold_close(f);
        f = NULL;
    }
    *out = f;
    return err;
}

void ps_fold_close(ps_fold *f)
{
    if (!f) return;
    ps_mem_free(f->weights);
    ps_mem_free(f->bias);
    ps_mem_free(f->sums);
    ps_mem_free(f);
}

void ps_fold_rows(ps_fold *f, int n, float *rows)
{
    const size_t width = f->width;
    for (int r = 0; r < n; r++) {
        float *row = rows + (size_t)r * width;
        memset(f->sums, 0, width * sizeof *f->sums);
        for (size_t k = 0; k < width; k++) {
            const double x = (double)row[k];
            const double *column = f->weights + k * width;
            for (size_t i = 0; i < width; i++) {
                f->sums[i] += x * column[i];
            }
        }
        for (size_t i = 0; i < width; i++) {
            row[i] = (float)(f->sums[i] + f->bias[i]);
        }
    }
}
