/* Adapters merged at conversion, against W + s B A in double precision: the matrices of a source
 * are changed by hand, and what is converted from that must be what is converted with the adapter.
 *
 * The kernels are picked here, so that the instruction sets can be compared. */
#include "tool/import/lora.h"

#include <sys/stat.h>

#include "base/log.h"
#include "foreign_model.h"
#include "math/isa.h"
#include "support/dice.h"
#include "support/same_model.h"

#define SMALL(model_type, rest)                                                                    \
    "{'model_type': '" model_type "', 'hidden_size': 24, 'intermediate_size': 20, "                \
    "'num_hidden_layers': 2, 'num_attention_heads': 2, 'vocab_size': 30" rest "}"
#define GPT2                                                                                       \
    "{'model_type': 'gpt2', 'n_embd': 24, 'n_layer': 2, 'n_head': 2, 'vocab_size': 30, "           \
    "'n_positions': 10}"
#define GPT_OSS                                                                                    \
    SMALL("gpt_oss", ", 'rope_scaling': null, 'num_local_experts': 3, "                            \
                     "'num_experts_per_tok': 2")
#define PREFIX   "base_model.model."
#define SUFFIX_A ".lora_A.weight"
#define SUFFIX_B ".lora_B.weight"

enum { RANK = 5, PATHS_MAX = 2 };

/* ---- the kernels ---- */

ps_err __real_ps_isa_kernels(const char *name, const struct ps_kernels **out);
ps_err __wrap_ps_isa_kernels(const char *name, const struct ps_kernels **out);

static const char *isa; // that every caller gets; NULL: what it asks for

ps_err __wrap_ps_isa_kernels(const char *name, const struct ps_kernels **out)
{
    return __real_ps_isa_kernels(isa ? isa : name, out);
}

/* ---- numbers ---- */

/* In [-1, 1), another for each tensor and place. */
static double random_value(void *arg, const foreign_tensor *t, size_t i)
{
    dice d = {.seed = (uint64_t)t->number + *(const uint64_t *)arg, .next = (uint32_t)i};
    return dice_real(&d, -1.0, 1.0);
}

static const uint64_t source_seed = 1000, adapter_seeds[PATHS_MAX] = {2000, 3000};

static foreign_model make_source(const char *config)
{
    foreign_model m = foreign_make(config);
    m.value = random_value;
    m.arg = (void *)(uintptr_t)&source_seed;
    return m;
}

/* ---- adapters ---- */

typedef struct adapter {
    const char *path;
    foreign_model factors;
    double factor; // s
} adapter;

/* Length of a name without ".weight". */
static size_t module_bytes(const char *name)
{
    const size_t n = strlen(name), m = sizeof ".weight" - 1;
    return n > m && strcmp(name + n - m, ".weight") == 0 ? n - m : n;
}

static void factor_name(const char *module, const char *suffix, char out[112])
{
    const int n = snprintf(out, 112, PREFIX "%.*s%s", (int)module_bytes(module), module, suffix);
    ck_assert_int_lt(n, 112);
}

static void add_factors(adapter *a, const char *module, size_t out, size_t in, ps_dtype dtype)
{
    char name[112];
    factor_name(module, SUFFIX_A, name);
    foreign_add(&a->factors, name, 2, (size_t[]){RANK, in})->dtype = dtype;
    factor_name(module, SUFFIX_B, name);
    foreign_add(&a->factors, name, 2, (size_t[]){out, RANK})->dtype = dtype;
}

static bool is_stored_by_columns(const char *name)
{
    return strncmp(name, "transformer.h.", 14) == 0 && strstr(name, ".c_"); // of gpt2
}

/* Factors for every matrix but the tables that are looked up in. */
static void adapt_all(adapter *a, const foreign_model *m, ps_dtype dtype)
{
    for (int i = 0; i < m->n; i++) {
        const foreign_tensor *t = &m->tensors[i];
        const bool table = strstr(t->name, "embed") || strstr(t->name, "wte") ||
                           strstr(t->name, "wpe") || strstr(t->name, "word_embeddings");
        if (t->n_dims != 2 || table) continue;
        const bool columns = is_stored_by_columns(t->name);
        add_factors(a, t->name, t->shape[columns], t->shape[!columns], dtype);
    }
}

static adapter make_adapter(int number)
{
    static const char *const paths[PATHS_MAX] = {"one", "two"};
    adapter a = {.path = paths[number]};
    a.factors.value = random_value;
    a.factors.arg = (void *)(uintptr_t)&adapter_seeds[number];
    return a;
}

/* The directory; ' stands for ". */
static void write_adapter(const adapter *a, const char *config)
{
    char path[64];
    assert_ok(ps_file_make_dirs(a->path));
    snprintf(path, sizeof path, "%s/adapter_config.json", a->path);
    char *json = swap_quotes(config, '\'', '"');
    scratch_write_text(path, json);
    ps_mem_free(json);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", a->path);
    foreign_write_as(&a->factors, path);
}

/* ---- by hand ---- */

typedef struct merged {
    foreign_model *source;
    adapter *adapters;
    int n;
} merged;

static double product_at(adapter *a, const char *tensor, size_t row, size_t column, bool *found)
{
    char name[112];
    factor_name(tensor, SUFFIX_A, name);
    const foreign_tensor *low = foreign_find(&a->factors, name);
    factor_name(tensor, SUFFIX_B, name);
    const foreign_tensor *high = foreign_find(&a->factors, name);
    double sum = 0.0;
    *found = low && high;
    for (size_t r = 0; *found && r < low->shape[0]; r++) {
        sum += (double)foreign_value(&a->factors, high, row * low->shape[0] + r) *
               (double)foreign_value(&a->factors, low, r * low->shape[1] + column);
    }
    return sum;
}

static double merged_value(void *arg, const foreign_tensor *t, size_t i)
{
    merged *m = arg;
    double value = (double)foreign_value(m->source, foreign_at(m->source, t->name), i);
    if (t->n_dims != 2) return value;
    const bool columns = is_stored_by_columns(t->name);
    const size_t first = i / t->shape[1], second = i % t->shape[1];
    for (int k = 0; k < m->n; k++) {
        bool found;
        const double product = product_at(&m->adapters[k], t->name, columns ? second : first,
                                          columns ? first : second, &found);
        value += m->adapters[k].factor * product;
    }
    return value;
}

/* by-hand.h5 */
static void convert_by_hand(foreign_model *source, adapter *adapters, int n)
{
    merged m = {source, adapters, n};
    foreign_model by_hand = *source;
    by_hand.value = merged_value;
    by_hand.arg = &m;
    for (int i = 0; i < by_hand.n; i++) {
        by_hand.tensors[i].dtype = PS_F32;
    }
    foreign_write(&by_hand);
    assert_ok(ps_convert_directory("dir", "by-hand.h5", NULL));
}

/* by-hand.h5 and m.h5 hold the same values but for the rounding of f32. */
static void assert_close(const char *config)
{
    ps_import import = import_of(config);
    int cursor = 0;
    ps_tensor_need next, need;
    while (ps_tensor_next(&import.spec, &cursor, &next)) {
        float *wanted = model_values("by-hand.h5", next.role, next.layer, &need);
        float *found = converted_values(next.role, next.layer, &need);
        for (size_t i = 0; i < (size_t)need.count * (size_t)need.n * (size_t)need.k; i++) {
            if (fabs((double)found[i] - (double)wanted[i]) <= 4e-6) continue;
            ck_abort_msg("role %d, layer %d, value %zu: %.9g, wanted %.9g", next.role, next.layer,
                         i, (double)found[i], (double)wanted[i]);
        }
        ps_mem_free(found);
        ps_mem_free(wanted);
    }
    ps_spec_release(&import.spec);
}

/* m.h5 with adapters, as f32. */
static ps_err convert_with(const char *const *loras, int n)
{
    const ps_convert_options options = {
        .has_type = true, .type = PS_F32, .loras = loras, .n_loras = n};
    return ps_convert_directory("dir", "m.h5", &options);
}

/* ---- merged ---- */

static const char *const configs[] = {
    SMALL("llama", ", 'num_key_value_heads': 1"),
    SMALL("phi3", ", 'num_key_value_heads': 1"), // q, k, v and gate, up are one each
    GPT2,                                        // columns
    SMALL("gpt_neox", ", 'rotary_pct': 0.5"),    // q, k, v head by head
    SMALL("cohere", ""),                         // rotated neighbours
    "{'model_type': 'gptj', 'n_embd': 24, 'n_layer': 2, 'n_head': 2, 'vocab_size': 30, "
    "'rotary_dim': 8}",
    "{'model_type': 'falcon', 'hidden_size': 24, 'num_hidden_layers': 2, 'num_attention_heads': 4, "
    "'vocab_size': 30, 'new_decoder_architecture': true, 'num_kv_heads': 2}", // by groups
    SMALL("mixtral", ", 'num_local_experts': 3"),
};

START_TEST(an_adapter_of_every_matrix_is_merged_whatever_the_layout)
{
    foreign_model m = make_source(configs[_i]);
    adapter a = make_adapter(0);
    adapt_all(&a, &m, PS_F32);
    ck_assert_int_gt(a.factors.n, 8);
    write_adapter(&a, "{'peft_type': 'LORA', 'lora_alpha': 4, 'r': 5, 'lora_dropout': 0.1, "
                      "'bias': 'none', 'target_modules': ['all'], 'use_dora': false, "
                      "'modules_to_save': null, 'rank_pattern': {}, 'alpha_pattern': {}, "
                      "'init_lora_weights': true, 'fan_in_fan_out': true}");
    a.factor = 4.0 / 5.0;
    convert_by_hand(&m, &a, 1);
    foreign_write(&m);
    assert_ok(convert_with((const char *[]){"one"}, 1));
    assert_close(configs[_i]);
}
END_TEST

START_TEST(factors_and_weights_may_be_of_any_float_format)
{
    static const ps_dtype formats[] = {PS_F32, PS_F16, PS_BF16};
    for (int w = 0; w < 3; w++) {
        foreign_model m = make_source(configs[0]);
        for (int i = 0; i < m.n; i++) {
            m.tensors[i].dtype = formats[w];
        }
        adapter a = make_adapter(0);
        adapt_all(&a, &m, formats[_i]);
        write_adapter(&a, "{'lora_alpha': 5}");
        a.factor = 1.0;
        convert_by_hand(&m, &a, 1);
        foreign_write(&m);
        assert_ok(convert_with((const char *[]){"one"}, 1));
        assert_close(configs[0]);
    }
}
END_TEST

START_TEST(several_adapters_add_up_each_with_its_scale)
{
    foreign_model m = make_source(configs[1]);
    adapter a[2] = {make_adapter(0), make_adapter(1)};
    adapt_all(&a[0], &m, PS_F32);
    add_factors(&a[1], "model.layers.1.self_attn.qkv_proj.weight", 48, 24, PS_BF16);
    write_adapter(&a[0], "{'lora_alpha': 10, 'use_rslora': true}");
    write_adapter(&a[1], "{'lora_alpha': 2.5}");
    a[0].factor = 0.25 * 10.0 / sqrt(5.0);
    a[1].factor = -3.0 * 2.5 / 5.0;
    convert_by_hand(&m, a, 2);
    foreign_write(&m);
    assert_ok(convert_with((const char *[]){"one:0.25", "two:-3"}, 2));
    assert_close(configs[1]);
}
END_TEST

START_TEST(a_scale_of_nothing_changes_nothing)
{
    foreign_model m = make_source(configs[0]);
    adapter a = make_adapter(0);
    adapt_all(&a, &m, PS_F32);
    write_adapter(&a, "{'lora_alpha': 10}");
    foreign_write(&m);
    assert_ok(ps_convert_directory("dir", "plain.h5", NULL));
    assert_ok(convert_with((const char *[]){"one:0"}, 1));
    assert_same_model("plain.h5", "m.h5");
    assert_ok(convert_with((const char *[]){"one:1e-3"}, 1));
    ps_tensor_need need;
    float *plain = model_values("plain.h5", PS_ROLE_UP, 1, &need);
    float *changed = converted_values(PS_ROLE_UP, 1, &need);
    ck_assert(plain[0] != changed[0]);
    ps_mem_free(changed);
    ps_mem_free(plain);
}
END_TEST

START_TEST(a_colon_without_a_number_belongs_to_the_name)
{
    foreign_model m = make_source(configs[0]);
    adapter a = make_adapter(0);
    adapt_all(&a, &m, PS_F32);
    foreign_write(&m);
    static const char *const names[] = {"a:b", "a:", "a:1x", "a:nan", "a:b:1"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        a.path = i == 4 ? "a:b" : names[i];
        write_adapter(&a, "{'lora_alpha': 10}");
        assert_ok(convert_with(&names[i], 1));
    }
}
END_TEST

/* The weights keep their format unless it is to be another. */
START_TEST(a_merged_matrix_keeps_its_format)
{
    foreign_model m = make_source(configs[0]);
    const char *name = "model.layers.1.mlp.up_proj.weight";
    foreign_at(&m, name)->dtype = PS_BF16;
    adapter a = make_adapter(0);
    add_factors(&a, name, 20, 24, PS_F32);
    write_adapter(&a, "{'lora_alpha': 10}");
    foreign_write(&m);
    static const char *const loras[] = {"one"};
    assert_ok(
        ps_convert_directory("dir", "m.h5", &(ps_convert_options){.loras = loras, .n_loras = 1}));
    ps_tensor_need need;
    float *up = converted_values(PS_ROLE_UP, 1, &need);
    for (size_t i = 0; i < 20 * 24; i++) {
        bool found;
        const double exact = (double)foreign_value(&m, foreign_at(&m, name), i) +
                             2.0 * product_at(&a, name, i / 24, i % 24, &found);
        ck_assert_double_eq_tol((double)up[i], exact, fabs(exact) / 256.0 + 1e-6);
    }
    ps_mem_free(up);
    ps_ckpt ckpt;
    assert_ok(ps_ckpt_open("m.h5", &ckpt));
    ck_assert_int_eq(ps_ckpt_find(&ckpt, PS_ROLE_UP, 1)->dtype, PS_BF16);
    ck_assert_int_eq(ps_ckpt_find(&ckpt, PS_ROLE_UP, 0)->dtype, PS_F32);
    ps_ckpt_close(&ckpt);
}
END_TEST

/* Hubs have some models without the first part of their names, and adapters of either kind. */
START_TEST(names_may_come_without_their_first_part)
{
    foreign_model m = make_source(GPT2);
    adapter a = make_adapter(0);
    adapt_all(&a, &m, PS_F32);
    write_adapter(&a, "{'lora_alpha': 10}");
    foreign_write(&m);
    assert_ok(convert_with((const char *[]){"one"}, 1));
    assert_ok(rename("m.h5", "full.h5") == 0 ? PS_OK : PS_ERR_IO);
    foreign_model bare = m;
    adapter bare_adapter = a;
    for (int i = 0; i < m.n; i++) {
        const char *dot = strchr(m.tensors[i].name, '.');
        memmove(bare.tensors[i].name, dot + 1, strlen(dot));
    }
    for (int i = 0; i < a.factors.n; i++) {
        char *name = bare_adapter.factors.tensors[i].name;
        const size_t n = strlen(PREFIX), part = strlen("transformer.");
        memmove(name + n, name + n + part, strlen(name) - n - part + 1);
    }
    bare_adapter.path = "bare";
    write_adapter(&bare_adapter, "{'lora_alpha': 10}");
    assert_ok(convert_with((const char *[]){"bare"}, 1));
    assert_same_model("full.h5", "m.h5");
    foreign_write(&bare);
    assert_ok(convert_with((const char *[]){"one"}, 1));
    assert_same_model("full.h5", "m.h5");
    assert_ok(convert_with((const char *[]){"bare"}, 1));
    assert_same_model("full.h5", "m.h5");
}
END_TEST

START_TEST(the_bytes_do_not_depend_on_the_instruction_set)
{
    foreign_model m = make_source(configs[1]);
    adapter a = make_adapter(0);
    adapt_all(&a, &m, PS_F16);
    write_adapter(&a, "{'lora_alpha': 3}");
    foreign_write(&m);
    size_t n = 0, n_again;
    char *first = NULL;
    for (int i = 0; i < ps_isa_count(); i++) {
        if (!ps_isa_supported(i)) continue;
        isa = ps_isa_name(i);
        assert_ok(convert_with((const char *[]){"one"}, 1));
        char *bytes = scratch_read("m.h5", &n_again);
        if (first) {
            ck_assert_uint_eq(n_again, n);
            ck_assert_mem_eq(bytes, first, n);
            ps_mem_free(bytes);
        } else {
            first = bytes;
            n = n_again;
        }
    }
    ps_mem_free(first);
    isa = NULL;
}
END_TEST

/* ---- refused ---- */

static void refuse_with(const char *const *loras, int n, ps_err code, const char *message)
{
    const ps_err err = convert_with(loras, n);
    ck_assert_msg(err == code && strcmp(ps_err_message(), message) == 0, "%s: %s\nwanted %s: %s",
                  ps_err_name(err), ps_err_message(), ps_err_name(code), message);
    ck_assert(!scratch_exists("m.h5"));
}

static void refuse_one(ps_err code, const char *message)
{
    refuse_with((const char *[]){"one"}, 1, code, message);
}

#define UP "model.layers.0.mlp.up_proj"

/* A Llama and an adapter of one matrix, [20,24]. */
static adapter write_plain(void)
{
    foreign_model m = make_source(configs[0]);
    adapter a = make_adapter(0);
    add_factors(&a, UP ".weight", 20, 24, PS_F32);
    foreign_write(&m);
    write_adapter(&a, "{'lora_alpha': 10}");
    return a;
}

START_TEST(what_is_more_than_two_factors_is_refused_by_its_key)
{
    static const struct {
        const char *keys, *named;
    } cases[] = {
        {"'use_dora': true", "use_dora"},
        {"'bias': 'all'", "bias"},
        {"'bias': 'lora_only'", "bias"},
        {"'lora_bias': true", "lora_bias"},
        {"'modules_to_save': ['lm_head']", "modules_to_save"},
        {"'rank_pattern': {'up_proj': 3}", "rank_pattern"},
        {"'alpha_pattern': {'up_proj': 3}", "alpha_pattern"},
        {"'layer_replication': [[0, 1]]", "layer_replication"},
        {"'trainable_token_indices': [1]", "trainable_token_indices"},
        {"'target_parameters': ['experts.down_proj']", "target_parameters"},
        {"'use_qalora': true", "use_qalora"},
        {"'alora_invocation_tokens': [1, 2]", "alora_invocation_tokens"},
        {"'a_key_of_next_year': 0", "a_key_of_next_year"},
        {"'init_lora_weights': 'pissa'", "init_lora_weights pissa"},
        {"'init_lora_weights': 'olora'", "init_lora_weights olora"},
        {"'init_lora_weights': 7", "init_lora_weights of another type"},
    };
    const adapter a = write_plain();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char config[128], message[128];
        snprintf(config, sizeof config, "{'lora_alpha': 10, %s}", cases[i].keys);
        write_adapter(&a, config);
        snprintf(message, sizeof message,
                 "one/adapter_config.json: an adapter with %s is not merged here", cases[i].named);
        refuse_one(PS_ERR_UNSUPPORTED, message);
    }
    static const char *const harmless[] = {
        "'use_dora': null", "'bias': 'none'", "'init_lora_weights': 'gaussian'",
        "'a_key_of_next_year': false", "'init_lora_weights': false"};
    for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++) {
        char config[128];
        snprintf(config, sizeof config, "{'lora_alpha': 10, %s}", harmless[i]);
        write_adapter(&a, config);
        assert_ok(convert_with((const char *[]){"one"}, 1));
    }
}
END_TEST

START_TEST(configs_of_another_kind_are_refused)
{
    static const struct {
        const char *config;
        ps_err err;
        const char *message;
    } cases[] = {
        {"{'peft_type': 'LOHA', 'lora_alpha': 1}", PS_ERR_UNSUPPORTED,
         "one/adapter_config.json: peft_type LOHA is not merged here"},
        {"{'r': 8}", PS_ERR_FORMAT, "one/adapter_config.json: key lora_alpha is missing"},
        {"{'r': 4, 'lora_alpha': 1}", PS_ERR_SHAPE,
         "one/adapter_model.safetensors: tensor " PREFIX UP SUFFIX_A " has rank 5, but r is 4"},
    };
    const adapter a = write_plain();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_adapter(&a, cases[i].config);
        refuse_one(cases[i].err, cases[i].message);
    }
    write_adapter(&a, "{'lora_alpha': ");
    ck_assert_int_eq(convert_with((const char *[]){"one"}, 1), PS_ERR_FORMAT);
    assert_mentions("one/adapter_config.json: not valid JSON");
}
END_TEST

START_TEST(missing_files_are_named)
{
    write_plain();
    scratch_remove("one/adapter_model.safetensors");
    refuse_one(PS_ERR_IO, "one/adapter_model.safetensors: cannot open: No such file or directory");
    scratch_remove("one/adapter_config.json");
    refuse_one(PS_ERR_IO, "one/adapter_config.json: cannot open: No such file or directory");
}
END_TEST

START_TEST(factors_of_wrong_shapes_are_refused)
{
    static const struct {
        int factor;
        size_t shape[2];
        ps_err err;
        const char *message;
    } cases[] = {
        {0, {5, 20}, PS_ERR_SHAPE, SUFFIX_A " is [5,20], wanted [5,24]"},
        {1, {24, 5}, PS_ERR_SHAPE, SUFFIX_B " is [24,5], wanted [20,5]"},
        {1, {20, 4}, PS_ERR_SHAPE, SUFFIX_B " is [20,4], wanted [20,5]"},
        {0, {0, 24}, PS_ERR_SHAPE, SUFFIX_A " has rank 0, wanted 1..65536"},
        {0, {70000, 1}, PS_ERR_SHAPE, SUFFIX_A " has rank 70000, wanted 1..65536"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char message[200];
        adapter a = write_plain();
        memcpy(a.factors.tensors[cases[i].factor].shape, cases[i].shape, sizeof cases[i].shape);
        write_adapter(&a, "{'lora_alpha': 10}");
        snprintf(message, sizeof message, "one/adapter_model.safetensors: tensor " PREFIX UP "%s",
                 cases[i].message);
        refuse_one(cases[i].err, message);
    }
}
END_TEST

START_TEST(one_factor_alone_is_refused)
{
    for (int kept = 0; kept < 2; kept++) {
        adapter a = write_plain();
        a.factors.tensors[0] = a.factors.tensors[kept];
        a.factors.n = 1;
        write_adapter(&a, "{'lora_alpha': 10}");
        refuse_one(PS_ERR_FORMAT, "one: tensor " UP ".weight has one of lora_A and lora_B only");
    }
}
END_TEST

START_TEST(tensors_that_are_no_factors_are_refused)
{
    static const struct {
        const char *name;
        int n_dims;
    } cases[] = {
        {PREFIX "lm_head.weight", 2},
        {PREFIX "model.embed_tokens.lora_embedding_A", 2},
        {PREFIX UP ".lora_magnitude_vector", 1},
        {PREFIX UP ".lora_B.bias", 1},
        {PREFIX UP "2" SUFFIX_A, 1},
        {UP SUFFIX_A, 2},
        {"base_model.model" SUFFIX_A, 2},
        {PREFIX "lora_A.weight", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char message[250];
        adapter a = write_plain();
        foreign_add(&a.factors, cases[i].name, cases[i].n_dims, (size_t[]){5, 24});
        write_adapter(&a, "{'lora_alpha': 10}");
        snprintf(message, sizeof message,
                 "one/adapter_model.safetensors: tensor %s is not a low-rank factor of a matrix, "
                 "and is not merged here",
                 cases[i].name);
        refuse_one(PS_ERR_UNSUPPORTED, message);
    }
}
END_TEST

START_TEST(an_adapter_that_fits_no_matrix_is_refused)
{
    static const char *const modules[] = {"model.layers.2.mlp.up_proj", "lm_headed",
                                          "deep.er.model.layers.0.mlp.up_proj",
                                          "model.layers.0.input_layernorm", "proj"};
    for (size_t i = 0; i < sizeof modules / sizeof modules[0]; i++) {
        char message[250];
        adapter a = write_plain();
        add_factors(&a, modules[i], 20, 24, PS_F32);
        write_adapter(&a, "{'lora_alpha': 10}");
        snprintf(message, sizeof message,
                 "one/adapter_model.safetensors: tensor " PREFIX "%s" SUFFIX_A
                 " fits no matrix of the model",
                 modules[i]);
        refuse_one(PS_ERR_FORMAT, message);
    }
}
END_TEST

/* A tied head is the embedding: an adapter of the head alone has no place. */
START_TEST(an_adapter_of_a_tied_head_is_refused)
{
    foreign_model m = make_source(SMALL("llama", ", 'tie_word_embeddings': true"));
    adapter a = make_adapter(0);
    add_factors(&a, "lm_head.weight", 30, 24, PS_F32);
    foreign_write(&m);
    write_adapter(&a, "{'lora_alpha': 10}");
    refuse_one(PS_ERR_FORMAT, "one/adapter_model.safetensors: tensor " PREFIX "lm_head" SUFFIX_A
                              " fits no matrix of the model");
}
END_TEST

START_TEST(experts_in_one_tensor_take_no_adapter)
{
    foreign_model m = make_source(GPT_OSS);
    adapter a = make_adapter(0);
    add_factors(&a, "model.layers.0.mlp.experts.down_proj", 24, 20, PS_F32);
    foreign_write(&m);
    write_adapter(&a, "{'lora_alpha': 10}");
    refuse_one(PS_ERR_UNSUPPORTED,
               "dir/model.safetensors: tensor model.layers.0.mlp.experts.down_proj holds all "
               "experts: an adapter of it is not merged here");
}
END_TEST

static double one_infinite(void *arg, const foreign_tensor *t, size_t i)
{
    return i == 7 ? (double)INFINITY : random_value(arg, t, i);
}

static double huge(void *arg, const foreign_tensor *t, size_t i)
{
    (void)t;
    return i == 7 ? 3e38 : (double)(*(const uint64_t *)arg * 0 + 1);
}

START_TEST(numbers_that_are_none_are_refused)
{
    adapter a = write_plain();
    a.factors.value = one_infinite;
    write_adapter(&a, "{'lora_alpha': 10}");
    refuse_one(PS_ERR_NUMERIC, "one/adapter_model.safetensors: tensor " PREFIX UP SUFFIX_A
                               " holds NaN or infinity");
    a.factors.value = huge; // both factors are numbers, their product is none
    write_adapter(&a, "{'lora_alpha': 10}");
    refuse_one(PS_ERR_NUMERIC,
               "dir/model.safetensors: tensor " UP ".weight is too large for f32 at value 7");
}
END_TEST

START_TEST(factors_that_are_no_floats_are_refused)
{
    static const unsigned char bytes[20 * 24] = {0};
    adapter a = write_plain();
    a.factors.tensors[0].bytes = bytes;
    write_adapter(&a, "{'lora_alpha': 10}");
    refuse_one(PS_ERR_UNSUPPORTED, "one/adapter_model.safetensors: tensor " PREFIX UP SUFFIX_A
                                   " is U8, wanted F32, F16 or BF16");
}
END_TEST

START_TEST(a_gguf_file_takes_no_adapter)
{
    write_plain();
    static const char *const loras[] = {"one"};
    scratch_write_text("m.gguf", "GGUF");
    const ps_convert_options options = {.loras = loras, .n_loras = 1};
    ck_assert_int_eq(ps_convert_model("m.gguf", "m.h5", &options), PS_ERR_UNSUPPORTED);
    assert_message("m.gguf: adapters name the tensors of a Hugging Face directory, and are merged "
                   "into such alone");
}
END_TEST

int main(void)
{
    ps_log_set(PS_LOG_ERROR, 0);
    Suite *suite = suite_create("tool/lora");
    TCase *merging = scratch_case(suite, "merging");
    tcase_add_loop_test(merging, an_adapter_of_every_matrix_is_merged_whatever_the_layout, 0,
                        (int)(sizeof configs / sizeof configs[0]));
    tcase_add_loop_test(merging, factors_and_weights_may_be_of_any_float_format, 0, 3);
    tcase_add_test(merging, several_adapters_add_up_each_with_its_scale);
    tcase_add_test(merging, a_scale_of_nothing_changes_nothing);
    tcase_add_test(merging, a_colon_without_a_number_belongs_to_the_name);
    tcase_add_test(merging, a_merged_matrix_keeps_its_format);
    tcase_add_test(merging, names_may_come_without_their_first_part);
    tcase_add_test(merging, the_bytes_do_not_depend_on_the_instruction_set);
    TCase *refused = scratch_case(suite, "refused");
    tcase_add_test(refused, what_is_more_than_two_factors_is_refused_by_its_key);
    tcase_add_test(refused, configs_of_another_kind_are_refused);
    tcase_add_test(refused, missing_files_are_named);
    tcase_add_test(refused, factors_of_wrong_shapes_are_refused);
    tcase_add_test(refused, one_factor_alone_is_refused);
    tcase_add_test(refused, tensors_that_are_no_factors_are_refused);
    tcase_add_test(refused, an_adapter_that_fits_no_matrix_is_refused);
    tcase_add_test(refused, an_adapter_of_a_tied_head_is_refused);
    tcase_add_test(refused, experts_in_one_tensor_take_no_adapter);
    tcase_add_test(refused, numbers_that_are_none_are_refused);
    tcase_add_test(refused, factors_that_are_no_floats_are_refused);
    tcase_add_test(refused, a_gguf_file_takes_no_adapter);
    return scratch_run(suite);
}
