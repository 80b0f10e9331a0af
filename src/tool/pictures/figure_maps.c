/* Heat maps: a whole layer, and a head's last steps token by token. */
#include <math.h>
#include <stdio.h>

#include "tool/pictures/figures.h"

#define BEYOND_SCALE 0.01 // share of the values that only get the scale's end colours

enum {
    MAP_CELLS_MAX = 400, // a side
    MAP_PANEL = 270,
    MAP_GAP_X = 52,
    MAP_GAP_Y = 58,
    MAP_LEFT = 70,
    SHEET_WIDTH = 1080,
    BOX_ROOM = 96,
    ZOOM_STEPS = 28, // tokens that still have room for their names
    ZOOM_PANEL = 400,
    ZOOM_LABEL = 7,
    TITLE_BYTES = 160
};

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static void name_figure(ps_figure *f, const char *kind, int layer, int head)
{
    if (head < 0) {
        snprintf(f->name, sizeof f->name, "%s-layer%02d", kind, layer);
    } else {
        snprintf(f->name, sizeof f->name, "%s-layer%02d-head%02d", kind, layer, head);
    }
}

/* End of a colour scale. */
static double scale_of(const ps_map *maps, int n, double share)
{
    const double extent = ps_map_extent(maps, n, share);
    return extent > 0.0 ? extent : 1.0;
}

ps_err ps_figure_map(const ps_scene *scene, const char *directory, ps_figure *f)
{
    const ps_record_layer *layer = &scene->record.layers[f->layer];
    const ps_layer_spec *spec = &scene->layers[f->layer];
    const bool biased = spec->n_biases > 0;
    const ps_quantity quantity = biased ? PS_QUANTITY_BIAS : PS_QUANTITY_WEIGHT;
    const int n = ps_figure_heads(scene);
    const ps_plot_grid grid = ps_plot_grid_make(n, SHEET_WIDTH - BOX_ROOM, MAP_LEFT, MAP_GAP_X,
                                                MAP_GAP_Y, MAP_PANEL, MAP_PANEL);
    name_figure(f, "map", layer->layer, -1);
    f->width = (int)(grid.left + grid.columns * grid.step_x) - MAP_GAP_X + BOX_ROOM;
    if (f->width < SHEET_WIDTH / 2) f->width = SHEET_WIDTH / 2;
    f->height = (int)(grid.top + grid.rows * grid.step_y);
    char title[TITLE_BYTES];
    ps_plot plot;
    snprintf(title, sizeof title, "Layer %d: %s", layer->layer,
             biased ? "the bias that attention adds to each score"
                    : "attention weights (this layer has no bias)");
    ps_plot_begin(&plot, f->name, f->width, f->height, title,
                  "a row: one query, reading what came before it; a column: one key. "
                  "Grey: not visible. Beyond the scale: its end colours");
    const ps_map_area area = ps_map_area_of(layer);
    ps_map maps[PS_FIGURE_HEADS];
    for (int h = 0; h < n; h++) {
        ps_map_make(&scene->record, layer, h, quantity, &area,
                    divide_up(area.end_query - area.first_query, MAP_CELLS_MAX),
                    divide_up(area.end_key - area.first_key, MAP_CELLS_MAX), &maps[h]);
    }
    const double extent = scale_of(maps, n, BEYOND_SCALE);
    for (int h = 0; h < n; h++) {
        char head[32];
        const ps_plot_box box = ps_plot_grid_box(&grid, h);
        snprintf(head, sizeof head, "head %d", scene->record.heads[h]);
        ps_plot_panel(&plot, &box, head);
        if (biased) ps_plot_diverging(&plot, extent);
        if (!biased) ps_plot_rising(&plot, extent);
        if (h == 0) {
            const double all = (grid.rows - 1) * grid.step_y + grid.panel_y;
            const ps_plot_box bar = {f->width - BOX_ROOM + 24.0, grid.top, 14,
                                     all < 300 ? all : 300};
            ps_plot_colour_box(&plot, &bar, biased ? "bias" : "weight");
        }
        ps_plot_axes(&plot, h / grid.columns + 1 == grid.rows ? "key position" : "",
                     h % grid.columns == 0 ? "query position" : "");
        ps_plot_map(&plot, &maps[h]);
        ps_map_release(&maps[h]);
    }
    return ps_plot_write(&plot, directory);
}

/* Tokens in place of numbers. */
static void token_tics(ps_plot *plot, const ps_scene *scene, char axis, int64_t first, int64_t end)
{
    ps_plot_addf(plot, "set %ctics %s scale 0 font \",8\" (", axis,
                 axis == 'x' ? "rotate by 90 right" : "norotate");
    for (int64_t p = first; p < end; p++) {
        ps_text label = {0};
        ps_scene_label(scene, p, ZOOM_LABEL, &label);
        ps_plot_addf(plot, p > first ? ", " : "");
        ps_plot_quote(plot, ps_text_str(&label));
        ps_plot_addf(plot, " %lld", (long long)p);
        ps_text_release(&label);
    }
    ps_plot_addf(plot, ")\n");
}

static ps_map_area zoom_area(const ps_record_layer *layer)
{
    ps_map_area area = ps_map_area_of(layer);
    if (area.end_query - area.first_query > ZOOM_STEPS)
        area.first_query = area.end_query - ZOOM_STEPS;
    if (area.end_key - area.first_key > ZOOM_STEPS) area.first_key = area.end_key - ZOOM_STEPS;
    return area;
}

ps_err ps_figure_head(const ps_scene *scene, const char *directory, ps_figure *f)
{
    static const ps_quantity shown[4] = {PS_QUANTITY_KEY_PART, PS_QUANTITY_POSITION_PART,
                                         PS_QUANTITY_BIAS, PS_QUANTITY_WEIGHT};
    static const char *const titles[4] = {"key part", "+ position part", "= bias",
                                          "attention weights that come of it"};
    const ps_record_layer *layer = &scene->record.layers[f->layer];
    const ps_map_area area = zoom_area(layer);
    name_figure(f, "head", layer->layer, scene->record.heads[f->head]);
    f->width = 1110;
    f->height = 1060;
    ps_plot plot;
    char title[TITLE_BYTES];
    snprintf(title, sizeof title, "Layer %d, head %d: what the bias is made of", layer->layer,
             scene->record.heads[f->head]);
    ps_plot_begin(&plot, f->name, f->width, f->height, title,
                  "the last steps, token by token: queries down, keys across");
    ps_map maps[4];
    for (int i = 0; i < 4; i++) {
        ps_map_make(&scene->record, layer, f->head, shown[i], &area, 1, 1, &maps[i]);
    }
    for (int i = 0; i < 4; i++) {
        const int column = i % 2, line = i / 2;
        const ps_plot_box box = {76 + column * 520, 84 + line * 500, ZOOM_PANEL, ZOOM_PANEL};
        const ps_plot_box bar = {box.left + ZOOM_PANEL + 8, box.top, 10, ZOOM_PANEL};
        ps_plot_panel(&plot, &box, titles[i]);
        if (i < 3) ps_plot_diverging(&plot, scale_of(maps, 3, 0.0));
        if (i == 3) ps_plot_rising(&plot, scale_of(maps + 3, 1, 0.0));
        if (i % 2 == 1) ps_plot_colour_box(&plot, &bar, i < 3 ? "added to the score" : "weight");
        token_tics(&plot, scene, 'x', area.first_key, area.end_key);
        token_tics(&plot, scene, 'y', area.first_query, area.end_query);
        ps_plot_map(&plot, &maps[i]);
        ps_map_release(&maps[i]);
    }
    return ps_plot_write(&plot, directory);
}
