#include "tool/acestep/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "math/rng.h"
#include "tool/input.h"
#include "tool/result.h"

void ps_song_lines_release(ps_song_lines *l)
{
    for (size_t i = 0; i < l->n; i++) {
        json_decref(l->lines[i].id);
        ps_mem_free(l->lines[i].result);
    }
    ps_mem_free(l->lines);
    ps_text_release(&l->input);
    *l = (ps_song_lines){0};
}

ps_err ps_song_lines_read(ps_song_lines *l, const char *path)
{
    const char *text;
    size_t at = 0, n;
    PS_TRY(ps_file_read(path, PS_INPUT_BYTES_MAX, &l->input));
    for (int number = 1; ps_input_next_line(&l->input, &at, &text, &n); number++) {
        // An empty line is no request and gets no result.
        if (strspn(text, " \t\r") >= n) continue;
        l->lines = ps_mem_grow(l->lines, &l->capacity, l->n + 1, sizeof *l->lines);
        l->lines[l->n++] = (ps_song_line){.text = text, .n = n, .number = number};
    }
    return PS_OK;
}

ps_err ps_song_lines_parse(ps_song_lines *l, size_t i, const ps_acestep_request *defaults,
                           ps_acestep_request *out)
{
    ps_song_line *line = &l->lines[i];
    // 53 bits, which every reader of JSON keeps.
    const uint64_t seed = ps_rng_derive(defaults->sampling.seed, i) >> 11;
    json_decref(line->id);
    return ps_acestep_request_parse(line->text, line->n, defaults, seed, &line->id, out);
}

ps_err ps_song_lines_open(ps_song_lines *l, const char *out, const ps_output *output)
{
    l->out = out;
    l->output = output;
    l->fd = STDOUT_FILENO;
    if (strcmp(out, "-") == 0) return PS_OK;
    l->fd = open(out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (l->fd >= 0) return PS_OK;
    return PS_FAIL(PS_ERR_IO, "%s: cannot be created: %s", out, strerror(errno));
}

static ps_err write_line(const ps_song_lines *l, const char *text)
{
    if (l->fd == STDOUT_FILENO) return ps_output_write(l->output, text, strlen(text));
    return ps_file_write_all(l->fd, text, strlen(text), l->out);
}

ps_err ps_song_lines_put(ps_song_lines *l, size_t i, ps_text *result)
{
    l->lines[i].result = ps_text_take(result);
    json_decref(l->lines[i].id);
    l->lines[i].id = NULL;
    while (l->n_written < l->n && l->lines[l->n_written].result) {
        ps_song_line *line = &l->lines[l->n_written++];
        const ps_err err = write_line(l, line->result);
        ps_mem_free(line->result);
        line->result = NULL;
        PS_TRY(err);
    }
    return PS_OK;
}

ps_err ps_song_lines_fail(ps_song_lines *l, size_t i, ps_err err)
{
    ps_text result = {0};
    l->n_failed++;
    ps_result_error_to_json(l->lines[i].id, l->lines[i].number, err, ps_err_message(), &result);
    return ps_song_lines_put(l, i, &result);
}

ps_err ps_song_lines_close(ps_song_lines *l)
{
    const int fd = l->fd;
    l->fd = STDOUT_FILENO;
    if (fd == STDOUT_FILENO) return PS_OK;
    const bool synced = fsync(fd) == 0 || errno == EINVAL;
    const int reason = errno;
    const bool closed = close(fd) == 0;
    if (synced && closed) return PS_OK;
    return PS_FAIL(PS_ERR_IO, "%s: cannot be written: %s", l->out,
                   strerror(synced ? errno : reason));
}
