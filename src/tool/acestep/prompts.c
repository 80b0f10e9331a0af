#include "tool/acestep/prompts.h"

#include <string.h>

static const char no_input[] = "NO USER INPUT", instrumental_lyrics[] = "[Instrumental]";
static const char empty_block[] = "<think>\n\n</think>";

static const char generate[] = "Generate audio semantic tokens based on the given conditions:";
static const char understand[] = "Understand the given musical conditions and describe the audio "
                                 "semantics accordingly:";
static const char expand[] =
    "Expand the user's input into a more detailed and specific musical description:";
static const char reformat[] =
    "Format the user's input into a more detailed and specific musical description:";

const char *ps_acestep_format_name(ps_acestep_format format)
{
    static const char *const names[PS_ACESTEP_FORMATS] = {"new", "legacy", "legacy_cfg_open"};
    return names[format];
}

bool ps_acestep_is_negative(ps_span negative)
{
    const ps_span stripped = ps_span_strip(negative);
    const bool is_default = stripped.n == sizeof no_input - 1 &&
                            memcmp(stripped.at, no_input, sizeof no_input - 1) == 0;
    return stripped.n > 0 && !is_default;
}

// ---- turns ----

static void append_span(ps_text *out, ps_span span)
{
    ps_text_append(out, span.at, span.n);
}

static void append_system(ps_text *out, const char *instruction)
{
    ps_text_appendf(out, "<|im_start|>system\n# Instruction\n%s\n\n<|im_end|>\n<|im_start|>user\n",
                    instruction);
}

static void append_open_turn(ps_text *out)
{
    ps_text_append_str(out, "<|im_end|>\n<|im_start|>assistant\n");
}

static void append_conditions(ps_text *out, ps_span caption, ps_span lyrics)
{
    ps_text_append_str(out, "# Caption\n");
    append_span(out, caption);
    ps_text_append_str(out, "\n\n# Lyric\n");
    append_span(out, lyrics);
}

static ps_span strip_line_ends(ps_span text)
{
    while (text.n > 0 && text.at[0] == '\n') {
        text = (ps_span){text.at + 1, text.n - 1};
    }
    while (text.n > 0 && text.at[text.n - 1] == '\n') {
        text.n--;
    }
    return text;
}

/* A finished assistant turn is rendered by the chat template, which takes its message apart: what
 * stands before the first </think>, and in that behind the last <think>, is the block anew. */
static void append_closed_turn(ps_text *out, ps_span cot)
{
    static const char open[] = "<think>";
    ps_span block = {cot.at, ps_span_find(cot, "</think>")};
    for (size_t at; (at = ps_span_find(block, open)) < block.n;) {
        at += sizeof open - 1;
        block = (ps_span){block.at + at, block.n - at};
    }
    append_open_turn(out);
    ps_text_append_str(out, "<think>\n");
    append_span(out, strip_line_ends(block));
    ps_text_append_str(out, "\n</think>\n\n<|im_end|>\n");
}

static void append_codes_turn(ps_text *out, ps_acestep_format format, ps_span cot)
{
    if (format == PS_ACESTEP_LEGACY) {
        append_closed_turn(out, cot);
        return;
    }
    append_open_turn(out);
    append_span(out, cot);
    ps_text_append_str(out, "\n\n");
}

// ---- prompts ----

void ps_acestep_prompt_metadata(ps_text *out, ps_span caption, ps_span lyrics)
{
    append_system(out, generate);
    append_conditions(out, caption, lyrics);
    ps_text_append_char(out, '\n');
    append_open_turn(out);
}

void ps_acestep_prompt_metadata_without(ps_text *out, ps_span negative, ps_span lyrics)
{
    append_system(out, generate);
    if (ps_acestep_is_negative(negative)) {
        append_conditions(out, negative, lyrics);
    } else {
        ps_text_append_str(out, "# Lyric\n");
        append_span(out, lyrics);
    }
    ps_text_append_char(out, '\n');
    append_open_turn(out);
}

void ps_acestep_prompt_codes(ps_text *out, ps_acestep_format format, ps_span caption,
                             ps_span lyrics, ps_span cot)
{
    append_system(out, generate);
    append_conditions(out, caption, lyrics);
    ps_text_append_char(out, '\n');
    append_codes_turn(out, format, cot);
}

void ps_acestep_prompt_codes_without(ps_text *out, ps_acestep_format format, ps_span caption,
                                     ps_span lyrics, ps_span negative)
{
    const bool is_negative = ps_acestep_is_negative(negative);
    append_system(out, generate);
    if (format == PS_ACESTEP_NEW) {
        append_span(out, is_negative ? negative : ps_span_of(no_input));
    } else {
        append_conditions(out, is_negative ? negative : caption, lyrics);
        ps_text_append_char(out, '\n');
    }
    append_codes_turn(out, format, ps_span_of(empty_block));
}

static ps_span or_default(ps_span text, const char *otherwise)
{
    return ps_span_strip(text).n > 0 ? text : ps_span_of(otherwise);
}

void ps_acestep_prompt_understand(ps_text *out, ps_span codes)
{
    append_system(out, understand);
    append_span(out, or_default(codes, no_input));
    append_open_turn(out);
}

void ps_acestep_prompt_inspiration(ps_text *out, ps_span query, bool instrumental)
{
    append_system(out, expand);
    append_span(out, or_default(query, no_input));
    ps_text_appendf(out, "\n\ninstrumental: %s", instrumental ? "true" : "false");
    append_open_turn(out);
}

void ps_acestep_prompt_rewrite(ps_text *out, ps_span caption, ps_span lyrics)
{
    append_system(out, reformat);
    append_conditions(out, or_default(caption, no_input), or_default(lyrics, instrumental_lyrics));
    append_open_turn(out);
}
