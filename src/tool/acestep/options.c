#include "tool/acestep/options.h"

#include "base/file.h"

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))
#define AT(field)   offsetof(ps_acestep_options, field)

static const ps_opt_choice modes[] = {{"generate", PS_ACESTEP_MODE_GENERATE},
                                      {"understand", PS_ACESTEP_MODE_UNDERSTAND},
                                      {"inspiration", PS_ACESTEP_MODE_INSPIRATION},
                                      {"rewrite", PS_ACESTEP_MODE_REWRITE},
                                      {NULL, 0}};

static const ps_opt_choice formats[] = {{"new", PS_ACESTEP_NEW},
                                        {"legacy", PS_ACESTEP_LEGACY},
                                        {"legacy_cfg_open", PS_ACESTEP_LEGACY_CFG_OPEN},
                                        {NULL, 0}};

static const ps_opt music_rows[] = {
    {"mode", 0, PS_OPT_CHOICE, AT(mode), 0, 0, "generate", modes, NULL,
     "text to codes; codes to metadata and lyrics; a wish to both; or caption and lyrics to better "
     "ones"},
    {"caption", 0, PS_OPT_TEXT, AT(caption), 0, 0, NULL, NULL, "TEXT",
     "what the music is like, under 512 characters; with inspiration: the wish"},
    {"lyrics", 0, PS_OPT_TEXT, AT(lyrics), 0, 0, NULL, NULL, "TEXT",
     "what is sung, under 4096 characters, with [Verse], [Chorus], ... on lines of their own"},
    {"lyrics-file", 0, PS_OPT_TEXT, AT(lyrics_file), 0, 0, NULL, NULL, "FILE",
     "file with the lyrics, without its last line end; - is standard input"},
    {"instrumental", 0, PS_OPT_FLAG, AT(instrumental), 0, 0, NULL, NULL, NULL,
     "nobody sings: the lyrics are [Instrumental]"},
    {"bpm", 0, PS_OPT_REAL, AT(bpm), 0, 0, NULL, NULL, "N",
     "beats a minute, 30 to 300; the model chooses what is not given"},
    {"keyscale", 0, PS_OPT_TEXT, AT(keyscale), 0, 0, NULL, NULL, "KEY", "key: \"F# minor\""},
    {"timesignature", 0, PS_OPT_TEXT, AT(timesignature), 0, 0, NULL, NULL, "N",
     "beats of a bar: 2, 3, 4 or 6; 2/4, 3/4, 4/4, 6/8 are the same"},
    {"duration", 0, PS_OPT_SECONDS, AT(duration), 0, 0, NULL, NULL, "TIME",
     "length of the music, 10 s to 600 s: 5 codes a second"},
    {"language", 0, PS_OPT_TEXT, AT(language), 0, 0, NULL, NULL, "CODE",
     "language of the lyrics: en, de, zh, ..."},
    {"audio-codes", 0, PS_OPT_TEXT, AT(audio_codes), 0, 0, NULL, NULL, "FILE",
     "understand: file with <|audio_code_N|>, or with numbers; - is standard input"},
    {"cot", 0, PS_OPT_FLAG, AT(cot), 0, 0, "true", NULL, NULL,
     "the model thinks of metadata first; --no-cot goes by what is given alone"},
    {"cot-caption", 0, PS_OPT_FLAG, AT(cot_caption), 0, 0, "true", NULL, NULL,
     "... and of a caption of its own"},
    {"cot-language", 0, PS_OPT_FLAG, AT(cot_language), 0, 0, "true", NULL, NULL,
     "... and of the language"},
    {"metadata-only", 0, PS_OPT_FLAG, AT(metadata_only), 0, 0, NULL, NULL, NULL,
     "stops before the codes"},
    {"max-duration", 0, PS_OPT_INT, AT(max_duration), PS_ACESTEP_MIN_DURATION,
     PS_ACESTEP_MAX_DURATION, "600", NULL, "S", "longest duration that the model may choose"},
    {"target-duration", 0, PS_OPT_REAL, AT(target_duration), 0, PS_ACESTEP_MAX_DURATION, "0", NULL,
     "S", "seconds of codes, whatever the metadata say; 0: what they say"},
    {"genres", 0, PS_OPT_TEXT, AT(genres), 0, 0, NULL, NULL, "FILE",
     "genres that the model may name, one a line; without it any text (not in generate)"},
    {"format", 0, PS_OPT_CHOICE, AT(format), 0, 0, "new", formats, NULL,
     "prompts of the present ACE-Step, of its first release, or of the form between"},
    {"codebook", 0, PS_OPT_INT, AT(codebook), 0, INT32_MAX, "0", NULL, "N",
     "codes that the sound model knows, 0 .. N-1; 0: 64000, or as many as there are tokens"},
};

static const ps_opt sampling_rows[] = {
    {"cfg-scale", 0, PS_OPT_REAL, AT(cfg_scale), 0, 1e5, "2", NULL, "X",
     "guidance of the codes: how far they are led away from what --negative gives; 1: none"},
    {"negative", 0, PS_OPT_TEXT, AT(negative), 0, 0, NULL, NULL, "TEXT",
     "what the music is not to be like"},
    {"temperature", 0, PS_OPT_REAL, AT(temperature), 0, 1e5, "0.85", NULL, "X",
     "0 takes the likeliest token"},
    {"top-p", 0, PS_OPT_REAL, AT(top_p), 0, 1, "0.9", NULL, "P",
     "draws from the fewest tokens whose probabilities sum to P; other modes than generate: from "
     "all, unless given"},
    {"top-k", 0, PS_OPT_INT, AT(top_k), 0, INT32_MAX, "0", NULL, "K",
     "draws from the K likeliest tokens; 0: all"},
    {"sampler-order", 0, PS_OPT_TEXT, AT(order), 0, 0, "pytorch", NULL, "LIST",
     "order of the steps: as ACE-Step's backends pytorch or vllm have it, or as in generate"},
    {"seed", 0, PS_OPT_U64, AT(seed), 0, 0, NULL, NULL, "S",
     "seed of the draws; chosen at random, and reported, when not given. With --requests: 0"},
    {"batch", 0, PS_OPT_INT, AT(batch), 1, PS_ACESTEP_SAMPLES_MAX, "1", NULL, "N",
     "sequences of codes for the same metadata; number b is the same for every N"},
    {"max-tokens", 0, PS_OPT_INT, AT(max_tokens), 0, PS_ACESTEP_TOKENS_MAX, "0", NULL, "N",
     "new tokens of a phase at most; 0: 1024 of metadata, all codes, 4032 of other texts"},
};

static const ps_opt output_rows[] = {
    {"json", 0, PS_OPT_FLAG, AT(json), 0, 0, NULL, NULL, NULL,
     "prints one JSON object: metadata, codes as numbers, prompts, tokens"},
    {"timings", 0, PS_OPT_FLAG, AT(timings), 0, 0, NULL, NULL, NULL,
     "JSON has the seconds of each phase too, which differ from run to run"},
    {"codes", 0, PS_OPT_TEXT, AT(codes), 0, 0, NULL, NULL, "FILE",
     "writes the codes to a file as well, a line of <|audio_code_N|> for each sequence"},
    {"requests", 0, PS_OPT_TEXT, AT(requests), 0, 0, NULL, NULL, "FILE.jsonl",
     "many requests, a JSON object a line; - is standard input; options are what a line leaves "
     "out"},
    {"out", 'o', PS_OPT_TEXT, AT(out), 0, 0, "-", NULL, "FILE.jsonl",
     "their results, in the same order; - is standard output"},
};

static const char notes[] =
    "Two phases: first the model writes the metadata that are not given (tempo, key, duration, "
    "...), "
    "then\nthe codes, of which ACE-Step's sound model makes music. Codes can never be others than "
    "the sound\nmodel knows, and are as many as the duration says.\n\n"
    "  pipestep acestep ACE-LM --caption 'calm piano, rain' --instrumental --duration 30 --seed 7\n"
    "  mpirun -np 4 pipestep acestep ACE-LM --caption 'folk rock' --lyrics-file song.txt \\\n"
    "      --bpm 96 --keyscale 'D major' --batch 4 --codes song.codes\n"
    "  pipestep acestep ACE-LM --mode understand --audio-codes song.codes\n\n"
    "Keys of a request (--requests) are ACE-Step's own:\n"
    "  caption (query) lyrics instrumental bpm keyscale timesignature duration vocal_language\n"
    "  audio_codes lm_temperature lm_top_p lm_top_k lm_cfg_scale lm_negative_prompt seed "
    "batch_size\n"
    "  use_cot_metas use_cot_caption use_cot_language thinking; and id mode format "
    "target_duration\n"
    "  max_duration max_tokens sampler_order. Those of the sound model (task_type inference_steps\n"
    "  guidance_scale shift infer_method audio_format) are not looked at, any other is an error. A "
    "line\n  that cannot run gets {\"line\": N, \"error\": {...}} as its result, the others still "
    "run.\n";

// ---- options to a request ----

static ps_err set_texts(const ps_acestep_options *o, ps_acestep_request *r)
{
    if (o->caption) PS_TRY(ps_acestep_set_caption(r, "--caption", ps_span_of(o->caption)));
    if (o->lyrics) PS_TRY(ps_acestep_set_lyrics(r, "--lyrics", ps_span_of(o->lyrics)));
    if (o->negative) PS_TRY(ps_acestep_set_negative(r, "--negative", ps_span_of(o->negative)));
    return PS_OK;
}

static ps_err set_metadata(const ps_acestep_options *o, const ps_opt_parsed *parsed,
                           ps_acestep_request *r)
{
    if (ps_opt_is_set(parsed, "bpm")) PS_TRY(ps_acestep_set_bpm(r, "--bpm", o->bpm));
    if (ps_opt_is_set(parsed, "duration"))
        PS_TRY(ps_acestep_set_duration(r, "--duration", o->duration));
    if (o->keyscale) PS_TRY(ps_acestep_set_keyscale(r, "--keyscale", ps_span_of(o->keyscale)));
    if (o->timesignature)
        PS_TRY(ps_acestep_set_timesignature(r, "--timesignature", ps_span_of(o->timesignature)));
    if (o->language) PS_TRY(ps_acestep_set_language(r, "--language", ps_span_of(o->language)));
    return PS_OK;
}

/* Options that the mode may have no use for. */
static void note_given(const ps_opt_parsed *parsed, ps_acestep_request *r)
{
    static const struct {
        const char *option;
        ps_acestep_parameter p;
    } rows[] = {{"instrumental", PS_ACESTEP_P_INSTRUMENTAL},
                {"lyrics-file", PS_ACESTEP_P_LYRICS},
                {"audio-codes", PS_ACESTEP_P_CODES},
                {"cfg-scale", PS_ACESTEP_P_CFG_SCALE},
                {"top-p", PS_ACESTEP_P_TOP_P},
                {"batch", PS_ACESTEP_P_SAMPLES},
                {"format", PS_ACESTEP_P_FORMAT},
                {"cot", PS_ACESTEP_P_COT},
                {"cot-caption", PS_ACESTEP_P_COT_CAPTION},
                {"cot-language", PS_ACESTEP_P_COT_LANGUAGE},
                {"metadata-only", PS_ACESTEP_P_CODES_WANTED},
                {"target-duration", PS_ACESTEP_P_TARGET_DURATION}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (ps_opt_is_set(parsed, rows[i].option)) ps_acestep_note_given(r, rows[i].p);
    }
}

static ps_err set_request(const ps_acestep_options *o, const ps_opt_parsed *parsed,
                          ps_acestep_request *r)
{
    *r = ps_acestep_request_default();
    r->mode = (ps_acestep_mode)o->mode;
    r->format = (ps_acestep_format)o->format;
    r->instrumental = o->instrumental;
    r->cot = o->cot;
    r->cot_caption = o->cot_caption;
    r->cot_language = o->cot_language;
    r->wants_codes = !o->metadata_only;
    r->target_duration = o->target_duration;
    r->max_duration = o->max_duration;
    r->cfg_scale = o->cfg_scale;
    r->n_samples = o->batch;
    r->max_tokens = o->max_tokens;
    r->sampling.temperature = o->temperature;
    r->sampling.top_p = o->top_p;
    r->sampling.top_k = o->top_k;
    // Ranks that were not given a seed draw different ones; rank 0's counts.
    const bool drawn = !ps_opt_is_set(parsed, "seed") && !o->requests;
    r->sampling.seed = drawn ? ps_options_random_seed() : o->seed;
    PS_TRY(ps_sample_order_parse(o->order, &r->sampling));
    note_given(parsed, r);
    PS_TRY(set_texts(o, r));
    return set_metadata(o, parsed, r);
}

static ps_err check_files(const ps_acestep_options *o, const ps_opt_parsed *parsed)
{
    if (o->lyrics && o->lyrics_file)
        return PS_FAIL(PS_ERR_USAGE, "--lyrics and --lyrics-file exclude each other");
    if (!o->requests && ps_opt_is_set(parsed, "out"))
        return PS_FAIL(PS_ERR_USAGE, "--out goes with --requests");
    if (o->requests && (o->codes || o->json))
        return PS_FAIL(PS_ERR_USAGE, "--%s and --requests exclude each other",
                       o->codes ? "codes" : "json");
    if (o->timings && !o->json && !o->requests)
        return PS_FAIL(PS_ERR_USAGE, "--timings goes with --json");
    if (o->requests && ps_file_is_same(o->requests, o->out))
        return PS_FAIL(PS_ERR_USAGE, "--out %s: would overwrite the requests", o->out);
    return PS_OK;
}

static ps_err check_modes(const ps_acestep_options *o, const ps_run_options *run,
                          const ps_acestep_request *r)
{
    const bool makes_codes = r->mode == PS_ACESTEP_MODE_GENERATE && r->wants_codes;
    if (o->codes && !makes_codes) return PS_FAIL(PS_ERR_USAGE, "--codes: this run makes no codes");
    if (o->requests) return PS_OK;
    PS_TRY(ps_acestep_request_check(r, ps_acestep_option_name));
    if (r->mode == PS_ACESTEP_MODE_UNDERSTAND && !o->audio_codes)
        return PS_FAIL(PS_ERR_USAGE, "--mode understand wants --audio-codes FILE");
    if (o->genres && r->mode == PS_ACESTEP_MODE_GENERATE)
        return PS_FAIL(PS_ERR_USAGE, "--genres has no use in mode generate");
    if (o->negative && r->cfg_scale <= 1.0)
        return PS_FAIL(PS_ERR_USAGE, "--negative has no use with --cfg-scale %g", r->cfg_scale);
    if (run->slots == 1 && makes_codes && r->cfg_scale > 1.0)
        return PS_FAIL(PS_ERR_USAGE, "--slots 1: guidance takes two; --cfg-scale 1 has none");
    return PS_OK;
}

ps_err ps_acestep_options_to_request(const ps_acestep_options *o, const ps_opt_parsed *parsed,
                                     const ps_run_options *run, ps_acestep_request *out)
{
    PS_TRY(check_files(o, parsed));
    PS_TRY(set_request(o, parsed, out));
    PS_TRY(ps_sample_params_check(&out->sampling, 0));
    return check_modes(o, run, out);
}

void ps_acestep_groups(ps_acestep_options *target, ps_opt_group groups[PS_ACESTEP_GROUPS])
{
    groups[0] = (ps_opt_group){"Music", music_rows, ROWS(music_rows), target};
    groups[1] = (ps_opt_group){"Sampling", sampling_rows, ROWS(sampling_rows), target};
    groups[2] = (ps_opt_group){"Output", output_rows, ROWS(output_rows), target};
}

const char *ps_acestep_notes(void)
{
    return notes;
}
