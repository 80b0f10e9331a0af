/* Opens a GGUF file and makes the model file of it. */
#include <string.h>

#include "base/json.h"
#include "tool/import/convert.h"
#include "tool/import/convert_tensors.h"
#include "tool/import/gguf_families.h"
#include "tool/import/gguf_tokenizer.h"
#include "tool/import/tokenizers.h"

typedef struct opened {
    ps_gguf *gguf;
    ps_import import;
    ps_source source;
    ps_text origin;    // beginning of the JSON object that says what the model file is made from
    ps_text tokenizer; // packed
} opened;

/* Name and chat template stand there for who wants to know how the model is spoken to. */
static ps_err describe(opened *o)
{
    const char *name = NULL, *chat_template = NULL;
    PS_TRY(ps_gguf_find_text(o->gguf, "general.name", &name));
    PS_TRY(ps_gguf_find_text(o->gguf, "tokenizer.chat_template", &chat_template));
    ps_text_appendf(&o->origin, "{\"kind\": \"gguf\", \"architecture\": \"%s\"",
                    o->import.spec.family);
    if (name) {
        ps_text_append_str(&o->origin, ", \"name\": ");
        ps_json_append_text(&o->origin, name, strlen(name));
    }
    if (chat_template) {
        ps_text_append_str(&o->origin, ", \"chat_template\": ");
        ps_json_append_text(&o->origin, chat_template, strlen(chat_template));
    }
    return PS_OK;
}

static ps_err read_tokenizer(const char *path, opened *o)
{
    ps_tokenizer *tokenizer;
    PS_TRY(ps_gguf_tokenizer_read(o->gguf, &tokenizer));
    if (!tokenizer) return PS_OK;
    const ps_err err = ps_tokenizers_pack(tokenizer, path, &o->import.spec, &o->tokenizer);
    ps_tokenizer_free(tokenizer);
    return err;
}

static ps_err open_file(const char *path, opened *o)
{
    PS_TRY(ps_gguf_open(path, &o->gguf));
    PS_TRY(ps_gguf_family_read(o->gguf, &o->import));
    ps_gguf_fill_source(o->gguf, &o->source);
    PS_TRY(describe(o));
    return read_tokenizer(path, o);
}

static void close_file(opened *o)
{
    ps_text_release(&o->tokenizer);
    ps_text_release(&o->origin);
    ps_source_release(&o->source);
    ps_spec_release(&o->import.spec);
    ps_gguf_close(o->gguf);
}

ps_err ps_convert_gguf(const char *path, const char *output, const ps_convert_options *options)
{
    opened o = {0};
    if (options && options->n_loras > 0)
        return PS_FAIL(PS_ERR_UNSUPPORTED,
                       "%s: adapters name the tensors of a Hugging Face directory, and are merged "
                       "into such alone",
                       path);
    ps_err err = open_file(path, &o);
    if (!err) {
        const ps_conversion conversion = {.where = path,
                                          .import = &o.import,
                                          .source = &o.source,
                                          .origin = &o.origin,
                                          .tokenizer = &o.tokenizer,
                                          .options = options};
        err = ps_convert_write(&conversion, output);
    }
    close_file(&o);
    return err;
}
