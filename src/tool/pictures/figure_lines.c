/* Curves: the bias against the distance, one key's bias over time, and where attention goes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool/pictures/figures.h"

enum {
    SHEET_WIDTH = 1080,
    LEFT = 70,
    GAP_X = 56,
    GAP_Y = 62,
    PANEL_X = 280,
    PANEL_Y = 190,
    LEGEND_HEIGHT = 46,
    CONTEXTS = 5,
    KEYS = 4,
    LABEL = 8,
    NAMED_HEADS = 8,
    TITLE_BYTES = 160,
    ENTRY_BYTES = 192
};

static const char *const context_colours[CONTEXTS] = {"#440154", "#3b528b", "#21918c", "#5ec962",
                                                      "#d8b800"};

/* A sheet with a panel for each head and a legend below. */
static ps_plot_grid begin_sheet(const ps_scene *scene, const char *kind, const char *title,
                                const char *subtitle, ps_figure *f, ps_plot *plot)
{
    const int layer = scene->record.layers[f->layer].layer;
    const ps_plot_grid grid = ps_plot_grid_make(ps_figure_heads(scene), SHEET_WIDTH, LEFT, GAP_X,
                                                GAP_Y, PANEL_X, PANEL_Y);
    char whole[TITLE_BYTES];
    snprintf(f->name, sizeof f->name, "%s-layer%02d", kind, layer);
    snprintf(whole, sizeof whole, "Layer %d: %s", layer, title);
    f->width = grid.columns > 1 ? (int)(grid.left + grid.columns * grid.step_x) - GAP_X + 24
                                : SHEET_WIDTH / 2;
    f->height = (int)(grid.top + grid.rows * grid.step_y) + LEGEND_HEIGHT;
    ps_plot_begin(plot, f->name, f->width, f->height, whole, subtitle);
    return grid;
}

static void begin_head(const ps_scene *scene, ps_plot *plot, const ps_plot_grid *grid, int head,
                       const char *xlabel, const char *ylabel)
{
    char title[32];
    const ps_plot_box box = ps_plot_grid_box(grid, head);
    snprintf(title, sizeof title, "head %d", scene->record.heads[head]);
    ps_plot_panel(plot, &box, title);
    ps_plot_axes(plot, head / grid->columns + 1 == grid->rows ? xlabel : "",
                 head % grid->columns == 0 ? ylabel : "");
    ps_plot_addf(plot, "set arrow 1 from graph 0, first 0 to graph 1, first 0 nohead back "
                       "linecolor rgb \"#cccccc\"\n");
}

static void end_sheet(ps_plot *plot, const ps_figure *f, const ps_text *entries)
{
    const ps_plot_box box = {LEFT, f->height - LEGEND_HEIGHT, f->width - LEFT - 20.0,
                             LEGEND_HEIGHT - 12.0};
    ps_plot_addf(plot, "unset arrow\nunset label\n");
    ps_plot_legend(plot, &box, ps_text_str(entries));
}

static void add_entry(ps_text *entries, const char *style, const char *title)
{
    ps_text_appendf(entries, "%sNaN with %s title '", entries->len ? ", " : "", style);
    for (; *title; title++) {
        ps_text_append_str(entries, *title == '\'' ? "''" : (const char[]){*title, '\0'});
    }
    ps_text_append_char(entries, '\'');
}

/* The value that belongs to a distance; NaN where the step does not see it. */
static double at_distance(const ps_record *record, const ps_record_layer *layer, size_t s, int head,
                          ps_quantity quantity, int64_t distance)
{
    const ps_record_step *step = &layer->steps[s];
    const int64_t *keys = layer->keys + step->first;
    int64_t low = 0, high = step->n;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (keys[middle] < step->query - distance) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == step->n || keys[low] != step->query - distance) return (double)NAN;
    return (double)ps_record_values(record, layer, s, head, quantity)[low];
}

static void append_number(ps_text *out, double value)
{
    if (isfinite(value)) {
        ps_text_appendf(out, " %.5g", value);
    } else {
        ps_text_append_str(out, " NaN");
    }
}

/* ---- the bias against the distance ---- */

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A line of data: distance, mean, 5 % and 95 % of the steps, and the chosen contexts. */
static void append_distance(const ps_record *record, const ps_record_layer *layer, int head,
                            int64_t distance, const size_t *contexts, double *values, ps_text *out)
{
    size_t n = 0;
    double sum = 0.0;
    for (size_t s = ps_figure_full_steps(layer); s < layer->n_steps; s++) {
        const double v = at_distance(record, layer, s, head, PS_QUANTITY_BIAS, distance);
        if (!isfinite(v)) continue;
        values[n++] = v;
        sum += v;
    }
    if (n == 0) return;
    qsort(values, n, sizeof *values, compare_doubles);
    ps_text_appendf(out, "%lld", (long long)distance);
    append_number(out, sum / (double)n);
    append_number(out, values[n / 20]);
    append_number(out, values[n - 1 - n / 20]);
    for (int c = 0; c < CONTEXTS; c++) {
        append_number(out,
                      at_distance(record, layer, contexts[c], head, PS_QUANTITY_BIAS, distance));
    }
    ps_text_append_char(out, '\n');
}

/* The range of distances of the full steps. */
static void find_distances(const ps_record_layer *layer, int64_t *least, int64_t *most)
{
    *least = INT64_MAX;
    *most = INT64_MIN;
    for (size_t s = ps_figure_full_steps(layer); s < layer->n_steps; s++) {
        const ps_record_step *step = &layer->steps[s];
        const int64_t newest = step->query - layer->keys[step->first + (size_t)step->n - 1];
        const int64_t oldest = step->query - layer->keys[step->first];
        if (newest < *least) *least = newest;
        if (oldest > *most) *most = oldest;
    }
}

static void plot_contexts(ps_plot *plot, int block)
{
    ps_plot_addf(plot, "plot data index %d using 1:3:4 with filledcurves linecolor rgb \"#dddddd\"",
                 block);
    for (int c = 0; c < CONTEXTS; c++) {
        ps_plot_addf(plot,
                     ", \\\n    data index %d using 1:%d with lines linecolor rgb \"%s\" "
                     "linewidth 1",
                     block, 5 + c, context_colours[c]);
    }
    ps_plot_addf(plot,
                 ", \\\n    data index %d using 1:2 with lines linecolor rgb \"black\" "
                 "linewidth 2.2\nunset label\n",
                 block);
}

ps_err ps_figure_distance(const ps_scene *scene, const char *directory, ps_figure *f)
{
    const ps_record_layer *layer = &scene->record.layers[f->layer];
    const size_t first = ps_figure_full_steps(layer);
    int64_t least, most;
    size_t contexts[CONTEXTS];
    find_distances(layer, &least, &most);
    for (size_t c = 0; c < CONTEXTS; c++) {
        contexts[c] = first + (layer->n_steps - 1 - first) * c / (CONTEXTS - 1);
    }
    ps_plot plot;
    char subtitle[TITLE_BYTES];
    snprintf(subtitle, sizeof subtitle,
             "thin: single queries, each with its own text before it; black: the mean over %s; "
             "grey: 90 %% of them",
             ps_figure_full_name(layer));
    const ps_plot_grid grid =
        begin_sheet(scene, "distance", "the bias against the distance", subtitle, f, &plot);
    double *values = ps_mem_new(layer->n_steps, sizeof *values);
    for (int h = 0; h < ps_figure_heads(scene); h++) {
        const int block = ps_plot_block(&plot, "distance, mean, 5 %, 95 %, single queries");
        for (int64_t d = least; d <= most; d++) {
            append_distance(&scene->record, layer, h, d, contexts, values, &plot.data);
        }
        begin_head(scene, &plot, &grid, h, "distance from query back to key (tokens)", "bias");
        ps_plot_addf(&plot, "set xrange [%lld:%lld]\nset yrange [*:*]\n", (long long)least,
                     (long long)(most > least ? most : least + 1));
        plot_contexts(&plot, block);
    }
    ps_mem_free(values);
    ps_text entries = {0};
    add_entry(&entries, "lines linecolor rgb \"black\" linewidth 2.2", "mean");
    for (int c = 0; c < CONTEXTS; c++) {
        char style[ENTRY_BYTES];
        ps_text label = {0};
        const int64_t query = layer->steps[contexts[c]].query;
        snprintf(style, sizeof style, "lines linecolor rgb \"%s\"", context_colours[c]);
        ps_text_appendf(&label, "query %lld  ", (long long)query);
        ps_scene_label(scene, query, LABEL, &label);
        add_entry(&entries, style, ps_text_str(&label));
        ps_text_release(&label);
    }
    end_sheet(&plot, f, &entries);
    ps_text_release(&entries);
    return ps_plot_write(&plot, directory);
}

/* ---- one key's bias over time ---- */

/* Steps that see a key which was not there before the first of them: its whole life so far. */
static int64_t life_of(const ps_record_layer *layer, int64_t key)
{
    int64_t life = 0;
    for (size_t s = 0; s < layer->n_steps; s++) {
        const ps_record_step *step = &layer->steps[s];
        const int64_t *keys = layer->keys + step->first;
        if (step->query >= key && keys[0] <= key && keys[step->n - 1] >= key) life++;
    }
    return life;
}

/* Up to KEYS keys that are seen for long, apart from each other. */
static int choose_keys(const ps_record_layer *layer, int64_t *keys)
{
    const ps_map_area area = ps_map_area_of(layer);
    int64_t longest = 0, n_long = 0;
    for (int64_t key = area.first_key; key < area.end_key; key++) {
        const int64_t life = life_of(layer, key);
        if (life > longest) longest = life;
    }
    int64_t *candidates = ps_mem_new((size_t)(area.end_key - area.first_key), sizeof *candidates);
    for (int64_t key = area.first_key; key < area.end_key; key++) {
        if (life_of(layer, key) * 10 >= longest * 6) candidates[n_long++] = key;
    }
    const int n = n_long < KEYS ? (int)n_long : KEYS;
    for (int i = 0; i < n; i++) {
        keys[i] = candidates[n > 1 ? (n_long - 1) * i / (n - 1) : 0];
    }
    ps_mem_free(candidates);
    return n;
}

static void append_life(const ps_record *record, const ps_record_layer *layer, int head,
                        int64_t key, ps_text *out)
{
    for (size_t s = 0; s < layer->n_steps; s++) {
        const int64_t age = layer->steps[s].query - key;
        const double v = at_distance(record, layer, s, head, PS_QUANTITY_BIAS, age);
        if (age < 0 || !isfinite(v)) continue;
        ps_text_appendf(out, "%lld %.5g\n", (long long)age, v);
    }
}

ps_err ps_figure_keys(const ps_scene *scene, const char *directory, ps_figure *f)
{
    const ps_record_layer *layer = &scene->record.layers[f->layer];
    int64_t keys[KEYS];
    const int n_keys = choose_keys(layer, keys);
    ps_plot plot;
    const ps_plot_grid grid = begin_sheet(
        scene, "keys", "one key's bias while the context grows",
        "each line follows one token from the moment it was read until it leaves the window", f,
        &plot);
    for (int h = 0; h < ps_figure_heads(scene); h++) {
        begin_head(scene, &plot, &grid, h, "steps since the key was read", "bias of the key");
        ps_plot_addf(&plot, "set xrange [0:*]\nset yrange [*:*]\nplot ");
        for (int i = 0; i < n_keys; i++) {
            const int block = ps_plot_block(&plot, "steps since the key, bias");
            append_life(&scene->record, layer, h, keys[i], &plot.data);
            ps_plot_addf(&plot,
                         "%sdata index %d using 1:2 with lines linecolor rgb \"%s\" "
                         "linewidth 1.4",
                         i ? ", " : "", block, ps_plot_colour(i));
        }
        ps_plot_addf(&plot, "\nunset label\n");
    }
    ps_text entries = {0};
    for (int i = 0; i < n_keys; i++) {
        char style[ENTRY_BYTES];
        ps_text label = {0};
        snprintf(style, sizeof style, "lines linecolor rgb \"%s\" linewidth 2", ps_plot_colour(i));
        ps_text_appendf(&label, "key %lld  ", (long long)keys[i]);
        ps_scene_label(scene, keys[i], LABEL, &label);
        add_entry(&entries, style, ps_text_str(&label));
        ps_text_release(&label);
    }
    end_sheet(&plot, f, &entries);
    ps_text_release(&entries);
    return ps_plot_write(&plot, directory);
}

/* ---- where attention goes ---- */

/* mass[d - least] = mean weight of the keys at distance d over the full steps. */
static void find_mass(const ps_record *record, const ps_record_layer *layer, int head,
                      ps_quantity quantity, int64_t least, int64_t most, double *mass)
{
    const size_t first = ps_figure_full_steps(layer);
    memset(mass, 0, (size_t)(most - least + 1) * sizeof *mass);
    for (size_t s = first; s < layer->n_steps; s++) {
        const ps_record_step *step = &layer->steps[s];
        const float *weights = ps_record_values(record, layer, s, head, quantity);
        for (int64_t j = 0; j < step->n; j++) {
            const int64_t distance = step->query - layer->keys[step->first + (size_t)j];
            mass[distance - least] += (double)weights[j] / (double)(layer->n_steps - first);
        }
    }
}

double ps_figure_oldest_share(const ps_record *record, const ps_record_layer *layer, int head,
                              ps_quantity quantity)
{
    const size_t first = ps_figure_full_steps(layer);
    double sum = 0.0;
    for (size_t s = first; s < layer->n_steps; s++) {
        const float *weights = ps_record_values(record, layer, s, head, quantity);
        for (int64_t j = 0; j < (layer->steps[s].n + 9) / 10; j++) {
            sum += (double)weights[j];
        }
    }
    return sum / (double)(layer->n_steps - first);
}

double ps_figure_moved_share(const ps_record *record, const ps_record_layer *layer, int head)
{
    const size_t first = ps_figure_full_steps(layer);
    double sum = 0.0;
    for (size_t s = first; s < layer->n_steps; s++) {
        const float *with = ps_record_values(record, layer, s, head, PS_QUANTITY_WEIGHT);
        const float *without = ps_record_values(record, layer, s, head, PS_QUANTITY_PLAIN_WEIGHT);
        for (int64_t j = 0; j < layer->steps[s].n; j++) {
            sum += fabs((double)with[j] - (double)without[j]) / 2.0;
        }
    }
    return sum / (double)(layer->n_steps - first);
}

/* Left: how much of the attention lies within each distance. */
static void plot_cumulative(const ps_scene *scene, const ps_record_layer *layer, bool biased,
                            ps_plot *plot)
{
    int64_t least, most;
    find_distances(layer, &least, &most);
    double *mass = ps_mem_new((size_t)(most - least + 1), sizeof *mass);
    const ps_plot_box box = {LEFT, PS_PLOT_TITLE_HEIGHT + 30, 560, 330};
    ps_plot_panel(plot, &box, "share of the attention within a distance");
    ps_plot_axes(plot, "distance from query back to key (tokens)", "% of the attention");
    ps_plot_addf(plot, "set xrange [%lld:%lld]\nset yrange [0:100]\nplot ", (long long)least,
                 (long long)(most > least ? most : least + 1));
    for (int h = 0; h < ps_figure_heads(scene); h++) {
        for (int plain = biased; plain >= 0; plain--) {
            const int block = ps_plot_block(plot, plain ? "distance, % within it without the bias"
                                                        : "distance, % within it");
            double sum = 0.0;
            find_mass(&scene->record, layer, h,
                      plain ? PS_QUANTITY_PLAIN_WEIGHT : PS_QUANTITY_WEIGHT, least, most, mass);
            for (int64_t d = least; d <= most; d++) {
                sum += 100.0 * mass[d - least];
                ps_text_appendf(&plot->data, "%lld %.5g\n", (long long)d, sum);
            }
            ps_plot_addf(plot,
                         "%sdata index %d using 1:2 with lines linecolor rgb \"%s\" "
                         "linewidth %s dashtype %s",
                         h || plain < biased ? ", \\\n    " : "", block, ps_plot_colour(h),
                         plain ? "1.1" : "1.8", plain ? "(2,4)" : "1");
        }
    }
    ps_plot_addf(plot, "\nunset label\n");
    ps_mem_free(mass);
}

/* Right: the oldest tenth of what is visible, with and without the bias. */
static void plot_edge(const ps_scene *scene, const ps_record_layer *layer, bool biased,
                      ps_plot *plot)
{
    const int n = ps_figure_heads(scene);
    const int block = ps_plot_block(plot, "head, % on the oldest tenth with and without the bias");
    for (int h = 0; h < n; h++) {
        ps_text_appendf(
            &plot->data, "%d %.5g %.5g\n", scene->record.heads[h],
            100.0 * ps_figure_oldest_share(&scene->record, layer, h, PS_QUANTITY_WEIGHT),
            100.0 * ps_figure_oldest_share(&scene->record, layer, h, PS_QUANTITY_PLAIN_WEIGHT));
    }
    const ps_plot_box box = {LEFT + 560 + 84, PS_PLOT_TITLE_HEIGHT + 30, 340, 330};
    ps_plot_panel(plot, &box, "share on the oldest tenth of the visible keys");
    ps_plot_axes(plot, "head", "% of the attention");
    ps_plot_addf(plot, "set xrange [-0.6:%d.6]\nset yrange [0:*]\nset xtics scale 0 (", n - 1);
    for (int h = 0; h < n; h++) {
        ps_plot_addf(plot, "%s'%d' %d", h ? ", " : "", scene->record.heads[h], h);
    }
    ps_plot_addf(plot,
                 ")\nset boxwidth 0.36\nset style fill solid 1 noborder\n"
                 "plot data index %d using ($0%s):2 with boxes linecolor rgb \"#0072b2\"",
                 block, biased ? "-0.2" : "");
    if (biased)
        ps_plot_addf(plot, ", data index %d using ($0+0.2):3 with boxes linecolor rgb \"#bbbbbb\"",
                     block);
    ps_plot_addf(plot, "\n");
}

ps_err ps_figure_mass(const ps_scene *scene, const char *directory, ps_figure *f)
{
    const ps_record_layer *layer = &scene->record.layers[f->layer];
    const int n = ps_figure_heads(scene);
    const bool biased = scene->layers[f->layer].n_biases > 0;
    char title[TITLE_BYTES];
    snprintf(f->name, sizeof f->name, "mass-layer%02d", layer->layer);
    snprintf(title, sizeof title, "Layer %d: where the attention goes", layer->layer);
    f->width = SHEET_WIDTH;
    f->height = PS_PLOT_TITLE_HEIGHT + 30 + 330 + 52 + LEGEND_HEIGHT;
    ps_plot plot;
    char subtitle[TITLE_BYTES];
    snprintf(subtitle, sizeof subtitle, "mean over %s%s", ps_figure_full_name(layer),
             biased ? ". Solid and blue: as it is; dotted and grey: as it would be without the bias"
                    : "");
    ps_plot_begin(&plot, f->name, f->width, f->height, title, subtitle);
    plot_cumulative(scene, layer, biased, &plot);
    plot_edge(scene, layer, biased, &plot);
    ps_text entries = {0};
    for (int h = 0; h < n && h < NAMED_HEADS; h++) {
        char style[ENTRY_BYTES], label[32];
        snprintf(style, sizeof style, "lines linecolor rgb \"%s\" linewidth 2", ps_plot_colour(h));
        snprintf(label, sizeof label, "head %d", scene->record.heads[h]);
        add_entry(&entries, style, label);
    }
    end_sheet(&plot, f, &entries);
    ps_text_release(&entries);
    return ps_plot_write(&plot, directory);
}
