#include "tool/import/convert_tensors.h"

#include <math.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/progress.h"
#include "math/panel.h"
#include "tool/import/fold.h"
#include "tool/import/lora.h"
#include "tool/import/origin.h"

enum { PANELS_AT_ONCE = 16 };

typedef struct work {
    const ps_conversion *c;
    ps_ckpt_writer *writer;
    char *panels, *rows; // buffers, owned
    size_t panels_bytes, rows_bytes;
    ps_progress progress;
    uint64_t done_bytes;
    ps_lora **loras; // [n_loras] owned
    bool *selected;  // [n_loras] those that change the matrix being written; owned
    ps_fold *fold;   // into the embedding, owned; NULL: nothing
    double squares, error_squares, largest_error; // of the matrix being written
} work;

/* One tensor of the source, or one expert's slab of it, that holds rows of a role. */
typedef struct slab {
    ps_source_tensor *tensor;
    const unsigned char *data;
    const unsigned char *exponents; // of the slab, where the tensor has some of its own
    size_t first_value;             // of the tensor
    size_t n_rows;                  // of the source
} slab;

/* ---- finding ---- */

/* Files of a bare model leave out the first part of each name: "model.", "transformer.". */
static ps_source_tensor *find_by_name(const work *w, const char *name)
{
    ps_source_tensor *t = ps_source_find(w->c->source, name);
    const char *dot = strchr(name, '.');
    return t || !dot ? t : ps_source_find(w->c->source, dot + 1);
}

static ps_err fail_shape(const ps_source_tensor *t, size_t rows, size_t k, size_t count,
                         bool columns)
{
    ps_text found = {0}, wanted = {0};
    for (int d = 0; d < t->n_dims; d++) {
        ps_text_appendf(&found, d ? ",%zu" : "%zu", t->shape[d]);
    }
    if (count > 1) ps_text_appendf(&wanted, "%zu,", count);
    if (k == 1) {
        ps_text_appendf(&wanted, "%zu", rows);
    } else {
        ps_text_appendf(&wanted, "%zu,%zu", columns ? k : rows, columns ? rows : k);
    }
    const ps_err err = PS_FAIL(PS_ERR_SHAPE, "%s: tensor %s is [%s], wanted [%s]", t->file, t->name,
                               ps_text_str(&found), ps_text_str(&wanted));
    ps_text_release(&found);
    ps_text_release(&wanted);
    return err;
}

/* Matrices must have their dimensions; vectors their number of values, whatever way it is written:
 * [6,32] serves for [192]. */
static ps_err check_shape(const ps_source_tensor *t, const ps_tensor_need *need, size_t rows,
                          size_t count, bool columns)
{
    const size_t k = (size_t)need->k;
    bool same;
    if (need->panel) {
        const int matrix = t->n_dims - 2;
        same = t->n_dims == (count > 1 ? 3 : 2) && (count == 1 || t->shape[0] == count) &&
               t->shape[matrix] == (columns ? k : rows) &&
               t->shape[matrix + 1] == (columns ? rows : k);
    } else {
        same = ps_source_values(t) == rows * count;
    }
    return same ? PS_OK : fail_shape(t, rows, k, count, columns);
}

/* The tensor that holds a role's rows for one expert or head (0 where there is only one). */
static ps_err find_slab(const work *w, const ps_tensor_need *need, int item, slab *out)
{
    const ps_tensor_from *from = &w->c->import->from[need->role];
    const bool by_expert = from->name && strstr(from->name, "%e");
    const bool by_head = from->name && strstr(from->name, "%h");
    const size_t count = by_expert || by_head ? 1 : (size_t)need->count;
    ps_text name = {0};
    if (from->name) ps_family_tensor_name(from, need->layer, item, &name);
    ps_source_tensor *t = find_by_name(w, ps_text_str(&name));
    ps_err err = PS_OK;
    out->n_rows = (size_t)ps_import_rows(w->c->import, need);
    if (by_head) out->n_rows = (size_t)w->c->import->spec.head_dim;
    if (!t) {
        char role[PS_TENSOR_NAME_BYTES];
        ps_tensor_name(need->role, need->layer, role);
        err = PS_FAIL(PS_ERR_FORMAT, "%s: tensor %s is missing", w->c->where,
                      from->name ? ps_text_str(&name) : role);
    } else if (!t->supported) {
        err = PS_FAIL(PS_ERR_UNSUPPORTED, "%s: tensor %s is %s, which a model file does not hold",
                      t->file, t->name, t->type_name);
    } else {
        err = check_shape(t, need, out->n_rows, count, from->columns);
    }
    ps_text_release(&name);
    if (err) return err;
    t->used = true;
    out->tensor = t;
    const size_t skipped = count > 1 ? (size_t)item : 0; // slabs before this one
    out->data = t->data + skipped * (t->bytes / count);
    const size_t blocks = ps_source_values(t) / 32 / count;
    out->exponents = t->exponents ? t->exponents + skipped * blocks : NULL;
    out->first_value = skipped * (ps_source_values(t) / count);
    return PS_OK;
}

/* `at` is a value of the slab. */
static ps_err fail_not_finite(const slab *s, size_t at)
{
    return PS_FAIL(PS_ERR_NUMERIC, "%s: tensor %s holds NaN or infinity at value %zu",
                   s->tensor->file, s->tensor->name, s->first_value + at);
}

/* ---- matrices ---- */

/* How a matrix gets from its source into the model file. */
typedef struct route {
    ps_dtype from, to;
    size_t from_bytes, to_bytes; // of a row
    bool unit_rows;              // rows are scaled to length 1
    bool adapted;                // an adapter is merged
    bool folded;                 // a Linear layer is folded in
    bool wide;                   // goes through f32
} route;

/* A row of mxfp4 in blocks as they are packed: exponent, then value j and j + 16 in byte j. */
static void copy_mxfp4_row(const slab *s, size_t row, size_t n_blocks, unsigned char *out)
{
    const unsigned char *in = s->data + row * n_blocks * 16;
    for (size_t b = 0; b < n_blocks; b++, in += 16, out += 17) {
        out[0] = s->exponents[row * n_blocks + b];
        for (int j = 0; j < 16; j++) {
            const int low = in[j / 2] >> (j % 2 * 4) & 15, high = in[8 + j / 2] >> (j % 2 * 4) & 15;
            out[1 + j] = (unsigned char)(low | high << 4);
        }
    }
}

/* Rows first .. + n of the role, one behind the other. */
static void copy_rows(const work *w, const slab *s, const size_t *rows, int n, size_t row_bytes)
{
    for (int r = 0; r < n; r++) {
        if (s->exponents) {
            copy_mxfp4_row(s, rows[r], row_bytes / 17,
                           (unsigned char *)w->rows + (size_t)r * row_bytes);
            continue;
        }
        memcpy(w->rows + (size_t)r * row_bytes, s->data + rows[r] * row_bytes, row_bytes);
    }
}

/* The same from a matrix that is stored by columns; its values are of one size, never quantised. */
static void copy_columns(const work *w, const slab *s, const size_t *rows, int n, size_t k,
                         size_t value_bytes)
{
    const size_t stride = s->n_rows * value_bytes;
    for (size_t i = 0; i < k; i++) {
        for (int r = 0; r < n; r++) {
            memcpy(w->rows + ((size_t)r * k + i) * value_bytes,
                   s->data + i * stride + rows[r] * value_bytes, value_bytes);
        }
    }
}

/* Where value `at` of a row stands in the slab. */
static size_t place_of(const slab *s, bool columns, size_t row, size_t at, size_t k)
{
    return columns ? at * s->n_rows + row : row * k + at;
}

/* The k values of a row of the source are numbers. */
static ps_err check_row(const slab *s, bool columns, size_t row, ps_dtype dtype, const void *values,
                        size_t k)
{
    const size_t at = ps_dtype_first_not_finite(dtype, values, k);
    return at == k ? PS_OK : fail_not_finite(s, place_of(s, columns, row, at, k));
}

/* And they still are as they are written: their format, or the scale of a block, may be small. */
static ps_err check_written(const slab *s, bool columns, size_t row, ps_dtype dtype,
                            const void *values, size_t k)
{
    const size_t at = ps_dtype_first_not_finite(dtype, values, k);
    if (at == k) return PS_OK;
    return PS_FAIL(PS_ERR_NUMERIC, "%s: tensor %s is too large for %s at value %zu",
                   s->tensor->file, s->tensor->name, ps_dtype_name(dtype),
                   s->first_value + place_of(s, columns, row, at, k));
}

/* Scales f32 rows to length 1, as heads of that kind do each time they are used. */
static void scale_to_unit(float *rows, int n, size_t k)
{
    for (int r = 0; r < n; r++) {
        double squares = 0.0;
        for (size_t i = 0; i < k; i++) {
            squares += (double)rows[(size_t)r * k + i] * (double)rows[(size_t)r * k + i];
        }
        const double length = sqrt(squares) > 1e-12 ? sqrt(squares) : 1e-12;
        for (size_t i = 0; i < k; i++) {
            rows[(size_t)r * k + i] = (float)((double)rows[(size_t)r * k + i] / length);
        }
    }
}

static bool keeps_format(ps_role role)
{
    return role == PS_ROLE_ROUTER || role == PS_ROLE_POSITIONS || role == PS_ROLE_REL_POS_W ||
           role == PS_ROLE_FOX_WEIGHT;
}

/* The format that a matrix has in the model file. */
static ps_err find_route(work *w, const ps_tensor_need *need, const slab *s, route *out)
{
    const ps_convert_options *o = w->c->options;
    const ps_source_tensor *t = s->tensor;
    const size_t k = (size_t)need->k;
    *out = (route){.from = t->dtype, .to = t->dtype};
    out->unit_rows = w->c->import->unit_head_rows && need->role == PS_ROLE_HEAD;
    for (int i = 0; i < o->n_loras; i++) {
        PS_TRY(ps_lora_select(w->loras[i], t->name, s->n_rows, k, &w->selected[i]));
        out->adapted = out->adapted || w->selected[i];
    }
    if (out->adapted && t->n_dims != 2)
        return PS_FAIL(PS_ERR_UNSUPPORTED,
                       "%s: tensor %s holds all experts: an adapter of it is not merged here",
                       t->file, t->name);
    out->folded = w->fold && need->role == PS_ROLE_EMBED;
    if (out->unit_rows || out->folded) out->to = PS_F32;
    if (o->has_type && !keeps_format(need->role)) out->to = o->type;
    out->wide = out->adapted || out->folded || out->unit_rows || out->to != out->from;
    if (!ps_dtype_row_bytes(out->from, k, &out->from_bytes))
        return PS_FAIL(PS_ERR_SHAPE, "%s: tensor %s has rows of %zu values, %s wants blocks of %d",
                       t->file, t->name, k, t->type_name, ps_dtype_block_values(out->from));
    if (!ps_dtype_row_bytes(out->to, k, &out->to_bytes))
        return PS_FAIL(PS_ERR_UNSUPPORTED,
                       "%s: tensor %s has rows of %zu values, and %s wants blocks of %d", t->file,
                       t->name, k, ps_dtype_name(out->to), ps_dtype_block_values(out->to));
    if (out->wide && !ps_dtype_can_narrow(out->to))
        return PS_FAIL(PS_ERR_UNSUPPORTED,
                       "%s: tensor %s is %s, which cannot be written again after a change: give "
                       "--type",
                       t->file, t->name, t->type_name);
    if (w->c->import->from[need->role].columns && ps_dtype_is_quantised(out->from))
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: tensor %s is %s, but stored by columns", t->file,
                       t->name, t->type_name);
    return PS_OK;
}

/* What writing `wide` as the route's format cost. */
static void note_error(work *w, const route *r, const float *wide, const char *written, size_t n,
                       float *again)
{
    ps_dtype_widen(r->to, written, n, again);
    for (size_t i = 0; i < n; i++) {
        const double error = fabs((double)again[i] - (double)wide[i]);
        w->squares += (double)wide[i] * (double)wide[i];
        w->error_squares += error * error;
        if (error > w->largest_error) w->largest_error = error;
    }
}

/* Rows of the role in the buffer, in the route's format; *out: where they are. */
static ps_err fetch_rows(work *w, const slab *s, const ps_tensor_need *need, const route *r,
                         int first, int n, const char **out)
{
    const size_t k = (size_t)need->k;
    size_t rows[PS_PANEL_LANES];
    for (int i = 0; i < n; i++) {
        rows[i] = (size_t)ps_import_row(w->c->import, need, first + i);
    }
    const bool columns = w->c->import->from[need->role].columns;
    if (columns) {
        copy_columns(w, s, rows, n, k, r->from_bytes / k);
    } else {
        copy_rows(w, s, rows, n, r->from_bytes);
    }
    *out = w->rows;
    for (int i = 0; i < n; i++) {
        const char *row = w->rows + (size_t)i * r->from_bytes;
        PS_TRY(check_row(s, columns, rows[i], r->from, row, k));
    }
    if (!r->wide) return PS_OK;
    const size_t part = ps_mem_round_up(PS_PANEL_LANES * k * sizeof(float), 64);
    float *wide = (float *)(void *)(w->rows + part), *again = wide + part / sizeof *wide;
    char *written = w->rows + 3 * part;
    for (int i = 0; i < n; i++) {
        ps_dtype_widen(r->from, w->rows + (size_t)i * r->from_bytes, k, wide + (size_t)i * k);
    }
    for (int i = 0; i < w->c->options->n_loras; i++) {
        if (w->selected[i]) ps_lora_add(w->loras[i], rows, n, wide);
    }
    if (r->folded) ps_fold_rows(w->fold, n, wide);
    if (r->unit_rows) scale_to_unit(wide, n, k);
    for (int i = 0; i < n; i++) {
        char *row = written + (size_t)i * r->to_bytes;
        ps_dtype_narrow(r->to, wide + (size_t)i * k, k, row);
        PS_TRY(check_written(s, columns, rows[i], r->to, row, k));
        note_error(w, r, wide + (size_t)i * k, row, k, again);
    }
    *out = written;
    return PS_OK;
}

static ps_err write_matrix(work *w, const ps_tensor_need *need, const slab *s, const route *r)
{
    const size_t panel_bytes = ps_panel_bytes(r->to, need->k), k = (size_t)need->k;
    const int n_panels = ps_panel_count(need->n);
    const size_t part = ps_mem_round_up(PS_PANEL_LANES * k * sizeof(float), 64);
    w->panels = ps_mem_grow(w->panels, &w->panels_bytes, panel_bytes * PANELS_AT_ONCE, 1);
    w->rows = ps_mem_grow(w->rows, &w->rows_bytes, 4 * part, 1);
    for (int panel = 0; panel < n_panels; panel += PANELS_AT_ONCE) {
        const int n = n_panels - panel < PANELS_AT_ONCE ? n_panels - panel : PANELS_AT_ONCE;
        for (int p = 0; p < n; p++) {
            const int first = (panel + p) * PS_PANEL_LANES;
            const int n_rows = need->n - first < PS_PANEL_LANES ? need->n - first : PS_PANEL_LANES;
            const char *rows;
            PS_TRY(fetch_rows(w, s, need, r, first, n_rows, &rows));
            ps_panel_pack(r->to, rows, n_rows, r->to_bytes, need->k,
                          w->panels + (size_t)p * panel_bytes);
        }
        PS_TRY(ps_ckpt_append(w->writer, w->panels, (size_t)n * panel_bytes));
    }
    return PS_OK;
}

static void say_error(const work *w, const ps_tensor_need *need, const route *r)
{
    char name[PS_TENSOR_NAME_BYTES];
    if (!r->wide || r->to == PS_F32) return;
    ps_tensor_name(need->role, need->layer, name);
    ps_log(PS_LOG_INFO, "%s: %s%s, error %.2e of the weights (rms), %.2e at most", name + 1,
           ps_dtype_name(r->to), r->adapted ? " with its adapter" : "",
           w->squares > 0.0 ? sqrt(w->error_squares / w->squares) : 0.0, w->largest_error);
}

/* ---- vectors ---- */

static bool is_norm_weight(ps_role role)
{
    switch (role) {
    case PS_ROLE_FINAL_NORM:
    case PS_ROLE_EMBED_NORM:
    case PS_ROLE_ATTENTION_NORM:
    case PS_ROLE_Q_NORM:
    case PS_ROLE_K_NORM:
    case PS_ROLE_ATTENTION_POST_NORM:
    case PS_ROLE_MLP_NORM:
    case PS_ROLE_MLP_POST_NORM:
        return true;
    default:
        return false;
    }
}

/* What the norm of the embedding is multiplied with. */
static double factor_of(const ps_import *import, ps_role role)
{
    const bool embed = role == PS_ROLE_EMBED_NORM || role == PS_ROLE_EMBED_NORM_BIAS;
    return embed && import->embed_norm_factor > 0.0 ? import->embed_norm_factor : 1.0;
}

/* The role's values, from one tensor or one for each head, into out[n]. */
static ps_err read_vector(work *w, const ps_tensor_need *need, const slab *s, float *wide,
                          float *out)
{
    const ps_import *import = w->c->import;
    const ps_source_tensor *t = s->tensor;
    size_t bytes;
    if (!ps_dtype_row_bytes(t->dtype, s->n_rows, &bytes))
        return PS_FAIL(PS_ERR_SHAPE, "%s: tensor %s has %zu values, %s wants blocks of %d", t->file,
                       t->name, s->n_rows, t->type_name, ps_dtype_block_values(t->dtype));
    w->rows = ps_mem_grow(w->rows, &w->rows_bytes, bytes, 1);
    memcpy(w->rows, s->data, bytes); // copied first: the source aligns nothing
    ps_dtype_widen(t->dtype, w->rows, s->n_rows, wide);
    const size_t at = ps_dtype_first_not_finite(PS_F32, wide, s->n_rows);
    if (at < s->n_rows) return fail_not_finite(s, at);
    const double factor = factor_of(import, need->role);
    const float more = import->norm_plus_one && is_norm_weight(need->role) ? 1.0f : 0.0f;
    for (int n = 0; n < need->n; n++) {
        out[n] = (float)(factor * (double)(wide[ps_import_row(import, need, n)] + more));
    }
    return PS_OK;
}

/* A role that has a tensor for each head: as if their values stood one behind the other. */
static ps_err read_head_vectors(work *w, const ps_tensor_need *need, float *wide, float *out)
{
    const int k = w->c->import->spec.head_dim;
    for (int h = 0; h < need->n / k; h++) {
        slab s;
        ps_tensor_need head = *need;
        head.n = k;
        PS_TRY(find_slab(w, need, h, &s));
        PS_TRY(read_vector(w, &head, &s, wide, out + (size_t)h * (size_t)k));
    }
    return PS_OK;
}

static ps_err write_vector(work *w, const ps_tensor_need *need)
{
    const bool by_head = strstr(w->c->import->from[need->role].name, "%h") != NULL;
    const size_t padded = (size_t)ps_panel_count(need->n) * PS_PANEL_LANES;
    const size_t n_out = need->count > 1 ? padded : (size_t)need->n;
    const size_t n_wide = (size_t)ps_import_rows(w->c->import, need);
    float *wide = ps_mem_new(n_wide, sizeof *wide), *out = ps_mem_new(padded, sizeof *out);
    ps_err err = PS_OK;
    for (int item = 0; item < need->count && !err; item++) {
        slab s;
        if (by_head) {
            err = read_head_vectors(w, need, wide, out);
        } else {
            err = find_slab(w, need, item, &s);
            if (!err) err = read_vector(w, need, &s, wide, out);
        }
        if (!err) err = ps_ckpt_append(w->writer, out, n_out * sizeof *out);
    }
    ps_mem_free(out);
    ps_mem_free(wide);
    return err;
}

/* ---- all of them ---- */

static void note_progress(work *w, const ps_source_tensor *t, size_t bytes)
{
    ps_source_advise(t, PS_SOURCE_DONE);
    w->done_bytes += bytes;
    ps_progress_update(&w->progress, w->done_bytes);
}

static ps_err convert_matrix(work *w, const ps_tensor_need *need)
{
    slab s;
    route r, first;
    PS_TRY(find_slab(w, need, 0, &s));
    PS_TRY(find_route(w, need, &s, &first));
    PS_TRY(ps_ckpt_begin(w->writer, need, first.to));
    w->squares = w->error_squares = w->largest_error = 0.0;
    for (int item = 0; item < need->count; item++) {
        PS_TRY(find_slab(w, need, item, &s));
        PS_TRY(find_route(w, need, &s, &r));
        if (r.to != first.to)
            return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: tensor %s is %s, that of expert 0 is %s",
                           s.tensor->file, s.tensor->name, s.tensor->type_name,
                           ps_dtype_name(first.to));
        ps_source_advise(s.tensor, PS_SOURCE_NEED);
        PS_TRY(write_matrix(w, need, &s, &r));
        note_progress(w, s.tensor, (size_t)need->n * r.from_bytes);
    }
    say_error(w, need, &first);
    return ps_ckpt_end(w->writer);
}

static ps_err convert_vector(work *w, const ps_tensor_need *need)
{
    if (!w->c->import->from[need->role].name) {
        slab none;
        return find_slab(w, need, 0, &none); // says that it is missing
    }
    PS_TRY(ps_ckpt_begin(w->writer, need, PS_F32));
    PS_TRY(write_vector(w, need));
    return ps_ckpt_end(w->writer);
}

static ps_err check_leftovers(const work *w)
{
    for (int i = 0; i < w->c->source->n; i++) {
        const ps_source_tensor *t = &w->c->source->tensors[i];
        if (t->used || ps_family_ignores(w->c->import, t->name)) continue;
        return PS_FAIL(PS_ERR_FORMAT, "%s: tensor %s belongs to no part of a %s model", t->file,
                       t->name, w->c->import->spec.family);
    }
    return PS_OK;
}

static ps_err open_loras(work *w)
{
    const ps_convert_options *o = w->c->options;
    w->loras = ps_mem_new((size_t)o->n_loras, sizeof(ps_lora *));
    w->selected = ps_mem_new((size_t)o->n_loras, sizeof *w->selected);
    for (int i = 0; i < o->n_loras; i++) {
        PS_TRY(ps_lora_open(o->loras[i], &w->loras[i]));
    }
    return PS_OK;
}

static ps_err check_loras(const work *w)
{
    for (int i = 0; i < w->c->options->n_loras; i++) {
        PS_TRY(ps_lora_check_all_used(w->loras[i]));
    }
    return PS_OK;
}

static void release(work *w)
{
    for (int i = 0; i < w->c->options->n_loras; i++) {
        ps_lora_close(w->loras[i]);
    }
    ps_fold_close(w->fold);
    ps_mem_free(w->selected);
    ps_mem_free(w->loras);
    ps_mem_free(w->panels);
    ps_mem_free(w->rows);
}

static ps_err write_tensors(work *w)
{
    uint64_t total_bytes = 0;
    for (int i = 0; i < w->c->source->n; i++) {
        total_bytes += w->c->source->tensors[i].bytes;
    }
    ps_err err = open_loras(w);
    const ps_import *import = w->c->import;
    if (!err && import->embed_linear)
        err = ps_fold_open(w->c->source, w->c->where, import->embed_linear, import->spec.d_model,
                           &w->fold);
    ps_progress_begin(&w->progress, "convert", total_bytes, "B", !w->c->options->progress);
    int cursor = 0;
    ps_tensor_need need;
    while (!err && ps_tensor_next(&w->c->import->spec, &cursor, &need)) {
        err = need.panel ? convert_matrix(w, &need) : convert_vector(w, &need);
    }
    if (!err) err = check_leftovers(w);
    if (!err) err = check_loras(w);
    ps_progress_end(&w->progress);
    release(w);
    return err;
}

static ps_err write_origin(const work *w, ps_origin *origin)
{
    ps_text json = {0};
    ps_text_append(&json, w->c->origin->data, w->c->origin->len);
    ps_text_append_str(&json, ", \"files\": ");
    ps_err err = ps_origin_finish(origin, &json);
    ps_text_append_str(&json, "}\n");
    if (!err) err = ps_ckpt_put_source(w->writer, ps_text_str(&json), json.len);
    ps_text_release(&json);
    return err;
}

ps_err ps_convert_write(const ps_conversion *conversion, const char *output)
{
    static const ps_convert_options plain = {0};
    ps_conversion with_options = *conversion;
    if (!with_options.options) with_options.options = &plain;
    work w = {.c = &with_options};
    const ps_text *tokenizer = conversion->tokenizer;
    PS_TRY(ps_ckpt_create(output, &conversion->import->spec, &w.writer));
    ps_origin *origin = ps_origin_begin(conversion->source);
    ps_err err = ps_ckpt_put_tokenizer(w.writer, ps_text_str(tokenizer), tokenizer->len);
    if (!err) err = write_tensors(&w);
    if (!err) err = write_origin(&w, origin);
    ps_origin_free(origin);
    if (err) {
        ps_ckpt_abandon(w.writer);
        return err;
    }
    return ps_ckpt_commit(w.writer);
}
