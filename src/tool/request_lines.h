/* A file of requests, a JSON object a line.
 *
 * MPI: rank 0 only.
 */
#ifndef PS_TOOL_REQUEST_LINES_H
#define PS_TOOL_REQUEST_LINES_H

#include "base/json.h"
#include "base/text.h"

typedef struct ps_request_line {
    const char *text;
    size_t n;
    int number; // in the file, from 1
    json_t *id; // while its request runs; owned
} ps_request_line;

/* Starts from {0}, ends with ps_request_lines_release. */
typedef struct ps_request_lines {
    ps_text input;
    ps_request_line *lines; // [n] those that are not empty
    size_t n, capacity;
} ps_request_lines;

void ps_request_lines_release(ps_request_lines *l);

/* Reads the requests; - is standard input. */
ps_err ps_request_lines_read(ps_request_lines *l, const char *path) PS_MUST_CHECK;

/* The seed of request number i when it has none of its own: made of the run's and its place. */
uint64_t ps_request_lines_seed(uint64_t run_seed, size_t i);

/* The result of request i, a line with its end, when it cannot run: the present error message. */
void ps_request_lines_fail(ps_request_lines *l, size_t i, ps_err err, ps_text *result);

/* Request i is over. */
void ps_request_lines_end(ps_request_lines *l, size_t i);

#endif
