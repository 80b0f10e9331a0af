/* Where a row of a role lies in the tensor of its source. Only whole rows move, so quantised rows
 * keep their values. */
#include <string.h>

#include "tool/import/families.h"

typedef enum part { PART_OTHER, PART_Q, PART_K, PART_V, PART_GATE, PART_UP } part;

static part part_of(ps_role role)
{
    switch (role) {
    case PS_ROLE_Q:
    case PS_ROLE_Q_BIAS:
    case PS_ROLE_Q_NORM:
        return PART_Q;
    case PS_ROLE_K:
    case PS_ROLE_K_BIAS:
    case PS_ROLE_K_NORM:
        return PART_K;
    case PS_ROLE_V:
    case PS_ROLE_V_BIAS:
        return PART_V;
    case PS_ROLE_GATE:
    case PS_ROLE_GATE_BIAS:
    case PS_ROLE_EXPERT_GATE:
    case PS_ROLE_EXPERT_GATE_BIAS:
        return PART_GATE;
    case PS_ROLE_UP:
    case PS_ROLE_UP_BIAS:
    case PS_ROLE_EXPERT_UP:
    case PS_ROLE_EXPERT_UP_BIAS:
        return PART_UP;
    default:
        return PART_OTHER;
    }
}

/* Rotated pairs of neighbours (2t, 2t+1) become pairs (t, t + half). */
static int64_t spread_pairs(const ps_import *import, int layer, int n)
{
    const ps_spec *s = &import->spec;
    const int rope = s->layers[layer].rope;
    if (rope < 0) return n;
    const int dims = s->ropes[rope].dims, half = dims / 2, t = n % s->head_dim;
    if (t >= dims) return n;
    return n - t + (t < half ? 2 * t : 2 * (t - half) + 1);
}

static int64_t row_in_qkv(const ps_import *import, ps_rows_from rows, part p, int64_t n)
{
    const ps_spec *s = &import->spec;
    const int64_t h = s->n_heads, g = s->n_kv_heads, k = s->head_dim, group = h / g;
    const int64_t head = n / k, t = n % k;
    switch (rows) {
    case PS_ROWS_QKV:
        return n + (p == PART_Q ? 0 : p == PART_K ? h * k : (h + g) * k);
    case PS_ROWS_QKV_HEADS:
        return (head * 3 + (p == PART_Q ? 0 : p == PART_K ? 1 : 2)) * k + t;
    case PS_ROWS_QKV_GROUPS:
        if (p == PART_Q) return (head / group * (group + 2) + head % group) * k + t;
        return (head * (group + 2) + group + (p == PART_V)) * k + t;
    default:
        return n;
    }
}

int64_t ps_import_row(const ps_import *import, const ps_tensor_need *need, int n)
{
    const part p = part_of(need->role);
    const ps_rows_from rows = import->from[need->role].rows;
    int64_t row = n;
    switch (p) {
    case PART_Q:
    case PART_K:
        if (import->interleaved) row = spread_pairs(import, need->layer, n);
        return row_in_qkv(import, rows, p, row);
    case PART_V:
        return row_in_qkv(import, rows, p, row);
    case PART_GATE:
        return rows == PS_ROWS_GATE_UP_PAIRS ? 2 * row : row;
    case PART_UP:
        if (rows == PS_ROWS_GATE_UP_PAIRS) return 2 * row + 1;
        return rows == PS_ROWS_GATE_UP ? need->n + row : row;
    default:
        return need->role == PS_ROLE_POSITIONS ? row + import->skip_positions : row;
    }
}

int64_t ps_import_rows(const ps_import *import, const ps_tensor_need *need)
{
    const ps_spec *s = &import->spec;
    switch (import->from[need->role].rows) {
    case PS_ROWS_QKV:
    case PS_ROWS_QKV_HEADS:
    case PS_ROWS_QKV_GROUPS:
        return ((int64_t)s->n_heads + 2 * (int64_t)s->n_kv_heads) * s->head_dim;
    case PS_ROWS_GATE_UP:
    case PS_ROWS_GATE_UP_PAIRS:
        return 2 * (int64_t)need->n;
    default:
        return need->n + (need->role == PS_ROLE_POSITIONS ? import->skip_positions : 0);
    }
}

void ps_family_tensor_name(const ps_tensor_from *from, int layer, int item, ps_text *out)
{
    for (const char *at = from->name; *at; at++) {
        if (*at != '%') {
            ps_text_append_char(out, *at);
            continue;
        }
        at++;
        ps_text_appendf(out, "%d", *at == 'd' ? layer : item);
    }
}
