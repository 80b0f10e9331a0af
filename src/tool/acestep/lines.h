/* A file of requests, a JSON object a line.
 *
 * MPI: rank 0 only.
 */
#ifndef PS_TOOL_ACESTEP_LINES_H
#define PS_TOOL_ACESTEP_LINES_H

#include "tool/acestep/request_json.h"

typedef struct ps_song_line {
    const char *text;
    size_t n;
    int number; // in the file, from 1
    json_t *id; // while its request runs; owned
} ps_song_line;

/* Starts from {0}, ends with ps_song_lines_release. */
typedef struct ps_song_lines {
    ps_text input;
    ps_song_line *lines; // [n] those that are not empty
    size_t n, capacity;
} ps_song_lines;

void ps_song_lines_release(ps_song_lines *l);

/* Reads the requests; - is standard input. */
ps_err ps_song_lines_read(ps_song_lines *l, const char *path) PS_MUST_CHECK;

/* Request number i. One without a seed draws with one made of the run's and its place. */
ps_err ps_song_lines_parse(ps_song_lines *l, size_t i, const ps_acestep_request *defaults,
                           ps_acestep_request *out) PS_MUST_CHECK;

/* The result of request i, a line with its end, when it cannot run: the present error message. */
void ps_song_lines_fail(ps_song_lines *l, size_t i, ps_err err, ps_text *result);

/* Request i is over. */
void ps_song_lines_end(ps_song_lines *l, size_t i);

#endif
