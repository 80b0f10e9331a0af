/* A file of requests, a JSON object a line, and the file of their results in the same order.
 *
 * MPI: rank 0 only.
 */
#ifndef PS_TOOL_ACESTEP_LINES_H
#define PS_TOOL_ACESTEP_LINES_H

#include "tool/acestep/request_json.h"
#include "tool/output.h"

typedef struct ps_song_line {
    const char *text;
    size_t n;
    int number;   // in the file, from 1
    json_t *id;   // while its request runs; owned
    char *result; // waiting for those before it; owned
} ps_song_line;

/* Starts from {0}, ends with ps_song_lines_release. */
typedef struct ps_song_lines {
    ps_text input;
    ps_song_line *lines; // [n] those that are not empty
    size_t n, capacity;
    size_t n_written, n_failed;
    const char *out; // borrowed
    int fd;
    const ps_output *output;
} ps_song_lines;

void ps_song_lines_release(ps_song_lines *l);

/* Reads the requests; - is standard input. */
ps_err ps_song_lines_read(ps_song_lines *l, const char *path) PS_MUST_CHECK;

/* Request number i. One without a seed draws with one made of the run's and its place. */
ps_err ps_song_lines_parse(ps_song_lines *l, size_t i, const ps_acestep_request *defaults,
                           ps_acestep_request *out) PS_MUST_CHECK;

/* Results go to this file; - is standard output, which is written as `output` says. */
ps_err ps_song_lines_open(ps_song_lines *l, const char *out, const ps_output *output) PS_MUST_CHECK;

/* The result of request i, a line with its end; takes the text. Written once all before it are. */
ps_err ps_song_lines_put(ps_song_lines *l, size_t i, ps_text *result) PS_MUST_CHECK;

/* The same for one that cannot run, with the present error message. */
ps_err ps_song_lines_fail(ps_song_lines *l, size_t i, ps_err err) PS_MUST_CHECK;

/* All is on the disk. Closes in every case. */
ps_err ps_song_lines_close(ps_song_lines *l) PS_MUST_CHECK;

#endif
