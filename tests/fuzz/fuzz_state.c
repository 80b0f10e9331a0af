/* What a state file says of a sequence: its JSON; after a NUL a byte that picks decoders, and what
 * a detokenizer held back. What is read writes and reads the same again, and goes on. */
#include <string.h>

#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "serve/state_parts.h"
#include "support/tiny_tokenizer.h"

enum { VOCABULARY = 128 };

static const ps_state_origin origin = {0x1234, "gemm panel"};

static void sample(const ps_state *s)
{
    ps_sample_params p = s->request.sampling;
    ps_sampler *sampler;
    if (p.repeat_last_n > 1000) p.repeat_last_n = 1000; // memory that was asked for
    if (!fuzz_is_ok(ps_sampler_new(&p, VOCABULARY, &sampler))) return;
    ps_sampler_entry entries[2] = {{3, 1, 1}, {5, 1, 0}};
    const ps_sampler_memory memory = {s->sampler.generated, entries, 2};
    if (fuzz_is_ok(ps_sampler_restore(sampler, &memory))) {
        ps_sampler_memory again;
        ps_sampler_remember(sampler, &again);
        fuzz_require(again.n == 2 || p.repeat_last_n == 1);
        fuzz_require(again.generated == s->sampler.generated);
        ps_sampler_memory_release(&again);
    }
    ps_sampler_free(sampler);
}

static void read_json(fuzz_input json)
{
    ps_state s = {.request = {.sampling = ps_sample_params_default()}}, t = s;
    if (fuzz_is_ok(ps_state_from_json(json.data, json.n, "state", &origin, &s))) {
        ps_text one = {0}, two = {0};
        sample(&s);
        ps_state_to_json(&s, &origin, &one);
        fuzz_require(ps_state_from_json(ps_text_str(&one), one.len, "state", &origin, &t) == PS_OK);
        ps_state_to_json(&t, &origin, &two);
        fuzz_require(strcmp(ps_text_str(&one), ps_text_str(&two)) == 0);
        ps_text_release(&two);
        ps_text_release(&one);
    }
    ps_state_release(&t);
    ps_state_release(&s);
}

static const char *const decoders[] = {
    NULL,
    "{\"type\": \"Fuse\"}",
    "{\"type\": \"ByteLevel\"}",
    "{\"type\": \"ByteFallback\"}",
    "{\"type\": \"Metaspace\", \"replacement\": \"_\"}",
    "{\"type\": \"BPEDecoder\", \"suffix\": \"ab\"}",
    "{\"type\": \"Strip\", \"content\": \"a\", \"start\": 2, \"stop\": 2}",
    "{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Fuse\"}, {\"type\": \"Replace\", "
    "\"pattern\": {\"String\": \"aba\"}, \"content\": \"x\"}, {\"type\": \"Strip\", \"content\": "
    "\"b\", \"start\": 1, \"stop\": 1}]}"};

static void go_on_with(const char *decoder, fuzz_input held)
{
    char *model = tiny_tokenizer_bpe("a b,ab a", "");
    const tiny_tokenizer parts = {.model = model, .decoder = decoder};
    ps_tokenizer *t;
    ps_text text = {0};
    fuzz_require(tiny_tokenizer_open(&parts, &t) == PS_OK);
    ps_detokenizer *d = ps_detokenizer_new(t, true);
    if (fuzz_is_ok(ps_detokenizer_load(d, held.data, held.n))) {
        for (int32_t id = 95; id < 131; id++) {
            fuzz_require(ps_detokenizer_push(d, id, &text) == PS_OK);
        }
        fuzz_require(ps_detokenizer_finish(d, &text) == PS_OK);
    }
    ps_detokenizer_free(d);
    ps_tokenizer_free(t);
    ps_text_release(&text);
    ps_mem_free(model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { N_DECODERS = sizeof decoders / sizeof decoders[0] };
    fuzz_input rest = {(const char *)data, size};
    read_json(fuzz_take(&rest));
    if (rest.n == 0) return 0;
    const unsigned which = (unsigned char)rest.data[0] % N_DECODERS;
    go_on_with(decoders[which], (fuzz_input){rest.data + 1, rest.n - 1});
    return 0;
}
