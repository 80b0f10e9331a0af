#include "tool/import/config.h"

#include <stdint.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

enum { CONFIG_BYTES_MAX = 1 << 24 };

/* Keys of config.json that say nothing about the forward pass in inference. */
static const char *const harmless[] = {
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_diffusers_version",
    "_from_model_config",
    "_name_or_path",
    "activation_dropout",
    "architectures",
    "attention_dropout",
    "attention_softmax_in_fp32",
    "attn_implementation",
    "attn_pdrop",
    "auto_map",
    "bias_dropout_fusion",
    "cache_implementation",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "cls_token_id",
    "decoder_start_token_id",
    "do_sample",
    "dropout",
    "dtype",
    "emb_pdrop",
    "embd_pdrop",
    "embedding_dropout",
    "finetuning_task",
    "gradient_checkpointing",
    "hidden_dropout",
    "hidden_dropout_prob",
    "hidden_dropout_rate",
    "id2label",
    "init_config",
    "init_device",
    "init_std",
    "fuse_cross_entropy",
    "fuse_norm",
    "initializer_factor",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "layerdrop",
    "mask_token_id",
    "masked_softmax_fusion",
    "max_length",
    "min_length",
    "model_type",
    "num_beams",
    "offset_alibi",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "reorder_and_upcast_attn",
    "resid_pdrop",
    "residual_dropout",
    "return_dict",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "sep_token_id",
    "skip_bias_add",
    "skip_bias_add_qkv",
    "slow_but_exact",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "task_specific_params",
    "temperature",
    "tokenizer_class",
    "tokenizer_name",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "unk_token_id",
    "use_cache",
    "use_return_dict",
    "verbose",
};

ps_err ps_config_open(const char *path, ps_config *out)
{
    *out = (ps_config){0};
    json_t *root;
    PS_TRY(ps_json_load(path, CONFIG_BYTES_MAX, &root));
    if (!json_is_object(root)) {
        json_decref(root);
        return PS_FAIL(PS_ERR_FORMAT, "%s: not a JSON object", path);
    }
    *out = (ps_config){.path = ps_mem_copy_text(path), .root = root, .used = json_object()};
    return PS_OK;
}

void ps_config_close(ps_config *config)
{
    if (config->root) json_decref(config->root);
    if (config->used) json_decref(config->used);
    ps_mem_free(config->path);
    *config = (ps_config){0};
}

static void mark(ps_config *config, const char *key)
{
    json_object_set_new(config->used, key, json_true());
}

json_t *ps_config_take(ps_config *config, const char *key)
{
    mark(config, key);
    json_t *value = json_object_get(config->root, key);
    return value && !json_is_null(value) ? value : NULL;
}

ps_err ps_config_int(ps_config *config, const char *key, int min, int max, int *out)
{
    mark(config, key);
    return ps_json_opt_int(config->root, key, min, max, config->path, out);
}

ps_err ps_config_real(ps_config *config, const char *key, double *out)
{
    mark(config, key);
    return ps_json_opt_real(config->root, key, config->path, out);
}

ps_err ps_config_bool(ps_config *config, const char *key, bool *out)
{
    mark(config, key);
    return ps_json_opt_bool(config->root, key, config->path, out);
}

ps_err ps_config_text(ps_config *config, const char *key, const char **out)
{
    mark(config, key);
    return ps_json_opt_text(config->root, key, config->path, out);
}

ps_err ps_config_need_int(ps_config *config, const char *key, int min, int max, int *out)
{
    mark(config, key);
    return ps_json_get_int(config->root, key, min, max, config->path, out);
}

static ps_err append_id(const ps_config *config, const char *key, const json_t *value, int max,
                        int32_t *ids, int *n)
{
    const json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    if (id < 0 || id > INT32_MAX)
        return PS_FAIL(PS_ERR_FORMAT, "%s: %s holds something that is not a token id", config->path,
                       key);
    for (int i = 0; i < *n; i++) {
        if (ids[i] == id) return PS_OK;
    }
    if (*n == max)
        return PS_FAIL(PS_ERR_LIMIT, "%s: %s has more than %d ids", config->path, key, max);
    ids[(*n)++] = (int32_t)id;
    return PS_OK;
}

ps_err ps_config_token_ids(ps_config *config, const char *key, int max, int32_t *ids, int *n)
{
    const json_t *value = ps_config_take(config, key);
    if (!value) return PS_OK;
    if (!json_is_array(value)) return append_id(config, key, value, max, ids, n);
    for (size_t i = 0; i < json_array_size(value); i++) {
        PS_TRY(append_id(config, key, json_array_get(value, i), max, ids, n));
    }
    return PS_OK;
}

static bool is_harmless(const char *key)
{
    for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++) {
        if (strcmp(harmless[i], key) == 0) return true;
    }
    return false;
}

ps_err ps_config_check_all_used(const ps_config *config)
{
    const char *key;
    json_t *value;
    json_object_foreach(config->root, key, value)
    {
        if (json_is_null(value) || json_object_get(config->used, key) || is_harmless(key)) continue;
        return PS_FAIL(PS_ERR_UNSUPPORTED,
                       "%s: key %s is not understood, and it may change the computation",
                       config->path, key);
    }
    return PS_OK;
}
