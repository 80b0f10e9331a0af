/* Model files that are damaged, or made to do harm: an error that names the place, or exactly the
 * model that it was; never other numbers, never a crash. */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "math/panel.h"
#include "model/ckpt_parts.h"
#include "model/weights.h"
#include "support/dice.h"
#include "support/h5_raw.h"
#include "support/scratch.h"
#include "support/tiny_model.h"

/* Asked by the leak sanitizer: the library forgets memory when it gives a damaged file up. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libhdf5\n";
}

/* 2 layers with a tokenizer, about 40 kB. */
static tiny_model small_model(void)
{
    tiny_model m = tiny_model_default(TINY_RELPOS_LLAMA);
    m.layers = 2;
    m.width = 12;
    m.heads = 2;
    m.kv_heads = 1;
    m.head_dim = 6;
    m.ffn = 20;
    m.rel_pos_dim = 8;
    m.dtype = PS_F16;
    m.tokenizer = true;
    return m;
}

static void make_model(void)
{
    const tiny_model m = small_model();
    assert_ok(tiny_model_convert(&m, "m.h5"));
}

static ps_err open_weights(const char *path, const ps_engine *engine, ps_ckpt *ckpt, ps_weights *w)
{
    PS_TRY(ps_ckpt_open(path, ckpt));
    const ps_part part = {0, ckpt->spec.n_layers, true};
    ps_err err = ps_weights_open(ckpt, &part, 50, PS_WEIGHTS_MAP, engine, w);
    if (!err) err = ps_weights_verify(w, PS_VERIFY_ALWAYS, engine);
    if (err) ps_weights_close(w);
    if (err) ps_ckpt_close(ckpt);
    return err;
}

static ps_engine open_engine(void)
{
    ps_engine engine;
    const ps_engine_params params = {.n_threads = 1, .wait = PS_WAIT_SHARED};
    assert_ok(ps_engine_open(&params, &engine));
    return engine;
}

/* All steps of a start, up to verified weights. */
static ps_err start(const char *path)
{
    ps_engine engine = open_engine();
    ps_ckpt ckpt;
    ps_weights weights;
    const ps_err err = open_weights(path, &engine, &ckpt, &weights);
    if (!err) ps_weights_close(&weights);
    if (!err) ps_ckpt_close(&ckpt);
    ps_engine_close(&engine);
    return err;
}

static void refuse(ps_err code, const char *message)
{
    const ps_err err = start("m.h5");
    ck_assert_str_eq(ps_err_name(err), ps_err_name(code));
    assert_message(message);
}

/* ---- no model file at all ---- */

START_TEST(what_is_no_model_file_is_refused)
{
    refuse(PS_ERR_IO, "m.h5: cannot open: No such file or directory");
    scratch_write_text("m.h5", "");
    refuse(PS_ERR_FORMAT, "m.h5: the file is empty");
    scratch_write_text("m.h5", "X:1\nT:not a model\nK:D\nABc d2 ||\n");
    refuse(PS_ERR_FORMAT, "m.h5: not an HDF5 file");
    unlink("m.h5");
    ck_assert_int_eq(mkdir("m.h5", 0700), 0);
    refuse(PS_ERR_IO, "m.h5: is a directory, wanted a regular file");
    rmdir("m.h5");
    ck_assert_int_eq(mkfifo("m.h5", 0600), 0);
    refuse(PS_ERR_IO, "m.h5: is a FIFO, wanted a regular file");
    unlink("m.h5");
    h5_raw_create("m.h5");
    refuse(PS_ERR_FORMAT, "m.h5: an HDF5 file, but not a pipestep model");
}
END_TEST

START_TEST(attributes_must_be_the_formats_own)
{
    make_model();
    h5_raw_put_attribute_text("m.h5", "format", "pipestep-state");
    refuse(PS_ERR_FORMAT, "m.h5: format is pipestep-state, wanted pipestep-model");
    make_model();
    h5_raw_put_attribute("m.h5", "version", H5T_STD_I64LE, 0, NULL, &(int64_t){2});
    refuse(PS_ERR_FORMAT, "m.h5: format version 2, this program reads version 1");
    h5_raw_put_attribute("m.h5", "version", H5T_STD_I64LE, 0, NULL, &(int64_t){-1});
    refuse(PS_ERR_FORMAT, "m.h5: format version -1, this program reads version 1");
    h5_raw_put_attribute_text("m.h5", "version", "1");
    refuse(PS_ERR_FORMAT, "m.h5: attribute version of / is not an integer");
    h5_raw_delete_attribute("m.h5", "version");
    refuse(PS_ERR_FORMAT, "m.h5: / has no attribute version");
    make_model();
    h5_raw_put_attribute_variable_text("m.h5", "format", "pipestep-model");
    refuse(PS_ERR_FORMAT, "m.h5: attribute format of / is not a short fixed-length string");
    make_model();
    h5_raw_delete_attribute("m.h5", "manifest_xxh3");
    refuse(PS_ERR_FORMAT, "m.h5: / has no attribute manifest_xxh3");
}
END_TEST

START_TEST(a_file_cut_anywhere_is_refused)
{
    make_model();
    size_t n;
    char *file = scratch_read("m.h5", &n);
    for (int part = 0; part < 160; part += SCRATCH_SHARE) {
        scratch_write("m.h5", file, part < 16 ? n * (size_t)part / 16 : n - (size_t)(part - 15));
        const ps_err err = start("m.h5");
        if (err != PS_ERR_FORMAT || strncmp(ps_err_message(), "m.h5: ", 6) != 0)
            ck_abort_msg("part %d: %s: %s", part, ps_err_name(err), ps_err_message());
    }
    ps_mem_free(file);
}
END_TEST

/* ---- flipped bits ---- */

typedef struct damage {
    ps_engine engine;
    int fd;
    char *file; // as it was
    size_t n;
    ps_ckpt good;
} damage;

static void begin_damage(damage *d)
{
    make_model();
    d->engine = open_engine();
    d->file = scratch_read("m.h5", &d->n);
    d->fd = open("m.h5", O_RDWR);
    ck_assert_int_ge(d->fd, 0);
    assert_ok(ps_ckpt_open("m.h5", &d->good));
}

static void end_damage(damage *d)
{
    ps_ckpt_close(&d->good);
    close(d->fd);
    ps_mem_free(d->file);
    ps_engine_close(&d->engine);
}

static bool same_text(const ps_text *a, const ps_text *b)
{
    return a->len == b->len && memcmp(ps_text_str(a), ps_text_str(b), a->len) == 0;
}

/* Whether what was opened is what was there before the damage. */
static bool is_same(const damage *d, const ps_ckpt *ckpt, const ps_weights *w)
{
    ps_text wanted = {0}, found = {0};
    ps_spec_to_json(&d->good.spec, &wanted);
    ps_spec_to_json(&ckpt->spec, &found);
    bool same = same_text(&wanted, &found) && same_text(&d->good.tokenizer, &ckpt->tokenizer) &&
                same_text(&d->good.source, &ckpt->source) && ckpt->n_tensors == d->good.n_tensors;
    for (int i = 0; same && i < ckpt->n_tensors; i++) {
        const ps_ckpt_tensor *a = &d->good.tensors[i], *b = &ckpt->tensors[i];
        same = a->bytes == b->bytes && a->dtype == b->dtype && b->offset < w->map.bytes &&
               memcmp(d->file + a->offset, w->map.data + b->offset, a->bytes) == 0;
    }
    ps_text_release(&found);
    ps_text_release(&wanted);
    return same;
}

/* Flips a bit, starts, and flips it back. Returns whether it was refused. */
static bool flip(damage *d, size_t at, int bit)
{
    const char damaged = (char)(d->file[at] ^ 1 << bit);
    ps_ckpt ckpt;
    ps_weights weights;
    if (pwrite(d->fd, &damaged, 1, (off_t)at) != 1) ck_abort_msg("cannot write");
    const ps_err err = open_weights("m.h5", &d->engine, &ckpt, &weights);
    if (err && strncmp(ps_err_message(), "m.h5: ", 6) != 0)
        ck_abort_msg("bit %d of byte %zu: %s", bit, at, ps_err_message());
    if (!err && !is_same(d, &ckpt, &weights))
        ck_abort_msg("bit %d of byte %zu: another model, and no error", bit, at);
    if (!err) ps_weights_close(&weights);
    if (!err) ps_ckpt_close(&ckpt);
    if (pwrite(d->fd, &d->file[at], 1, (off_t)at) != 1) ck_abort_msg("cannot write");
    return err != PS_OK;
}

START_TEST(a_flipped_bit_anywhere_is_refused_or_changes_nothing)
{
    dice random = {.seed = (uint64_t)_i};
    damage d;
    int n_refused = 0;
    begin_damage(&d);
    for (int i = 0; i < 100; i++) {
        n_refused += flip(&d, dice_bits(&random) % d.n, dice_throw(&random, 8));
    }
    ck_assert_int_gt(n_refused, 50);
    end_damage(&d);
}
END_TEST

/* The library's own structures: what is neither a tensor nor a text. */
START_TEST(a_flipped_bit_of_the_structure_is_refused_or_changes_nothing)
{
    enum { STRIDE = 40 };
    damage d;
    begin_damage(&d);
    char *content = ps_mem_new(d.n, 1);
    for (int i = 0; i < d.good.n_tensors; i++) {
        memset(content + d.good.tensors[i].offset, 1, d.good.tensors[i].bytes);
    }
    memset(content + d.good.manifest_offset, 1, d.good.manifest_bytes);
    size_t n_structure = 0;
    dice random = {.seed = (uint64_t)_i + 50};
    for (size_t at = 0; at < d.n; at++) {
        if (content[at] || n_structure++ % STRIDE != (size_t)_i * 2) continue;
        flip(&d, at, dice_throw(&random, 8));
    }
    ck_assert_uint_gt(n_structure, 1000);
    ps_mem_free(content);
    end_damage(&d);
}
END_TEST

START_TEST(a_flipped_bit_of_a_tensor_names_the_tensor)
{
    damage d;
    begin_damage(&d);
    dice random = {.seed = 7};
    for (int i = 0; i < d.good.n_tensors; i++) {
        const ps_ckpt_tensor *t = &d.good.tensors[i];
        char name[PS_TENSOR_NAME_BYTES], message[120];
        ps_tensor_name(t->need.role, t->need.layer, name);
        snprintf(message, sizeof message, "m.h5: tensor %s is damaged: its checksum differs", name);
        const size_t places[] = {0, t->bytes - 1, dice_bits(&random) % t->bytes};
        for (int p = 0; p < 3; p++) {
            ck_assert(flip(&d, t->offset + places[p], dice_throw(&random, 8)));
            assert_message(message);
        }
    }
    end_damage(&d);
}
END_TEST

/* ---- texts ---- */

static char *read_dataset(const char *name, size_t *n)
{
    ps_h5_file *file;
    ps_text text = {0};
    assert_ok(ps_h5_open("m.h5", &file));
    assert_ok(ps_h5_read_bytes(file, name, 1 << 24, &text));
    ps_h5_close(file);
    *n = text.len;
    return ps_text_take(&text);
}

/* The n bytes with the first `from` replaced; a tokenizer's may hold anything. */
static ps_text replaced(const char *bytes, size_t n, const char *from, const char *to)
{
    const char *at = memmem(bytes, n, from, strlen(from));
    ck_assert_msg(at != NULL, "there is no \"%s\"", from);
    const size_t before = (size_t)(at - bytes), behind = before + strlen(from);
    ps_text out = {0};
    ps_text_append(&out, bytes, before);
    ps_text_append_str(&out, to);
    ps_text_append(&out, bytes + behind, n - behind);
    return out;
}

/* Changes a text of the file, as an editor would who knows nothing of checksums. */
static void edit(const char *name, const char *from, const char *to)
{
    size_t n;
    char *before = read_dataset(name, &n);
    ps_text after = replaced(before, n, from, to);
    h5_raw_put_text("m.h5", name, after.data, after.len);
    ps_text_release(&after);
    ps_mem_free(before);
}

static void hash_text(const void *bytes, size_t n, char out[PS_CKPT_HASH_BYTES])
{
    ps_ckpt_hash_text(ps_ckpt_hash(bytes, n), out);
}

/* Changes the manifest, and the checksum over it. */
static void edit_manifest(const char *from, const char *to)
{
    size_t n;
    char hash[PS_CKPT_HASH_BYTES];
    edit("/manifest", from, to);
    char *manifest = read_dataset("/manifest", &n);
    hash_text(manifest, n, hash);
    h5_raw_put_attribute_text("m.h5", "manifest_xxh3", hash);
    ps_mem_free(manifest);
}

/* Changes a text, its checksum in the manifest, and the checksum over that. */
static void edit_and_seal(const char *name, const char *from, const char *to)
{
    size_t n;
    char before[PS_CKPT_HASH_BYTES], after[PS_CKPT_HASH_BYTES];
    char *text = read_dataset(name, &n);
    hash_text(text, n, before);
    ps_mem_free(text);
    edit(name, from, to);
    text = read_dataset(name, &n);
    hash_text(text, n, after);
    ps_mem_free(text);
    edit_manifest(before, after);
}

START_TEST(an_edited_text_is_named)
{
    static const struct {
        const char *name, *from, *to;
    } edits[] = {{"/spec", "\"window\": 7", "\"window\": 8"},
                 {"/tokenizer", "<|end|>", "<|END|>"},
                 {"/source", "huggingface", "elsewhere"},
                 {"/manifest", "panel16", "panel32"}};
    for (int i = 0; i < 4; i++) {
        char message[40];
        make_model();
        edit(edits[i].name, edits[i].from, edits[i].to);
        ck_assert_int_eq(start("m.h5"), PS_ERR_FORMAT);
        snprintf(message, sizeof message, "m.h5: %s is damaged: checksum ", edits[i].name);
        assert_mentions(message);
        assert_mentions(", wanted ");
    }
}
END_TEST

START_TEST(a_missing_text_is_named)
{
    static const char *const names[] = {"/spec", "/tokenizer", "/source", "/manifest"};
    for (int i = 0; i < 4; i++) {
        char message[80];
        make_model();
        h5_raw_delete("m.h5", names[i]);
        snprintf(message, sizeof message, "m.h5: %s is missing (or not a plain dataset)", names[i]);
        refuse(PS_ERR_FORMAT, message);
    }
}
END_TEST

START_TEST(texts_of_another_type_are_refused)
{
    make_model();
    const hsize_t dims[2] = {2, 2};
    h5_raw_put("m.h5",
               &(h5_raw_dataset){"/spec", H5T_STD_U8LE, 2, dims, H5_RAW_CONTIGUOUS, "abcd"});
    refuse(PS_ERR_FORMAT, "m.h5: /spec is u8 of rank 2, wanted u8 of rank 1");
    h5_raw_put("m.h5",
               &(h5_raw_dataset){"/spec", H5T_IEEE_F32LE, 1, dims, H5_RAW_CONTIGUOUS, "12345678"});
    refuse(PS_ERR_FORMAT, "m.h5: /spec is f32 of rank 1, wanted u8 of rank 1");
}
END_TEST

/* 2^28 bytes and one, in a file of some kilobytes. */
START_TEST(a_text_beyond_the_limit_is_not_read)
{
    make_model();
    const hsize_t dims[1] = {(1 << 28) + 1};
    h5_raw_put("m.h5",
               &(h5_raw_dataset){"/tokenizer", H5T_STD_U8LE, 1, dims, H5_RAW_CHUNKED, NULL});
    refuse(PS_ERR_LIMIT, "m.h5: /tokenizer has 268435457 bytes, wanted at most 268435456");
}
END_TEST

START_TEST(a_sealed_spec_that_does_not_fit_the_tensors_is_refused)
{
    make_model();
    edit_and_seal("/spec", "\"d_ff\": 20", "\"d_ff\": 36");
    refuse(PS_ERR_SHAPE, "m.h5: the manifest gives tensor /layers/000/mlp/gate another size than "
                         "[36,12] and 1152 bytes");
    make_model();
    edit_and_seal("/spec", "\"d_ff\": 20", "\"d_ff\": 21"); // as many panels
    refuse(PS_ERR_SHAPE, "m.h5: the manifest gives tensor /layers/000/mlp/gate another size than "
                         "[21,12] and 768 bytes");
    make_model();
    edit_and_seal("/spec", "\"qk_norm\": \"none\"", "\"qk_norm\": \"head\"");
    refuse(PS_ERR_FORMAT, "m.h5: tensor /layers/000/attention/q_norm is missing");
    make_model();
    edit_and_seal("/spec", "\"n_layers\": 2", "\"n_layers\": 3");
    refuse(PS_ERR_FORMAT, "m.h5: 1 eos_ids, 1 ropes, 2 layers for n_layers 3");
    make_model();
    edit_and_seal("/spec", "{", "");
    ck_assert_int_eq(start("m.h5"), PS_ERR_FORMAT);
    assert_mentions("m.h5: not valid JSON: line 2");
}
END_TEST

START_TEST(a_sealed_manifest_is_checked_entry_by_entry)
{
    static const struct {
        const char *from, *to;
        ps_err code;
        const char *message;
    } edits[] = {
        {"\"dtype\": \"f16\"", "\"dtype\": \"q4_9\"", PS_ERR_UNSUPPORTED,
         "m.h5: tensor /embed/weight has unknown dtype q4_9"},
        {"\"dtype\": \"f16\"", "\"dtype\": \"q4_k\"", PS_ERR_SHAPE,
         "m.h5: tensor /embed/weight has rows of 12 values, q4_k wants blocks of 256"},
        {"\"dtype\": \"f16\"", "\"dtype\": \"bf16\"", PS_ERR_FORMAT,
         "m.h5: tensor /embed/weight is stored as f16, the manifest says bf16"},
        {"\"dtype\": \"f32\"", "\"dtype\": \"f16\"", PS_ERR_FORMAT,
         "m.h5: tensor /norm/weight is f16, wanted f32"},
        {"\"dtype\": \"f16\"", "\"dtype\": \"q5_0\"", PS_ERR_FORMAT,
         "m.h5: tensor /embed/weight has layout panel16, wanted panel16-halves: an older version "
         "wrote it, convert the model again"},
        {"panel16", "vector", PS_ERR_FORMAT,
         "m.h5: tensor /embed/weight has layout vector, wanted panel16"},
        {"\"vector\"", "\"panel16\"", PS_ERR_FORMAT,
         "m.h5: tensor /norm/weight has layout panel16, wanted vector"},
        {"\"shape\": [270, 12]", "\"shape\": [271, 12]", PS_ERR_SHAPE,
         "m.h5: the manifest gives tensor /embed/weight another size than [270,12] and 6528 bytes"},
        {"\"bytes\": 6528", "\"bytes\": 6529", PS_ERR_SHAPE,
         "m.h5: the manifest gives tensor /embed/weight another size than [270,12] and 6528 bytes"},
        {"\"shape\": [12]", "\"shape\": [12, 1]", PS_ERR_SHAPE,
         "m.h5: the manifest gives tensor /norm/weight another size than [12,1] and 48 bytes"},
        {"\"xxh3\": \"", "\"xxh3\": \"x", PS_ERR_FORMAT,
         "m.h5: tensor /embed/weight has a bad checksum text"},
        {"\"/embed/weight\"", "\"/embed/other\"", PS_ERR_FORMAT,
         "m.h5: tensor /embed/weight is missing"},
        {"\"layout\": \"panel16\", ", "", PS_ERR_FORMAT, "m.h5: key layout is missing"},
        {"\"tensors\": {", "\"tensors\": [], \"others\": {", PS_ERR_FORMAT,
         "m.h5: tensors is an array, wanted an object"},
        {"\"spec_xxh3\"", "\"spec_hash\"", PS_ERR_FORMAT, "m.h5: key spec_xxh3 is missing"},
    };
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        make_model();
        edit_manifest(edits[i].from, edits[i].to);
        refuse(edits[i].code, edits[i].message);
    }
}
END_TEST

START_TEST(tensors_that_nobody_asks_for_are_ignored)
{
    make_model();
    const hsize_t dims[1] = {3};
    h5_raw_put("m.h5",
               &(h5_raw_dataset){"/extra", H5T_STD_U8LE, 1, dims, H5_RAW_CONTIGUOUS, "abc"});
    edit_manifest("\"tensors\": {", "\"tensors\": {\"/extra\": {},");
    assert_ok(start("m.h5"));
}
END_TEST

/* ---- tensors ---- */

START_TEST(a_missing_tensor_is_named)
{
    make_model();
    h5_raw_delete("m.h5", "/layers/001/mlp/up");
    refuse(PS_ERR_FORMAT, "m.h5: /layers/001/mlp/up is missing (or not a plain dataset)");
    make_model();
    h5_raw_delete("m.h5", "/layers/001");
    refuse(PS_ERR_FORMAT, "m.h5: /layers/001/attention/norm is missing (or not a plain dataset)");
}
END_TEST

START_TEST(exchanged_tensors_are_named)
{
    make_model();
    h5_raw_rename("m.h5", "/layers/000/mlp/up", "/layers/000/mlp/x");
    h5_raw_rename("m.h5", "/layers/000/mlp/gate", "/layers/000/mlp/up");
    h5_raw_rename("m.h5", "/layers/000/mlp/x", "/layers/000/mlp/gate");
    refuse(PS_ERR_FORMAT, "m.h5: tensor /layers/000/mlp/gate is damaged: its checksum differs");
}
END_TEST

START_TEST(a_tensor_behind_a_link_is_refused)
{
    make_model();
    h5_raw_repack("m.h5", "other.h5");
    h5_raw_delete("m.h5", "/layers/000/mlp/up");
    h5_raw_soft_link("m.h5", "/layers/001/mlp/up", "/layers/000/mlp/up");
    refuse(PS_ERR_FORMAT, "m.h5: /layers/000/mlp/up is missing (or not a plain dataset)");
    make_model();
    h5_raw_delete("m.h5", "/layers");
    h5_raw_external_link("m.h5", "other.h5", "/layers", "/layers");
    refuse(PS_ERR_FORMAT, "m.h5: /layers/000/attention/norm is missing (or not a plain dataset)");
}
END_TEST

/* /layers/000/mlp/up is [2,12,16] of f16. */
static void put_up(hid_t type, int rank, const hsize_t *dims, h5_raw_layout layout)
{
    static const char zeros[8192];
    h5_raw_put("m.h5", &(h5_raw_dataset){"/layers/000/mlp/up", type, rank, dims, layout,
                                         layout == H5_RAW_CONTIGUOUS ? zeros : NULL});
}

START_TEST(tensors_of_a_wrong_shape_are_refused)
{
    make_model();
    hsize_t dims[32] = {2, 12, 17};
    put_up(H5T_STD_U8LE, 3, dims, H5_RAW_CONTIGUOUS);
    refuse(PS_ERR_FORMAT, "m.h5: tensor /layers/000/mlp/up is stored as u8, the manifest says f16");
    const hid_t f16 = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(f16, 15, 10, 5, 0, 10);
    H5Tset_size(f16, 2);
    H5Tset_ebias(f16, 15);
    put_up(f16, 3, dims, H5_RAW_CONTIGUOUS);
    refuse(PS_ERR_SHAPE, "m.h5: tensor /layers/000/mlp/up is [2,12,17], wanted [2,12,16]");
    put_up(f16, 2, dims, H5_RAW_CONTIGUOUS);
    refuse(PS_ERR_SHAPE, "m.h5: tensor /layers/000/mlp/up is [2,12], wanted [2,12,16]");
    put_up(f16, 0, NULL, H5_RAW_CONTIGUOUS);
    refuse(PS_ERR_SHAPE, "m.h5: tensor /layers/000/mlp/up is [], wanted [2,12,16]");
    put_up(f16, 3, (hsize_t[]){2, 0, 16}, H5_RAW_CONTIGUOUS);
    refuse(PS_ERR_SHAPE, "m.h5: tensor /layers/000/mlp/up is [2,0,16], wanted [2,12,16]");
    for (int i = 0; i < 32; i++) {
        dims[i] = 1;
    }
    put_up(f16, 32, dims, H5_RAW_CONTIGUOUS);
    refuse(PS_ERR_SHAPE, "m.h5: /layers/000/mlp/up has rank 32, wanted 0..8");
    put_up(f16, 3, (hsize_t[]){1u << 31, 1u << 31, 16}, H5_RAW_CHUNKED);
    refuse(PS_ERR_SHAPE, "m.h5: /layers/000/mlp/up has a size that overflows");
    put_up(f16, 3, (hsize_t[]){2, 12, 16}, H5_RAW_UNWRITTEN);
    refuse(PS_ERR_FORMAT, "m.h5: /layers/000/mlp/up was made but never written");
    put_up(f16, 3, (hsize_t[]){2, 12, 16}, H5_RAW_CHUNKED); // reads as zeros
    refuse(PS_ERR_FORMAT, "m.h5: tensor /layers/000/mlp/up is damaged: its checksum differs");
    scratch_write_text("outside.bin", "");
    put_up(f16, 3, (hsize_t[]){2, 12, 16}, H5_RAW_EXTERNAL);
    refuse(PS_ERR_UNSUPPORTED,
           "m.h5: /layers/000/mlp/up is stored outside the file or with an unknown filter");
    H5Tclose(f16);
}
END_TEST

/* Writes a bad value into a tensor, and seals the file over it. */
static void poison(ps_role role, int layer, size_t index, const void *value)
{
    ps_ckpt ckpt;
    char before[PS_CKPT_HASH_BYTES], after[PS_CKPT_HASH_BYTES];
    assert_ok(ps_ckpt_open("m.h5", &ckpt));
    const ps_ckpt_tensor t = *ps_ckpt_find(&ckpt, role, layer);
    ps_ckpt_close(&ckpt);
    const size_t size = ps_dtype_block_bytes(t.dtype);
    const int fd = open("m.h5", O_RDWR);
    char *bytes = ps_mem_new(t.bytes, 1);
    ck_assert_int_eq(pwrite(fd, value, size, (off_t)(t.offset + index * size)), (ssize_t)size);
    ck_assert_int_eq(pread(fd, bytes, t.bytes, (off_t)t.offset), (ssize_t)t.bytes);
    close(fd);
    ps_ckpt_hash_text(t.hash, before);
    hash_text(bytes, t.bytes, after);
    edit_manifest(before, after);
    ps_mem_free(bytes);
}

START_TEST(nan_and_infinity_are_found_behind_good_checksums)
{
    make_model();
    poison(PS_ROLE_UP, 1, (1 * 12 + 5) * 16 + 3, &(uint16_t){0x7E00}); // NaN: row 19, column 5
    refuse(PS_ERR_NUMERIC, "m.h5: tensor /layers/001/mlp/up holds NaN or infinity at [19,5]");
    make_model();
    poison(PS_ROLE_EMBED, -1, 0, &(uint16_t){0xFC00}); // -infinity
    refuse(PS_ERR_NUMERIC, "m.h5: tensor /embed/weight holds NaN or infinity at [0,0]");
    make_model();
    poison(PS_ROLE_FINAL_NORM, -1, 11, &(float){NAN});
    refuse(PS_ERR_NUMERIC, "m.h5: tensor /norm/weight holds NaN or infinity at [11]");
}
END_TEST

START_TEST(nan_is_found_in_a_repacked_file)
{
    make_model();
    poison(PS_ROLE_DOWN, 0, 7 * 16, &(uint16_t){0x7C00});
    ck_assert_int_eq(rename("m.h5", "a.h5"), 0);
    h5_raw_repack("a.h5", "m.h5");
    refuse(PS_ERR_NUMERIC, "m.h5: tensor /layers/000/mlp/down holds NaN or infinity at [0,7]");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/ckpt damage");
    TCase *no_model = scratch_case(suite, "no model");
    tcase_add_test(no_model, what_is_no_model_file_is_refused);
    tcase_add_test(no_model, attributes_must_be_the_formats_own);
    tcase_add_test(no_model, a_file_cut_anywhere_is_refused);
    TCase *bits = scratch_case(suite, "bits");
    tcase_add_loop_test(bits, a_flipped_bit_anywhere_is_refused_or_changes_nothing, 0,
                        20 / SCRATCH_SHARE);
    tcase_add_loop_test(bits, a_flipped_bit_of_the_structure_is_refused_or_changes_nothing, 0,
                        20 / SCRATCH_SHARE);
    tcase_add_test(bits, a_flipped_bit_of_a_tensor_names_the_tensor);
    TCase *texts = scratch_case(suite, "texts");
    tcase_add_test(texts, an_edited_text_is_named);
    tcase_add_test(texts, a_missing_text_is_named);
    tcase_add_test(texts, texts_of_another_type_are_refused);
    tcase_add_test(texts, a_text_beyond_the_limit_is_not_read);
    tcase_add_test(texts, a_sealed_spec_that_does_not_fit_the_tensors_is_refused);
    tcase_add_test(texts, a_sealed_manifest_is_checked_entry_by_entry);
    tcase_add_test(texts, tensors_that_nobody_asks_for_are_ignored);
    TCase *tensors = scratch_case(suite, "tensors");
    tcase_add_test(tensors, a_missing_tensor_is_named);
    tcase_add_test(tensors, exchanged_tensors_are_named);
    tcase_add_test(tensors, a_tensor_behind_a_link_is_refused);
    tcase_add_test(tensors, tensors_of_a_wrong_shape_are_refused);
    tcase_add_test(tensors, nan_and_infinity_are_found_behind_good_checksums);
    tcase_add_test(tensors, nan_is_found_in_a_repacked_file);
    return scratch_run(suite);
}
