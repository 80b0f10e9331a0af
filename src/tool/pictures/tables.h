/* The numbers of a scene as files.
 *
 * HDF5 (bias.h5), T tokens, and for each recorded layer NNN with H heads, Q steps and C columns
 * (the most keys that a step sees):
 *
 *   /token_id [T] i32   /token_text_end [T] i64   /token_text [bytes] u8   one after the other
 *   /layers/NNN/head [H] i32         heads of the model
 *   /layers/NNN/query [Q] i64        position of each step's query
 *   /layers/NNN/key [Q, C] i64       positions of its keys, oldest first; -1 behind the last
 *   /layers/NNN/{score, key_part, position_part, bias, weight, weight_without_bias} [H, Q, C] f32
 *                                    NaN behind the last key; attribute `about` says what it is
 *   /layers/NNN/sink [H, Q] f32      weight that the head's sink takes
 *
 * CSV (bias.csv): a line for each (layer, head, query, key).
 *
 * Errors: PS_ERR_IO.   MPI: local.
 */
#ifndef PS_TOOL_PICTURES_TABLES_H
#define PS_TOOL_PICTURES_TABLES_H

#include "tool/pictures/scene.h"

ps_err ps_tables_write_h5(const ps_scene *scene, const char *path) PS_MUST_CHECK;
ps_err ps_tables_write_csv(const ps_scene *scene, const char *path) PS_MUST_CHECK;

#endif
