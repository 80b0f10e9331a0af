/* A small random model for tests of the program.
 *
 *   tiny_model [options] OUT        OUT.h5: a model file; any other name: a Hugging Face directory
 *
 * The same options give the same bytes. See support/tiny_model.h. */
#include "support/tiny_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/opt.h"
#include "model/spec.h"

typedef struct options {
    tiny_model model;
    const char *windows;
    bool help;
} options;

static const ps_opt_choice families[] = {{"llama", TINY_LLAMA},
                                         {"mistral", TINY_MISTRAL},
                                         {"qwen3", TINY_QWEN3},
                                         {"relpos_llama", TINY_RELPOS_LLAMA},
                                         {NULL, 0}};
static const ps_opt_choice ropes[] = {{"default", PS_ROPE_DEFAULT},
                                      {"linear", PS_ROPE_LINEAR},
                                      {"llama3", PS_ROPE_LLAMA3},
                                      {NULL, 0}};
static const ps_opt_choice gates[] = {{"none", PS_OUTPUT_GATE_NONE},
                                      {"heads", PS_OUTPUT_GATE_HEADS},
                                      {"elements", PS_OUTPUT_GATE_ELEMENTS},
                                      {NULL, 0}};
static const ps_opt_choice dtypes[] = {
    {"f32", PS_F32}, {"f16", PS_F16}, {"bf16", PS_BF16}, {NULL, 0}};

#define AT(field) offsetof(options, model.field)
#define NUMBER(name, field, initial, help)                                                         \
    {                                                                                              \
        name, 0, PS_OPT_INT, AT(field), 0, 1000000, initial, NULL, "N", help                       \
    }
#define FLAG(name, field, help)                                                                    \
    {                                                                                              \
        name, 0, PS_OPT_FLAG, AT(field), 0, 0, NULL, NULL, NULL, help                              \
    }

static const ps_opt rows[] = {
    {"family", 0, PS_OPT_CHOICE, AT(family), 0, 0, "llama", families, NULL, "kind of model"},
    NUMBER("layers", layers, "3", "decoder blocks"),
    NUMBER("width", width, "36", "width of a row"),
    NUMBER("heads", heads, "4", "query heads"),
    NUMBER("kv-heads", kv_heads, "2", "key heads"),
    NUMBER("head-dim", head_dim, "12", "size of a head, even"),
    NUMBER("ffn", ffn, "40", "width inside the MLP"),
    NUMBER("vocabulary", vocabulary, "270", "tokens"),
    NUMBER("rel-pos-dim", rel_pos_dim, "36", "relpos_llama: width of the encoding"),
    NUMBER("shards", shards, "1", "safetensors files"),
    NUMBER("context", context, "512", "trained positions; 0: not bounded"),
    {"windows", 0, PS_OPT_TEXT, offsetof(options, windows), 0, 0, "7,70,0,19", NULL, "A,B,C,D",
     "windows in turn, 0: all keys"},
    {"score-biases", 0, PS_OPT_TEXT, AT(score_biases), 0, 0, NULL, NULL, "A+B/C",
     "relpos_llama: kinds of the layers in turn"},
    {"output-gate", 0, PS_OPT_CHOICE, AT(output_gate), 0, 0, "none", gates, NULL,
     "relpos_llama: gate on what attention gives"},
    FLAG("quiet-softmax", quiet_softmax, "relpos_llama: softmax with one more score, 0"),
    {"rope", 0, PS_OPT_CHOICE, AT(rope), 0, 0, "default", ropes, NULL, "kind of RoPE"},
    {"dtype", 0, PS_OPT_CHOICE, AT(dtype), 0, 0, "f32", dtypes, NULL, "number format"},
    {"seed", 0, PS_OPT_U64, AT(seed), 0, 0, "1", NULL, "N", "of the weights"},
    FLAG("half-rotary", half_rotary, "rotate half of each head"),
    FLAG("tied", tied_head, "the head is the embedding"),
    FLAG("attention-bias", attention_bias, "biases of q, k, v, o"),
    FLAG("mlp-bias", mlp_bias, "biases of gate, up, down"),
    FLAG("coarse", coarse, "weights that every format holds exactly"),
    FLAG("tokenizer", tokenizer, "with a byte-level tokenizer of 266 tokens"),
    {"help", 'h', PS_OPT_FLAG, offsetof(options, help), 0, 0, NULL, NULL, NULL, "this text"},
};

static ps_err write_model(options *o, const char *out)
{
    int *w = o->model.windows;
    if (sscanf(o->windows, "%d,%d,%d,%d", &w[0], &w[1], &w[2], &w[3]) < 1)
        return PS_FAIL(PS_ERR_USAGE, "--windows %s is not a list of numbers", o->windows);
    if (o->model.tokenizer && o->model.vocabulary < TINY_TOKENIZER_SIZE)
        return PS_FAIL(PS_ERR_USAGE, "--tokenizer wants --vocabulary %d or more",
                       TINY_TOKENIZER_SIZE);
    const size_t n = strlen(out);
    const bool file = n > 3 && strcmp(out + n - 3, ".h5") == 0;
    return file ? tiny_model_convert(&o->model, out) : tiny_model_write(&o->model, out);
}

int main(int argc, char **argv)
{
    options o = {0};
    const ps_opt_group group = {"Model", rows, (int)(sizeof rows / sizeof rows[0]), &o};
    static const char *const names[] = {"OUT"};
    const ps_opt_positionals wanted = {names, 1, 1};
    ps_opt_parsed parsed;
    ps_err err = ps_opt_parse(&group, 1, &wanted, argc - 1, argv + 1, &parsed);
    if (!err && parsed.help) {
        ps_text help = {0};
        ps_opt_help(&group, 1, &help);
        fputs(ps_text_str(&help), stdout);
        ps_text_release(&help);
    } else if (!err) {
        err = write_model(&o, parsed.positionals[0]);
    }
    if (err) fprintf(stderr, "tiny_model: %s\n", ps_err_message());
    if (err != PS_ERR_USAGE) ps_opt_release(&parsed);
    return ps_err_exit_status(err);
}
