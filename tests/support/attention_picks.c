#include "support/attention_picks.h"

static const int64_t windows[11] = {0, 1, 3, 15, 16, 17, 64, 255, 256, 257, 300};
static const int groups[7] = {1, 2, 3, 5, 8, 24, 30};
static const int head_dims[9] = {1, 8, 12, 16, 24, 40, 64, 128, 200};

enum { KEYS_MAX = 700, LISTS = PROVIDER_KIND_COUNT + 3 };

_Static_assert(LISTS == 13, "no divisor in common with the lengths of the other lists");

/* None, each provider alone, or two to four of them in any order. */
static void pick_providers(attention_sizes *s, int number, dice *d)
{
    if (number == 0) return;
    s->n_providers = number <= PROVIDER_KIND_COUNT ? 1 : 2 + dice_throw(d, PS_BIAS_MAX - 1);
    for (int i = 0; i < s->n_providers; i++) {
        s->kinds[i] = (provider_kind)dice_throw(d, PROVIDER_KIND_COUNT);
    }
    if (number <= PROVIDER_KIND_COUNT) s->kinds[0] = (provider_kind)(number - 1);
}

/* Chunks, kept tokens, and how keys and values are stored. */
static void pick_caches(attention_sizes *s, int number, dice *d)
{
    static const ps_dtype types[5] = {PS_F32, PS_F16, PS_BF16, PS_Q8_0, PS_Q4_0};
    static const int64_t chunks[6] = {1, 7, 16, 64, 100, 256};
    s->types = (ps_kv_types){types[number % 5], types[number / 5 % 5]};
    if (number % 6 == 5) {
        s->chunk = chunks[dice_throw(d, 6)];
        s->left_chunks = dice_throw(d, 4) - 1;
        if (dice_throw(d, 3)) s->window = 0;
    }
    if (number % 4 == 2) {
        s->n_kept = 1 + dice_throw(d, 5) * dice_throw(d, 70);
        s->kept_at_cache = s->window > 0 && s->chunk == 0 && dice_throw(d, 2);
    }
}

static double work(const attention_sizes *s)
{
    double pairs = 0.0;
    for (int i = s->first_query; i < s->n; i++) {
        pairs += s->window > 0 && i >= s->window ? (double)s->window : (double)i + 1.0;
    }
    int products = 2;
    for (int i = 0; i < s->n_providers; i++) {
        products += s->kinds[i] == PROVIDER_REL_POS ? 2 : 0;
    }
    return pairs * s->n_kv_heads * s->group * s->head_dim * products;
}

attention_sizes attention_picks_sizes(int number, dice *d, double work_max)
{
    attention_sizes s = {.window = windows[number % 11],
                         .group = groups[number % 7],
                         .head_dim = head_dims[number % 9],
                         .n_kv_heads = 1 + dice_throw(d, 3),
                         .n = 1 + dice_throw(d, KEYS_MAX),
                         .softcap = number % 4 == 1 ? 2.5f : 0.0f,
                         .sinks = number % 3 == 2,
                         .quiet = number % 6 == 3};
    pick_providers(&s, number % LISTS, d);
    pick_caches(&s, number, d);
    if (s.window > 60 && s.n < s.window + 100) s.n += (int)s.window;
    const bool keep_length = s.window > 60 || dice_throw(d, 2);
    while (s.n - s.first_query > 1 && work(&s) > work_max) {
        s.n_kv_heads = s.n_kv_heads > 1 ? s.n_kv_heads - 1 : 1;
        if (keep_length) {
            s.first_query += (s.n - s.first_query + 3) / 4;
        } else {
            s.n -= (s.n + 3) / 4;
        }
    }
    return s;
}
