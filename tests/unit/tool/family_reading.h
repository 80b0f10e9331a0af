/* The families' readers on texts, for their tests. In all texts here ' stands for ". */
#ifndef PS_TEST_FAMILY_READING_H
#define PS_TEST_FAMILY_READING_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "support/scratch.h"
#include "tool/import/families.h"

/* A config with the sizes that every family of Llama's kind needs, and more keys (", 'key': 1"). */
#define OF(model_type, rest)                                                                       \
    "{'model_type': '" model_type "', 'hidden_size': 24, 'intermediate_size': 20, "                \
    "'num_hidden_layers': 4, 'num_attention_heads': 2, 'vocab_size': 30" rest "}"

/* A text of a test as JSON, and back; owned by the caller. */
static inline char *swap_quotes(const char *text, char from, char to)
{
    char *json = ps_mem_copy_text(text);
    for (char *at = json; *at; at++) {
        if (*at == from) *at = to;
    }
    return json;
}

/* out->spec is released by the caller, also after an error. */
static inline ps_err read_import(const char *text, ps_import *out)
{
    ps_config config;
    char *json = swap_quotes(text, '\'', '"');
    scratch_write_text("config.json", json);
    ps_mem_free(json);
    assert_ok(ps_config_open("config.json", &config));
    const ps_err err = ps_family_read(&config, out);
    ps_config_close(&config);
    return err;
}

static inline ps_import import_of(const char *text)
{
    ps_import import;
    const ps_err err = read_import(text, &import);
    ck_assert_msg(err == PS_OK, "%s: %s", text, ps_err_message());
    return import;
}

static inline void refuse(const char *text, ps_err code, const char *message)
{
    ps_import import;
    const ps_err err = read_import(text, &import);
    ck_assert_msg(err == code && strcmp(ps_err_message(), message) == 0,
                  "%s\ngives %s: %s\nwanted %s: %s", text, ps_err_name(err), ps_err_message(),
                  ps_err_name(code), message);
    ps_spec_release(&import.spec);
}

/* The spec as JSON without its layers, and its layers as "window/rope", "+m" for a mixture, "+a"
 * and "+p" for alibi and rel_pos. */
static inline char *spec_text(const char *text)
{
    ps_import import = import_of(text);
    ps_text json = {0};
    ps_spec_to_json(&import.spec, &json);
    json.len = (size_t)(strstr(json.data, " \"layers\"") - json.data);
    ps_text_append_str(&json, " layers");
    for (int l = 0; l < import.spec.n_layers; l++) {
        const ps_layer_spec *layer = &import.spec.layers[l];
        ps_text_appendf(&json, " %lld/%d%s", (long long)layer->window, layer->rope,
                        layer->mixture ? "+m" : "");
        for (int b = 0; b < layer->n_biases; b++) {
            ps_text_append_str(&json, layer->biases[b].kind == PS_BIAS_ALIBI ? "+a" : "+p");
        }
    }
    ps_text_append_str(&json, "\n");
    ps_spec_release(&import.spec);
    char *found = swap_quotes(json.data, '"', '\'');
    ps_text_release(&json);
    return found;
}

static inline void assert_same_spec(const char *one, const char *other)
{
    char *a = spec_text(one), *b = spec_text(other);
    ck_assert_str_eq(a, b);
    ps_mem_free(b);
    ps_mem_free(a);
}

/* The lines of the spec that `base` does not have, but for the family's name, a line each. */
static inline void assert_spec(const char *base, const char *text, const char *wanted)
{
    char *old = spec_text(base), *new = spec_text(text), *rest = NULL;
    ps_text found = {0};
    for (char *line = strtok_r(new, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (strstr(old, line) || strncmp(line, " 'family'", 9) == 0) continue;
        ps_text_appendf(&found, "%s\n", line + 1);
    }
    ck_assert_msg(strcmp(ps_text_str(&found), wanted) == 0, "%s\ngives\n%swanted\n%s", text,
                  ps_text_str(&found), wanted);
    ps_text_release(&found);
    ps_mem_free(new);
    ps_mem_free(old);
}

/* Where the tensor of a role comes from: "name" of layer 3, expert or head 5. */
static inline void assert_name(const ps_import *import, ps_role role, const char *wanted)
{
    ps_text name = {0};
    ck_assert_msg(import->from[role].name != NULL, "%s has no name", wanted);
    ps_family_tensor_name(&import->from[role], 3, 5, &name);
    ck_assert_str_eq(ps_text_str(&name), wanted);
    ps_text_release(&name);
}

#endif
