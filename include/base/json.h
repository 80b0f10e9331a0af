/* JSON through jansson, with errors that say file, key, wanted and found.
 *
 * Documents are parsed strictly: duplicate keys, invalid UTF-8 and trailing text are errors.
 * `where` names the document ("model/config.json") in every message. Values are borrowed from their
 * parent; a parsed document is owned by the caller and released with json_decref.
 *
 * The getters come in two kinds: ps_json_get_* wants the key to be there; ps_json_opt_* leaves *out
 * as it was when the key is absent or null. Both refuse a value of another type or out of range.
 *
 * Errors: PS_ERR_FORMAT.   MPI: local.
 */
#ifndef PS_BASE_JSON_H
#define PS_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/text.h"

ps_err ps_json_parse(const char *data, size_t n, const char *where, json_t **out) PS_MUST_CHECK;
ps_err ps_json_load(const char *path, size_t limit, json_t **out) PS_MUST_CHECK;

/* The value itself, of a given jansson type; an error when absent (get) or of another type (both).
 */
ps_err ps_json_get(const json_t *object, const char *key, json_type type, const char *where,
                   json_t **out) PS_MUST_CHECK;
ps_err ps_json_opt(const json_t *object, const char *key, json_type type, const char *where,
                   json_t **out) PS_MUST_CHECK;

ps_err ps_json_get_int(const json_t *object, const char *key, int min, int max, const char *where,
                       int *out) PS_MUST_CHECK;
ps_err ps_json_opt_int(const json_t *object, const char *key, int min, int max, const char *where,
                       int *out) PS_MUST_CHECK;
/* Integers count as reals. */
ps_err ps_json_get_real(const json_t *object, const char *key, const char *where,
                        double *out) PS_MUST_CHECK;
ps_err ps_json_opt_real(const json_t *object, const char *key, const char *where,
                        double *out) PS_MUST_CHECK;
ps_err ps_json_get_text(const json_t *object, const char *key, const char *where,
                        const char **out) PS_MUST_CHECK;
ps_err ps_json_opt_text(const json_t *object, const char *key, const char *where,
                        const char **out) PS_MUST_CHECK;
ps_err ps_json_opt_bool(const json_t *object, const char *key, const char *where,
                        bool *out) PS_MUST_CHECK;

/* Appends `bytes` as a JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD. */
void ps_json_append_text(ps_text *out, const char *bytes, size_t n);

/* Appends a number that reads back as the same double (shortest of %.15g, %.16g, %.17g); null for
 * NaN and infinities, which JSON does not have. */
void ps_json_append_real(ps_text *out, double value);

#endif
