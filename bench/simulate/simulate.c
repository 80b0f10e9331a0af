/* The scheduler, the pipeline and the ring as they are, over stages that take given times: under
 * SimGrid's SMPI, or under a real MPI where they really sleep.
 *
 *   simulate [KEY=VALUE ...]
 *
 *   stage_us row_us    of a stage, for a parcel and for each of its rows; head_us head_row_us of rank 0
 *   stages             times of the stages instead, "900,1000,1100", from the first again when it ends
 *   spread seed        stages differ by up to this share, by a draw for each
 *   requests prompt tokens    sequences, and of each the tokens before and behind
 *   mixed              1: lengths are drawn from 1 to twice that, less one
 *   slots chunk        at a time; rows of prompts in a parcel
 *   in_flight          parcels under way; 0: as many as ranks; -1: what the times and hop_us ask for
 *   width              floats of a row
 *   hop_us             of a parcel, for in_flight=-1 and the formula
 *   eager              bytes from which on a parcel holds its sender's buffer until it has arrived
 *   watched            1: deadlines and signs of life as in a real run (not in a simulator)
 *
 * Prints one CSV line (simulate --columns: their names). formula_s is what the pipeline should take:
 *   prompts alone (tokens=1)   R + (m - 1) max(max_s T_s, R / in_flight, B)    m parcels, all full
 *   decoding                   R + (tokens - 1) max(R, g max_s T_s) + (g - 1) max_s T_s
 *                              R = sum_s T_s + p hop; g parcels under way; prompts in one parcel
 *                              B = (max_s T_s + 2 hop) / 3 for large parcels: each of a rank's 3 buffers
 *                              is filled, worked on and sent in turn; 0 for small ones
 * 0 where there is no such formula (mixed lengths). of_bound is the busiest stage's share of the
 * time: no order of parcels can bring it above 1.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "math/kernels.h"
#include "math/rng.h"
#include "serve/sched.h"
#include "stage_times.h"

typedef struct settings {
    double stage_us, row_us, head_us, head_row_us, spread, seed;
    double requests, prompt, tokens, mixed, slots, chunk, in_flight, width, hop_us, eager, watched;
    const char *stages;
} settings;

#define AT(field) offsetof(settings, field)
static const struct {
    const char *name;
    size_t offset;
    double preset;
} keys[] = {
    {"stage_us", AT(stage_us), 1000}, {"row_us", AT(row_us), 0},
    {"head_us", AT(head_us), 0},      {"head_row_us", AT(head_row_us), 0},
    {"spread", AT(spread), 0},        {"seed", AT(seed), 1},
    {"requests", AT(requests), 8},    {"prompt", AT(prompt), 1},
    {"tokens", AT(tokens), 16},       {"mixed", AT(mixed), 0},
    {"slots", AT(slots), 0},          {"chunk", AT(chunk), 128},
    {"in_flight", AT(in_flight), 0},  {"width", AT(width), 2048},
    {"hop_us", AT(hop_us), 0},        {"eager", AT(eager), 65536},
    {"watched", AT(watched), 0},
};

/* One sequence: it ends when as many tokens have come as it asks for. */
typedef struct sequence {
    ps_task task;
    int prompt, wanted, drawn;
} sequence;

typedef struct simulation {
    settings s;
    int rank, size;
    double *stage_us; // [size]
    sequence *sequences;
    int64_t tokens, prompt_tokens;
    ps_plan plan;
    timed_model model;
} simulation;

static void must(ps_err err)
{
    if (!err) return;
    fprintf(stderr, "simulate: %s\n", ps_err_message());
    exit(1);
}

static void usage(const char *word)
{
    fprintf(stderr, "simulate: \"%s\" is not understood\n", word);
    exit(2);
}

static void parse(int argc, char **argv, settings *s)
{
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
        *(double *)(void *)((char *)s + keys[k].offset) = keys[k].preset;
    }
    for (int i = 1; i < argc; i++) {
        const char *equals = strchr(argv[i], '=');
        if (!equals) usage(argv[i]);
        const size_t n = (size_t)(equals - argv[i]);
        if (n == 6 && strncmp(argv[i], "stages", n) == 0) {
            s->stages = equals + 1;
            continue;
        }
        size_t k = 0;
        while (k < sizeof keys / sizeof keys[0] &&
               (strlen(keys[k].name) != n || strncmp(keys[k].name, argv[i], n) != 0)) {
            k++;
        }
        char *end;
        const double value = strtod(equals + 1, &end);
        if (k == sizeof keys / sizeof keys[0] || end == equals + 1 || *end != '\0') usage(argv[i]);
        *(double *)(void *)((char *)s + keys[k].offset) = value;
    }
    if (s->slots < 1) s->slots = s->requests;
}

/* Uniform in [0, 1) for number `index` of what `purpose` draws. */
static double draw(const settings *s, uint32_t index, uint32_t purpose)
{
    const ps_rng_block counter = {{index, 0, purpose, 2}};
    return ps_rng_uniform(ps_rng_philox((uint64_t)s->seed, counter));
}

static void find_stage_times(simulation *sim)
{
    const settings *s = &sim->s;
    sim->stage_us = ps_mem_new((size_t)sim->size, sizeof *sim->stage_us);
    const char *at = s->stages;
    for (int r = 0; r < sim->size; r++) {
        double us = s->stage_us * (1.0 + s->spread * (2.0 * draw(s, (uint32_t)r, 1) - 1.0));
        if (s->stages) {
            char *end;
            us = strtod(at, &end);
            if (end == at || (*end != ',' && *end != '\0')) usage(s->stages);
            at = *end == ',' ? end + 1 : s->stages;
        }
        sim->stage_us[r] = us;
    }
}

/* Rows of a parcel in the steady state, and its time on a stage. */
static double parcel_us(const simulation *sim, int rank, double rows, double logits)
{
    const settings *s = &sim->s;
    const double head = rank == 0 && logits > 0 ? s->head_us + logits * s->head_row_us : 0.0;
    return sim->stage_us[rank] + rows * s->row_us + head;
}

static void sum_times(const simulation *sim, double rows, double logits, double *sum, double *most)
{
    *sum = *most = 0.0;
    for (int r = 0; r < sim->size; r++) {
        const double us = parcel_us(sim, r, rows, logits);
        *sum += us;
        *most = fmax(*most, us);
    }
}

static void make_plan(simulation *sim)
{
    const settings *s = &sim->s;
    ps_plan *plan = &sim->plan;
    const int slots = (int)s->slots, chunk = (int)s->chunk, credits = 3 * sim->size - 1;
    *plan = (ps_plan){
        .n_stages = sim->size,
        .depth = 3,
        .limits = {
            .rows_max = chunk + slots, .chunk_rows = chunk, .n_slots = slots, .context = 1 << 20}};
    plan->stages = ps_mem_new((size_t)sim->size, sizeof *plan->stages);
    for (int r = 0; r < sim->size; r++) {
        plan->stages[r].part = (ps_part){.first_layer = r, .end_layer = r + 1, .ends = r == 0};
    }
    plan->in_flight = s->in_flight > 0 ? (int)s->in_flight : sim->size;
    if (s->in_flight < 0) {
        double sum, most;
        sum_times(sim, 1, 1, &sum, &most);
        plan->in_flight = (int)ceil((sum + sim->size * s->hop_us) / most - 0.1);
    }
    if (plan->in_flight > credits) plan->in_flight = credits;
    const ps_parcel_limits parcel = {.rows_max = plan->limits.rows_max,
                                     .n_slots = slots,
                                     .stride = (uint32_t)ps_stage_stride(&sim->model.ckpt.spec),
                                     .report_bytes = (size_t)sim->size * sizeof(ps_stage_report)};
    plan->parcel_bytes = ps_parcel_bytes_max(&parcel);
}

static ps_err on_row(void *arg, ps_sched *sched, ps_task *task, int64_t position,
                     const float *logits)
{
    (void)position;
    (void)logits;
    simulation *sim = arg;
    sequence *q = task->user;
    sim->tokens++;
    if (++q->drawn == q->wanted) {
        ps_sched_finish(sched, task);
    } else {
        ps_task_append(task, 0);
    }
    return PS_OK;
}

static int length_of(const settings *s, double mean, uint32_t index, uint32_t purpose)
{
    if (!(s->mixed > 0)) return (int)mean;
    return 1 + (int)(draw(s, index, purpose) * (2.0 * mean - 1.0));
}

/* Rank 0. Returns the seconds from the first parcel to the last row. */
static double work(simulation *sim, ps_pipeline *pipeline)
{
    const settings *s = &sim->s;
    const ps_sched_params params = {.pipeline = pipeline,
                                    .spec = &sim->model.ckpt.spec,
                                    .limits = sim->plan.limits,
                                    .in_flight = sim->plan.in_flight,
                                    .on_row = on_row,
                                    .arg = sim};
    ps_sched *sched = ps_sched_new(&params);
    sim->sequences = ps_mem_new((size_t)s->requests, sizeof *sim->sequences);
    for (int i = 0; i < (int)s->requests; i++) {
        sequence *q = &sim->sequences[i];
        q->prompt = length_of(s, s->prompt, (uint32_t)i, 2);
        q->wanted = length_of(s, s->tokens, (uint32_t)i, 3);
        q->task = (ps_task){.n_slots = 1, .user = q};
        for (int t = 0; t < q->prompt; t++) {
            ps_tokens_append(&q->task.tokens, 0);
        }
        sim->prompt_tokens += q->prompt;
        ps_sched_add(sched, &q->task);
    }
    const int64_t begin = ps_clock_now_ns();
    while (ps_sched_busy(sched)) {
        must(ps_sched_step(sched));
    }
    const double seconds = ps_clock_seconds_between(begin, ps_clock_now_ns());
    ps_sched_free(sched);
    return seconds;
}

/* How often a rank has a buffer for the next parcel. */
static double held_us(const simulation *sim, double rows, double most)
{
    const double bytes = 128 + rows * (16 + sim->s.width * 4);
    if (sim->size == 1 || bytes <= sim->s.eager) return 0.0;
    return (most + 2.0 * sim->s.hop_us) / sim->plan.depth;
}

/* What it should take; 0: no formula. Parcels of `parcels` in all. */
static double formula_s(const simulation *sim)
{
    const settings *s = &sim->s;
    const double p = sim->size, hops = sim->size > 1 ? p * s->hop_us : 0.0;
    double sum, most;
    if (s->mixed > 0) return 0.0;
    if (s->tokens <= 1) {
        const double m = ceil(s->requests * s->prompt / s->chunk);
        sum_times(sim, s->chunk, 0, &sum, &most);
        const double step = fmax(most, (sum + hops) / sim->plan.in_flight);
        return 1e-6 * (sum + hops + (m - 1.0) * fmax(step, held_us(sim, s->chunk, most)));
    }
    const double running = fmin(s->requests, s->slots);
    const double rows = ceil(running / sim->plan.in_flight), parcels = ceil(running / rows);
    sum_times(sim, rows, rows, &sum, &most);
    const double rounds = s->tokens - 1.0, waves = ceil(s->requests / s->slots);
    return 1e-6 * waves *
           (sum + hops + rounds * fmax(sum + hops, parcels * most) + (parcels - 1.0) * most);
}

static void print(const simulation *sim, double seconds, const ps_stage_report *reports)
{
    const settings *s = &sim->s;
    double busy = 0.0, busiest = 0.0, sum, most;
    for (int r = 0; r < sim->size; r++) {
        busy += (double)reports[r].busy_ns * 1e-9;
        busiest = fmax(busiest, (double)reports[r].busy_ns * 1e-9);
    }
    sum_times(sim, 1, 1, &sum, &most);
    const double formula = formula_s(sim);
    printf("%d,%g,%g,%g,%d,%d,%g,%g,%g,%d,%d,%lld,%lld,%llu,%.3f,%.6f,%.2f,%.6f,%.4f,%.4f,%.4f,"
           "%.1f,%llu\n",
           sim->size, s->stages ? 0.0 : s->stage_us, s->spread, s->hop_us, (int)s->requests,
           (int)s->slots, s->prompt, s->tokens, s->mixed, (int)s->chunk, sim->plan.in_flight,
           (long long)sim->prompt_tokens, (long long)sim->tokens,
           (unsigned long long)reports[0].parcels, most, seconds, (double)sim->tokens / seconds,
           formula, formula > 0.0 ? seconds / formula : 0.0, 1.0 - busy / (sim->size * seconds),
           busiest / seconds, sum,
           (unsigned long long)(reports[sim->size > 1 ? 1 % sim->size : 0].sent_bytes /
                                (reports[0].parcels ? reports[0].parcels : 1)));
    fflush(stdout);
}

static void print_columns(void)
{
    puts("ranks,stage_us,spread,hop_us,requests,slots,prompt,tokens,mixed,chunk,in_flight,"
         "prompt_tokens,new_tokens,parcels,slowest_us,seconds,tokens_s,formula_s,of_formula,bubble,"
         "of_bound,round_us,hop_bytes");
}

static void run(simulation *sim, ps_comm *comm, ps_watch *watch)
{
    const ps_kernels kernels = {.name = "none"};
    ps_pool *pool = sim->s.watched > 0 ? stage_times_pool() : NULL;
    const ps_engine engine = {.kernels = &kernels, .pool = pool};
    const ps_stage_params params = {.comm = comm,
                                    .watch = watch,
                                    .ckpt = &sim->model.ckpt,
                                    .plan = &sim->plan,
                                    .engine = &engine,
                                    .wait = PS_WAIT_SHARED};
    ps_pipeline *pipeline;
    must(ps_pipeline_open(&params, &pipeline));
    if (sim->rank == 0) {
        const double seconds = work(sim, pipeline);
        ps_stage_report *reports = ps_mem_new((size_t)sim->size, sizeof *reports);
        must(ps_pipeline_stop(pipeline, reports));
        print(sim, seconds, reports);
        ps_mem_free(reports);
    } else {
        must(ps_pipeline_serve(pipeline));
    }
    must(ps_comm_agree(comm, PS_OK));
    ps_pipeline_close(pipeline);
    stage_times_pool_free(pool);
}

int main(int argc, char **argv)
{
    simulation sim = {0};
    if (argc == 2 && strcmp(argv[1], "--columns") == 0) {
        print_columns();
        return 0;
    }
    parse(argc, argv, &sim.s);
    ps_comm *comm;
    const bool watched = sim.s.watched > 0;
    must(watched ? ps_comm_open(60.0, &comm) : ps_comm_open_blocking(&comm));
    ps_watch *watch = ps_watch_open(comm, watched ? 60.0 : 0.0);
    sim.rank = ps_comm_rank(comm);
    sim.size = ps_comm_size(comm);
    find_stage_times(&sim);
    sim.model.ckpt.spec.d_model = (int)sim.s.width;
    sim.model.ckpt.spec.vocab_size = 16;
    sim.model.times = (stage_times){.stage_us = sim.stage_us[sim.rank],
                                    .row_us = sim.s.row_us,
                                    .head_us = sim.s.head_us,
                                    .head_row_us = sim.s.head_row_us};
    make_plan(&sim);
    run(&sim, comm, watch);
    ps_mem_free(sim.plan.stages);
    ps_mem_free(sim.stage_us);
    for (int i = 0; sim.sequences && i < (int)sim.s.requests; i++) {
        ps_tokens_release(&sim.sequences[i].task.tokens);
    }
    ps_mem_free(sim.sequences);
    ps_watch_close(watch);
    ps_comm_close(comm);
    return 0;
}
