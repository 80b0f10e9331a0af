/* Conversion of whole directories: what is refused, with the tensor's name, and that a refusal
 * leaves nothing behind. That the values arrive is tests/unit/model/test_ckpt.c. */
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/sha256.h"
#include "model/ckpt.h"
#include "support/same_model.h"
#include "support/scratch.h"
#include "support/tiny_model.h"
#include "tool/import/convert.h"

static void write_source(const tiny_model *m)
{
    assert_ok(tiny_model_write(m, "dir"));
}

static void write_default(tiny_family family)
{
    const tiny_model m = tiny_model_default(family);
    write_source(&m);
}

static ps_spec converted_spec(void)
{
    ps_ckpt ckpt;
    assert_ok(ps_convert_directory("dir", "m.h5", NULL));
    assert_ok(ps_ckpt_open("m.h5", &ckpt));
    ps_spec spec = ckpt.spec;
    ckpt.spec = (ps_spec){0}; // moved
    ps_ckpt_close(&ckpt);
    return spec;
}

/* The error, and that neither a model file nor a part of one is there. */
static void refuse(ps_err code, const char *message)
{
    const ps_err err = ps_convert_directory("dir", "m.h5", NULL);
    ck_assert_str_eq(ps_err_name(err), ps_err_name(code));
    assert_message(message);
    ck_assert_int_eq(scratch_count(), 1);
}

/* Replaces the first `from` behind the first `after` in the header of dir/model.safetensors. */
static void edit_header(const char *after, const char *from, const char *to)
{
    size_t n;
    uint64_t length;
    char *file = scratch_read("dir/model.safetensors", &n);
    memcpy(&length, file, 8);
    char *header = ps_mem_copy_bytes(file + 8, length);
    char *at = strstr(header, after);
    at = at ? strstr(at, from) : NULL;
    ck_assert_msg(at != NULL, "no \"%s\" behind \"%s\"", from, after);
    ps_text out = {0};
    const uint64_t new_length = length - strlen(from) + strlen(to);
    ps_text_append(&out, &new_length, 8);
    ps_text_append(&out, header, (size_t)(at - header));
    ps_text_append_str(&out, to);
    ps_text_append_str(&out, at + strlen(from));
    ps_text_append(&out, file + 8 + length, n - 8 - length);
    scratch_write("dir/model.safetensors", out.data, out.len);
    ps_text_release(&out);
    ps_mem_free(header);
    ps_mem_free(file);
}

/* Overwrites value `index` of a tensor with these bytes. */
static void poison(const char *name, size_t index, const void *value, size_t size)
{
    size_t n, begin;
    uint64_t length;
    char *file = scratch_read("dir/model.safetensors", &n);
    memcpy(&length, file, 8);
    const char *at = strstr(file + 8, name);
    ck_assert_ptr_nonnull(at);
    at = strstr(at, "\"data_offsets\":[");
    ck_assert_int_eq(sscanf(at, "\"data_offsets\":[%zu", &begin), 1);
    memcpy(file + 8 + length + begin + index * size, value, size);
    scratch_write("dir/model.safetensors", file, n);
    ps_mem_free(file);
}

/* ---- accepted ---- */

/* Only /source, which names the files, may differ. */
START_TEST(shards_make_no_difference)
{
    tiny_model m = tiny_model_default((tiny_family)_i);
    assert_ok(tiny_model_convert(&m, "one.h5"));
    for (m.shards = 2; m.shards < 6; m.shards++) {
        assert_ok(tiny_model_convert(&m, "many.h5"));
        assert_same_model("one.h5", "many.h5");
    }
}
END_TEST

/* Sizes and SHA-256 of the files that the tensors came from. */
START_TEST(the_files_of_the_source_are_recorded)
{
    tiny_model m = tiny_model_default(TINY_LLAMA);
    char hash[PS_SHA256_TEXT_BYTES];
    size_t n;
    ps_ckpt ckpt;
    assert_ok(tiny_model_write(&m, "dir"));
    assert_ok(ps_convert_directory("dir", "m.h5", NULL));
    char *file = scratch_read("dir/model.safetensors", &n);
    assert_ok(ps_sha256_text(file, n, hash));
    assert_ok(ps_ckpt_open("m.h5", &ckpt));
    ps_text wanted = {0};
    ps_text_appendf(&wanted,
                    "{\"kind\": \"huggingface\", \"model_type\": \"llama\", \"files\": [{\"name\": "
                    "\"model.safetensors\", \"bytes\": %zu, \"sha256\": \"%s\"}]}\n",
                    n, hash);
    ck_assert_str_eq(ps_text_str(&ckpt.source), ps_text_str(&wanted));
    ps_text_release(&wanted);
    ps_ckpt_close(&ckpt);
    ps_mem_free(file);
}
END_TEST

START_TEST(a_model_of_one_layer_and_width_one_converts)
{
    const tiny_model m = {.family = TINY_LLAMA,
                          .layers = 1,
                          .width = 1,
                          .heads = 1,
                          .kv_heads = 1,
                          .head_dim = 2,
                          .ffn = 1,
                          .vocabulary = 2,
                          .rope = PS_ROPE_DEFAULT,
                          .shards = 1,
                          .dtype = PS_BF16};
    write_source(&m);
    ps_spec spec = converted_spec();
    ck_assert(spec.n_layers == 1 && spec.d_model == 1 && spec.context == 0);
    ps_spec_release(&spec);
}
END_TEST

START_TEST(eos_of_generation_config_is_added)
{
    write_default(TINY_LLAMA); // eos 1
    scratch_write_text("dir/generation_config.json",
                       "{\"eos_token_id\": [9, 1, 7], \"temperature\": 0.6, \"do_sample\": true}");
    ps_spec spec = converted_spec();
    ck_assert_int_eq(spec.n_eos, 3);
    ck_assert(spec.eos_ids[0] == 1 && spec.eos_ids[1] == 9 && spec.eos_ids[2] == 7);
    ps_spec_release(&spec);
}
END_TEST

START_TEST(add_bos_is_taken_from_the_tokenizers_config)
{
    write_default(TINY_LLAMA); // bos 0
    ps_spec spec = converted_spec();
    ck_assert(!spec.add_bos);
    ps_spec_release(&spec);
    scratch_write_text("dir/tokenizer_config.json", "{\"add_bos_token\": true, \"other\": 1}");
    spec = converted_spec();
    ck_assert(spec.add_bos);
    ps_spec_release(&spec);
}
END_TEST

START_TEST(without_a_bos_none_is_added)
{
    write_default(TINY_LLAMA);
    scratch_write_text(
        "dir/config.json",
        "{\"model_type\": \"llama\", \"hidden_size\": 36, \"intermediate_size\": 40, "
        "\"num_hidden_layers\": 3, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
        "\"head_dim\": 12, \"vocab_size\": 270}");
    scratch_write_text("dir/tokenizer_config.json", "{\"add_bos_token\": true}");
    ps_spec spec = converted_spec();
    ck_assert(spec.bos_id == -1 && !spec.add_bos);
    ps_spec_release(&spec);
}
END_TEST

START_TEST(a_tokenizer_as_large_as_the_vocabulary_fits)
{
    tiny_model m = tiny_model_default(TINY_LLAMA);
    m.tokenizer = true;
    m.vocabulary = TINY_TOKENIZER_SIZE;
    write_source(&m);
    ps_spec spec = converted_spec();
    ck_assert(spec.bos_id == TINY_BOS && spec.eos_ids[0] == TINY_EOS && spec.add_bos);
    ps_spec_release(&spec);
}
END_TEST

START_TEST(an_untied_copy_of_a_tied_head_is_ignored)
{
    tiny_model m = tiny_model_default(TINY_LLAMA); // with an lm_head
    write_source(&m);
    m.tied_head = true;
    char *config = tiny_model_config(&m);
    scratch_write_text("dir/config.json", config);
    ps_mem_free(config);
    ps_spec spec = converted_spec();
    ck_assert(spec.tied_head);
    ps_spec_release(&spec);
}
END_TEST

START_TEST(an_old_model_file_is_replaced)
{
    write_default(TINY_LLAMA);
    scratch_write_text("m.h5", "old");
    ps_spec spec = converted_spec();
    ps_spec_release(&spec);
}
END_TEST

/* ---- refused ---- */

START_TEST(a_directory_without_a_config_is_refused)
{
    ck_assert_int_eq(mkdir("dir", 0700), 0);
    refuse(PS_ERR_IO, "dir/config.json: cannot open: No such file or directory");
    scratch_write_text("dir/config.json", "{\"model_type\": \"bert\"}");
    ck_assert_int_eq(ps_convert_directory("dir", "m.h5", NULL), PS_ERR_UNSUPPORTED);
    assert_mentions("dir/config.json: model_type bert is not one of");
}
END_TEST

START_TEST(a_directory_without_weights_is_refused)
{
    write_default(TINY_LLAMA);
    scratch_remove("dir/model.safetensors");
    refuse(PS_ERR_IO, "dir: holds neither model.safetensors nor model.safetensors.index.json, and "
                      "0 other *.safetensors files where one would do");
}
END_TEST

START_TEST(a_missing_tensor_is_named)
{
    write_default(TINY_LLAMA);
    edit_header("layers.1.mlp.up_proj", "up_proj", "UP_proj");
    refuse(PS_ERR_FORMAT, "dir: tensor model.layers.1.mlp.up_proj.weight is missing");
}
END_TEST

START_TEST(a_tensor_too_many_is_named)
{
    tiny_model m = tiny_model_default(TINY_LLAMA);
    m.attention_bias = true;
    write_source(&m);
    m.attention_bias = false;
    char *config = tiny_model_config(&m);
    scratch_write_text("dir/config.json", config);
    ps_mem_free(config);
    refuse(PS_ERR_FORMAT, "dir/model.safetensors: tensor model.layers.0.self_attn.q_proj.bias "
                          "belongs to no part of a llama model");
}
END_TEST

START_TEST(tensors_of_a_wrong_shape_are_refused)
{
    static const struct {
        const char *name, *from, *to, *found;
    } edits[] = {
        {"layers.2.mlp.down_proj.weight", "[36,40]", "[40,36]", "[40,36], wanted [36,40]"},
        {"layers.2.mlp.down_proj.weight", "[36,40]", "[1440]", "[1440], wanted [36,40]"},
        {"layers.2.mlp.down_proj.weight", "[36,40]", "[1,36,40]", "[1,36,40], wanted [36,40]"},
    };
    for (int i = 0; i < 3; i++) {
        char message[200];
        write_default(TINY_LLAMA);
        edit_header(edits[i].name, edits[i].from, edits[i].to);
        snprintf(message, sizeof message, "dir/model.safetensors: tensor model.%s is %s",
                 edits[i].name, edits[i].found);
        refuse(PS_ERR_SHAPE, message);
    }
}
END_TEST

START_TEST(a_vector_may_be_written_in_any_dimensions)
{
    write_default(TINY_LLAMA);
    edit_header("model.norm.weight", "[36]", "[1,4,9]");
    ps_spec spec = converted_spec();
    ps_spec_release(&spec);
}
END_TEST

START_TEST(a_config_of_other_sizes_than_the_tensors_is_refused)
{
    tiny_model m = tiny_model_default(TINY_LLAMA);
    write_source(&m);
    m.width = 37;
    char *config = tiny_model_config(&m);
    scratch_write_text("dir/config.json", config);
    ps_mem_free(config);
    refuse(PS_ERR_SHAPE, "dir/model.safetensors: tensor model.embed_tokens.weight is [270,36], "
                         "wanted [270,37]");
    m.width = 36;
    m.kv_heads = 4;
    config = tiny_model_config(&m);
    scratch_write_text("dir/config.json", config);
    ps_mem_free(config);
    refuse(PS_ERR_SHAPE, "dir/model.safetensors: tensor model.layers.0.self_attn.k_proj.weight is "
                         "[24,36], wanted [48,36]");
}
END_TEST

START_TEST(a_vector_of_a_wrong_length_is_refused)
{
    tiny_model m = tiny_model_default(TINY_QWEN3);
    write_source(&m);
    edit_header("layers.0.self_attn.q_norm.weight", "[12]", "[6,2]"); // still 12 values
    ps_spec spec = converted_spec();
    ps_spec_release(&spec);
    scratch_remove("m.h5");
    edit_header("layers.0.self_attn.q_norm.weight", "\"F32\",\"shape\":[6,2]",
                "\"F16\",\"shape\":[24]");
    refuse(PS_ERR_SHAPE, "dir/model.safetensors: tensor model.layers.0.self_attn.q_norm.weight is "
                         "[24], wanted [12]");
}
END_TEST

START_TEST(formats_that_are_not_computed_are_refused)
{
    static const char *const types[] = {"I32", "U32"};
    for (int i = 0; i < 2; i++) {
        char to[16], message[200];
        write_default(TINY_LLAMA);
        snprintf(to, sizeof to, "\"%s\"", types[i]);
        edit_header("layers.1.self_attn.v_proj.weight", "\"F32\"", to);
        snprintf(message, sizeof message,
                 "dir/model.safetensors: tensor model.layers.1.self_attn.v_proj.weight is %s, "
                 "which a model file does not hold",
                 types[i]);
        refuse(PS_ERR_UNSUPPORTED, message);
    }
}
END_TEST

START_TEST(nan_and_infinity_are_named_with_their_place)
{
    static const struct {
        ps_dtype dtype;
        uint32_t bits;
    } bad[] = {{PS_F32, 0x7FC00000}, {PS_F32, 0xFF800000}, {PS_F16, 0x7C00},
               {PS_F16, 0xFE01},     {PS_BF16, 0x7F80},    {PS_BF16, 0xFFC0}};
    tiny_model m = tiny_model_default(TINY_LLAMA);
    m.dtype = bad[_i].dtype;
    const size_t size = ps_dtype_block_bytes(m.dtype);
    write_source(&m);
    // The last value of [270,36], in the last panel, which 14 rows fill.
    poison("model.embed_tokens.weight", 270 * 36 - 1, &bad[_i].bits, size);
    refuse(PS_ERR_NUMERIC, "dir/model.safetensors: tensor model.embed_tokens.weight holds NaN or "
                           "infinity at value 9719");
    write_source(&m);
    poison("model.layers.2.input_layernorm.weight", 17, &bad[_i].bits, size);
    refuse(PS_ERR_NUMERIC, "dir/model.safetensors: tensor model.layers.2.input_layernorm.weight "
                           "holds NaN or infinity at value 17");
}
END_TEST

START_TEST(a_tokenizer_larger_than_the_vocabulary_is_refused)
{
    tiny_model m = tiny_model_default(TINY_LLAMA);
    m.vocabulary = TINY_TOKENIZER_SIZE - 1;
    write_source(&m);
    char *tokenizer = tiny_model_tokenizer();
    scratch_write_text("dir/tokenizer.json", tokenizer);
    ps_mem_free(tokenizer);
    refuse(PS_ERR_SHAPE, "dir: the tokenizer has 266 tokens, the model's vocab_size is 265");
}
END_TEST

START_TEST(side_files_that_are_broken_are_refused)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json",
                                        "generation_config.json"};
    for (int i = 0; i < 3; i++) {
        char path[64], message[64];
        write_default(TINY_LLAMA);
        snprintf(path, sizeof path, "dir/%s", names[i]);
        snprintf(message, sizeof message, "dir/%s: not valid JSON", names[i]);
        scratch_write_text(path, "{\"model\": ");
        ck_assert_int_eq(ps_convert_directory("dir", "m.h5", NULL), PS_ERR_FORMAT);
        assert_mentions(message);
        ck_assert_int_eq(scratch_count(), 1);
        scratch_remove(path);
    }
}
END_TEST

START_TEST(values_of_side_files_are_checked)
{
    write_default(TINY_LLAMA);
    scratch_write_text("dir/generation_config.json", "{\"eos_token_id\": 270}");
    refuse(PS_ERR_FORMAT, "dir/generation_config.json: eos_ids is 270, wanted 0..269");
    scratch_write_text("dir/generation_config.json", "{\"eos_token_id\": \"</s>\"}");
    refuse(PS_ERR_FORMAT,
           "dir/generation_config.json: eos_token_id holds something that is not a token id");
    scratch_write_text("dir/generation_config.json",
                       "{\"eos_token_id\": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}");
    refuse(PS_ERR_LIMIT, "dir/generation_config.json: eos_token_id has more than 16 ids");
    scratch_remove("dir/generation_config.json");
    scratch_write_text("dir/tokenizer_config.json", "{\"add_bos_token\": \"yes\"}");
    refuse(PS_ERR_FORMAT, "dir/tokenizer_config.json: add_bos_token is a string, wanted a boolean");
}
END_TEST

START_TEST(a_refusal_leaves_the_old_model_alone)
{
    write_default(TINY_LLAMA);
    scratch_write_text("m.h5", "old");
    edit_header("layers.2.mlp.down_proj", "down", "DOWN");
    ck_assert_int_eq(ps_convert_directory("dir", "m.h5", NULL), PS_ERR_FORMAT);
    ck_assert_int_eq(scratch_count(), 2);
    size_t n;
    char *old = scratch_read("m.h5", &n);
    ck_assert_str_eq(old, "old");
    ps_mem_free(old);
}
END_TEST

START_TEST(a_place_that_cannot_be_written_is_named)
{
    write_default(TINY_LLAMA);
    ck_assert_int_eq(ps_convert_directory("dir", "no/m.h5", NULL), PS_ERR_IO);
    assert_message("no/m.h5: cannot create: No such file or directory");
}
END_TEST

/* ---- limits ---- */

/* The exit status of `work` in a process of its own. */
static int in_child(void (*work)(void))
{
    int status = 0;
    const pid_t child = fork();
    if (child == 0) {
        work();
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void convert_onto_a_full_disk(void)
{
    struct rlimit usual;
    getrlimit(RLIMIT_FSIZE, &usual);
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){100000, usual.rlim_max});
    const ps_err err = ps_convert_directory("dir", "m.h5", NULL);
    setrlimit(RLIMIT_FSIZE, &usual); // Check's assertions write, too
    const bool good =
        err == PS_ERR_IO && scratch_count() == 1 &&
        strcmp(ps_err_message(), "m.h5: cannot be written (HDF5: File too large)") == 0;
    exit(good ? 0 : 1); // runs what is left to run at exit, too
}

START_TEST(a_full_disk_is_an_error_that_leaves_nothing)
{
    write_default(TINY_LLAMA); // 200 kB
    ck_assert_int_eq(in_child(convert_onto_a_full_disk), 0);
}
END_TEST

/* Zeros that take no room on the disk: 3 layers of three 32 MiB matrices. */
static tiny_model vast_model(void)
{
    return (tiny_model){.family = TINY_LLAMA,
                        .layers = 3,
                        .width = 1024,
                        .heads = 1,
                        .kv_heads = 1,
                        .head_dim = 8,
                        .ffn = 16384,
                        .vocabulary = 16,
                        .rope = PS_ROPE_DEFAULT,
                        .tied_head = true,
                        .dtype = PS_BF16,
                        .shards = 1};
}

static void write_sparse(const tiny_model *m)
{
    int n;
    size_t at = 0;
    ps_text header = {0};
    tiny_tensor *tensors = tiny_model_tensors(m, &n);
    for (int i = 0; i < n; i++) {
        const tiny_tensor *t = &tensors[i];
        const size_t bytes = 2 * (size_t)t->rows * (size_t)(t->columns > 0 ? t->columns : 1);
        ps_text_appendf(&header, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%d", i > 0 ? "," : "{",
                        t->name, t->rows);
        if (t->columns > 0) ps_text_appendf(&header, ",%d", t->columns);
        ps_text_appendf(&header, "],\"data_offsets\":[%zu,%zu]}", at, at + bytes);
        at += bytes;
    }
    ps_text_append_char(&header, '}');
    const uint64_t length = header.len;
    const int fd = open("dir/model.safetensors", O_WRONLY | O_CREAT, 0600);
    ck_assert_int_eq(pwrite(fd, &length, 8, 0), 8);
    ck_assert_int_eq(pwrite(fd, header.data, header.len, 8), (ssize_t)header.len);
    ck_assert_int_eq(ftruncate(fd, (off_t)(8 + length + at)), 0);
    close(fd);
    ps_mem_free(tensors);
    ps_text_release(&header);
}

enum { VAST_MEMORY_MIB = 32 + 60 }; // a tensor, and what the program needs

static void convert_in_little_memory(void)
{
    if (ps_convert_directory("dir", "m.h5", NULL) != PS_OK) _exit(1);
    long peak_kb = 0;
    char line[256];
    FILE *f = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, f)) {
        sscanf(line, "VmHWM: %ld kB", &peak_kb);
    }
    fclose(f);
    _exit(peak_kb > 1000 && peak_kb < VAST_MEMORY_MIB * 1024L ? 0 : 2);
}

START_TEST(memory_is_a_tensor_and_not_the_model)
{
    const tiny_model m = vast_model();
    char *config = tiny_model_config(&m);
    ck_assert_int_eq(mkdir("dir", 0700), 0);
    scratch_write_text("dir/config.json", config);
    write_sparse(&m);
    ck_assert_int_eq(in_child(convert_in_little_memory), 0);
    struct stat s;
    ck_assert_int_eq(stat("m.h5", &s), 0);
    ck_assert_int_gt(s.st_size, 9 * (32 << 20));
    ps_mem_free(config);
}
END_TEST

START_TEST(a_thousand_layers_take_no_more_than_their_share)
{
    const tiny_model m = {.family = TINY_LLAMA,
                          .layers = 1000,
                          .width = 2,
                          .heads = 1,
                          .kv_heads = 1,
                          .head_dim = 2,
                          .ffn = 1,
                          .vocabulary = 2,
                          .rope = PS_ROPE_DEFAULT,
                          .tied_head = true,
                          .shards = 1};
    write_source(&m);
    ps_spec spec = converted_spec();
    ck_assert_int_eq(spec.n_layers, 1000);
    ps_spec_release(&spec);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/convert");
    TCase *accepted = scratch_case(suite, "accepted");
    tcase_add_loop_test(accepted, shards_make_no_difference, 0, TINY_FAMILY_COUNT);
    tcase_add_test(accepted, the_files_of_the_source_are_recorded);
    tcase_add_test(accepted, a_model_of_one_layer_and_width_one_converts);
    tcase_add_test(accepted, eos_of_generation_config_is_added);
    tcase_add_test(accepted, add_bos_is_taken_from_the_tokenizers_config);
    tcase_add_test(accepted, without_a_bos_none_is_added);
    tcase_add_test(accepted, a_tokenizer_as_large_as_the_vocabulary_fits);
    tcase_add_test(accepted, an_untied_copy_of_a_tied_head_is_ignored);
    tcase_add_test(accepted, a_vector_may_be_written_in_any_dimensions);
    tcase_add_test(accepted, an_old_model_file_is_replaced);
    TCase *refused = scratch_case(suite, "refused");
    tcase_add_test(refused, a_directory_without_a_config_is_refused);
    tcase_add_test(refused, a_directory_without_weights_is_refused);
    tcase_add_test(refused, a_missing_tensor_is_named);
    tcase_add_test(refused, a_tensor_too_many_is_named);
    tcase_add_test(refused, tensors_of_a_wrong_shape_are_refused);
    tcase_add_test(refused, a_config_of_other_sizes_than_the_tensors_is_refused);
    tcase_add_test(refused, a_vector_of_a_wrong_length_is_refused);
    tcase_add_test(refused, formats_that_are_not_computed_are_refused);
    tcase_add_loop_test(refused, nan_and_infinity_are_named_with_their_place, 0, 6);
    tcase_add_test(refused, a_tokenizer_larger_than_the_vocabulary_is_refused);
    tcase_add_test(refused, side_files_that_are_broken_are_refused);
    tcase_add_test(refused, values_of_side_files_are_checked);
    tcase_add_test(refused, a_refusal_leaves_the_old_model_alone);
    tcase_add_test(refused, a_place_that_cannot_be_written_is_named);
    TCase *limits = scratch_case(suite, "limits");
    tcase_add_test(limits, a_full_disk_is_an_error_that_leaves_nothing);
    tcase_add_test(limits, memory_is_a_tensor_and_not_the_model);
    tcase_add_test(limits, a_thousand_layers_take_no_more_than_their_share);
    return scratch_run(suite);
}
