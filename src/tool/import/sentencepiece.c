#include "tool/import/sentencepiece.h"

#include <string.h>

#include "base/mem.h"

// ---- protobuf ----

typedef enum wire { WIRE_VARINT, WIRE_64, WIRE_BYTES, WIRE_32 = 5 } wire;

typedef struct message {
    const unsigned char *at, *end;
    const char *where;
} message;

typedef struct field {
    uint64_t number;
    wire wire;
    uint64_t value; // of a number; the 32 bits of a float
    const unsigned char *bytes;
    size_t n;
} field;

static ps_err damaged(const message *m, const char *what)
{
    return PS_FAIL(PS_ERR_FORMAT, "%s: not a SentencePiece model: %s", m->where, what);
}

static ps_err read_varint(message *m, uint64_t *out)
{
    *out = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (m->at == m->end) return damaged(m, "a number is cut short");
        const unsigned char byte = *m->at++;
        *out |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) return PS_OK;
    }
    return damaged(m, "a number has more than 10 bytes");
}

static ps_err read_fixed(message *m, size_t n, uint64_t *out)
{
    if ((size_t)(m->end - m->at) < n) return damaged(m, "a number is cut short");
    *out = 0;
    for (size_t i = n; i-- > 0;) {
        *out = *out << 8 | m->at[i];
    }
    m->at += n;
    return PS_OK;
}

/* The next field; false at the end. */
static ps_err next_field(message *m, field *f, bool *there)
{
    uint64_t key, n;
    *there = m->at < m->end;
    if (!*there) return PS_OK;
    PS_TRY(read_varint(m, &key));
    *f = (field){.number = key >> 3, .wire = (wire)(key & 7)};
    if (f->number == 0) return damaged(m, "a field has the number 0");
    switch (f->wire) {
    case WIRE_VARINT:
        return read_varint(m, &f->value);
    case WIRE_64:
        return read_fixed(m, 8, &f->value);
    case WIRE_32:
        return read_fixed(m, 4, &f->value);
    case WIRE_BYTES:
        PS_TRY(read_varint(m, &n));
        if (n > (uint64_t)(m->end - m->at)) return damaged(m, "a field is longer than the file");
        f->bytes = m->at;
        f->n = (size_t)n;
        m->at += n;
        return PS_OK;
    default:
        return damaged(m, "a field is of no known kind");
    }
}

static message inside(const message *m, const field *f)
{
    return (message){.at = f->bytes, .end = f->bytes + f->n, .where = m->where};
}

/* A field that is known must be of the kind that it is known to be. */
static ps_err want(const message *m, const field *f, wire wanted)
{
    if (f->wire == wanted) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT,
                   "%s: not a SentencePiece model: field %llu is of kind %d, wanted "
                   "%d",
                   m->where, (unsigned long long)f->number, (int)f->wire, (int)wanted);
}

// ---- the model ----

typedef struct reader {
    ps_sentencepiece *out;
    const char *bos, *eos; // names of the control pieces, as in the trainer's spec
    size_t bos_bytes, eos_bytes;
    uint64_t model_type;
} reader;

static double as_float(uint64_t bits32)
{
    const uint32_t bits = (uint32_t)bits32;
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

static ps_err read_piece(reader *r, message m)
{
    ps_sentencepiece *s = r->out;
    ps_piece piece = {.bytes = "", .kind = PS_PIECE_NORMAL};
    field f;
    for (bool there = true;;) {
        PS_TRY(next_field(&m, &f, &there));
        if (!there) break;
        if (f.number == 1) {
            PS_TRY(want(&m, &f, WIRE_BYTES));
            piece.bytes = (const char *)f.bytes;
            piece.n = f.n;
        } else if (f.number == 2) {
            PS_TRY(want(&m, &f, WIRE_32));
            piece.score = as_float(f.value);
        } else if (f.number == 3) {
            PS_TRY(want(&m, &f, WIRE_VARINT));
            if (f.value < PS_PIECE_NORMAL || f.value > PS_PIECE_BYTE) {
                return damaged(&m, "a piece is of no known type");
            }
            piece.kind = (ps_piece_kind)f.value;
        }
    }
    if (piece.n == 0) return damaged(&m, "a piece is empty");
    s->list = ps_mem_grow(s->list, &s->capacity, s->pieces.n + 1, sizeof *s->list);
    s->list[s->pieces.n++] = piece;
    return PS_OK;
}

static ps_err read_trainer(reader *r, message m)
{
    field f;
    for (bool there = true;;) {
        PS_TRY(next_field(&m, &f, &there));
        if (!there) return PS_OK;
        if (f.number == 3) {
            PS_TRY(want(&m, &f, WIRE_VARINT));
            r->model_type = f.value;
        } else if (f.number == 24) {
            PS_TRY(want(&m, &f, WIRE_VARINT));
            if (f.value != 0) {
                return PS_FAIL(PS_ERR_UNSUPPORTED,
                               "%s: treat_whitespace_as_suffix is not supported", m.where);
            }
        } else if (f.number == 46) {
            PS_TRY(want(&m, &f, WIRE_BYTES));
            r->bos = (const char *)f.bytes;
            r->bos_bytes = f.n;
        } else if (f.number == 47) {
            PS_TRY(want(&m, &f, WIRE_BYTES));
            r->eos = (const char *)f.bytes;
            r->eos_bytes = f.n;
        }
    }
}

static ps_err read_normalizer(reader *r, message m)
{
    ps_pieces *p = &r->out->pieces;
    field f;
    for (bool there = true;;) {
        PS_TRY(next_field(&m, &f, &there));
        if (!there) return PS_OK;
        if (f.number == 2) {
            PS_TRY(want(&m, &f, WIRE_BYTES));
            p->charsmap = (const char *)f.bytes;
            p->charsmap_bytes = f.n;
            continue;
        }
        if (f.number < 3 || f.number > 5) continue;
        PS_TRY(want(&m, &f, WIRE_VARINT));
        if (f.number == 3) p->prefix = f.value != 0 ? PS_PREFIX_EACH : PS_PREFIX_NONE;
        if (f.number == 4) p->remove_extra_whitespaces = f.value != 0;
        if (f.number == 5) p->keep_blanks = f.value == 0;
    }
}

static ps_err check_denormalizer(message m)
{
    field f;
    for (bool there = true;;) {
        PS_TRY(next_field(&m, &f, &there));
        if (!there) return PS_OK;
        if (f.number != 2) continue;
        PS_TRY(want(&m, &f, WIRE_BYTES));
        if (f.n > 0) {
            return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: denormalization is not supported", m.where);
        }
    }
}

static ps_err read_model(reader *r, message m)
{
    field f;
    for (bool there = true;;) {
        PS_TRY(next_field(&m, &f, &there));
        if (!there) return PS_OK;
        if (f.number == 0 || f.number > 5 || f.number == 4) continue;
        PS_TRY(want(&m, &f, WIRE_BYTES));
        const message inner = inside(&m, &f);
        if (f.number == 1) PS_TRY(read_piece(r, inner));
        if (f.number == 2) PS_TRY(read_trainer(r, inner));
        if (f.number == 3) PS_TRY(read_normalizer(r, inner));
        if (f.number == 5) PS_TRY(check_denormalizer(inner));
    }
}

static int32_t find_control(const ps_sentencepiece *s, const char *name, size_t n)
{
    for (size_t i = 0; i < s->pieces.n; i++) {
        const ps_piece *piece = &s->list[i];
        if (piece->kind == PS_PIECE_CONTROL && piece->n == n &&
            memcmp(piece->bytes, name, n) == 0) {
            return (int32_t)i;
        }
    }
    return -1;
}

static ps_err read_all(reader *r, message m)
{
    ps_sentencepiece *s = r->out;
    PS_TRY(read_model(r, m));
    if (s->pieces.n == 0) return damaged(&m, "it has no pieces");
    if (r->model_type != 1 && r->model_type != 2) {
        return PS_FAIL(PS_ERR_UNSUPPORTED,
                       "%s: SentencePiece model of type %llu, wanted 1 (Unigram) or 2 (BPE)",
                       m.where, (unsigned long long)r->model_type);
    }
    s->pieces.unigram = r->model_type == 1;
    s->pieces.piece = s->list;
    s->bos_id = find_control(s, r->bos, r->bos_bytes);
    s->eos_id = find_control(s, r->eos, r->eos_bytes);
    return PS_OK;
}

ps_err ps_sentencepiece_read(const char *bytes, size_t n, const char *where, ps_sentencepiece *out)
{
    // What is not written has these values.
    *out = (ps_sentencepiece){.pieces = {.where = where,
                                         .prefix = PS_PREFIX_EACH,
                                         .remove_extra_whitespaces = true,
                                         .bos_id = -1,
                                         .eos_id = -1}};
    reader r = {
        .out = out, .bos = "<s>", .bos_bytes = 3, .eos = "</s>", .eos_bytes = 4, .model_type = 1};
    const unsigned char *start = (const unsigned char *)bytes;
    const ps_err err = read_all(&r, (message){.at = start, .end = start + n, .where = where});
    if (err) ps_sentencepiece_release(out);
    return err;
}

void ps_sentencepiece_release(ps_sentencepiece *self)
{
    ps_mem_free(self->list);
    *self = (ps_sentencepiece){0};
}
