#include "tool/import/pipeline.h"

#include "base/text.h"

json_t *ps_pipeline_replace(const char *literal, const char *content)
{
    return json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", literal,
                     "content", content);
}

json_t *ps_pipeline_replace_regex(const char *regex, const char *content)
{
    return json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "Regex", regex, "content",
                     content);
}

json_t *ps_pipeline_split_regex(const char *regex)
{
    return json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex", regex,
                     "behavior", "Isolated", "invert", 0);
}

json_t *ps_pipeline_split_before(const char *literal)
{
    return json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "String", literal,
                     "behavior", "MergedWithNext", "invert", 0);
}

json_t *ps_pipeline_plain(const char *type)
{
    return json_pack("{s:s}", "type", type);
}

json_t *ps_pipeline_sequence(const char *key, json_t *list)
{
    return json_pack("{s:s, s:o}", "type", "Sequence", key, list);
}

static void add_special(json_t *single, json_t *table, const char *name, int32_t id)
{
    json_array_append_new(single, json_pack("{s:{s:s}}", "SpecialToken", "id", name));
    json_object_set_new(table, name, json_pack("{s:[i]}", "ids", (int)id));
}

json_t *ps_pipeline_around(int32_t bos_id, int32_t eos_id)
{
    if (bos_id < 0 && eos_id < 0) return json_null();
    json_t *single = json_array(), *table = json_object();
    if (bos_id >= 0) add_special(single, table, "bos", bos_id);
    json_array_append_new(single, json_pack("{s:{s:s}}", "Sequence", "id", "A"));
    if (eos_id >= 0) add_special(single, table, "eos", eos_id);
    return json_pack("{s:s, s:o, s:o}", "type", "TemplateProcessing", "single", single,
                     "special_tokens", table);
}

/* In the form in which a tokenizer.json has it (RFC 4648). */
static void append_base64(ps_text *out, const char *bytes, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t bits = (uint32_t)(unsigned char)bytes[i] << 16;
        if (i + 1 < n) bits |= (uint32_t)(unsigned char)bytes[i + 1] << 8;
        if (i + 2 < n) bits |= (unsigned char)bytes[i + 2];
        const char four[4] = {digits[bits >> 18], digits[bits >> 12 & 63],
                              i + 1 < n ? digits[bits >> 6 & 63] : '=',
                              i + 2 < n ? digits[bits & 63] : '='};
        ps_text_append(out, four, sizeof four);
    }
}

json_t *ps_pipeline_charsmap(const char *bytes, size_t n)
{
    ps_text base64 = {0};
    append_base64(&base64, bytes, n);
    json_t *component = json_pack("{s:s, s:s, s:b}", "type", "Precompiled", "precompiled_charsmap",
                                  ps_text_str(&base64), "longest_match", 1);
    ps_text_release(&base64);
    return component;
}
