#include "tool/pictures/figures.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"

enum { DRAW_SECONDS_MAX = 600, PAUSE_US = 2000, SVG_BYTES_MAX = 1 << 28 };

static const char program[] = "gnuplot";
static const char log_name[] = "gnuplot.log";

ps_err ps_figures_check(void)
{
    const char *at = getenv("PATH");
    ps_text path = {0};
    bool found = false;
    while (at && *at && !found) {
        const size_t n = strcspn(at, ":");
        ps_text_clear(&path);
        ps_text_append(&path, at, n);
        ps_text_appendf(&path, "/%s", program);
        found = access(ps_text_str(&path), X_OK) == 0;
        at += n + (at[n] == ':');
    }
    ps_text_release(&path);
    if (found) return PS_OK;
    return PS_FAIL(
        PS_ERR_UNSUPPORTED,
        "figures are drawn by gnuplot, which is not in PATH: install it (Debian: apt-get "
        "install gnuplot-nox), or ask for --figures none");
}

ps_err ps_figures_make_directory(const char *directory)
{
    ps_text path = {0};
    ps_text_appendf(&path, "%s/figures", directory);
    const ps_err err = ps_file_make_dirs(ps_text_str(&path));
    ps_text_release(&path);
    return err;
}

int ps_figure_heads(const ps_scene *scene)
{
    return scene->record.n_heads < PS_FIGURE_HEADS ? scene->record.n_heads : PS_FIGURE_HEADS;
}

/* The first of the last steps that all see as many keys as any. */
static size_t first_full(const ps_record_layer *layer)
{
    int64_t most = 0;
    size_t first = layer->n_steps;
    for (size_t s = 0; s < layer->n_steps; s++) {
        if (layer->steps[s].n > most) most = layer->steps[s].n;
    }
    while (first > 0 && layer->steps[first - 1].n == most) {
        first--;
    }
    return first;
}

static bool are_enough(const ps_record_layer *layer, size_t first)
{
    enum { ENOUGH = 5 };
    return layer->n_steps - first >= ENOUGH;
}

size_t ps_figure_full_steps(const ps_record_layer *layer)
{
    const size_t first = first_full(layer);
    return are_enough(layer, first) ? first : layer->n_steps / 2;
}

const char *ps_figure_full_name(const ps_record_layer *layer)
{
    return are_enough(layer, first_full(layer)) ? "the queries with a full window"
                                                : "the last half of the queries";
}

void ps_figures_release(ps_figures *figures)
{
    ps_mem_free(figures->item);
    *figures = (ps_figures){0};
}

/* ---- gnuplot ---- */

/* The first line of the log that tells of an error. */
static void find_complaint(const char *directory, char *out, size_t n)
{
    ps_text path = {0}, log = {0};
    ps_text_appendf(&path, "%s/%s", directory, log_name);
    out[0] = '\0';
    if (ps_file_read(ps_text_str(&path), SVG_BYTES_MAX, &log) == PS_OK) {
        char *save = NULL, *copy = ps_text_take(&log);
        for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
            if (strstr(line, "warning")) continue;
            if (strchr(line, ':') && !strchr(line, '^')) snprintf(out, n, "%s", line);
        }
        ps_mem_free(copy);
    }
    ps_text_release(&path);
    ps_text_release(&log);
}

static ps_err wait_for(pid_t child, const char *directory)
{
    const int64_t begin = ps_clock_now_ns();
    int status;
    for (;;) {
        const pid_t done = waitpid(child, &status, WNOHANG);
        if (done == child) break;
        if (done < 0 && errno != EINTR)
            return PS_FAIL(PS_ERR_IO, "%s: waiting for it: %s", program, strerror(errno));
        if (ps_clock_seconds_between(begin, ps_clock_now_ns()) > DRAW_SECONDS_MAX) {
            kill(child, SIGKILL);
            waitpid(child, &status, 0);
            return PS_FAIL(PS_ERR_IO, "%s: not done after %d s", program, (int)DRAW_SECONDS_MAX);
        }
        ps_clock_sleep_us(PAUSE_US);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return PS_OK;
    char complaint[256];
    find_complaint(directory, complaint, sizeof complaint);
    return PS_FAIL(PS_ERR_IO, "%s failed in %s: %s", program, directory,
                   complaint[0] ? complaint : "no word of why");
}

/* Runs gnuplot in the directory over all scripts. */
static ps_err run_gnuplot(const ps_figures *figures, const char *directory, const char *format)
{
    char option[] = "-e", setting[32];
    char name[sizeof program];
    memcpy(name, program, sizeof program);
    snprintf(setting, sizeof setting, "format='%s'", format);
    char **arguments = ps_mem_new(figures->n + 4, sizeof *arguments);
    arguments[0] = name;
    arguments[1] = option;
    arguments[2] = setting;
    for (size_t i = 0; i < figures->n; i++) {
        ps_text script = {0};
        ps_text_appendf(&script, "%s.gp", figures->item[i].name);
        arguments[3 + i] = ps_text_take(&script);
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addchdir_np(&actions, directory);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log_name,
                                     O_WRONLY | O_CREAT | O_TRUNC, 0666);
    posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
    pid_t child;
    const int failed = posix_spawnp(&child, program, &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    for (size_t i = 0; i < figures->n; i++) {
        ps_mem_free(arguments[3 + i]);
    }
    ps_mem_free(arguments);
    if (failed) return PS_FAIL(PS_ERR_IO, "%s does not start: %s", program, strerror(failed));
    return wait_for(child, directory);
}

/* gnuplot puts maps into an SVG as small pictures, which browsers would blur when they enlarge
 * them. */
static ps_err sharpen(const ps_figure *figure, const char *directory)
{
    static const char image[] = "<image ", sharp[] = "<image style='image-rendering:pixelated' ";
    ps_text path = {0}, svg = {0};
    ps_file_writer file;
    ps_text_appendf(&path, "%s/%s.svg", directory, figure->name);
    ps_err err = ps_file_read(ps_text_str(&path), SVG_BYTES_MAX, &svg);
    if (!err) err = ps_file_writer_open(ps_text_str(&path), &file);
    if (!err) {
        const char *at = ps_text_str(&svg);
        for (const char *next; (next = strstr(at, image)) != NULL; at = next + sizeof image - 1) {
            ps_file_writer_write(&file, at, (size_t)(next - at));
            ps_file_writer_write(&file, sharp, sizeof sharp - 1);
        }
        ps_file_writer_write(&file, at, strlen(at));
        err = ps_file_writer_commit(&file);
    }
    ps_text_release(&path);
    ps_text_release(&svg);
    return err;
}

/* ---- all of them ---- */

typedef ps_err draw_figure(const ps_scene *scene, const char *directory, ps_figure *figure);

static ps_err draw(const ps_scene *scene, const char *directory, ps_figure_kind kind, int layer,
                   int head, ps_figures *out)
{
    static draw_figure *const functions[] = {[PS_FIGURE_MAP] = ps_figure_map,
                                             [PS_FIGURE_DISTANCE] = ps_figure_distance,
                                             [PS_FIGURE_KEYS] = ps_figure_keys,
                                             [PS_FIGURE_MASS] = ps_figure_mass,
                                             [PS_FIGURE_HEAD] = ps_figure_head};
    out->item = ps_mem_grow(out->item, &out->capacity, out->n + 1, sizeof *out->item);
    ps_figure *figure = &out->item[out->n++];
    *figure = (ps_figure){.kind = kind, .layer = layer, .head = head};
    return functions[kind](scene, directory, figure);
}

static ps_err draw_layer(const ps_scene *scene, const char *directory, int layer, ps_figures *out)
{
    const bool biased = scene->layers[layer].n_biases > 0;
    if (scene->record.layers[layer].n_steps == 0) return PS_OK;
    PS_TRY(draw(scene, directory, PS_FIGURE_MAP, layer, -1, out));
    if (biased) {
        PS_TRY(draw(scene, directory, PS_FIGURE_DISTANCE, layer, -1, out));
        PS_TRY(draw(scene, directory, PS_FIGURE_KEYS, layer, -1, out));
    }
    PS_TRY(draw(scene, directory, PS_FIGURE_MASS, layer, -1, out));
    for (int h = 0; biased && h < ps_figure_heads(scene); h++) {
        PS_TRY(draw(scene, directory, PS_FIGURE_HEAD, layer, h, out));
    }
    return PS_OK;
}

ps_err ps_figures_draw(const ps_scene *scene, const char *directory, bool svg, bool png,
                       ps_figures *out)
{
    ps_text path = {0};
    *out = (ps_figures){0};
    ps_text_appendf(&path, "%s/figures", directory);
    ps_err err = PS_OK;
    for (int l = 0; l < scene->record.n_layers && !err; l++) {
        err = draw_layer(scene, ps_text_str(&path), l, out);
    }
    if (!err && svg) err = run_gnuplot(out, ps_text_str(&path), "svg");
    for (size_t i = 0; svg && i < out->n && !err; i++) {
        err = sharpen(&out->item[i], ps_text_str(&path));
    }
    if (!err && png) err = run_gnuplot(out, ps_text_str(&path), "png");
    ps_text_release(&path);
    return err;
}
