#include "tool/pictures/terminal.h"

#include <math.h>

#include "tool/pictures/map.h"

enum { LEVELS = 5, LABEL_CHARACTERS = 6, MARGIN = 15, COLUMNS_MIN = 16 };

static const char *shade(bool utf8, int level)
{
    static const char *const blocks[LEVELS] = {"·", "░", "▒", "▓", "█"};
    static const char *const ascii[LEVELS] = {".", "-", "+", "*", "#"};
    return utf8 ? blocks[level] : ascii[level];
}

/* Borders between the shades: each shade stands for as many cells as the others, so that heads of
 * few large values show their texture too. */
typedef struct borders {
    double at[LEVELS - 1];
} borders;

static int level_of(const borders *b, double value)
{
    int level = 0;
    while (level < LEVELS - 1 && value > b->at[level]) {
        level++;
    }
    return level;
}

/* The position and the token of a row, MARGIN characters wide. */
static void append_margin(const ps_scene *scene, int64_t position, bool utf8, ps_text *out)
{
    ps_text label = {0};
    int width = 0;
    ps_scene_label(scene, position, LABEL_CHARACTERS, &label);
    for (size_t i = 0; i < label.len; i++) {
        if (((unsigned char)label.data[i] & 0xc0) != 0x80) width++;
        if (!utf8 && ((unsigned char)label.data[i] & 0x80) == 0) continue;
        if (!utf8) label.data[i] = (unsigned char)label.data[i] >= 0xc0 ? '_' : '\x7f';
    }
    ps_text_appendf(out, "%6lld ", (long long)position);
    for (size_t i = 0; i < label.len; i++) {
        if (label.data[i] != '\x7f') ps_text_append_char(out, label.data[i]);
    }
    for (int i = width; i < MARGIN - 8; i++) {
        ps_text_append_char(out, ' ');
    }
    ps_text_append_str(out, utf8 ? "│" : "|");
    ps_text_release(&label);
}

static void append_rows(const ps_scene *scene, const ps_map *m, const borders *b, bool utf8,
                        ps_text *out)
{
    for (int row = 0; row < m->rows; row++) {
        const double *values = m->value + (size_t)row * (size_t)m->columns;
        int used = m->columns;
        while (used > 0 && isnan(values[used - 1])) {
            used--;
        }
        if (used == 0) continue;
        append_margin(scene, m->area.first_query + row * m->per_row, utf8, out);
        for (int c = 0; c < used; c++) {
            ps_text_append_str(out, isnan(values[c]) ? " " : shade(utf8, level_of(b, values[c])));
        }
        ps_text_append_char(out, '\n');
    }
}

static void append_legend(const ps_map *m, const borders *b, bool utf8, ps_text *out)
{
    ps_text_appendf(out, "%*s", MARGIN, "");
    for (int i = 0; i < LEVELS; i++) {
        ps_text_appendf(out, "%s %.2f to %.2f%s", shade(utf8, i), i > 0 ? b->at[i - 1] : m->low,
                        i < LEVELS - 1 ? b->at[i] : m->high, i < LEVELS - 1 ? "  " : "\n\n");
    }
}

/* Characters are about twice as high as wide, so a row takes twice as many positions. */
static void draw_head(const ps_scene *scene, int l, int head, bool utf8, int columns, ps_text *out)
{
    const ps_record_layer *layer = &scene->record.layers[l];
    const bool biased = scene->layers[l].n_biases > 0;
    const ps_map_area area = ps_map_area_of(layer);
    const int64_t keys = (area.end_key - area.first_key + columns - 1) / columns;
    const int64_t queries = area.end_query - area.first_query > 2 * keys ? 2 * keys : 1;
    ps_map m;
    ps_map_make(&scene->record, layer, head, biased ? PS_QUANTITY_BIAS : PS_QUANTITY_WEIGHT, &area,
                queries, keys, &m);
    ps_text_appendf(out, "layer %d, head %d: ", layer->layer, scene->record.heads[head]);
    if (biased) {
        ps_text_append_str(out, "bias (");
        ps_scene_biases(&scene->layers[l], out);
        ps_text_append_char(out, ')');
    } else {
        ps_text_append_str(out, "no bias; attention weights");
    }
    ps_text_appendf(out, ", down: queries, %lld a row; across: keys from %lld on, %lld a column\n",
                    (long long)queries, (long long)area.first_key, (long long)keys);
    borders b;
    ps_map_quantiles(&m, LEVELS - 1, b.at);
    append_rows(scene, &m, &b, utf8, out);
    append_legend(&m, &b, utf8, out);
    ps_map_release(&m);
}

void ps_terminal_draw(const ps_scene *scene, bool utf8, int columns, ps_text *out)
{
    const int width = columns - MARGIN - 1 > COLUMNS_MIN ? columns - MARGIN - 1 : COLUMNS_MIN;
    for (int l = 0; l < scene->record.n_layers; l++) {
        for (int h = 0; h < scene->record.n_heads; h++) {
            if (scene->record.layers[l].n_steps > 0) draw_head(scene, l, h, utf8, width, out);
        }
    }
}
