/* The table of pre-tokenizer names. Regular expressions are those of the tokenizer.json files that
 * the names stand for; names that llama.cpp treats alike share a row of the steps. */
#include "tool/import/pre_tokenizers.h"

#include <string.h>

#include "base/text.h"
#include "tool/import/pipeline.h"

typedef enum step_kind {
    END,
    SPLIT,       // matches of a regular expression, isolated
    PUNCTUATION, // runs
    DIGIT_RUNS,
    GPT2,  // ByteLevel with its own regular expression
    BYTES, // ByteLevel without
} step_kind;

typedef struct step {
    step_kind kind;
    const char *regex;
} step;

enum { MAX_STEPS = 8 };

#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES      "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UPPER       "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER       "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define BEFORE      "[^\\r\\n\\p{L}\\p{N}]?"
#define SYMBOLS     "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"

/* Words of letters, numbers of up to so many digits, symbols with the line ends behind them. */
#define CL100K(digits) CONTRACTION "|" BEFORE "\\p{L}+|" digits SYMBOLS SPACES

/* Words of capitals and small letters, with what may follow them. */
#define CASED(suffix, digits)                                                                      \
    BEFORE UPPER "*" LOWER "+" suffix "|" BEFORE UPPER "+" LOWER "*" suffix "|" digits             \
                 "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" SPACES

#define KANA_AND_HAN "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+"
#define ASCII_SYMBOL "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]"
#define DEEPSEEK_WORDS                                                                             \
    ASCII_SYMBOL                                                                                   \
    "[A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*" SPACES

/* The letters that DeepSeek LLM lists one by one: those with case, of the scripts that have it. */
#define DEEPSEEK_LETTERS                                                                           \
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}"                 \
    "\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}"         \
    "\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}"                  \
    "\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}"                       \
    "\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}"                 \
    "\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}"                 \
    "\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}"                 \
    "\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}"         \
    "\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}"                           \
    "\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}"                 \
    "\\x{2102}\\x{2107}\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}"          \
    "\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}"                  \
    "\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}"         \
    "\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}"                  \
    "\\x{A722}-\\x{A76F}\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}"                 \
    "\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}"                 \
    "\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}"         \
    "\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}"

#define DEEPSEEK_SYMBOLS                                                                           \
    "!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}"
#define DEEPSEEK_HAN "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"

typedef enum recipe {
    RECIPE_DEFAULT,
    RECIPE_GPT2,
    RECIPE_DIGITS_GPT2,
    RECIPE_LLAMA3,
    RECIPE_QWEN2,
    RECIPE_QWEN35,
    RECIPE_SEED_CODER,
    RECIPE_BAILINGMOE,
    RECIPE_O200K,
    RECIPE_TEKKEN,
    RECIPE_FALCON,
    RECIPE_BLOOM,
    RECIPE_VIKING,
    RECIPE_DEEPSEEK_LLM,
    RECIPE_DEEPSEEK_CODER,
    RECIPE_DEEPSEEK_V3,
    RECIPE_COUNT
} recipe;

static const step recipes[RECIPE_COUNT][MAX_STEPS] = {
    // What files say that were made before the key existed: llama.cpp's own.
    [RECIPE_DEFAULT] = {{SPLIT, "[\\p{P}$+<=>^~|]+"},
                        {SPLIT, "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
                                "\\s+(?!\\S)"},
                        {SPLIT, "\\p{N}+"},
                        {SPLIT, "[0-9][0-9][0-9]"},
                        {BYTES, NULL}},
    [RECIPE_GPT2] = {{GPT2, NULL}},
    [RECIPE_DIGITS_GPT2] = {{SPLIT, "\\p{N}"}, {GPT2, NULL}},
    [RECIPE_LLAMA3] = {{SPLIT, CL100K("\\p{N}{1,3}")}, {BYTES, NULL}},
    [RECIPE_QWEN2] = {{SPLIT, CL100K("\\p{N}")}, {BYTES, NULL}},
    [RECIPE_QWEN35] = {{SPLIT, CONTRACTION "|" BEFORE "[\\p{L}\\p{M}]+|\\p{N}"
                                           "| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" SPACES},
                       {BYTES, NULL}},
    [RECIPE_SEED_CODER] = {{SPLIT, CONTRACTION "|" BEFORE "\\p{L}+|\\p{N}{1}"
                                               "| ?[^\\s\\p{L}\\p{N}\\r\\n]+" SPACES},
                           {BYTES, NULL}},
    [RECIPE_BAILINGMOE] = {{SPLIT,
                            "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}"
                            "| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"},
                           {BYTES, NULL}},
    [RECIPE_O200K] = {{SPLIT, CASED(CONTRACTION "?", "\\p{N}{1,3}")}, {BYTES, NULL}},
    [RECIPE_TEKKEN] = {{SPLIT, CASED("", "\\p{N}")}, {BYTES, NULL}},
    // The last two see the byte alphabet.
    [RECIPE_FALCON] = {{PUNCTUATION, NULL},
                       {GPT2, NULL},
                       {DIGIT_RUNS, NULL},
                       {SPLIT, "[0-9][0-9][0-9]"}},
    [RECIPE_BLOOM] = {{SPLIT, " ?[^(\\s|[.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}"
                              "\\x{60C}])]+"},
                      {BYTES, NULL}},
    [RECIPE_VIKING] = {{SPLIT, " ?[^(\\s|[.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}"
                               "\\x{60C}])]+"},
                       {SPLIT, "\\p{N}"},
                       {BYTES, NULL}},
    [RECIPE_DEEPSEEK_LLM] = {{SPLIT, "[\\r\\n]"},
                             {SPLIT, "\\s?[" DEEPSEEK_LETTERS "]+"},
                             {SPLIT, "\\s?[" DEEPSEEK_SYMBOLS "]+"},
                             {SPLIT, "\\s+$"},
                             {SPLIT, DEEPSEEK_HAN},
                             {SPLIT, "\\p{N}"},
                             {BYTES, NULL}},
    [RECIPE_DEEPSEEK_CODER] = {{SPLIT, "[\\r\\n]"},
                               {SPLIT, "\\s?\\p{L}+"},
                               {SPLIT, "\\s?\\p{P}+"},
                               {SPLIT, DEEPSEEK_HAN},
                               {SPLIT, "\\p{N}"},
                               {BYTES, NULL}},
    [RECIPE_DEEPSEEK_V3] = {{SPLIT, "\\p{N}{1,3}"},
                            {SPLIT, KANA_AND_HAN},
                            {SPLIT, DEEPSEEK_WORDS},
                            {BYTES, NULL}},
};

typedef struct row {
    ps_pre_tokenizer pre; // first: a row is found by it
    recipe recipe;
    bool composes; // NFC comes before all else
} row;

static const row rows[] = {
    {{"default", false, false}, RECIPE_DEFAULT, false},
    {{"gpt-2", false, false}, RECIPE_GPT2, false},
    {{"phi-2", false, false}, RECIPE_GPT2, false},
    {{"mpt", false, false}, RECIPE_GPT2, true},
    {{"olmo", false, false}, RECIPE_GPT2, true},
    {{"jais", false, false}, RECIPE_GPT2, false},
    {{"trillion", false, false}, RECIPE_GPT2, false},
    {{"gigachat", false, false}, RECIPE_GPT2, false},
    {{"granite-docling", false, false}, RECIPE_GPT2, false},
    {{"starcoder", false, false}, RECIPE_DIGITS_GPT2, false},
    {{"refact", false, false}, RECIPE_DIGITS_GPT2, false},
    {{"command-r", false, false}, RECIPE_DIGITS_GPT2, true},
    {{"smollm", false, false}, RECIPE_DIGITS_GPT2, false},
    {{"codeshell", false, false}, RECIPE_DIGITS_GPT2, false},
    {{"exaone", false, false}, RECIPE_DIGITS_GPT2, false},
    {{"minerva-7b", false, false}, RECIPE_DIGITS_GPT2, false},
    {{"llama-bpe", true, true}, RECIPE_LLAMA3, false},
    {{"llama3", true, true}, RECIPE_LLAMA3, false},
    {{"llama-v3", true, true}, RECIPE_LLAMA3, false},
    {{"falcon3", true, true}, RECIPE_LLAMA3, false},
    {{"falcon-h1", true, true}, RECIPE_LLAMA3, false},
    {{"pixtral", true, true}, RECIPE_LLAMA3, false},
    {{"lfm2", true, true}, RECIPE_LLAMA3, false},
    {{"dbrx", false, false}, RECIPE_LLAMA3, false},
    {{"smaug-bpe", false, false}, RECIPE_LLAMA3, false},
    {{"glm4", false, false}, RECIPE_LLAMA3, false},
    {{"chatglm-bpe", false, false}, RECIPE_LLAMA3, false},
    {{"qwen2", false, false}, RECIPE_QWEN2, true},
    {{"deepseek-r1-qwen", false, false}, RECIPE_QWEN2, true},
    {{"stablelm2", false, false}, RECIPE_QWEN2, false},
    {{"megrez", false, false}, RECIPE_QWEN2, false},
    {{"hunyuan", false, false}, RECIPE_QWEN2, false},
    {{"grok-2", false, false}, RECIPE_QWEN2, false},
    {{"solar-open", false, false}, RECIPE_QWEN2, false},
    {{"qwen35", false, false}, RECIPE_QWEN35, true},
    {{"seed-coder", false, false}, RECIPE_SEED_CODER, false},
    {{"bailingmoe", false, false}, RECIPE_BAILINGMOE, false},
    {{"gpt-4o", true, false}, RECIPE_O200K, false},
    {{"llama4", true, false}, RECIPE_O200K, false},
    {{"minimax-m2", false, false}, RECIPE_O200K, false},
    {{"tekken", true, true}, RECIPE_TEKKEN, false},
    {{"falcon", false, false}, RECIPE_FALCON, false},
    {{"bloom", false, false}, RECIPE_BLOOM, false},
    {{"poro-chat", false, false}, RECIPE_BLOOM, false},
    {{"gpt3-finnish", false, false}, RECIPE_BLOOM, false},
    {{"viking", false, false}, RECIPE_VIKING, false},
    {{"deepseek-llm", false, false}, RECIPE_DEEPSEEK_LLM, false},
    {{"deepseek-coder", false, false}, RECIPE_DEEPSEEK_CODER, false},
    {{"deepseek-v3", false, false}, RECIPE_DEEPSEEK_V3, false},
    {{"hunyuan-dense", false, false}, RECIPE_DEEPSEEK_V3, false},
};

enum { N_ROWS = sizeof rows / sizeof rows[0] };

ps_err ps_pre_tokenizer_find(const char *name, const char *where, const ps_pre_tokenizer **out)
{
    *out = NULL;
    for (int i = 0; i < N_ROWS; i++) {
        if (strcmp(name, rows[i].pre.name) != 0) continue;
        *out = &rows[i].pre;
        return PS_OK;
    }
    ps_text known = {0};
    for (int i = 0; i < N_ROWS; i++) {
        ps_text_appendf(&known, "%s%s", i ? ", " : "", rows[i].pre.name);
    }
    const ps_err err =
        PS_FAIL(PS_ERR_UNSUPPORTED, "%s: tokenizer.ggml.pre is \"%.60s\", which is none of %s",
                where, name, ps_text_str(&known));
    ps_text_release(&known);
    return err;
}

static const row *row_of(const ps_pre_tokenizer *p)
{
    const row *found = rows;
    while (&found->pre != p) {
        found++;
    }
    return found;
}

json_t *ps_pre_tokenizer_normalizer(const ps_pre_tokenizer *p)
{
    return row_of(p)->composes ? ps_pipeline_plain("NFC") : json_null();
}

static json_t *make_step(const step *s)
{
    switch (s->kind) {
    case SPLIT:
        return ps_pipeline_split_regex(s->regex);
    case PUNCTUATION:
        return json_pack("{s:s, s:s}", "type", "Punctuation", "behavior", "Contiguous");
    case DIGIT_RUNS:
        return json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", 0);
    default:
        return json_pack("{s:s, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "use_regex",
                         s->kind == GPT2);
    }
}

json_t *ps_pre_tokenizer_pipeline(const ps_pre_tokenizer *p)
{
    json_t *list = json_array();
    for (const step *s = recipes[row_of(p)->recipe]; s->kind != END; s++) {
        json_array_append_new(list, make_step(s));
    }
    return ps_pipeline_sequence("pretokenizers", list);
}
