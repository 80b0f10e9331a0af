#include "tool/pictures/plot.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"

const char *ps_plot_colour(int number)
{
    static const char *const colours[PS_PLOT_COLOURS] = {
        "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#666666", "#000000"};
    return colours[number % PS_PLOT_COLOURS];
}

void ps_plot_addf(ps_plot *plot, const char *format, ...)
{
    va_list arguments;
    char line[1024];
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    ps_text_append_str(&plot->script, line);
}

void ps_plot_quote(ps_plot *plot, const char *text)
{
    ps_text_append_char(&plot->script, '\'');
    for (; *text; text++) {
        if (*text == '\'') ps_text_append_char(&plot->script, '\'');
        ps_text_append_char(&plot->script, *text);
    }
    ps_text_append_char(&plot->script, '\'');
}

void ps_plot_begin(ps_plot *plot, const char *name, int width, int height, const char *title,
                   const char *subtitle)
{
    *plot = (ps_plot){.width = width, .height = height};
    snprintf(plot->name, sizeof plot->name, "%s", name);
    ps_plot_addf(plot,
                 "# To draw it again, in this directory: gnuplot %s.gp, or for a PNG\n"
                 "#   gnuplot -e 'format=\"png\"' %s.gp\n"
                 "reset\n"
                 "if (!exists(\"format\")) format = \"svg\"\n",
                 name, name);
    ps_plot_addf(plot,
                 "if (format eq \"png\") {\n"
                 "    set terminal pngcairo noenhanced size %d,%d font \"DejaVu Sans,11\" "
                 "fontscale 2 linewidth 2 background rgb \"white\"\n",
                 2 * width, 2 * height);
    ps_plot_addf(plot,
                 "} else {\n"
                 "    set terminal svg noenhanced size %d,%d dynamic font \"DejaVu Sans,11\" "
                 "background rgb \"white\"\n"
                 "}\n"
                 "set output \"%s.\".format\n"
                 "data = \"%s.dat\"\n",
                 width, height, name, name);
    ps_plot_addf(plot, "set border 3 linecolor rgb \"#888888\" linewidth 0.6\n"
                       "set tics nomirror out scale 0.5 textcolor rgb \"#333333\" font \",9\"\n"
                       "unset key\nunset colorbox\n"
                       "set multiplot\n");
    ps_plot_addf(plot, "set label 1 ");
    ps_plot_quote(plot, title);
    ps_plot_addf(plot, " at screen %.5f,%.5f left font \",14\"\nset label 2 ", 16.0 / width,
                 1.0 - 20.0 / height);
    ps_plot_quote(plot, subtitle);
    ps_plot_addf(plot, " at screen %.5f,%.5f left font \",10\" textcolor rgb \"#555555\"\n",
                 16.0 / width, 1.0 - 42.0 / height);
}

ps_plot_grid ps_plot_grid_make(int n, int width, double left, double gap_x, double gap_y,
                               double panel_x, double panel_y)
{
    const double step_x = panel_x + gap_x;
    int columns = (int)((width - left + gap_x) / step_x);
    if (columns < 1) columns = 1;
    const int rows = (n + columns - 1) / columns;
    columns = (n + rows - 1) / rows; // rows of equal length
    return (ps_plot_grid){.columns = columns,
                          .rows = rows,
                          .left = left,
                          .top = PS_PLOT_TITLE_HEIGHT + 22,
                          .step_x = step_x,
                          .step_y = panel_y + gap_y,
                          .panel_x = panel_x,
                          .panel_y = panel_y};
}

ps_plot_box ps_plot_grid_box(const ps_plot_grid *grid, int panel)
{
    const int column = panel % grid->columns, line = panel / grid->columns;
    return (ps_plot_box){.left = grid->left + grid->step_x * column,
                         .top = grid->top + grid->step_y * line,
                         .width = grid->panel_x,
                         .height = grid->panel_y};
}

void ps_plot_panel(ps_plot *plot, const ps_plot_box *box, const char *title)
{
    const double w = plot->width, h = plot->height;
    ps_plot_addf(plot, "\nset lmargin at screen %.5f\nset rmargin at screen %.5f\n", box->left / w,
                 (box->left + box->width) / w);
    ps_plot_addf(plot, "set tmargin at screen %.5f\nset bmargin at screen %.5f\n",
                 1.0 - box->top / h, 1.0 - (box->top + box->height) / h);
    ps_plot_addf(plot, "set title ");
    ps_plot_quote(plot, title);
    ps_plot_addf(plot, " offset 0,-0.6 font \",10\"\n");
}

void ps_plot_axes(ps_plot *plot, const char *xlabel, const char *ylabel)
{
    ps_plot_addf(plot, "set xlabel ");
    ps_plot_quote(plot, xlabel);
    ps_plot_addf(plot, " offset 0,0.6 font \",9\"\nset ylabel ");
    ps_plot_quote(plot, ylabel);
    ps_plot_addf(plot, " offset 1.2,0 font \",9\"\n");
}

void ps_plot_diverging(ps_plot *plot, double extent)
{
    ps_plot_addf(plot, "set palette defined (-1 \"#053061\", -0.8 \"#2166ac\", -0.5 \"#67a9cf\", "
                       "-0.2 \"#d1e5f0\", 0 \"#ffffff\", 0.2 \"#fddbc7\", 0.5 \"#ef8a62\", "
                       "0.8 \"#b2182b\", 1 \"#67001f\")\n");
    ps_plot_addf(plot, "set cbrange [%.6g:%.6g]\n", -extent, extent);
}

void ps_plot_rising(ps_plot *plot, double extent)
{
    ps_plot_addf(plot, "set palette defined (0 \"#440154\", 0.125 \"#472d7b\", 0.25 \"#3b528b\", "
                       "0.375 \"#2c728e\", 0.5 \"#21918c\", 0.625 \"#28ae80\", 0.75 \"#5ec962\", "
                       "0.875 \"#addc30\", 1 \"#fde725\")\n");
    ps_plot_addf(plot, "set cbrange [0:%.6g]\n", extent);
}

void ps_plot_colour_box(ps_plot *plot, const ps_plot_box *box, const char *label)
{
    const double w = plot->width, h = plot->height;
    ps_plot_addf(plot,
                 "set colorbox user origin screen %.5f,%.5f size screen %.5f,%.5f "
                 "noborder\nset cbtics scale 0.3\nset cblabel ",
                 box->left / w, 1.0 - (box->top + box->height) / h, box->width / w,
                 box->height / h);
    ps_plot_quote(plot, label);
    ps_plot_addf(plot, " font \",9\"\n");
}

int ps_plot_block(ps_plot *plot, const char *comment)
{
    if (plot->n_blocks > 0) ps_text_append_str(&plot->data, "\n\n");
    ps_text_appendf(&plot->data, "# %s\n", comment);
    return plot->n_blocks++;
}

void ps_plot_map(ps_plot *plot, const ps_map *m)
{
    char comment[96];
    snprintf(comment, sizeof comment, "queries from %lld down, keys from %lld across",
             (long long)m->area.first_query, (long long)m->area.first_key);
    const int block = ps_plot_block(plot, comment);
    for (int r = 0; r < m->rows; r++) {
        for (int c = 0; c < m->columns; c++) {
            const double value = m->value[(size_t)r * (size_t)m->columns + (size_t)c];
            ps_text_append_str(&plot->data, c ? " " : "");
            if (isnan(value)) {
                ps_text_append_str(&plot->data, "NaN");
            } else {
                ps_text_appendf(&plot->data, "%.5g", value);
            }
        }
        ps_text_append_char(&plot->data, '\n');
    }
    const double x = (double)m->area.first_key, y = (double)m->area.first_query;
    const double across = (double)m->per_column, down = (double)m->per_row;
    // What no query sees is grey; white is the middle of the scale.
    ps_plot_addf(plot, "set object 1 rectangle from graph 0,0 to graph 1,1 behind fillcolor rgb "
                       "\"#ececec\" fillstyle solid noborder\n");
    ps_plot_addf(plot, "set xrange [%.9g:%.9g]\nset yrange [%.9g:%.9g]\n", x - 0.5,
                 x - 0.5 + across * m->columns, y - 0.5 + down * m->rows, y - 0.5);
    ps_plot_addf(plot,
                 "plot data index %d matrix using ($1*%.9g+%.9g):($2*%.9g+%.9g):3 with image\n",
                 block, across, x + (across - 1.0) / 2.0, down, y + (down - 1.0) / 2.0);
    ps_plot_addf(plot, "unset object 1\nunset label\nunset colorbox\n");
}

void ps_plot_legend(ps_plot *plot, const ps_plot_box *box, const char *entries)
{
    ps_plot_panel(plot, box, "");
    ps_plot_addf(plot, "unset title\nunset border\nunset tics\nunset xlabel\nunset ylabel\n"
                       "unset logscale\nset xrange [0:1]\nset yrange [0:1]\n"
                       "set key at graph 0,0.5 left center horizontal Left reverse samplen 2 "
                       "spacing 1.2 font \",10\" width 1 maxrows 2\nplot ");
    ps_text_append_str(&plot->script, entries);
    ps_plot_addf(plot, "\nunset key\n");
}

static ps_err write_file(const char *directory, const char *name, const char *ending,
                         const ps_text *text)
{
    ps_text path = {0};
    ps_file_writer file;
    ps_text_appendf(&path, "%s/%s.%s", directory, name, ending);
    ps_err err = ps_file_writer_open(ps_text_str(&path), &file);
    if (!err) {
        ps_file_writer_write(&file, text->data, text->len);
        err = ps_file_writer_commit(&file);
    }
    ps_text_release(&path);
    return err;
}

ps_err ps_plot_write(ps_plot *plot, const char *directory)
{
    ps_plot_addf(plot, "unset multiplot\nunset output\n");
    ps_err err = write_file(directory, plot->name, "dat", &plot->data);
    if (!err) err = write_file(directory, plot->name, "gp", &plot->script);
    ps_text_release(&plot->script);
    ps_text_release(&plot->data);
    return err;
}
