#include "tool/import/lora.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "math/isa.h"
#include "math/kernels.h"
#include "math/panel.h"
#include "tool/import/safetensors.h"

enum { CONFIG_BYTES_MAX = 1 << 24, RANK_MAX = 1 << 16 };

static const char prefix[] = "base_model.model.", suffix_a[] = ".lora_A.weight",
                  suffix_b[] = ".lora_B.weight";

struct ps_lora {
    char *directory, *config; // owned; config: path of adapter_config.json
    ps_safetensors *files;
    bool *used; // [tensors of files]
    const ps_kernels *kernels;
    double scale, alpha; // of the argument, of the config
    int r;               // of the config; 0: not there
    bool by_root;        // alpha / sqrt(r)
    // the current adapter
    size_t rank, in, stride; // stride: `in` rounded up to 16
    float factor;            // s
    float *a;                // [rank, stride]
    float *b;                // [out, rank]
    float *b_rows, *product; // [16, rank], [16, stride]
};

/* ---- adapter_config.json ---- */

static ps_err fail_key(const ps_lora *l, const char *key)
{
    return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: an adapter with %s is not merged here", l->config, key);
}

/* Keys that say nothing about the numbers, or are read elsewhere. */
static bool is_harmless(const char *key)
{
    static const char *const harmless[] = {"auto_mapping",
                                           "base_model_name_or_path",
                                           "corda_config",
                                           "ensure_weight_tying",
                                           "eva_config",
                                           "exclude_modules",
                                           "fan_in_fan_out",
                                           "inference_mode",
                                           "init_lora_weights",
                                           "layers_pattern",
                                           "layers_to_transform",
                                           "loftq_config",
                                           "lora_alpha",
                                           "lora_dropout",
                                           "lora_ga_config",
                                           "megatron_config",
                                           "megatron_core",
                                           "peft_type",
                                           "peft_version",
                                           "qalora_group_size",
                                           "r",
                                           "revision",
                                           "runtime_config",
                                           "target_modules",
                                           "task_type",
                                           "use_rslora"};
    for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++) {
        if (strcmp(key, harmless[i]) == 0) return true;
    }
    return false;
}

/* Every other key would change the result, unless it is null, false, empty, or "none". */
static bool is_plain(const json_t *value)
{
    const char *text = json_string_value(value);
    if (text) return strcmp(text, "none") == 0;
    return json_is_null(value) || json_is_false(value) ||
           (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

/* Some ways to begin an adapter change the weights that it is added to. */
static bool keeps_base(const json_t *init)
{
    static const char *const kept[] = {"gaussian", "eva", "orthogonal"};
    const char *text = json_string_value(init);
    for (size_t i = 0; text && i < sizeof kept / sizeof kept[0]; i++) {
        if (strcmp(text, kept[i]) == 0) return true;
    }
    return !init || json_is_null(init) || json_is_boolean(init);
}

static ps_err check_keys(const ps_lora *l, json_t *root)
{
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value)
    {
        if (!is_harmless(key) && !is_plain(value)) return fail_key(l, key);
    }
    const json_t *init = json_object_get(root, "init_lora_weights");
    if (keeps_base(init)) return PS_OK;
    const char *text = json_string_value(init);
    return PS_FAIL(PS_ERR_UNSUPPORTED,
                   "%s: an adapter with init_lora_weights %s is not merged here", l->config,
                   text ? text : "of another type");
}

static ps_err read_config(ps_lora *l)
{
    json_t *root = NULL;
    const char *type = "LORA";
    PS_TRY(ps_json_load(l->config, CONFIG_BYTES_MAX, &root));
    ps_err err = ps_json_opt_text(root, "peft_type", l->config, &type);
    if (!err && strcmp(type, "LORA") != 0)
        err = PS_FAIL(PS_ERR_UNSUPPORTED, "%s: peft_type %s is not merged here", l->config, type);
    if (!err) err = check_keys(l, root);
    if (!err) err = ps_json_opt_int(root, "r", 1, RANK_MAX, l->config, &l->r);
    if (!err) err = ps_json_get_real(root, "lora_alpha", l->config, &l->alpha);
    if (!err) err = ps_json_opt_bool(root, "use_rslora", l->config, &l->by_root);
    json_decref(root);
    return err;
}

/* DIR or DIR:SCALE; a colon that no number follows belongs to the name. */
static void split_argument(const char *argument, ps_lora *l)
{
    l->directory = ps_mem_copy_text(argument);
    l->scale = 1.0;
    char *colon = strrchr(l->directory, ':');
    if (!colon || colon[1] == '\0') return;
    char *end;
    const double scale = strtod(colon + 1, &end);
    if (*end != '\0' || !isfinite(scale)) return;
    l->scale = scale;
    *colon = '\0';
}

static bool ends_with(const char *name, const char *suffix)
{
    const size_t n = strlen(name), m = strlen(suffix);
    return n > m && strcmp(name + n - m, suffix) == 0;
}

static ps_err check_tensors(const ps_lora *l)
{
    const size_t n_prefix = sizeof prefix - 1;
    for (int i = 0; i < ps_safetensors_count(l->files); i++) {
        const ps_safetensors_tensor *t = ps_safetensors_at(l->files, i);
        const bool named =
            strncmp(t->name, prefix, n_prefix) == 0 &&
            (ends_with(t->name + n_prefix, suffix_a) || ends_with(t->name + n_prefix, suffix_b));
        if (named && t->n_dims == 2) continue;
        return PS_FAIL(PS_ERR_UNSUPPORTED,
                       "%s: tensor %s is not a low-rank factor of a matrix, and is not merged here",
                       ps_safetensors_file(l->files, t), t->name);
    }
    return PS_OK;
}

ps_err ps_lora_open(const char *argument, ps_lora **out)
{
    *out = NULL;
    ps_lora *l = ps_mem_new(1, sizeof *l);
    split_argument(argument, l);
    ps_text path = {0};
    ps_text_appendf(&path, "%s/adapter_config.json", l->directory);
    l->config = ps_text_take(&path);
    ps_text_appendf(&path, "%s/adapter_model.safetensors", l->directory);
    ps_err err = ps_isa_kernels(NULL, &l->kernels);
    if (!err) err = read_config(l);
    if (!err) err = ps_safetensors_open(ps_text_str(&path), &l->files);
    if (!err) {
        l->used = ps_mem_new((size_t)ps_safetensors_count(l->files), sizeof *l->used);
        err = check_tensors(l);
    }
    ps_text_release(&path);
    if (err) {
        ps_lora_close(l);
    } else {
        *out = l;
    }
    return err;
}

static void release_current(ps_lora *l)
{
    ps_mem_free(l->a);
    ps_mem_free(l->b);
    ps_mem_free(l->b_rows);
    ps_mem_free(l->product);
    l->a = l->b = l->b_rows = l->product = NULL;
}

void ps_lora_close(ps_lora *l)
{
    if (!l) return;
    release_current(l);
    ps_mem_free(l->used);
    ps_safetensors_close(l->files);
    ps_mem_free(l->config);
    ps_mem_free(l->directory);
    ps_mem_free(l);
}

/* ---- one adapter ---- */

/* Whether an adapter's module of n bytes is the tensor's of m: the same, or one of them with a
 * first part more ("model.", "transformer."), as files of a bare model and of one with its head
 * differ. */
static bool is_same_module(const char *module, size_t n, const char *tensor, size_t m)
{
    const size_t shorter = n < m ? n : m, more = (n < m ? m : n) - shorter;
    const char *longer = n < m ? tensor : module;
    if (memcmp(module + (n - shorter), tensor + (m - shorter), shorter) != 0) return false;
    return more == 0 || memchr(longer, '.', more) == longer + more - 1;
}

/* The factor of a tensor, or NULL. */
static const ps_safetensors_tensor *find_factor(const ps_lora *l, const char *tensor,
                                                const char *suffix)
{
    static const char weight[] = ".weight";
    const size_t m = strlen(tensor) - (ends_with(tensor, weight) ? sizeof weight - 1 : 0);
    for (int i = 0; i < ps_safetensors_count(l->files); i++) {
        const ps_safetensors_tensor *t = ps_safetensors_at(l->files, i);
        const char *module = t->name + sizeof prefix - 1;
        if (!ends_with(module, suffix)) continue;
        if (!is_same_module(module, strlen(module) - strlen(suffix), tensor, m)) continue;
        l->used[i] = true;
        return t;
    }
    return NULL;
}

/* Before memory is taken for it: the file holds as many values, so they are no more than it has. */
static ps_err check_factor(const ps_lora *l, const ps_safetensors_tensor *t, size_t rows,
                           size_t columns)
{
    if (t->shape[0] == rows && t->shape[1] == columns) return PS_OK;
    return PS_FAIL(PS_ERR_SHAPE, "%s: tensor %s is [%zu,%zu], wanted [%zu,%zu]",
                   ps_safetensors_file(l->files, t), t->name, t->shape[0], t->shape[1], rows,
                   columns);
}

/* out[rows, stride] = the tensor as f32 */
static ps_err widen_factor(const ps_lora *l, const ps_safetensors_tensor *t, size_t rows,
                           size_t columns, size_t stride, float *out)
{
    static const struct {
        ps_safetensors_dtype from;
        ps_dtype to;
    } types[] = {
        {PS_SAFETENSORS_F32, PS_F32}, {PS_SAFETENSORS_F16, PS_F16}, {PS_SAFETENSORS_BF16, PS_BF16}};
    const char *file = ps_safetensors_file(l->files, t);
    const size_t row_bytes = t->bytes / rows;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (types[i].from != t->dtype) continue;
        for (size_t r = 0; r < rows; r++) {
            ps_dtype_widen(types[i].to, t->data + r * row_bytes, columns, out + r * stride);
            if (ps_dtype_first_not_finite(PS_F32, out + r * stride, columns) != columns)
                return PS_FAIL(PS_ERR_NUMERIC, "%s: tensor %s holds NaN or infinity", file,
                               t->name);
        }
        return PS_OK;
    }
    return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: tensor %s is %s, wanted F32, F16 or BF16", file,
                   t->name, ps_safetensors_dtype_name(t->dtype));
}

ps_err ps_lora_select(ps_lora *l, const char *tensor, size_t out, size_t in, bool *found)
{
    const ps_safetensors_tensor *a = find_factor(l, tensor, suffix_a);
    const ps_safetensors_tensor *b = find_factor(l, tensor, suffix_b);
    *found = a || b;
    release_current(l);
    if (!*found) return PS_OK;
    if (!a || !b)
        return PS_FAIL(PS_ERR_FORMAT, "%s: tensor %s has one of lora_A and lora_B only",
                       l->directory, tensor);
    l->rank = a->shape[0];
    if (l->rank < 1 || l->rank > RANK_MAX)
        return PS_FAIL(PS_ERR_SHAPE, "%s: tensor %s has rank %zu, wanted 1..%d",
                       ps_safetensors_file(l->files, a), a->name, l->rank, RANK_MAX);
    if (l->r > 0 && l->rank != (size_t)l->r)
        return PS_FAIL(PS_ERR_SHAPE, "%s: tensor %s has rank %zu, but r is %d",
                       ps_safetensors_file(l->files, a), a->name, l->rank, l->r);
    PS_TRY(check_factor(l, a, l->rank, in));
    PS_TRY(check_factor(l, b, out, l->rank));
    const double r = l->by_root ? sqrt((double)l->rank) : (double)l->rank;
    l->factor = (float)(l->scale * l->alpha / r);
    l->in = in;
    l->stride = ps_mem_round_up(in, PS_PANEL_LANES);
    l->a = ps_mem_new(l->rank * l->stride, sizeof *l->a);
    l->b = ps_mem_new(out * l->rank, sizeof *l->b);
    l->b_rows = ps_mem_new(PS_PANEL_LANES * l->rank, sizeof *l->b_rows);
    l->product = ps_mem_new(PS_PANEL_LANES * l->stride, sizeof *l->product);
    PS_TRY(widen_factor(l, a, l->rank, in, l->stride, l->a));
    return widen_factor(l, b, out, l->rank, l->rank, l->b);
}

void ps_lora_add(const ps_lora *l, const size_t *rows, int n, float *values)
{
    for (int i = 0; i < n; i++) {
        memcpy(l->b_rows + (size_t)i * l->rank, l->b + rows[i] * l->rank,
               l->rank * sizeof *l->b_rows);
    }
    const ps_panel_job job = {.dtype = PS_F32,
                              .rows = n,
                              .panels = (int)(l->stride / PS_PANEL_LANES),
                              .k = (int)l->rank,
                              .weights = l->a,
                              .k_stride = l->stride,
                              .panel_stride = PS_PANEL_LANES,
                              .x = l->b_rows,
                              .x_stride = l->rank,
                              .out = l->product,
                              .out_stride = l->stride};
    l->kernels->panel_product(&job);
    for (int i = 0; i < n; i++) {
        l->kernels->fold(values + (size_t)i * l->in, l->product + (size_t)i * l->stride, 1.0f,
                         l->factor, (int)l->in);
    }
}

ps_err ps_lora_check_all_used(const ps_lora *l)
{
    for (int i = 0; i < ps_safetensors_count(l->files); i++) {
        const ps_safetensors_tensor *t = ps_safetensors_at(l->files, i);
        if (l->used[i]) continue;
        return PS_FAIL(PS_ERR_FORMAT, "%s: tensor %s fits no matrix of the model",
                       ps_safetensors_file(l->files, t), t->name);
    }
    return PS_OK;
}
