/* The spec as JSON and back, and every refusal with its text. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "model/spec.h"
#include "support/dice.h"
#include "support/scratch.h"

/* A spec that uses everything, written as the program writes it. */
static const char good[] =
    "{\n \"family\": \"llama\",\n \"n_layers\": 2,\n \"d_model\": 48,\n \"n_heads\": 4,\n"
    " \"n_kv_heads\": 2,\n \"head_dim\": 12,\n \"d_ff\": 100,\n \"vocab_size\": 300,\n"
    " \"norm\": \"layer\",\n \"norm_eps\": 1e-05,\n \"norm_bias\": true,\n"
    " \"pre_norm\": true,\n \"post_norm\": true,\n \"parallel\": true,\n"
    " \"shared_norm\": true,\n \"attention_scale\": 0.28867513459481287,\n"
    " \"softcap\": 50,\n \"qkv_clip\": 6.5,\n \"qkv_bias\": false,\n"
    " \"o_bias\": true,\n \"mlp_bias\": false,\n \"sinks\": true,\n \"qk_norm\": \"heads\",\n"
    " \"activation\": \"swiglu_oss\",\n \"swiglu_alpha\": 1.702,\n \"swiglu_limit\": 7,\n"
    " \"gated\": true,\n \"n_experts\": 8,\n \"n_experts_used\": 2,\n \"d_ff_expert\": 60,\n"
    " \"router\": \"all\",\n \"router_bias\": true,\n \"expert_bias\": false,\n"
    " \"embed_scale\": 6.928203230275509,\n \"residual_scale\": 0.25,\n"
    " \"logit_scale\": 0.0625,\n \"final_softcap\": 30,\n \"embed_norm\": true,\n"
    " \"n_positions\": 64,\n \"tied_head\": false,\n \"head_bias\": true,\n"
    " \"add_bos\": true,\n \"context\": 4096,\n \"bos_id\": 7,\n \"eos_ids\": [8, 9],\n"
    " \"ropes\": [{\"kind\": \"default\", \"dims\": 12, \"base\": 10000, \"magnitude\": 1}, "
    "{\"kind\": \"linear\", \"dims\": 6, \"base\": 500.5, \"magnitude\": 1.5, \"factor\": 4}, "
    "{\"kind\": \"llama3\", \"dims\": 12, \"base\": 500000, \"magnitude\": 1, "
    "\"factor\": 8, \"low_factor\": 1, \"high_factor\": 4, \"original_length\": 8192}],\n"
    " \"layers\": [\n"
    "  {\"window\": 64, \"rope\": 2, \"mixture\": false, \"biases\": [{\"kind\": \"alibi\", "
    "\"max_exponent\": 8, \"factor\": 0.5}, "
    "{\"kind\": \"rel_pos\", \"dim\": 48, \"theta\": 10000}]},\n"
    "  {\"window\": 0, \"rope\": -1, \"mixture\": true, \"biases\": []}\n ]\n}\n";

static ps_err read_text(const char *json, ps_spec *out)
{
    return ps_spec_from_json(json, strlen(json), "m.h5", out);
}

/* `good` with the first `from` replaced by `to`; owned by the caller. */
static char *edited(const char *from, const char *to)
{
    const char *at = strstr(good, from);
    ck_assert_msg(at != NULL, "\"%s\" is not in the spec", from);
    ps_text text = {0};
    ps_text_append(&text, good, (size_t)(at - good));
    ps_text_append_str(&text, to);
    ps_text_append_str(&text, at + strlen(from));
    return ps_text_take(&text);
}

/* What the edited spec is refused with. */
static void refuse(const char *from, const char *to, ps_err code, const char *message)
{
    char *json = edited(from, to);
    ps_spec spec;
    const ps_err err = read_text(json, &spec);
    ck_assert_msg(err == code, "\"%s\" for \"%s\" gives %s, wanted %s", to, from, ps_err_name(err),
                  ps_err_name(code));
    assert_message(message);
    ck_assert_ptr_null(spec.layers);
    ps_mem_free(json);
}

START_TEST(what_is_read_is_written_again_byte_for_byte)
{
    ps_spec spec;
    ps_text json = {0};
    assert_ok(read_text(good, &spec));
    ps_spec_to_json(&spec, &json);
    ck_assert_str_eq(ps_text_str(&json), good);
    ps_text_release(&json);
    ps_spec_release(&spec);
}
END_TEST

START_TEST(every_number_is_read)
{
    ps_spec s;
    assert_ok(read_text(good, &s));
    ck_assert_str_eq(s.family, "llama");
    ck_assert(s.n_layers == 2 && s.d_model == 48 && s.n_heads == 4 && s.n_kv_heads == 2);
    ck_assert(s.head_dim == 12 && s.d_ff == 100 && s.vocab_size == 300);
    ck_assert(s.norm == PS_NORM_LAYER && s.norm_eps == 1e-5 && s.norm_bias);
    ck_assert(s.pre_norm && s.post_norm && s.parallel && s.shared_norm && s.embed_norm);
    ck_assert(s.attention_scale == 0.28867513459481287 && s.softcap == 50.0 && s.qkv_clip == 6.5);
    ck_assert(!s.qkv_bias && s.o_bias && !s.mlp_bias && s.sinks && s.head_bias && !s.tied_head);
    ck_assert(s.qk_norm == PS_QK_NORM_HEADS && s.activation == PS_ACTIVATION_SWIGLU_OSS);
    ck_assert(s.swiglu_alpha == 1.702 && s.swiglu_limit == 7.0 && s.gated && s.add_bos);
    ck_assert(s.n_experts == 8 && s.n_experts_used == 2 && s.d_ff_expert == 60);
    ck_assert(s.router == PS_ROUTER_ALL && s.router_bias && !s.expert_bias);
    ck_assert(s.embed_scale == 6.928203230275509 && s.residual_scale == 0.25);
    ck_assert(s.logit_scale == 0.0625 && s.final_softcap == 30.0 && s.n_positions == 64);
    ck_assert(s.context == 4096 && s.bos_id == 7 && s.n_eos == 2);
    ck_assert(s.eos_ids[0] == 8 && s.eos_ids[1] == 9 && s.n_ropes == 3);
    ck_assert(s.ropes[1].kind == PS_ROPE_LINEAR && s.ropes[1].dims == 6);
    ck_assert(s.ropes[1].base == 500.5 && s.ropes[1].factor == 4.0);
    ck_assert(s.ropes[0].magnitude == 1.0 && s.ropes[1].magnitude == 1.5);
    ck_assert(s.ropes[2].kind == PS_ROPE_LLAMA3 && s.ropes[2].low_factor == 1.0);
    ck_assert(s.ropes[2].high_factor == 4.0 && s.ropes[2].original_length == 8192.0);
    ck_assert(s.layers[0].window == 64 && s.layers[0].rope == 2 && s.layers[0].n_biases == 2);
    ck_assert(s.layers[0].biases[0].kind == PS_BIAS_ALIBI);
    ck_assert(s.layers[0].biases[0].max_exponent == 8.0 && s.layers[0].biases[0].factor == 0.5);
    ck_assert(!s.layers[0].mixture && s.layers[1].mixture);
    ck_assert(s.layers[0].biases[1].kind == PS_BIAS_REL_POS && s.layers[0].biases[1].dim == 48);
    ck_assert(s.layers[1].window == 0 && s.layers[1].rope == -1 && s.layers[1].n_biases == 0);
    ps_spec_release(&s);
}
END_TEST

/* A positive double of any size, with all its bits at random. */
static double any_positive(dice *d)
{
    return ldexp(dice_real(d, 1.0, 2.0), dice_throw(d, 600) - 300);
}

/* Any kind that a file may name, with the numbers of that kind. */
static ps_bias_spec random_bias(dice *d)
{
    ps_bias_spec b = {.kind = (ps_bias_kind)dice_throw(d, PS_BIAS_CUSTOM)};
    switch (b.kind) {
    case PS_BIAS_ALIBI:
        b.max_exponent = any_positive(d);
        b.factor = any_positive(d);
        break;
    case PS_BIAS_REL_POS:
        b.dim = 2 + dice_throw(d, 1000);
        b.theta = any_positive(d);
        break;
    case PS_BIAS_T5:
        b.bidirectional = dice_throw(d, 2);
        b.n_buckets = 4 + 2 * dice_throw(d, 1000);
        b.max_distance = b.n_buckets + dice_throw(d, 1000);
        break;
    case PS_BIAS_SANDWICH:
        b.dim = 2 + dice_throw(d, 1000);
        break;
    case PS_BIAS_FIRE:
        b.width = 1 + dice_throw(d, 100);
        break;
    default:
        break;
    }
    return b;
}

static void random_visible(dice *d, ps_layer_spec *layer)
{
    layer->window = dice_throw(d, 2) ? dice_throw(d, INT32_MAX) : 0;
    if (dice_throw(d, 2)) return;
    layer->chunk = 1 + dice_throw(d, 1000);
    layer->left_chunks = dice_throw(d, 10) - 1;
    layer->look_ahead = layer->window == 0 && dice_throw(d, 2);
}

static void random_layer(dice *d, const ps_spec *s, ps_layer_spec *layer)
{
    random_visible(d, layer);
    layer->rope = dice_throw(d, s->n_ropes + 1) - 1;
    layer->mixture = s->n_experts > 0 && dice_throw(d, 2);
    for (int b = dice_throw(d, PS_BIAS_MAX + 1); b > 0; b--) {
        const ps_bias_spec bias = random_bias(d);
        bool fits = bias.kind != PS_BIAS_FOX || !layer->look_ahead;
        for (int other = 0; other < layer->n_biases; other++) {
            fits =
                fits && (layer->biases[other].kind != bias.kind || ps_spec_bias_repeats(bias.kind));
        }
        if (fits) layer->biases[layer->n_biases++] = bias;
    }
}

static void random_rope(dice *d, const ps_spec *s, ps_rope *rope)
{
    *rope = (ps_rope){.kind = (ps_rope_kind)(PS_ROPE_DEFAULT + dice_throw(d, 7)),
                      .dims = 2 * (1 + dice_throw(d, s->head_dim / 2)),
                      .base = 1.0 + ldexp(dice_real(d, 1.0, 2.0), dice_throw(d, 300) - 40),
                      .magnitude = any_positive(d)};
    const ps_rope_kind kind = rope->kind;
    if (kind == PS_ROPE_LINEAR || kind == PS_ROPE_LLAMA3 || kind == PS_ROPE_YARN)
        rope->factor = any_positive(d);
    if (kind == PS_ROPE_DYNAMIC) rope->factor = 1.0 + any_positive(d);
    if (kind == PS_ROPE_LLAMA3 || kind >= PS_ROPE_YARN) rope->original_length = any_positive(d);
    if (kind == PS_ROPE_LLAMA3) {
        rope->low_factor = any_positive(d);
        rope->high_factor = rope->low_factor * 1.25;
    }
    if (kind == PS_ROPE_YARN) {
        rope->beta_slow = any_positive(d);
        rope->beta_fast = rope->beta_slow * 1.25;
        rope->truncate = dice_throw(d, 2);
    }
    for (int t = 0; t < rope->dims / 2; t++) {
        if (kind == PS_ROPE_DIVIDED || kind == PS_ROPE_LONGROPE) rope->factors[t] = any_positive(d);
        if (kind == PS_ROPE_LONGROPE) rope->long_factors[t] = any_positive(d);
    }
}

static void random_flags(dice *d, ps_spec *s)
{
    s->norm = (ps_norm_kind)dice_throw(d, PS_NORM_KIND_COUNT);
    s->norm_bias = s->norm == PS_NORM_LAYER && dice_throw(d, 2);
    s->parallel = dice_throw(d, 2);
    s->shared_norm = s->parallel && dice_throw(d, 2);
    s->pre_norm = s->parallel || dice_throw(d, 2);
    s->post_norm = dice_throw(d, 2);
    s->qkv_bias = dice_throw(d, 2);
    s->o_bias = dice_throw(d, 2);
    s->mlp_bias = dice_throw(d, 2);
    s->sinks = dice_throw(d, 2);
    s->quiet_softmax = !s->sinks && dice_throw(d, 2);
    s->output_gate = (ps_output_gate)dice_throw(d, PS_OUTPUT_GATE_COUNT);
    s->qk_norm = (ps_qk_norm)dice_throw(d, PS_QK_NORM_COUNT);
    s->activation = (ps_activation_kind)dice_throw(d, PS_ACTIVATION_KIND_COUNT);
    s->gated = s->activation == PS_ACTIVATION_SWIGLU_OSS || dice_throw(d, 2);
    s->router = (ps_router)dice_throw(d, PS_ROUTER_COUNT);
    s->router_bias = dice_throw(d, 2);
    s->expert_bias = dice_throw(d, 2);
    s->embed_norm = dice_throw(d, 2);
    s->tied_head = dice_throw(d, 2);
    s->head_bias = dice_throw(d, 2);
}

static void random_reals(dice *d, ps_spec *s)
{
    double *const positive[] = {&s->attention_scale, &s->swiglu_alpha, &s->swiglu_limit,
                                &s->embed_scale,     &s->logit_scale,  &s->residual_scale};
    double *const or_zero[] = {&s->norm_eps, &s->softcap, &s->qkv_clip, &s->final_softcap};
    for (size_t i = 0; i < sizeof positive / sizeof positive[0]; i++) {
        *positive[i] = any_positive(d);
    }
    for (size_t i = 0; i < sizeof or_zero / sizeof or_zero[0]; i++) {
        *or_zero[i] = dice_throw(d, 4) ? any_positive(d) : 0.0;
    }
}

/* Fills what lies behind *s, padding included, with `filler` first. */
/* Flags that must fit each other are already drawn. */
static void random_encoder(dice *d, ps_spec *s)
{
    s->encoder = dice_throw(d, 2);
    s->n_outputs = s->encoder && dice_throw(d, 2) ? 1 + dice_throw(d, PS_SPEC_WIDTH_MAX) : 0;
    if (!s->encoder) return;
    s->tied_head = false;
    s->head_bias = s->head_bias && s->n_outputs > 0;
}

static void random_spec(dice *d, int filler, ps_spec *s)
{
    memset(s, filler, sizeof *s);
    snprintf(s->family, sizeof s->family, "\"f\\%d\xC3\xBC\n", dice_throw(d, 1000));
    s->head_dim = 2 * (1 + dice_throw(d, PS_SPEC_HEAD_DIM_MAX / 2));
    s->n_kv_heads = 1 + dice_throw(d, 30);
    s->n_heads = s->n_kv_heads * (1 + dice_throw(d, 30));
    s->d_model = 1 + dice_throw(d, PS_SPEC_WIDTH_MAX);
    s->d_ff = 1 + dice_throw(d, PS_SPEC_WIDTH_MAX);
    s->vocab_size = 1 + dice_throw(d, PS_SPEC_VOCAB_MAX);
    s->n_experts = dice_throw(d, 2) ? 1 + dice_throw(d, PS_SPEC_EXPERTS_MAX) : 0;
    s->n_experts_used = s->n_experts > 0 ? 1 + dice_throw(d, s->n_experts) : 0;
    s->d_ff_expert = s->n_experts > 0 ? 1 + dice_throw(d, PS_SPEC_WIDTH_MAX) : 0;
    s->n_positions = dice_throw(d, 2) ? dice_throw(d, INT32_MAX / 2) : 0;
    random_flags(d, s);
    random_reals(d, s);
    random_encoder(d, s);
    s->n_kept = dice_throw(d, 2) ? 1 + dice_throw(d, PS_SPEC_KEPT_MAX) : 0;
    s->kept_at_cache = false;
    s->context = (int64_t)(dice_bits(d) % ((UINT64_C(1) << 48) + 1));
    s->bos_id = dice_throw(d, s->vocab_size + 1) - 1;
    s->add_bos = s->bos_id >= 0 && dice_throw(d, 2);
    s->n_eos = dice_throw(d, PS_SPEC_EOS_MAX + 1);
    for (int i = 0; i < s->n_eos; i++) {
        s->eos_ids[i] = dice_throw(d, s->vocab_size);
    }
    s->n_ropes = dice_throw(d, PS_SPEC_ROPES_MAX + 1);
    for (int r = 0; r < s->n_ropes; r++) {
        random_rope(d, s, &s->ropes[r]);
    }
    ps_spec_take_layers(s, 1 + dice_throw(d, 40));
    for (int l = 0; l < s->n_layers; l++) {
        random_layer(d, s, &s->layers[l]);
    }
}

/* Fails unless the two hold the same numbers, whatever their JSON says. */
static void assert_same_numbers(const ps_spec *a, const ps_spec *b)
{
    ps_spec found = *a, wanted = *b;
    ck_assert_str_eq(found.family, wanted.family);
    ck_assert_mem_eq(found.layers, wanted.layers, (size_t)wanted.n_layers * sizeof *wanted.layers);
    memset(found.family, 0, sizeof found.family);
    memset(wanted.family, 0, sizeof wanted.family);
    found.layers = wanted.layers = NULL;
    ck_assert_mem_eq(&found, &wanted, sizeof found);
}

START_TEST(random_specs_survive_the_round_trip)
{
    for (int round = 0; round < 20; round++) {
        dice d = {.seed = (uint64_t)(_i * 1000 + round)};
        ps_spec wanted, found;
        ps_text first = {0}, second = {0};
        random_spec(&d, 0, &wanted);
        assert_ok(ps_spec_check(&wanted, "spec"));
        ps_spec_to_json(&wanted, &first);
        assert_ok(ps_spec_from_json(first.data, first.len, "spec", &found));
        ps_spec_to_json(&found, &second);
        ck_assert_str_eq(first.data, second.data);
        assert_same_numbers(&found, &wanted);
        ps_text_release(&second);
        ps_text_release(&first);
        ps_spec_release(&found);
        ps_spec_release(&wanted);
    }
}
END_TEST

START_TEST(equal_specs_give_equal_bytes)
{
    dice a = {.seed = (uint64_t)_i}, b = a;
    ps_spec one, other;
    ps_text one_json = {0}, other_json = {0};
    random_spec(&a, 0, &one);
    random_spec(&b, 0xA5, &other);
    ps_spec_to_json(&one, &one_json);
    ps_spec_to_json(&other, &other_json);
    ck_assert_str_eq(one_json.data, other_json.data);
    ps_text_release(&other_json);
    ps_text_release(&one_json);
    ps_spec_release(&other);
    ps_spec_release(&one);
}
END_TEST

/* ---- refusals ---- */

START_TEST(unknown_keys_are_refused_everywhere)
{
    refuse("\"d_ff\"", "\"sparsity\": 30, \"d_ff\"", PS_ERR_FORMAT,
           "m.h5: unknown key sparsity (made by a newer version?)");
    refuse("\"window\": 64", "\"window\": 64, \"sinks\": 4", PS_ERR_FORMAT,
           "m.h5: unknown key sinks of a layer (made by a newer version?)");
    refuse("\"factor\": 4", "\"factor\": 4, \"beta\": 1", PS_ERR_FORMAT,
           "m.h5: unknown key beta of a rope (made by a newer version?)");
    refuse("\"theta\": 10000}", "\"theta\": 10000, \"clamp\": 1}", PS_ERR_FORMAT,
           "m.h5: unknown key clamp of a bias (made by a newer version?)");
}
END_TEST

START_TEST(keys_of_another_kind_are_refused)
{
    refuse("\"magnitude\": 1}", "\"magnitude\": 1, \"factor\": 4}", PS_ERR_FORMAT,
           "m.h5: unknown key factor of a rope (made by a newer version?)");
    refuse("\"factor\": 4}", "\"factor\": 4, \"low_factor\": 1}", PS_ERR_FORMAT,
           "m.h5: unknown key low_factor of a rope (made by a newer version?)");
    refuse("\"factor\": 0.5}", "\"factor\": 0.5, \"dim\": 4}", PS_ERR_FORMAT,
           "m.h5: unknown key dim of a bias (made by a newer version?)");
}
END_TEST

/* Every key of the root. */
static const char *const root_keys[] = {
    "family",          "n_layers",      "d_model",     "n_heads",        "n_kv_heads",
    "head_dim",        "d_ff",          "vocab_size",  "norm",           "norm_eps",
    "norm_bias",       "pre_norm",      "post_norm",   "parallel",       "shared_norm",
    "attention_scale", "softcap",       "qkv_clip",    "qkv_bias",       "o_bias",
    "mlp_bias",        "sinks",         "qk_norm",     "activation",     "swiglu_alpha",
    "swiglu_limit",    "gated",         "n_experts",   "n_experts_used", "d_ff_expert",
    "router",          "router_bias",   "expert_bias", "embed_scale",    "residual_scale",
    "logit_scale",     "final_softcap", "embed_norm",  "n_positions",    "tied_head",
    "head_bias",       "add_bos",       "context",     "bos_id",         "eos_ids",
    "ropes",           "layers"};

enum { N_ROOT_KEYS = sizeof root_keys / sizeof root_keys[0] };

/* A key whose value is null counts as missing. */
START_TEST(a_missing_key_is_named)
{
    char with_quotes[64], message[64];
    snprintf(with_quotes, sizeof with_quotes, "\"%s\":", root_keys[_i]);
    snprintf(message, sizeof message, "m.h5: key %s is missing", root_keys[_i]);
    const char *at = strstr(good, with_quotes), *value = at + strlen(with_quotes);
    ps_text json = {0};
    ps_text_append(&json, good, (size_t)(value - good));
    ps_text_append_str(&json, " null");
    // The value ends at the line's end, that of the last key with the document.
    const bool last = strcmp(root_keys[_i], "layers") == 0;
    ps_text_append_str(&json, last ? "}" : strchr(value, '\n') - 1);
    ps_spec spec;
    ck_assert_int_eq(read_text(json.data, &spec), PS_ERR_FORMAT);
    assert_message(message);
    ps_text_release(&json);
}
END_TEST

#define ALIBI "{\"kind\": \"alibi\", \"max_exponent\": 8, \"factor\": 0.5}"

static const struct {
    const char *from, *to;
    ps_err code;
    const char *message;
} refusals[] = {
    // ranges of the whole model
    {"\"n_layers\": 2", "\"n_layers\": 3", PS_ERR_FORMAT,
     "m.h5: 2 eos_ids, 3 ropes, 2 layers for n_layers 3"},
    {"\"n_layers\": 2", "\"n_layers\": -2", PS_ERR_FORMAT,
     "m.h5: 2 eos_ids, 3 ropes, 2 layers for n_layers -2"},
    {"\"n_layers\": 2", "\"n_layers\": 4294967298", PS_ERR_FORMAT,
     "m.h5: n_layers is 4294967298, wanted -2147483648..2147483647"},
    {"\"d_model\": 48", "\"d_model\": 0", PS_ERR_FORMAT, "m.h5: d_model is 0, wanted 1..1048576"},
    {"\"d_model\": 48", "\"d_model\": 1048577", PS_ERR_FORMAT,
     "m.h5: d_model is 1048577, wanted 1..1048576"},
    {"\"d_model\": 48", "\"d_model\": \"48\"", PS_ERR_FORMAT,
     "m.h5: d_model is a string, wanted an integer"},
    {"\"d_ff\": 100", "\"d_ff\": -1", PS_ERR_FORMAT, "m.h5: d_ff is -1, wanted 1..1048576"},
    {"\"d_ff\": 100", "\"d_ff\": 1.5", PS_ERR_FORMAT, "m.h5: d_ff is a number, wanted an integer"},
    {"\"head_dim\": 12", "\"head_dim\": 1025", PS_ERR_FORMAT,
     "m.h5: head_dim is 1025, wanted 1..1024"},
    {"\"head_dim\": 12", "\"head_dim\": 0", PS_ERR_FORMAT, "m.h5: head_dim is 0, wanted 1..1024"},
    {"\"n_heads\": 4", "\"n_heads\": 87382", PS_ERR_FORMAT,
     "m.h5: n_heads is 87382, wanted 1..87381"},
    {"\"n_heads\": 4", "\"n_heads\": 5", PS_ERR_FORMAT,
     "m.h5: n_heads 5 is not a multiple of n_kv_heads 2"},
    {"\"n_kv_heads\": 2", "\"n_kv_heads\": 5", PS_ERR_FORMAT, "m.h5: n_kv_heads is 5, wanted 1..4"},
    {"\"n_kv_heads\": 2", "\"n_kv_heads\": 0", PS_ERR_FORMAT, "m.h5: n_kv_heads is 0, wanted 1..4"},
    {"\"vocab_size\": 300", "\"vocab_size\": 16777217", PS_ERR_FORMAT,
     "m.h5: vocab_size is 16777217, wanted 1..16777216"},
    {"\"norm_eps\": 1e-05", "\"norm_eps\": -1e-05", PS_ERR_FORMAT,
     "m.h5: norm_eps is -1e-05, wanted >= 0"},
    {"\"attention_scale\": 0.28867513459481287", "\"attention_scale\": 0", PS_ERR_FORMAT,
     "m.h5: attention_scale is 0, wanted a positive number"},
    {"\"o_bias\": true", "\"o_bias\": 1", PS_ERR_FORMAT,
     "m.h5: o_bias is an integer, wanted a boolean"},
    {"\"context\": 4096", "\"context\": -1", PS_ERR_FORMAT,
     "m.h5: context is -1, wanted an integer 0..2^48"},
    {"\"context\": 4096", "\"context\": 1.5", PS_ERR_FORMAT,
     "m.h5: context is 1.5, wanted an integer 0..2^48"},
    {"\"context\": 4096", "\"context\": 1e15", PS_ERR_FORMAT,
     "m.h5: context is 1e+15, wanted an integer 0..2^48"},
    {"\"llama\"", "\"a_name_of_more_than_31_characters\"", PS_ERR_FORMAT,
     "m.h5: family has more than 31 bytes"},
    // the block
    {"\"norm\": \"layer\"", "\"norm\": \"batch\"", PS_ERR_FORMAT, "m.h5: unknown norm batch"},
    {"\"qk_norm\": \"heads\"", "\"qk_norm\": \"both\"", PS_ERR_FORMAT,
     "m.h5: unknown qk_norm both"},
    {"\"qk_norm\": \"heads\"", "\"qk_norm\": true", PS_ERR_FORMAT,
     "m.h5: qk_norm is a boolean, wanted a string"},
    {"\"activation\": \"swiglu_oss\"", "\"activation\": \"mish\"", PS_ERR_FORMAT,
     "m.h5: unknown activation mish"},
    {"\"router\": \"all\"", "\"router\": \"any\"", PS_ERR_FORMAT, "m.h5: unknown router any"},
    {"\"norm\": \"layer\"", "\"norm\": \"rms\"", PS_ERR_FORMAT,
     "m.h5: norm_bias is true, but rms norms have none"},
    {"\"pre_norm\": true", "\"pre_norm\": false", PS_ERR_FORMAT,
     "m.h5: parallel needs pre_norm, shared_norm needs parallel"},
    {"\"parallel\": true", "\"parallel\": false", PS_ERR_FORMAT,
     "m.h5: parallel needs pre_norm, shared_norm needs parallel"},
    {"\"gated\": true", "\"gated\": false", PS_ERR_FORMAT,
     "m.h5: activation swiglu_oss is gated, gated is false"},
    {"\"swiglu_alpha\": 1.702", "\"swiglu_alpha\": 0", PS_ERR_FORMAT,
     "m.h5: swiglu_alpha is 0, wanted a positive number"},
    {"\"swiglu_limit\": 7", "\"swiglu_limit\": -7", PS_ERR_FORMAT,
     "m.h5: swiglu_limit is -7, wanted a positive number"},
    {"\"softcap\": 50", "\"softcap\": -50", PS_ERR_FORMAT, "m.h5: softcap is -50, wanted >= 0"},
    {"\"qkv_clip\": 6.5", "\"qkv_clip\": -6.5", PS_ERR_FORMAT,
     "m.h5: qkv_clip is -6.5, wanted >= 0"},
    {"\"final_softcap\": 30", "\"final_softcap\": -1", PS_ERR_FORMAT,
     "m.h5: final_softcap is -1, wanted >= 0"},
    {"\"embed_scale\": 6.928203230275509", "\"embed_scale\": 0", PS_ERR_FORMAT,
     "m.h5: embed_scale is 0, wanted a positive number"},
    {"\"residual_scale\": 0.25", "\"residual_scale\": 0", PS_ERR_FORMAT,
     "m.h5: residual_scale is 0, wanted a positive number"},
    {"\"logit_scale\": 0.0625", "\"logit_scale\": -1", PS_ERR_FORMAT,
     "m.h5: logit_scale is -1, wanted a positive number"},
    {"\"context\": 4096", "\"n_outputs\": 3, \"context\": 4096", PS_ERR_FORMAT,
     "m.h5: n_outputs is 3, wanted 0..0"},
    {"\"context\": 4096", "\"encoder\": true, \"n_outputs\": 1048577, \"context\": 4096",
     PS_ERR_FORMAT, "m.h5: n_outputs is 1048577, wanted 0..1048576"},
    {"\"context\": 4096", "\"encoder\": 1, \"context\": 4096", PS_ERR_FORMAT,
     "m.h5: encoder is an integer, wanted a boolean"},
    {"\"context\": 4096", "\"encoder\": true, \"context\": 4096", PS_ERR_FORMAT,
     "m.h5: an encoder's head has weights of its own, and a bias with them"},
    {"\"n_positions\": 64", "\"n_positions\": -1", PS_ERR_FORMAT,
     "m.h5: n_positions is -1, wanted 0..1073741823"},
    {"\"n_positions\": 64", "\"n_positions\": 1073741824", PS_ERR_FORMAT,
     "m.h5: n_positions is 1073741824, wanted 0..1073741823"},
    // experts
    {"\"n_experts\": 8", "\"n_experts\": 513", PS_ERR_FORMAT,
     "m.h5: n_experts is 513, wanted 0..512"},
    {"\"n_experts\": 8", "\"n_experts\": -1", PS_ERR_FORMAT,
     "m.h5: n_experts is -1, wanted 0..512"},
    {"\"n_experts\": 8", "\"n_experts\": 0", PS_ERR_FORMAT,
     "m.h5: a layer has a mixture, but n_experts is 0"},
    {"\"n_experts_used\": 2", "\"n_experts_used\": 9", PS_ERR_FORMAT,
     "m.h5: n_experts_used is 9, wanted 1..8"},
    {"\"n_experts_used\": 2", "\"n_experts_used\": 0", PS_ERR_FORMAT,
     "m.h5: n_experts_used is 0, wanted 1..8"},
    {"\"d_ff_expert\": 60", "\"d_ff_expert\": 0", PS_ERR_FORMAT,
     "m.h5: d_ff_expert is 0, wanted 1..1048576"},
    // tokens
    {"\"bos_id\": 7", "\"bos_id\": 300", PS_ERR_FORMAT, "m.h5: bos_id is 300, wanted -1..299"},
    {"\"bos_id\": 7", "\"bos_id\": -2", PS_ERR_FORMAT, "m.h5: bos_id is -2, wanted -1..2147483647"},
    {"\"bos_id\": 7", "\"bos_id\": -1", PS_ERR_FORMAT,
     "m.h5: add_bos is true, but there is no bos_id"},
    {"[8, 9]", "[8, 300]", PS_ERR_FORMAT, "m.h5: eos_ids is 300, wanted 0..299"},
    {"[8, 9]", "[8, -9]", PS_ERR_FORMAT, "m.h5: eos_ids[1] is not a token id"},
    {"[8, 9]", "[8, \"9\"]", PS_ERR_FORMAT, "m.h5: eos_ids[1] is not a token id"},
    {"[8, 9]", "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]", PS_ERR_FORMAT,
     "m.h5: 17 eos_ids, 3 ropes, 2 layers for n_layers 2"},
    // ropes
    {"\"dims\": 12", "\"dims\": 14", PS_ERR_FORMAT, "m.h5: rope dims is 14, wanted 2..12"},
    {"\"dims\": 12", "\"dims\": 11", PS_ERR_FORMAT, "m.h5: rope dims is 11, wanted an even number"},
    {"\"dims\": 12", "\"dims\": 0", PS_ERR_FORMAT, "m.h5: rope dims is 0, wanted 2..12"},
    {"\"base\": 10000", "\"base\": -1", PS_ERR_FORMAT,
     "m.h5: rope base is -1, wanted a positive number"},
    {"\"factor\": 4", "\"factor\": 0", PS_ERR_FORMAT,
     "m.h5: rope factor is 0, wanted a positive number"},
    {", \"factor\": 4", "", PS_ERR_FORMAT, "m.h5: key factor is missing"},
    {"\"low_factor\": 1", "\"low_factor\": 0", PS_ERR_FORMAT,
     "m.h5: rope low_factor is 0, wanted a positive number"},
    {"\"high_factor\": 4", "\"high_factor\": 1", PS_ERR_FORMAT,
     "m.h5: rope high_factor 1 must be above low_factor 1"},
    {"\"original_length\": 8192", "\"original_length\": -8192", PS_ERR_FORMAT,
     "m.h5: rope original_length is -8192, wanted a positive number"},
    {"\"default\"", "\"none\"", PS_ERR_FORMAT, "m.h5: unknown rope kind none"},
    {"\"default\"", "\"xpos\"", PS_ERR_FORMAT, "m.h5: unknown rope kind xpos"},
    {"{\"kind\": \"default\", ", "{", PS_ERR_FORMAT, "m.h5: key kind is missing"},
    {"[{\"kind\": \"default\"", "[7, {\"kind\": \"default\"", PS_ERR_FORMAT,
     "m.h5: key kind is missing"},
    {"\"magnitude\": 1.5", "\"magnitude\": 0", PS_ERR_FORMAT,
     "m.h5: rope magnitude is 0, wanted a positive number"},
    {"\"magnitude\": 1.5, ", "", PS_ERR_FORMAT, "m.h5: key magnitude is missing"},
    // layers
    {"\"window\": 64", "\"window\": -1", PS_ERR_FORMAT, "m.h5: window is -1, wanted 0..2147483647"},
    {"\"rope\": 2", "\"rope\": 3", PS_ERR_FORMAT, "m.h5: rope of a layer is 3, wanted -1..2"},
    {"\"rope\": 2", "\"rope\": 4", PS_ERR_FORMAT, "m.h5: rope is 4, wanted -1..3"},
    {"{\"window\": 0, \"rope\": -1, \"mixture\": true, \"biases\": []}", "[]", PS_ERR_FORMAT,
     "m.h5: key mixture is missing"},
    {"\"biases\": []", "\"biases\": [0, 0, 0, 0, 0]", PS_ERR_FORMAT,
     "m.h5: a layer has 5 biases, wanted at most 4"},
    {"\"biases\": []", "\"biases\": {}", PS_ERR_FORMAT,
     "m.h5: biases is an object, wanted an array"},
    {"\"alibi\"", "\"kerple\"", PS_ERR_FORMAT, "m.h5: unknown bias kind kerple"},
    {"{\"kind\": \"alibi\", \"max_exponent\": 8, \"factor\": 0.5}", "{\"kind\": \"custom\"}",
     PS_ERR_UNSUPPORTED, "m.h5: bias custom cannot come from a file"},
    {"\"max_exponent\": 8", "\"max_exponent\": 0", PS_ERR_FORMAT,
     "m.h5: alibi max_exponent is 0, wanted a positive number"},
    {"\"factor\": 0.5}", "\"factor\": 0}", PS_ERR_FORMAT,
     "m.h5: alibi factor is 0, wanted a positive number"},
    {"\"mixture\": true", "\"mixture\": 1", PS_ERR_FORMAT,
     "m.h5: mixture is an integer, wanted a boolean"},
    {"\"dim\": 48", "\"dim\": 1", PS_ERR_FORMAT, "m.h5: rel_pos dim is 1, wanted 2..1048576"},
    {"\"theta\": 10000", "\"theta\": 0", PS_ERR_FORMAT,
     "m.h5: rel_pos theta is 0, wanted a positive number"},
    // One set of tensors cannot serve two of them: the smaller dim would size the scratch memory.
    {"{\"kind\": \"alibi\", \"max_exponent\": 8, \"factor\": 0.5}",
     "{\"kind\": \"rel_pos\", \"dim\": 2, \"theta\": 10000}", PS_ERR_FORMAT,
     "m.h5: a layer has two rel_pos biases, wanted one at most"},
    {ALIBI, "{\"kind\": \"kerple_log\"}, {\"kind\": \"kerple_log\"}", PS_ERR_FORMAT,
     "m.h5: a layer has two kerple_log biases, wanted one at most"},
    {ALIBI, "{\"kind\": \"t5\", \"n_buckets\": 1, \"max_distance\": 128}", PS_ERR_FORMAT,
     "m.h5: t5 n_buckets is 1, wanted 2..65536"},
    {ALIBI, "{\"kind\": \"t5\", \"n_buckets\": 32, \"max_distance\": 16}", PS_ERR_FORMAT,
     "m.h5: t5 max_distance is 16, wanted 17..2147483647"},
    {ALIBI, "{\"kind\": \"t5\", \"n_buckets\": 7, \"max_distance\": 16, \"bidirectional\": true}",
     PS_ERR_FORMAT, "m.h5: t5 n_buckets is 7, wanted an even number for both directions"},
    {ALIBI, "{\"kind\": \"t5\", \"n_buckets\": 8, \"max_distance\": 16, \"bidirectional\": 1}",
     PS_ERR_FORMAT, "m.h5: bidirectional is an integer, wanted a boolean"},
    {ALIBI, "{\"kind\": \"sandwich\"}", PS_ERR_FORMAT,
     "m.h5: sandwich dim is 0, wanted 2..1048576"},
    {ALIBI, "{\"kind\": \"fire\", \"width\": 0}", PS_ERR_FORMAT,
     "m.h5: fire width is 0, wanted 1..4096"},
    {ALIBI, "{\"kind\": \"custom\"}", PS_ERR_UNSUPPORTED,
     "m.h5: bias custom cannot come from a file"},
    {"\"window\": 64, \"rope\": 2, \"mixture\": false, \"biases\": [",
     "\"window\": 0, \"chunk\": 8, \"look_ahead\": true, \"rope\": 2, \"mixture\": false, "
     "\"biases\": [{\"kind\": \"fox\"}, ",
     PS_ERR_UNSUPPORTED,
     "m.h5: fox biases sum over the past, found one in a layer with look_ahead"},
    {"\"add_bos\": true", "\"add_bos\": true, \"quiet_softmax\": true", PS_ERR_FORMAT,
     "m.h5: sinks and quiet_softmax are both true, wanted one of them"},
    {"\"add_bos\": true", "\"add_bos\": true, \"output_gate\": \"rows\"", PS_ERR_FORMAT,
     "m.h5: unknown output_gate rows"},
};

START_TEST(what_is_out_of_range_is_refused_with_what_was_wanted)
{
    refuse(refusals[_i].from, refusals[_i].to, refusals[_i].code, refusals[_i].message);
}
END_TEST

/* The first rope of `good`, and others in its place. */
static const char plain_rope[] =
    "{\"kind\": \"default\", \"dims\": 12, \"base\": 10000, \"magnitude\": 1}";

#define ROPE(kind, rest)                                                                           \
    "{\"kind\": \"" kind "\", \"dims\": 4, \"base\": 10000, \"magnitude\": 1.25" rest "}"

static const char *const good_ropes[] = {
    ROPE("divided", ", \"factors\": [1, 1.5]"),
    ROPE("yarn", ", \"factor\": 32, \"original_length\": 4096, \"beta_fast\": 32, "
                 "\"beta_slow\": 1, \"truncate\": false"),
    ROPE("dynamic", ", \"factor\": 2, \"original_length\": 4096"),
    ROPE("longrope", ", \"original_length\": 4096, \"factors\": [1, 1.5], "
                     "\"long_factors\": [2, 2.5]"),
};

START_TEST(each_kind_of_rope_is_written_as_it_was_read)
{
    char *json = edited(plain_rope, good_ropes[_i]);
    ps_spec spec;
    ps_text again = {0};
    assert_ok(read_text(json, &spec));
    ck_assert_int_eq(spec.ropes[0].kind, PS_ROPE_DIVIDED + _i);
    ck_assert(spec.ropes[0].magnitude == 1.25);
    ps_spec_to_json(&spec, &again);
    ck_assert_str_eq(ps_text_str(&again), json);
    ps_text_release(&again);
    ps_spec_release(&spec);
    ps_mem_free(json);
}
END_TEST

static const struct {
    const char *rope, *message;
} refused_ropes[] = {
    {ROPE("divided", ", \"factors\": [1]"), "m.h5: factors has 1 numbers, wanted 2"},
    {ROPE("divided", ", \"factors\": [1, 2, 3]"), "m.h5: factors has 3 numbers, wanted 2"},
    {ROPE("divided", ", \"factors\": [1, \"2\"]"), "m.h5: factors[1] is not a number"},
    {ROPE("divided", ", \"factors\": 1"), "m.h5: factors is an integer, wanted an array"},
    {ROPE("divided", ", \"factors\": [1, 0]"), "m.h5: rope factors is 0, wanted a positive number"},
    {ROPE("divided", ""), "m.h5: key factors is missing"},
    {ROPE("longrope", ", \"original_length\": 4096, \"factors\": [1, 1.5], "
                      "\"long_factors\": [2, -2.5]"),
     "m.h5: rope long_factors is -2.5, wanted a positive number"},
    {ROPE("longrope", ", \"original_length\": 0, \"factors\": [1, 1.5], "
                      "\"long_factors\": [2, 2.5]"),
     "m.h5: rope original_length is 0, wanted a positive number"},
    {ROPE("dynamic", ", \"factor\": 0.5, \"original_length\": 4096"),
     "m.h5: rope factor is 0.5, wanted 1 or more"},
    {ROPE("yarn", ", \"factor\": 32, \"original_length\": 4096, \"beta_fast\": 1, "
                  "\"beta_slow\": 1, \"truncate\": false"),
     "m.h5: rope beta_fast 1 must be above beta_slow 1"},
    {ROPE("yarn", ", \"factor\": 32, \"original_length\": 4096, \"beta_fast\": 32, "
                  "\"beta_slow\": 0, \"truncate\": false"),
     "m.h5: rope beta_slow is 0, wanted a positive number"},
    {ROPE("yarn", ", \"factor\": 32, \"original_length\": 4096, \"beta_fast\": 32, "
                  "\"beta_slow\": 1, \"truncate\": 0"),
     "m.h5: truncate is an integer, wanted a boolean"},
    {"{\"kind\": \"yarn\", \"dims\": 4, \"base\": 1, \"magnitude\": 1, \"factor\": 32, "
     "\"original_length\": 4096, \"beta_fast\": 32, \"beta_slow\": 1, \"truncate\": false}",
     "m.h5: rope base 1 must be above its least value 1"},
    {ROPE("dynamic", ", \"factor\": 2, \"original_length\": 4096, \"truncate\": false"),
     "m.h5: unknown key truncate of a rope (made by a newer version?)"},
};

START_TEST(ropes_out_of_range_are_refused)
{
    refuse(plain_rope, refused_ropes[_i].rope, PS_ERR_FORMAT, refused_ropes[_i].message);
}
END_TEST

START_TEST(what_is_no_object_is_refused)
{
    ps_spec spec;
    ck_assert_int_eq(read_text("[]", &spec), PS_ERR_FORMAT);
    assert_message("m.h5: not a JSON object");
    ck_assert_int_eq(read_text("", &spec), PS_ERR_FORMAT);
    assert_mentions("m.h5: not valid JSON: line 1, column 0");
    ck_assert_int_eq(ps_spec_from_json(NULL, 0, "m.h5", &spec), PS_ERR_FORMAT);
    ck_assert_int_eq(read_text("{\"family\": \"a\", \"family\": \"b\"}", &spec), PS_ERR_FORMAT);
    assert_mentions("duplicate object key");
}
END_TEST

START_TEST(a_spec_that_is_cut_anywhere_is_refused)
{
    for (size_t n = 0; n + 2 < sizeof good; n++) {
        ps_spec spec;
        const ps_err err = ps_spec_from_json(good, n, "m.h5", &spec);
        if (err != PS_ERR_FORMAT || strncmp(ps_err_message(), "m.h5: ", 6) != 0)
            ck_abort_msg("cut to %zu bytes: %s", n, ps_err_message());
    }
}
END_TEST

/* Whatever is accepted is in range: a second check cannot fail. */
START_TEST(replaced_bytes_are_refused_or_in_range)
{
    static const char likely[] = "0123456789-.eE{}[]\",: xn";
    dice d = {.seed = (uint64_t)_i};
    char *json = ps_mem_copy_text(good);
    for (size_t i = 0; i + 1 < sizeof good; i++) {
        const char kept = json[i];
        json[i] = likely[dice_throw(&d, (int)sizeof likely - 1)];
        ps_spec spec;
        if (read_text(json, &spec) == PS_OK) {
            if (ps_spec_check(&spec, "again") != PS_OK) ck_abort_msg("%s", ps_err_message());
            ps_spec_release(&spec);
        }
        json[i] = kept;
    }
    ps_mem_free(json);
}
END_TEST

/* ---- what a spec tells ---- */

START_TEST(a_model_is_endless_when_every_layer_has_a_window)
{
    ps_spec spec;
    assert_ok(read_text(good, &spec));
    spec.n_positions = 0;
    ck_assert(!ps_spec_is_endless(&spec));
    spec.layers[1].window = 1;
    ck_assert(ps_spec_is_endless(&spec));
    spec.n_positions = 64; // learned positions end
    ck_assert(!ps_spec_is_endless(&spec));
    ps_spec_release(&spec);
}
END_TEST

START_TEST(a_model_has_a_mixture_when_any_layer_has_one)
{
    ps_spec spec;
    assert_ok(read_text(good, &spec));
    ck_assert(ps_spec_has_mixture(&spec));
    spec.layers[1].mixture = false;
    ck_assert(!ps_spec_has_mixture(&spec));
    ps_spec_release(&spec);
}
END_TEST

START_TEST(providers_needs_add_up_over_a_layer)
{
    ps_spec spec;
    assert_ok(read_text(good, &spec));
    ck_assert_int_eq(ps_spec_layer_features(&spec, 0), 4 * 12); // rel_pos: q + v of each head
    ck_assert_int_eq(ps_spec_layer_numbers(&spec, 0), 4);       // rel_pos: <u, k> for each head
    ck_assert_int_eq(ps_spec_layer_features(&spec, 1), 0);
    ck_assert_int_eq(ps_spec_layer_numbers(&spec, 1), 0);
    ps_spec_release(&spec);
}
END_TEST

START_TEST(only_the_listed_tokens_are_eos)
{
    ps_spec spec;
    assert_ok(read_text(good, &spec));
    ck_assert(ps_spec_is_eos(&spec, 8) && ps_spec_is_eos(&spec, 9));
    ck_assert(!ps_spec_is_eos(&spec, 7) && !ps_spec_is_eos(&spec, 0) && !ps_spec_is_eos(&spec, -1));
    spec.n_eos = 0;
    ck_assert(!ps_spec_is_eos(&spec, 8));
    ps_spec_release(&spec);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/spec");
    TCase *json = scratch_case(suite, "json");
    tcase_add_test(json, what_is_read_is_written_again_byte_for_byte);
    tcase_add_test(json, every_number_is_read);
    tcase_add_loop_test(json, random_specs_survive_the_round_trip, 0, 10);
    tcase_add_loop_test(json, equal_specs_give_equal_bytes, 0, 10);
    TCase *refused = scratch_case(suite, "refused");
    tcase_add_test(refused, unknown_keys_are_refused_everywhere);
    tcase_add_test(refused, keys_of_another_kind_are_refused);
    tcase_add_loop_test(refused, a_missing_key_is_named, 0, N_ROOT_KEYS);
    tcase_add_loop_test(refused, what_is_out_of_range_is_refused_with_what_was_wanted, 0,
                        (int)(sizeof refusals / sizeof refusals[0]));
    tcase_add_loop_test(json, each_kind_of_rope_is_written_as_it_was_read, 0, 4);
    tcase_add_loop_test(refused, ropes_out_of_range_are_refused, 0,
                        (int)(sizeof refused_ropes / sizeof refused_ropes[0]));
    tcase_add_test(refused, what_is_no_object_is_refused);
    tcase_add_test(refused, a_spec_that_is_cut_anywhere_is_refused);
    tcase_add_loop_test(refused, replaced_bytes_are_refused_or_in_range, 0, 10);
    TCase *tells = scratch_case(suite, "tells");
    tcase_add_test(tells, a_model_is_endless_when_every_layer_has_a_window);
    tcase_add_test(tells, a_model_has_a_mixture_when_any_layer_has_one);
    tcase_add_test(tells, providers_needs_add_up_over_a_layer);
    tcase_add_test(tells, only_the_listed_tokens_are_eos);
    return scratch_run(suite);
}
