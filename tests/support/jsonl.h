/* Files of rows, a JSON object a line.   MPI: local. */
#ifndef TESTS_SUPPORT_JSONL_H
#define TESTS_SUPPORT_JSONL_H

#include <jansson.h>

#include "support/golden_tokenizer.h"

/* Reads root/name, with root as golden_root says, and calls `row` for each line. Returns the number
 * of lines; 0 when the file cannot be read or a line is no JSON, with ps_err_message saying why.
 * NULs in texts are taken. */
int jsonl_walk(const char *name, void (*row)(const json_t *row, int line, void *arg), void *arg);

/* A text of the row; "" if it is missing or null. */
const char *jsonl_text(const json_t *row, const char *key);

/* Bytes of a file under golden_root, into *out. */
ps_err jsonl_read(const char *name, ps_text *out) PS_MUST_CHECK;

#endif
