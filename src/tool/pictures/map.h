/* A head's values as a grid: rows are runs of queries, columns runs of keys, a cell the mean of the
 * values that fall on it.
 *
 * MPI: local.
 */
#ifndef PS_TOOL_PICTURES_MAP_H
#define PS_TOOL_PICTURES_MAP_H

#include "tool/pictures/record.h"

/* Positions [first_query, end_query) x [first_key, end_key). */
typedef struct ps_map_area {
    int64_t first_query, end_query, first_key, end_key;
} ps_map_area;

typedef struct ps_map {
    ps_map_area area;
    int64_t per_row, per_column; // queries, keys
    int rows, columns;
    double *value;    // [rows, columns] owned; NaN where nothing is visible
    double low, high; // of the values that are finite; low > high: there are none
} ps_map;

/* All that was recorded of a layer; it has steps. */
ps_map_area ps_map_area_of(const ps_record_layer *layer);

/* Released with ps_map_release. */
void ps_map_make(const ps_record *record, const ps_record_layer *layer, int head,
                 ps_quantity quantity, const ps_map_area *area, int64_t per_row, int64_t per_column,
                 ps_map *out);
void ps_map_release(ps_map *map);

/* The magnitude that all but the largest `share` of the finite values of n maps stay below; 0 when
 * they have none. */
double ps_map_extent(const ps_map *maps, int n, double share);

/* out[n]: values that part the finite values of a map into n + 1 equal shares. */
void ps_map_quantiles(const ps_map *map, int n, double *out);

#endif
