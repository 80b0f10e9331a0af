#include "tool/acestep/limits.h"

#include <math.h>
#include <string.h>

enum { SHOWN_BYTES = 40 };

static const char *const languages[] = {
    "ar", "az", "bg", "bn", "ca", "cs", "da", "de", "el", "en",  "es", "fa",     "fi",
    "fr", "he", "hi", "hr", "ht", "hu", "id", "is", "it", "ja",  "ko", "la",     "lt",
    "ms", "ne", "nl", "no", "pa", "pl", "pt", "ro", "ru", "sa",  "sk", "sr",     "sv",
    "sw", "ta", "te", "th", "tl", "tr", "uk", "ur", "vi", "yue", "zh", "unknown"};

enum { N_LANGUAGES = sizeof languages / sizeof languages[0] };

/* So much of a text that a message stays one short line, in whole characters. */
static int shown(ps_span text)
{
    if (text.n <= SHOWN_BYTES) return (int)text.n;
    return (int)ps_utf8_valid_prefix(text.at, SHOWN_BYTES, NULL);
}

static ps_err check_text(const char *where, ps_span text, size_t max)
{
    const size_t valid = ps_utf8_valid_prefix(text.at, text.n, NULL);
    if (valid < text.n)
        return PS_FAIL(PS_ERR_FORMAT, "%s: not UTF-8: byte %zu is 0x%02x", where, valid,
                       (unsigned)(unsigned char)text.at[valid]);
    const size_t n = ps_span_count_characters(text);
    if (n <= max) return PS_OK;
    return PS_FAIL(PS_ERR_LIMIT, "%s: has %zu characters, wanted at most %zu", where, n, max);
}

ps_err ps_acestep_check_caption(const char *where, ps_span text)
{
    return check_text(where, text, PS_ACESTEP_CAPTION_MAX);
}

ps_err ps_acestep_check_lyrics(const char *where, ps_span text)
{
    return check_text(where, text, PS_ACESTEP_LYRICS_MAX);
}

ps_err ps_acestep_check_bpm(const char *where, double bpm)
{
    if (bpm >= PS_ACESTEP_BPM_MIN && bpm <= PS_ACESTEP_BPM_MAX && bpm == floor(bpm)) return PS_OK;
    return PS_FAIL(PS_ERR_USAGE, "%s: %g beats a minute, wanted a whole number from %d to %d",
                   where, bpm, PS_ACESTEP_BPM_MIN, PS_ACESTEP_BPM_MAX);
}

ps_err ps_acestep_check_duration(const char *where, double seconds)
{
    if (seconds >= PS_ACESTEP_MIN_DURATION && seconds <= PS_ACESTEP_MAX_DURATION) return PS_OK;
    return PS_FAIL(PS_ERR_USAGE, "%s: %g seconds, wanted %d to %d", where, seconds,
                   PS_ACESTEP_MIN_DURATION, PS_ACESTEP_MAX_DURATION);
}

static bool is_equal(ps_span text, const char *other)
{
    return text.n == strlen(other) && memcmp(text.at, other, text.n) == 0;
}

ps_err ps_acestep_check_keyscale(const char *where, ps_span text)
{
    static const char *const rests[] = {" major",  " minor",  "# major", "# minor", "b major",
                                        "b minor", "♯ major", "♯ minor", "♭ major", "♭ minor"};
    if (text.n > 0 && text.at[0] >= 'A' && text.at[0] <= 'G') {
        const ps_span rest = {text.at + 1, text.n - 1};
        for (size_t i = 0; i < sizeof rests / sizeof rests[0]; i++) {
            if (is_equal(rest, rests[i])) return PS_OK;
        }
    }
    PS_TRY(check_text(where, text, SIZE_MAX));
    return PS_FAIL(PS_ERR_USAGE,
                   "%s: \"%.*s\" is no key, wanted A to G, then nothing, # or b, a blank, and "
                   "major or minor: F# minor",
                   where, shown(text), text.at);
}

ps_err ps_acestep_check_language(const char *where, ps_span text)
{
    for (int i = 0; i < N_LANGUAGES; i++) {
        if (is_equal(text, languages[i])) return PS_OK;
    }
    PS_TRY(check_text(where, text, SIZE_MAX));
    ps_text all = {0};
    for (int i = 0; i < N_LANGUAGES; i++) {
        ps_text_appendf(&all, " %s", languages[i]);
    }
    const ps_err err =
        PS_FAIL(PS_ERR_USAGE, "%s: \"%.*s\" is no language that the model knows, wanted one of%s",
                where, shown(text), text.at, ps_text_str(&all));
    ps_text_release(&all);
    return err;
}

ps_err ps_acestep_read_timesignature(const char *where, ps_span text, const char **out)
{
    static const char *const known[][2] = {{"2", "2/4"}, {"3", "3/4"}, {"4", "4/4"}, {"6", "6/8"}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        *out = known[i][0];
        if (is_equal(text, known[i][0]) || is_equal(text, known[i][1])) return PS_OK;
    }
    PS_TRY(check_text(where, text, SIZE_MAX));
    return PS_FAIL(PS_ERR_USAGE, "%s: \"%.*s\" is no time signature, wanted 2, 3, 4 or 6", where,
                   shown(text), text.at);
}
