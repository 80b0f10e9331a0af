/* The figures of a scene: scripts and data for gnuplot in DIR/figures, and what gnuplot makes of
 * them.
 *
 * For each recorded layer, over its heads side by side (the first PS_FIGURE_HEADS of them):
 *   map       the bias by query and key; the weights where the layer has no bias
 *   distance  the bias against the distance, for several contexts, and their mean
 *   keys      how single keys' biases change while the context grows
 *   mass      where attention goes: by distance, and to the oldest tenth of what is visible
 * and for each of these heads
 *   head      the last steps, token by token: key part, position part, bias, weights
 *
 * Errors: PS_ERR_IO; PS_ERR_UNSUPPORTED when there is no gnuplot.   MPI: local.
 */
#ifndef PS_TOOL_PICTURES_FIGURES_H
#define PS_TOOL_PICTURES_FIGURES_H

#include "tool/pictures/plot.h"
#include "tool/pictures/scene.h"

enum { PS_FIGURE_HEADS = 12 };

typedef enum ps_figure_kind {
    PS_FIGURE_MAP,
    PS_FIGURE_DISTANCE,
    PS_FIGURE_KEYS,
    PS_FIGURE_MASS,
    PS_FIGURE_HEAD
} ps_figure_kind;

typedef struct ps_figure {
    ps_figure_kind kind;
    int layer, head; // of the record; head -1: all
    char name[PS_PLOT_NAME_BYTES];
    int width, height;
} ps_figure;

typedef struct ps_figures {
    ps_figure *item; // [n] owned, in the order of the page
    size_t n, capacity;
} ps_figures;

/* Looks for gnuplot. */
ps_err ps_figures_check(void) PS_MUST_CHECK;

/* DIR and DIR/figures. */
ps_err ps_figures_make_directory(const char *directory) PS_MUST_CHECK;

/* Writes all scripts and their data, and lets gnuplot draw the kinds of files that are asked for.
 * Released with ps_figures_release, on error too. */
ps_err ps_figures_draw(const ps_scene *scene, const char *directory, bool svg, bool png,
                       ps_figures *out) PS_MUST_CHECK;
void ps_figures_release(ps_figures *figures);

/* One figure each, as scripts in `directory`. */
ps_err ps_figure_map(const ps_scene *scene, const char *directory, ps_figure *figure) PS_MUST_CHECK;
ps_err ps_figure_distance(const ps_scene *scene, const char *directory,
                          ps_figure *figure) PS_MUST_CHECK;
ps_err ps_figure_keys(const ps_scene *scene, const char *directory,
                      ps_figure *figure) PS_MUST_CHECK;
ps_err ps_figure_mass(const ps_scene *scene, const char *directory,
                      ps_figure *figure) PS_MUST_CHECK;
ps_err ps_figure_head(const ps_scene *scene, const char *directory,
                      ps_figure *figure) PS_MUST_CHECK;

/* Means over the full steps, of one head: the share of the attention on the oldest tenth of the
 * visible keys, and the share that the bias moves from one key to another. */
double ps_figure_oldest_share(const ps_record *record, const ps_record_layer *layer, int head,
                              ps_quantity quantity);
double ps_figure_moved_share(const ps_record *record, const ps_record_layer *layer, int head);

/* Heads that are drawn. */
int ps_figure_heads(const ps_scene *scene);

/* The steps [first, n_steps) whose contexts are taken to be full: those that see the most keys, or
 * when hardly any do, the last half. */
size_t ps_figure_full_steps(const ps_record_layer *layer);
const char *ps_figure_full_name(const ps_record_layer *layer); // "the queries with a full window"

#endif
