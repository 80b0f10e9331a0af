#include "tool/pictures/map.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

ps_map_area ps_map_area_of(const ps_record_layer *layer)
{
    assert(layer->n_steps > 0);
    ps_map_area area = {.first_query = layer->steps[0].query,
                        .end_query = layer->steps[layer->n_steps - 1].query + 1,
                        .first_key = INT64_MAX};
    for (size_t s = 0; s < layer->n_steps; s++) {
        const int64_t *keys = layer->keys + layer->steps[s].first;
        const int64_t newest = keys[layer->steps[s].n - 1];
        if (keys[0] < area.first_key) area.first_key = keys[0];
        if (newest >= area.end_key) area.end_key = newest + 1;
    }
    return area;
}

static void add_step(const ps_record *record, const ps_record_layer *layer, size_t s, int head,
                     ps_quantity quantity, ps_map *m, int *count)
{
    const ps_record_step *step = &layer->steps[s];
    if (step->query < m->area.first_query || step->query >= m->area.end_query) return;
    const float *values = ps_record_values(record, layer, s, head, quantity);
    const size_t row = (size_t)((step->query - m->area.first_query) / m->per_row);
    for (int64_t j = 0; j < step->n; j++) {
        const int64_t key = layer->keys[step->first + (size_t)j];
        if (key < m->area.first_key || key >= m->area.end_key || !isfinite(values[j])) continue;
        const size_t column = (size_t)((key - m->area.first_key) / m->per_column);
        m->value[row * (size_t)m->columns + column] += (double)values[j];
        count[row * (size_t)m->columns + column]++;
    }
}

void ps_map_make(const ps_record *record, const ps_record_layer *layer, int head,
                 ps_quantity quantity, const ps_map_area *area, int64_t per_row, int64_t per_column,
                 ps_map *out)
{
    const int64_t queries = area->end_query - area->first_query;
    const int64_t keys = area->end_key - area->first_key;
    *out = (ps_map){.area = *area,
                    .per_row = per_row,
                    .per_column = per_column,
                    .rows = (int)((queries + per_row - 1) / per_row),
                    .columns = (int)((keys + per_column - 1) / per_column),
                    .low = HUGE_VAL,
                    .high = -HUGE_VAL};
    const size_t cells = (size_t)out->rows * (size_t)out->columns;
    out->value = ps_mem_new(cells, sizeof *out->value);
    int *count = ps_mem_new(cells, sizeof *count);
    for (size_t s = 0; s < layer->n_steps; s++) {
        add_step(record, layer, s, head, quantity, out, count);
    }
    for (size_t i = 0; i < cells; i++) {
        out->value[i] = count[i] > 0 ? out->value[i] / count[i] : (double)NAN;
        if (out->value[i] < out->low) out->low = out->value[i];
        if (out->value[i] > out->high) out->high = out->value[i];
    }
    ps_mem_free(count);
}

void ps_map_release(ps_map *map)
{
    ps_mem_free(map->value);
    *map = (ps_map){0};
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The finite values of n maps, sorted, or their magnitudes; owned by the caller. */
static double *sort_values(const ps_map *maps, int n, bool magnitudes, size_t *count)
{
    size_t cells = 0;
    for (int i = 0; i < n; i++) {
        cells += (size_t)maps[i].rows * (size_t)maps[i].columns;
    }
    double *sorted = ps_mem_new(cells, sizeof *sorted);
    *count = 0;
    for (int i = 0; i < n; i++) {
        for (size_t c = 0; c < (size_t)maps[i].rows * (size_t)maps[i].columns; c++) {
            const double value = maps[i].value[c];
            if (!isnan(value)) sorted[(*count)++] = magnitudes ? fabs(value) : value;
        }
    }
    qsort(sorted, *count, sizeof *sorted, compare);
    return sorted;
}

double ps_map_extent(const ps_map *maps, int n, double share)
{
    size_t count;
    double *sorted = sort_values(maps, n, true, &count);
    const double extent = count > 0 ? sorted[(size_t)((double)(count - 1) * (1.0 - share))] : 0.0;
    ps_mem_free(sorted);
    return extent;
}

void ps_map_quantiles(const ps_map *map, int n, double *out)
{
    size_t count;
    double *sorted = sort_values(map, 1, false, &count);
    for (int i = 0; i < n; i++) {
        out[i] = count > 0 ? sorted[(count - 1) * (size_t)(i + 1) / (size_t)(n + 1)] : 0.0;
    }
    ps_mem_free(sorted);
}
