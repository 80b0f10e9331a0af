/* A gnuplot script and its data, as they are put together: panels side by side on one sheet.
 *
 *   NAME.gp    reads NAME.dat, writes NAME.svg, or with -e 'format="png"' NAME.png
 *   NAME.dat   blocks of numbers with comments, two empty lines between them: gnuplot's `index`
 *
 * Lengths are pixels of a sheet at normal size; PNGs are made at twice that. Texts on axes stand in
 * single quotes and are not marked up.
 *
 * Errors: PS_ERR_IO.   MPI: local.
 */
#ifndef PS_TOOL_PICTURES_PLOT_H
#define PS_TOOL_PICTURES_PLOT_H

#include "tool/pictures/map.h"
#include "tool/pictures/scene.h"

enum { PS_PLOT_NAME_BYTES = 48 };

typedef struct ps_plot {
    char name[PS_PLOT_NAME_BYTES];
    int width, height;
    int n_blocks; // of data so far
    ps_text script, data;
} ps_plot;

/* Where a panel lies: the rectangle inside its axes, from the upper left corner of the sheet. */
typedef struct ps_plot_box {
    double left, top, width, height;
} ps_plot_box;

/* A grid of panels. */
typedef struct ps_plot_grid {
    int columns, rows;
    double left, top;        // of the first panel
    double step_x, step_y;   // between panels
    double panel_x, panel_y; // size of a panel inside its axes
} ps_plot_grid;

enum { PS_PLOT_TITLE_HEIGHT = 58, PS_PLOT_COLOURS = 8 };

/* Distinct for colour-blind eyes too (Okabe and Ito). */
const char *ps_plot_colour(int number);

void ps_plot_begin(ps_plot *plot, const char *name, int width, int height, const char *title,
                   const char *subtitle);

/* n panels, panel_x wide and panel_y high, on as few rows as the width allows. */
ps_plot_grid ps_plot_grid_make(int n, int width, double left, double gap_x, double gap_y,
                               double panel_x, double panel_y);
ps_plot_box ps_plot_grid_box(const ps_plot_grid *grid, int panel);

/* Begins a panel; its axes and its plot follow. */
void ps_plot_panel(ps_plot *plot, const ps_plot_box *box, const char *title);

/* Labels of the axes; "" for none. */
void ps_plot_axes(ps_plot *plot, const char *xlabel, const char *ylabel);

/* Script lines, as printf has them. */
void ps_plot_addf(ps_plot *plot, const char *format, ...) PS_PRINTF(2, 3);

/* Text in single quotes. */
void ps_plot_quote(ps_plot *plot, const char *text);

/* A colour scale from -extent to extent around white, or from 0 to extent; the box beside it. */
void ps_plot_diverging(ps_plot *plot, double extent);
void ps_plot_rising(ps_plot *plot, double extent);
void ps_plot_colour_box(ps_plot *plot, const ps_plot_box *box, const char *label);

/* Appends a map as a block, and plots it in the present panel with positions on the axes. */
void ps_plot_map(ps_plot *plot, const ps_map *map);

/* Begins a block of data: the lines that follow in plot->data are its own. Returns its index. */
int ps_plot_block(ps_plot *plot, const char *comment);

/* A strip with nothing but the keys of lines: `entries` as gnuplot's plot takes them. */
void ps_plot_legend(ps_plot *plot, const ps_plot_box *box, const char *entries);

/* Writes both files and releases the plot; it is released in any case. */
ps_err ps_plot_write(ps_plot *plot, const char *directory) PS_MUST_CHECK;

#endif
