/* The files are put together with nothing but text and bytes, so that the readers under test meet
 * another hand's work. Weights are uniform and scaled by the length of a row, so that activations
 * stay near 1 and scores spread over a few units through any number of layers. */
#include "support/tiny_model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "math/rng.h"
#include "support/dice.h"
#include "tool/import/convert.h"

tiny_model tiny_model_default(tiny_family family)
{
    return (tiny_model){.family = family,
                        .layers = 3,
                        .width = 36,
                        .heads = 4,
                        .kv_heads = 2,
                        .head_dim = 12,
                        .ffn = 40,
                        .vocabulary = 270,
                        .windows = {7, 70, 0, 19},
                        .rel_pos_dim = 36,
                        .rope = PS_ROPE_DEFAULT,
                        .tied_head = family == TINY_RELPOS_LLAMA,
                        .dtype = PS_F32,
                        .shards = 1,
                        .context = 512,
                        .seed = 1};
}

tiny_model tiny_model_random(uint64_t seed)
{
    dice d = {.seed = seed};
    tiny_model m = tiny_model_default((tiny_family)dice_throw(&d, TINY_FAMILY_COUNT));
    const int group = 1 + dice_throw(&d, 4);
    m.seed = seed;
    m.layers = 1 + dice_throw(&d, 4);
    m.width = 1 + dice_throw(&d, 70);
    m.kv_heads = 1 + dice_throw(&d, 3);
    m.heads = m.kv_heads * group;
    m.head_dim = 4 * (1 + dice_throw(&d, 9));
    m.ffn = 1 + dice_throw(&d, 90);
    m.vocabulary = 2 + dice_throw(&d, 300);
    m.rel_pos_dim = 2 + dice_throw(&d, 50);
    for (int i = 0; i < TINY_WINDOWS; i++) {
        m.windows[i] = dice_throw(&d, 4) == 0 ? 0 : 1 + dice_throw(&d, 150);
    }
    m.rope = (ps_rope_kind)(PS_ROPE_DEFAULT + dice_throw(&d, 3));
    m.half_rotary = dice_throw(&d, 4) == 0;
    m.tied_head = dice_throw(&d, 2) == 0;
    m.attention_bias = m.family != TINY_MISTRAL && dice_throw(&d, 2) == 0;
    m.mlp_bias =
        (m.family == TINY_LLAMA || m.family == TINY_RELPOS_LLAMA) && dice_throw(&d, 2) == 0;
    m.dtype = (ps_dtype)dice_throw(&d, PS_DTYPE_FLOATS);
    m.shards = 1 + dice_throw(&d, 3);
    return m;
}

int tiny_model_window(const tiny_model *m, int layer)
{
    switch (m->family) {
    case TINY_MISTRAL:
        return m->windows[0];
    case TINY_QWEN3:
        return layer >= m->layers / 2 ? m->windows[0] : 0;
    case TINY_RELPOS_LLAMA:
        return m->windows[layer % TINY_WINDOWS];
    default:
        return 0;
    }
}

/* The layer's part of the list, "a+b". */
static const char *biases_of(const tiny_model *m, int layer, size_t *n)
{
    const char *all = m->score_biases ? m->score_biases : "rel_pos";
    int parts = 1, skip;
    for (const char *at = all; *at; at++) {
        parts += *at == '/';
    }
    for (skip = layer % parts; skip > 0; skip--) {
        all = strchr(all, '/') + 1;
    }
    *n = strcspn(all, "/");
    return all;
}

bool tiny_model_has_bias(const tiny_model *m, int layer, const char *kind)
{
    size_t n, length = strlen(kind);
    if (m->family != TINY_RELPOS_LLAMA) return false;
    const char *at = biases_of(m, layer, &n), *end = at + n;
    while (at < end) {
        size_t own = strcspn(at, "+/");
        if (own == length && memcmp(at, kind, own) == 0) return true;
        at += own + 1;
    }
    return false;
}

/* ---- tensors ---- */

typedef struct tensor_list {
    tiny_tensor *tensors;
    size_t capacity;
    int n;
} tensor_list;

static void add_tensor(tensor_list *list, const char *name, int rows, int columns, double center,
                       double half_width)
{
    list->tensors =
        ps_mem_grow(list->tensors, &list->capacity, (size_t)list->n + 1, sizeof *list->tensors);
    tiny_tensor *t = &list->tensors[list->n++];
    *t =
        (tiny_tensor){.rows = rows, .columns = columns, .center = center, .half_width = half_width};
    snprintf(t->name, sizeof t->name, "%s", name);
}

/* A matrix whose products with rows of size 1 have about the size `gain`; powers of two only, so
 * that coarse weights stay exact. */
static void add_matrix(tensor_list *list, const char *name, int rows, int columns, double gain)
{
    const double half_width = exp2(round(log2(gain * sqrt(3.0 / (double)columns))));
    add_tensor(list, name, rows, columns, 0.0, half_width);
}

static const char *in_layer(int layer, const char *rest, char name[64])
{
    snprintf(name, 64, "model.layers.%d.%s", layer, rest);
    return name;
}

/* Parameters of the other score biases, and of the output gate. */
static void add_scores(const tiny_model *m, int layer, tensor_list *list)
{
    char name[64];
    const struct {
        const char *kind, *tensor;
        int rows, columns;
        double center, half_width;
    } rows[] = {
        {"t5", "self_attn.relative_attention_bias.weight", TINY_T5_BUCKETS, m->heads, 0.0, 2.0},
        {"kerple_log", "self_attn.kerple_log.p", m->heads, 0, 0.5, 0.25},
        {"kerple_log", "self_attn.kerple_log.a", m->heads, 0, 0.5, 0.25},
        {"kerple_power", "self_attn.kerple_power.p", m->heads, 0, 0.25, 0.125},
        {"kerple_power", "self_attn.kerple_power.exponent", m->heads, 0, 0.5, 0.25},
        {"fire", "self_attn.fire.w1", TINY_FIRE_WIDTH, 0, 0.0, 2.0},
        {"fire", "self_attn.fire.b1", TINY_FIRE_WIDTH, 0, 0.0, 1.0},
        {"fire", "self_attn.fire.w2", m->heads, TINY_FIRE_WIDTH, 0.0, 1.0},
        {"fire", "self_attn.fire.b2", m->heads, 0, 0.0, 0.5},
        {"fire", "self_attn.fire.scalars", 3, 0, 4.0, 2.0},
        {"fox", "self_attn.fgate_proj.weight", m->heads, m->width, 0.0, 0.25},
        {"fox", "self_attn.fgate_proj.bias", m->heads, 0, 2.0, 1.0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (tiny_model_has_bias(m, layer, rows[i].kind))
            add_tensor(list, in_layer(layer, rows[i].tensor, name), rows[i].rows, rows[i].columns,
                       rows[i].center, rows[i].half_width);
    }
    if (m->output_gate == 0) return;
    const int gates = m->heads * (m->output_gate == 2 ? m->head_dim : 1);
    add_matrix(list, in_layer(layer, "self_attn.output_gate.weight", name), gates, m->width, 1.0);
    if (m->attention_bias)
        add_tensor(list, in_layer(layer, "self_attn.output_gate.bias", name), gates, 0, 0.0, 0.25);
}

static void add_attention(const tiny_model *m, int layer, tensor_list *list)
{
    char name[64];
    const int q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim;
    const struct {
        const char *matrix, *bias;
        int rows, columns;
        double gain;
    } products[] = {
        {"self_attn.q_proj.weight", "self_attn.q_proj.bias", q, m->width, 1.5},
        {"self_attn.k_proj.weight", "self_attn.k_proj.bias", kv, m->width, 1.5},
        {"self_attn.v_proj.weight", "self_attn.v_proj.bias", kv, m->width, 1.0},
        {"self_attn.o_proj.weight", "self_attn.o_proj.bias", m->width, q, 1.0},
    };
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++) {
        add_matrix(list, in_layer(layer, products[i].matrix, name), products[i].rows,
                   products[i].columns, products[i].gain);
        if (m->attention_bias)
            add_tensor(list, in_layer(layer, products[i].bias, name), products[i].rows, 0, 0.0,
                       0.25);
    }
    if (m->family == TINY_QWEN3) {
        add_tensor(list, in_layer(layer, "self_attn.q_norm.weight", name), m->head_dim, 0, 1.0,
                   0.25);
        add_tensor(list, in_layer(layer, "self_attn.k_norm.weight", name), m->head_dim, 0, 1.0,
                   0.25);
    }
    if (m->family == TINY_RELPOS_LLAMA) add_scores(m, layer, list);
    if (tiny_model_has_bias(m, layer, "rel_pos")) {
        add_matrix(list, in_layer(layer, "self_attn.linear_pos.weight", name), q, m->rel_pos_dim,
                   1.0);
        add_tensor(list, in_layer(layer, "self_attn.pos_bias_u", name), m->heads, m->head_dim, 0.0,
                   0.5);
        add_tensor(list, in_layer(layer, "self_attn.pos_bias_v", name), m->heads, m->head_dim, 0.0,
                   0.5);
    }
}

static void add_mlp(const tiny_model *m, int layer, tensor_list *list)
{
    char name[64];
    const struct {
        const char *matrix, *bias;
        int rows, columns;
    } products[] = {
        {"mlp.gate_proj.weight", "mlp.gate_proj.bias", m->ffn, m->width},
        {"mlp.up_proj.weight", "mlp.up_proj.bias", m->ffn, m->width},
        {"mlp.down_proj.weight", "mlp.down_proj.bias", m->width, m->ffn},
    };
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++) {
        add_matrix(list, in_layer(layer, products[i].matrix, name), products[i].rows,
                   products[i].columns, 1.0);
        if (m->mlp_bias)
            add_tensor(list, in_layer(layer, products[i].bias, name), products[i].rows, 0, 0.0,
                       0.25);
    }
}

tiny_tensor *tiny_model_tensors(const tiny_model *m, int *n)
{
    tensor_list list = {0};
    char name[64];
    add_tensor(&list, "model.embed_tokens.weight", m->vocabulary, m->width, 0.0, 1.0);
    for (int layer = 0; layer < m->layers; layer++) {
        add_tensor(&list, in_layer(layer, "input_layernorm.weight", name), m->width, 0, 1.0, 0.25);
        add_attention(m, layer, &list);
        add_tensor(&list, in_layer(layer, "post_attention_layernorm.weight", name), m->width, 0,
                   1.0, 0.25);
        add_mlp(m, layer, &list);
    }
    add_tensor(&list, "model.norm.weight", m->width, 0, 1.0, 0.25);
    if (!m->tied_head) add_matrix(&list, "lm_head.weight", m->vocabulary, m->width, 2.0);
    *n = list.n;
    return list.tensors;
}

static size_t value_count(const tiny_tensor *t)
{
    return (size_t)t->rows * (size_t)(t->columns > 0 ? t->columns : 1);
}

/* FNV-1a, so that each tensor has its own stream of draws. */
static uint64_t hash_name(const char *name)
{
    uint64_t hash = 14695981039346656037u;
    for (; *name; name++) {
        hash = (hash ^ (unsigned char)*name) * 1099511628211u;
    }
    return hash;
}

static double draw(const tiny_model *m, uint64_t stream, size_t index)
{
    const ps_rng_block block =
        ps_rng_philox(m->seed ^ stream, (ps_rng_block){{(uint32_t)index, 0, 0, 0}});
    const double u = 2.0 * ps_rng_uniform(block) - 1.0;
    // 6 bits of mantissa, and the norms' 1 + k/128, fit every format.
    return m->coarse ? floor(u * 32.0) / 32.0 : u;
}

/* Values of a tensor as the file stores them. */
static char *stored_values(const tiny_model *m, const tiny_tensor *t)
{
    const size_t n = value_count(t);
    const uint64_t stream = hash_name(t->name);
    float *exact = ps_mem_new(n, sizeof *exact);
    for (size_t i = 0; i < n; i++) {
        exact[i] = (float)(t->center + t->half_width * draw(m, stream, i));
    }
    char *stored = ps_mem_new(n, ps_dtype_block_bytes(m->dtype));
    ps_dtype_narrow(m->dtype, exact, n, stored);
    ps_mem_free(exact);
    return stored;
}

float *tiny_model_values(const tiny_model *m, const char *name)
{
    int n;
    tiny_tensor *tensors = tiny_model_tensors(m, &n);
    float *values = NULL;
    for (int i = 0; i < n && !values; i++) {
        if (strcmp(tensors[i].name, name) != 0) continue;
        const size_t count = value_count(&tensors[i]);
        char *stored = stored_values(m, &tensors[i]);
        values = ps_mem_new(count, sizeof *values);
        ps_dtype_widen(m->dtype, stored, count, values);
        ps_mem_free(stored);
    }
    ps_mem_free(tensors);
    return values;
}

/* ---- files ---- */

static char *path_in(const char *directory, const char *name)
{
    ps_text path = {0};
    ps_text_appendf(&path, "%s/%s", directory, name);
    return ps_text_take(&path);
}

static ps_err write_file(const char *directory, const char *name, const void *bytes, size_t n)
{
    char *path = path_in(directory, name);
    FILE *f = fopen(path, "w");
    ps_err err = PS_OK;
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0)
        err = PS_FAIL(PS_ERR_IO, "%s: cannot be written", path);
    ps_mem_free(path);
    return err;
}

static void append_header(const tiny_model *m, const tiny_tensor *tensors, int n, ps_text *header)
{
    static const char *const names[PS_DTYPE_FLOATS] = {
        [PS_F32] = "F32", [PS_F16] = "F16", [PS_BF16] = "BF16"};
    size_t at = 0;
    ps_text_append_str(header, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int i = 0; i < n; i++) {
        const tiny_tensor *t = &tensors[i];
        const size_t bytes = value_count(t) * ps_dtype_block_bytes(m->dtype);
        ps_text_appendf(header, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%d", t->name, names[m->dtype],
                        t->rows);
        if (t->columns > 0) ps_text_appendf(header, ",%d", t->columns);
        ps_text_appendf(header, "],\"data_offsets\":[%zu,%zu]}", at, at + bytes);
        at += bytes;
    }
    ps_text_append_char(header, '}');
}

static ps_err write_shard(const tiny_model *m, const char *directory, const char *name,
                          const tiny_tensor *tensors, int n)
{
    ps_text file = {0}, header = {0};
    append_header(m, tensors, n, &header);
    for (int i = 0; i < 8; i++) {
        ps_text_append_char(&file, (char)((uint64_t)header.len >> (8 * i)));
    }
    ps_text_append(&file, header.data, header.len);
    for (int i = 0; i < n; i++) {
        char *stored = stored_values(m, &tensors[i]);
        ps_text_append(&file, stored, value_count(&tensors[i]) * ps_dtype_block_bytes(m->dtype));
        ps_mem_free(stored);
    }
    const ps_err err = write_file(directory, name, file.data, file.len);
    ps_text_release(&header);
    ps_text_release(&file);
    return err;
}

static ps_err write_shards(const tiny_model *m, const char *directory, const tiny_tensor *tensors,
                           int n)
{
    ps_text index = {0};
    ps_err err = PS_OK;
    ps_text_append_str(&index, "{\"metadata\": {}, \"weight_map\": {");
    for (int s = 0; s < m->shards && !err; s++) {
        char name[64];
        const int first = n * s / m->shards, end = n * (s + 1) / m->shards;
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", s + 1, m->shards);
        err = write_shard(m, directory, name, tensors + first, end - first);
        for (int i = first; i < end; i++) {
            ps_text_appendf(&index, "%s\n \"%s\": \"%s\"", i > 0 ? "," : "", tensors[i].name, name);
        }
    }
    ps_text_append_str(&index, "}}\n");
    if (!err) err = write_file(directory, "model.safetensors.index.json", index.data, index.len);
    ps_text_release(&index);
    return err;
}

static ps_err write_texts(const tiny_model *m, const char *directory)
{
    char *config = tiny_model_config(m), *tokenizer = tiny_model_tokenizer();
    static const char tokenizer_config[] = "{\"add_bos_token\": true}\n";
    ps_err err = write_file(directory, "config.json", config, strlen(config));
    if (!err && m->tokenizer)
        err = write_file(directory, "tokenizer.json", tokenizer, strlen(tokenizer));
    if (!err && m->tokenizer)
        err = write_file(directory, "tokenizer_config.json", tokenizer_config,
                         sizeof tokenizer_config - 1);
    ps_mem_free(tokenizer);
    ps_mem_free(config);
    return err;
}

ps_err tiny_model_write(const tiny_model *m, const char *directory)
{
    PS_TRY(ps_file_make_dirs(directory));
    PS_TRY(write_texts(m, directory));
    int n;
    tiny_tensor *tensors = tiny_model_tensors(m, &n);
    const ps_err err = m->shards > 1 ? write_shards(m, directory, tensors, n)
                                     : write_shard(m, directory, "model.safetensors", tensors, n);
    ps_mem_free(tensors);
    return err;
}

/* Removes what tiny_model_write has written. */
static void remove_source(const tiny_model *m, const char *directory)
{
    static const char *const names[] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                                        "model.safetensors", "model.safetensors.index.json"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char *path = path_in(directory, names[i]);
        unlink(path);
        ps_mem_free(path);
    }
    for (int s = 0; s < m->shards; s++) {
        char name[64];
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", s + 1, m->shards);
        char *path = path_in(directory, name);
        unlink(path);
        ps_mem_free(path);
    }
    rmdir(directory);
}

ps_err tiny_model_convert(const tiny_model *m, const char *path)
{
    ps_text source = {0};
    ps_text_appendf(&source, "%s.source", path);
    ps_err err = tiny_model_write(m, source.data);
    if (!err) err = ps_convert_directory(source.data, path, NULL);
    remove_source(m, source.data);
    ps_text_release(&source);
    return err;
}
