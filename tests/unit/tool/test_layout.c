/* Where rows of a role lie in the tensor of their source: against tensors put together the other
 * way round, from the pictures in families.h; and that no row is taken twice. */
#include "family_reading.h"
#include "support/dice.h"

/* An import with sizes of its own, whose roles all come from tensors of one kind of rows. */
static ps_import make_import(dice *d, ps_rows_from rows)
{
    ps_import import = {.spec = ps_spec_plain()};
    ps_spec *s = &import.spec;
    s->n_kv_heads = rows == PS_ROWS_QKV_HEADS ? 1 + dice_throw(d, 6) : 1 + dice_throw(d, 3);
    s->n_heads = s->n_kv_heads * (rows == PS_ROWS_QKV_HEADS ? 1 : 1 + dice_throw(d, 4));
    s->head_dim = 2 * (1 + dice_throw(d, 8));
    s->d_model = 1 + dice_throw(d, 40);
    s->d_ff = 1 + dice_throw(d, 40);
    s->n_experts = s->n_experts_used = 1 + dice_throw(d, 3);
    s->d_ff_expert = 1 + dice_throw(d, 40);
    s->vocab_size = 1 + dice_throw(d, 40);
    s->qkv_bias = s->o_bias = s->mlp_bias = s->norm_bias = s->sinks = true;
    s->router_bias = s->expert_bias = s->head_bias = s->embed_norm = s->post_norm = true;
    s->qk_norm = PS_QK_NORM_HEADS;
    s->n_positions = 1 + dice_throw(d, 20);
    s->n_ropes = 1;
    s->ropes[0] = (ps_rope){.kind = PS_ROPE_DEFAULT,
                            .dims = 2 * (1 + dice_throw(d, s->head_dim / 2)),
                            .base = 100.0,
                            .magnitude = 1.0};
    ps_spec_take_layers(s, 3);
    s->layers[1].rope = -1;
    s->layers[2].mixture = true;
    s->layers[2].n_biases = 1;
    s->layers[2].biases[0] = (ps_bias_spec){.kind = PS_BIAS_REL_POS, .dim = 5, .theta = 100.0};
    for (int role = 0; role < PS_ROLE_COUNT; role++) {
        import.from[role] = (ps_tensor_from){.name = "x", .rows = rows};
    }
    return import;
}

/* ---- the map takes every row once, and none that is not there ---- */

static void mark_rows(const ps_import *import, const ps_tensor_need *need, int *taken, int64_t rows)
{
    ck_assert_int_eq(ps_import_rows(import, need), rows);
    for (int n = 0; n < need->n; n++) {
        const int64_t row = ps_import_row(import, need, n);
        ck_assert_msg(row >= 0 && row < rows, "role %d: row %d from %lld of %lld", need->role, n,
                      (long long)row, (long long)rows);
        taken[row]++;
    }
}

/* Roles that share a tensor leave no row of it over, and take none twice. */
static void check_shared(const ps_import *import, int layer, const ps_role *roles, int n)
{
    ps_tensor_need need;
    ck_assert(ps_tensor_needed(&import->spec, roles[0], layer, &need));
    const int64_t rows = ps_import_rows(import, &need);
    int *taken = ps_mem_new((size_t)rows, sizeof *taken);
    for (int i = 0; i < n; i++) {
        ck_assert(ps_tensor_needed(&import->spec, roles[i], layer, &need));
        mark_rows(import, &need, taken, rows);
    }
    for (int64_t row = 0; row < rows; row++) {
        ck_assert_msg(taken[row] == 1, "row %lld is taken %d times", (long long)row, taken[row]);
    }
    ps_mem_free(taken);
}

static const ps_role qkv[] = {PS_ROLE_Q, PS_ROLE_K, PS_ROLE_V};
static const ps_role qkv_bias[] = {PS_ROLE_Q_BIAS, PS_ROLE_K_BIAS, PS_ROLE_V_BIAS};
static const ps_role gate_up[] = {PS_ROLE_GATE, PS_ROLE_UP};
static const ps_role gate_up_bias[] = {PS_ROLE_GATE_BIAS, PS_ROLE_UP_BIAS};
static const ps_role experts[] = {PS_ROLE_EXPERT_GATE, PS_ROLE_EXPERT_UP};
static const ps_role experts_bias[] = {PS_ROLE_EXPERT_GATE_BIAS, PS_ROLE_EXPERT_UP_BIAS};

START_TEST(parts_of_a_fused_tensor_take_each_of_its_rows_once)
{
    dice d = {.seed = (uint64_t)_i};
    for (int rows = PS_ROWS_QKV; rows <= PS_ROWS_GATE_UP_PAIRS; rows++) {
        ps_import import = make_import(&d, (ps_rows_from)rows);
        import.interleaved = _i % 2;
        for (int layer = 0; layer < 2 && rows < PS_ROWS_GATE_UP; layer++) {
            check_shared(&import, layer, qkv, 3);
            check_shared(&import, layer, qkv_bias, 3);
        }
        if (rows >= PS_ROWS_GATE_UP) {
            check_shared(&import, 0, gate_up, 2);
            check_shared(&import, 0, gate_up_bias, 2);
            check_shared(&import, 2, experts, 2);
            check_shared(&import, 2, experts_bias, 2);
        }
        ps_spec_release(&import.spec);
    }
}
END_TEST

START_TEST(plain_tensors_are_permuted_at_most)
{
    dice d = {.seed = (uint64_t)_i};
    ps_import import = make_import(&d, PS_ROWS_PLAIN);
    import.interleaved = _i % 2;
    int cursor = 0, moved = 0;
    ps_tensor_need need;
    while (ps_tensor_next(&import.spec, &cursor, &need)) {
        check_shared(&import, need.layer, &need.role, 1);
        for (int n = 0; n < need.n; n++) {
            moved += ps_import_row(&import, &need, n) != n;
        }
    }
    if (_i % 2 == 0) ck_assert_int_eq(moved, 0);
    ps_spec_release(&import.spec);
}
END_TEST

/* ---- each layout against its picture ---- */

enum { Q = 0, K = 1000000, V = 2000000 };

/* The fused tensor as rows that say what they are: part, head * K + dimension. */
static int fuse(const ps_spec *s, ps_rows_from rows, int *out)
{
    const int k = s->head_dim, group = s->n_heads / s->n_kv_heads;
    int n = 0;
    if (rows == PS_ROWS_QKV) {
        for (int i = 0; i < s->n_heads * k; i++)
            out[n++] = Q + i;
        for (int i = 0; i < s->n_kv_heads * k; i++)
            out[n++] = K + i;
        for (int i = 0; i < s->n_kv_heads * k; i++)
            out[n++] = V + i;
        return n;
    }
    // With as many key heads as heads a group has one query head: both pictures are one.
    for (int g = 0; g < s->n_kv_heads; g++) {
        for (int h = g * group; h < (g + 1) * group; h++) {
            for (int t = 0; t < k; t++)
                out[n++] = Q + h * k + t;
        }
        for (int t = 0; t < k; t++)
            out[n++] = K + g * k + t;
        for (int t = 0; t < k; t++)
            out[n++] = V + g * k + t;
    }
    return n;
}

START_TEST(fused_attention_rows_are_where_the_pictures_say)
{
    dice d = {.seed = 100 + (uint64_t)_i};
    const ps_rows_from rows = (ps_rows_from)(PS_ROWS_QKV + _i % 3);
    ps_import import = make_import(&d, rows);
    int fused[2000];
    const int n_fused = fuse(&import.spec, rows, fused);
    static const int parts[3] = {Q, K, V};
    for (int p = 0; p < 6; p++) {
        ps_tensor_need need;
        const ps_role role = p < 3 ? qkv[p] : qkv_bias[p - 3];
        ck_assert(ps_tensor_needed(&import.spec, role, 0, &need));
        ck_assert_int_eq(ps_import_rows(&import, &need), n_fused);
        for (int n = 0; n < need.n; n++) {
            ck_assert_int_eq(fused[ps_import_row(&import, &need, n)], parts[p % 3] + n);
        }
    }
    ps_spec_release(&import.spec);
}
END_TEST

START_TEST(gate_and_up_lie_one_behind_the_other_or_alternate)
{
    dice d = {.seed = 200 + (uint64_t)_i};
    ps_import behind = make_import(&d, PS_ROWS_GATE_UP);
    ps_import pairs = make_import(&d, PS_ROWS_GATE_UP_PAIRS);
    for (int layer = 0; layer <= 2; layer += 2) {
        const ps_role *roles = layer == 0 ? gate_up : experts;
        for (int up = 0; up < 2; up++) {
            ps_tensor_need need;
            ck_assert(ps_tensor_needed(&behind.spec, roles[up], layer, &need));
            for (int n = 0; n < need.n; n++) {
                ck_assert_int_eq(ps_import_row(&behind, &need, n), up * need.n + n);
            }
            ck_assert(ps_tensor_needed(&pairs.spec, roles[up], layer, &need));
            for (int n = 0; n < need.n; n++) {
                ck_assert_int_eq(ps_import_row(&pairs, &need, n), 2 * n + up);
            }
        }
    }
    ps_spec_release(&behind.spec);
    ps_spec_release(&pairs.spec);
}
END_TEST

/* A rotation of neighbours on the source's rows is the rotation of halves on ours: pair t of the
 * rotated part is (2t, 2t+1) there and (t, t + dims/2) here; the rest of the head stays. */
START_TEST(interleaved_pairs_become_halves)
{
    dice d = {.seed = 300 + (uint64_t)_i};
    ps_import import = make_import(&d, PS_ROWS_PLAIN);
    import.interleaved = true;
    const int k = import.spec.head_dim, dims = import.spec.ropes[0].dims;
    static const ps_role roles[] = {PS_ROLE_Q,      PS_ROLE_K,      PS_ROLE_Q_BIAS,
                                    PS_ROLE_K_BIAS, PS_ROLE_Q_NORM, PS_ROLE_K_NORM};
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
        ps_tensor_need need;
        ck_assert(ps_tensor_needed(&import.spec, roles[i], 0, &need));
        for (int head = 0; head < need.n / k; head++) {
            for (int t = 0; t < dims / 2; t++) {
                const int first = head * k + t, second = first + dims / 2;
                ck_assert_int_eq(ps_import_row(&import, &need, first), head * k + 2 * t);
                ck_assert_int_eq(ps_import_row(&import, &need, second), head * k + 2 * t + 1);
            }
            for (int t = dims; t < k; t++) {
                ck_assert_int_eq(ps_import_row(&import, &need, head * k + t), head * k + t);
            }
        }
        need.layer = 1; // without a rope
        for (int n = 0; n < need.n; n++) {
            ck_assert_int_eq(ps_import_row(&import, &need, n), n);
        }
    }
    ps_tensor_need value;
    ck_assert(ps_tensor_needed(&import.spec, PS_ROLE_V, 0, &value));
    for (int n = 0; n < value.n; n++) {
        ck_assert_int_eq(ps_import_row(&import, &value, n), n);
    }
    ps_spec_release(&import.spec);
}
END_TEST

START_TEST(positions_begin_behind_those_that_are_never_used)
{
    dice d = {.seed = 7};
    ps_import import = make_import(&d, PS_ROWS_PLAIN);
    ps_tensor_need positions, embedding;
    ck_assert(ps_tensor_needed(&import.spec, PS_ROLE_POSITIONS, -1, &positions));
    ck_assert(ps_tensor_needed(&import.spec, PS_ROLE_EMBED, -1, &embedding));
    import.skip_positions = 2;
    ck_assert_int_eq(ps_import_rows(&import, &positions), import.spec.n_positions + 2);
    ck_assert_int_eq(ps_import_row(&import, &positions, 0), 2);
    ck_assert_int_eq(ps_import_rows(&import, &embedding), import.spec.vocab_size);
    ck_assert_int_eq(ps_import_row(&import, &embedding, 0), 0);
    ps_spec_release(&import.spec);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/layout");
    TCase *tcase = scratch_case(suite, "layout");
    tcase_add_loop_test(tcase, parts_of_a_fused_tensor_take_each_of_its_rows_once, 0, 40);
    tcase_add_loop_test(tcase, plain_tensors_are_permuted_at_most, 0, 40);
    tcase_add_loop_test(tcase, fused_attention_rows_are_where_the_pictures_say, 0, 60);
    tcase_add_loop_test(tcase, gate_and_up_lie_one_behind_the_other_or_alternate, 0, 10);
    tcase_add_loop_test(tcase, interleaved_pairs_become_halves, 0, 40);
    tcase_add_test(tcase, positions_begin_behind_those_that_are_never_used);
    return scratch_run(suite);
}
