#include "tool/pictures/scene.h"

#include <stdio.h>
#include <string.h>

static ps_err take_texts(ps_scene *scene, const ps_job *job)
{
    scene->texts = ps_mem_new(scene->tokens.n, sizeof *scene->texts);
    for (size_t i = 0; i < scene->tokens.n; i++) {
        ps_text *text = &scene->texts[i];
        if (!job->tokenizer) {
            ps_text_appendf(text, "<%d>", scene->tokens.ids[i]);
        } else {
            PS_TRY(ps_tokenizer_decode(job->tokenizer, &scene->tokens.ids[i], 1, false, text));
        }
    }
    return PS_OK;
}

/* What a query of the layer sees. */
static void describe_visible(const ps_spec *spec, int layer, ps_text *out)
{
    const ps_visible v = ps_spec_visible(spec, layer);
    if (v.chunk > 0) {
        ps_text_appendf(out, "the keys of its chunk of %lld", (long long)v.chunk);
        if (v.left_chunks < 0) ps_text_append_str(out, " and of all chunks before it");
        if (v.left_chunks > 0)
            ps_text_appendf(out, " and of %lld before it", (long long)v.left_chunks);
    } else if (v.window > 0) {
        ps_text_appendf(out, "the last %lld keys, its own included", (long long)v.window);
    } else {
        ps_text_append_str(out, v.look_ahead ? "all keys" : "all keys before it, and its own");
    }
    if (v.n_kept > 0)
        ps_text_appendf(out, ", and the first %lld of the text%s", (long long)v.n_kept,
                        v.kept_at_cache ? ", as if they stood right before the window" : "");
}

ps_err ps_scene_describe(ps_scene *scene, const ps_job *job)
{
    const ps_spec *spec = &job->ckpt.spec;
    const char *slash = strrchr(job->ckpt.path, '/');
    scene->model = ps_mem_copy_text(slash ? slash + 1 : job->ckpt.path);
    scene->family = ps_mem_copy_text(spec->family);
    scene->model_layers = spec->n_layers;
    scene->model_heads = spec->n_heads;
    scene->head_dim = spec->head_dim;
    scene->scale = spec->attention_scale;
    scene->softcap = spec->softcap;
    scene->sinks = spec->sinks;
    scene->quiet = spec->quiet_softmax;
    scene->layers = ps_mem_new((size_t)scene->record.n_layers, sizeof *scene->layers);
    scene->visible = ps_mem_new((size_t)scene->record.n_layers, sizeof *scene->visible);
    for (int l = 0; l < scene->record.n_layers; l++) {
        scene->layers[l] = spec->layers[scene->record.layers[l].layer];
        describe_visible(spec, scene->record.layers[l].layer, &scene->visible[l]);
    }
    return take_texts(scene, job);
}

void ps_scene_release(ps_scene *scene)
{
    for (size_t i = 0; scene->texts && i < scene->tokens.n; i++) {
        ps_text_release(&scene->texts[i]);
    }
    for (int l = 0; scene->visible && l < scene->record.n_layers; l++) {
        ps_text_release(&scene->visible[l]);
    }
    ps_mem_free(scene->visible);
    ps_mem_free(scene->texts);
    ps_mem_free(scene->model);
    ps_mem_free(scene->family);
    ps_mem_free(scene->layers);
    ps_tokens_release(&scene->tokens);
    ps_record_release(&scene->record);
    *scene = (ps_scene){0};
}

/* Bytes of the character at text[0..n); 0 where there is none. */
static size_t character(const char *text, size_t n)
{
    const unsigned char c = (unsigned char)text[0];
    const size_t length = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    if (c < 0x20 || c == 0x7f || length > n) return 0;
    return ps_utf8_valid_prefix(text, length, NULL) == length ? length : 0;
}

void ps_scene_label(const ps_scene *scene, int64_t position, int limit, ps_text *out)
{
    if (position < 0 || (size_t)position >= scene->tokens.n) return;
    const ps_text *text = &scene->texts[position];
    if (text->len == 0) ps_text_appendf(out, "<%d>", scene->tokens.ids[position]);
    int shown = 0;
    for (size_t at = 0; at < text->len; shown++) {
        if (shown == limit - 1 && text->len - at > 1) {
            ps_text_append_str(out, "…");
            return;
        }
        const size_t n = character(text->data + at, text->len - at);
        if (text->data[at] == ' ') {
            ps_text_append_str(out, "␣");
        } else if (text->data[at] == '\n') {
            ps_text_append_str(out, "↵");
        } else if (n == 0) {
            ps_text_appendf(out, "\\x%02x", (unsigned)(unsigned char)text->data[at]);
        } else {
            ps_text_append(out, text->data + at, n);
        }
        at += n > 0 ? n : 1;
    }
}

void ps_scene_biases(const ps_layer_spec *layer, ps_text *out)
{
    if (layer->n_biases == 0) ps_text_append_str(out, "none");
    for (int b = 0; b < layer->n_biases; b++) {
        ps_text_appendf(out, b ? " + %s" : "%s", ps_bias_kind_name(layer->biases[b].kind));
    }
}

bool ps_scene_has_bias(const ps_scene *scene)
{
    for (int l = 0; l < scene->record.n_layers; l++) {
        if (scene->layers[l].n_biases > 0) return true;
    }
    return false;
}
