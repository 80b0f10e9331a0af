#include "tool/logits_file.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { NAME_BYTES = 64 };

static const char *name_of(char *buffer, uint64_t number, const char *dataset)
{
    snprintf(buffer, NAME_BYTES, "/%llu/%s", (unsigned long long)number, dataset);
    return buffer;
}

/* ---- writing ---- */

static ps_err make_dataset(ps_h5_writer *w, uint64_t number, const char *dataset, int rank,
                           uint64_t d0, uint64_t d1, uint64_t d2)
{
    char name[NAME_BYTES];
    const uint64_t dims[3] = {d0, d1, d2};
    ps_h5_dataset made;
    PS_TRY(ps_h5_begin(w, name_of(name, number, dataset), PS_H5_F32, rank, dims, &made));
    return ps_h5_end(w, made);
}

static ps_err make_sequence(ps_h5_writer *w, const ps_logits_input *input, size_t i,
                            bool with_hidden)
{
    char name[NAME_BYTES];
    const ps_spec *spec = input->spec;
    const uint64_t t = input->sequences[i].n, kept = t - (uint64_t)input->skip;
    PS_TRY(ps_h5_put(w, name_of(name, i, "tokens"), PS_H5_I32, 1, &t, input->sequences[i].ids));
    PS_TRY(make_dataset(w, i, "logits", 2, kept, (uint64_t)spec->vocab_size, 0));
    PS_TRY(make_dataset(w, i, "logprob", 1, kept - 1, 0, 0));
    if (!with_hidden) return PS_OK;
    return make_dataset(w, i, "hidden", 3, (uint64_t)spec->n_layers + 1, t,
                        (uint64_t)spec->d_model);
}

ps_err ps_logits_create(const char *path, const ps_logits_input *input, bool with_hidden,
                        ps_h5_writer **out)
{
    PS_TRY(ps_h5_create(path, out));
    ps_err err = ps_h5_put_attribute_int(*out, "/", "skip", input->skip);
    for (size_t i = 0; i < input->n && !err; i++) {
        err = make_sequence(*out, input, i, with_hidden);
    }
    if (!err) return PS_OK;
    ps_h5_abandon(*out);
    *out = NULL;
    return err;
}

ps_err ps_logits_write(ps_h5_writer *w, const ps_logits_input *input, uint64_t number,
                       int64_t position, const float *logits, const double *logprob)
{
    char name[NAME_BYTES];
    const uint64_t row = (uint64_t)(position - input->skip);
    PS_TRY(ps_h5_overwrite_rows(w, name_of(name, number, "logits"), row, 1, logits));
    if (!logprob) return PS_OK;
    const float value = (float)*logprob;
    return ps_h5_overwrite_rows(w, name_of(name, number, "logprob"), row, 1, &value);
}

/* ---- reading ---- */

struct ps_logits_reference {
    ps_h5_file *file;
    char *path;   // owned
    int64_t skip; // of the file
};

static ps_err find(const ps_logits_reference *r, const char *name, ps_h5_type type, int rank,
                   ps_h5_info *out)
{
    PS_TRY(ps_h5_find(r->file, name, out));
    if (out->type == type && out->rank == rank) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "%s: %s is %s of rank %d, wanted %s of rank %d", r->path, name,
                   ps_h5_type_name(out->type), out->rank, ps_h5_type_name(type), rank);
}

static ps_err check_tokens(const ps_logits_reference *r, size_t i, const ps_tokens *wanted)
{
    char name[NAME_BYTES];
    ps_h5_info info;
    PS_TRY(find(r, name_of(name, i, "tokens"), PS_H5_I32, 1, &info));
    if (info.values != wanted->n)
        return PS_FAIL(PS_ERR_SHAPE, "%s: sequence %zu has %zu tokens, the one to score %zu",
                       r->path, i, info.values, wanted->n);
    int32_t *ids = ps_mem_new(wanted->n, sizeof *ids);
    ps_err err = ps_h5_read(r->file, name, &info, ids);
    for (size_t t = 0; t < wanted->n && !err; t++) {
        if (ids[t] != wanted->ids[t])
            err =
                PS_FAIL(PS_ERR_SHAPE, "%s: token %zu of sequence %zu is %d, of the one to score %d",
                        r->path, t, i, ids[t], wanted->ids[t]);
    }
    ps_mem_free(ids);
    return err;
}

static ps_err check_logits(const ps_logits_reference *r, const ps_logits_input *input, size_t i)
{
    char name[NAME_BYTES];
    ps_h5_info info;
    const uint64_t rows = input->sequences[i].n - (uint64_t)r->skip;
    PS_TRY(find(r, name_of(name, i, "logits"), PS_H5_F32, 2, &info));
    if (info.dims[1] != (uint64_t)input->spec->vocab_size)
        return PS_FAIL(PS_ERR_SHAPE, "%s: a vocabulary of %llu, the model has %d", r->path,
                       (unsigned long long)info.dims[1], input->spec->vocab_size);
    if (info.dims[0] != rows)
        return PS_FAIL(PS_ERR_SHAPE, "%s: %s has %llu rows, wanted %llu", r->path, name,
                       (unsigned long long)info.dims[0], (unsigned long long)rows);
    return PS_OK;
}

static ps_err check_all(ps_logits_reference *r, const ps_logits_input *input)
{
    char name[NAME_BYTES];
    PS_TRY(ps_h5_attribute_int(r->file, "/", "skip", &r->skip));
    if (r->skip < 0 || r->skip > input->skip)
        return PS_FAIL(PS_ERR_SHAPE,
                       "%s: begins at token %lld of each sequence, wanted %lld (--skip) or before",
                       r->path, (long long)r->skip, (long long)input->skip);
    for (size_t i = 0; i < input->n; i++) {
        // Sequences stand without a gap, so the first that is missing tells how many there are.
        snprintf(name, sizeof name, "/%zu", i);
        if (!ps_h5_exists(r->file, name))
            return PS_FAIL(PS_ERR_SHAPE, "%s: holds %zu sequences, wanted %zu", r->path, i,
                           input->n);
        PS_TRY(check_tokens(r, i, &input->sequences[i]));
        PS_TRY(check_logits(r, input, i));
    }
    snprintf(name, sizeof name, "/%zu", input->n);
    if (!ps_h5_exists(r->file, name)) return PS_OK;
    return PS_FAIL(PS_ERR_SHAPE, "%s: holds more sequences than the %zu to score", r->path,
                   input->n);
}

ps_err ps_logits_open(const char *path, const ps_logits_input *input, ps_logits_reference **out)
{
    *out = NULL;
    ps_h5_file *file;
    PS_TRY(ps_h5_open(path, &file));
    ps_logits_reference *r = ps_mem_new(1, sizeof *r);
    *r = (ps_logits_reference){.file = file, .path = ps_mem_copy_text(path)};
    const ps_err err = check_all(r, input);
    if (err) {
        ps_logits_close(r);
        return err;
    }
    *out = r;
    return PS_OK;
}

void ps_logits_close(ps_logits_reference *r)
{
    if (!r) return;
    ps_h5_close(r->file);
    ps_mem_free(r->path);
    ps_mem_free(r);
}

ps_err ps_logits_read(ps_logits_reference *r, uint64_t number, int64_t position, float *logits)
{
    char name[NAME_BYTES];
    ps_h5_info info;
    PS_TRY(ps_h5_find(r->file, name_of(name, number, "logits"), &info));
    return ps_h5_read_rows(r->file, name, &info, (uint64_t)(position - r->skip), 1, logits);
}
