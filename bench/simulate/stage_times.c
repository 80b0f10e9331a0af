#include "stage_times.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/pool.h"
#include "math/dtype.h"
#include "model/stage_model.h"
#include "serve/tokenizer.h"

/* No threads, but whoever sleeps moves messages along meanwhile, as work items do. */
struct ps_pool {
    ps_pool_poke *poke;
    void *poke_arg;
    int poke_interval_us;
};

struct ps_stage_model {
    stage_times times;
    const ps_pool *pool; // NULL in a simulator, where messages move by themselves
    size_t stride;
    float *logits; // [PS_HEAD_ROWS, stride of logits] owned
};

static size_t round16(int n)
{
    return ((size_t)n + 15) / 16 * 16;
}

static void spend(const ps_stage_model *model, double us)
{
    const ps_pool *pool = model->pool;
    int64_t left_us = (int64_t)(us + 0.5);
    const int64_t end_ns = ps_clock_now_ns() + left_us * 1000;
    while (pool && pool->poke && left_us > pool->poke_interval_us) {
        ps_clock_sleep_us(pool->poke_interval_us);
        pool->poke(pool->poke_arg);
        left_us = (end_ns - ps_clock_now_ns()) / 1000;
    }
    ps_clock_sleep_us(left_us);
}

/* ---- model/stage_model ---- */

ps_err ps_stage_model_open(const ps_stage_model_params *params, ps_stage_model **out)
{
    const timed_model *timed = (const timed_model *)(const void *)params->ckpt;
    ps_stage_model *m = ps_mem_new(1, sizeof *m);
    m->times = timed->times;
    m->pool = params->engine->pool;
    m->stride = ps_stage_stride(&params->ckpt->spec);
    m->logits =
        ps_mem_new(PS_HEAD_ROWS * ps_stage_logits_stride(&params->ckpt->spec), sizeof *m->logits);
    *out = m;
    return PS_OK;
}

void ps_stage_model_close(ps_stage_model *model)
{
    if (!model) return;
    ps_mem_free(model->logits);
    ps_mem_free(model);
}

void ps_stage_opened(const ps_stage_model *model, int64_t *map_ns, int64_t *verify_ns)
{
    (void)model;
    *map_ns = *verify_ns = 0;
}

size_t ps_stage_stride(const ps_spec *spec)
{
    return round16(spec->d_model);
}

size_t ps_stage_logits_stride(const ps_spec *spec)
{
    return round16(spec->vocab_size);
}

void ps_stage_embed(ps_stage_model *model, const int32_t *tokens, const int64_t *positions, int n,
                    float *x)
{
    (void)tokens;
    (void)positions;
    memset(x, 0, (size_t)n * model->stride * sizeof *x);
}

ps_err ps_stage_blocks(ps_stage_model *model, const ps_rows *rows, float *x)
{
    (void)x;
    spend(model, model->times.stage_us + rows->n * model->times.row_us);
    return PS_OK;
}

const float *ps_stage_head(ps_stage_model *model, const float *x, int n,
                           const ps_logits_wanted *wanted)
{
    (void)x;
    (void)wanted;
    spend(model, model->times.head_us + n * model->times.head_row_us);
    return model->logits;
}

const float *ps_stage_head_input(const ps_stage_model *model)
{
    return model->logits;
}

size_t ps_stage_head_bytes_read(const ps_stage_model *model)
{
    (void)model;
    return 0;
}

size_t ps_stage_expert_bytes_read(const ps_stage_model *model)
{
    (void)model;
    return 0;
}

size_t ps_stage_cache_bytes_read(const ps_stage_model *model)
{
    (void)model;
    return 0;
}

size_t ps_stage_evicted(const ps_stage_model *model)
{
    (void)model;
    return 0;
}

int ps_stage_window_layers(const ps_stage_model *model)
{
    (void)model;
    return 0;
}

void ps_stage_start(ps_stage_model *model, int slot, int64_t length)
{
    (void)model;
    (void)slot;
    (void)length;
}

void ps_stage_fork(ps_stage_model *model, int from, int to)
{
    (void)model;
    (void)from;
    (void)to;
}

void ps_stage_end(ps_stage_model *model, int slot)
{
    (void)model;
    (void)slot;
}

ps_err ps_stage_save(ps_stage_model *model, int slot, int64_t position, const char *path)
{
    (void)model;
    (void)slot;
    (void)position;
    return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: times have no state to save", path);
}

ps_err ps_stage_load(ps_stage_model *model, int slot, int64_t position, int64_t length,
                     const char *path)
{
    (void)length;
    return ps_stage_save(model, slot, position, path);
}

ps_err ps_stage_check_file(const ps_stage_model *model)
{
    (void)model;
    return PS_OK;
}

void ps_stage_observe(ps_stage_model *model, ps_observer *observer, void *arg)
{
    (void)model;
    (void)observer;
    (void)arg;
}

void ps_stage_observe_attention(ps_stage_model *model, ps_attention_observer *observer, void *arg)
{
    (void)model;
    (void)observer;
    (void)arg;
}

/* ---- model/weights, model/spec ---- */

size_t ps_weights_shared_bytes(const ps_ckpt *ckpt, int layer)
{
    (void)ckpt;
    (void)layer;
    return 0;
}

int ps_spec_head_size(const ps_spec *spec)
{
    return spec->vocab_size;
}

/* ---- below: base/pool, and nothing that could not be finite ---- */

ps_pool *stage_times_pool(void)
{
    return ps_mem_new(1, sizeof(ps_pool));
}

void stage_times_pool_free(ps_pool *pool)
{
    ps_mem_free(pool);
}

int ps_pool_threads(const ps_pool *pool)
{
    (void)pool;
    return 1;
}

void ps_pool_set_poke(ps_pool *pool, ps_pool_poke *poke, void *arg, int interval_us)
{
    if (!pool) return;
    *pool = (struct ps_pool){.poke = poke, .poke_arg = arg, .poke_interval_us = interval_us};
}

size_t ps_dtype_first_not_finite(ps_dtype dtype, const void *values, size_t n)
{
    (void)dtype;
    (void)values;
    return n;
}
