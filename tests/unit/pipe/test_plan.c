/* Splits: by cost against all splits there are, by hand, and what is refused; memory. */
#include "pipe/plan.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "pipe/parcel.h"
#include "pipe/report.h"
#include "pipe/ring.h"
#include "support/dice.h"
#include "support/scratch.h"
#include "support/tiny_model.h"

static const ps_limits limits = {.rows_max = 20, .chunk_rows = 16, .n_slots = 4, .context = 100};

static void open_model(int layers, int window, ps_ckpt *out)
{
    tiny_model m = tiny_model_default(window > 0 ? TINY_MISTRAL : TINY_LLAMA);
    m.layers = layers;
    m.windows[0] = window;
    assert_ok(tiny_model_convert(&m, "model.h5"));
    assert_ok(ps_ckpt_open("model.h5", out));
}

static ps_plan_params params_of(const ps_ckpt *ckpt, int n_stages)
{
    return (ps_plan_params){.ckpt = ckpt, .n_stages = n_stages, .limits = limits, .n_threads = 1};
}

/* Gives every layer one matrix of a size by the dice, and the head too: plans look at nothing
 * else. Costs are then multiples of 64. */
static void throw_costs(ps_ckpt *ckpt, dice *d)
{
    const int kind = dice_throw(d, 3);
    for (int i = 0; i < ckpt->n_tensors; i++) {
        ps_ckpt_tensor *t = &ckpt->tensors[i];
        t->bytes = 64;
        if (t->need.role == PS_ROLE_UP)
            t->bytes = 64 * (1 + (uint64_t)dice_throw(d, kind == 0 ? 2 : 3000));
        if (t->need.role == PS_ROLE_HEAD)
            t->bytes = 64 * (uint64_t)dice_throw(d, kind == 1 ? 40000 : 3000);
    }
}

static uint64_t dearest(const ps_plan *plan)
{
    uint64_t most = 0;
    for (int s = 0; s < plan->n_stages; s++) {
        if (plan->stages[s].cost_bytes > most) most = plan->stages[s].cost_bytes;
    }
    return most;
}

/* Least cost of the dearest stage over all ways to deal layers from `layer` on to stages from `s`
 * on. */
static uint64_t best_of_all(const uint64_t *costs, int n_layers, uint64_t head, int n_stages,
                            int layer, int s)
{
    uint64_t sum = s == 0 ? head : 0, best = UINT64_MAX;
    for (int end = layer; end <= n_layers; end++) {
        if (end > layer) sum += costs[end - 1];
        if (end == layer && s > 0) continue;
        uint64_t most = sum;
        if (s < n_stages - 1) {
            const uint64_t rest = best_of_all(costs, n_layers, head, n_stages, end, s + 1);
            if (rest > most) most = rest;
        } else if (end < n_layers) {
            continue;
        }
        if (most < best) best = most;
    }
    return best;
}

static void check_shape(const ps_plan *plan, int n_layers)
{
    int layer = 0;
    for (int s = 0; s < plan->n_stages; s++) {
        const ps_part *part = &plan->stages[s].part;
        ck_assert_int_eq(part->first_layer, layer);
        ck_assert_int_ge(part->end_layer, part->first_layer + (s > 0));
        ck_assert_int_eq(part->ends, s == 0);
        layer = part->end_layer;
    }
    ck_assert_int_eq(layer, n_layers);
}

START_TEST(no_split_is_better_than_the_plans)
{
    dice d = {.seed = 3};
    for (int n_layers = 1; n_layers <= 7; n_layers++) {
        ps_ckpt ckpt;
        open_model(n_layers, 10, &ckpt);
        for (int i = 0; i < 150; i++) {
            const int n_stages = 1 + dice_throw(&d, n_layers + 1);
            throw_costs(&ckpt, &d);
            uint64_t costs[8];
            // Ten keys and ten values of two heads of twelve floats are read with each layer.
            for (int l = 0; l < n_layers; l++) {
                costs[l] = ps_weights_layer_bytes(&ckpt, l) + UINT64_C(10) * 2 * 2 * 12 * 4;
            }
            ps_plan plan;
            const ps_plan_params params = params_of(&ckpt, n_stages);
            assert_ok(ps_plan_make(&params, &plan));
            check_shape(&plan, n_layers);
            ck_assert_uint_eq(
                dearest(&plan),
                best_of_all(costs, n_layers, ps_weights_head_bytes(&ckpt), n_stages, 0, 0));
            ps_plan_release(&plan);
        }
        ps_ckpt_close(&ckpt);
    }
}
END_TEST

/* Times of n_stages nodes for n_layers layers, by the dice: nodes of very different speeds, and here
 * and there a layer that one of them can hardly do. */
static void throw_times(dice *d, int n_stages, int n_layers, ps_plan_times *out)
{
    *out = (ps_plan_times){.n_stages = n_stages, .n_layers = n_layers, .rows = 2};
    out->layer_ns = ps_mem_new((size_t)(n_stages * n_layers), sizeof *out->layer_ns);
    out->byte_ns = ps_mem_new((size_t)n_stages, sizeof *out->byte_ns);
    const int kind = dice_throw(d, 3);
    for (int s = 0; s < n_stages; s++) {
        const int slow = kind == 0 ? 1 : 1 + dice_throw(d, 5);
        out->byte_ns[s] = slow;
        for (int l = 0; l < n_layers; l++) {
            const int odd = kind == 2 && dice_throw(d, 6) == 0 ? 50 : 1;
            out->layer_ns[s * n_layers + l] = slow * odd * (1000 + dice_throw(d, 3000));
        }
    }
    out->head_ns = dice_throw(d, 20000);
    out->hop_ns = dice_throw(d, 500);
}

/* Least time of the slowest stage over all ways to deal layers. A sequence reads 960 bytes of cache
 * in a layer. */
static double best_of_all_times(const ps_plan_times *t, int layer, int s)
{
    double sum = s == 0 ? t->head_ns : 0.0, best = INFINITY;
    for (int end = layer; end <= t->n_layers; end++) {
        if (end > layer)
            sum += t->layer_ns[s * t->n_layers + end - 1] + t->byte_ns[s] * t->rows * 10 * 96 * 2;
        if (end == layer && s > 0) continue;
        double most = sum;
        if (s < t->n_stages - 1) {
            most = fmax(most, best_of_all_times(t, end, s + 1));
        } else if (end < t->n_layers) {
            continue;
        }
        best = fmin(best, most);
    }
    return best;
}

static double slowest(const ps_plan *plan)
{
    double most = 0.0;
    for (int s = 0; s < plan->n_stages; s++) {
        most = fmax(most, plan->stages[s].time_ns);
    }
    return most;
}

START_TEST(no_split_of_unequal_nodes_is_faster_than_the_plans)
{
    dice d = {.seed = 5};
    for (int n_layers = 1; n_layers <= 7; n_layers++) {
        ps_ckpt ckpt;
        open_model(n_layers, 10, &ckpt);
        for (int i = 0; i < 150; i++) {
            const int n_stages = 1 + dice_throw(&d, n_layers + 1);
            ps_plan_times times;
            throw_times(&d, n_stages, n_layers, &times);
            ps_plan plan;
            ps_plan_params params = params_of(&ckpt, n_stages);
            params.times = &times;
            assert_ok(ps_plan_make(&params, &plan));
            check_shape(&plan, n_layers);
            ck_assert_double_eq(slowest(&plan), best_of_all_times(&times, 0, 0));
            ps_plan_release(&plan);
            ps_plan_times_release(&times);
        }
        ps_ckpt_close(&ckpt);
    }
}
END_TEST

static void expect_split(const ps_plan_params *params, const char *wanted)
{
    ps_plan plan;
    ps_text found = {0};
    assert_ok(ps_plan_make(params, &plan));
    for (int s = 0; s < plan.n_stages; s++) {
        ps_text_appendf(&found, s ? ",%d" : "%d",
                        plan.stages[s].part.end_layer - plan.stages[s].part.first_layer);
    }
    ck_assert_str_eq(ps_text_str(&found), wanted);
    ps_text_release(&found);
    ps_plan_release(&plan);
}

static void set_head(ps_ckpt *ckpt, uint64_t bytes)
{
    for (int i = 0; i < ckpt->n_tensors; i++) {
        if (ckpt->tensors[i].need.role == PS_ROLE_HEAD) ckpt->tensors[i].bytes = bytes;
    }
}

START_TEST(the_head_is_rank_0s_and_costs_it_layers)
{
    ps_ckpt ckpt;
    open_model(6, 10, &ckpt);
    const uint64_t layer = ps_weights_layer_bytes(&ckpt, 0) + 10 * 2 * 2 * 12 * 4;
    const ps_plan_params two = params_of(&ckpt, 2), three = params_of(&ckpt, 3),
                         seven = params_of(&ckpt, 7);
    set_head(&ckpt, 0);
    expect_split(&two, "3,3");
    expect_split(&three, "2,2,2");
    set_head(&ckpt, layer * 2);
    expect_split(&two, "2,4");
    set_head(&ckpt, layer * 5);
    expect_split(&two, "1,5"); // among equals the earlier has more
    set_head(&ckpt, layer * 6);
    expect_split(&two, "0,6");
    expect_split(&three, "0,3,3");
    expect_split(&seven, "0,1,1,1,1,1,1");
    ps_ckpt_close(&ckpt);
}
END_TEST

/* A head of which few ids are needed leaves stage 0 room for layers. */
START_TEST(the_head_counts_by_the_ids_that_are_needed)
{
    ps_ckpt ckpt;
    open_model(6, 10, &ckpt);
    const uint64_t layer = ps_weights_layer_bytes(&ckpt, 0) + 10 * 2 * 2 * 12 * 4;
    const int all = ckpt.spec.vocab_size;
    set_head(&ckpt, layer * 6 / (uint64_t)all * (uint64_t)all);
    ps_plan_params two = params_of(&ckpt, 2);
    expect_split(&two, "0,6");
    two.limits.head_ids = all;
    expect_split(&two, "0,6");
    two.limits.head_ids = all / 3;
    expect_split(&two, "2,4");
    two.limits.head_ids = 1;
    expect_split(&two, "3,3");
    ps_ckpt_close(&ckpt);
}
END_TEST

START_TEST(one_stage_owns_all)
{
    ps_ckpt ckpt;
    open_model(3, 0, &ckpt);
    const ps_plan_params params = params_of(&ckpt, 1);
    expect_split(&params, "3");
    ps_ckpt_close(&ckpt);
}
END_TEST

/* A layer's cache is read as far as it is seen: half of what may grow, all of a window. */
START_TEST(caches_count_as_far_as_they_are_read)
{
    ps_ckpt ckpt;
    ps_plan plan;
    const uint64_t key_and_value = 2 * 2 * 12 * sizeof(float);
    for (int window = 0; window <= 30; window += 30) {
        open_model(1, window, &ckpt);
        const ps_plan_params params = params_of(&ckpt, 1);
        assert_ok(ps_plan_make(&params, &plan));
        ck_assert_uint_eq(plan.stages[0].cost_bytes, ps_weights_layer_bytes(&ckpt, 0) +
                                                         ps_weights_head_bytes(&ckpt) +
                                                         key_and_value * (window ? 30 : 50));
        ps_plan_release(&plan);
        ps_ckpt_close(&ckpt);
    }
}
END_TEST

static void expect_refusal(const ps_plan_params *params, ps_err code, const char *message)
{
    ps_plan plan;
    ck_assert_int_eq(ps_plan_make(params, &plan), code);
    assert_message(message);
    ck_assert_ptr_null(plan.stages);
    ck_assert_int_eq(plan.n_stages, 0);
}

START_TEST(a_split_by_hand_is_taken_as_it_is)
{
    ps_ckpt ckpt;
    open_model(5, 0, &ckpt);
    static const char *const splits[] = {"5", "0,5", "1,4", "4,1", "0,1,4", "0,1,1,1,1,1"};
    static const int n_stages[] = {1, 2, 2, 2, 3, 6};
    for (int i = 0; i < 6; i++) {
        ps_plan_params params = params_of(&ckpt, n_stages[i]);
        params.split = splits[i];
        expect_split(&params, splits[i]);
    }
    ps_ckpt_close(&ckpt);
}
END_TEST

START_TEST(a_split_that_does_not_fit_says_why)
{
    static const struct {
        const char *split, *message;
    } cases[] = {
        {"", "--split : names 0 stages for 3 ranks"},
        {"2,3", "--split 2,3: names 2 stages for 3 ranks"},
        {"1,1,1,2", "--split 1,1,1,2: names more stages than the 3 ranks"},
        {"2,2,2", "--split 2,2,2: adds up to 6 layers, the model has 5"},
        {"2,1,1", "--split 2,1,1: adds up to 4 layers, the model has 5"},
        {"3,0,2", "--split 3,0,2: only stage 0 may own no layer"},
        {"2,-1,4", "--split 2,-1,4: \"-1,4\" is not a number of layers"},
        {"2,x,3", "--split 2,x,3: \"x,3\" is not a number of layers"},
        {"2,2x,1", "--split 2,2x,1: \"2x,1\" is not a number of layers"},
        {"2,,3", "--split 2,,3: \",3\" is not a number of layers"},
        {"2,2,1,", "--split 2,2,1,: \"1,\" is not a number of layers"},
        {"6,1,1", "--split 6,1,1: \"6,1,1\" is not a number of layers"},
        {"99999999999999999999,1,1",
         "--split 99999999999999999999,1,1: \"99999999999999999999,1,1\" is not a number of "
         "layers"},
    };
    ps_ckpt ckpt;
    open_model(5, 0, &ckpt);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ps_plan_params params = params_of(&ckpt, 3);
        params.split = cases[i].split;
        expect_refusal(&params, PS_ERR_USAGE, cases[i].message);
    }
    ps_ckpt_close(&ckpt);
}
END_TEST

START_TEST(ranks_that_no_stage_can_use_are_refused_with_advice)
{
    ps_ckpt ckpt;
    open_model(3, 0, &ckpt);
    ps_plan_params params = params_of(&ckpt, 4);
    expect_split(&params, "0,1,1,1");
    params.n_stages = 5;
    expect_refusal(&params, PS_ERR_USAGE,
                   "5 ranks, but a model of 3 layers makes at most 4 stages: start 4 ranks");
    params.split = "1,1,1,0,0";
    expect_refusal(&params, PS_ERR_USAGE,
                   "5 ranks, but a model of 3 layers makes at most 4 stages: start 4 ranks");
    ps_ckpt_close(&ckpt);
}
END_TEST

START_TEST(parcels_in_flight_are_bounded_by_the_credits)
{
    ps_ckpt ckpt;
    ps_plan plan;
    open_model(3, 0, &ckpt);
    for (int n_stages = 1; n_stages <= 4; n_stages++) {
        ps_plan_params params = params_of(&ckpt, n_stages);
        assert_ok(ps_plan_make(&params, &plan));
        const int credits = n_stages * plan.depth - 1;
        ck_assert_int_eq(plan.in_flight, n_stages);
        ps_plan_release(&plan);
        params.in_flight = credits;
        assert_ok(ps_plan_make(&params, &plan));
        ck_assert_int_eq(plan.in_flight, credits);
        ps_plan_release(&plan);
        char wanted[120];
        params.in_flight = credits + 1;
        snprintf(wanted, sizeof wanted,
                 "--in-flight %d: a ring of %d rank%s has buffers for at most %d parcels",
                 credits + 1, n_stages, n_stages == 1 ? "" : "s", credits);
        expect_refusal(&params, PS_ERR_USAGE, wanted);
    }
    ps_ckpt_close(&ckpt);
}
END_TEST

/* One node does nothing but the head; one is half as fast and gets half the layers. */
START_TEST(a_slow_node_gets_fewer_layers)
{
    enum { LAYERS = 6, STAGES = 3 };
    ps_ckpt ckpt;
    open_model(LAYERS, 10, &ckpt);
    double layer_ns[STAGES * LAYERS], byte_ns[STAGES] = {0};
    for (int i = 0; i < STAGES * LAYERS; i++) {
        layer_ns[i] = i / LAYERS == 2 ? 2000 : 1000;
    }
    ps_plan_times times = {.n_stages = STAGES,
                           .n_layers = LAYERS,
                           .rows = 1,
                           .layer_ns = layer_ns,
                           .byte_ns = byte_ns,
                           .head_ns = 4000,
                           .hop_ns = 10};
    ps_plan_params params = params_of(&ckpt, STAGES);
    params.times = &times;
    expect_split(&params, "0,4,2");
    times.head_ns = 0;
    expect_split(&params, "3,2,1");
    params.split = "2,2,2";
    expect_split(&params, "2,2,2");
    ps_ckpt_close(&ckpt);
}
END_TEST

/* 4 ns of rounds and hops over the slowest, each case with the parcels that it takes. */
START_TEST(as_many_parcels_are_under_way_as_the_slowest_stage_needs)
{
    enum { LAYERS = 4, STAGES = 2 };
    static const struct {
        const char *split;
        double head_ns, hop_ns;
        int in_flight;
        double tokens_per_s; // rows x min(in_flight / round, 1 / slowest)
    } cases[] = {
        {"2,2", 0, 0, 2, 3e9 / 2000},        {"2,2", 0, 50, 2, 3e9 * 2 / 4100},
        {"2,2", 0, 1000, 3, 3e9 / 2000},     {"3,1", 0, 0, 2, 3e9 / 3000},
        {"1,3", 9000, 10, 2, 3e9 / 10000},   {"2,2", 0, 1e6, 5, 3e9 * 5 / 2004000},
        {"1,3", 99000, 10, 1, 3e9 / 103020},
    };
    ps_ckpt ckpt;
    ps_plan plan;
    open_model(LAYERS, 10, &ckpt);
    double layer_ns[STAGES * LAYERS], byte_ns[STAGES] = {0};
    for (int i = 0; i < STAGES * LAYERS; i++) {
        layer_ns[i] = 1000;
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const ps_plan_times times = {.n_stages = STAGES,
                                     .n_layers = LAYERS,
                                     .rows = 3,
                                     .layer_ns = layer_ns,
                                     .byte_ns = byte_ns,
                                     .head_ns = cases[i].head_ns,
                                     .hop_ns = cases[i].hop_ns};
        ps_plan_params params = params_of(&ckpt, STAGES);
        params.times = &times;
        params.split = cases[i].split;
        params.limits.n_slots = 15;
        assert_ok(ps_plan_make(&params, &plan));
        ck_assert_int_eq(plan.in_flight, cases[i].in_flight);
        ck_assert_double_eq_tol(ps_plan_tokens_per_s(&plan), cases[i].tokens_per_s, 1e-3);
        ps_plan_release(&plan);
        params.in_flight = 4;
        params.limits.n_slots = 3; // fill one parcel
        assert_ok(ps_plan_make(&params, &plan));
        ck_assert_int_eq(plan.in_flight, 4);
        ck_assert_double_eq_tol(ps_plan_tokens_per_s(&plan), 3e9 / ps_plan_round_ns(&plan), 1e-3);
        ps_plan_release(&plan);
    }
    ps_ckpt_close(&ckpt);
}
END_TEST

START_TEST(buffers_hold_the_largest_parcel_and_the_reports)
{
    ps_ckpt ckpt;
    ps_plan plan;
    open_model(3, 0, &ckpt);
    ps_plan_params params = params_of(&ckpt, 3);
    params.limits.rows_max = 40;
    assert_ok(ps_plan_make(&params, &plan));
    ck_assert_uint_eq(plan.parcel_bytes,
                      64 + (8 + 40) * 16 + 40 * 48 * sizeof(float)); // 36 wide, 48 apart
    ck_assert_uint_eq(plan.hop_bytes, 64 + 64 + 48 * sizeof(float));
    for (int s = 0; s < 3; s++) {
        ck_assert_uint_eq(plan.stages[s].ring_bytes,
                          ps_ring_bytes(s, plan.depth, plan.parcel_bytes));
    }
    ps_plan_release(&plan);
    ps_plan_params small = params;
    small.limits = (ps_limits){.rows_max = 1, .chunk_rows = 1, .n_slots = 1, .context = 1};
    assert_ok(ps_plan_make(&small, &plan));
    ck_assert_uint_eq(plan.parcel_bytes, 64 + sizeof(ps_parcel_state)); // more than the reports
    ps_plan_release(&plan);
    ps_ckpt_close(&ckpt);
}
END_TEST

START_TEST(memory_is_added_up_and_compared_to_the_limit)
{
    ps_ckpt ckpt;
    ps_plan plan;
    char wanted[300];
    open_model(3, 0, &ckpt);
    const ps_plan_params params = params_of(&ckpt, 3);
    assert_ok(ps_plan_make(&params, &plan));
    size_t all = 0;
    for (int s = 0; s < 3; s++) {
        const ps_plan_stage *stage = &plan.stages[s];
        ck_assert_uint_gt(stage->size.cache_bytes, 0);
        ck_assert_uint_eq(ps_plan_taken_bytes(stage),
                          stage->size.weights_bytes + stage->size.cache_bytes +
                              stage->size.buffer_bytes + stage->ring_bytes);
        ck_assert_uint_eq(ps_plan_all_bytes(stage),
                          ps_plan_taken_bytes(stage) + stage->size.mapped_bytes);
        all += ps_plan_all_bytes(stage);
    }
    assert_ok(ps_plan_check_memory(&plan, 0, 3, all, "test"));
    ck_assert_int_eq(ps_plan_check_memory(&plan, 0, 3, all - 1, "test"), PS_ERR_LIMIT);
    snprintf(
        wanted, sizeof wanted,
        "stages 0..2 need %.1f MiB (weights, caches, buffers), the limit (test) leaves %.1f MiB: "
        "take more ranks, a smaller --ctx or fewer --slots",
        (double)all / 1048576.0, (double)(all - 1) / 1048576.0);
    assert_message(wanted);
    assert_ok(ps_plan_check_memory(&plan, 1, 2, ps_plan_all_bytes(&plan.stages[1]), "test"));
    ck_assert_int_eq(ps_plan_check_memory(&plan, 1, 2, 0, "test"), PS_ERR_LIMIT);
    ck_assert_int_eq(strncmp(ps_err_message(), "stage 1 needs ", 14), 0);
    // Sums that do not fit a size are over every limit.
    plan.stages[0].size.mapped_bytes = SIZE_MAX - ps_plan_taken_bytes(&plan.stages[0]);
    ck_assert_int_eq(ps_plan_check_memory(&plan, 0, 2, SIZE_MAX - 1, "test"), PS_ERR_LIMIT);
    ps_plan_release(&plan);
    ps_ckpt_close(&ckpt);
}
END_TEST

/* Mapped weights are in no process's data; copied ones are, and in every sum. */
START_TEST(copied_weights_are_memory_of_the_stage)
{
    ps_ckpt ckpt;
    ps_plan plan;
    open_model(3, 0, &ckpt);
    const ps_plan_params params = params_of(&ckpt, 2);
    assert_ok(ps_plan_make(&params, &plan));
    ps_plan_stage *stage = &plan.stages[0];
    // The model's own matrices are too small to be mapped.
    for (int i = 0; i < ckpt.n_tensors; i++) {
        ps_ckpt_tensor *t = &ckpt.tensors[i];
        if (t->need.role != PS_ROLE_EMBED) continue;
        t->bytes = 100000;
        t->offset = 4096;
    }
    ps_plan_set_access(&plan, &ckpt, 0, PS_WEIGHTS_MAP, "as asked");
    const size_t mapped = stage->size.mapped_bytes, taken = ps_plan_taken_bytes(stage);
    ck_assert_uint_eq(mapped, 100000);
    ck_assert_uint_eq(stage->size.copied_bytes, 0);
    assert_ok(ps_plan_check_memory(&plan, 0, 1, taken, "RLIMIT_DATA"));
    ck_assert_int_eq(ps_plan_check_memory(&plan, 0, 1, taken, "machine"), PS_ERR_LIMIT);
    ps_plan_set_access(&plan, &ckpt, 0, PS_WEIGHTS_COPY, "as asked");
    ck_assert_uint_eq(stage->size.mapped_bytes, 0);
    ck_assert_uint_eq(stage->size.copied_bytes, 100032); // a multiple of 64
    ck_assert_uint_eq(ps_plan_taken_bytes(stage), taken + 100032);
    ck_assert_uint_eq(ps_plan_all_bytes(stage), taken + 100032);
    assert_ok(ps_plan_check_memory(&plan, 0, 1, taken + 100032, "RLIMIT_DATA"));
    ck_assert_int_eq(ps_plan_check_memory(&plan, 0, 1, taken + 100031, "RLIMIT_DATA"),
                     PS_ERR_LIMIT);
    assert_mentions("(copied weights, caches, buffers), the limit (RLIMIT_DATA) leaves");
    assert_mentions("--weights map");
    ck_assert_int_eq(ps_plan_check_memory(&plan, 0, 1, taken + 100031, "machine"), PS_ERR_LIMIT);
    ps_plan_release(&plan);
    ps_ckpt_close(&ckpt);
}
END_TEST

START_TEST(stages_that_come_by_their_weights_alike_share_a_line)
{
    ps_ckpt ckpt;
    ps_plan plan;
    ps_text text = {0}, json = {0};
    open_model(3, 0, &ckpt);
    const ps_plan_params params = params_of(&ckpt, 4);
    assert_ok(ps_plan_make(&params, &plan));
    ps_plan_describe_access(&plan, &text);
    ck_assert_str_eq(ps_text_str(&text), "weights: mapped\n");
    ps_text_release(&text);
    for (int s = 0; s < 4; s++) {
        ps_plan_set_access(&plan, &ckpt, s, s == 0 ? PS_WEIGHTS_MAP : PS_WEIGHTS_COPY,
                           s == 0 ? "one" : "two");
    }
    ps_plan_describe_access(&plan, &text);
    ck_assert_str_eq(ps_text_str(&text), "weights of stage 0: mapped (one)\n"
                                         "weights of stages 1..3: copied into memory (two)\n");
    ps_plan_to_json(&plan, &json);
    ck_assert_ptr_nonnull(
        strstr(ps_text_str(&json), "\"weights\": \"copy\", \"weights_why\": \"two\"}"));
    ps_text_release(&json);
    ps_text_release(&text);
    ps_plan_release(&plan);
    ps_ckpt_close(&ckpt);
}
END_TEST

START_TEST(caches_that_overflow_are_refused)
{
    ps_ckpt ckpt;
    open_model(3, 0, &ckpt);
    ps_plan_params params = params_of(&ckpt, 2);
    params.limits.context = INT64_C(1) << 61;
    expect_refusal(&params, PS_ERR_LIMIT,
                   "caches for 4 slots of 2305843009213693952 positions overflow");
    ps_ckpt_close(&ckpt);
}
END_TEST

START_TEST(the_description_names_every_stage)
{
    ps_ckpt ckpt;
    ps_plan plan;
    ps_text text = {0}, json = {0};
    open_model(3, 0, &ckpt);
    ps_plan_params params = params_of(&ckpt, 3);
    params.split = "0,2,1";
    assert_ok(ps_plan_make(&params, &plan));
    ps_plan_describe(&plan, &text);
    ck_assert_ptr_nonnull(strstr(ps_text_str(&text), "\n    0       none "));
    ck_assert_ptr_nonnull(strstr(ps_text_str(&text), "\n    1       0..1 "));
    ck_assert_ptr_nonnull(strstr(ps_text_str(&text), "\n    2       2..2 "));
    ck_assert_ptr_nonnull(strstr(ps_text_str(&text), "slots 4, context 100, rows of a parcel 20"));
    ps_plan_to_json(&plan, &json);
    json_t *object;
    assert_ok(ps_json_parse(json.data, json.len, "plan", &object));
    json_t *stages = json_object_get(object, "stages");
    ck_assert_uint_eq(json_array_size(stages), 3);
    for (size_t s = 0; s < 3; s++) {
        json_t *stage = json_array_get(stages, s);
        ck_assert_int_eq(json_integer_value(json_object_get(stage, "end_layer")),
                         plan.stages[s].part.end_layer);
        ck_assert_int_eq(json_integer_value(json_object_get(stage, "read_bytes_per_token")),
                         (json_int_t)plan.stages[s].cost_bytes);
    }
    json_decref(object);
    ps_text_release(&json);
    ps_text_release(&text);
    ps_plan_release(&plan);
    ps_ckpt_close(&ckpt);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pipe/plan");
    TCase *tcase = scratch_case(suite, "plan");
    tcase_add_test(tcase, no_split_is_better_than_the_plans);
    tcase_add_test(tcase, as_many_parcels_are_under_way_as_the_slowest_stage_needs);
    tcase_add_test(tcase, a_slow_node_gets_fewer_layers);
    tcase_add_test(tcase, no_split_of_unequal_nodes_is_faster_than_the_plans);
    tcase_add_test(tcase, the_head_is_rank_0s_and_costs_it_layers);
    tcase_add_test(tcase, the_head_counts_by_the_ids_that_are_needed);
    tcase_add_test(tcase, one_stage_owns_all);
    tcase_add_test(tcase, caches_count_as_far_as_they_are_read);
    tcase_add_test(tcase, a_split_by_hand_is_taken_as_it_is);
    tcase_add_test(tcase, a_split_that_does_not_fit_says_why);
    tcase_add_test(tcase, ranks_that_no_stage_can_use_are_refused_with_advice);
    tcase_add_test(tcase, parcels_in_flight_are_bounded_by_the_credits);
    tcase_add_test(tcase, buffers_hold_the_largest_parcel_and_the_reports);
    tcase_add_test(tcase, memory_is_added_up_and_compared_to_the_limit);
    tcase_add_test(tcase, copied_weights_are_memory_of_the_stage);
    tcase_add_test(tcase, stages_that_come_by_their_weights_alike_share_a_line);
    tcase_add_test(tcase, caches_that_overflow_are_refused);
    tcase_add_test(tcase, the_description_names_every_stage);
    return scratch_run(suite);
}
