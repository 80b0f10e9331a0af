#include "support/gguf_model.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "math/panel.h"
#include "model/h5.h"
#include "support/scratch.h"

/* Behind "blk.N." for those of a layer. */
static const char *const names[PS_ROLE_COUNT] = {
    [PS_ROLE_EMBED] = "token_embd.weight",
    [PS_ROLE_POSITIONS] = "position_embd.weight",
    [PS_ROLE_EMBED_NORM] = "token_embd_norm.weight",
    [PS_ROLE_EMBED_NORM_BIAS] = "token_embd_norm.bias",
    [PS_ROLE_FINAL_NORM] = "output_norm.weight",
    [PS_ROLE_FINAL_NORM_BIAS] = "output_norm.bias",
    [PS_ROLE_HEAD] = "output.weight",
    [PS_ROLE_HEAD_BIAS] = "output.bias",
    [PS_ROLE_ATTENTION_NORM] = "attn_norm.weight",
    [PS_ROLE_ATTENTION_NORM_BIAS] = "attn_norm.bias",
    [PS_ROLE_Q] = "attn_q.weight",
    [PS_ROLE_K] = "attn_k.weight",
    [PS_ROLE_V] = "attn_v.weight",
    [PS_ROLE_O] = "attn_output.weight",
    [PS_ROLE_Q_BIAS] = "attn_q.bias",
    [PS_ROLE_K_BIAS] = "attn_k.bias",
    [PS_ROLE_V_BIAS] = "attn_v.bias",
    [PS_ROLE_O_BIAS] = "attn_output.bias",
    [PS_ROLE_Q_NORM] = "attn_q_norm.weight",
    [PS_ROLE_K_NORM] = "attn_k_norm.weight",
    [PS_ROLE_SINKS] = "attn_sinks.weight",
    [PS_ROLE_ATTENTION_POST_NORM] = "post_attention_norm.weight",
    [PS_ROLE_MLP_NORM] = "ffn_norm.weight",
    [PS_ROLE_MLP_NORM_BIAS] = "ffn_norm.bias",
    [PS_ROLE_GATE] = "ffn_gate.weight",
    [PS_ROLE_UP] = "ffn_up.weight",
    [PS_ROLE_DOWN] = "ffn_down.weight",
    [PS_ROLE_GATE_BIAS] = "ffn_gate.bias",
    [PS_ROLE_UP_BIAS] = "ffn_up.bias",
    [PS_ROLE_DOWN_BIAS] = "ffn_down.bias",
    [PS_ROLE_ROUTER] = "ffn_gate_inp.weight",
    [PS_ROLE_ROUTER_BIAS] = "ffn_gate_inp.bias",
    [PS_ROLE_EXPERT_GATE] = "ffn_gate_exps.weight",
    [PS_ROLE_EXPERT_UP] = "ffn_up_exps.weight",
    [PS_ROLE_EXPERT_DOWN] = "ffn_down_exps.weight",
    [PS_ROLE_EXPERT_GATE_BIAS] = "ffn_gate_exps.bias",
    [PS_ROLE_EXPERT_UP_BIAS] = "ffn_up_exps.bias",
    [PS_ROLE_EXPERT_DOWN_BIAS] = "ffn_down_exps.bias",
    [PS_ROLE_MLP_POST_NORM] = "post_ffw_norm.weight",
};

static const char *const single_names[] = {"ffn_gate.%d.weight", "ffn_up.%d.weight",
                                           "ffn_down.%d.weight"};

float *gguf_model_values(const ps_ckpt *ckpt, ps_role role, int layer, size_t *n)
{
    const ps_ckpt_tensor *t = ps_ckpt_find(ckpt, role, layer);
    if (!t) return NULL;
    const ps_tensor_need *need = &t->need;
    char name[PS_TENSOR_NAME_BYTES];
    ps_h5_file *file;
    ps_h5_info info;
    ps_tensor_name(role, layer, name);
    assert_ok(ps_h5_open(ckpt->path, &file));
    assert_ok(ps_h5_find(file, name, &info));
    char *stored = ps_mem_new(info.bytes, 1);
    assert_ok(ps_h5_read(file, name, &info, stored));
    ps_h5_close(file);
    const size_t rows = (size_t)need->n, k = (size_t)need->k, count = (size_t)need->count;
    *n = count * rows * k;
    float *out = ps_mem_new(*n, sizeof *out);
    const size_t item_bytes = info.bytes / count;
    for (size_t item = 0; item < count; item++) {
        const char *from = stored + item * item_bytes;
        for (size_t r = 0; need->panel && r < rows; r++) {
            ps_panel_unpack_row(t->dtype, from, need->k, (int)r, out + (item * rows + r) * k);
        }
        if (!need->panel) memcpy(out + item * rows, from, rows * sizeof *out);
    }
    ps_mem_free(stored);
    return out;
}

/* ---- tensors ---- */

typedef struct model {
    gguf_file *file;
    const ps_ckpt *ckpt;
    int flags;
} model;

static bool is_rotated(ps_role role)
{
    return role == PS_ROLE_Q || role == PS_ROLE_K || role == PS_ROLE_Q_BIAS ||
           role == PS_ROLE_K_BIAS || role == PS_ROLE_Q_NORM || role == PS_ROLE_K_NORM;
}

/* Puts pairs of rows (t, t + half) of each head side by side. In layers without rotation the order
 * within a head means nothing; they stay as they are. */
static void join_pairs(const model *m, const ps_tensor_need *need, float *values)
{
    const ps_spec *s = &m->ckpt->spec;
    const int rope = s->layers[need->layer].rope;
    if (!(m->flags & GGUF_MODEL_NEIGHBOURS) || rope < 0 || !is_rotated(need->role)) return;
    const size_t k = (size_t)need->k, half = (size_t)s->ropes[rope].dims / 2;
    const size_t head_dim = (size_t)s->head_dim, n = (size_t)need->n;
    float *copy = ps_mem_new(n * k, sizeof *copy);
    memcpy(copy, values, n * k * sizeof *copy);
    for (size_t row = 0; row < n; row++) {
        const size_t d = row % head_dim, head = row - d;
        if (d >= 2 * half) continue;
        const size_t to = head + (d < half ? 2 * d : 2 * (d - half) + 1);
        memcpy(values + to * k, copy + row * k, k * sizeof *copy);
    }
    ps_mem_free(copy);
}

static const char *name_of(const model *m, ps_role role)
{
    if ((m->flags & GGUF_MODEL_POST_NORM) && role == PS_ROLE_MLP_NORM)
        return "post_attention_norm.weight";
    if (m->flags & GGUF_MODEL_NORM_2) {
        if (role == PS_ROLE_ATTENTION_NORM) return "attn_norm_2.weight";
        if (role == PS_ROLE_ATTENTION_NORM_BIAS) return "attn_norm_2.bias";
        if (role == PS_ROLE_MLP_NORM) return "attn_norm.weight";
        if (role == PS_ROLE_MLP_NORM_BIAS) return "attn_norm.bias";
    }
    return names[role];
}

static void put(const model *m, int layer, const char *name, int n_dims, const uint64_t *dims,
                const float *values)
{
    char full[96];
    snprintf(full, sizeof full, layer < 0 ? "%s" : "blk.%2$d.%1$s", name, layer);
    size_t n = 1;
    for (int d = 0; d < n_dims; d++) {
        n *= (size_t)dims[d];
    }
    gguf_file_tensor(m->file, full, 0, (uint32_t)n_dims, dims, values, n * sizeof *values);
}

static float *values_of(const model *m, ps_role role, int layer, size_t *n, ps_tensor_need *need)
{
    float *values = gguf_model_values(m->ckpt, role, layer, n);
    ck_assert_ptr_nonnull(values);
    *need = ps_ckpt_find(m->ckpt, role, layer)->need;
    if (layer >= 0) join_pairs(m, need, values);
    return values;
}

/* Rows of several roles in one tensor. */
static void put_fused(const model *m, int layer, const char *name, const ps_role *roles,
                      int n_roles)
{
    ps_text all = {0};
    uint64_t rows = 0, k = 1;
    bool panel = false;
    for (int i = 0; i < n_roles; i++) {
        ps_tensor_need need;
        size_t n;
        float *values = values_of(m, roles[i], layer, &n, &need);
        ps_text_append(&all, values, n * sizeof *values);
        rows += (uint64_t)need.n;
        k = (uint64_t)need.k;
        panel = need.panel;
        ps_mem_free(values);
    }
    float *values = ps_mem_new(all.len / sizeof *values, sizeof *values);
    memcpy(values, all.data, all.len);
    put(m, layer, name, panel ? 2 : 1, panel ? (uint64_t[]){k, rows} : (uint64_t[]){rows}, values);
    ps_mem_free(values);
    ps_text_release(&all);
}

static void put_experts(const model *m, const ps_tensor_need *need, const float *values)
{
    const uint64_t n = (uint64_t)need->n, k = (uint64_t)need->k, count = (uint64_t)need->count;
    if (!need->panel) {
        put(m, need->layer, names[need->role], 2, (uint64_t[]){n, count}, values);
        return;
    }
    if (!(m->flags & GGUF_MODEL_SINGLE)) {
        put(m, need->layer, names[need->role], 3, (uint64_t[]){k, n, count}, values);
        return;
    }
    for (int e = 0; e < need->count; e++) {
        char name[64];
        snprintf(name, sizeof name, single_names[need->role - PS_ROLE_EXPERT_GATE], e);
        put(m, need->layer, name, 2, (uint64_t[]){k, n}, values + (size_t)e * n * k);
    }
}

static void put_role(const model *m, ps_role role, int layer)
{
    size_t n_values;
    ps_tensor_need need;
    float *values = values_of(m, role, layer, &n_values, &need);
    const uint64_t n = (uint64_t)need.n, k = (uint64_t)need.k;
    if (need.count > 1) {
        put_experts(m, &need, values);
    } else if (need.panel) {
        put(m, layer, name_of(m, role), 2, (uint64_t[]){k, n}, values);
    } else {
        put(m, layer, name_of(m, role), 1, &n, values);
    }
    ps_mem_free(values);
}

/* Whether the role is part of a fused tensor, which its first one writes. */
static bool put_as_fused(const model *m, ps_role role, int layer)
{
    static const ps_role qkv[] = {PS_ROLE_Q, PS_ROLE_K, PS_ROLE_V};
    static const ps_role qkv_bias[] = {PS_ROLE_Q_BIAS, PS_ROLE_K_BIAS, PS_ROLE_V_BIAS};
    static const ps_role gate_up[] = {PS_ROLE_GATE, PS_ROLE_UP};
    if (m->flags & GGUF_MODEL_FUSED_QKV) {
        if (role == PS_ROLE_Q) put_fused(m, layer, "attn_qkv.weight", qkv, 3);
        if (role == PS_ROLE_Q_BIAS) put_fused(m, layer, "attn_qkv.bias", qkv_bias, 3);
        if ((role >= PS_ROLE_Q && role <= PS_ROLE_V) ||
            (role >= PS_ROLE_Q_BIAS && role <= PS_ROLE_V_BIAS))
            return true;
    }
    if (m->flags & GGUF_MODEL_FUSED_UP) {
        if (role == PS_ROLE_GATE) put_fused(m, layer, "ffn_up.weight", gate_up, 2);
        if (role == PS_ROLE_GATE || role == PS_ROLE_UP) return true;
    }
    return false;
}

/* ---- keys ---- */

void gguf_model_int(gguf_file *f, const char *arch, const char *name, int64_t value)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", arch, name);
    gguf_file_int(f, key, PS_GGUF_U32, value);
}

void gguf_model_real(gguf_file *f, const char *arch, const char *name, double value)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", arch, name);
    gguf_file_real(f, key, PS_GGUF_F64, value);
}

static void put_text(gguf_file *f, const char *arch, const char *name, const char *value)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", arch, name);
    gguf_file_text(f, key, value);
}

static void put_factors(const model *m, const char *name, int n, const double *factors)
{
    float values[PS_ROPE_FACTORS_MAX];
    for (int i = 0; i < n; i++) {
        values[i] = (float)factors[i];
    }
    put(m, -1, name, 1, (uint64_t[]){(uint64_t)n}, values);
}

static void put_rope(const model *m, const char *arch)
{
    const ps_spec *s = &m->ckpt->spec;
    const ps_rope *rope = &s->ropes[0];
    if (s->n_ropes == 0) return;
    gguf_model_int(m->file, arch, "rope.dimension_count", rope->dims);
    gguf_model_real(m->file, arch, "rope.freq_base", rope->base);
    if (rope->kind == PS_ROPE_LINEAR || rope->kind == PS_ROPE_YARN) {
        put_text(m->file, arch, "rope.scaling.type",
                 rope->kind == PS_ROPE_YARN ? "yarn" : "linear");
        gguf_model_real(m->file, arch, "rope.scaling.factor", rope->factor);
    }
    if (rope->kind == PS_ROPE_YARN) {
        gguf_model_real(m->file, arch, "rope.scaling.yarn_beta_fast", rope->beta_fast);
        gguf_model_real(m->file, arch, "rope.scaling.yarn_beta_slow", rope->beta_slow);
    }
    if (rope->kind == PS_ROPE_YARN || rope->kind == PS_ROPE_LONGROPE)
        gguf_model_int(m->file, arch, "rope.scaling.original_context_length",
                       (int64_t)rope->original_length);
    if (rope->kind == PS_ROPE_LONGROPE) {
        gguf_model_real(m->file, arch, "rope.scaling.attn_factor", rope->magnitude);
        put_factors(m, "rope_factors_short.weight", rope->dims / 2, rope->factors);
        put_factors(m, "rope_factors_long.weight", rope->dims / 2, rope->long_factors);
    }
    if (rope->kind == PS_ROPE_DIVIDED)
        put_factors(m, "rope_freqs.weight", rope->dims / 2, rope->factors);
}

static void put_keys(const model *m, const char *arch, int n_layers)
{
    const ps_spec *s = &m->ckpt->spec;
    gguf_file *f = m->file;
    gguf_file_text(f, "general.architecture", arch);
    gguf_model_int(f, arch, "block_count", n_layers);
    gguf_model_int(f, arch, "context_length", s->context);
    gguf_model_int(f, arch, "embedding_length", s->d_model);
    gguf_model_int(f, arch, "feed_forward_length", s->d_ff);
    gguf_model_int(f, arch, "attention.head_count", s->n_heads);
    if (s->n_kv_heads != s->n_heads)
        gguf_model_int(f, arch, "attention.head_count_kv", s->n_kv_heads);
    if (s->head_dim != s->d_model / s->n_heads) {
        gguf_model_int(f, arch, "attention.key_length", s->head_dim);
        gguf_model_int(f, arch, "attention.value_length", s->head_dim);
    }
    gguf_model_real(f, arch,
                    s->norm == PS_NORM_RMS ? "attention.layer_norm_rms_epsilon"
                                           : "attention.layer_norm_epsilon",
                    s->norm_eps);
    if (s->n_experts > 0) {
        gguf_model_int(f, arch, "expert_count", s->n_experts);
        gguf_model_int(f, arch, "expert_used_count", s->n_experts_used);
        if (s->d_ff_expert != s->d_ff)
            gguf_model_int(f, arch, "expert_feed_forward_length", s->d_ff_expert);
    }
    put_rope(m, arch);
}

void gguf_model_add(gguf_file *f, const ps_ckpt *ckpt, const char *arch, int flags, int n_layers)
{
    const model m = {.file = f, .ckpt = ckpt, .flags = flags};
    put_keys(&m, arch, n_layers);
    int cursor = 0;
    ps_tensor_need need;
    while (ps_tensor_next(&ckpt->spec, &cursor, &need)) {
        if (need.layer >= n_layers) break;
        if (!put_as_fused(&m, need.role, need.layer)) put_role(&m, need.role, need.layer);
    }
}
