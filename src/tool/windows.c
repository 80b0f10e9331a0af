#include "tool/windows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A number of [1, 2^31) at the start of text; *end behind it. */
static bool read_number(const char *text, const char **end, int64_t *out)
{
    char *stop;
    if (*text < '0' || *text > '9') return false;
    errno = 0;
    const long long value = strtoll(text, &stop, 10);
    *end = stop;
    *out = value;
    return errno == 0 && value >= 1 && value <= INT32_MAX;
}

/* "64", "64+2" or "64+all". */
static bool read_chunk(const char *text, const char **end, ps_layer_spec *layer)
{
    int64_t chunk, left = 0;
    if (!read_number(text, end, &chunk)) return false;
    if (**end == '+') {
        const char *at = *end + 1;
        if (strncmp(at, "all", 3) == 0) {
            left = -1;
            *end = at + 3;
        } else if (*at == '0') {
            *end = at + 1;
        } else if (!read_number(at, end, &left)) {
            return false;
        }
    }
    if (left > INT32_MAX / chunk - 1) return false;
    layer->window = 0;
    layer->chunk = chunk;
    layer->left_chunks = left;
    return true;
}

/* One entry of the list into a layer; *end behind it. */
static bool read_entry(const char *text, const char **end, ps_layer_spec *layer)
{
    int64_t window = 0;
    if (strncmp(text, "model", 5) == 0) {
        *end = text + 5;
        return true;
    }
    if (strncmp(text, "chunk:", 6) == 0) return read_chunk(text + 6, end, layer);
    if (strncmp(text, "full", 4) == 0) {
        *end = text + 4;
    } else if (!read_number(text, end, &window)) {
        return false;
    }
    layer->window = window;
    layer->chunk = layer->left_chunks = 0;
    return true;
}

static ps_err apply_list(const char *list, ps_spec *spec)
{
    const char *at = list;
    int n = 0;
    ps_layer_spec ignored = {0};
    for (int l = 0; l < spec->n_layers || *at != '\0'; l++) {
        const char *end;
        if (*at == '\0') at = list;
        ps_layer_spec *layer = l < spec->n_layers ? &spec->layers[l] : &ignored;
        if (!read_entry(at, &end, layer) || (*end != ',' && *end != '\0') ||
            (*end == ',' && end[1] == '\0'))
            return PS_FAIL(PS_ERR_USAGE,
                           "--window %s: at \"%s\", wanted a number of keys, full, model, or "
                           "chunk:C or chunk:C+L, with commas between",
                           list, at);
        at = *end == ',' ? end + 1 : end;
        n++;
        if (n > spec->n_layers)
            return PS_FAIL(PS_ERR_USAGE, "--window %s: names more layers than the model's %d", list,
                           spec->n_layers);
    }
    return PS_OK;
}

/* What the biases and ropes of the layers can do with kept tokens. */
static ps_err check_kept(const ps_spec *spec)
{
    bool any = false;
    for (int l = 0; l < spec->n_layers; l++) {
        const ps_layer_spec *layer = &spec->layers[l];
        if (ps_spec_reach(spec, l) == 0) continue;
        any = true;
        if (spec->kept_at_cache && layer->chunk > 0)
            return PS_FAIL(PS_ERR_USAGE,
                           "--keep-at cache: layer %d sees chunks of %lld, wanted a window", l,
                           (long long)layer->chunk);
        for (int b = 0; b < layer->n_biases; b++) {
            if (layer->biases[b].kind == PS_BIAS_REL_POS && !spec->kept_at_cache)
                return PS_FAIL(PS_ERR_UNSUPPORTED,
                               "--keep-first %lld: layer %d has a rel_pos bias, which has no "
                               "encoding of distances beyond its window: use --keep-at cache",
                               (long long)spec->n_kept, l);
        }
        if (spec->kept_at_cache && layer->rope >= 0 &&
            ps_rope_depends_on_length(&spec->ropes[layer->rope]))
            return PS_FAIL(PS_ERR_UNSUPPORTED,
                           "--keep-at cache: the rope of layer %d depends on the length of the "
                           "sequence",
                           l);
    }
    if (any) return PS_OK;
    return PS_FAIL(PS_ERR_USAGE, "--keep-first %lld: no layer has a window, all tokens are kept",
                   (long long)spec->n_kept);
}

/* The causal form of an encoder. */
static void apply_stream(int window, ps_spec *spec)
{
    for (int l = 0; l < spec->n_layers; l++) {
        spec->layers[l].window = window;
        spec->layers[l].chunk = spec->layers[l].left_chunks = 0;
        spec->layers[l].look_ahead = false;
    }
}

ps_err ps_windows_apply(const ps_run_options *run, ps_spec *spec)
{
    if (run->stream > 0) apply_stream(run->stream, spec);
    if (run->windows) {
        if (ps_spec_looks_ahead(spec))
            return PS_FAIL(PS_ERR_USAGE, "--window: the model's queries look ahead, and see all");
        PS_TRY(apply_list(run->windows, spec));
    }
    if (run->keep_at == PS_KEEP_AT_CACHE && run->n_kept == 0)
        return PS_FAIL(PS_ERR_USAGE, "--keep-at cache goes with --keep-first");
    if (run->n_kept > 0) {
        spec->n_kept = run->n_kept;
        spec->kept_at_cache = run->keep_at == PS_KEEP_AT_CACHE;
        PS_TRY(check_kept(spec));
    }
    return ps_spec_check(spec, "--window");
}

void ps_windows_describe(const ps_spec *spec, int layer, ps_text *out)
{
    const ps_layer_spec *l = &spec->layers[layer];
    if (l->chunk > 0) {
        ps_text_appendf(out, "chunk:%lld", (long long)l->chunk);
        if (l->left_chunks > 0) ps_text_appendf(out, "+%lld", (long long)l->left_chunks);
        if (l->left_chunks < 0) ps_text_append_str(out, "+all");
    } else if (l->window > 0) {
        ps_text_appendf(out, "%lld", (long long)l->window);
    } else {
        ps_text_append_str(out, "full");
    }
    if (l->look_ahead) ps_text_append_str(out, " both ways");
}
