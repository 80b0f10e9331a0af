/* A line of an ACE-Step request, NUL, what its model wrote. */
#include <string.h>

#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "tool/acestep/parse.h"
#include "tool/acestep/request_json.h"
#include "tool/acestep/yaml.h"

static bool is_utf8(const ps_text *text)
{
    return ps_utf8_valid_prefix(ps_text_str(text), text->len, NULL) == text->len;
}

/* A request that was taken makes prompts that a tokenizer can read. */
static void read_request(fuzz_input line)
{
    ps_acestep_request defaults = ps_acestep_request_default(), r;
    json_t *id;
    ps_text prompt = {0};
    if (fuzz_is_ok(ps_acestep_request_parse(line.data, line.n, &defaults, 7, &id, &r))) {
        const ps_span caption = ps_span_of_text(&r.caption);
        ps_acestep_prompt_metadata(&prompt, caption, ps_acestep_request_lyrics(&r));
        ps_acestep_prompt_codes_without(&prompt, r.format, caption, ps_acestep_request_lyrics(&r),
                                        ps_span_of_text(&r.negative));
        ps_acestep_append_codes(&prompt, &r.codes);
        fuzz_require(is_utf8(&prompt));
        fuzz_require(r.duration == 0.0 || ps_metadata_has(&r.user, PS_ACESTEP_DURATION));
        ps_acestep_request_release(&r);
    }
    ps_text_release(&prompt);
    ps_acestep_request_release(&defaults);
    json_decref(id);
}

/* Output of a model is valid UTF-8: the decoder sees to that. */
static void read_output(ps_span text)
{
    ps_metadata metadata = {0};
    ps_text cot = {0}, lyrics = {0}, codes = {0}, again = {0}, json = {0};
    ps_tokens numbers = {0};
    ps_acestep_parse_metadata(text, &metadata);
    ps_acestep_parse_lyrics(text, &lyrics);
    ps_acestep_parse_codes(text, &codes);
    ps_acestep_parse_codes(ps_span_of_text(&codes), &again);
    fuzz_require(codes.len == again.len);
    (void)ps_acestep_parse_code_numbers(text, &numbers);
    ps_metadata_append_json(&json, &metadata);
    fuzz_require(is_utf8(&lyrics) && is_utf8(&codes) && is_utf8(&json));
    if (fuzz_is_ok(ps_acestep_append_cot(&cot, &metadata))) {
        fuzz_require(is_utf8(&cot));
        fuzz_require(ps_span_starts_with(ps_span_of_text(&cot), "<think>\n"));
    }
    const double seconds = ps_metadata_duration(&metadata);
    fuzz_require(seconds == seconds);
    ps_tokens_release(&numbers);
    ps_text_release(&cot);
    ps_text_release(&lyrics);
    ps_text_release(&codes);
    ps_text_release(&again);
    ps_text_release(&json);
    ps_metadata_release(&metadata);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input rest = {(const char *)data, size};
    read_request(fuzz_take(&rest));
    if (ps_utf8_valid_prefix(rest.data, rest.n, NULL) == rest.n)
        read_output((ps_span){rest.data, rest.n});
    return 0;
}
