#include "support/stage_runner.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

static ps_part part_of(const stage_runner *r, int part)
{
    const int n = r->params.n_parts;
    return (ps_part){.first_layer = part > 0 ? r->params.cuts[part - 1] : 0,
                     .end_layer = part + 1 < n ? r->params.cuts[part] : r->ckpt.spec.n_layers,
                     .ends = part == 0};
}

static ps_err open_parts(stage_runner *r)
{
    const stage_runner_params *p = &r->params;
    const ps_engine_params engine = {.isa = p->isa,
                                     .n_threads = p->n_threads,
                                     .wait = PS_WAIT_SHARED,
                                     .gemm = p->gemm,
                                     .activations = p->activations};
    PS_TRY(ps_engine_open(&engine, &r->engine));
    PS_TRY(ps_ckpt_open(p->path, &r->ckpt));
    for (int i = 0; i < p->n_parts; i++) {
        const ps_stage_model_params params = {.ckpt = &r->ckpt,
                                              .part = part_of(r, i),
                                              .limits = p->limits,
                                              .verify = p->verify,
                                              .engine = &r->engine,
                                              .own = p->own};
        PS_TRY(ps_stage_model_open(&params, &r->parts[i]));
    }
    r->x = ps_mem_new((size_t)p->limits.rows_max * ps_stage_stride(&r->ckpt.spec), sizeof *r->x);
    return PS_OK;
}

ps_err stage_runner_open(const stage_runner_params *params, stage_runner *out)
{
    *out = (stage_runner){.params = *params};
    stage_runner_params *p = &out->params;
    if (p->n_parts == 0) p->n_parts = 1;
    if (p->n_threads == 0) p->n_threads = 1;
    if (p->limits.context == 0) p->limits.context = 512;
    if (p->limits.chunk_rows == 0) p->limits.chunk_rows = 512;
    if (p->limits.rows_max == 0) p->limits.rows_max = p->limits.chunk_rows;
    if (p->limits.n_slots == 0) p->limits.n_slots = 1;
    const ps_err err = open_parts(out);
    if (err) stage_runner_close(out);
    return err;
}

void stage_runner_close(stage_runner *r)
{
    ps_mem_free(r->x);
    for (int i = 0; i < STAGE_RUNNER_PARTS_MAX; i++) {
        ps_stage_model_close(r->parts[i]);
    }
    ps_ckpt_close(&r->ckpt);
    if (r->engine.pool) ps_engine_close(&r->engine);
    *r = (stage_runner){0};
}

void stage_runner_rows(stage_runner *r, const ps_rows *rows, const int32_t *tokens, float *logits)
{
    const size_t stride = ps_stage_stride(&r->ckpt.spec);
    const size_t n_out = (size_t)ps_spec_head_size(&r->ckpt.spec);
    ps_stage_embed(r->parts[0], tokens, rows->position, rows->n, r->x);
    for (int i = 0; i < r->params.n_parts; i++) {
        const ps_err err = ps_stage_blocks(r->parts[i], rows, r->x);
        assert(!err && "keys and values fit their cache");
        (void)err;
    }
    for (int row = 0; row < rows->n; row += PS_HEAD_ROWS) {
        const int n = rows->n - row < PS_HEAD_ROWS ? rows->n - row : PS_HEAD_ROWS;
        const float *found = ps_stage_head(r->parts[0], r->x + (size_t)row * stride, n, NULL);
        for (int i = 0; i < n; i++) {
            memcpy(logits + (size_t)(row + i) * n_out,
                   found + (size_t)i * ps_stage_logits_stride(&r->ckpt.spec),
                   n_out * sizeof *logits);
        }
    }
}

void stage_runner_run(stage_runner *r, int slot, int64_t first, const int32_t *tokens, int n,
                      int chunk, float *logits)
{
    int *slots = ps_mem_new((size_t)chunk, sizeof *slots);
    int64_t *positions = ps_mem_new((size_t)chunk, sizeof *positions);
    for (int done = 0; done < n; done += chunk) {
        const int rows = n - done < chunk ? n - done : chunk;
        for (int i = 0; i < rows; i++) {
            slots[i] = slot;
            positions[i] = first + done + i;
        }
        stage_runner_rows(r, &(ps_rows){.n = rows, .slot = slots, .position = positions},
                          tokens + done,
                          logits + (size_t)done * (size_t)ps_spec_head_size(&r->ckpt.spec));
    }
    ps_mem_free(positions);
    ps_mem_free(slots);
}

void stage_runner_begin(stage_runner *r, int slot, int64_t length)
{
    for (int i = 0; i < r->params.n_parts; i++) {
        ps_stage_start(r->parts[i], slot, length);
    }
}

void stage_runner_fork(stage_runner *r, int from, int to)
{
    for (int i = 0; i < r->params.n_parts; i++) {
        ps_stage_fork(r->parts[i], from, to);
    }
}

void stage_runner_end(stage_runner *r, int slot)
{
    for (int i = 0; i < r->params.n_parts; i++) {
        ps_stage_end(r->parts[i], slot);
    }
}
