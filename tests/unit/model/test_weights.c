/* The weights of a stage: the source's numbers, in the file's own pages where that pays, and
 * verified before they are believed. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "math/panel.h"
#include "model/weights.h"
#include "support/h5_raw.h"
#include "support/scratch.h"
#include "support/spec_model.h"
#include "support/stage_runner.h"
#include "support/tiny_model.h"

enum { SPAN = 100 };

typedef struct scene {
    ps_engine engine;
    ps_ckpt ckpt;
    ps_weights weights;
} scene;

static const ps_part whole = {0, PS_SPEC_LAYERS_MAX, true};

/* A part that ends behind the last layer ends with it. */
static ps_err open_scene_with(ps_weights_access access, scene *s, const char *path, ps_part part)
{
    const ps_engine_params params = {.n_threads = 2, .wait = PS_WAIT_SHARED};
    *s = (scene){.weights = {.map = {.fd = -1}}};
    assert_ok(ps_engine_open(&params, &s->engine));
    assert_ok(ps_ckpt_open(path, &s->ckpt));
    if (part.end_layer > s->ckpt.spec.n_layers) part.end_layer = s->ckpt.spec.n_layers;
    return ps_weights_open(&s->ckpt, &part, SPAN, access, &s->engine, &s->weights);
}

static ps_err open_scene(scene *s, const char *path, ps_part part)
{
    return open_scene_with(PS_WEIGHTS_MAP, s, path, part);
}

static void close_scene(scene *s)
{
    ps_weights_close(&s->weights);
    ps_ckpt_close(&s->ckpt);
    ps_engine_close(&s->engine);
}

/* ---- values ---- */

static void check_matrix(const tiny_model *m, const char *name, const ps_linear *w, int n, int k)
{
    float *wanted = tiny_model_values(m, name);
    ck_assert_msg(w->n == n && w->k == k && w->dtype == m->dtype, "%s: wrong shape", name);
    const size_t size = ps_dtype_block_bytes(w->dtype);
    for (int row = 0; row < n; row++) {
        for (int c = 0; c < k; c++) {
            const size_t at = (size_t)(row / 16 * k + c) * 16 + (size_t)(row % 16);
            float found;
            ps_dtype_widen(w->dtype, (const char *)w->panels + at * size, 1, &found);
            if (memcmp(&found, &wanted[(size_t)row * (size_t)k + (size_t)c], sizeof found) != 0)
                ck_abort_msg("%s: [%d,%d] is %a", name, row, c, (double)found);
        }
    }
    ps_mem_free(wanted);
}

/* A vector and, as products want it, zeros behind it up to a multiple of 16. NULL where the source
 * has none. */
static void check_vector(const tiny_model *m, const char *name, const float *found, int n)
{
    float *wanted = tiny_model_values(m, name);
    ck_assert_msg((wanted != NULL) == (found != NULL), "%s: is there, or not", name);
    if (!wanted) return;
    for (int i = 0; i < (n + 15) / 16 * 16; i++) {
        const float value = i < n ? wanted[i] : 0.0f;
        if (memcmp(&found[i], &value, sizeof value) != 0)
            ck_abort_msg("%s: [%d] is %a", name, i, (double)found[i]);
    }
    ps_mem_free(wanted);
}

static void check_layer(const tiny_model *m, int layer, const ps_layer_weights *w)
{
    const int d = m->width, q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim;
    const struct {
        const char *name, *bias;
        const ps_linear *linear;
        int n, k;
    } products[] = {
        {"self_attn.q_proj", "self_attn.q_proj.bias", &w->q, q, d},
        {"self_attn.k_proj", "self_attn.k_proj.bias", &w->k, kv, d},
        {"self_attn.v_proj", "self_attn.v_proj.bias", &w->v, kv, d},
        {"self_attn.o_proj", "self_attn.o_proj.bias", &w->o, d, q},
        {"mlp.gate_proj", "mlp.gate_proj.bias", &w->gate, m->ffn, d},
        {"mlp.up_proj", "mlp.up_proj.bias", &w->up, m->ffn, d},
        {"mlp.down_proj", "mlp.down_proj.bias", &w->down, d, m->ffn},
    };
    char name[100];
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++) {
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, products[i].name);
        check_matrix(m, name, products[i].linear, products[i].n, products[i].k);
        snprintf(name, sizeof name, "model.layers.%d.%s", layer, products[i].bias);
        check_vector(m, name, products[i].linear->bias, products[i].n);
    }
    const bool rel_pos = w->n_biases > 0;
    const struct {
        const char *name;
        const float *vector;
        int n;
    } vectors[] = {
        {"input_layernorm.weight", w->attention_norm.weight, d},
        {"post_attention_layernorm.weight", w->mlp_norm.weight, d},
        {"self_attn.q_norm.weight", w->q_norm, m->head_dim},
        {"self_attn.k_norm.weight", w->k_norm, m->head_dim},
        {"self_attn.pos_bias_u", rel_pos ? w->biases[0].u : NULL, q},
        {"self_attn.pos_bias_v", rel_pos ? w->biases[0].v : NULL, q},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        snprintf(name, sizeof name, "model.layers.%d.%s", layer, vectors[i].name);
        check_vector(m, name, vectors[i].vector, vectors[i].n);
    }
    if (!rel_pos) return;
    const int window = tiny_model_window(m, layer);
    ck_assert_int_eq(w->biases[0].kind, PS_BIAS_REL_POS);
    ck_assert_int_eq(w->biases[0].span, window > 0 && window < SPAN ? window : SPAN);
}

static void check_ends(const tiny_model *m, const ps_weights *w)
{
    check_matrix(m, "model.embed_tokens.weight", &w->embed, m->vocabulary, m->width);
    check_matrix(m, m->tied_head ? "model.embed_tokens.weight" : "lm_head.weight", &w->head,
                 m->vocabulary, m->width);
    check_vector(m, "model.norm.weight", w->final_norm.weight, m->width);
    if (m->tied_head) ck_assert_ptr_eq(w->head.panels, w->embed.panels);
}

START_TEST(every_weight_is_the_sources)
{
    const tiny_model m = _i < TINY_FAMILY_COUNT ? tiny_model_default((tiny_family)_i)
                                                : tiny_model_random((uint64_t)_i);
    assert_ok(tiny_model_convert(&m, "m.h5"));
    scene s;
    assert_ok(open_scene(&s, "m.h5", whole));
    check_ends(&m, &s.weights);
    for (int layer = 0; layer < m.layers; layer++) {
        check_layer(&m, layer, &s.weights.layers[layer]);
    }
    close_scene(&s);
}
END_TEST

START_TEST(a_part_has_its_own_layers_only)
{
    const tiny_model m = tiny_model_default((tiny_family)_i);
    assert_ok(tiny_model_convert(&m, "m.h5"));
    scene s;
    assert_ok(open_scene(&s, "m.h5", (ps_part){1, 3, false}));
    check_layer(&m, 1, &s.weights.layers[0]);
    check_layer(&m, 2, &s.weights.layers[1]);
    ck_assert_ptr_null(s.weights.embed.panels);
    ck_assert_ptr_null(s.weights.head.panels);
    ck_assert_ptr_null(s.weights.final_norm.weight);
    close_scene(&s);
    assert_ok(open_scene(&s, "m.h5", (ps_part){2, 2, true}));
    check_ends(&m, &s.weights);
    close_scene(&s);
}
END_TEST

/* Matrices of 64 KiB and more: ffn and embedding. */
static tiny_model large_model(void)
{
    tiny_model m = tiny_model_default(TINY_MISTRAL);
    m.layers = 2;
    m.width = 96;
    m.ffn = 200;
    return m;
}

static bool is_in_map(const ps_weights *w, const void *p)
{
    const unsigned char *at = p;
    return at >= w->map.data && at < w->map.data + w->map.bytes;
}

START_TEST(big_matrices_are_used_where_they_lie_in_the_file)
{
    const tiny_model m = large_model();
    assert_ok(tiny_model_convert(&m, "m.h5"));
    scene s;
    assert_ok(open_scene(&s, "m.h5", whole));
    size_t mapped = 0;
    for (int i = 0; i < s.ckpt.n_tensors; i++) {
        if (s.ckpt.tensors[i].bytes >= 65536) mapped += s.ckpt.tensors[i].bytes;
    }
    ck_assert_uint_gt(mapped, 0);
    ck_assert_uint_eq(s.weights.mapped_bytes, mapped);
    ck_assert(is_in_map(&s.weights, s.weights.embed.panels));
    ck_assert(is_in_map(&s.weights, s.weights.layers[1].down.panels));
    ck_assert(!is_in_map(&s.weights, s.weights.layers[1].k.panels));
    ck_assert(!is_in_map(&s.weights, s.weights.layers[1].mlp_norm.weight));
    check_ends(&m, &s.weights);
    check_layer(&m, 1, &s.weights.layers[1]);
    close_scene(&s);
}
END_TEST

START_TEST(the_measure_is_what_is_taken)
{
    const ps_weights_access access = _i % 2 == 0 ? PS_WEIGHTS_MAP : PS_WEIGHTS_COPY;
    const tiny_model m = _i < 2 ? large_model() : tiny_model_random((uint64_t)_i / 2);
    assert_ok(tiny_model_convert(&m, "m.h5"));
    scene s;
    const ps_part parts[] = {{0, m.layers, true}, {0, m.layers / 2, false}, {0, 0, true}};
    for (int i = 0; i < 3; i++) {
        assert_ok(open_scene_with(access, &s, "m.h5", parts[i]));
        const ps_weights_size size = ps_weights_measure(&s.ckpt, &parts[i], SPAN, access);
        ck_assert_uint_eq(size.mapped_bytes, s.weights.mapped_bytes);
        ck_assert_uint_eq(size.copied_bytes, s.weights.copy.bytes);
        ck_assert_uint_eq(size.taken_bytes, s.weights.region.bytes);
        close_scene(&s);
    }
}
END_TEST

/* ---- copies ---- */

/* Matrices of several pieces of 4 MiB, the last not whole. */
static tiny_model model_of_pieces(void)
{
    tiny_model m = large_model();
    m.layers = 1;
    m.ffn = 23000;
    return m;
}

START_TEST(a_copy_has_the_bytes_of_the_map)
{
    const tiny_model m = _i == 0   ? model_of_pieces()
                         : _i == 1 ? large_model()
                                   : tiny_model_random((uint64_t)_i);
    assert_ok(tiny_model_convert(&m, "m.h5"));
    scene mapped, copied;
    assert_ok(open_scene(&mapped, "m.h5", whole));
    assert_ok(open_scene_with(PS_WEIGHTS_COPY, &copied, "m.h5", whole));
    size_t bytes = 0;
    for (int i = 0; i < copied.ckpt.n_tensors; i++) {
        const ps_ckpt_tensor *t = &copied.ckpt.tensors[i];
        const char *found = copied.weights.tensors[i];
        ck_assert_mem_eq(found, mapped.weights.tensors[i], t->bytes);
        ck_assert_uint_eq((uintptr_t)found % PS_MEM_ALIGN, 0);
        if (is_in_map(&mapped.weights, mapped.weights.tensors[i])) bytes += t->bytes;
    }
    // What was mapped is now memory, and no more than that.
    ck_assert_uint_eq(mapped.weights.mapped_bytes, bytes);
    ck_assert_uint_eq(copied.weights.mapped_bytes, 0);
    ck_assert_uint_ge(copied.weights.copy.bytes, bytes);
    ck_assert_uint_lt(copied.weights.copy.bytes,
                      bytes + (size_t)copied.ckpt.n_tensors * PS_MEM_ALIGN + 1);
    check_ends(&m, &copied.weights);
    check_layer(&m, m.layers - 1, &copied.weights.layers[m.layers - 1]);
    assert_ok(ps_weights_verify(&copied.weights, PS_VERIFY_ALWAYS, &copied.engine));
    close_scene(&copied);
    close_scene(&mapped);
}
END_TEST

START_TEST(a_part_copies_its_own_layers_only)
{
    const tiny_model m = large_model();
    const ps_part parts[] = {{0, 1, false}, {1, 2, false}, {0, 0, true}};
    size_t sum = 0;
    scene s;
    assert_ok(tiny_model_convert(&m, "m.h5"));
    for (int i = 0; i < 3; i++) {
        assert_ok(open_scene_with(PS_WEIGHTS_COPY, &s, "m.h5", parts[i]));
        ck_assert_uint_gt(s.weights.copy.bytes, 0);
        sum += s.weights.copy.bytes;
        if (i < 2) check_layer(&m, i, &s.weights.layers[0]);
        if (i == 2) check_ends(&m, &s.weights);
        close_scene(&s);
    }
    assert_ok(open_scene_with(PS_WEIGHTS_COPY, &s, "m.h5", whole));
    ck_assert_uint_eq(s.weights.copy.bytes, sum);
    close_scene(&s);
}
END_TEST

START_TEST(a_copy_outlives_its_file)
{
    const tiny_model m = large_model();
    scene mapped, copied;
    assert_ok(tiny_model_convert(&m, "m.h5"));
    assert_ok(open_scene(&mapped, "m.h5", whole));
    assert_ok(open_scene_with(PS_WEIGHTS_COPY, &copied, "m.h5", whole));
    assert_ok(ps_weights_check_file(&mapped.weights));
    ck_assert_int_eq(truncate("m.h5", 100), 0);
    ck_assert_int_eq(ps_weights_check_file(&mapped.weights), PS_ERR_IO);
    assert_ok(ps_weights_check_file(&copied.weights));
    check_ends(&m, &copied.weights);
    check_layer(&m, 1, &copied.weights.layers[1]);
    assert_ok(ps_weights_verify(&copied.weights, PS_VERIFY_ALWAYS, &copied.engine));
    close_scene(&copied);
    close_scene(&mapped);
}
END_TEST

/* A thread of the pool meets the end of the file; the caller says so. */
START_TEST(a_file_that_ends_early_fails_the_copy)
{
    const tiny_model m = model_of_pieces();
    scene s;
    assert_ok(tiny_model_convert(&m, "m.h5"));
    assert_ok(open_scene_with(PS_WEIGHTS_COPY, &s, "m.h5", whole));
    ps_weights_close(&s.weights);
    const ps_ckpt_tensor *t = ps_ckpt_find(&s.ckpt, PS_ROLE_DOWN, 0);
    const uint64_t cut = t->offset + t->bytes - 1000;
    ck_assert_int_eq(truncate("m.h5", (off_t)cut), 0);
    s.ckpt.file_bytes = cut;
    const ps_part part = {0, 1, false};
    ck_assert_int_eq(ps_weights_open(&s.ckpt, &part, SPAN, PS_WEIGHTS_COPY, &s.engine, &s.weights),
                     PS_ERR_IO);
    char message[120];
    snprintf(message, sizeof message, "m.h5: ends 1000 bytes early at offset %llu",
             (unsigned long long)cut);
    assert_message(message);
    ck_assert_ptr_null(s.weights.copy.base);
    close_scene(&s);
}
END_TEST

START_TEST(bytes_of_layers_and_head_are_their_tensors)
{
    tiny_model m = tiny_model_default(TINY_RELPOS_LLAMA);
    m.dtype = PS_F16;
    assert_ok(tiny_model_convert(&m, "m.h5"));
    ps_ckpt ckpt;
    assert_ok(ps_ckpt_open("m.h5", &ckpt));
    // q, k, v, o, gate, up, down in panels of 16 outputs, and the f32 vectors; w_pos is not read.
    const size_t panels = 48 * 36 + 2 * 32 * 36 + 48 * 48 + 2 * 48 * 36 + 48 * 40;
    ck_assert_uint_eq(ps_weights_layer_bytes(&ckpt, 1), panels * 2 + (2 * 36 + 2 * 48) * 4);
    ck_assert_uint_eq(ps_weights_head_bytes(&ckpt), 272 * 36 * 2);
    ps_ckpt_close(&ckpt);
}
END_TEST

/* ---- models straight from specs ---- */

static void check_values(const char *name, const float *found, const float *wanted, size_t n)
{
    ck_assert_msg((wanted != NULL) == (found != NULL), "%s: is there, or not", name);
    if (wanted) ck_assert_msg(memcmp(found, wanted, n * sizeof *found) == 0, "%s differs", name);
}

/* Matrix `item` of a role, row by row, and its bias with zeros behind it. */
static void check_linear(const spec_model *m, ps_role role, ps_role bias_role, int layer, int item,
                         const ps_linear *w)
{
    float *values = spec_model_values(m, role, layer), row[512];
    if (!values) return;
    char name[PS_TENSOR_NAME_BYTES];
    const size_t k = (size_t)w->k, n = (size_t)w->n;
    ps_tensor_name(role, layer, name);
    for (size_t r = 0; r < n; r++) {
        ps_panel_unpack_row(w->dtype, w->panels, w->k, (int)r, row);
        check_values(name, row, values + ((size_t)item * n + r) * k, k);
    }
    ps_mem_free(values);
    float *bias = bias_role == PS_ROLE_COUNT ? NULL : spec_model_values(m, bias_role, layer);
    check_values(name, w->bias, bias ? bias + (size_t)item * n : NULL, n);
    for (size_t i = n; bias && i < (n + 15) / 16 * 16; i++) {
        ck_assert(w->bias[i] == 0.0f);
    }
    ps_mem_free(bias);
}

static void check_experts(const spec_model *m, int layer, const ps_layer_weights *w)
{
    for (int e = 0; e < m->spec.n_experts; e++) {
        const ps_linear gate = ps_expert_at(&w->expert_gate, e);
        const ps_linear up = ps_expert_at(&w->expert_up, e);
        const ps_linear down = ps_expert_at(&w->expert_down, e);
        if (m->spec.gated)
            check_linear(m, PS_ROLE_EXPERT_GATE, PS_ROLE_EXPERT_GATE_BIAS, layer, e, &gate);
        check_linear(m, PS_ROLE_EXPERT_UP, PS_ROLE_EXPERT_UP_BIAS, layer, e, &up);
        check_linear(m, PS_ROLE_EXPERT_DOWN, PS_ROLE_EXPERT_DOWN_BIAS, layer, e, &down);
    }
}

static void check_spec_vectors(const spec_model *m, int layer, const ps_layer_weights *w)
{
    const struct {
        ps_role role;
        const float *found;
    } vectors[] = {{PS_ROLE_ATTENTION_NORM, w->attention_norm.weight},
                   {PS_ROLE_ATTENTION_NORM_BIAS, w->attention_norm.bias},
                   {PS_ROLE_ATTENTION_POST_NORM, w->attention_post_norm},
                   {PS_ROLE_MLP_NORM, w->mlp_norm.weight},
                   {PS_ROLE_MLP_NORM_BIAS, w->mlp_norm.bias},
                   {PS_ROLE_MLP_POST_NORM, w->mlp_post_norm},
                   {PS_ROLE_Q_NORM, w->q_norm},
                   {PS_ROLE_K_NORM, w->k_norm},
                   {PS_ROLE_SINKS, w->sinks}};
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        ps_tensor_need need = {0};
        float *wanted = spec_model_values(m, vectors[i].role, layer);
        char name[PS_TENSOR_NAME_BYTES];
        ps_tensor_name(vectors[i].role, layer, name);
        (void)ps_tensor_needed(&m->spec, vectors[i].role, layer, &need);
        check_values(name, vectors[i].found, wanted, (size_t)need.n);
        ps_mem_free(wanted);
    }
}

static void check_spec_layer(const spec_model *m, int layer, const ps_layer_weights *w)
{
    check_spec_vectors(m, layer, w);
    check_linear(m, PS_ROLE_Q, PS_ROLE_Q_BIAS, layer, 0, &w->q);
    check_linear(m, PS_ROLE_O, PS_ROLE_O_BIAS, layer, 0, &w->o);
    if (m->spec.layers[layer].mixture) {
        check_linear(m, PS_ROLE_ROUTER, PS_ROLE_ROUTER_BIAS, layer, 0, &w->router);
        check_experts(m, layer, w);
        ck_assert_ptr_null(w->up.panels);
    } else {
        check_linear(m, PS_ROLE_UP, PS_ROLE_UP_BIAS, layer, 0, &w->up);
        check_linear(m, PS_ROLE_DOWN, PS_ROLE_DOWN_BIAS, layer, 0, &w->down);
        ck_assert_ptr_null(w->expert_up.first.panels);
    }
}

static void check_spec_ends(const spec_model *m, const ps_weights *w)
{
    const struct {
        ps_role role;
        const float *found;
    } vectors[] = {{PS_ROLE_EMBED_NORM, w->embed_norm.weight},
                   {PS_ROLE_EMBED_NORM_BIAS, w->embed_norm.bias},
                   {PS_ROLE_FINAL_NORM, w->final_norm.weight},
                   {PS_ROLE_FINAL_NORM_BIAS, w->final_norm.bias},
                   {PS_ROLE_HEAD_BIAS, w->head.bias}};
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        ps_tensor_need need = {0};
        float *wanted = spec_model_values(m, vectors[i].role, -1);
        (void)ps_tensor_needed(&m->spec, vectors[i].role, -1, &need);
        check_values("of the model", vectors[i].found, wanted, (size_t)need.n);
        ps_mem_free(wanted);
    }
    check_linear(m, PS_ROLE_EMBED, PS_ROLE_COUNT, -1, 0, &w->embed);
    check_linear(m, PS_ROLE_POSITIONS, PS_ROLE_COUNT, -1, 0, &w->positions);
    if (m->spec.tied_head) ck_assert_ptr_eq(w->head.panels, w->embed.panels);
    ck_assert_ptr_null(w->embed.bias); // a tied head's bias is the head's alone
}

START_TEST(every_weight_of_every_kind_of_spec_arrives)
{
    spec_model m = spec_model_roll((uint64_t)_i);
    assert_ok(spec_model_write(&m, "m.h5"));
    const bool repacked = _i % 3 == 2;
    if (repacked) h5_raw_repack("m.h5", "m.h5.new");
    scene s;
    assert_ok(open_scene(&s, repacked ? "m.h5.new" : "m.h5", whole));
    check_spec_ends(&m, &s.weights);
    for (int layer = 0; layer < m.spec.n_layers; layer++) {
        check_spec_layer(&m, layer, &s.weights.layers[layer]);
    }
    assert_ok(ps_weights_verify(&s.weights, PS_VERIFY_ALWAYS, &s.engine));
    close_scene(&s);
    spec_model_release(&m);
}
END_TEST

/* 9 experts of [100, 60] f32: 27 kB each in panels, but one tensor of 240 kB. */
START_TEST(stacked_experts_of_64_kib_are_used_in_the_file)
{
    spec_model m = spec_model_roll(0);
    m.spec.d_model = 60;
    m.spec.n_experts = 9;
    m.spec.n_experts_used = 2;
    m.spec.d_ff_expert = 100;
    m.spec.expert_bias = m.spec.gated = true;
    m.dtype = PS_F32;
    for (int l = 0; l < m.spec.n_layers; l++) {
        m.spec.layers[l].mixture = true;
    }
    assert_ok(spec_model_write(&m, "m.h5"));
    scene s;
    assert_ok(open_scene(&s, "m.h5", whole));
    const ps_layer_weights *w = &s.weights.layers[0];
    ck_assert(is_in_map(&s.weights, w->expert_up.first.panels));
    ck_assert(is_in_map(&s.weights, ps_expert_at(&w->expert_down, 8).panels));
    ck_assert(!is_in_map(&s.weights, w->expert_up.first.bias));
    check_experts(&m, 0, w);
    close_scene(&s);
    spec_model_release(&m);
}
END_TEST

/* Of the experts a row reads those that it chose. */
START_TEST(bytes_of_a_layer_with_a_mixture_are_those_of_the_chosen)
{
    spec_model m = spec_model_roll(0);
    m.spec.n_experts = 8;
    m.spec.n_experts_used = 1;
    m.spec.d_ff_expert = 20;
    m.spec.layers[0].mixture = true;
    size_t bytes[2];
    for (int i = 0; i < 2; i++) {
        ps_ckpt ckpt;
        m.spec.n_experts_used = 1 + i;
        assert_ok(spec_model_write(&m, "m.h5"));
        assert_ok(ps_ckpt_open("m.h5", &ckpt));
        bytes[i] = ps_weights_layer_bytes(&ckpt, 0);
        ps_ckpt_close(&ckpt);
    }
    const size_t d = (size_t)m.spec.d_model, d_panels = (d + 15) / 16 * 16;
    size_t expert = 32 * d + d_panels * 20; // up in two panels, and down
    if (m.spec.gated) expert += 32 * d;
    expert *= ps_dtype_block_bytes(m.dtype);
    if (m.spec.expert_bias) expert += ((m.spec.gated ? 64 : 32) + d_panels) * sizeof(float);
    ck_assert_uint_eq(bytes[1] - bytes[0], expert);
    spec_model_release(&m);
}
END_TEST

/* ---- repacked files ---- */

static float *logits_of(const char *path, const tiny_model *m, int n)
{
    stage_runner r;
    assert_ok(stage_runner_open(&(stage_runner_params){.path = path}, &r));
    int32_t *tokens = ps_mem_new((size_t)n, sizeof *tokens);
    float *logits = ps_mem_new((size_t)n * (size_t)m->vocabulary, sizeof *logits);
    for (int i = 0; i < n; i++) {
        tokens[i] = i * 37 % m->vocabulary;
    }
    stage_runner_run(&r, 0, 0, tokens, n, n, logits);
    stage_runner_close(&r);
    ps_mem_free(tokens);
    return logits;
}

START_TEST(a_repacked_file_gives_the_same_bits)
{
    const tiny_model m = _i == 0 ? large_model() : tiny_model_random((uint64_t)_i);
    assert_ok(tiny_model_convert(&m, "m.h5"));
    h5_raw_repack("m.h5", "chunked.h5");
    scene s;
    assert_ok(open_scene(&s, "chunked.h5", whole));
    ck_assert_uint_eq(s.weights.mapped_bytes, 0);
    check_ends(&m, &s.weights);
    for (int layer = 0; layer < m.layers; layer++) {
        check_layer(&m, layer, &s.weights.layers[layer]);
    }
    assert_ok(ps_weights_verify(&s.weights, PS_VERIFY_ALWAYS, &s.engine));
    close_scene(&s);
    float *wanted = logits_of("m.h5", &m, 40), *found = logits_of("chunked.h5", &m, 40);
    ck_assert_mem_eq(found, wanted, 40 * (size_t)m.vocabulary * sizeof *found);
    ps_mem_free(found);
    ps_mem_free(wanted);
}
END_TEST

START_TEST(ranks_read_a_repacked_file_by_the_index_of_rank_0)
{
    const tiny_model m = large_model();
    assert_ok(tiny_model_convert(&m, "m.h5"));
    h5_raw_repack("m.h5", "chunked.h5");
    scene s;
    assert_ok(open_scene(&s, "chunked.h5", whole));
    ps_ckpt other;
    ps_text packed = {0};
    ps_weights weights;
    const ps_part part = {1, 2, false};
    ps_ckpt_pack(&s.ckpt, &packed);
    assert_ok(ps_ckpt_unpack(packed.data, packed.len, "chunked.h5", &other));
    assert_ok(ps_weights_open(&other, &part, SPAN, PS_WEIGHTS_MAP, &s.engine, &weights));
    check_layer(&m, 1, &weights.layers[0]);
    ps_weights_close(&weights);
    ps_ckpt_close(&other);
    ps_text_release(&packed);
    close_scene(&s);
}
END_TEST

/* ---- verification ---- */

static void flip_bit(const char *path, uint64_t offset)
{
    const int fd = open(path, O_RDWR);
    unsigned char byte;
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= 1;
    ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

static ps_err verify_with(ps_weights_access access, const char *path, ps_part part, ps_verify how)
{
    scene s;
    ps_err err = open_scene_with(access, &s, path, part);
    if (!err) err = ps_weights_verify(&s.weights, how, &s.engine);
    close_scene(&s);
    return err;
}

static ps_err verify(const char *path, ps_part part, ps_verify how)
{
    return verify_with(PS_WEIGHTS_MAP, path, part, how);
}

/* Offset of the middle of a tensor. */
static uint64_t middle_of(const char *path, ps_role role, int layer)
{
    ps_ckpt ckpt;
    assert_ok(ps_ckpt_open(path, &ckpt));
    const ps_ckpt_tensor *t = ps_ckpt_find(&ckpt, role, layer);
    const uint64_t offset = t->offset + t->bytes / 2;
    ps_ckpt_close(&ckpt);
    return offset;
}

static int count_records(void)
{
    const int here = open(".", O_RDONLY);
    int n = 0;
    if (chdir("cache/pipestep/verified") == 0) n = scratch_count();
    ck_assert_int_eq(fchdir(here), 0);
    close(here);
    return n;
}

/* The record of verified files goes to the test's own directory. */
static void use_own_cache(void)
{
    char cwd[512], path[600];
    ck_assert_ptr_nonnull(getcwd(cwd, sizeof cwd));
    snprintf(path, sizeof path, "%s/cache", cwd);
    ck_assert_int_eq(setenv("XDG_CACHE_HOME", path, 1), 0);
}

START_TEST(a_sound_file_passes)
{
    use_own_cache();
    const tiny_model m = tiny_model_default((tiny_family)_i);
    assert_ok(tiny_model_convert(&m, "m.h5"));
    assert_ok(verify("m.h5", whole, PS_VERIFY_NEVER));
    assert_ok(verify("m.h5", whole, PS_VERIFY_ALWAYS));
    ck_assert_int_eq(count_records(), 0);
    assert_ok(verify("m.h5", whole, PS_VERIFY_ONCE));
    ck_assert_int_eq(count_records(), 1);
    assert_ok(verify("m.h5", whole, PS_VERIFY_ONCE));
    ck_assert_int_eq(count_records(), 1);
    assert_ok(verify("m.h5", (ps_part){0, 1, false}, PS_VERIFY_ONCE));
    ck_assert_int_eq(count_records(), 2);
}
END_TEST

START_TEST(damage_is_found_and_named)
{
    use_own_cache();
    const tiny_model m = tiny_model_default(TINY_LLAMA);
    assert_ok(tiny_model_convert(&m, "m.h5"));
    assert_ok(verify("m.h5", whole, PS_VERIFY_ONCE));
    flip_bit("m.h5", middle_of("m.h5", PS_ROLE_UP, 1));
    // The record was for the file as it was.
    ck_assert_int_eq(verify("m.h5", whole, PS_VERIFY_ONCE), PS_ERR_FORMAT);
    assert_message("m.h5: tensor /layers/001/mlp/up is damaged: its checksum differs");
    ck_assert_int_eq(verify("m.h5", whole, PS_VERIFY_ONCE), PS_ERR_FORMAT);
    ck_assert_int_eq(verify("m.h5", whole, PS_VERIFY_ALWAYS), PS_ERR_FORMAT);
    assert_ok(verify("m.h5", whole, PS_VERIFY_NEVER));
    ck_assert_int_eq(count_records(), 1);
}
END_TEST

/* Of a matrix that is copied and of a vector that is always read. */
START_TEST(damage_in_a_copy_is_found_and_named)
{
    static const struct {
        ps_role role;
        const char *name;
    } damaged[] = {{PS_ROLE_DOWN, "/layers/001/mlp/down"},
                   {PS_ROLE_MLP_NORM, "/layers/001/mlp/norm"}};
    const tiny_model m = large_model();
    char message[120];
    assert_ok(tiny_model_convert(&m, "m.h5"));
    flip_bit("m.h5", middle_of("m.h5", damaged[_i].role, 1));
    ck_assert_int_eq(verify_with(PS_WEIGHTS_COPY, "m.h5", whole, PS_VERIFY_ALWAYS), PS_ERR_FORMAT);
    snprintf(message, sizeof message, "m.h5: tensor %s is damaged: its checksum differs",
             damaged[_i].name);
    assert_message(message);
    assert_ok(verify_with(PS_WEIGHTS_COPY, "m.h5", whole, PS_VERIFY_NEVER));
}
END_TEST

START_TEST(the_first_damaged_tensor_is_named_whatever_the_threads)
{
    const tiny_model m = tiny_model_default(TINY_LLAMA);
    assert_ok(tiny_model_convert(&m, "m.h5"));
    for (int layer = 2; layer >= 0; layer--) {
        char message[100];
        flip_bit("m.h5", middle_of("m.h5", PS_ROLE_DOWN, layer));
        snprintf(message, sizeof message,
                 "m.h5: tensor /layers/%03d/mlp/down is damaged: its checksum differs", layer);
        for (int again = 0; again < 20; again++) {
            ck_assert_int_eq(verify("m.h5", whole, PS_VERIFY_ALWAYS), PS_ERR_FORMAT);
            assert_message(message);
        }
    }
}
END_TEST

START_TEST(damage_in_another_part_is_not_this_parts_concern)
{
    const tiny_model m = tiny_model_default(TINY_LLAMA);
    assert_ok(tiny_model_convert(&m, "m.h5"));
    flip_bit("m.h5", middle_of("m.h5", PS_ROLE_Q, 1));
    assert_ok(verify("m.h5", (ps_part){0, 1, true}, PS_VERIFY_ALWAYS));
    assert_ok(verify("m.h5", (ps_part){2, 3, false}, PS_VERIFY_ALWAYS));
    ck_assert_int_eq(verify("m.h5", (ps_part){1, 2, false}, PS_VERIFY_ALWAYS), PS_ERR_FORMAT);
}
END_TEST

START_TEST(without_a_place_for_records_every_start_verifies)
{
    const tiny_model m = tiny_model_default(TINY_LLAMA);
    assert_ok(tiny_model_convert(&m, "m.h5"));
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    assert_ok(verify("m.h5", whole, PS_VERIFY_ONCE));
    setenv("XDG_CACHE_HOME", "not/absolute", 1);
    assert_ok(verify("m.h5", whole, PS_VERIFY_ONCE));
    use_own_cache();
    scratch_write_text("cache", "a file where the directory should be");
    assert_ok(verify("m.h5", whole, PS_VERIFY_ONCE));
    ck_assert(!scratch_exists("not"));
    flip_bit("m.h5", middle_of("m.h5", PS_ROLE_Q, 1));
    ck_assert_int_eq(verify("m.h5", whole, PS_VERIFY_ONCE), PS_ERR_FORMAT);
}
END_TEST

START_TEST(a_file_that_grew_since_it_was_opened_is_refused)
{
    const tiny_model m = tiny_model_default(TINY_LLAMA);
    assert_ok(tiny_model_convert(&m, "m.h5"));
    scene s;
    assert_ok(open_scene(&s, "m.h5", whole));
    ps_weights_close(&s.weights);
    FILE *f = fopen("m.h5", "a");
    fputs("more", f);
    fclose(f);
    const ps_part part = {0, 1, true};
    const ps_weights_access access = (ps_weights_access)_i;
    ps_weights again;
    ck_assert_int_eq(ps_weights_open(&s.ckpt, &part, SPAN, access, &s.engine, &again),
                     PS_ERR_FORMAT);
    char message[120];
    snprintf(message, sizeof message, "m.h5: has %llu bytes, at the start it had %llu",
             (unsigned long long)s.ckpt.file_bytes + 4, (unsigned long long)s.ckpt.file_bytes);
    assert_message(message);
    close_scene(&s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/weights");
    TCase *values = scratch_case(suite, "values");
    tcase_add_loop_test(values, every_weight_is_the_sources, 0, 25);
    tcase_add_loop_test(values, a_part_has_its_own_layers_only, 0, TINY_FAMILY_COUNT);
    tcase_add_test(values, big_matrices_are_used_where_they_lie_in_the_file);
    tcase_add_loop_test(values, the_measure_is_what_is_taken, 0, 16);
    tcase_add_test(values, bytes_of_layers_and_head_are_their_tensors);
    tcase_add_loop_test(values, every_weight_of_every_kind_of_spec_arrives, 0, 42);
    tcase_add_test(values, stacked_experts_of_64_kib_are_used_in_the_file);
    tcase_add_test(values, bytes_of_a_layer_with_a_mixture_are_those_of_the_chosen);
    tcase_add_loop_test(values, a_repacked_file_gives_the_same_bits, 0, 6);
    tcase_add_test(values, ranks_read_a_repacked_file_by_the_index_of_rank_0);
    TCase *copies = scratch_case(suite, "copies");
    tcase_add_loop_test(copies, a_copy_has_the_bytes_of_the_map, 0, 8);
    tcase_add_test(copies, a_part_copies_its_own_layers_only);
    tcase_add_test(copies, a_copy_outlives_its_file);
    tcase_add_test(copies, a_file_that_ends_early_fails_the_copy);
    TCase *verified = scratch_case(suite, "verified");
    tcase_add_loop_test(verified, a_sound_file_passes, 0, TINY_FAMILY_COUNT);
    tcase_add_test(verified, damage_is_found_and_named);
    tcase_add_test(verified, the_first_damaged_tensor_is_named_whatever_the_threads);
    tcase_add_test(verified, damage_in_another_part_is_not_this_parts_concern);
    tcase_add_test(verified, without_a_place_for_records_every_start_verifies);
    tcase_add_loop_test(verified, damage_in_a_copy_is_found_and_named, 0, 2);
    tcase_add_loop_test(verified, a_file_that_grew_since_it_was_opened_is_refused, 0,
                        PS_WEIGHTS_ACCESS_COUNT);
    return scratch_run(suite);
}
