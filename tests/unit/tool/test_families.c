/* What the families make of config.json: every accepted spelling, and every refusal. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "support/scratch.h"
#include "support/tiny_model.h"
#include "tool/import/families.h"

static ps_err read_config(const char *json, ps_spec *spec)
{
    ps_config config;
    const ps_family *family;
    scratch_write_text("config.json", json);
    assert_ok(ps_config_open("config.json", &config));
    const ps_err err = ps_family_read(&config, &family, spec);
    ps_config_close(&config);
    return err;
}

/* The config of a default model with the first `from` replaced; owned by the caller. */
static char *edited(tiny_family family, const char *from, const char *to)
{
    const tiny_model m = tiny_model_default(family);
    char *config = tiny_model_config(&m), *at = strstr(config, from);
    ck_assert_msg(at != NULL, "\"%s\" is not in the config", from);
    ps_text out = {0};
    ps_text_append(&out, config, (size_t)(at - config));
    ps_text_append_str(&out, to);
    ps_text_append_str(&out, at + strlen(from));
    ps_mem_free(config);
    return ps_text_take(&out);
}

static ps_spec read_edited(tiny_family family, const char *from, const char *to)
{
    char *config = edited(family, from, to);
    ps_spec spec;
    const ps_err err = read_config(config, &spec);
    ck_assert_msg(err == PS_OK, "\"%s\" for \"%s\": %s", to, from, ps_err_message());
    ps_mem_free(config);
    return spec;
}

/* ---- accepted ---- */

START_TEST(sizes_of_each_family_are_read)
{
    const tiny_model m = tiny_model_default((tiny_family)_i);
    ps_spec s = read_edited(m.family, "{", "{");
    ck_assert_str_eq(s.family, tiny_model_family_name(m.family));
    ck_assert(s.n_layers == m.layers && s.d_model == m.width && s.d_ff == m.ffn);
    ck_assert(s.n_heads == m.heads && s.n_kv_heads == m.kv_heads && s.head_dim == m.head_dim);
    ck_assert(s.vocab_size == m.vocabulary && s.context == m.context);
    ck_assert(s.tied_head == m.tied_head && s.norm_eps == TINY_NORM_EPS);
    ck_assert(s.attention_scale == 1.0 / sqrt(12.0));
    ck_assert(s.bos_id == 0 && s.n_eos == 1 && s.eos_ids[0] == 1);
    ck_assert(!s.qkv_bias && !s.o_bias && !s.mlp_bias && s.qk_norm == (m.family == TINY_QWEN3));
    ck_assert(s.n_ropes == 1 && s.ropes[0].kind == PS_ROPE_DEFAULT && s.ropes[0].dims == 12);
    ck_assert(s.ropes[0].base == TINY_ROPE_THETA);
    for (int l = 0; l < s.n_layers; l++) {
        ck_assert_int_eq(s.layers[l].window, tiny_model_window(&m, l));
        ck_assert_int_eq(s.layers[l].rope, 0);
        ck_assert_int_eq(s.layers[l].n_biases, m.family == TINY_RELPOS_LLAMA);
    }
    ps_spec_release(&s);
}
END_TEST

/* Whether two configurations come to the same spec. */
static void assert_same_spec(const char *one, const char *other)
{
    ps_spec a, b;
    ps_text a_json = {0}, b_json = {0};
    assert_ok(read_config(one, &a));
    assert_ok(read_config(other, &b));
    ps_spec_to_json(&a, &a_json);
    ps_spec_to_json(&b, &b_json);
    ck_assert_str_eq(a_json.data, b_json.data);
    ps_text_release(&b_json);
    ps_text_release(&a_json);
    ps_spec_release(&b);
    ps_spec_release(&a);
}

#define LLAMA(rest)                                                                                \
    "{\"model_type\": \"llama\", \"hidden_size\": 24, \"intermediate_size\": 20, "                 \
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 2, \"vocab_size\": 30" rest "}"

START_TEST(old_and_new_spellings_of_rope_are_the_same)
{
    static const char *const pairs[][2] = {
        {LLAMA(""), LLAMA(", \"rope_theta\": 10000.0, \"rope_scaling\": null")},
        {LLAMA(", \"rope_theta\": 5e5"), LLAMA(", \"rope_parameters\": {\"rope_theta\": 500000}")},
        {LLAMA(", \"rope_theta\": 5e5"),
         LLAMA(", \"rope_theta\": 1e4, \"rope_parameters\": {\"rope_type\": \"default\", "
               "\"rope_theta\": 500000.0}")},
        {LLAMA(", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}"),
         LLAMA(", \"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 4.0, "
               "\"rope_theta\": 10000}")},
        {LLAMA(
             ", \"rope_theta\": 5e5, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, "
             "\"low_freq_factor\": 1, \"high_freq_factor\": 4, "
             "\"original_max_position_embeddings\": 8192}"),
         LLAMA(", \"rope_parameters\": {\"rope_theta\": 500000.0, \"rope_type\": \"llama3\", "
               "\"type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, "
               "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192}")},
        {LLAMA(", \"partial_rotary_factor\": 0.5"),
         LLAMA(", \"rope_parameters\": {\"partial_rotary_factor\": 0.5}")},
        {LLAMA(", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}"),
         LLAMA(", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}, "
               "\"rope_parameters\": {\"type\": \"linear\", \"factor\": 4}")},
    };
    assert_same_spec(pairs[_i][0], pairs[_i][1]);
}
END_TEST

START_TEST(defaults_are_those_of_the_families)
{
    ps_spec s;
    assert_ok(read_config(LLAMA(""), &s));
    ck_assert(s.n_kv_heads == 2 && s.head_dim == 12 && s.context == 0);
    ck_assert(s.norm_eps == 1e-6 && !s.tied_head && s.ropes[0].base == 10000.0);
    ck_assert(s.bos_id == -1 && s.n_eos == 0);
    ps_spec_release(&s);
    assert_same_spec(LLAMA(""), LLAMA(", \"num_key_value_heads\": null, \"head_dim\": null, "
                                      "\"hidden_act\": null, \"attention_bias\": null"));
    assert_same_spec(LLAMA(""), LLAMA(", \"hidden_act\": \"swish\", \"mlp_bias\": false"));
}
END_TEST

START_TEST(biases_are_read)
{
    ps_spec s;
    assert_ok(read_config(LLAMA(", \"attention_bias\": true"), &s));
    ck_assert(s.qkv_bias && s.o_bias && !s.mlp_bias);
    ps_spec_release(&s);
    assert_ok(read_config(LLAMA(", \"mlp_bias\": true"), &s));
    ck_assert(!s.qkv_bias && !s.o_bias && s.mlp_bias);
    ps_spec_release(&s);
    s = read_edited(TINY_QWEN3, "{", "{\"attention_bias\": true, ");
    ck_assert(s.qkv_bias && s.o_bias);
    ps_spec_release(&s);
}
END_TEST

START_TEST(rope_numbers_arrive)
{
    ps_spec s;
    assert_ok(read_config(
        LLAMA(", \"rope_theta\": 5e5, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, "
              "\"low_freq_factor\": 1.5, \"high_freq_factor\": 4, "
              "\"original_max_position_embeddings\": 8192}, \"partial_rotary_factor\": 0.5"),
        &s));
    const ps_rope *r = &s.ropes[0];
    ck_assert(r->kind == PS_ROPE_LLAMA3 && r->base == 5e5 && r->factor == 8.0 && r->dims == 6);
    ck_assert(r->low_factor == 1.5 && r->high_factor == 4.0 && r->original_length == 8192.0);
    ps_spec_release(&s);
}
END_TEST

static void assert_windows(ps_spec s, int64_t first, int64_t second, int64_t third)
{
    ck_assert_int_eq(s.layers[0].window, first);
    ck_assert_int_eq(s.layers[1].window, second);
    ck_assert_int_eq(s.layers[2].window, third);
    ps_spec_release(&s);
}

START_TEST(windows_of_mistral)
{
    static const char window[] = "\"sliding_window\": 7,";
    assert_windows(read_edited(TINY_MISTRAL, window, window), 7, 7, 7);
    assert_windows(read_edited(TINY_MISTRAL, window, "\"sliding_window\": null,"), 0, 0, 0);
    assert_windows(read_edited(TINY_MISTRAL, window, ""), 4096, 4096, 4096);
    assert_windows(read_edited(TINY_MISTRAL, window,
                               "\"sliding_window\": 7, \"layer_types\": [\"full_attention\", "
                               "\"sliding_attention\", \"full_attention\"],"),
                   0, 7, 0);
}
END_TEST

START_TEST(windows_of_qwen3)
{
    static const char use[] = "\"use_sliding_window\": true,";
    static const char window[] = "\"sliding_window\": 7,";
    static const char most[] = "\"max_window_layers\": 1,";
    assert_windows(read_edited(TINY_QWEN3, use, use), 0, 7, 7);
    assert_windows(read_edited(TINY_QWEN3, use, "\"use_sliding_window\": false,"), 0, 0, 0);
    assert_windows(read_edited(TINY_QWEN3, use, ""), 0, 0, 0);
    assert_windows(read_edited(TINY_QWEN3, window, ""), 0, 4096, 4096);
    assert_windows(read_edited(TINY_QWEN3, window, "\"sliding_window\": null,"), 0, 0, 0);
    assert_windows(read_edited(TINY_QWEN3, most, "\"max_window_layers\": 0,"), 7, 7, 7);
    assert_windows(read_edited(TINY_QWEN3, most, ""), 0, 0, 0); // from layer 28 on
    assert_windows(read_edited(TINY_QWEN3, most,
                               "\"max_window_layers\": 1, \"layer_types\": "
                               "[\"sliding_attention\", \"sliding_attention\", "
                               "\"full_attention\"],"),
                   7, 7, 0);
}
END_TEST

START_TEST(windows_and_bias_of_relpos_llama)
{
    static const char windows[] = "\"layer_windows\": [7, 70, null],";
    assert_windows(read_edited(TINY_RELPOS_LLAMA, windows, windows), 7, 70, 0);
    assert_windows(read_edited(TINY_RELPOS_LLAMA, windows, ""), 0, 0, 0);
    assert_windows(read_edited(TINY_RELPOS_LLAMA, windows, "\"layer_windows\": null,"), 0, 0, 0);
    ps_spec s = read_edited(TINY_RELPOS_LLAMA, " \"rel_pos_theta\": 100,\n", "");
    ck_assert(s.layers[2].biases[0].kind == PS_BIAS_REL_POS && s.layers[2].biases[0].dim == 36);
    ck_assert(s.layers[2].biases[0].theta == 10000.0);
    ps_spec_release(&s);
    s = read_edited(TINY_RELPOS_LLAMA, " \"rel_pos_dim\": 36,\n", "");
    ck_assert(s.layers[0].biases[0].dim == 48 && s.layers[0].biases[0].theta == 100.0);
    ps_spec_release(&s);
}
END_TEST

START_TEST(eos_may_be_a_list)
{
    ps_spec s;
    assert_ok(read_config(LLAMA(", \"eos_token_id\": [2, 3, 2], \"bos_token_id\": [5]"), &s));
    ck_assert(s.n_eos == 2 && s.eos_ids[0] == 2 && s.eos_ids[1] == 3 && s.bos_id == 5);
    ps_spec_release(&s);
}
END_TEST

/* ---- refused ---- */

static const struct {
    const char *config;
    ps_err code;
    const char *message;
} refusals[] = {
    {"{}", PS_ERR_FORMAT, "config.json: key model_type is missing"},
    {"{\"model_type\": 5}", PS_ERR_FORMAT,
     "config.json: model_type is an integer, wanted a string"},
    {LLAMA(", \"hidden_act\": \"gelu\""), PS_ERR_UNSUPPORTED,
     "config.json: hidden_act gelu is not computed here"},
    {LLAMA(", \"hidden_act\": 3"), PS_ERR_FORMAT,
     "config.json: hidden_act is an integer, wanted a string"},
    {LLAMA(", \"logits_soft_cap\": 30"), PS_ERR_UNSUPPORTED,
     "config.json: key logits_soft_cap is not understood, and it may change the computation"},
    {LLAMA(", \"quantization_config\": {}"), PS_ERR_UNSUPPORTED,
     "config.json: key quantization_config is not understood, and it may change the computation"},
    {LLAMA(", \"sliding_window\": 5"), PS_ERR_UNSUPPORTED,
     "config.json: key sliding_window is not understood, and it may change the computation"},
    // sizes
    {LLAMA(", \"num_key_value_heads\": 3"), PS_ERR_FORMAT,
     "config.json: num_key_value_heads is 3, wanted 1..2"},
    {LLAMA(", \"num_key_value_heads\": 0"), PS_ERR_FORMAT,
     "config.json: num_key_value_heads is 0, wanted 1..2"},
    {LLAMA(", \"head_dim\": 2000"), PS_ERR_FORMAT, "config.json: head_dim is 2000, wanted 1..1024"},
    {LLAMA(", \"head_dim\": 7"), PS_ERR_FORMAT,
     "config.json: rope dims is 7, wanted an even number"},
    {LLAMA(", \"rms_norm_eps\": -1.0"), PS_ERR_FORMAT, "config.json: norm_eps is -1, wanted >= 0"},
    {LLAMA(", \"rms_norm_eps\": \"1e-6\""), PS_ERR_FORMAT,
     "config.json: rms_norm_eps is a string, wanted a number"},
    {LLAMA(", \"max_position_embeddings\": -5"), PS_ERR_FORMAT,
     "config.json: max_position_embeddings is -5, wanted 0..2147483647"},
    {LLAMA(", \"tie_word_embeddings\": 1"), PS_ERR_FORMAT,
     "config.json: tie_word_embeddings is an integer, wanted a boolean"},
    // tokens
    {LLAMA(", \"eos_token_id\": 30"), PS_ERR_FORMAT, "config.json: eos_ids is 30, wanted 0..29"},
    {LLAMA(", \"bos_token_id\": 30"), PS_ERR_FORMAT, "config.json: bos_id is 30, wanted -1..29"},
    {LLAMA(", \"bos_token_id\": [1, 2]"), PS_ERR_LIMIT,
     "config.json: bos_token_id has more than 1 ids"},
    // rope
    {LLAMA(", \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4}"), PS_ERR_UNSUPPORTED,
     "config.json: rope type yarn is not computed here"},
    {LLAMA(", \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 4}"), PS_ERR_UNSUPPORTED,
     "config.json: rope type dynamic is not computed here"},
    {LLAMA(", \"rope_scaling\": {\"type\": \"mrope\", \"mrope_section\": [1]}"), PS_ERR_UNSUPPORTED,
     "config.json: rope type mrope is not computed here"},
    {LLAMA(", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 4, \"attention_factor\": 2}"),
     PS_ERR_UNSUPPORTED,
     "config.json: key attention_factor of the rope parameters is not understood"},
    {LLAMA(", \"rope_parameters\": {\"full_attention\": {\"rope_theta\": 1e4}}"),
     PS_ERR_UNSUPPORTED,
     "config.json: key full_attention of the rope parameters is not understood"},
    {LLAMA(", \"rope_scaling\": {\"type\": \"linear\"}"), PS_ERR_FORMAT,
     "config.json: key factor is missing"},
    {LLAMA(", \"rope_scaling\": {\"type\": \"linear\", \"factor\": -2}"), PS_ERR_FORMAT,
     "config.json: rope factor is -2, wanted a positive number"},
    {LLAMA(", \"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, "
           "\"high_freq_factor\": 4}"),
     PS_ERR_FORMAT, "config.json: key original_max_position_embeddings is missing"},
    {LLAMA(", \"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, "
           "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 10}"),
     PS_ERR_FORMAT, "config.json: rope high_factor 4 must be above low_factor 4"},
    {LLAMA(", \"rope_scaling\": [1]"), PS_ERR_FORMAT,
     "config.json: the rope parameters are not an object"},
    {LLAMA(", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}, "
           "\"rope_parameters\": {\"type\": \"linear\", \"factor\": 8}"),
     PS_ERR_UNSUPPORTED,
     "config.json: rope_scaling and rope_parameters are both there, and differ"},
    {LLAMA(", \"rope_theta\": 0"), PS_ERR_FORMAT,
     "config.json: rope base is 0, wanted a positive number"},
    {LLAMA(", \"partial_rotary_factor\": 1.5"), PS_ERR_FORMAT,
     "config.json: partial_rotary_factor is 1.5, wanted 0..1"},
    {LLAMA(", \"partial_rotary_factor\": 0.25"), PS_ERR_FORMAT,
     "config.json: rope dims is 3, wanted an even number"},
    // windows
    {LLAMA(", \"layer_types\": [\"full_attention\"]"), PS_ERR_FORMAT,
     "config.json: layer_types does not name 2 layers"},
    {LLAMA(", \"layer_types\": \"full_attention\""), PS_ERR_FORMAT,
     "config.json: layer_types does not name 2 layers"},
    {LLAMA(", \"layer_types\": [\"full_attention\", \"chunked_attention\"]"), PS_ERR_UNSUPPORTED,
     "config.json: layer_types[1] is chunked_attention, not computed here"},
    {LLAMA(", \"layer_types\": [1, 2]"), PS_ERR_UNSUPPORTED,
     "config.json: layer_types[0] is no string, not computed here"},
    {LLAMA(", \"layer_types\": [\"full_attention\", \"sliding_attention\"]"), PS_ERR_FORMAT,
     "config.json: layer_types[1] slides, but sliding_window is not set"},
};

START_TEST(what_is_not_understood_is_refused_by_name)
{
    ps_spec spec;
    const ps_err err = read_config(refusals[_i].config, &spec);
    ck_assert_msg(err == refusals[_i].code, "%s: %s", refusals[_i].config, ps_err_message());
    assert_message(refusals[_i].message);
    ps_spec_release(&spec);
}
END_TEST

static void refuse_edited(tiny_family family, const char *from, const char *to, ps_err code,
                          const char *message)
{
    char *config = edited(family, from, to);
    ps_spec spec;
    ck_assert_int_eq(read_config(config, &spec), code);
    assert_message(message);
    ps_spec_release(&spec);
    ps_mem_free(config);
}

START_TEST(an_unknown_model_type_is_refused_with_those_that_are_known)
{
    ps_spec spec;
    ck_assert_int_eq(read_config("{\"model_type\": \"bert\"}", &spec), PS_ERR_UNSUPPORTED);
    assert_mentions("config.json: model_type bert is not one of llama mistral qwen3");
    assert_mentions(" relpos_llama");
    ps_spec_release(&spec);
}
END_TEST

START_TEST(each_missing_size_is_named)
{
    static const char *const keys[] = {"hidden_size", "intermediate_size", "num_hidden_layers",
                                       "num_attention_heads", "vocab_size"};
    char from[64], to[64], message[100];
    snprintf(from, sizeof from, "\"%s\":", keys[_i]);
    snprintf(to, sizeof to, "\"%s_\":", keys[_i]);
    snprintf(message, sizeof message, "config.json: key %s is missing", keys[_i]);
    refuse_edited(TINY_LLAMA, from, to, PS_ERR_FORMAT, message);
}
END_TEST

START_TEST(heads_of_no_width_are_refused)
{
    static const char narrow[] =
        "{\"model_type\": \"llama\", \"hidden_size\": 3, \"intermediate_size\": 20, "
        "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"vocab_size\": 30}";
    ps_spec spec;
    ck_assert_int_eq(read_config(narrow, &spec), PS_ERR_FORMAT);
    assert_message("config.json: hidden_size 3 over num_attention_heads 4 leaves no head");
    ps_spec_release(&spec);
}
END_TEST

START_TEST(sizes_out_of_range_are_refused)
{
    refuse_edited(TINY_LLAMA, "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4097",
                  PS_ERR_FORMAT, "config.json: num_hidden_layers is 4097, wanted 1..4096");
    refuse_edited(TINY_LLAMA, "\"hidden_size\": 36", "\"hidden_size\": 1048577", PS_ERR_FORMAT,
                  "config.json: hidden_size is 1048577, wanted 1..1048576");
    refuse_edited(TINY_LLAMA, "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3",
                  PS_ERR_FORMAT, "config.json: n_heads 4 is not a multiple of n_kv_heads 3");
    refuse_edited(TINY_MISTRAL, "\"sliding_window\": 7", "\"sliding_window\": 0", PS_ERR_FORMAT,
                  "config.json: sliding_window is 0, wanted 1..2147483647");
}
END_TEST

START_TEST(keys_of_other_families_are_refused)
{
    refuse_edited(TINY_MISTRAL, "{", "{\"attention_bias\": false, ", PS_ERR_UNSUPPORTED,
                  "config.json: key attention_bias is not understood, and it may change the "
                  "computation");
    refuse_edited(TINY_LLAMA, "{", "{\"rel_pos_dim\": 12, ", PS_ERR_UNSUPPORTED,
                  "config.json: key rel_pos_dim is not understood, and it may change the "
                  "computation");
}
END_TEST

START_TEST(relpos_llama_checks_its_own_keys)
{
    refuse_edited(TINY_RELPOS_LLAMA, "\"rel_pos\"", "\"alibi\"", PS_ERR_UNSUPPORTED,
                  "config.json: attention_score_bias alibi is not computed here");
    refuse_edited(TINY_RELPOS_LLAMA, " \"attention_score_bias\": \"rel_pos\",\n", "",
                  PS_ERR_UNSUPPORTED,
                  "config.json: attention_score_bias none is not computed here");
    refuse_edited(TINY_RELPOS_LLAMA, "[7, 70, null]", "[7, 70]", PS_ERR_FORMAT,
                  "config.json: layer_windows does not name 3 layers");
    refuse_edited(TINY_RELPOS_LLAMA, "[7, 70, null]", "[7, 0, null]", PS_ERR_FORMAT,
                  "config.json: layer_windows[1] is not a number of positions");
    refuse_edited(TINY_RELPOS_LLAMA, "[7, 70, null]", "[7, \"x\", null]", PS_ERR_FORMAT,
                  "config.json: layer_windows[1] is not a number of positions");
    refuse_edited(TINY_RELPOS_LLAMA, "\"rel_pos_dim\": 36", "\"rel_pos_dim\": 1", PS_ERR_FORMAT,
                  "config.json: rel_pos_dim is 1, wanted 2..1048576");
    refuse_edited(TINY_RELPOS_LLAMA, "\"rel_pos_theta\": 100", "\"rel_pos_theta\": -1",
                  PS_ERR_FORMAT, "config.json: rel_pos theta is -1, wanted a positive number");
}
END_TEST

/* ---- tensors ---- */

static const ps_family *family_of(tiny_family which, ps_spec *spec)
{
    const tiny_model m = tiny_model_default(which);
    char *text = tiny_model_config(&m);
    ps_config config;
    const ps_family *family;
    scratch_write_text("config.json", text);
    assert_ok(ps_config_open("config.json", &config));
    assert_ok(ps_family_read(&config, &family, spec));
    ps_config_close(&config);
    ps_mem_free(text);
    return family;
}

START_TEST(tensor_names_carry_their_layer)
{
    ps_spec spec;
    const ps_family *family = family_of(TINY_LLAMA, &spec);
    ps_text name = {0};
    ps_family_tensor_name(family, PS_ROLE_UP, 123, &name);
    ck_assert_str_eq(name.data, "model.layers.123.mlp.up_proj.weight");
    ps_text_clear(&name);
    ps_family_tensor_name(family, PS_ROLE_EMBED, -1, &name);
    ck_assert_str_eq(name.data, "model.embed_tokens.weight");
    ps_text_release(&name);
    ps_spec_release(&spec);
}
END_TEST

START_TEST(buffers_and_copies_of_a_tied_head_may_be_left_out)
{
    ps_spec spec;
    const ps_family *family = family_of(TINY_RELPOS_LLAMA, &spec); // tied
    ck_assert(ps_family_ignores(family, &spec, "lm_head.weight"));
    ck_assert(ps_family_ignores(family, &spec, "model.layers.3.self_attn.rotary_emb.inv_freq"));
    ck_assert(ps_family_ignores(family, &spec, "model.rotary_emb.inv_freq"));
    ck_assert(!ps_family_ignores(family, &spec, "model.layers.3.self_attn.q_proj.bias"));
    ck_assert(!ps_family_ignores(family, &spec, ".rotary_emb.inv_freq"));
    spec.tied_head = false;
    ck_assert(!ps_family_ignores(family, &spec, "lm_head.weight"));
    ps_spec_release(&spec);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/families");
    TCase *accepted = scratch_case(suite, "accepted");
    tcase_add_loop_test(accepted, sizes_of_each_family_are_read, 0, TINY_FAMILY_COUNT);
    tcase_add_loop_test(accepted, old_and_new_spellings_of_rope_are_the_same, 0, 7);
    tcase_add_test(accepted, defaults_are_those_of_the_families);
    tcase_add_test(accepted, biases_are_read);
    tcase_add_test(accepted, rope_numbers_arrive);
    tcase_add_test(accepted, windows_of_mistral);
    tcase_add_test(accepted, windows_of_qwen3);
    tcase_add_test(accepted, windows_and_bias_of_relpos_llama);
    tcase_add_test(accepted, eos_may_be_a_list);
    TCase *refused = scratch_case(suite, "refused");
    tcase_add_loop_test(refused, what_is_not_understood_is_refused_by_name, 0,
                        (int)(sizeof refusals / sizeof refusals[0]));
    tcase_add_test(refused, an_unknown_model_type_is_refused_with_those_that_are_known);
    tcase_add_loop_test(refused, each_missing_size_is_named, 0, 5);
    tcase_add_test(refused, heads_of_no_width_are_refused);
    tcase_add_test(refused, sizes_out_of_range_are_refused);
    tcase_add_test(refused, keys_of_other_families_are_refused);
    tcase_add_test(refused, relpos_llama_checks_its_own_keys);
    TCase *tensors = scratch_case(suite, "tensors");
    tcase_add_test(tensors, tensor_names_carry_their_layer);
    tcase_add_test(tensors, buffers_and_copies_of_a_tied_head_may_be_left_out);
    return scratch_run(suite);
}
