#include "tool/acestep/song.h"

#include <assert.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/mem.h"
#include "tool/acestep/limits.h"
#include "tool/acestep/parse.h"
#include "tool/acestep/yaml.h"

/* New tokens of a phase. A caption ends within 512, but for line breaks that it goes on after;
 * texts, and codes without a target, have what the published handler gives them: a model length of
 * 4096 less 64. */
enum { METADATA_TOKENS_MAX = 1024, TEXT_TOKENS_MAX = 4032, BLOCK_TOKENS_EXTRA = 64 };

static void release_phase(ps_song_phase *phase)
{
    ps_text_release(&phase->prompt);
    ps_text_release(&phase->without);
    ps_tokens_release(&phase->tokens);
    ps_text_release(&phase->text);
}

void ps_song_release(ps_song *song)
{
    for (int i = 0; song->codes && i < song->request.n_samples; i++) {
        ps_tokens_release(&song->codes[i]);
    }
    ps_mem_free(song->codes);
    ps_mem_free(song->finish);
    release_phase(&song->phases[0]);
    release_phase(&song->phases[1]);
    ps_text_release(&song->cot);
    ps_text_release(&song->lyrics);
    ps_metadata_release(&song->metadata);
    ps_acestep_request_release(&song->request);
    *song = (ps_song){0};
}

const char *ps_song_phase_name(const ps_song *song, int phase)
{
    if (song->request.mode != PS_ACESTEP_MODE_GENERATE) return "text";
    return song->has_codes && phase == song->n_phases - 1 ? "codes" : "metadata";
}

static int64_t codes_of(double seconds)
{
    return (int64_t)(seconds * PS_ACESTEP_CODES_PER_SECOND);
}

// ---- a phase's request ----

static ps_err encode(const ps_song_context *c, const ps_text *text, ps_tokens *out)
{
    return ps_tokenizer_encode(c->tokenizer, ps_text_str(text), text->len, false, out);
}

/* The last phase, of which prompts and guidance are made, as a request of the generator. */
static ps_err make_request(const ps_song_context *c, ps_song *song, const ps_acestep_params *states,
                           int64_t max_tokens, ps_request *out)
{
    const ps_acestep_request *r = &song->request;
    const ps_acestep_ids *ids = ps_acestep_vocabulary_ids(c->vocabulary);
    ps_song_phase *phase = &song->phases[song->n_phases - 1];
    *out = (ps_request){.max_tokens = r->max_tokens > 0 ? r->max_tokens : max_tokens,
                        .n_samples = 1,
                        .n_logprobs = -1,
                        .end_ids = {ids->eos, ids->pad},
                        .n_end_ids = ids->pad >= 0 ? 2 : 1,
                        .sampling = r->sampling};
    out->guidance = phase->guidance;
    out->sampling.sample = UINT32_MAX;
    if (r->mode != PS_ACESTEP_MODE_GENERATE && !(r->given >> PS_ACESTEP_P_TOP_P & 1))
        out->sampling.top_p = 1.0;
    ps_err err = encode(c, &phase->prompt, &out->prompt);
    if (!err && phase->guidance > 1.0) err = encode(c, &phase->without, &out->negative);
    if (!err) err = ps_acestep_states_new(c->vocabulary, states, &out->constraint);
    phase->n_prompt_tokens = out->prompt.n;
    phase->n_without_tokens = out->negative.n;
    phase->begun_ns = ps_clock_now_ns();
    if (err) ps_request_release(out);
    return err;
}

static ps_song_phase *next_phase(ps_song *song)
{
    ps_song_phase *phase = &song->phases[song->n_phases++];
    phase->guidance = 1.0;
    return phase;
}

static void set_values(const ps_acestep_request *r, ps_acestep_params *states)
{
    for (int i = 0; i < PS_ACESTEP_FIELDS; i++) {
        if (ps_metadata_has(&r->user, (ps_acestep_field)i))
            states->values[i] = ps_text_str(&r->user.fields[i].text);
    }
}

// ---- phases ----

static ps_err begin_metadata(const ps_song_context *c, ps_song *song, ps_request *out)
{
    const ps_acestep_request *r = &song->request;
    const ps_span caption = ps_span_of_text(&r->caption), lyrics = ps_acestep_request_lyrics(r);
    ps_acestep_params states = ps_acestep_params_default();
    ps_song_phase *phase = next_phase(song);
    ps_acestep_prompt_metadata(&phase->prompt, caption, lyrics);
    if (r->format == PS_ACESTEP_LEGACY && r->cfg_scale > 1.0) {
        phase->guidance = r->cfg_scale;
        ps_acestep_prompt_metadata_without(&phase->without, ps_span_of_text(&r->negative), lyrics);
    }
    states.skip_caption = !r->cot_caption;
    states.skip_language = !r->cot_language;
    states.max_duration = r->max_duration;
    set_values(r, &states);
    return make_request(c, song, &states, METADATA_TOKENS_MAX, out);
}

/* Seconds that the codes are to last; 0: as the model likes. */
static double find_target(const ps_song *song)
{
    const ps_acestep_request *r = &song->request;
    if (r->target_duration > 0.0) return r->target_duration;
    if (r->duration > 0.0) return r->duration;
    if (r->format == PS_ACESTEP_LEGACY) return 0.0;
    const double seconds = ps_metadata_duration(&song->metadata);
    if (seconds > PS_ACESTEP_MAX_DURATION) return PS_ACESTEP_MAX_DURATION;
    return seconds > 0.0 ? seconds : 0.0;
}

static ps_err begin_codes(const ps_song_context *c, ps_song *song, ps_request *out)
{
    const ps_acestep_request *r = &song->request;
    const ps_span caption = ps_span_of_text(&r->caption), lyrics = ps_acestep_request_lyrics(r);
    PS_TRY(ps_acestep_append_cot(&song->cot, &song->metadata));
    ps_acestep_params states = ps_acestep_params_default();
    ps_song_phase *phase = next_phase(song);
    song->has_codes = true;
    ps_acestep_prompt_codes(&phase->prompt, r->format, caption, lyrics,
                            ps_span_of_text(&song->cot));
    if (r->cfg_scale > 1.0) {
        phase->guidance = r->cfg_scale;
        ps_acestep_prompt_codes_without(&phase->without, r->format, caption, lyrics,
                                        ps_span_of_text(&r->negative));
    }
    states.phase = PS_ACESTEP_CODES;
    states.stop_at_reasoning = false;
    states.target_duration = find_target(song);
    phase->n_target_codes = codes_of(states.target_duration);
    const bool has_target = states.target_duration > 0.0;
    // A target is an end by itself: its codes, and the end token.
    PS_TRY(make_request(c, song, &states, has_target ? phase->n_target_codes + 1 : TEXT_TOKENS_MAX,
                        out));
    out->n_samples = r->n_samples;
    out->sampling.sample = 0;
    return PS_OK;
}

static ps_err check_codes(const ps_song_context *c, const ps_tokens *codes)
{
    const int n = ps_acestep_vocabulary_ids(c->vocabulary)->n_legal_codes;
    for (size_t i = 0; i < codes->n; i++) {
        if (codes->ids[i] < n) continue;
        return PS_FAIL(PS_ERR_USAGE, "audio code %zu is %d, the model has 0..%d", i, codes->ids[i],
                       n - 1);
    }
    return PS_OK;
}

static void append_prompt(const ps_acestep_request *r, ps_text *out)
{
    const ps_span caption = ps_span_of_text(&r->caption);
    if (r->mode == PS_ACESTEP_MODE_UNDERSTAND) {
        ps_text codes = {0};
        ps_acestep_append_codes(&codes, &r->codes);
        ps_acestep_prompt_understand(out, ps_span_of_text(&codes));
        ps_text_release(&codes);
    } else if (r->mode == PS_ACESTEP_MODE_INSPIRATION) {
        ps_acestep_prompt_inspiration(out, caption, r->instrumental);
    } else {
        ps_acestep_prompt_rewrite(out, caption, ps_acestep_request_lyrics(r));
    }
}

static ps_err begin_text(const ps_song_context *c, ps_song *song, ps_request *out)
{
    const ps_acestep_request *r = &song->request;
    ps_acestep_params states = ps_acestep_params_default();
    PS_TRY(check_codes(c, &r->codes));
    append_prompt(r, &next_phase(song)->prompt);
    states.phase = PS_ACESTEP_UNDERSTAND;
    states.stop_at_reasoning = false;
    states.skip_genres = false;
    states.genres = c->genres;
    states.max_duration = r->max_duration;
    set_values(r, &states);
    // What is to be rewritten is in that language: the block does not say so again.
    if (r->mode == PS_ACESTEP_MODE_REWRITE && states.values[PS_ACESTEP_LANGUAGE]) {
        states.values[PS_ACESTEP_LANGUAGE] = NULL;
        states.skip_language = true;
    }
    return make_request(c, song, &states, TEXT_TOKENS_MAX, out);
}

/* Nothing that the first phase is there for is missing. */
static bool knows_metadata(const ps_acestep_request *r)
{
    return ps_metadata_has(&r->user, PS_ACESTEP_BPM) &&
           ps_metadata_has(&r->user, PS_ACESTEP_DURATION) &&
           ps_metadata_has(&r->user, PS_ACESTEP_KEYSCALE) &&
           ps_metadata_has(&r->user, PS_ACESTEP_TIMESIGNATURE);
}

ps_err ps_song_begin(const ps_song_context *c, ps_acestep_request *request, ps_song *song,
                     ps_request *out)
{
    *song = (ps_song){.request = *request};
    *request = (ps_acestep_request){0};
    *out = (ps_request){0};
    const ps_acestep_request *r = &song->request;
    if (r->mode != PS_ACESTEP_MODE_GENERATE) return begin_text(c, song, out);
    if (r->cot && !(r->wants_codes && knows_metadata(r))) return begin_metadata(c, song, out);
    for (int i = 0; i < PS_ACESTEP_FIELDS; i++) {
        ps_metadata_copy(&r->user, (ps_acestep_field)i, &song->metadata);
    }
    return begin_codes(c, song, out);
}

// ---- what came out ----

static void take_codes(const ps_song_context *c, ps_song *song, const ps_completion *completions,
                       int n)
{
    const ps_acestep_ids *ids = ps_acestep_vocabulary_ids(c->vocabulary);
    assert(n == song->request.n_samples);
    song->codes = ps_mem_new((size_t)n, sizeof *song->codes);
    song->finish = ps_mem_new((size_t)n, sizeof *song->finish);
    for (int i = 0; i < n; i++) {
        const ps_tokens *tokens = &completions[i].tokens;
        song->finish[i] = completions[i].finish;
        for (size_t t = 0; t < tokens->n && tokens->ids[t] != ids->eos; t++) {
            const int32_t code = tokens->ids[t] - ids->first_code;
            assert(code >= 0 && code < ids->n_legal_codes);
            ps_tokens_append(&song->codes[i], code);
        }
    }
}

/* What was given counts, whatever the model wrote: a caption that goes on where it should have ended
 * may swallow a field's name. What the block left out stays out. */
static void keep_given(ps_song *song)
{
    const ps_acestep_request *r = &song->request;
    for (int i = 0; i < PS_ACESTEP_FIELDS; i++) {
        const ps_acestep_field field = (ps_acestep_field)i;
        const bool skipped = field == PS_ACESTEP_LANGUAGE &&
                             (r->mode == PS_ACESTEP_MODE_REWRITE || !r->cot_language);
        if (ps_metadata_has(&r->user, field) && !skipped)
            ps_metadata_copy(&r->user, field, &song->metadata);
    }
}

static ps_err take_text(const ps_song_context *c, ps_song *song, const ps_completion *completion)
{
    ps_song_phase *phase = &song->phases[song->n_phases - 1];
    for (size_t t = 0; t < completion->tokens.n; t++) {
        ps_tokens_append(&phase->tokens, completion->tokens.ids[t]);
    }
    PS_TRY(
        ps_tokenizer_decode(c->tokenizer, phase->tokens.ids, phase->tokens.n, false, &phase->text));
    const ps_span text = ps_span_of_text(&phase->text);
    ps_acestep_parse_metadata(text, &song->metadata);
    keep_given(song);
    if (song->request.mode != PS_ACESTEP_MODE_GENERATE)
        ps_acestep_parse_lyrics(text, &song->lyrics);
    return PS_OK;
}

ps_err ps_song_take(const ps_song_context *c, ps_song *song, const ps_completion *completions,
                    int n, bool *more, ps_request *out)
{
    ps_song_phase *phase = &song->phases[song->n_phases - 1];
    *more = false;
    phase->ended_ns = ps_clock_now_ns();
    phase->finish = completions[0].finish;
    for (int i = 0; i < n; i++) {
        phase->n_new_tokens += completions[i].tokens.n;
    }
    if (song->has_codes) {
        take_codes(c, song, completions, n);
        return PS_OK;
    }
    PS_TRY(take_text(c, song, &completions[0]));
    if (song->request.mode != PS_ACESTEP_MODE_GENERATE) return PS_OK;
    if (!song->request.wants_codes) return ps_acestep_append_cot(&song->cot, &song->metadata);
    *more = true;
    return begin_codes(c, song, out);
}

// ---- sizes ----

static int64_t most_tokens(const ps_acestep_request *r, int64_t otherwise)
{
    return r->max_tokens > 0 ? r->max_tokens : otherwise;
}

int64_t ps_song_longest(const ps_acestep_request *r, const ps_request *first)
{
    const int64_t prompt =
        (int64_t)(first->prompt.n > first->negative.n ? first->prompt.n : first->negative.n);
    if (r->mode != PS_ACESTEP_MODE_GENERATE || !r->wants_codes) return prompt + first->max_tokens;
    if (first->n_samples == r->n_samples && (!r->cot || knows_metadata(r)))
        return prompt + first->max_tokens;
    double target = r->target_duration > 0.0 ? r->target_duration : r->duration;
    if (target == 0.0 && r->format != PS_ACESTEP_LEGACY) target = r->max_duration;
    const int64_t codes = most_tokens(r, target > 0.0 ? codes_of(target) + 1 : TEXT_TOKENS_MAX);
    return prompt + first->max_tokens + BLOCK_TOKENS_EXTRA + codes;
}

int ps_song_sequences(const ps_acestep_request *r)
{
    if (r->mode != PS_ACESTEP_MODE_GENERATE) return 1;
    return (r->cfg_scale > 1.0 ? 2 : 1) * r->n_samples;
}
