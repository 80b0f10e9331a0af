#include "tool/acestep/song_output.h"

#include <stdlib.h>

#include "base/json.h"
#include "tool/acestep/yaml.h"

static double seconds_of(const ps_song_phase *phase)
{
    return (double)(phase->ended_ns - phase->begun_ns) * 1e-9;
}

void ps_song_append_codes(const ps_song *song, ps_text *out)
{
    for (int i = 0; song->codes && i < song->request.n_samples; i++) {
        ps_acestep_append_codes(out, &song->codes[i]);
        ps_text_append_char(out, '\n');
    }
}

void ps_song_append_text(const ps_song *song, ps_text *out)
{
    for (int i = 0; i < PS_ACESTEP_FIELDS; i++) {
        const ps_metadata_value *value = &song->metadata.fields[i];
        const char *name = ps_acestep_field_name((ps_acestep_field)i);
        if (value->kind == PS_METADATA_ABSENT) continue;
        if (value->kind == PS_METADATA_TEXT) {
            ps_yaml_append_text(out, name, ps_span_of_text(&value->text));
        } else {
            ps_text_appendf(out, "%s: ", name);
            ps_metadata_append_value(out, value);
        }
        ps_text_append_char(out, '\n');
    }
    if (song->codes) {
        ps_text_append_char(out, '\n');
        ps_song_append_codes(song, out);
    }
    if (song->lyrics.len > 0) ps_text_appendf(out, "\n%s\n", ps_text_str(&song->lyrics));
}

// ---- JSON ----

static void append_key_text(ps_text *out, const char *key, const ps_text *text)
{
    ps_text_appendf(out, ", \"%s\": ", key);
    ps_json_append_text(out, ps_text_str(text), text->len);
}

static void append_numbers(ps_text *out, const char *key, const ps_tokens *numbers)
{
    ps_text_appendf(out, ", \"%s\": [", key);
    for (size_t i = 0; i < numbers->n; i++) {
        ps_text_appendf(out, i ? ", %d" : "%d", numbers->ids[i]);
    }
    ps_text_append_char(out, ']');
}

static void append_outputs(const ps_song *song, ps_text *out)
{
    ps_text_append_str(out, ", \"outputs\": [");
    for (int i = 0; i < song->request.n_samples; i++) {
        ps_text_appendf(out, "%s{\"sample\": %d", i ? ", " : "", i);
        append_numbers(out, "codes", &song->codes[i]);
        ps_text_appendf(out, ", \"finish_reason\": \"%s\"}", ps_finish_name(song->finish[i]));
    }
    ps_text_append_char(out, ']');
}

static void append_phase(const ps_song *song, int number, bool with_times, ps_text *out)
{
    const ps_song_phase *phase = &song->phases[number];
    const bool codes = song->has_codes && number == song->n_phases - 1;
    ps_text_appendf(out, "%s{\"phase\": \"%s\", \"guidance\": ", number ? ", " : "",
                    ps_song_phase_name(song, number));
    ps_json_append_real(out, phase->guidance);
    append_key_text(out, "prompt", &phase->prompt);
    if (phase->without.len > 0) append_key_text(out, "without", &phase->without);
    ps_text_appendf(out, ", \"prompt_tokens\": %zu, \"new_tokens\": %zu",
                    phase->n_prompt_tokens + phase->n_without_tokens, phase->n_new_tokens);
    if (codes && phase->n_target_codes > 0)
        ps_text_appendf(out, ", \"target_codes\": %lld", (long long)phase->n_target_codes);
    if (!codes) {
        append_numbers(out, "tokens", &phase->tokens);
        append_key_text(out, "text", &phase->text);
        ps_text_appendf(out, ", \"finish_reason\": \"%s\"", ps_finish_name(phase->finish));
    }
    if (with_times) {
        ps_text_append_str(out, ", \"seconds\": ");
        ps_json_append_real(out, seconds_of(phase));
    }
    ps_text_append_char(out, '}');
}

void ps_song_append_json(const json_t *id, const ps_song *song, bool with_times, ps_text *out)
{
    const ps_acestep_request *r = &song->request;
    ps_text_append_char(out, '{');
    if (id) {
        char *text = json_dumps(id, JSON_ENCODE_ANY | JSON_COMPACT);
        ps_text_appendf(out, "\"id\": %s, ", text ? text : "null");
        free(text);
    }
    ps_text_appendf(out, "\"mode\": \"%s\"", ps_acestep_mode_name(r->mode));
    if (r->mode == PS_ACESTEP_MODE_GENERATE)
        ps_text_appendf(out, ", \"format\": \"%s\"", ps_acestep_format_name(r->format));
    ps_text_appendf(out, ", \"seed\": %llu, \"metadata\": ", (unsigned long long)r->sampling.seed);
    ps_metadata_append_json(out, &song->metadata);
    if (r->mode == PS_ACESTEP_MODE_GENERATE) {
        append_key_text(out, "cot", &song->cot);
    } else {
        append_key_text(out, "lyrics", &song->lyrics);
    }
    if (song->codes) append_outputs(song, out);
    ps_text_append_str(out, ", \"phases\": [");
    for (int i = 0; i < song->n_phases; i++) {
        append_phase(song, i, with_times, out);
    }
    ps_text_append_str(out, "]}\n");
}

// ---- lines for people ----

void ps_song_append_shortcomings(const ps_song *song, ps_text *out)
{
    for (int i = 0; i < song->n_phases; i++) {
        const ps_song_phase *phase = &song->phases[i];
        if (song->has_codes && i == song->n_phases - 1) continue;
        if (phase->finish == PS_FINISH_LENGTH)
            ps_text_appendf(out, "%s%s: cut off after %zu tokens", out->len ? "; " : "",
                            ps_song_phase_name(song, i), phase->n_new_tokens);
    }
    for (int i = 0; song->codes && i < song->request.n_samples; i++) {
        if (song->finish[i] == PS_FINISH_LENGTH)
            ps_text_appendf(out, "%scodes of sample %d: cut off after %zu", out->len ? "; " : "", i,
                            song->codes[i].n);
    }
    if (out->len > 0) ps_text_append_str(out, " (--ctx, --max-tokens)");
}

static void append_rate(const ps_song *song, double seconds, ps_text *out)
{
    size_t n = 0;
    for (int i = 0; i < song->request.n_samples; i++) {
        n += song->codes[i].n;
    }
    const double rate = seconds > 0.0 ? (double)n / seconds : 0.0;
    ps_text_appendf(out, "%zu in %.2f s, %.1f a second, %.2f s of music a second", n, seconds, rate,
                    rate / PS_ACESTEP_CODES_PER_SECOND);
}

void ps_song_append_summary(const ps_song *song, ps_text *out)
{
    for (int i = 0; i < song->n_phases; i++) {
        const ps_song_phase *phase = &song->phases[i];
        ps_text_appendf(out, "%s%s: ", i ? "; " : "", ps_song_phase_name(song, i));
        if (song->has_codes && i == song->n_phases - 1) {
            append_rate(song, seconds_of(phase), out);
        } else {
            ps_text_appendf(out, "%zu tokens in %.2f s", phase->n_new_tokens, seconds_of(phase));
        }
    }
}
