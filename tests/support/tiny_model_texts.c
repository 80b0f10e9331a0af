/* The texts of a tiny model's directory: config.json and tokenizer.json. */
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "support/tiny_model.h"

static const char *const family_names[TINY_FAMILY_COUNT] = {[TINY_LLAMA] = "llama",
                                                            [TINY_MISTRAL] = "mistral",
                                                            [TINY_QWEN3] = "qwen3",
                                                            [TINY_RELPOS_LLAMA] = "relpos_llama"};

const char *tiny_model_family_name(tiny_family family)
{
    return family_names[family];
}

/* ---- config.json ---- */

static void append_rope_scaling(const tiny_model *m, ps_text *out)
{
    switch (m->rope) {
    case PS_ROPE_LINEAR:
        ps_text_appendf(out, "\"rope_type\": \"linear\", \"factor\": %g", TINY_ROPE_FACTOR);
        break;
    case PS_ROPE_LLAMA3:
        ps_text_appendf(out,
                        "\"rope_type\": \"llama3\", \"factor\": %g, \"low_freq_factor\": %g, "
                        "\"high_freq_factor\": %g, \"original_max_position_embeddings\": %g",
                        TINY_ROPE_FACTOR, TINY_ROPE_LOW, TINY_ROPE_HIGH, TINY_ROPE_LENGTH);
        break;
    default:
        ps_text_append_str(out, "\"rope_type\": \"default\"");
    }
}

/* Qwen3 in the spelling of newer files, the others in that of older ones. */
static void append_rope(const tiny_model *m, ps_text *out)
{
    const bool newer = m->family == TINY_QWEN3;
    if (m->half_rotary && !newer) ps_text_append_str(out, " \"partial_rotary_factor\": 0.5,\n");
    if (!newer) ps_text_appendf(out, " \"rope_theta\": %g,\n", TINY_ROPE_THETA);
    ps_text_append_str(out, newer ? " \"rope_parameters\": {" : " \"rope_scaling\": {");
    if (newer) ps_text_appendf(out, "\"rope_theta\": %g, ", TINY_ROPE_THETA);
    if (newer && m->half_rotary) ps_text_append_str(out, "\"partial_rotary_factor\": 0.5, ");
    append_rope_scaling(m, out);
    ps_text_append_str(out, "},\n");
}

/* What is not as published stands in an object. */
static void append_bias(const char *kind, ps_text *out)
{
    if (strcmp(kind, "t5") == 0) {
        ps_text_appendf(out, "{\"kind\": \"t5\", \"n_buckets\": %d, \"max_distance\": %d}",
                        TINY_T5_BUCKETS, TINY_T5_DISTANCE);
    } else if (strcmp(kind, "fire") == 0) {
        ps_text_appendf(out, "{\"kind\": \"fire\", \"width\": %d}", TINY_FIRE_WIDTH);
    } else {
        ps_text_appendf(out, "\"%s\"", kind);
    }
}

static void append_scores(const tiny_model *m, ps_text *out)
{
    static const char *const kinds[] = {"alibi",        "rel_pos",  "t5",   "kerple_log",
                                        "kerple_power", "sandwich", "fire", "fox"};
    static const char *const gates[] = {"none", "heads", "elements"};
    if (m->output_gate > 0)
        ps_text_appendf(out, " \"output_gate\": \"%s\",\n", gates[m->output_gate]);
    if (m->quiet_softmax) ps_text_append_str(out, " \"quiet_softmax\": true,\n");
    if (!m->score_biases) {
        ps_text_append_str(out, " \"attention_score_bias\": \"rel_pos\",\n");
        return;
    }
    ps_text_append_str(out, " \"layer_score_biases\": [");
    for (int l = 0; l < m->layers; l++) {
        const char *between = "";
        ps_text_append_str(out, l > 0 ? ", [" : "[");
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
            if (!tiny_model_has_bias(m, l, kinds[k])) continue;
            ps_text_append_str(out, between);
            append_bias(kinds[k], out);
            between = ", ";
        }
        ps_text_append_char(out, ']');
    }
    ps_text_append_str(out, "],\n");
}

static void append_windows(const tiny_model *m, ps_text *out)
{
    if (m->family == TINY_MISTRAL) {
        ps_text_append_str(out, " \"sliding_window\": ");
        ps_text_appendf(out, m->windows[0] > 0 ? "%d,\n" : "null,\n", m->windows[0]);
    }
    if (m->family == TINY_QWEN3) {
        ps_text_appendf(out, " \"use_sliding_window\": %s,\n \"max_window_layers\": %d,\n",
                        m->windows[0] > 0 ? "true" : "false", m->layers / 2);
        ps_text_append_str(out, " \"sliding_window\": ");
        ps_text_appendf(out, m->windows[0] > 0 ? "%d,\n" : "null,\n", m->windows[0]);
    }
    if (m->family != TINY_RELPOS_LLAMA) return;
    ps_text_append_str(out, " \"layer_windows\": [");
    for (int l = 0; l < m->layers; l++) {
        const int window = tiny_model_window(m, l);
        ps_text_append_str(out, l > 0 ? ", " : "");
        ps_text_appendf(out, window > 0 ? "%d" : "null", window);
    }
    ps_text_appendf(out, "],\n \"rel_pos_dim\": %d,\n \"rel_pos_theta\": %g,\n", m->rel_pos_dim,
                    TINY_REL_POS_THETA);
    append_scores(m, out);
}

char *tiny_model_config(const tiny_model *m)
{
    ps_text out = {0};
    ps_text_appendf(&out,
                    "{\n \"model_type\": \"%s\",\n \"hidden_size\": %d,\n"
                    " \"intermediate_size\": %d,\n \"num_hidden_layers\": %d,\n"
                    " \"num_attention_heads\": %d,\n \"num_key_value_heads\": %d,\n"
                    " \"head_dim\": %d,\n \"vocab_size\": %d,\n \"rms_norm_eps\": %g,\n"
                    " \"hidden_act\": \"silu\",\n",
                    family_names[m->family], m->width, m->ffn, m->layers, m->heads, m->kv_heads,
                    m->head_dim, m->vocabulary, TINY_NORM_EPS);
    append_rope(m, &out);
    append_windows(m, &out);
    if (m->attention_bias) ps_text_append_str(&out, " \"attention_bias\": true,\n");
    if (m->mlp_bias) ps_text_append_str(&out, " \"mlp_bias\": true,\n");
    if (m->context > 0) ps_text_appendf(&out, " \"max_position_embeddings\": %d,\n", m->context);
    ps_text_appendf(&out,
                    " \"tie_word_embeddings\": %s,\n \"bos_token_id\": %d,\n"
                    " \"eos_token_id\": %d\n}\n",
                    m->tied_head ? "true" : "false", m->tokenizer ? TINY_BOS : 0,
                    m->tokenizer ? TINY_EOS : 1);
    return ps_text_take(&out);
}

/* ---- tokenizer.json ---- */

/* The character that stands for a byte in byte-level vocabularies (GPT-2). */
static uint32_t byte_character(int byte)
{
    int unprintable = 0;
    for (int b = 0; b <= byte; b++) {
        const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (b == byte && printable) return (uint32_t)byte;
        if (!printable) unprintable++;
    }
    return (uint32_t)(255 + unprintable);
}

/* Pairs of merges, U+0120 being the blank. */
static const char *const merges[][2] = {{"t", "h"},  {"th", "e"}, {"\u0120", "the"}, {"i", "n"},
                                        {"in", "g"}, {"a", "n"},  {"an", "d"},       {"o", "n"}};

enum { N_MERGES = sizeof merges / sizeof merges[0] };

_Static_assert(256 + N_MERGES == TINY_BOS, "the special tokens follow the merges");

static void append_vocabulary(ps_text *out)
{
    for (int b = 0; b < 256; b++) {
        char character[4];
        const size_t n = ps_utf8_encode(byte_character(b), character);
        const bool quoted = character[0] == '"' || character[0] == '\\';
        ps_text_appendf(out, "%s\"%s", b > 0 ? ", " : "", quoted ? "\\" : "");
        ps_text_append(out, character, n);
        ps_text_appendf(out, "\": %d", b);
    }
    for (int i = 0; i < N_MERGES; i++) {
        ps_text_appendf(out, ", \"%s%s\": %d", merges[i][0], merges[i][1], 256 + i);
    }
}

char *tiny_model_tokenizer(void)
{
    ps_text out = {0};
    ps_text_append_str(&out, "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null,\n"
                             " \"added_tokens\": [");
    for (int i = TINY_BOS; i <= TINY_EOS; i++) {
        ps_text_appendf(&out,
                        "%s{\"id\": %d, \"content\": \"<|%s|>\", \"single_word\": false, "
                        "\"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
                        "\"special\": true}",
                        i > TINY_BOS ? ",\n  " : "", i, i == TINY_BOS ? "begin" : "end");
    }
    ps_text_append_str(&out,
                       "],\n \"normalizer\": null, \"post_processor\": null,\n"
                       " \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
                       "\"trim_offsets\": true, \"use_regex\": true},\n"
                       " \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, "
                       "\"trim_offsets\": true, \"use_regex\": true},\n"
                       " \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, "
                       "\"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, "
                       "\"fuse_unk\": false, \"byte_fallback\": false,\n \"vocab\": {");
    append_vocabulary(&out);
    ps_text_append_str(&out, "},\n \"merges\": [");
    for (int i = 0; i < N_MERGES; i++) {
        ps_text_appendf(&out, "%s\"%s %s\"", i > 0 ? ", " : "", merges[i][0], merges[i][1]);
    }
    ps_text_append_str(&out, "]}}\n");
    return ps_text_take(&out);
}
