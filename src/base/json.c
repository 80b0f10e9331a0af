/* Typed access to jansson values. The message is made here once, so that callers only pass it on.
 */
#include "base/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

static const char *const type_names[] = {
    [JSON_OBJECT] = "an object",   [JSON_ARRAY] = "an array", [JSON_STRING] = "a string",
    [JSON_INTEGER] = "an integer", [JSON_REAL] = "a number",  [JSON_TRUE] = "a boolean",
    [JSON_FALSE] = "a boolean",    [JSON_NULL] = "null",
};

ps_err ps_json_parse(const char *data, size_t n, const char *where, json_t **out)
{
    json_error_t error;
    *out = json_loadb(data ? data : "", n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (*out) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "%s: not valid JSON: line %d, column %d: %s", where, error.line,
                   error.column, error.text);
}

ps_err ps_json_load(const char *path, size_t limit, json_t **out)
{
    ps_text text = {0};
    ps_err err = ps_file_read(path, limit, &text);
    if (!err) err = ps_json_parse(text.data, text.len, path, out);
    ps_text_release(&text);
    return err;
}

static ps_err wrong_type(const char *where, const char *key, json_type wanted, const json_t *found)
{
    return PS_FAIL(PS_ERR_FORMAT, "%s: %s is %s, wanted %s", where, key,
                   type_names[json_typeof(found)], type_names[wanted]);
}

ps_err ps_json_opt(const json_t *object, const char *key, json_type type, const char *where,
                   json_t **out)
{
    json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value)) return PS_OK;
    const bool boolean = type == JSON_TRUE || type == JSON_FALSE;
    const bool number = type == JSON_REAL && json_is_integer(value);
    if (json_typeof(value) != type && !(boolean && json_is_boolean(value)) && !number)
        return wrong_type(where, key, type, value);
    *out = value;
    return PS_OK;
}

ps_err ps_json_get(const json_t *object, const char *key, json_type type, const char *where,
                   json_t **out)
{
    *out = NULL;
    PS_TRY(ps_json_opt(object, key, type, where, out));
    if (!*out) return PS_FAIL(PS_ERR_FORMAT, "%s: key %s is missing", where, key);
    return PS_OK;
}

static ps_err to_int(const json_t *value, const char *key, int min, int max, const char *where,
                     int *out)
{
    const json_int_t number = json_integer_value(value);
    if (number < min || number > max) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: %s is %" JSON_INTEGER_FORMAT ", wanted %d..%d", where,
                       key, number, min, max);
    }
    *out = (int)number;
    return PS_OK;
}

ps_err ps_json_get_int(const json_t *object, const char *key, int min, int max, const char *where,
                       int *out)
{
    json_t *value;
    PS_TRY(ps_json_get(object, key, JSON_INTEGER, where, &value));
    return to_int(value, key, min, max, where, out);
}

ps_err ps_json_opt_int(const json_t *object, const char *key, int min, int max, const char *where,
                       int *out)
{
    json_t *value = NULL;
    PS_TRY(ps_json_opt(object, key, JSON_INTEGER, where, &value));
    return value ? to_int(value, key, min, max, where, out) : PS_OK;
}

ps_err ps_json_get_real(const json_t *object, const char *key, const char *where, double *out)
{
    json_t *value;
    PS_TRY(ps_json_get(object, key, JSON_REAL, where, &value));
    *out = json_number_value(value);
    return PS_OK;
}

ps_err ps_json_opt_real(const json_t *object, const char *key, const char *where, double *out)
{
    json_t *value = NULL;
    PS_TRY(ps_json_opt(object, key, JSON_REAL, where, &value));
    if (value) *out = json_number_value(value);
    return PS_OK;
}

ps_err ps_json_get_text(const json_t *object, const char *key, const char *where, const char **out)
{
    json_t *value;
    PS_TRY(ps_json_get(object, key, JSON_STRING, where, &value));
    *out = json_string_value(value);
    return PS_OK;
}

ps_err ps_json_opt_text(const json_t *object, const char *key, const char *where, const char **out)
{
    json_t *value = NULL;
    PS_TRY(ps_json_opt(object, key, JSON_STRING, where, &value));
    if (value) *out = json_string_value(value);
    return PS_OK;
}

ps_err ps_json_opt_bool(const json_t *object, const char *key, const char *where, bool *out)
{
    json_t *value = NULL;
    PS_TRY(ps_json_opt(object, key, JSON_TRUE, where, &value));
    if (value) *out = json_is_true(value);
    return PS_OK;
}

void ps_json_append_text(ps_text *out, const char *bytes, size_t n)
{
    char character[PS_TEXT_JSON_BYTES];
    ps_text_append_char(out, '"');
    for (size_t i = 0, used; i < n; i += used) {
        const size_t length = ps_text_escape_json(bytes + i, n - i, character, &used);
        ps_text_append(out, character, length);
    }
    ps_text_append_char(out, '"');
}

void ps_json_append_real(ps_text *out, double value)
{
    if (!isfinite(value)) {
        ps_text_append_str(out, "null");
        return;
    }
    char number[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(number, sizeof number, "%.*g", digits, value);
        if (strtod(number, NULL) == value) break;
    }
    // "-0" would be a whole number to a reader, and whole numbers have no sign at zero.
    const bool negative_zero = value == 0.0 && signbit(value);
    ps_text_append_str(out, negative_zero ? "-0.0" : number);
}
