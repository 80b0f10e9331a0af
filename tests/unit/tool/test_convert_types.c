/* Conversion into another format: every value is what the quantiser makes of the source's row,
 * within the format's error; what keeps its format; what is refused. And mxfp4 as Hugging Face
 * stores it, against the same values stored plainly. */
#include <stdlib.h>

#include "base/log.h"
#include "foreign_model.h"
#include "support/dice.h"

#define SMALL(model_type, rest)                                                                    \
    "{'model_type': '" model_type "', 'hidden_size': 24, 'intermediate_size': 20, "                \
    "'num_hidden_layers': 1, 'num_attention_heads': 2, 'vocab_size': 30" rest "}"
/* Every row is a block of 256. */
#define WIDE(model_type, rest)                                                                     \
    "{'model_type': '" model_type "', 'hidden_size': 256, 'intermediate_size': 256, "              \
    "'num_hidden_layers': 1, 'num_attention_heads': 4, 'vocab_size': 30" rest "}"

static const ps_dtype types[] = {PS_F32, PS_F16, PS_BF16, PS_Q8_0, PS_Q4_0, PS_Q4_K};
enum { N_TYPES = sizeof types / sizeof types[0] };

static char *golden_dir;

/* Of all sizes, so that the blocks have different scales. */
static double some_value(void *arg, const foreign_tensor *t, size_t i)
{
    (void)arg;
    dice d = {.seed = (uint64_t)t->number, .next = (uint32_t)i};
    const double value = dice_real(&d, -1.0, 1.0);
    return value * (1.0 + (double)(i / 256 % 7)) * 0.01;
}

static foreign_model make_source(const char *config)
{
    foreign_model m = foreign_make(config);
    m.value = some_value;
    return m;
}

static ps_err convert_to(ps_dtype type, const char *path)
{
    const ps_convert_options options = {.has_type = true, .type = type};
    return ps_convert_directory("dir", path, &options);
}

static int layer_of(ps_role role)
{
    return role == PS_ROLE_EMBED || role == PS_ROLE_HEAD || role == PS_ROLE_POSITIONS ? -1 : 0;
}

static ps_dtype format_of(const char *path, ps_role role)
{
    ps_ckpt ckpt;
    assert_ok(ps_ckpt_open(path, &ckpt));
    const ps_ckpt_tensor *t = ps_ckpt_find(&ckpt, role, layer_of(role));
    ck_assert_ptr_nonnull(t);
    const ps_dtype dtype = t->dtype;
    ps_ckpt_close(&ckpt);
    return dtype;
}

/* ---- values ---- */

/* The largest error that rounding to a format may make in a block of 32 values. */
static double error_bound(ps_dtype type, const float *block, int i)
{
    float low = 0.0f, high = 0.0f;
    for (int k = 0; k < 32; k++) {
        low = block[k] < low ? block[k] : low;
        high = block[k] > high ? block[k] : high;
    }
    const double largest = (double)(high > -low ? high : -low);
    switch (type) {
    case PS_F32:
        return 0.0;
    case PS_F16:
        return fabs((double)block[i]) / 2048.0 + 0x1p-25;
    case PS_BF16:
        return fabs((double)block[i]) / 256.0;
    case PS_Q8_0: // half a step, and the rounding of the scale
        return largest / 127.0 * 0.57;
    case PS_Q4_0: // the largest may stand at the end where there are 7 steps
        return largest / 8.0 * 1.01;
    default: // half a step, and the rounding of scale and minimum to 6 bits
        return (double)(high - low) / 15.0 * 0.5 + (double)(high - low) * 0.07;
    }
}

static void check_values(const char *path, const char *plain, ps_dtype type, ps_role role)
{
    ps_tensor_need need;
    const int layer = layer_of(role);
    float *source = model_values(plain, role, layer, &need);
    float *found = model_values(path, role, layer, &need);
    const size_t k = (size_t)need.k;
    char *narrow = ps_mem_new(k * sizeof(float), 1);
    float *wanted = ps_mem_new(k, sizeof *wanted);
    ck_assert_int_eq(format_of(path, role), type);
    for (size_t row = 0; row < (size_t)need.count * (size_t)need.n; row++) {
        const float *from = source + row * k, *to = found + row * k;
        ps_dtype_narrow(type, from, k, narrow);
        ps_dtype_widen(type, narrow, k, wanted);
        ck_assert_mem_eq(to, wanted, k * sizeof *wanted);
        for (size_t i = 0; i < k; i++) {
            const double error = fabs((double)to[i] - (double)from[i]);
            const double bound = error_bound(type, from + i / 32 * 32, (int)(i % 32));
            // Check notes every assertion with a system call.
            if (error <= bound) continue;
            ck_abort_msg("%s: %.9g became %.9g, bound %.3g", ps_dtype_name(type), (double)from[i],
                         (double)to[i], bound);
        }
    }
    ps_mem_free(wanted);
    ps_mem_free(narrow);
    ps_mem_free(found);
    ps_mem_free(source);
}

START_TEST(every_value_is_within_its_formats_error)
{
    const foreign_model m = make_source(WIDE("llama", ""));
    static const ps_role roles[] = {PS_ROLE_EMBED, PS_ROLE_HEAD, PS_ROLE_Q,    PS_ROLE_K,
                                    PS_ROLE_O,     PS_ROLE_UP,   PS_ROLE_DOWN, PS_ROLE_GATE};
    foreign_write(&m);
    assert_ok(ps_convert_directory("dir", "plain.h5", NULL));
    assert_ok(convert_to(types[_i], "m.h5"));
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
        check_values("m.h5", "plain.h5", types[_i], roles[i]);
    }
    ps_tensor_need need; // vectors are f32 all the same
    float *plain = model_values("plain.h5", PS_ROLE_MLP_NORM, 0, &need);
    float *norm = converted_values(PS_ROLE_MLP_NORM, 0, &need);
    ck_assert_mem_eq(norm, plain, 256 * sizeof *norm);
    ps_mem_free(norm);
    ps_mem_free(plain);
}
END_TEST

START_TEST(rows_are_quantised_where_the_source_has_columns)
{
    const foreign_model m = make_source(
        "{'model_type': 'gpt2', 'n_embd': 256, 'n_layer': 1, 'n_head': 2, 'vocab_size': 30, "
        "'n_positions': 10}");
    foreign_write(&m);
    assert_ok(ps_convert_directory("dir", "plain.h5", NULL));
    assert_ok(convert_to(types[_i], "m.h5"));
    check_values("m.h5", "plain.h5", types[_i], PS_ROLE_K);
    check_values("m.h5", "plain.h5", types[_i], PS_ROLE_DOWN);
}
END_TEST

START_TEST(the_same_source_gives_the_same_bytes)
{
    const foreign_model m = make_source(WIDE("llama", ""));
    size_t n, n_again;
    foreign_write(&m);
    assert_ok(convert_to(types[_i], "m.h5"));
    assert_ok(convert_to(types[_i], "again.h5"));
    char *one = scratch_read("m.h5", &n), *other = scratch_read("again.h5", &n_again);
    ck_assert_uint_eq(n, n_again);
    ck_assert_mem_eq(one, other, n);
    ps_mem_free(other);
    ps_mem_free(one);
}
END_TEST

/* ---- what keeps its format ---- */

START_TEST(routers_and_positions_keep_their_format)
{
    static const struct {
        const char *config;
        ps_role kept, changed;
    } cases[] = {
        {WIDE("mixtral", ", 'num_local_experts': 3"), PS_ROLE_ROUTER, PS_ROLE_EXPERT_DOWN},
        {"{'model_type': 'gpt2', 'n_embd': 256, 'n_layer': 1, 'n_head': 2, 'vocab_size': 30, "
         "'n_positions': 10}",
         PS_ROLE_POSITIONS, PS_ROLE_EMBED},
        {WIDE("relpos_llama", ", 'attention_score_bias': 'rel_pos'"), PS_ROLE_REL_POS_W, PS_ROLE_Q},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        foreign_model m = make_source(cases[i].config);
        for (int t = 0; t < m.n; t++) {
            m.tensors[t].dtype = PS_BF16;
        }
        foreign_write(&m);
        assert_ok(ps_convert_directory("dir", "plain.h5", NULL));
        assert_ok(convert_to(types[_i], "m.h5"));
        ck_assert_int_eq(format_of("m.h5", cases[i].kept), PS_BF16);
        check_values("m.h5", "plain.h5", PS_BF16, cases[i].kept);
        check_values("m.h5", "plain.h5", types[_i], cases[i].changed);
    }
}
END_TEST

START_TEST(a_tied_head_is_the_embedding_in_its_new_format)
{
    const foreign_model m = make_source(WIDE("llama", ", 'tie_word_embeddings': true"));
    foreign_write(&m);
    assert_ok(ps_convert_directory("dir", "plain.h5", NULL));
    assert_ok(convert_to(types[_i], "m.h5"));
    check_values("m.h5", "plain.h5", types[_i], PS_ROLE_EMBED);
    ps_ckpt ckpt;
    assert_ok(ps_ckpt_open("m.h5", &ckpt));
    ck_assert(ckpt.spec.tied_head && !ps_ckpt_find(&ckpt, PS_ROLE_HEAD, -1));
    ps_ckpt_close(&ckpt);
}
END_TEST

/* Rows of a head of that kind have length one before they are rounded. */
START_TEST(rows_of_a_unit_head_are_scaled_first)
{
    const foreign_model m = make_source(WIDE("baichuan", ", 'z_loss_weight': 0"));
    foreign_write(&m);
    assert_ok(ps_convert_directory("dir", "plain.h5", NULL));
    assert_ok(convert_to(types[_i], "m.h5"));
    check_values("m.h5", "plain.h5", types[_i], PS_ROLE_HEAD);
}
END_TEST

/* ---- quantised sources ---- */

static char *mixed_path(void)
{
    ps_text path = {0};
    ps_text_appendf(&path, "%s/gguf/llama-mixed/model.gguf", golden_dir);
    return ps_text_take(&path);
}

START_TEST(a_quantised_source_is_rounded_from_the_values_that_it_stands_for)
{
    char *path = mixed_path(); // 17 formats
    assert_ok(ps_convert_gguf(path, "plain.h5", NULL));
    const ps_convert_options options = {.has_type = true, .type = types[_i]};
    assert_ok(ps_convert_gguf(path, "m.h5", &options));
    ps_ckpt plain;
    assert_ok(ps_ckpt_open("plain.h5", &plain));
    for (int i = 0; i < plain.n_tensors; i++) {
        const ps_tensor_need *t = &plain.tensors[i].need;
        ps_tensor_need need;
        if (!t->panel) continue;
        float *source = model_values("plain.h5", t->role, t->layer, &need);
        float *found = converted_values(t->role, t->layer, &need);
        const size_t k = (size_t)need.k, n = (size_t)need.n;
        float *wanted = ps_mem_new(k, sizeof *wanted);
        char *narrow = ps_mem_new(k * sizeof(float), 1);
        for (size_t row = 0; row < n; row++) {
            ps_dtype_narrow(types[_i], source + row * k, k, narrow);
            ps_dtype_widen(types[_i], narrow, k, wanted);
            // A matrix that has the format already keeps its blocks.
            const bool same = plain.tensors[i].dtype == types[_i];
            const float *there = same ? source + row * k : wanted;
            ck_assert_mem_eq(found + row * k, there, k * sizeof *found);
        }
        ps_mem_free(narrow);
        ps_mem_free(wanted);
        ps_mem_free(found);
        ps_mem_free(source);
    }
    ps_ckpt_close(&plain);
    free(path);
}
END_TEST

/* ---- refused ---- */

static void refuses(ps_err found, ps_err code, const char *message)
{
    ck_assert_msg(found == code && strcmp(ps_err_message(), message) == 0, "%s: %s\nwanted %s: %s",
                  ps_err_name(found), ps_err_message(), ps_err_name(code), message);
    ck_assert(!scratch_exists("m.h5"));
}

START_TEST(rows_that_a_block_does_not_divide_are_refused_by_name)
{
    const foreign_model m =
        make_source("{'model_type': 'llama', 'hidden_size': 64, 'intermediate_size': 40, "
                    "'num_hidden_layers': 1, 'num_attention_heads': 2, 'vocab_size': 30}");
    foreign_write(&m);
    refuses(convert_to(PS_Q4_K, "m.h5"), PS_ERR_UNSUPPORTED,
            "dir/model.safetensors: tensor model.embed_tokens.weight has rows of "
            "64 values, and q4_k wants blocks of 256");
    refuses(convert_to(PS_Q8_0, "m.h5"), PS_ERR_UNSUPPORTED,
            "dir/model.safetensors: tensor model.layers.0.mlp.down_proj.weight "
            "has rows of 40 values, and q8_0 wants blocks of 32");
    assert_ok(convert_to(PS_BF16, "m.h5"));
}
END_TEST

static double too_large(void *arg, const foreign_tensor *t, size_t i)
{
    return strstr(t->name, "up_proj") && i == 300 ? 3e8 : some_value(arg, t, i);
}

/* The values are numbers, but not in that format: not even as a scale. */
START_TEST(values_that_the_format_cannot_hold_are_named)
{
    static const struct {
        ps_dtype type;
        size_t at; // the value, or the first of its block
    } cases[] = {{PS_F16, 300}, {PS_Q8_0, 288}, {PS_Q4_0, 288}, {PS_Q4_K, 256}};
    foreign_model m = make_source(WIDE("llama", ""));
    m.value = too_large;
    foreign_write(&m);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char message[200];
        snprintf(message, sizeof message,
                 "dir/model.safetensors: tensor model.layers.0.mlp.up_proj.weight is too large for "
                 "%s at value %zu",
                 ps_dtype_name(cases[i].type), cases[i].at);
        refuses(convert_to(cases[i].type, "m.h5"), PS_ERR_NUMERIC, message);
    }
    assert_ok(convert_to(PS_BF16, "m.h5"));
}
END_TEST

/* ---- mxfp4 of Hugging Face ---- */

#define GPT_OSS(rest)                                                                              \
    "{'model_type': 'gpt_oss', 'hidden_size': 64, 'intermediate_size': 32, "                       \
    "'num_hidden_layers': 2, 'num_attention_heads': 2, 'vocab_size': 30, 'rope_scaling': null, "   \
    "'num_local_experts': 3, 'num_experts_per_tok': 2" rest "}"
#define HUB                                                                                        \
    GPT_OSS(", 'quantization_config': {'quant_method': 'mxfp4', 'modules_to_not_convert': "        \
            "['model.layers.*.self_attn', 'lm_head']}")

enum { BYTES_MAX = 3 * 64 * 32 };

/* Blocks and exponents of an expert matrix of the hub, [E, rows, k]. */
static unsigned char code_at(const char *name, size_t i)
{
    dice d = {.seed = strlen(name) * 100 + (size_t)(name[13] - '0'), .next = (uint32_t)i};
    return (unsigned char)dice_throw(&d, 256);
}

static unsigned char exponent_at(const char *name, size_t block)
{
    return (unsigned char)(120 + code_at(name, 100000 + block) % 9);
}

static double mxfp4_value(const char *name, size_t value)
{
    static const double numbers[8] = {0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0};
    const int code = code_at(name, value / 2) >> (value % 2 * 4) & 15;
    const double number = code & 8 ? -numbers[code & 7] : numbers[code & 7];
    return ldexp(number, exponent_at(name, value / 32) - 127);
}

static bool is_expert_matrix(const char *name)
{
    const size_t n = strlen(name);
    return strstr(name, ".experts.") && strcmp(name + n - 5, "_proj") == 0;
}

/* The plain source stores [E, k, rows]. */
static double plain_value(void *arg, const foreign_tensor *t, size_t i)
{
    if (!is_expert_matrix(t->name)) return some_value(arg, t, i);
    const size_t k = t->shape[1], rows = t->shape[2], expert = i / (k * rows);
    const size_t column = i / rows % k, row = i % rows;
    return mxfp4_value(t->name, (expert * rows + row) * k + column);
}

/* The same with [E, rows, G, 16] and [E, rows, G] for each matrix; bytes[] lasts as long as it. */
static foreign_model hub_source(unsigned char (*bytes)[BYTES_MAX])
{
    foreign_model m = make_source(HUB), out = {.value = some_value};
    int used = 0;
    for (int i = 0; i < m.n; i++) {
        const foreign_tensor *t = &m.tensors[i];
        char name[112];
        if (!is_expert_matrix(t->name)) {
            foreign_add(&out, t->name, t->n_dims, t->shape)->number = t->number;
            continue;
        }
        const size_t blocks = foreign_values(t) / 32;
        ck_assert_uint_le(blocks * 16, BYTES_MAX);
        for (size_t b = 0; b < blocks * 16; b++) {
            bytes[used][b] = code_at(t->name, b);
        }
        for (size_t b = 0; b < blocks; b++) {
            bytes[used + 1][b] = exponent_at(t->name, b);
        }
        size_t shape[4] = {t->shape[0], t->shape[1], t->shape[2] / 32, 16};
        snprintf(name, sizeof name, "%.90s_blocks", t->name);
        foreign_add(&out, name, 4, shape)->bytes = bytes[used];
        snprintf(name, sizeof name, "%.90s_scales", t->name);
        foreign_add(&out, name, 3, shape)->bytes = bytes[used + 1];
        used += 2;
    }
    return out;
}

/* As numbers: the zeros of mxfp4 have signs. */
static void assert_equal(const float *found, const float *wanted, const ps_tensor_need *need)
{
    const size_t n = (size_t)need->count * (size_t)need->n * (size_t)need->k;
    size_t different = 0;
    for (size_t i = 0; i < n; i++) {
        different += found[i] != wanted[i];
    }
    ck_assert_uint_eq(different, 0);
}

static unsigned char hub_bytes[8][BYTES_MAX];

START_TEST(mxfp4_of_the_hub_is_what_the_same_values_are_when_stored_plainly)
{
    foreign_model plain = foreign_make(GPT_OSS(""));
    plain.value = plain_value;
    foreign_write(&plain);
    assert_ok(ps_convert_directory("dir", "plain.h5", NULL));
    const foreign_model hub = hub_source(hub_bytes);
    ck_assert_int_eq(hub.n, plain.n + 4);
    foreign_write(&hub);
    assert_ok(ps_convert_directory("dir", "m.h5", NULL));
    ps_ckpt one, other;
    ps_text one_spec = {0}, other_spec = {0};
    assert_ok(ps_ckpt_open("plain.h5", &one));
    assert_ok(ps_ckpt_open("m.h5", &other));
    ps_spec_to_json(&one.spec, &one_spec);
    ps_spec_to_json(&other.spec, &other_spec);
    ck_assert_str_eq(ps_text_str(&one_spec), ps_text_str(&other_spec));
    ck_assert_int_eq(one.n_tensors, other.n_tensors);
    for (int i = 0; i < one.n_tensors; i++) {
        const ps_tensor_need *t = &one.tensors[i].need;
        const bool expert = t->role == PS_ROLE_EXPERT_GATE || t->role == PS_ROLE_EXPERT_UP ||
                            t->role == PS_ROLE_EXPERT_DOWN;
        ps_tensor_need need;
        ck_assert_int_eq(other.tensors[i].dtype, expert ? PS_MXFP4 : one.tensors[i].dtype);
        float *wanted = model_values("plain.h5", t->role, t->layer, &need);
        float *found = converted_values(t->role, t->layer, &need);
        assert_equal(found, wanted, &need);
        ps_mem_free(found);
        ps_mem_free(wanted);
    }
    ps_text_release(&other_spec);
    ps_text_release(&one_spec);
    ps_ckpt_close(&other);
    ps_ckpt_close(&one);
}
END_TEST

START_TEST(mxfp4_of_the_hub_is_widened_to_what_the_plain_one_has)
{
    foreign_model plain = foreign_make(GPT_OSS(""));
    plain.value = plain_value;
    foreign_write(&plain);
    assert_ok(convert_to(PS_F32, "plain.h5"));
    const foreign_model hub = hub_source(hub_bytes);
    foreign_write(&hub);
    assert_ok(convert_to(PS_BF16, "m.h5")); // holds these exactly
    ps_tensor_need need;
    float *wanted = model_values("plain.h5", PS_ROLE_EXPERT_UP, 1, &need);
    float *found = converted_values(PS_ROLE_EXPERT_UP, 1, &need);
    assert_equal(found, wanted, &need);
    ps_mem_free(found);
    ps_mem_free(wanted);
    ck_assert_int_eq(format_of("m.h5", PS_ROLE_EXPERT_DOWN), PS_BF16);
}
END_TEST

#define DOWN "model.layers.1.mlp.experts.down_proj"

START_TEST(broken_mxfp4_is_refused)
{
    foreign_model hub = hub_source(hub_bytes);
    unsigned char *exponents = (unsigned char *)(uintptr_t)foreign_at(&hub, DOWN "_scales")->bytes;
    exponents[70] = 255; // block 70 of [3,64,1]
    foreign_write(&hub);
    refuses(ps_convert_directory("dir", "m.h5", NULL), PS_ERR_NUMERIC,
            "dir/model.safetensors: tensor " DOWN " holds NaN or infinity at value 2240");
    hub = hub_source(hub_bytes);
    foreign_tensor *scales = foreign_at(&hub, DOWN "_scales");
    scales->shape[1] = 32; // another shape than the blocks have
    foreign_write(&hub);
    refuses(ps_convert_directory("dir", "m.h5", NULL), PS_ERR_FORMAT,
            "dir: tensor " DOWN " is missing");
    *scales = hub.tensors[--hub.n];
    foreign_write(&hub);
    refuses(ps_convert_directory("dir", "m.h5", NULL), PS_ERR_FORMAT,
            "dir: tensor " DOWN " is missing");
    hub = hub_source(hub_bytes);
    scales = foreign_at(&hub, DOWN "_scales");
    foreign_tensor *blocks = foreign_at(&hub, DOWN "_blocks");
    scales->shape[1] = blocks->shape[1] = 32; // alike, but not those that are wanted
    foreign_write(&hub);
    refuses(ps_convert_directory("dir", "m.h5", NULL), PS_ERR_SHAPE,
            "dir/model.safetensors: tensor " DOWN " is [3,32,32], wanted [3,64,32]");
}
END_TEST

START_TEST(other_methods_of_quantization_are_refused)
{
    refuse(GPT_OSS(", 'quantization_config': {'quant_method': 'gptq'}"), PS_ERR_UNSUPPORTED,
           "config.json: quantization_config has method gptq, wanted mxfp4");
    refuse(GPT_OSS(", 'quantization_config': {'bits': 4}"), PS_ERR_UNSUPPORTED,
           "config.json: quantization_config has method none, wanted mxfp4");
}
END_TEST

int main(void)
{
    ps_log_set(PS_LOG_ERROR, 0); // not the errors of every matrix
    golden_dir = realpath("tests/golden", NULL);
    Suite *suite = suite_create("tool/convert types");
    TCase *values = scratch_case(suite, "values");
    tcase_add_loop_test(values, every_value_is_within_its_formats_error, 0, N_TYPES);
    tcase_add_loop_test(values, rows_are_quantised_where_the_source_has_columns, 0, N_TYPES);
    tcase_add_loop_test(values, the_same_source_gives_the_same_bytes, 0, N_TYPES);
    tcase_add_loop_test(values, routers_and_positions_keep_their_format, 0, N_TYPES);
    tcase_add_loop_test(values, a_tied_head_is_the_embedding_in_its_new_format, 0, N_TYPES);
    tcase_add_loop_test(values, rows_of_a_unit_head_are_scaled_first, 0, N_TYPES);
    tcase_add_loop_test(values, a_quantised_source_is_rounded_from_the_values_that_it_stands_for, 0,
                        N_TYPES);
    TCase *refused = scratch_case(suite, "refused");
    tcase_add_test(refused, rows_that_a_block_does_not_divide_are_refused_by_name);
    tcase_add_test(refused, values_that_the_format_cannot_hold_are_named);
    TCase *mxfp4 = scratch_case(suite, "mxfp4");
    tcase_add_test(mxfp4, mxfp4_of_the_hub_is_what_the_same_values_are_when_stored_plainly);
    tcase_add_test(mxfp4, mxfp4_of_the_hub_is_widened_to_what_the_plain_one_has);
    tcase_add_test(mxfp4, broken_mxfp4_is_refused);
    tcase_add_test(mxfp4, other_methods_of_quantization_are_refused);
    const int status = scratch_run(suite);
    free(golden_dir);
    return status;
}
