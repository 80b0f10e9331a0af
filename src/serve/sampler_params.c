/* What may be asked of a sampler: defaults, ranges, and the order of the steps.
 *
 * A setting that would be ignored in silence is refused: an order that leaves out a step which some
 * parameter switches on is an error, and so is a name that is nearly right. */
#include "serve/sampler.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "serve/sampler_steps.h"

static const char *const step_names[] = {
    [PS_SAMPLE_GUIDANCE] = "guidance",
    [PS_SAMPLE_LOGIT_BIAS] = "logit_bias",
    [PS_SAMPLE_BANNED] = "banned",
    [PS_SAMPLE_REPETITION] = "repetition",
    [PS_SAMPLE_OUTPUT_REPETITION] = "output_repetition",
    [PS_SAMPLE_FREQUENCY] = "frequency",
    [PS_SAMPLE_PRESENCE] = "presence",
    [PS_SAMPLE_CONSTRAINT] = "constraint",
    [PS_SAMPLE_TEMPERATURE] = "temperature",
    [PS_SAMPLE_TOP_K] = "top_k",
    [PS_SAMPLE_TOP_P] = "top_p",
    [PS_SAMPLE_MIN_P] = "min_p",
    [PS_SAMPLE_TYPICAL] = "typical",
};
_Static_assert(sizeof step_names / sizeof *step_names == PS_SAMPLE_STEP_COUNT, "a name per step");

// A preset names one of the two repetitions, and everything else.
enum { N_PRESETS = 4, PRESET_STEPS = PS_SAMPLE_STEP_COUNT - 1 };

static const struct {
    const char *name;
    ps_sample_step order[PRESET_STEPS];
} presets[N_PRESETS] = {
    {"hf",
     {PS_SAMPLE_GUIDANCE, PS_SAMPLE_LOGIT_BIAS, PS_SAMPLE_BANNED, PS_SAMPLE_REPETITION,
      PS_SAMPLE_FREQUENCY, PS_SAMPLE_PRESENCE, PS_SAMPLE_CONSTRAINT, PS_SAMPLE_TEMPERATURE,
      PS_SAMPLE_TOP_K, PS_SAMPLE_TOP_P, PS_SAMPLE_MIN_P, PS_SAMPLE_TYPICAL}},
    {"llama",
     {PS_SAMPLE_GUIDANCE, PS_SAMPLE_LOGIT_BIAS, PS_SAMPLE_BANNED, PS_SAMPLE_REPETITION,
      PS_SAMPLE_FREQUENCY, PS_SAMPLE_PRESENCE, PS_SAMPLE_CONSTRAINT, PS_SAMPLE_TOP_K,
      PS_SAMPLE_TYPICAL, PS_SAMPLE_TOP_P, PS_SAMPLE_MIN_P, PS_SAMPLE_TEMPERATURE}},
    {"pytorch",
     {PS_SAMPLE_GUIDANCE, PS_SAMPLE_LOGIT_BIAS, PS_SAMPLE_BANNED, PS_SAMPLE_CONSTRAINT,
      PS_SAMPLE_REPETITION, PS_SAMPLE_FREQUENCY, PS_SAMPLE_PRESENCE, PS_SAMPLE_TOP_K,
      PS_SAMPLE_TOP_P, PS_SAMPLE_MIN_P, PS_SAMPLE_TYPICAL, PS_SAMPLE_TEMPERATURE}},
    {"vllm",
     {PS_SAMPLE_OUTPUT_REPETITION, PS_SAMPLE_FREQUENCY, PS_SAMPLE_PRESENCE, PS_SAMPLE_GUIDANCE,
      PS_SAMPLE_LOGIT_BIAS, PS_SAMPLE_BANNED, PS_SAMPLE_CONSTRAINT, PS_SAMPLE_TEMPERATURE,
      PS_SAMPLE_TOP_K, PS_SAMPLE_TOP_P, PS_SAMPLE_MIN_P, PS_SAMPLE_TYPICAL}},
};

static void use_preset(ps_sample_params *p, int preset)
{
    memcpy(p->order, presets[preset].order, sizeof presets[preset].order);
    p->n_order = PRESET_STEPS;
}

ps_sample_params ps_sample_params_default(void)
{
    ps_sample_params p = {.temperature = 1.0,
                          .top_p = 1.0,
                          .typical_p = 1.0,
                          .guidance = 1.0,
                          .repetition_penalty = 1.0};
    use_preset(&p, 0);
    return p;
}

/* NaN fails the comparison too. */
static ps_err check_real(const char *name, double value, double min, double max)
{
    if (value >= min && value <= max) return PS_OK;
    return PS_FAIL(PS_ERR_USAGE, "%s is %g, wanted %g to %g", name, value, min, max);
}

static ps_err check_int(const char *name, int value, int min, int max)
{
    if (value >= min && value <= max) return PS_OK;
    return PS_FAIL(PS_ERR_USAGE, "%s is %d, wanted %d to %d", name, value, min, max);
}

static ps_err check_numbers(const ps_sample_params *p)
{
    const double most = 1e5;
    // Within these bounds no step can leave the range of doubles, whatever its place in the order.
    if (!isfinite(p->temperature) || (p->temperature > 0.0 && p->temperature < 1.0 / most) ||
        p->temperature > most) {
        return PS_FAIL(PS_ERR_USAGE, "temperature is %g, wanted %g to %g, or 0 for greedy",
                       p->temperature, 1.0 / most, most);
    }
    PS_TRY(check_int("top_k", p->top_k, 0, INT32_MAX));
    PS_TRY(check_real("top_p", p->top_p, 0.0, 1.0));
    PS_TRY(check_real("min_p", p->min_p, 0.0, 1.0));
    PS_TRY(check_real("typical_p", p->typical_p, 0.0, 1.0));
    if (p->typical_p == 0.0) return PS_FAIL(PS_ERR_USAGE, "typical_p is 0, wanted more, up to 1");
    PS_TRY(check_real("guidance", p->guidance, 0.0, most));
    PS_TRY(check_real("repetition_penalty", p->repetition_penalty, 1.0 / most, most));
    PS_TRY(check_real("frequency_penalty", p->frequency_penalty, -most, most));
    PS_TRY(check_real("presence_penalty", p->presence_penalty, -most, most));
    PS_TRY(check_int("repeat_last_n", p->repeat_last_n, -1, PS_SAMPLE_WINDOW_MAX));
    return check_int("min_new_tokens", p->min_new_tokens, 0, INT32_MAX);
}

static ps_err check_token(const char *name, int32_t token, int V)
{
    if (token >= 0 && (V == 0 || token < V)) return PS_OK;
    if (V == 0) return PS_FAIL(PS_ERR_USAGE, "%s: token %d, wanted 0 or more", name, token);
    return PS_FAIL(PS_ERR_USAGE, "%s: token %d, wanted 0 to %d", name, token, V - 1);
}

static ps_err check_lists(const ps_sample_params *p, int V)
{
    for (int i = 0; i < p->n_logit_bias; i++) {
        PS_TRY(check_token("logit_bias", p->logit_bias[i].token, V));
        if (!isfinite(p->logit_bias[i].bias)) {
            return PS_FAIL(PS_ERR_USAGE, "logit_bias: token %d has %g, wanted a finite number",
                           p->logit_bias[i].token, (double)p->logit_bias[i].bias);
        }
    }
    for (int i = 0; i < p->n_banned; i++) {
        PS_TRY(check_token("banned", p->banned[i], V));
    }
    for (int i = 0; i < p->n_end_tokens; i++) {
        PS_TRY(check_token("end_tokens", p->end_tokens[i], V));
    }
    return PS_OK;
}

ps_err ps_sample_params_check_left(const ps_sample_params *p, int V)
{
    const int n_end = p->min_new_tokens > 0 ? p->n_end_tokens : 0;
    if (p->n_banned < V - n_end) return PS_OK;
    bool *banned = ps_mem_new((size_t)V, sizeof *banned);
    int n_left = V;
    for (int i = 0; i < p->n_banned + n_end; i++) {
        const int32_t token = i < p->n_banned ? p->banned[i] : p->end_tokens[i - p->n_banned];
        n_left -= !banned[token];
        banned[token] = true;
    }
    ps_mem_free(banned);
    return n_left > 0 ? PS_OK : PS_FAIL(PS_ERR_USAGE, "banned: all %d tokens, none is left", V);
}

const char *ps_sampler_switched_on_by(const ps_sample_params *p, ps_sample_step step)
{
    switch (step) {
    case PS_SAMPLE_GUIDANCE:
        return p->guidance > 1.0 ? "guidance" : NULL;
    case PS_SAMPLE_LOGIT_BIAS:
        return p->n_logit_bias > 0 ? "logit_bias" : NULL;
    case PS_SAMPLE_BANNED:
        if (p->n_banned > 0) return "banned";
        return p->n_end_tokens > 0 && p->min_new_tokens > 0 ? "min_new_tokens" : NULL;
    case PS_SAMPLE_REPETITION:
    case PS_SAMPLE_OUTPUT_REPETITION:
        return p->repetition_penalty != 1.0 ? "repetition_penalty" : NULL;
    case PS_SAMPLE_FREQUENCY:
        return p->frequency_penalty != 0.0 ? "frequency_penalty" : NULL;
    case PS_SAMPLE_PRESENCE:
        return p->presence_penalty != 0.0 ? "presence_penalty" : NULL;
    case PS_SAMPLE_TEMPERATURE:
        return p->temperature > 0.0 && p->temperature != 1.0 ? "temperature" : NULL;
    case PS_SAMPLE_TOP_K:
        return p->top_k > 0 ? "top_k" : NULL;
    case PS_SAMPLE_TOP_P:
        return p->top_p < 1.0 ? "top_p" : NULL;
    case PS_SAMPLE_MIN_P:
        return p->min_p > 0.0 ? "min_p" : NULL;
    case PS_SAMPLE_TYPICAL:
        return p->typical_p < 1.0 ? "typical_p" : NULL;
    case PS_SAMPLE_CONSTRAINT: // switched on by a pick, and checked there
    default:
        return NULL;
    }
}

static ps_err check_order(const ps_sample_params *p)
{
    bool named[PS_SAMPLE_STEP_COUNT] = {false};
    for (int i = 0; i < p->n_order; i++) {
        const ps_sample_step step = p->order[i];
        assert((unsigned)step < PS_SAMPLE_STEP_COUNT);
        if (named[step]) {
            return PS_FAIL(PS_ERR_USAGE, "sampler order: %s stands there twice", step_names[step]);
        }
        named[step] = true;
    }
    // One of the two is enough.
    if (named[PS_SAMPLE_REPETITION]) named[PS_SAMPLE_OUTPUT_REPETITION] = true;
    if (named[PS_SAMPLE_OUTPUT_REPETITION]) named[PS_SAMPLE_REPETITION] = true;
    for (int i = 0; i < PS_SAMPLE_STEP_COUNT; i++) {
        const char *parameter = ps_sampler_switched_on_by(p, (ps_sample_step)i);
        if (!named[i] && parameter) {
            return PS_FAIL(PS_ERR_USAGE, "%s is set, but the sampler order does not name %s",
                           parameter, step_names[i]);
        }
    }
    return PS_OK;
}

ps_err ps_sample_params_check(const ps_sample_params *params, int V)
{
    assert(V >= 0);
    assert(params->n_logit_bias >= 0 && params->n_banned >= 0 && params->n_end_tokens >= 0);
    assert(params->n_order >= 0 && params->n_order <= PS_SAMPLE_STEP_COUNT);
    PS_TRY(check_numbers(params));
    PS_TRY(check_lists(params, V));
    return check_order(params);
}

ps_err ps_sample_params_check_constraint(const ps_sample_params *p)
{
    for (int i = 0; i < p->n_order; i++) {
        if (p->order[i] == PS_SAMPLE_CONSTRAINT) return PS_OK;
    }
    return PS_FAIL(PS_ERR_USAGE,
                   "the output is constrained, but the sampler order does not name constraint");
}

const char *ps_sample_step_name(ps_sample_step step)
{
    assert((unsigned)step < PS_SAMPLE_STEP_COUNT);
    return step_names[step];
}

enum { NAME_BYTES = 32 };

/* Copies text[0..n) without the blanks around it; cut at NAME_BYTES - 1, which no name reaches. */
static void copy_name(const char *text, size_t n, char name[NAME_BYTES])
{
    while (n > 0 && *text == ' ') {
        text++;
        n--;
    }
    while (n > 0 && text[n - 1] == ' ') {
        n--;
    }
    if (n > NAME_BYTES - 1) n = NAME_BYTES - 1;
    memcpy(name, text, n);
    name[n] = '\0';
}

static int find_preset(const char *name)
{
    for (int i = 0; i < N_PRESETS; i++) {
        if (strcmp(name, presets[i].name) == 0) return i;
    }
    return -1;
}

/* A step by its name. `alone`: a preset may have been meant as well. */
static ps_err find_step(const char *name, bool alone, ps_sample_step *step)
{
    *step = PS_SAMPLE_STEP_COUNT;
    if (*name == '\0') return PS_FAIL(PS_ERR_USAGE, "sampler order: a name is missing");
    const char *nearest = step_names[0];
    int least = INT32_MAX;
    for (int i = 0; i < PS_SAMPLE_STEP_COUNT + (alone ? N_PRESETS : 0); i++) {
        const bool is_step = i < PS_SAMPLE_STEP_COUNT;
        const char *valid = is_step ? step_names[i] : presets[i - PS_SAMPLE_STEP_COUNT].name;
        const int distance = ps_text_distance(name, valid);
        if (distance >= least) continue;
        least = distance;
        nearest = valid;
        if (is_step) *step = (ps_sample_step)i;
    }
    if (least == 0) return PS_OK;
    if (find_preset(name) >= 0) {
        return PS_FAIL(PS_ERR_USAGE, "sampler order: the preset %s must stand alone", name);
    }
    return PS_FAIL(PS_ERR_USAGE, "sampler order: no step is named \"%s\"; the nearest is %s", name,
                   nearest);
}

ps_err ps_sample_order_parse(const char *text, ps_sample_params *params)
{
    char name[NAME_BYTES];
    copy_name(text, strlen(text), name);
    const int preset = find_preset(name);
    if (preset >= 0) {
        use_preset(params, preset);
        return PS_OK;
    }
    ps_sample_step order[PS_SAMPLE_STEP_COUNT];
    bool named[PS_SAMPLE_STEP_COUNT] = {false};
    int n = 0;
    for (const char *from = text;; from++) {
        const size_t length = strcspn(from, ",");
        ps_sample_step step;
        copy_name(from, length, name);
        PS_TRY(find_step(name, n == 0 && from[length] == '\0', &step));
        if (named[step]) {
            return PS_FAIL(PS_ERR_USAGE, "sampler order: %s stands there twice", name);
        }
        named[step] = true;
        order[n++] = step;
        from += length;
        if (*from == '\0') break;
    }
    memcpy(params->order, order, (size_t)n * sizeof *order);
    params->n_order = n;
    return PS_OK;
}
