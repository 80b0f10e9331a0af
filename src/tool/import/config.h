/* A Hugging Face config.json that keeps account of which keys were understood.
 *
 * Every getter marks its key as used. At the end ps_config_check_all_used refuses a key that nobody
 * asked for, unless it is known to leave the mathematics alone: a key that changes the maths and is
 * not understood must never be ignored. Values are borrowed from the document.
 *
 * Errors: PS_ERR_FORMAT, PS_ERR_UNSUPPORTED naming file and key.   MPI: local.
 */
#ifndef PS_TOOL_IMPORT_CONFIG_H
#define PS_TOOL_IMPORT_CONFIG_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

typedef struct ps_config {
    char *path;   // owned
    json_t *root; // owned
    json_t *used; // object: keys that were asked for; owned
} ps_config;

ps_err ps_config_open(const char *path, ps_config *out) PS_MUST_CHECK;
void ps_config_close(ps_config *config);

/* The value under a key, NULL when absent or null; marks it used. */
json_t *ps_config_take(ps_config *config, const char *key);

/* Typed; *out is left alone when the key is absent or null. */
ps_err ps_config_int(ps_config *config, const char *key, int min, int max, int *out) PS_MUST_CHECK;
ps_err ps_config_real(ps_config *config, const char *key, double *out) PS_MUST_CHECK;
ps_err ps_config_bool(ps_config *config, const char *key, bool *out) PS_MUST_CHECK;
ps_err ps_config_text(ps_config *config, const char *key, const char **out) PS_MUST_CHECK;

/* As ps_config_int, but the key must be there. */
ps_err ps_config_need_int(ps_config *config, const char *key, int min, int max,
                          int *out) PS_MUST_CHECK;

/* Token ids under a key: an integer, or a list of integers. Appends those not yet in ids[0..*n). */
ps_err ps_config_token_ids(ps_config *config, const char *key, int max, int32_t *ids,
                           int *n) PS_MUST_CHECK;

ps_err ps_config_check_all_used(const ps_config *config) PS_MUST_CHECK;

#endif
