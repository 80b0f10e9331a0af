/* Plain texts that YAML 1.1 reads as other types: https://yaml.org/type/, as PyYAML matches them. */
#include <string.h>

#include "tool/acestep/yaml.h"

/* A place in a text: what is matched moves on, what is not stays. */
typedef struct scan {
    const char *at, *end;
} scan;

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool at_end(const scan *s)
{
    return s->at == s->end;
}

static bool one_of(scan *s, const char *set)
{
    if (at_end(s) || *s->at == '\0' || !strchr(set, *s->at)) return false;
    s->at++;
    return true;
}

/* How many characters of the set there were, at most `most`. */
static int many_of(scan *s, const char *set, int most)
{
    int n = 0;
    while (n < most && one_of(s, set)) {
        n++;
    }
    return n;
}

static bool word(scan *s, const char *text)
{
    const size_t n = strlen(text);
    if ((size_t)(s->end - s->at) < n || memcmp(s->at, text, n) != 0) return false;
    s->at += n;
    return true;
}

enum { ANY = 1 << 30 };
static const char digits[] = "0123456789", digits_[] = "0123456789_", sign[] = "+-",
                  blank[] = " \t";

static bool is_word(ps_span text, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (text.n == strlen(words[i]) && memcmp(text.at, words[i], text.n) == 0) return true;
    }
    return false;
}

/* (:[0-5]?[0-9])+ */
static bool sixties(scan *s)
{
    int n = 0;
    while (s->end - s->at >= 2 && s->at[0] == ':' && is_digit(s->at[1])) {
        const bool two = s->at[1] <= '5' && s->end - s->at > 2 && is_digit(s->at[2]);
        s->at += two ? 3 : 2;
        n++;
    }
    return n > 0;
}

/* [-+]? then 0b[01_]+ | 0x[hex_]+ | 0[0-7_]+ | 0 | [1-9][0-9_]* with or without sixties */
static bool is_integer(scan s)
{
    one_of(&s, sign);
    if (word(&s, "0b")) return many_of(&s, "01_", ANY) > 0 && at_end(&s);
    if (word(&s, "0x")) return many_of(&s, "0123456789abcdefABCDEF_", ANY) > 0 && at_end(&s);
    if (word(&s, "0")) {
        many_of(&s, "01234567_", ANY);
        return at_end(&s);
    }
    if (!one_of(&s, "123456789")) return false;
    many_of(&s, digits_, ANY);
    return at_end(&s) || (sixties(&s) && at_end(&s));
}

/* ([eE][-+][0-9]+)? */
static void exponent(scan *s)
{
    scan e = *s;
    if (one_of(&e, "eE") && one_of(&e, sign) && many_of(&e, digits, ANY) > 0) *s = e;
}

static bool is_special_real(scan s)
{
    static const char *const not_numbers[] = {".nan", ".NaN", ".NAN"};
    static const char *const infinite[] = {".inf", ".Inf", ".INF"};
    if (is_word((ps_span){s.at, (size_t)(s.end - s.at)}, not_numbers, 3)) return true;
    one_of(&s, sign);
    return is_word((ps_span){s.at, (size_t)(s.end - s.at)}, infinite, 3);
}

/* [-+]?[0-9][0-9_]*\.[0-9_]*(e)? | \.[0-9][0-9_]*(e)? | [-+]?[0-9][0-9_]*(sixties)\.[0-9_]* */
static bool is_real(scan s)
{
    if (is_special_real(s)) return true;
    if (word(&s, ".")) {
        if (many_of(&s, digits, 1) == 0) return false;
        many_of(&s, digits_, ANY);
        exponent(&s);
        return at_end(&s);
    }
    one_of(&s, sign);
    if (many_of(&s, digits, 1) == 0) return false;
    many_of(&s, digits_, ANY);
    const bool sexagesimal = sixties(&s);
    if (!word(&s, ".")) return false;
    many_of(&s, digits_, ANY);
    if (!sexagesimal) exponent(&s);
    return at_end(&s);
}

/* Z | [-+]h(h)?(:mm)? */
static bool zone(scan *s)
{
    if (one_of(s, "Z")) return true;
    if (!one_of(s, sign) || many_of(s, digits, 2) == 0) return false;
    scan minutes = *s;
    if (word(&minutes, ":") && many_of(&minutes, digits, 2) == 2) *s = minutes;
    return true;
}

/* yyyy-mm-dd | yyyy-m(m)-d(d) (T or blanks) h(h):mm:ss(.d*)? (blanks zone)? */
static bool is_timestamp(scan s)
{
    if (many_of(&s, digits, 4) != 4 || !word(&s, "-")) return false;
    const int month = many_of(&s, digits, 2);
    if (month == 0 || !word(&s, "-")) return false;
    const int day = many_of(&s, digits, 2);
    if (day == 0) return false;
    if (at_end(&s)) return month == 2 && day == 2;
    if (!one_of(&s, "Tt") && many_of(&s, blank, ANY) == 0) return false;
    if (many_of(&s, digits, 2) == 0) return false;
    if (!word(&s, ":") || many_of(&s, digits, 2) != 2) return false;
    if (!word(&s, ":") || many_of(&s, digits, 2) != 2) return false;
    if (word(&s, ".")) many_of(&s, digits, ANY);
    if (at_end(&s)) return true;
    many_of(&s, blank, ANY);
    return zone(&s) && at_end(&s);
}

bool ps_yaml_is_other_type(ps_span text)
{
    static const char *const words[] = {"",     "~",    "null",  "Null",  "NULL",  "=",  "<<",
                                        "yes",  "Yes",  "YES",   "no",    "No",    "NO", "true",
                                        "True", "TRUE", "false", "False", "FALSE", "on", "On",
                                        "ON",   "off",  "Off",   "OFF"};
    if (is_word(text, words, sizeof words / sizeof words[0])) return true;
    const scan s = {text.at, text.at + text.n};
    return is_integer(s) || is_real(s) || is_timestamp(s);
}
