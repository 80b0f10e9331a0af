#include "support/acestep_rows.h"

#include <string.h>

ps_span acestep_span(const json_t *value)
{
    return (ps_span){json_is_string(value) ? json_string_value(value) : "",
                     json_string_length(value)};
}

void acestep_metadata(const json_t *object, ps_metadata *out)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        const ps_acestep_field field = ps_metadata_find(ps_span_of(key));
        if (field == PS_ACESTEP_FIELDS) continue;
        if (json_is_string(value)) ps_metadata_set_text(out, field, acestep_span(value));
        if (json_is_integer(value)) ps_metadata_set_integer(out, field, json_integer_value(value));
        if (json_is_real(value)) ps_metadata_set_real(out, field, json_real_value(value));
    }
}

ps_text acestep_difference(const ps_metadata *got, const json_t *wanted)
{
    ps_metadata other = {0};
    ps_text difference = {0};
    acestep_metadata(wanted, &other);
    for (int i = 0; i < PS_ACESTEP_FIELDS; i++) {
        const ps_metadata_value *a = &got->fields[i], *b = &other.fields[i];
        const bool same = a->kind == b->kind && a->real == b->real && a->text.len == b->text.len &&
                          memcmp(ps_text_str(&a->text), ps_text_str(&b->text), a->text.len) == 0;
        if (same) continue;
        ps_text_appendf(&difference, "%s: kind %d \"", ps_acestep_field_name((ps_acestep_field)i),
                        (int)a->kind);
        ps_metadata_append_value(&difference, a);
        ps_text_appendf(&difference, "\", wanted kind %d \"", (int)b->kind);
        ps_metadata_append_value(&difference, b);
        ps_text_append_str(&difference, "\"; ");
    }
    ps_metadata_release(&other);
    return difference;
}
