/* The tokenizer of a model: text to token ids and back.
 *
 *   text -> added tokens cut out -> normalizers -> pre-tokenizers -> BPE or Unigram -> post
 *
 *   ids -> strings of the tokens -> decoders -> text
 *
 * Results are those of the tokenizers library (0.23), id for id. Understood are
 *   normalizers    NFC NFD NFKC NFKD Lowercase StripAccents Strip Replace Prepend Nmt Precompiled
 *                  ByteLevel
 *   pre-tokenizers ByteLevel Split Metaspace Digits Punctuation Whitespace WhitespaceSplit
 *                  CharDelimiterSplit FixedLength BertPreTokenizer
 *   models         BPE, Unigram
 *   post           TemplateProcessing RobertaProcessing BertProcessing ByteLevel
 *   decoders       ByteLevel ByteFallback Metaspace Replace Fuse Strip BPEDecoder
 * and a Sequence of them where the format has one. Anything else that would change a result
 * (another type, BPE dropout, truncation, padding to a length) is PS_ERR_UNSUPPORTED and named.
 *
 * Regular expressions are written for Oniguruma; they are translated for PCRE2 and run under limits
 * on matching, memory and depth. One that passes a limit on some text is PS_ERR_LIMIT; one with a
 * lookbehind of variable length is refused.
 *
 * A tokenizer does not change after ps_tokenizer_open: any number of threads may read it.
 *
 * Cost: encoding and decoding take time linear in the text (BPE: n log n in the length of one
 * pre-token); memory up to about 40 bytes a byte of text.   MPI: local.
 */
#ifndef PS_SERVE_TOKENIZER_H
#define PS_SERVE_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/text.h"

#define PS_TOKENIZER_MAX_IDS  (16 << 20) // ids are 0 .. this - 1
#define PS_TOKENIZER_MAX_TEXT (1 << 28)  // bytes of one text

typedef struct ps_tokenizer ps_tokenizer;

/* Reads a tokenizer.json of n bytes, or what ps_tokenizer_pack wrote; the bytes themselves say
 * which. (Other files come by way of serve/tokenizer_definition.h.) `where` names the file in
 * messages; only borrowed. *out is owned by the caller; NULL on error.
 * Errors: PS_ERR_FORMAT, PS_ERR_UNSUPPORTED, PS_ERR_LIMIT. */
ps_err ps_tokenizer_open(const char *bytes, size_t n, const char *where,
                         ps_tokenizer **out) PS_MUST_CHECK;
void ps_tokenizer_free(ps_tokenizer *t); // t may be NULL

/* Appends the tokenizer as bytes that open fast. Tokenizers out of equal files give equal bytes
 * (one that was packed before may give others: its tables were filled in another order). */
void ps_tokenizer_pack(const ps_tokenizer *t, ps_text *out);

/* Highest id + 1, added tokens included; ids in between may be unused. */
int ps_tokenizer_size(const ps_tokenizer *t);

/* Token ids, owned by whoever declares them: start from {0}, end with ps_tokens_release. */
typedef struct ps_tokens {
    int32_t *ids;
    size_t n, capacity;
} ps_tokens;

void ps_tokens_append(ps_tokens *tokens, int32_t id);
void ps_tokens_release(ps_tokens *tokens);

/* Appends the ids of text[0..n). Bytes that are not UTF-8 are read as U+FFFD, one for each maximal
 * part of a character, as everywhere else in this file. add_special runs the post-processor, which
 * is what adds tokens like bos and eos. On error *out is as it was.
 * Errors: PS_ERR_LIMIT (text too long, a limit of the regular expressions), PS_ERR_FORMAT (an
 * unknown character, and no token for the unknown). */
ps_err ps_tokenizer_encode(const ps_tokenizer *t, const char *text, size_t n, bool add_special,
                           ps_tokens *out) PS_MUST_CHECK;

/* A text that is put together of tokens and stretches of text. In these stretches special tokens
 * are not recognised: "<|im_end|>" in what a user wrote is the characters it is written with. Other
 * added tokens are, and nothing is added around. The white space that a token swallows on either
 * side (lstrip, rstrip) goes. */
typedef struct ps_tokenizer_part {
    int32_t id;       // a token; -1: text
    const char *text; // [n]  not NUL-terminated
    size_t n;
} ps_tokenizer_part;

/* Appends the ids of the parts; neighbouring texts are not one text. Errors: as above. */
ps_err ps_tokenizer_encode_parts(const ps_tokenizer *t, const ps_tokenizer_part *parts,
                                 size_t n_parts, ps_tokens *out) PS_MUST_CHECK;

/* Whether add_special adds any token; if not, a caller who wants bos puts it there. */
bool ps_tokenizer_has_post_processor_tokens(const ps_tokenizer *t);

/* Id of the token with exactly this content, added tokens first; -1 if there is none. */
int32_t ps_tokenizer_find(const ps_tokenizer *t, const char *content);

/* Whether an id is a special token (control token); false for ids that do not exist. */
bool ps_tokenizer_is_special(const ps_tokenizer *t, int32_t id);

/* Appends the text of ids[0..n), always valid UTF-8. Ids that do not exist are passed over, special
 * tokens too if so asked. Errors: PS_ERR_LIMIT from a decoder's regular expression. */
ps_err ps_tokenizer_decode(const ps_tokenizer *t, const int32_t *ids, size_t n, bool skip_special,
                           ps_text *out) PS_MUST_CHECK;

/* Decoding while the ids come in. A push appends the text that is certain now: whole characters
 * only, and all but what a later id could still change (the bytes of an unfinished character, a
 * word's end mark, a string that may have to be replaced). All that is appended, with the tail from
 * finish, is what ps_tokenizer_decode makes of all the ids, with one exception: byte tokens
 * (<0xE2>) are shown as soon as they complete a character, though ps_tokenizer_decode shows every
 * byte of the run as U+FFFD if the run turns out invalid later on.
 *
 * A push looks only at the new id and at what is held back, not at the ids before it. The tokenizer
 * is borrowed until the detokenizer is freed. */
typedef struct ps_detokenizer ps_detokenizer;

ps_detokenizer *ps_detokenizer_new(const ps_tokenizer *t, bool skip_special);
ps_err ps_detokenizer_push(ps_detokenizer *d, int32_t id, ps_text *out) PS_MUST_CHECK;

/* Appends what was held back; the next push begins a new text. */
ps_err ps_detokenizer_finish(ps_detokenizer *d, ps_text *out) PS_MUST_CHECK;

/* What a detokenizer holds back, as bytes: for each of the tokenizer's decoders five little-endian
 * i32 (flags, characters taken off and waiting, lengths) and two stretches of bytes. And into a new
 * detokenizer of the same tokenizer, which goes on like the one that was saved. PS_ERR_FORMAT for
 * bytes that are none of this tokenizer's. */
void ps_detokenizer_save(const ps_detokenizer *d, ps_text *out);
ps_err ps_detokenizer_load(ps_detokenizer *d, const char *bytes, size_t n) PS_MUST_CHECK;

void ps_detokenizer_free(ps_detokenizer *d); // d may be NULL

#endif
