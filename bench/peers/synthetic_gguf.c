/* A random model as GGUF, so that both sides of a comparison read the same bytes: every matrix f16,
 * norms of 1, no tokenizer. Quantised variants are made of it by the peer's own tool.
 *
 *   synthetic_gguf FILE.gguf [LAYERS D HEADS KV_HEADS FFN VOCAB CONTEXT]
 *
 * Default: the 1.1 B shape of Llama, 22 2048 32 4 5632 32000 2048. Values are uniform with variance
 * 1/K, drawn by Philox, so equal shapes give equal files.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "math/dtype.h"
#include "math/rng.h"

enum { ALIGNMENT = 32, GGUF_VERSION = 3, GGML_F32 = 0, GGML_F16 = 1, GGUF_U32 = 4, GGUF_F32 = 6 };
enum { GGUF_STRING = 8, PIECE = 1 << 16 };

typedef struct shape {
    int layers, d, heads, kv_heads, ff, vocab, context;
} shape;

typedef struct tensor {
    const char *name; // with %d for the layer
    int k, n;         // n rows of k values; n = 0: a vector of norms
} tensor;

enum { OUTER = 3, INNER = 9 };

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void put(FILE *f, const void *bytes, size_t n)
{
    if (fwrite(bytes, 1, n, f) != n) fail("synthetic_gguf: write");
}

static void put_u32(FILE *f, uint32_t value)
{
    put(f, &value, sizeof value);
}

static void put_u64(FILE *f, uint64_t value)
{
    put(f, &value, sizeof value);
}

static void put_string(FILE *f, const char *text)
{
    put_u64(f, strlen(text));
    put(f, text, strlen(text));
}

static void put_key_text(FILE *f, const char *key, const char *text)
{
    put_string(f, key);
    put_u32(f, GGUF_STRING);
    put_string(f, text);
}

static void put_key_int(FILE *f, const char *key, int value)
{
    put_string(f, key);
    put_u32(f, GGUF_U32);
    put_u32(f, (uint32_t)value);
}

static void put_key_real(FILE *f, const char *key, float value)
{
    put_string(f, key);
    put_u32(f, GGUF_F32);
    put(f, &value, sizeof value);
}

static void put_keys(FILE *f, const shape *s)
{
    put_key_text(f, "general.architecture", "llama");
    put_key_text(f, "general.name", "synthetic");
    put_key_int(f, "llama.block_count", s->layers);
    put_key_int(f, "llama.context_length", s->context);
    put_key_int(f, "llama.embedding_length", s->d);
    put_key_int(f, "llama.feed_forward_length", s->ff);
    put_key_int(f, "llama.attention.head_count", s->heads);
    put_key_int(f, "llama.attention.head_count_kv", s->kv_heads);
    put_key_int(f, "llama.rope.dimension_count", s->d / s->heads);
    put_key_int(f, "llama.vocab_size", s->vocab);
    put_key_real(f, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    put_key_real(f, "llama.rope.freq_base", 10000.0f);
    put_key_text(f, "tokenizer.ggml.model", "none");
}

enum { KEYS = 13 };

static size_t bytes_of(const tensor *t)
{
    return t->n > 0 ? (size_t)t->n * (size_t)t->k * 2 : (size_t)t->k * 4;
}

static size_t padded(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void put_info(FILE *f, const tensor *t, int layer, uint64_t *offset)
{
    char name[64];
    snprintf(name, sizeof name, t->name, layer);
    put_string(f, name);
    put_u32(f, t->n > 0 ? 2 : 1);
    put_u64(f, (uint64_t)t->k);
    if (t->n > 0) put_u64(f, (uint64_t)t->n);
    put_u32(f, t->n > 0 ? GGML_F16 : GGML_F32);
    put_u64(f, *offset);
    *offset += padded(bytes_of(t));
}

static void put_padding(FILE *f)
{
    static const char zeros[ALIGNMENT];
    const size_t at = (size_t)ftell(f);
    put(f, zeros, padded(at) - at);
}

static void put_matrix(FILE *f, const tensor *t, uint32_t stream)
{
    static float values[PIECE];
    static uint16_t halves[PIECE];
    const float width = sqrtf(12.0f / (float)t->k);
    const uint64_t n = (uint64_t)t->n * (uint64_t)t->k;
    for (uint64_t at = 0; at < n; at += PIECE) {
        const size_t count = n - at < PIECE ? (size_t)(n - at) : PIECE;
        for (size_t i = 0; i < count; i += 4) {
            const uint64_t number = (at + i) / 4;
            const ps_rng_block counter = {{(uint32_t)number, (uint32_t)(number >> 32), stream, 1}};
            const ps_rng_block block = ps_rng_philox(1, counter);
            for (size_t j = 0; j < 4 && i + j < count; j++) {
                values[i + j] = ((float)(block.word[j] >> 8) * 0x1p-24f - 0.5f) * width;
            }
        }
        ps_dtype_narrow(PS_F16, values, count, halves);
        put(f, halves, count * sizeof halves[0]);
    }
}

static void put_data(FILE *f, const tensor *t, uint32_t stream)
{
    const float one = 1.0f;
    if (t->n > 0) put_matrix(f, t, stream);
    for (int i = 0; t->n == 0 && i < t->k; i++) {
        put(f, &one, sizeof one);
    }
    put_padding(f);
}

static void write_file(FILE *f, const shape *s)
{
    const int kv = s->kv_heads * (s->d / s->heads);
    const tensor outer[OUTER] = {{"token_embd.weight", s->d, s->vocab},
                                 {"output_norm.weight", s->d, 0},
                                 {"output.weight", s->d, s->vocab}};
    const tensor inner[INNER] = {
        {"blk.%d.attn_norm.weight", s->d, 0},      {"blk.%d.attn_q.weight", s->d, s->d},
        {"blk.%d.attn_k.weight", s->d, kv},        {"blk.%d.attn_v.weight", s->d, kv},
        {"blk.%d.attn_output.weight", s->d, s->d}, {"blk.%d.ffn_norm.weight", s->d, 0},
        {"blk.%d.ffn_gate.weight", s->d, s->ff},   {"blk.%d.ffn_up.weight", s->d, s->ff},
        {"blk.%d.ffn_down.weight", s->ff, s->d}};
    put(f, "GGUF", 4);
    put_u32(f, GGUF_VERSION);
    put_u64(f, (uint64_t)(OUTER + INNER * s->layers));
    put_u64(f, KEYS);
    put_keys(f, s);
    uint64_t offset = 0;
    for (int i = 0; i < OUTER; i++) {
        put_info(f, &outer[i], 0, &offset);
    }
    for (int i = 0; i < INNER * s->layers; i++) {
        put_info(f, &inner[i % INNER], i / INNER, &offset);
    }
    put_padding(f);
    uint32_t stream = 0;
    for (int i = 0; i < OUTER; i++) {
        put_data(f, &outer[i], stream++);
    }
    for (int i = 0; i < INNER * s->layers; i++) {
        put_data(f, &inner[i % INNER], stream++);
    }
}

int main(int argc, char **argv)
{
    shape s = {22, 2048, 32, 4, 5632, 32000, 2048};
    int *const fields[] = {&s.layers, &s.d, &s.heads, &s.kv_heads, &s.ff, &s.vocab, &s.context};
    if (argc != 2 && argc != 9) {
        fprintf(stderr, "usage: synthetic_gguf FILE.gguf [LAYERS D HEADS KV_HEADS FFN VOCAB "
                        "CONTEXT]\n");
        return 2;
    }
    for (int i = 2; i < argc; i++) {
        *fields[i - 2] = atoi(argv[i]);
        if (*fields[i - 2] < 1) {
            fprintf(stderr, "synthetic_gguf: \"%s\" is not a size\n", argv[i]);
            return 2;
        }
    }
    FILE *f = fopen(argv[1], "wb");
    if (!f) fail(argv[1]);
    write_file(f, &s);
    if (fclose(f)) fail(argv[1]);
    return 0;
}
