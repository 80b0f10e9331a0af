/* The bias of a scene as compact heat maps of characters: a row for each run of queries, a column
 * for each run of keys, the mean of each cell as one of five shades, each of a fifth of the cells.
 * Layers without a bias show their weights instead, and say so. Appends.
 *
 * MPI: local.
 */
#ifndef PS_TOOL_PICTURES_TERMINAL_H
#define PS_TOOL_PICTURES_TERMINAL_H

#include "tool/pictures/scene.h"

/* utf8: block characters; else ASCII. columns: width of the terminal. */
void ps_terminal_draw(const ps_scene *scene, bool utf8, int columns, ps_text *out);

#endif
