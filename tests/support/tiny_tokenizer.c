/* Tokenizers out of strings. */
#include "support/tiny_tokenizer.h"

#include <string.h>

#include "base/json.h"
#include "base/mem.h"

static const char *or_null(const char *json)
{
    return json ? json : "null";
}

char *tiny_tokenizer_json(const tiny_tokenizer *parts)
{
    ps_text json = {0};
    ps_text_appendf(&json,
                    "{%s\"added_tokens\": %s, \"normalizer\": %s, \"pre_tokenizer\": %s, "
                    "\"post_processor\": %s, \"decoder\": %s, \"model\": %s}",
                    parts->other ? parts->other : "", or_null(parts->added_tokens),
                    or_null(parts->normalizer), or_null(parts->pre_tokenizer),
                    or_null(parts->post_processor), or_null(parts->decoder), or_null(parts->model));
    return ps_text_take(&json);
}

ps_err tiny_tokenizer_open(const tiny_tokenizer *parts, ps_tokenizer **out)
{
    char *json = tiny_tokenizer_json(parts);
    const ps_err err = ps_tokenizer_open(json, strlen(json), "tiny", out);
    ps_mem_free(json);
    return err;
}

char *tiny_tokenizer_ids(const ps_tokenizer *t, const char *text, bool add_special)
{
    ps_tokens ids = {0};
    ps_text out = {0};
    if (ps_tokenizer_encode(t, text, strlen(text), add_special, &ids)) {
        ps_text_append_str(&out, ps_err_message());
    }
    for (size_t i = 0; i < ids.n; i++) {
        ps_text_appendf(&out, i ? " %d" : "%d", ids.ids[i]);
    }
    ps_tokens_release(&ids);
    return ps_text_take(&out);
}

char *tiny_tokenizer_text(const ps_tokenizer *t, const int32_t *ids, size_t n, bool skip_special)
{
    ps_text out = {0};
    if (ps_tokenizer_decode(t, ids, n, skip_special, &out)) {
        ps_text_clear(&out);
        ps_text_append_str(&out, ps_err_message());
    }
    return ps_text_take(&out);
}

/* Appends a merge's product as the key of a new token. */
static void append_product(ps_text *vocab, const char *merge, size_t n, int id)
{
    const char *blank = memchr(merge, ' ', n);
    ps_text product = {0};
    ps_text_append(&product, merge, (size_t)(blank - merge));
    ps_text_append(&product, blank + 1, n - (size_t)(blank - merge) - 1);
    ps_text_append_str(vocab, ", ");
    ps_json_append_text(vocab, product.data, product.len);
    ps_text_appendf(vocab, ": %d", id);
    ps_text_release(&product);
}

char *tiny_tokenizer_bpe(const char *merges, const char *options)
{
    ps_text vocab = {0}, list = {0}, model = {0};
    for (int c = 1; c < 128; c++) {
        const char text = (char)c;
        if (c > 1) ps_text_append_str(&vocab, ", ");
        ps_json_append_text(&vocab, &text, 1);
        ps_text_appendf(&vocab, ": %d", c);
    }
    for (int id = 128; *merges; id++) {
        const size_t n = strcspn(merges, ",");
        if (id > 128) ps_text_append_str(&list, ", ");
        ps_json_append_text(&list, merges, n);
        append_product(&vocab, merges, n, id);
        merges += n + (merges[n] == ',');
    }
    ps_text_appendf(&model, "{%s\"type\": \"BPE\", \"vocab\": {%s}, \"merges\": [%s]}", options,
                    vocab.data, ps_text_str(&list));
    ps_text_release(&list);
    ps_text_release(&vocab);
    return ps_text_take(&model);
}
