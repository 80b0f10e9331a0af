#include "tool/acestep/request.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "tool/acestep/limits.h"
#include "tool/acestep/parse.h"
#include "tool/input.h"

enum {
    GENERATE = 1 << PS_ACESTEP_MODE_GENERATE,
    UNDERSTAND = 1 << PS_ACESTEP_MODE_UNDERSTAND,
    INSPIRATION = 1 << PS_ACESTEP_MODE_INSPIRATION,
    REWRITE = 1 << PS_ACESTEP_MODE_REWRITE,
    FROM_TEXT = GENERATE | INSPIRATION | REWRITE,
    ANY_MODE = FROM_TEXT | UNDERSTAND
};

/* Names, and the modes that have a use for it. */
static const struct {
    const char *option, *key;
    unsigned modes;
} parameters[PS_ACESTEP_PARAMETERS] = {
    [PS_ACESTEP_P_CAPTION] = {"--caption", "caption", FROM_TEXT},
    [PS_ACESTEP_P_LYRICS] = {"--lyrics", "lyrics", GENERATE | REWRITE},
    [PS_ACESTEP_P_INSTRUMENTAL] = {"--instrumental", "instrumental", FROM_TEXT},
    [PS_ACESTEP_P_CODES] = {"--audio-codes", "audio_codes", UNDERSTAND},
    [PS_ACESTEP_P_BPM] = {"--bpm", "bpm", FROM_TEXT},
    [PS_ACESTEP_P_DURATION] = {"--duration", "duration", FROM_TEXT},
    [PS_ACESTEP_P_KEYSCALE] = {"--keyscale", "keyscale", FROM_TEXT},
    [PS_ACESTEP_P_LANGUAGE] = {"--language", "vocal_language", FROM_TEXT},
    [PS_ACESTEP_P_TIMESIGNATURE] = {"--timesignature", "timesignature", FROM_TEXT},
    [PS_ACESTEP_P_NEGATIVE] = {"--negative", "lm_negative_prompt", GENERATE},
    [PS_ACESTEP_P_CFG_SCALE] = {"--cfg-scale", "lm_cfg_scale", GENERATE},
    [PS_ACESTEP_P_TOP_P] = {"--top-p", "lm_top_p", ANY_MODE},
    [PS_ACESTEP_P_SAMPLES] = {"--batch", "batch_size", GENERATE},
    [PS_ACESTEP_P_FORMAT] = {"--format", "format", GENERATE},
    [PS_ACESTEP_P_COT] = {"--no-cot", "use_cot_metas", GENERATE},
    [PS_ACESTEP_P_COT_CAPTION] = {"--no-cot-caption", "use_cot_caption", GENERATE},
    [PS_ACESTEP_P_COT_LANGUAGE] = {"--no-cot-language", "use_cot_language", GENERATE},
    [PS_ACESTEP_P_CODES_WANTED] = {"--metadata-only", "thinking", GENERATE},
    [PS_ACESTEP_P_TARGET_DURATION] = {"--target-duration", "target_duration", GENERATE},
    [PS_ACESTEP_P_MAX_DURATION] = {"--max-duration", "max_duration", ANY_MODE},
};

const char *ps_acestep_mode_name(ps_acestep_mode mode)
{
    static const char *const names[PS_ACESTEP_MODES] = {"generate", "understand", "inspiration",
                                                        "rewrite"};
    return names[mode];
}

const char *ps_acestep_option_name(ps_acestep_parameter p)
{
    return parameters[p].option;
}

const char *ps_acestep_key_name(ps_acestep_parameter p)
{
    return parameters[p].key;
}

ps_acestep_request ps_acestep_request_default(void)
{
    ps_acestep_request r = {.max_duration = PS_ACESTEP_MAX_DURATION,
                            .cot = true,
                            .cot_caption = true,
                            .cot_language = true,
                            .wants_codes = true,
                            .cfg_scale = 2.0,
                            .sampling = ps_sample_params_default(),
                            .n_samples = 1};
    r.sampling.temperature = 0.85;
    r.sampling.top_p = 0.9;
    const ps_err err = ps_sample_order_parse("pytorch", &r.sampling);
    assert(err == PS_OK);
    (void)err;
    return r;
}

void ps_acestep_request_release(ps_acestep_request *r)
{
    ps_text_release(&r->caption);
    ps_text_release(&r->lyrics);
    ps_text_release(&r->negative);
    ps_tokens_release(&r->codes);
    ps_metadata_release(&r->user);
}

static void set_text(ps_text *text, ps_span value)
{
    ps_text_clear(text);
    ps_text_append(text, value.at, value.n);
}

void ps_acestep_request_copy(const ps_acestep_request *from, ps_acestep_request *out)
{
    *out = *from;
    out->caption = out->lyrics = out->negative = (ps_text){0};
    out->codes = (ps_tokens){0};
    out->user = (ps_metadata){0};
    set_text(&out->caption, ps_span_of_text(&from->caption));
    set_text(&out->lyrics, ps_span_of_text(&from->lyrics));
    set_text(&out->negative, ps_span_of_text(&from->negative));
    for (size_t i = 0; i < from->codes.n; i++) {
        ps_tokens_append(&out->codes, from->codes.ids[i]);
    }
    for (int i = 0; i < PS_ACESTEP_FIELDS; i++) {
        ps_metadata_copy(&from->user, (ps_acestep_field)i, &out->user);
    }
}

void ps_acestep_note_given(ps_acestep_request *r, ps_acestep_parameter p)
{
    r->given |= (uint32_t)1 << p;
}

static bool is_given(const ps_acestep_request *r, ps_acestep_parameter p)
{
    return r->given >> p & 1;
}

// ---- setters ----

ps_err ps_acestep_set_caption(ps_acestep_request *r, const char *where, ps_span text)
{
    PS_TRY(ps_acestep_check_caption(where, text));
    set_text(&r->caption, text);
    ps_acestep_note_given(r, PS_ACESTEP_P_CAPTION);
    return PS_OK;
}

ps_err ps_acestep_set_lyrics(ps_acestep_request *r, const char *where, ps_span text)
{
    PS_TRY(ps_acestep_check_lyrics(where, text));
    set_text(&r->lyrics, text);
    ps_acestep_note_given(r, PS_ACESTEP_P_LYRICS);
    return PS_OK;
}

ps_err ps_acestep_set_negative(ps_acestep_request *r, const char *where, ps_span text)
{
    PS_TRY(ps_acestep_check_lyrics(where, text)); // may be as long
    set_text(&r->negative, text);
    ps_acestep_note_given(r, PS_ACESTEP_P_NEGATIVE);
    return PS_OK;
}

ps_err ps_acestep_set_bpm(ps_acestep_request *r, const char *where, double bpm)
{
    PS_TRY(ps_acestep_check_bpm(where, bpm));
    ps_metadata_set_integer(&r->user, PS_ACESTEP_BPM, (int64_t)bpm);
    ps_acestep_note_given(r, PS_ACESTEP_P_BPM);
    return PS_OK;
}

ps_err ps_acestep_set_duration(ps_acestep_request *r, const char *where, double seconds)
{
    PS_TRY(ps_acestep_check_duration(where, seconds));
    ps_metadata_set_integer(&r->user, PS_ACESTEP_DURATION, (int64_t)seconds);
    r->duration = seconds;
    ps_acestep_note_given(r, PS_ACESTEP_P_DURATION);
    return PS_OK;
}

ps_err ps_acestep_set_keyscale(ps_acestep_request *r, const char *where, ps_span text)
{
    PS_TRY(ps_acestep_check_keyscale(where, text));
    ps_metadata_set_text(&r->user, PS_ACESTEP_KEYSCALE, text);
    ps_acestep_note_given(r, PS_ACESTEP_P_KEYSCALE);
    return PS_OK;
}

ps_err ps_acestep_set_timesignature(ps_acestep_request *r, const char *where, ps_span text)
{
    const char *signature;
    PS_TRY(ps_acestep_read_timesignature(where, text, &signature));
    ps_metadata_set_text(&r->user, PS_ACESTEP_TIMESIGNATURE, ps_span_of(signature));
    ps_acestep_note_given(r, PS_ACESTEP_P_TIMESIGNATURE);
    return PS_OK;
}

ps_err ps_acestep_set_language(ps_acestep_request *r, const char *where, ps_span text)
{
    static const char unknown[] = "unknown";
    PS_TRY(ps_acestep_check_language(where, text));
    if (text.n == sizeof unknown - 1 && memcmp(text.at, unknown, text.n) == 0) return PS_OK;
    ps_metadata_set_text(&r->user, PS_ACESTEP_LANGUAGE, text);
    ps_acestep_note_given(r, PS_ACESTEP_P_LANGUAGE);
    return PS_OK;
}

static ps_err read_code_numbers(const char *where, ps_span text, ps_tokens *out)
{
    ps_span line;
    for (int number = 1; ps_span_next_line(&text, &line); number++) {
        PS_TRY(ps_input_parse_ids(line.at, line.n, where, number, out));
    }
    return PS_OK;
}

/* Nothing but codes and white space. */
static ps_err check_code_text(const char *where, ps_span text, const ps_tokens *codes)
{
    ps_text tokens = {0};
    ps_acestep_parse_codes(text, &tokens);
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++) {
        n += !strchr(" \t\r\n", text.at[i]) || text.at[i] == '\0';
    }
    const bool alone = n == tokens.len;
    ps_text_release(&tokens);
    if (alone) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT,
                   "%s: there is other text among %zu codes, wanted <|audio_code_N|> alone", where,
                   codes->n);
}

ps_err ps_acestep_set_codes(ps_acestep_request *r, const char *where, ps_span text)
{
    const size_t valid = ps_utf8_valid_prefix(text.at, text.n, NULL);
    if (valid < text.n)
        return PS_FAIL(PS_ERR_FORMAT, "%s: not UTF-8: byte %zu is 0x%02x", where, valid,
                       (unsigned)(unsigned char)text.at[valid]);
    r->codes.n = 0;
    if (memchr(text.at, '<', text.n)) {
        if (!ps_acestep_parse_code_numbers(text, &r->codes))
            return PS_FAIL(PS_ERR_FORMAT, "%s: a code is over %d", where, INT32_MAX);
        PS_TRY(check_code_text(where, text, &r->codes));
    } else {
        PS_TRY(read_code_numbers(where, text, &r->codes));
    }
    ps_acestep_note_given(r, PS_ACESTEP_P_CODES);
    return PS_OK;
}

void ps_acestep_append_codes(ps_text *out, const ps_tokens *codes)
{
    for (size_t i = 0; i < codes->n; i++) {
        ps_text_appendf(out, "<|audio_code_%d|>", codes->ids[i]);
    }
}

// ---- as a whole ----

static ps_err check_numbers(const ps_acestep_request *r, const char *(*name)(ps_acestep_parameter))
{
    if (r->target_duration != 0.0 &&
        !(r->target_duration > 0.0 && r->target_duration <= PS_ACESTEP_MAX_DURATION))
        return PS_FAIL(PS_ERR_USAGE, "%s: %g seconds, wanted more than 0, up to %d",
                       name(PS_ACESTEP_P_TARGET_DURATION), r->target_duration,
                       PS_ACESTEP_MAX_DURATION);
    if (r->max_duration < PS_ACESTEP_MIN_DURATION || r->max_duration > PS_ACESTEP_MAX_DURATION)
        return PS_FAIL(PS_ERR_USAGE, "%s: %d seconds, wanted %d to %d",
                       name(PS_ACESTEP_P_MAX_DURATION), r->max_duration, PS_ACESTEP_MIN_DURATION,
                       PS_ACESTEP_MAX_DURATION);
    if (r->n_samples < 1 || r->n_samples > PS_ACESTEP_SAMPLES_MAX)
        return PS_FAIL(PS_ERR_USAGE, "%s: %d, wanted 1 to %d", name(PS_ACESTEP_P_SAMPLES),
                       r->n_samples, PS_ACESTEP_SAMPLES_MAX);
    if (!(r->cfg_scale >= 0.0 && r->cfg_scale <= 1e5))
        return PS_FAIL(PS_ERR_USAGE, "%s: %g, wanted 0 to 1e5", name(PS_ACESTEP_P_CFG_SCALE),
                       r->cfg_scale);
    return PS_OK;
}

ps_err ps_acestep_request_check(const ps_acestep_request *r,
                                const char *(*name)(ps_acestep_parameter))
{
    for (int p = 0; p < PS_ACESTEP_PARAMETERS; p++) {
        if (is_given(r, (ps_acestep_parameter)p) && !(parameters[p].modes >> r->mode & 1))
            return PS_FAIL(PS_ERR_USAGE, "%s has no use in mode %s", name((ps_acestep_parameter)p),
                           ps_acestep_mode_name(r->mode));
    }
    if (r->instrumental && is_given(r, PS_ACESTEP_P_LYRICS))
        return PS_FAIL(PS_ERR_USAGE, "%s and %s exclude each other", name(PS_ACESTEP_P_LYRICS),
                       name(PS_ACESTEP_P_INSTRUMENTAL));
    if (!r->cot && !r->wants_codes)
        return PS_FAIL(PS_ERR_USAGE, "%s and %s leave nothing to do", name(PS_ACESTEP_P_COT),
                       name(PS_ACESTEP_P_CODES_WANTED));
    static const ps_acestep_parameter of_codes[] = {PS_ACESTEP_P_SAMPLES,
                                                    PS_ACESTEP_P_TARGET_DURATION};
    for (size_t i = 0; i < sizeof of_codes / sizeof of_codes[0] && !r->wants_codes; i++) {
        if (is_given(r, of_codes[i]))
            return PS_FAIL(PS_ERR_USAGE, "%s has no use where there are no codes",
                           name(of_codes[i]));
    }
    return check_numbers(r, name);
}

ps_span ps_acestep_request_lyrics(const ps_acestep_request *r)
{
    return r->instrumental ? ps_span_of("[Instrumental]") : ps_span_of_text(&r->lyrics);
}
