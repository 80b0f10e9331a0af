/* The model file: what the converter was given is in it, bit by bit, and the index that rank 0
 * hands to the others says the same. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "math/panel.h"
#include "model/ckpt.h"
#include "model/h5.h"
#include "serve/tokenizer.h"
#include "support/scratch.h"
#include "support/tiny_model.h"

/* Source names of the roles, written down once more. */
static const char *const source_names[PS_ROLE_COUNT] = {
    [PS_ROLE_EMBED] = "model.embed_tokens.weight",
    [PS_ROLE_FINAL_NORM] = "model.norm.weight",
    [PS_ROLE_HEAD] = "lm_head.weight",
    [PS_ROLE_ATTENTION_NORM] = "input_layernorm.weight",
    [PS_ROLE_Q] = "self_attn.q_proj.weight",
    [PS_ROLE_K] = "self_attn.k_proj.weight",
    [PS_ROLE_V] = "self_attn.v_proj.weight",
    [PS_ROLE_O] = "self_attn.o_proj.weight",
    [PS_ROLE_Q_BIAS] = "self_attn.q_proj.bias",
    [PS_ROLE_K_BIAS] = "self_attn.k_proj.bias",
    [PS_ROLE_V_BIAS] = "self_attn.v_proj.bias",
    [PS_ROLE_O_BIAS] = "self_attn.o_proj.bias",
    [PS_ROLE_Q_NORM] = "self_attn.q_norm.weight",
    [PS_ROLE_K_NORM] = "self_attn.k_norm.weight",
    [PS_ROLE_REL_POS_W] = "self_attn.linear_pos.weight",
    [PS_ROLE_REL_POS_U] = "self_attn.pos_bias_u",
    [PS_ROLE_REL_POS_V] = "self_attn.pos_bias_v",
    [PS_ROLE_MLP_NORM] = "post_attention_layernorm.weight",
    [PS_ROLE_GATE] = "mlp.gate_proj.weight",
    [PS_ROLE_UP] = "mlp.up_proj.weight",
    [PS_ROLE_DOWN] = "mlp.down_proj.weight",
    [PS_ROLE_GATE_BIAS] = "mlp.gate_proj.bias",
    [PS_ROLE_UP_BIAS] = "mlp.up_proj.bias",
    [PS_ROLE_DOWN_BIAS] = "mlp.down_proj.bias",
};

static float *source_values(const tiny_model *m, const ps_tensor_need *need)
{
    char name[80];
    if (need->layer < 0) {
        snprintf(name, sizeof name, "%s", source_names[need->role]);
    } else {
        snprintf(name, sizeof name, "model.layers.%d.%s", need->layer, source_names[need->role]);
    }
    float *values = tiny_model_values(m, name);
    ck_assert_msg(values != NULL, "the source has no %s", name);
    return values;
}

static void check_tensor(const tiny_model *m, const ps_ckpt_tensor *t, const char *file)
{
    float *wanted = source_values(m, &t->need);
    const int k = t->need.panel ? t->need.k : 1;
    const size_t size = ps_dtype_block_bytes(t->dtype);
    ck_assert_int_eq(t->dtype, t->need.panel ? m->dtype : PS_F32);
    ck_assert_uint_ne(t->offset, PS_H5_NOT_MAPPABLE);
    for (int row = 0; row < ps_panel_count(t->need.n) * PS_PANEL_LANES; row++) {
        if (!t->need.panel && row >= t->need.n) break;
        for (int c = 0; c < k; c++) {
            const size_t at =
                t->need.panel ? (size_t)(row / 16 * k + c) * 16 + (size_t)(row % 16) : (size_t)row;
            float found;
            char stored[4];
            memcpy(stored, file + t->offset + at * size, size);
            ps_dtype_widen(t->dtype, stored, 1, &found);
            // Lanes behind the last row are zero.
            const float value = row < t->need.n ? wanted[(size_t)row * (size_t)k + (size_t)c] : 0;
            if (memcmp(&found, &value, sizeof found) != 0)
                ck_abort_msg("seed %llu, role %d of layer %d: [%d,%d] is %a, wanted %a",
                             (unsigned long long)m->seed, (int)t->need.role, t->need.layer, row, c,
                             (double)found, (double)value);
        }
    }
    ps_mem_free(wanted);
}

START_TEST(every_weight_of_the_source_is_in_the_file)
{
    const tiny_model m = _i < TINY_FAMILY_COUNT ? tiny_model_default((tiny_family)_i)
                                                : tiny_model_random((uint64_t)_i);
    assert_ok(tiny_model_convert(&m, "m.h5"));
    ps_ckpt ckpt;
    size_t n;
    int n_source;
    char *file = scratch_read("m.h5", &n);
    tiny_tensor *tensors = tiny_model_tensors(&m, &n_source);
    assert_ok(ps_ckpt_open("m.h5", &ckpt));
    ck_assert_int_eq(ckpt.n_tensors, n_source);
    ck_assert_uint_eq(ckpt.file_bytes, n);
    for (int i = 0; i < ckpt.n_tensors; i++) {
        check_tensor(&m, &ckpt.tensors[i], file);
    }
    ps_ckpt_close(&ckpt);
    ps_mem_free(tensors);
    ps_mem_free(file);
}
END_TEST

START_TEST(tensors_are_found_by_role_and_layer)
{
    tiny_model m = tiny_model_default(TINY_QWEN3);
    m.tied_head = true;
    assert_ok(tiny_model_convert(&m, "m.h5"));
    ps_ckpt ckpt;
    assert_ok(ps_ckpt_open("m.h5", &ckpt));
    for (int i = 0; i < ckpt.n_tensors; i++) {
        const ps_tensor_need *need = &ckpt.tensors[i].need;
        ck_assert_ptr_eq(ps_ckpt_find(&ckpt, need->role, need->layer), &ckpt.tensors[i]);
    }
    ck_assert_ptr_null(ps_ckpt_find(&ckpt, PS_ROLE_HEAD, -1));
    ck_assert_ptr_null(ps_ckpt_find(&ckpt, PS_ROLE_Q_BIAS, 1));
    ck_assert_ptr_null(ps_ckpt_find(&ckpt, PS_ROLE_REL_POS_W, 2));
    ps_ckpt_close(&ckpt);
}
END_TEST

START_TEST(the_texts_come_back_as_they_were)
{
    tiny_model m = tiny_model_default(TINY_MISTRAL);
    m.tokenizer = true;
    assert_ok(tiny_model_convert(&m, "m.h5"));
    ps_ckpt ckpt;
    char *json = tiny_model_tokenizer();
    ps_tokenizer *tokenizer;
    ps_text packed = {0};
    assert_ok(ps_tokenizer_open(json, strlen(json), "tokenizer.json", &tokenizer));
    ps_tokenizer_pack(tokenizer, &packed);
    assert_ok(ps_ckpt_open("m.h5", &ckpt));
    ck_assert_uint_eq(ckpt.tokenizer.len, packed.len);
    ck_assert_mem_eq(ckpt.tokenizer.data, packed.data, packed.len);
    static const char origin[] =
        "{\"kind\": \"huggingface\", \"model_type\": \"mistral\", \"files\": [";
    ck_assert_int_eq(strncmp(ps_text_str(&ckpt.source), origin, sizeof origin - 1), 0);
    ck_assert_str_eq(ckpt.path, "m.h5");
    ck_assert_str_eq(ckpt.spec.family, "mistral");
    ps_ckpt_close(&ckpt);
    ps_text_release(&packed);
    ps_tokenizer_free(tokenizer);
    ps_mem_free(json);
}
END_TEST

START_TEST(equal_sources_give_equal_files)
{
    const tiny_model m = tiny_model_default(TINY_RELPOS_LLAMA);
    assert_ok(tiny_model_convert(&m, "a.h5"));
    assert_ok(tiny_model_convert(&m, "b.h5"));
    size_t n_a, n_b;
    char *a = scratch_read("a.h5", &n_a), *b = scratch_read("b.h5", &n_b);
    ck_assert_uint_eq(n_a, n_b);
    ck_assert_int_eq(memcmp(a, b, n_a), 0);
    ps_mem_free(b);
    ps_mem_free(a);
}
END_TEST

static uint64_t identity_of(const tiny_model *m)
{
    ps_ckpt ckpt;
    assert_ok(tiny_model_convert(m, "identity.h5"));
    assert_ok(ps_ckpt_open("identity.h5", &ckpt));
    const uint64_t identity = ckpt.identity;
    ps_ckpt_close(&ckpt);
    return identity;
}

START_TEST(whatever_differs_shows_in_the_identity)
{
    tiny_model m = tiny_model_default(TINY_LLAMA);
    const uint64_t plain = identity_of(&m);
    ck_assert_uint_eq(identity_of(&m), plain);
    m.seed++; // weights
    ck_assert_uint_ne(identity_of(&m), plain);
    m.seed--;
    m.context++; // spec
    ck_assert_uint_ne(identity_of(&m), plain);
    m.context--;
    m.dtype = PS_BF16; // format
    ck_assert_uint_ne(identity_of(&m), plain);
    m.dtype = PS_F32;
    m.tokenizer = true;
    ck_assert_uint_ne(identity_of(&m), plain);
}
END_TEST

/* ---- the index of the other ranks ---- */

static void pack_model(const tiny_model *m, const char *path, ps_ckpt *ckpt, ps_text *packed)
{
    assert_ok(tiny_model_convert(m, path));
    assert_ok(ps_ckpt_open(path, ckpt));
    ps_ckpt_pack(ckpt, packed);
}

START_TEST(the_packed_index_says_the_same)
{
    const tiny_model m = tiny_model_random((uint64_t)_i);
    ps_ckpt one, other;
    ps_text packed = {0}, one_spec = {0}, other_spec = {0};
    pack_model(&m, "m.h5", &one, &packed);
    assert_ok(ps_ckpt_unpack(packed.data, packed.len, "m.h5", &other));
    ps_spec_to_json(&one.spec, &one_spec);
    ps_spec_to_json(&other.spec, &other_spec);
    ck_assert_str_eq(one_spec.data, other_spec.data);
    ck_assert_uint_eq(one.identity, other.identity);
    ck_assert_uint_eq(one.file_bytes, other.file_bytes);
    ck_assert_str_eq(other.path, "m.h5");
    ck_assert_int_eq(one.n_tensors, other.n_tensors);
    for (int i = 0; i < one.n_tensors; i++) {
        const ps_ckpt_tensor *a = &one.tensors[i], *b = &other.tensors[i];
        ck_assert(a->offset == b->offset && a->hash == b->hash && a->bytes == b->bytes);
        ck_assert_ptr_eq(ps_ckpt_find(&other, a->need.role, a->need.layer), b);
    }
    ck_assert_uint_eq(other.tokenizer.len, 0);
    ps_text_release(&other_spec);
    ps_text_release(&one_spec);
    ps_text_release(&packed);
    ps_ckpt_close(&other);
    ps_ckpt_close(&one);
}
END_TEST

START_TEST(a_rank_with_another_model_finds_out)
{
    tiny_model m = tiny_model_default(TINY_LLAMA);
    ps_ckpt ckpt, other;
    ps_text packed = {0};
    pack_model(&m, "m.h5", &ckpt, &packed);
    m.seed++;
    assert_ok(tiny_model_convert(&m, "other.h5"));
    ck_assert_int_eq(ps_ckpt_unpack(packed.data, packed.len, "other.h5", &other), PS_ERR_FORMAT);
    assert_message("other.h5: another model than the one on rank 0");
    ck_assert_int_eq(ps_ckpt_unpack(packed.data, packed.len, "none.h5", &other), PS_ERR_IO);
    assert_message("none.h5: cannot open: No such file or directory");
    scratch_write_text("short.h5", "abc");
    ck_assert_int_eq(ps_ckpt_unpack(packed.data, packed.len, "short.h5", &other), PS_ERR_FORMAT);
    char message[100];
    snprintf(message, sizeof message, "short.h5: has 3 bytes here, on rank 0 it has %llu",
             (unsigned long long)ckpt.file_bytes);
    assert_message(message);
    ck_assert_ptr_null(other.path);
    ps_text_release(&packed);
    ps_ckpt_close(&ckpt);
}
END_TEST

START_TEST(an_index_that_is_cut_anywhere_is_refused)
{
    const tiny_model m = tiny_model_default(TINY_RELPOS_LLAMA);
    ps_ckpt ckpt, other;
    ps_text packed = {0};
    pack_model(&m, "m.h5", &ckpt, &packed);
    for (size_t n = 0; n < packed.len; n++) {
        char *exactly = ps_mem_copy_bytes(packed.data, n);
        if (ps_ckpt_unpack(exactly, n, "m.h5", &other) != PS_ERR_LOST)
            ck_abort_msg("cut to %zu of %zu bytes: %s", n, packed.len, ps_err_message());
        ps_mem_free(exactly);
    }
    ps_text_append_char(&packed, 'x');
    ck_assert_int_eq(ps_ckpt_unpack(packed.data, packed.len, "m.h5", &other), PS_ERR_LOST);
    assert_message("the model index from rank 0 has a wrong length");
    ps_text_release(&packed);
    ps_ckpt_close(&ckpt);
}
END_TEST

/* Lengths whose sum wraps around to the right one. */
START_TEST(an_index_whose_lengths_wrap_around_is_refused)
{
    const tiny_model m = tiny_model_default(TINY_LLAMA);
    ps_ckpt ckpt, other;
    ps_text packed = {0};
    pack_model(&m, "m.h5", &ckpt, &packed);
    uint64_t head[6];
    memcpy(head, packed.data, sizeof head);
    const uint64_t n_tensors = head[4] + 1000;
    head[5] -= 1000 * sizeof(ps_ckpt_tensor);
    head[4] = n_tensors;
    memcpy(packed.data, head, sizeof head);
    ck_assert_int_eq(ps_ckpt_unpack(packed.data, packed.len, "m.h5", &other), PS_ERR_LOST);
    assert_message("the model index from rank 0 has a wrong length");
    ps_text_release(&packed);
    ps_ckpt_close(&ckpt);
}
END_TEST

/* Which tensors there are is the spec's to say, not the table's. */
START_TEST(an_index_whose_tensors_are_not_the_specs_is_refused)
{
    const tiny_model m = tiny_model_default(TINY_LLAMA);
    ps_ckpt ckpt, other;
    ps_text packed = {0};
    pack_model(&m, "m.h5", &ckpt, &packed);
    char *const table = packed.data + 6 * sizeof(uint64_t);
    ps_ckpt_tensor tensor, wrong;
    memcpy(&tensor, table, sizeof tensor);
    wrong = tensor;
    wrong.need.role = PS_ROLE_COUNT + 1000;
    wrong.need.layer = 1 << 20;
    memcpy(table, &wrong, sizeof wrong);
    ck_assert_int_eq(ps_ckpt_unpack(packed.data, packed.len, "m.h5", &other), PS_OK);
    ck_assert_ptr_eq(ps_ckpt_find(&other, tensor.need.role, tensor.need.layer), other.tensors);
    ps_ckpt_close(&other);
    for (int field = 0; field < 3; field++) {
        wrong = tensor;
        if (field == 0) wrong.dtype = PS_DTYPE_COUNT;
        if (field == 1) wrong.bytes++;
        if (field == 2) wrong.offset = ckpt.file_bytes;
        memcpy(table, &wrong, sizeof wrong);
        ck_assert_int_eq(ps_ckpt_unpack(packed.data, packed.len, "m.h5", &other), PS_ERR_LOST);
        assert_message("the model index from rank 0 is wrong at tensor 0");
    }
    ps_text_release(&packed);
    ps_ckpt_close(&ckpt);
}
END_TEST

/* ---- writing by hand ---- */

static ps_spec small_spec(void)
{
    ps_spec spec = ps_spec_plain();
    snprintf(spec.family, sizeof spec.family, "llama");
    spec.d_model = 3;
    spec.n_heads = spec.n_kv_heads = 1;
    spec.head_dim = 2;
    spec.d_ff = 5;
    spec.vocab_size = 20;
    spec.norm_eps = 1e-5;
    spec.attention_scale = 1.0;
    spec.tied_head = true;
    ps_spec_take_layers(&spec, 1);
    spec.layers[0].rope = -1;
    return spec;
}

/* Writes all tensors of the spec, each full of ones; the matrices panel by panel. */
static void write_tensors(ps_ckpt_writer *w, const ps_spec *spec)
{
    int cursor = 0;
    ps_tensor_need need;
    while (ps_tensor_next(spec, &cursor, &need)) {
        const size_t row = need.panel ? (size_t)need.k * PS_PANEL_LANES : (size_t)need.n;
        float *ones = ps_mem_new(row, sizeof *ones);
        for (size_t i = 0; i < row; i++) {
            ones[i] = 1.0f;
        }
        assert_ok(ps_ckpt_begin(w, &need, PS_F32));
        for (int p = 0; p < (need.panel ? ps_panel_count(need.n) : 1); p++) {
            assert_ok(ps_ckpt_append(w, ones, row * sizeof *ones));
        }
        assert_ok(ps_ckpt_end(w));
        ps_mem_free(ones);
    }
}

START_TEST(a_model_without_texts_has_empty_ones)
{
    ps_spec spec = small_spec();
    ps_ckpt_writer *w;
    ps_ckpt ckpt;
    assert_ok(ps_ckpt_create("m.h5", &spec, &w));
    write_tensors(w, &spec);
    assert_ok(ps_ckpt_commit(w));
    assert_ok(ps_ckpt_open("m.h5", &ckpt));
    ck_assert_str_eq(ps_text_str(&ckpt.tokenizer), "");
    ck_assert_str_eq(ps_text_str(&ckpt.source), "{}");
    ps_ckpt_close(&ckpt);
    ps_spec_release(&spec);
}
END_TEST

START_TEST(an_abandoned_model_leaves_nothing)
{
    ps_spec spec = small_spec();
    ps_ckpt_writer *w;
    ps_tensor_need need;
    int cursor = 0;
    assert_ok(ps_ckpt_create("m.h5", &spec, &w));
    ck_assert(ps_tensor_next(&spec, &cursor, &need));
    assert_ok(ps_ckpt_begin(w, &need, PS_F16));
    ps_ckpt_abandon(w);
    ps_ckpt_abandon(NULL);
    ck_assert_int_eq(scratch_count(), 0);
    ps_spec_release(&spec);
}
END_TEST

START_TEST(a_text_that_cannot_be_written_is_an_error)
{
    ps_spec spec = small_spec();
    ps_ckpt_writer *w;
    assert_ok(ps_ckpt_create("m.h5", &spec, &w));
    assert_ok(ps_ckpt_put_source(w, "{}", 2));
    ck_assert_int_eq(ps_ckpt_put_source(w, "{}", 2), PS_ERR_IO);
    assert_mentions("m.h5: /source");
    ps_ckpt_abandon(w);
    ck_assert_int_eq(ps_ckpt_create("no/m.h5", &spec, &w), PS_ERR_IO);
    ck_assert_ptr_null(w);
    ps_spec_release(&spec);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/ckpt");
    TCase *contents = scratch_case(suite, "contents");
    tcase_add_loop_test(contents, every_weight_of_the_source_is_in_the_file, 0, 30);
    tcase_add_test(contents, tensors_are_found_by_role_and_layer);
    tcase_add_test(contents, the_texts_come_back_as_they_were);
    tcase_add_test(contents, equal_sources_give_equal_files);
    tcase_add_test(contents, whatever_differs_shows_in_the_identity);
    TCase *ranks = scratch_case(suite, "ranks");
    tcase_add_loop_test(ranks, the_packed_index_says_the_same, 0, 8);
    tcase_add_test(ranks, a_rank_with_another_model_finds_out);
    tcase_add_test(ranks, an_index_that_is_cut_anywhere_is_refused);
    tcase_add_test(ranks, an_index_whose_lengths_wrap_around_is_refused);
    tcase_add_test(ranks, an_index_whose_tensors_are_not_the_specs_is_refused);
    TCase *writing = scratch_case(suite, "writing");
    tcase_add_test(writing, a_model_without_texts_has_empty_ones);
    tcase_add_test(writing, an_abandoned_model_leaves_nothing);
    tcase_add_test(writing, a_text_that_cannot_be_written_is_an_error);
    return scratch_run(suite);
}
