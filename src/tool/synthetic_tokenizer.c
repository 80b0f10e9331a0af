#include "tool/synthetic_tokenizer.h"

#include <stdio.h>
#include <string.h>

#include "serve/tokenizer_definition.h"
#include "tool/import/pipeline.h"
#include "tool/import/pre_tokenizers.h"

enum {
    PRINTABLE = 188, // bytes that stand for themselves come first
    LINE_END = 198,
    TWO_LINE_ENDS = 271,
    FIRST_ADDED = 151643,
    FIRST_CODE = 151669
};

static const char *const added[FIRST_CODE - FIRST_ADDED] = {"<|endoftext|>",
                                                            "<|im_start|>",
                                                            "<|im_end|>",
                                                            "<|object_ref_start|>",
                                                            "<|object_ref_end|>",
                                                            "<|box_start|>",
                                                            "<|box_end|>",
                                                            "<|quad_start|>",
                                                            "<|quad_end|>",
                                                            "<|vision_start|>",
                                                            "<|vision_end|>",
                                                            "<|vision_pad|>",
                                                            "<|image_pad|>",
                                                            "<|video_pad|>",
                                                            "<tool_call>",
                                                            "</tool_call>",
                                                            "<|fim_prefix|>",
                                                            "<|fim_middle|>",
                                                            "<|fim_suffix|>",
                                                            "<|fim_pad|>",
                                                            "<|repo_name|>",
                                                            "<|file_sep|>",
                                                            "<tool_response>",
                                                            "</tool_response>",
                                                            "<think>",
                                                            "</think>"};

enum { N_SPECIAL = 14 }; // of them; the others are texts that the model may speak of

/* The character that stands for the byte of this token: ! .. ~, U+00A1 .. U+00FF without the soft
 * hyphen, then U+0100 and on for the other bytes, ascending. */
static int character_of(int32_t id)
{
    if (id >= PRINTABLE) return 0x100 + id - PRINTABLE;
    if (id < 94) return '!' + id;
    return id < 106 ? 0xA1 + id - 94 : 0xAE + id - 106;
}

static size_t put_character(int character, char *out)
{
    if (character < 0x80) {
        out[0] = (char)character;
        return 1;
    }
    out[0] = (char)(0xC0 | character >> 6);
    out[1] = (char)(0x80 | (character & 0x3F));
    return 2;
}

static ps_err define_word(ps_tokenizer_definition *d, int32_t id)
{
    char text[32];
    size_t n;
    if (id < 256) {
        n = put_character(character_of(id), text);
    } else if (id == TWO_LINE_ENDS) {
        n = put_character(character_of(LINE_END), text);
        n += put_character(character_of(LINE_END), text + n);
    } else {
        n = put_character(character_of(220), text);
        n += (size_t)snprintf(text + n, sizeof text - n, "w%d", id);
    }
    return ps_tokenizer_define_token(d, id, text, n);
}

static ps_err define_added(ps_tokenizer_definition *d, int32_t id)
{
    char code[32];
    const int number = id - FIRST_ADDED;
    snprintf(code, sizeof code, "<|audio_code_%d|>", id - FIRST_CODE);
    const char *content = id < FIRST_CODE ? added[number] : code;
    const ps_tokenizer_added token = {
        .id = id, .content = content, .n = strlen(content), .special = number < N_SPECIAL};
    return ps_tokenizer_define_added(d, &token);
}

static ps_err define(ps_tokenizer_definition *d)
{
    for (int32_t id = 0; id < PS_SYNTHETIC_VOCABULARY; id++) {
        PS_TRY(id < FIRST_ADDED ? define_word(d, id) : define_added(d, id));
    }
    const ps_tokenizer_merge merge = {
        .left = LINE_END, .right = LINE_END, .merged = TWO_LINE_ENDS, .rank = 0};
    PS_TRY(ps_tokenizer_define_merge(d, &merge));
    const ps_pre_tokenizer *pre;
    PS_TRY(ps_pre_tokenizer_find("qwen2", "--synthetic", &pre));
    ps_tokenizer_define_pipeline(
        d, json_pack("{s:o, s:o, s:o, s:{s:s}}", "normalizer", ps_pre_tokenizer_normalizer(pre),
                     "pre_tokenizer", ps_pre_tokenizer_pipeline(pre), "decoder",
                     ps_pipeline_plain("ByteLevel"), "model", "type", "BPE"));
    return PS_OK;
}

ps_err ps_synthetic_tokenizer_pack(ps_text *out)
{
    ps_tokenizer *tokenizer;
    ps_tokenizer_definition *d =
        ps_tokenizer_definition_new(PS_SYNTHETIC_VOCABULARY, FIRST_ADDED, "--synthetic");
    const ps_err err = define(d);
    if (err) {
        ps_tokenizer_definition_free(d);
        return err;
    }
    PS_TRY(ps_tokenizer_build(d, &tokenizer));
    ps_tokenizer_pack(tokenizer, out);
    ps_tokenizer_free(tokenizer);
    return PS_OK;
}
