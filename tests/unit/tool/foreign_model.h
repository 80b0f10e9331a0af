/* Whole foreign directories of any family, for tests of the conversion: every tensor that the
 * family's rows name, with values that say where they lie. */
#ifndef PS_TEST_FOREIGN_MODEL_H
#define PS_TEST_FOREIGN_MODEL_H

#include "base/file.h"
#include "family_reading.h"
#include "math/panel.h"
#include "model/ckpt.h"
#include "model/h5.h"
#include "tool/import/convert.h"

enum { FOREIGN_MAX = 200 };

typedef struct foreign_tensor {
    char name[112];
    size_t shape[4];
    int n_dims, number;
    ps_dtype dtype;
    const void *bytes; // borrowed: a tensor of bytes (U8), as many as its shape has; or NULL
} foreign_tensor;

typedef struct foreign_model {
    foreign_tensor tensors[FOREIGN_MAX];
    int n;
    double (*value)(void *arg, const foreign_tensor *t, size_t i); // NULL: 10000 number + i
    void *arg;
} foreign_model;

/* NULL when there is none. */
static inline foreign_tensor *foreign_find(foreign_model *m, const char *name)
{
    for (int i = 0; i < m->n; i++) {
        if (strcmp(m->tensors[i].name, name) == 0) return &m->tensors[i];
    }
    return NULL;
}

/* One that is there. */
static inline foreign_tensor *foreign_at(foreign_model *m, const char *name)
{
    foreign_tensor *t = foreign_find(m, name);
    if (!t) ck_abort_msg("the source has no %s", name);
    return t;
}

/* The new tensor; NULL when there is one of that name (shared by several roles). */
static inline foreign_tensor *foreign_add(foreign_model *m, const char *name, int n_dims,
                                          const size_t *shape)
{
    if (foreign_find(m, name)) return NULL;
    ck_assert_int_lt(m->n, FOREIGN_MAX);
    foreign_tensor *t = &m->tensors[m->n];
    *t = (foreign_tensor){.n_dims = n_dims, .number = m->n++};
    snprintf(t->name, sizeof t->name, "%s", name);
    memcpy(t->shape, shape, (size_t)n_dims * sizeof *shape);
    return t;
}

/* The tensors of a role, one, or one for each expert or head. */
static inline void foreign_add_role(foreign_model *m, const ps_import *import,
                                    const ps_tensor_need *need)
{
    const ps_tensor_from *from = &import->from[need->role];
    ck_assert_msg(from->name != NULL, "role %d has no name", need->role);
    const bool by_head = strstr(from->name, "%h"), by_expert = strstr(from->name, "%e");
    const size_t rows =
        by_head ? (size_t)import->spec.head_dim : (size_t)ps_import_rows(import, need);
    const int copies = by_head ? need->n / import->spec.head_dim : by_expert ? need->count : 1;
    size_t shape[3];
    int n_dims = 0;
    if (need->count > 1 && !by_expert) shape[n_dims++] = (size_t)need->count;
    if (need->panel && from->columns) shape[n_dims++] = (size_t)need->k;
    shape[n_dims++] = rows;
    if (need->panel && !from->columns) shape[n_dims++] = (size_t)need->k;
    for (int item = 0; item < copies; item++) {
        ps_text name = {0};
        ps_family_tensor_name(from, need->layer, item, &name);
        foreign_add(m, ps_text_str(&name), n_dims, shape);
        ps_text_release(&name);
    }
}

/* dir/config.json, and the list of the tensors that go with it. */
static inline foreign_model foreign_make(const char *config)
{
    foreign_model m = {0};
    ps_import import = import_of(config);
    int cursor = 0;
    ps_tensor_need need;
    while (ps_tensor_next(&import.spec, &cursor, &need)) {
        foreign_add_role(&m, &import, &need);
    }
    ps_spec_release(&import.spec);
    assert_ok(ps_file_make_dirs("dir"));
    char *json = swap_quotes(config, '\'', '"');
    scratch_write_text("dir/config.json", json);
    ps_mem_free(json);
    return m;
}

static inline size_t foreign_values(const foreign_tensor *t)
{
    size_t n = 1;
    for (int i = 0; i < t->n_dims; i++) {
        n *= t->shape[i];
    }
    return n;
}

/* Value i of a tensor as its format holds it. */
static inline float foreign_value(const foreign_model *m, const foreign_tensor *t, size_t i)
{
    float value = 10000.0f * (float)t->number + (float)i;
    char stored[4];
    if (m->value) value = (float)m->value(m->arg, t, i);
    ps_dtype_narrow(t->dtype, &value, 1, stored);
    ps_dtype_widen(t->dtype, stored, 1, &value);
    return value;
}

static inline void foreign_append_data(const foreign_model *m, const foreign_tensor *t,
                                       ps_text *data)
{
    if (t->bytes) {
        ps_text_append(data, t->bytes, foreign_values(t));
        return;
    }
    for (size_t k = 0; k < foreign_values(t); k++) {
        const float value = foreign_value(m, t, k);
        char stored[4];
        ps_dtype_narrow(t->dtype, &value, 1, stored);
        ps_text_append(data, stored, ps_dtype_block_bytes(t->dtype));
    }
}

static inline void foreign_write_as(const foreign_model *m, const char *path)
{
    static const char *const dtypes[] = {[PS_F32] = "F32", [PS_F16] = "F16", [PS_BF16] = "BF16"};
    ps_text header = {0}, data = {0}, file = {0};
    for (int i = 0; i < m->n; i++) {
        const foreign_tensor *t = &m->tensors[i];
        ps_text_appendf(&header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "{", t->name,
                        t->bytes ? "U8" : dtypes[t->dtype]);
        for (int k = 0; k < t->n_dims; k++) {
            ps_text_appendf(&header, k ? ",%zu" : "%zu", t->shape[k]);
        }
        const size_t begin = data.len;
        foreign_append_data(m, t, &data);
        ps_text_appendf(&header, "],\"data_offsets\":[%zu,%zu]}", begin, data.len);
    }
    ps_text_append_char(&header, '}');
    for (int i = 0; i < 8; i++) {
        ps_text_append_char(&file, (char)((uint64_t)header.len >> (8 * i)));
    }
    ps_text_append(&file, header.data, header.len);
    ps_text_append(&file, ps_text_str(&data), data.len);
    scratch_write(path, file.data, file.len);
    ps_text_release(&file);
    ps_text_release(&data);
    ps_text_release(&header);
}

static inline void foreign_write(const foreign_model *m)
{
    foreign_write_as(m, "dir/model.safetensors");
}

/* All values of a role of a model file as [count * n, k] (vectors: k = 1), owned by the caller. */
static inline float *model_values(const char *path, ps_role role, int layer, ps_tensor_need *need)
{
    ps_ckpt ckpt;
    ps_h5_file *file;
    ps_h5_info info;
    char name[PS_TENSOR_NAME_BYTES];
    assert_ok(ps_ckpt_open(path, &ckpt));
    const ps_ckpt_tensor *t = ps_ckpt_find(&ckpt, role, layer);
    ck_assert_msg(t != NULL, "role %d of layer %d is not there", role, layer);
    *need = t->need;
    ps_tensor_name(role, layer, name);
    assert_ok(ps_h5_open(path, &file));
    assert_ok(ps_h5_find(file, name, &info));
    char *bytes = ps_mem_new(info.bytes, 1);
    assert_ok(ps_h5_read(file, name, &info, bytes));
    const size_t n = (size_t)need->n, k = (size_t)need->k, padded = (n + 15) / 16 * 16;
    float *values = ps_mem_new((size_t)need->count * n * k, sizeof *values);
    for (size_t c = 0; c < (size_t)need->count; c++) {
        for (size_t row = 0; row < n && need->panel; row++) {
            const char *panels = bytes + c * info.bytes / (size_t)need->count;
            ps_panel_unpack_row(t->dtype, panels, (int)k, (int)row, values + (c * n + row) * k);
        }
        if (!need->panel) memcpy(values + c * n, bytes + c * padded * 4, n * sizeof *values);
    }
    ps_mem_free(bytes);
    ps_h5_close(file);
    ps_ckpt_close(&ckpt);
    return values;
}

/* Those of m.h5. */
static inline float *converted_values(ps_role role, int layer, ps_tensor_need *need)
{
    return model_values("m.h5", role, layer, need);
}

#endif
