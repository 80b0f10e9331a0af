/* A score bias of one's own in a loaded model: a small policy network that reads the layer's input
 * and decides, for each head, how much each key counts.
 *
 *   own_bias MODEL.h5 [LAYER [GAIN [CHUNK [THREADS]]]]
 *
 * Runs the token ids on standard input through the model with the network in LAYER (0) and prints
 * what it adds to the scores of the last token, a line of "head key bias" for each pair, then the
 * most likely next token. GAIN 0 (1) is the model without it. The numbers do not depend on CHUNK
 * (64), the tokens that go through at a time, nor on THREADS (1).
 *
 * The network, of the layer's normed input x, with weights that nobody has trained yet:
 *
 *   a_i = tanh(A x_i)   b_j = tanh(B x_j)   f_i = sigmoid(<c, x_i>)      U units each, and one gate
 *   bias(h, i, j) = GAIN (<w_h, a_i * b_j> - (s_i - s_j) / (h + 1)),    s_i = f_0 + ... + f_i
 *
 * So a key counts by what it and the query are about, and by how much time has passed between them
 * on a clock that the text itself sets. It takes all that a provider can have (math/bias.h):
 *
 *   projection   A, B and c as one matrix: multiplied together with q, k and v
 *   prepare      a_i for the query, b_j and f_j for the key, which the cache keeps
 *   accumulate   s, from the key before: the cache is all the state there is
 *   fill         the sum for each pair of a tile
 *
 * Nothing of size T x T exists, and windows, rings, forks and chunks need no thought. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/engine.h"
#include "math/panel.h"
#include "math/real.h"
#include "math/rng.h"
#include "model/stage_model.h"

enum { UNITS = 4, OUTPUTS = 2 * UNITS + 1, TOKENS_MAX = 4096 };

typedef struct policy {
    ps_linear projection; // [OUTPUTS, D]: rows A, rows B, row c
    void *panels;         // its weights as the kernels read them
    float *head_weights;  // [n_heads, UNITS]
    float gain;
    int64_t last_position; // of the text: its biases are kept for printing
    int64_t first_key;     // that it sees
    float *last;           // [n_heads, last_position + 1]
} policy;

/* ---- the provider ---- */

static float sigmoid(float x)
{
    return (float)(1.0 / (1.0 + ps_real_exp(-(double)x)));
}

static float squash(float x)
{
    return 2.0f * sigmoid(2.0f * x) - 1.0f; // tanh
}

/* numbers: b_j [UNITS], s_j; features: a_i [UNITS], s_i. */
static void policy_prepare(const ps_bias *bias, const ps_bias_row *row)
{
    (void)bias;
    for (int u = 0; u < UNITS; u++) {
        row->features[u] = squash(row->projected[u]);
        row->numbers[u] = squash(row->projected[UNITS + u]);
    }
    row->numbers[UNITS] = sigmoid(row->projected[2 * UNITS]);
}

/* A stream of millions of tokens would keep s in two numbers, as math/fox.c does. */
static void policy_accumulate(const ps_bias *bias, const ps_bias_step *step)
{
    (void)bias;
    if (step->before) step->numbers[UNITS] += step->before[UNITS];
    step->features[UNITS] = step->numbers[UNITS];
}

/* What a key adds to a query's score in one head; the numbers of neighbouring keys are neighbours. */
static float policy_value(const policy *p, int head, const float *features, const float *numbers)
{
    float sum = (numbers[UNITS * PS_SEGMENT] - features[UNITS]) / (float)(head + 1);
    for (int u = 0; u < UNITS; u++) {
        sum += p->head_weights[head * UNITS + u] * features[u] * numbers[u * PS_SEGMENT];
    }
    return p->gain * sum;
}

/* Called by several threads at once, each with rows of its own. */
static void policy_fill(const ps_bias *bias, const struct ps_kernels *kernels,
                        const ps_bias_tile *tile)
{
    (void)kernels;
    const policy *p = bias->user;
    for (int r = 0; r < tile->n_heads * tile->n_queries; r++) {
        const int head = tile->first_head + r / tile->n_queries, query = r % tile->n_queries;
        const float *features = tile->features + (size_t)query * tile->feature_stride;
        const bool keep = tile->first_position + query == p->last_position;
        float *row = tile->bias + (size_t)r * PS_SEGMENT;
        for (int j = tile->first; j < tile->last; j++) {
            const float *numbers = tile->numbers + j;
            const float value = policy_value(p, head, features, numbers);
            row[j] += value;
            // A tile holds what any of its queries sees; others' keys are never looked at.
            if (keep && tile->start + j >= p->first_key && tile->start + j <= p->last_position)
                p->last[head * (p->last_position + 1) + tile->start + j] = value;
        }
    }
}

static ps_bias policy_bias(policy *p)
{
    return (ps_bias){.kind = PS_BIAS_CUSTOM,
                     .n_features = UNITS + 1,
                     .n_numbers = UNITS + 1,
                     .projection = &p->projection,
                     .prepare = policy_prepare,
                     .accumulate = policy_accumulate,
                     .fill = policy_fill,
                     .user = p};
}

/* ---- its weights ---- */

/* Uniform in -1 .. 1, the same on every machine. */
static float draw(uint32_t index)
{
    return (float)(2.0 * ps_rng_uniform(ps_rng_philox(7, (ps_rng_block){{index, 0, 0, 0}})) - 1.0);
}

static policy policy_new(const ps_spec *spec, float gain, int n_tokens)
{
    const int d = spec->d_model;
    policy p = {.gain = gain, .last_position = n_tokens - 1};
    float *rows = ps_mem_new((size_t)OUTPUTS * (size_t)d, sizeof *rows);
    for (int i = 0; i < OUTPUTS * d; i++) {
        rows[i] = draw((uint32_t)i) * (float)(1.0 / ps_real_pow((double)d, 0.5));
    }
    p.panels = ps_mem_new(ps_panel_bytes(PS_F32, d), (size_t)ps_panel_count(OUTPUTS));
    ps_panel_pack(PS_F32, rows, OUTPUTS, (size_t)d * sizeof *rows, d, p.panels);
    p.projection = (ps_linear){.dtype = PS_F32, .n = OUTPUTS, .k = d, .panels = p.panels};
    p.head_weights = ps_mem_new((size_t)(spec->n_heads * UNITS), sizeof(float));
    for (int i = 0; i < spec->n_heads * UNITS; i++) {
        p.head_weights[i] = 4.0f * draw((uint32_t)(OUTPUTS * d + i));
    }
    p.last = ps_mem_new((size_t)spec->n_heads * (size_t)n_tokens, sizeof *p.last);
    ps_mem_free(rows);
    return p;
}

static void policy_release(policy *p)
{
    ps_mem_free(p->panels);
    ps_mem_free(p->head_weights);
    ps_mem_free(p->last);
}

/* ---- a model with it ---- */

typedef struct run {
    const char *path;
    int layer, chunk, threads;
    float gain;
    int n_tokens;
    int32_t tokens[TOKENS_MAX];
} run;

/* The logits of the last token; chunk by chunk, all of the model in this process. */
static ps_err forward(const run *r, ps_stage_model *model, size_t stride, float *x,
                      const float **logits)
{
    int slots[TOKENS_MAX] = {0};
    int64_t positions[TOKENS_MAX];
    int n = 0;
    for (int done = 0; done < r->n_tokens; done += n) {
        n = r->n_tokens - done < r->chunk ? r->n_tokens - done : r->chunk;
        for (int i = 0; i < n; i++) {
            positions[i] = done + i;
        }
        const ps_rows rows = {.n = n, .slot = slots, .position = positions};
        ps_stage_embed(model, r->tokens + done, positions, n, x);
        PS_TRY(ps_stage_blocks(model, &rows, x));
    }
    *logits = ps_stage_head(model, x + (size_t)(n - 1) * stride, 1, NULL);
    return PS_OK;
}

static void print(const run *r, const policy *p, const ps_spec *spec, const float *logits)
{
    for (int h = 0; h < spec->n_heads && r->gain != 0.0f; h++) {
        for (int j = 0; j < r->n_tokens; j++) {
            printf("%d %d %.9g\n", h, j, (double)p->last[h * r->n_tokens + j]);
        }
    }
    int best = 0;
    for (int t = 1; t < spec->vocab_size; t++) {
        if (logits[t] > logits[best]) best = t;
    }
    printf("next token %d, logit %.9g\n", best, (double)logits[best]);
}

static ps_err run_model(const run *r, const ps_ckpt *ckpt, const ps_engine *engine)
{
    policy p = policy_new(&ckpt->spec, r->gain, r->n_tokens);
    if (r->layer >= 0 && r->layer < ckpt->spec.n_layers) {
        const ps_visible visible = ps_spec_visible(&ckpt->spec, r->layer);
        p.first_key = ps_visible_first(&visible, p.last_position);
    }
    const ps_own_bias own = {.layer = r->layer, .bias = policy_bias(&p)};
    const ps_stage_model_params params = {.ckpt = ckpt,
                                          .part = {.end_layer = ckpt->spec.n_layers, .ends = true},
                                          .limits = {.rows_max = r->chunk,
                                                     .chunk_rows = r->chunk,
                                                     .n_slots = 1,
                                                     .context = r->n_tokens},
                                          .engine = engine,
                                          .own = {&own, r->gain != 0.0f}};
    ps_stage_model *model = NULL;
    float *x = ps_mem_new((size_t)r->chunk * ps_stage_stride(&ckpt->spec), sizeof *x);
    const float *logits;
    ps_err err = ps_stage_model_open(&params, &model);
    if (!err) err = forward(r, model, ps_stage_stride(&ckpt->spec), x, &logits);
    if (!err) print(r, &p, &ckpt->spec, logits);
    ps_stage_model_close(model);
    ps_mem_free(x);
    policy_release(&p);
    return err;
}

static ps_err read_tokens(const ps_spec *spec, run *r)
{
    int token;
    while (r->n_tokens < TOKENS_MAX && scanf("%d", &token) == 1) {
        if (token < 0 || token >= spec->vocab_size)
            return PS_FAIL(PS_ERR_USAGE, "token %d, wanted 0..%d", token, spec->vocab_size - 1);
        r->tokens[r->n_tokens++] = token;
    }
    if (r->n_tokens > 0) return PS_OK;
    return PS_FAIL(PS_ERR_USAGE, "wanted token ids on standard input");
}

static ps_err open_and_run(run *r)
{
    const ps_engine_params params = {.n_threads = r->threads, .wait = PS_WAIT_SHARED};
    ps_engine engine;
    ps_ckpt ckpt;
    PS_TRY(ps_ckpt_open(r->path, &ckpt));
    ps_err err = read_tokens(&ckpt.spec, r);
    if (!err) err = ps_engine_open(&params, &engine);
    if (!err) {
        err = run_model(r, &ckpt, &engine);
        ps_engine_close(&engine);
    }
    ps_ckpt_close(&ckpt);
    return err;
}

/* Argument `index` as a number, or `fallback`. */
static double number(int argc, char **argv, int index, double fallback)
{
    return argc > index ? strtod(argv[index], NULL) : fallback;
}

int main(int argc, char **argv)
{
    static run r;
    r = (run){.path = argc > 1 ? argv[1] : NULL,
              .layer = (int)number(argc, argv, 2, 0.0),
              .gain = (float)number(argc, argv, 3, 1.0),
              .chunk = (int)number(argc, argv, 4, 64.0),
              .threads = (int)number(argc, argv, 5, 1.0)};
    const bool usable = argc >= 2 && argc <= 6 && r.chunk >= 1 && r.chunk <= TOKENS_MAX &&
                        r.threads >= 1 && r.threads <= 64;
    const ps_err err =
        usable ? open_and_run(&r)
               : PS_FAIL(PS_ERR_USAGE, "wanted MODEL.h5 [LAYER [GAIN [CHUNK [THREADS]]]]");
    if (err) fprintf(stderr, "own_bias: %s\n", ps_err_message());
    return ps_err_exit_status(err);
}
