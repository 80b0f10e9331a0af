/* The families' table, and what every family's config has. */
#include "tool/import/families.h"

#include <string.h>

#include "tool/import/families_parts.h"

static const ps_family *const tables[] = {ps_families_llama, ps_families_gpt, ps_families_score,
                                          ps_families_encoder};

enum { N_TABLES = sizeof tables / sizeof tables[0] };

static ps_err find_family(ps_config *config, const ps_family **out)
{
    const char *model_type = NULL;
    PS_TRY(ps_config_text(config, "model_type", &model_type));
    if (!model_type) PS_TRY(ps_config_text(config, "_class_name", &model_type));
    if (!model_type) return PS_FAIL(PS_ERR_FORMAT, "%s: key model_type is missing", config->path);
    ps_text known = {0};
    for (int t = 0; t < N_TABLES; t++) {
        for (const ps_family *f = tables[t]; f->model_type; f++) {
            if (strcmp(f->model_type, model_type) == 0) {
                *out = f;
                ps_text_release(&known);
                return PS_OK;
            }
            ps_text_appendf(&known, " %s", f->model_type);
        }
    }
    const ps_err err = PS_FAIL(PS_ERR_UNSUPPORTED, "%s: model_type %s is not one of%s",
                               config->path, model_type, ps_text_str(&known));
    ps_text_release(&known);
    return err;
}

static ps_err read_tokens(ps_config *c, ps_spec *s)
{
    int32_t bos[1];
    int n_bos = 0;
    PS_TRY(ps_config_token_ids(c, "bos_token_id", 1, bos, &n_bos));
    if (n_bos == 1) s->bos_id = bos[0];
    return ps_config_token_ids(c, "eos_token_id", PS_SPEC_EOS_MAX, s->eos_ids, &s->n_eos);
}

ps_err ps_family_read(ps_config *config, ps_import *out)
{
    const ps_family *family = NULL;
    *out = (ps_import){.spec = ps_spec_plain()};
    PS_TRY(find_family(config, &family));
    memcpy(out->from, family->from, sizeof out->from);
    strncpy(out->spec.family, family->model_type, sizeof out->spec.family - 1);
    out->spec.tied_head = family->tied;
    PS_TRY(ps_config_bool(config, "tie_word_embeddings", &out->spec.tied_head));
    PS_TRY(read_tokens(config, &out->spec));
    PS_TRY(family->read(config, out));
    PS_TRY(ps_config_check_all_used(config));
    return ps_spec_check(&out->spec, config->path);
}

bool ps_family_ignores(const ps_import *import, const char *name)
{
    // Buffers that files of some versions hold, and that follow from the configuration.
    static const char *const buffers[] = {".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias",
                                          ".attention.bias", ".attention.masked_bias"};
    const char *own = import->own_prefix;
    if (own && strncmp(name, own, strlen(own)) != 0) return true;
    const char *head = import->from[PS_ROLE_HEAD].name;
    if (import->spec.tied_head && head && strcmp(name, head) == 0) return true;
    const size_t n = strlen(name);
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) {
        const size_t suffix = strlen(buffers[i]);
        if (n > suffix && strcmp(name + n - suffix, buffers[i]) == 0) return true;
    }
    return false;
}
