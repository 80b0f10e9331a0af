/* Opens a Hugging Face directory and makes the model file of it. */
#include "tool/import/convert.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "model/ckpt.h"
#include "tool/import/chat_template.h"
#include "tool/import/convert_tensors.h"
#include "tool/import/families.h"
#include "tool/import/safetensors.h"
#include "tool/import/tokenizers.h"

/* A Hugging Face directory, open. */
typedef struct directory {
    const char *path;
    ps_config config;
    ps_import import;
    ps_safetensors *files;
    ps_source source;
    ps_text names;     // of tensors that were joined
    ps_text tokenizer; // packed
    ps_text chat_template;
} directory;

static char *path_in(const directory *d, const char *name)
{
    ps_text path = {0};
    ps_text_appendf(&path, "%s/%s", d->path, name);
    return ps_text_take(&path);
}

/* Token ids that end generation: config.json's, and those of generation_config.json. */
static ps_err read_generation_config(directory *d)
{
    char *path = path_in(d, "generation_config.json");
    ps_err err = PS_OK;
    if (access(path, F_OK) == 0) {
        ps_config generation;
        ps_spec *spec = &d->import.spec;
        err = ps_config_open(path, &generation);
        if (!err)
            err = ps_config_token_ids(&generation, "eos_token_id", PS_SPEC_EOS_MAX, spec->eos_ids,
                                      &spec->n_eos);
        if (!err) err = ps_spec_check(spec, path);
        ps_config_close(&generation);
    }
    ps_mem_free(path);
    return err;
}

/* add_bos_token of tokenizer_config.json, for tokenizers without a post-processor that adds it. */
static ps_err read_tokenizer_config(directory *d)
{
    char *path = path_in(d, "tokenizer_config.json");
    ps_err err = PS_OK;
    if (access(path, F_OK) == 0) {
        ps_config tokenizer;
        ps_spec *spec = &d->import.spec;
        err = ps_config_open(path, &tokenizer);
        if (!err) err = ps_config_bool(&tokenizer, "add_bos_token", &spec->add_bos);
        if (!err && spec->add_bos && spec->bos_id < 0) spec->add_bos = false;
        ps_config_close(&tokenizer);
    }
    ps_mem_free(path);
    return err;
}

/* The tokenizer must open, and must not know tokens that the model does not. */
static ps_err read_tokenizer(directory *d)
{
    ps_tokenizer *tokenizer;
    PS_TRY(ps_tokenizers_open(d->path, &tokenizer));
    if (!tokenizer) return PS_OK;
    const ps_err err = ps_tokenizers_pack(tokenizer, d->path, &d->import.spec, &d->tokenizer);
    ps_tokenizer_free(tokenizer);
    return err;
}

static bool dtype_of(ps_safetensors_dtype dtype, ps_dtype *out)
{
    switch (dtype) {
    case PS_SAFETENSORS_F32:
        *out = PS_F32;
        return true;
    case PS_SAFETENSORS_F16:
        *out = PS_F16;
        return true;
    case PS_SAFETENSORS_BF16:
        *out = PS_BF16;
        return true;
    default:
        return false;
    }
}

static void fill_source(const ps_safetensors *files, ps_source *source)
{
    ps_source_take(source, ps_safetensors_count(files));
    for (int i = 0; i < source->n; i++) {
        const ps_safetensors_tensor *t = ps_safetensors_at(files, i);
        ps_source_tensor *to = &source->tensors[i];
        *to = (ps_source_tensor){.name = t->name,
                                 .file = ps_safetensors_file(files, t),
                                 .type_name = ps_safetensors_dtype_name(t->dtype),
                                 .n_dims = t->n_dims,
                                 .data = t->data,
                                 .bytes = t->bytes};
        to->supported = dtype_of(t->dtype, &to->dtype);
        memcpy(to->shape, t->shape, (size_t)t->n_dims * sizeof *t->shape);
    }
    ps_source_join_mxfp4(source);
    ps_source_sort(source);
}

static ps_err open_directory(directory *d)
{
    char *path = path_in(d, "config.json");
    ps_err err = ps_config_open(path, &d->config);
    ps_mem_free(path);
    if (!err) err = ps_family_read(&d->config, &d->import);
    if (!err) err = read_generation_config(d);
    if (!err) err = read_tokenizer_config(d);
    if (!err) err = read_tokenizer(d);
    if (!err) err = ps_chat_template_read(d->path, &d->chat_template);
    if (!err) err = ps_safetensors_open(d->path, &d->files);
    if (!err) fill_source(d->files, &d->source);
    return err;
}

static void close_directory(directory *d)
{
    ps_text_release(&d->chat_template);
    ps_text_release(&d->tokenizer);
    ps_source_release(&d->source);
    ps_safetensors_close(d->files);
    ps_spec_release(&d->import.spec);
    ps_config_close(&d->config);
}

/* The beginning of the JSON object that says what the model file is made from. */
static void describe(const directory *d, ps_text *origin)
{
    ps_text_appendf(origin, "{\"kind\": \"huggingface\", \"model_type\": \"%s\"",
                    d->import.spec.family);
    if (d->chat_template.len == 0) return;
    ps_text_append_str(origin, ", \"chat_template\": ");
    ps_json_append_text(origin, d->chat_template.data, d->chat_template.len);
}

ps_err ps_convert_directory(const char *path, const char *output, const ps_convert_options *options)
{
    directory d = {.path = path};
    ps_text origin = {0};
    ps_err err = open_directory(&d);
    if (!err) {
        describe(&d, &origin);
        const ps_conversion conversion = {.where = path,
                                          .import = &d.import,
                                          .source = &d.source,
                                          .origin = &origin,
                                          .tokenizer = &d.tokenizer,
                                          .options = options};
        err = ps_convert_write(&conversion, output);
    }
    ps_text_release(&origin);
    close_directory(&d);
    return err;
}

ps_err ps_convert_model(const char *path, const char *output, const ps_convert_options *options)
{
    struct stat status;
    if (stat(path, &status) == 0 && !S_ISDIR(status.st_mode))
        return ps_convert_gguf(path, output, options);
    return ps_convert_directory(path, output, options);
}
