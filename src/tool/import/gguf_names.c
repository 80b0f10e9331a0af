/* Which tensor of a GGUF file holds what, and in which order its rows stand. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "tool/import/gguf_families.h"
#include "tool/import/gguf_reader.h"

#define LAYER "blk.%d."

static const char *const plain[PS_ROLE_COUNT] = {
    [PS_ROLE_EMBED] = "token_embd.weight",
    [PS_ROLE_POSITIONS] = "position_embd.weight",
    [PS_ROLE_EMBED_NORM] = "token_embd_norm.weight",
    [PS_ROLE_EMBED_NORM_BIAS] = "token_embd_norm.bias",
    [PS_ROLE_FINAL_NORM] = "output_norm.weight",
    [PS_ROLE_FINAL_NORM_BIAS] = "output_norm.bias",
    [PS_ROLE_HEAD] = "output.weight",
    [PS_ROLE_HEAD_BIAS] = "output.bias",
    [PS_ROLE_ATTENTION_NORM] = LAYER "attn_norm.weight",
    [PS_ROLE_ATTENTION_NORM_BIAS] = LAYER "attn_norm.bias",
    [PS_ROLE_Q] = LAYER "attn_q.weight",
    [PS_ROLE_K] = LAYER "attn_k.weight",
    [PS_ROLE_V] = LAYER "attn_v.weight",
    [PS_ROLE_O] = LAYER "attn_output.weight",
    [PS_ROLE_Q_BIAS] = LAYER "attn_q.bias",
    [PS_ROLE_K_BIAS] = LAYER "attn_k.bias",
    [PS_ROLE_V_BIAS] = LAYER "attn_v.bias",
    [PS_ROLE_O_BIAS] = LAYER "attn_output.bias",
    [PS_ROLE_Q_NORM] = LAYER "attn_q_norm.weight",
    [PS_ROLE_K_NORM] = LAYER "attn_k_norm.weight",
    [PS_ROLE_SINKS] = LAYER "attn_sinks.weight",
    [PS_ROLE_ATTENTION_POST_NORM] = LAYER "post_attention_norm.weight",
    [PS_ROLE_MLP_NORM] = LAYER "ffn_norm.weight",
    [PS_ROLE_MLP_NORM_BIAS] = LAYER "ffn_norm.bias",
    [PS_ROLE_GATE] = LAYER "ffn_gate.weight",
    [PS_ROLE_UP] = LAYER "ffn_up.weight",
    [PS_ROLE_DOWN] = LAYER "ffn_down.weight",
    [PS_ROLE_GATE_BIAS] = LAYER "ffn_gate.bias",
    [PS_ROLE_UP_BIAS] = LAYER "ffn_up.bias",
    [PS_ROLE_DOWN_BIAS] = LAYER "ffn_down.bias",
    [PS_ROLE_ROUTER] = LAYER "ffn_gate_inp.weight",
    [PS_ROLE_ROUTER_BIAS] = LAYER "ffn_gate_inp.bias",
    [PS_ROLE_EXPERT_GATE] = LAYER "ffn_gate_exps.weight",
    [PS_ROLE_EXPERT_UP] = LAYER "ffn_up_exps.weight",
    [PS_ROLE_EXPERT_DOWN] = LAYER "ffn_down_exps.weight",
    [PS_ROLE_EXPERT_GATE_BIAS] = LAYER "ffn_gate_exps.bias",
    [PS_ROLE_EXPERT_UP_BIAS] = LAYER "ffn_up_exps.bias",
    [PS_ROLE_EXPERT_DOWN_BIAS] = LAYER "ffn_down_exps.bias",
    [PS_ROLE_MLP_POST_NORM] = LAYER "post_ffw_norm.weight",
};

/* Other names, taken where layer 0 has the tensor that tells them. */
static const struct {
    const char *arch; // NULL: any
    const char *sign; // of layer 0
    ps_role role;
    const char *name;
    ps_rows_from rows;
} variants[] = {
    {NULL, "attn_qkv.weight", PS_ROLE_Q, LAYER "attn_qkv.weight", PS_ROWS_QKV},
    {NULL, "attn_qkv.weight", PS_ROLE_K, LAYER "attn_qkv.weight", PS_ROWS_QKV},
    {NULL, "attn_qkv.weight", PS_ROLE_V, LAYER "attn_qkv.weight", PS_ROWS_QKV},
    {NULL, "attn_qkv.bias", PS_ROLE_Q_BIAS, LAYER "attn_qkv.bias", PS_ROWS_QKV},
    {NULL, "attn_qkv.bias", PS_ROLE_K_BIAS, LAYER "attn_qkv.bias", PS_ROWS_QKV},
    {NULL, "attn_qkv.bias", PS_ROLE_V_BIAS, LAYER "attn_qkv.bias", PS_ROWS_QKV},
    {NULL, "ffn_gate.0.weight", PS_ROLE_EXPERT_GATE, LAYER "ffn_gate.%e.weight", PS_ROWS_PLAIN},
    {NULL, "ffn_up.0.weight", PS_ROLE_EXPERT_UP, LAYER "ffn_up.%e.weight", PS_ROWS_PLAIN},
    {NULL, "ffn_down.0.weight", PS_ROLE_EXPERT_DOWN, LAYER "ffn_down.%e.weight", PS_ROWS_PLAIN},
    {"phi3", "ffn_up.weight", PS_ROLE_GATE, LAYER "ffn_up.weight", PS_ROWS_GATE_UP},
    {"phi3", "ffn_up.weight", PS_ROLE_UP, LAYER "ffn_up.weight", PS_ROWS_GATE_UP},
    {"gpt-oss", "post_attention_norm.weight", PS_ROLE_MLP_NORM, LAYER "post_attention_norm.weight",
     PS_ROWS_PLAIN},
    {"falcon", "attn_norm_2.weight", PS_ROLE_ATTENTION_NORM, LAYER "attn_norm_2.weight",
     PS_ROWS_PLAIN},
    {"falcon", "attn_norm_2.weight", PS_ROLE_ATTENTION_NORM_BIAS, LAYER "attn_norm_2.bias",
     PS_ROWS_PLAIN},
    {"falcon", "attn_norm_2.weight", PS_ROLE_MLP_NORM, LAYER "attn_norm.weight", PS_ROWS_PLAIN},
    {"falcon", "attn_norm_2.weight", PS_ROLE_MLP_NORM_BIAS, LAYER "attn_norm.bias", PS_ROWS_PLAIN},
};

void ps_gguf_reader_names(const ps_gguf_reader *r, ps_tensor_from from[PS_ROLE_COUNT])
{
    for (int role = 0; role < PS_ROLE_COUNT; role++) {
        from[role] = (ps_tensor_from){.name = plain[role], .rows = PS_ROWS_PLAIN};
    }
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        char sign[64];
        snprintf(sign, sizeof sign, "blk.0.%s", variants[i].sign);
        if ((variants[i].arch && strcmp(variants[i].arch, r->arch) != 0) ||
            !ps_gguf_find_tensor(r->gguf, sign))
            continue;
        from[variants[i].role] =
            (ps_tensor_from){.name = variants[i].name, .rows = variants[i].rows};
    }
}

/* ---- the converter's view ---- */

bool ps_gguf_format(const ps_gguf_tensor *tensor, ps_dtype *out)
{
    // Formats have ggml's names in small letters.
    const char *type_name = ps_gguf_type_name(tensor->type);
    char name[32] = "";
    for (size_t i = 0; i < sizeof name - 1 && type_name[i]; i++) {
        name[i] = (char)tolower((unsigned char)type_name[i]);
    }
    return ps_dtype_from_name(name, out);
}

static bool is_of_rotation(const char *name)
{
    return strcmp(name, "rope_freqs.weight") == 0 ||
           strcmp(name, "rope_factors_long.weight") == 0 ||
           strcmp(name, "rope_factors_short.weight") == 0;
}

void ps_gguf_fill_source(const ps_gguf *gguf, ps_source *out)
{
    ps_source_take(out, ps_gguf_count(gguf));
    for (int i = 0; i < out->n; i++) {
        const ps_gguf_tensor *t = ps_gguf_at(gguf, i);
        ps_source_tensor *to = &out->tensors[i];
        *to = (ps_source_tensor){.name = t->name,
                                 .file = ps_gguf_file(gguf, t),
                                 .type_name = ps_gguf_type_name(t->type),
                                 .n_dims = t->n_dims,
                                 .data = t->data,
                                 .bytes = t->bytes,
                                 .used = is_of_rotation(t->name)};
        to->supported = ps_gguf_format(t, &to->dtype);
        memcpy(to->shape, t->shape, sizeof t->shape);
    }
    ps_source_sort(out);
}
