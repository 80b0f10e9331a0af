/* Contents of a stage's tensors against the manifest, and the record that saves doing it again.
 *
 * The record is named by a hash of the file's identity, the manifest and the part; that it exists
 * is all it says. Whoever changes the file changes its identity (size, modification or change time,
 * inode). */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "math/panel.h"
#include "model/ckpt_parts.h"
#include "model/weights.h"

typedef struct check {
    const ps_weights *weights;
    atomic_int first_bad; // lowest index of a damaged tensor; n_tensors if none
} check;

static void lower(atomic_int *value, int to)
{
    int now = atomic_load(value);
    while (to < now && !atomic_compare_exchange_weak(value, &now, to)) {
    }
}

/* Looks for NaN or infinity; *row and *column say where. */
static bool find_not_finite(const ps_ckpt_tensor *t, const void *bytes, int *row, int *column)
{
    if (t->need.panel)
        return ps_panel_find_not_finite(t->dtype, bytes, t->need.n, t->need.k, row, column);
    *column = 0;
    *row = (int)ps_dtype_first_not_finite(t->dtype, bytes, (size_t)t->need.n);
    return *row < t->need.n;
}

static bool is_good(const ps_ckpt_tensor *t, const void *bytes)
{
    int row, column;
    return ps_ckpt_hash(bytes, t->bytes) == t->hash && !find_not_finite(t, bytes, &row, &column);
}

static void check_tensor(void *arg, int item, int thread)
{
    (void)thread;
    check *c = arg;
    const ps_weights *w = c->weights;
    const ps_ckpt_tensor *t = &w->ckpt->tensors[item];
    if (ps_part_owns(&w->part, t->need.layer) && !is_good(t, w->tensors[item]))
        lower(&c->first_bad, item);
}

/* Says what is wrong with a tensor that failed. */
static ps_err diagnose(const ps_ckpt *ckpt, const ps_ckpt_tensor *t, const void *bytes)
{
    char name[PS_TENSOR_NAME_BYTES];
    ps_tensor_name(t->need.role, t->need.layer, name);
    if (ps_ckpt_hash(bytes, t->bytes) != t->hash)
        return PS_FAIL(PS_ERR_FORMAT, "%s: tensor %s is damaged: its checksum differs", ckpt->path,
                       name);
    int row, column;
    if (!find_not_finite(t, bytes, &row, &column)) return PS_OK;
    if (!t->need.panel)
        return PS_FAIL(PS_ERR_NUMERIC, "%s: tensor %s holds NaN or infinity at [%d]", ckpt->path,
                       name, row);
    return PS_FAIL(PS_ERR_NUMERIC, "%s: tensor %s holds NaN or infinity at [%d,%d]", ckpt->path,
                   name, row, column);
}

static ps_err check_all(const ps_weights *w, const ps_engine *engine)
{
    const int n = w->ckpt->n_tensors;
    check c = {.weights = w};
    atomic_init(&c.first_bad, n);
    ps_pool_run(engine->pool, n, check_tensor, &c);
    const int bad = atomic_load(&c.first_bad);
    return bad < n ? diagnose(w->ckpt, &w->ckpt->tensors[bad], w->tensors[bad]) : PS_OK;
}

/* Path of the record for this file and part; false when there is no place for records. */
static bool record_path(const ps_weights *w, ps_text *directory, ps_text *path)
{
    struct {
        ps_file_identity file;
        uint64_t manifest, first, end, ends;
    } key = {.manifest = w->ckpt->identity,
             .first = (uint64_t)w->part.first_layer,
             .end = (uint64_t)w->part.end_layer,
             .ends = w->part.ends};
    if (ps_file_identify(w->ckpt->path, &key.file) != PS_OK) return false;
    if (!ps_file_cache_directory(directory)) return false;
    ps_text_append_str(directory, "/verified");
    char hash[PS_CKPT_HASH_BYTES];
    ps_ckpt_hash_text(ps_ckpt_hash(&key, sizeof key), hash);
    ps_text_appendf(path, "%s/%s", ps_text_str(directory), hash);
    return true;
}

static void write_record(const ps_text *directory, const ps_text *path)
{
    ps_file_writer record;
    // Without a record the next start verifies again: nothing is lost.
    if (ps_file_make_dirs(ps_text_str(directory)) != PS_OK) return;
    if (ps_file_writer_open(ps_text_str(path), &record) != PS_OK) return;
    if (ps_file_writer_commit(&record) != PS_OK) ps_log(PS_LOG_DEBUG, "%s", ps_err_message());
}

ps_err ps_weights_verify(const ps_weights *weights, ps_verify verify, const ps_engine *engine)
{
    if (verify == PS_VERIFY_NEVER) return PS_OK;
    ps_text directory = {0}, path = {0};
    const bool recordable = verify == PS_VERIFY_ONCE && record_path(weights, &directory, &path);
    ps_err err = PS_OK;
    if (!recordable || access(ps_text_str(&path), F_OK) != 0) {
        err = check_all(weights, engine);
        if (!err && recordable) write_record(&directory, &path);
    }
    ps_text_release(&directory);
    ps_text_release(&path);
    return err;
}
