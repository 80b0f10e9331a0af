/* ACE-Step's states against recorded runs of the published handler: the state, the set of allowed
 * tokens and the token of every step; and what the states tell beforehand, against these.
 *
 * Runs over hashed logits are run. Those over the model's are replayed: they took the largest
 * allowed logit each time, so logits that are largest at the recorded token decide like them. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../support/acestep_lm.h"
#include "base/json.h"
#include "base/mem.h"

typedef struct walk {
    const json_t *run;
    const char *id;
    int t; // tokens so far
    int V;
    bool is_replayed;
    ps_constraint *c;
    float *logits, *seen;     // [V] all of them; those that were asked for
    uint64_t *allowed, *full; // [words] what is allowed with the ones and the others
    size_t words;
} walk;

static acestep_lm lm;

static void open_lm(void)
{
    ck_assert_msg(acestep_lm_open(&lm) == PS_OK, "%s", ps_err_message());
}

static void close_lm(void)
{
    acestep_lm_close(&lm);
}

static int32_t recorded_token(const walk *w, int t)
{
    const json_t *step = json_array_get(json_object_get(w->run, "steps"), (size_t)t);
    return (int32_t)json_integer_value(json_array_get(step, 0));
}

static void fill_logits(walk *w)
{
    if (!w->is_replayed) {
        acestep_lm_hash_logits(w->run, w->t, w->V, w->logits);
        return;
    }
    for (int v = 0; v < w->V; v++) {
        w->logits[v] = v == recorded_token(w, w->t) ? 1.0f : 0.0f;
    }
}

/* Leaves -inf outside of what is expected. */
static void mask_logits(walk *w, const ps_expectation *e)
{
    for (int v = 0; v < w->V; v++) {
        w->seen[v] = e->n_ranges > 0 ? -INFINITY : w->logits[v];
    }
    for (int i = 0; i < e->n_ranges; i++) {
        ck_assert_int_lt(e->ranges[i].first, e->ranges[i].end);
        ck_assert_int_gt(e->ranges[i].first, i > 0 ? e->ranges[i - 1].end : -1);
        ck_assert_int_le(e->ranges[i].end, w->V);
        for (int32_t v = e->ranges[i].first; v < e->ranges[i].end; v++) {
            w->seen[v] = w->logits[v];
        }
    }
}

static void find_allowed(const walk *w, ps_constraint *c, const float *logits, uint64_t *words)
{
    bool all = false;
    ck_assert_int_eq(c->kind->allow(c, logits, words, &all), PS_OK);
    for (int v = 0; all && v < w->V; v++) {
        words[v / 64] |= UINT64_C(1) << (v % 64);
    }
}

static int32_t largest_allowed(const walk *w)
{
    int32_t largest = -1;
    for (int32_t v = 0; v < w->V; v++) {
        if (!(w->allowed[v / 64] >> (v % 64) & 1)) continue;
        if (largest < 0 || w->logits[v] > w->logits[largest]) largest = v;
    }
    return largest;
}

/* Names are "A->B" where the published handler changes its state while it masks. When it finds the
 * prompt's tag only then, B is what it masks by; when genres end so, A is. */
static bool is_state(const char *recorded, const char *found)
{
    const char *arrow = strstr(recorded, "->");
    if (!arrow) return strcmp(recorded, found) == 0;
    if (strncmp(recorded, "THINK_TAG", 9) == 0) return strcmp(arrow + 2, found) == 0;
    return strlen(found) == (size_t)(arrow - recorded) &&
           strncmp(recorded, found, strlen(found)) == 0;
}

static void check_set(const walk *w, const uint64_t *words, int32_t set, const char *which)
{
    ps_text found = {0};
    const json_t *wanted = json_array_get(json_object_get(w->run, "sets"), (size_t)set);
    char *text = json_dumps(wanted, JSON_COMPACT);
    ck_assert_msg(acestep_lm_is_set(wanted, words, w->V, &found),
                  "%s, step %d, %s: allowed %s, wanted %s", w->id, w->t, which, ps_text_str(&found),
                  text);
    free(text);
    ps_text_release(&found);
}

static void check_step(walk *w, const json_t *step)
{
    const char *state = json_string_value(json_array_get(step, 2));
    const int32_t set = (int32_t)json_integer_value(json_array_get(step, 1));
    ps_expectation e;
    ck_assert_msg(is_state(state, ps_acestep_states_name(w->c)), "%s, step %d: state %s, wanted %s",
                  w->id, w->t, ps_acestep_states_name(w->c), state);
    fill_logits(w);
    ps_constraint *other = w->c->kind->copy(w->c);
    w->c->kind->expect(w->c, &e);
    mask_logits(w, &e);
    const int32_t certain = e.certain;
    find_allowed(w, w->c, w->seen, w->allowed);
    find_allowed(w, other, w->logits, w->full);
    check_set(w, w->allowed, set, "with what was expected");
    check_set(w, w->full, set, "with all logits");
    const int32_t token = largest_allowed(w);
    ck_assert_msg(token == recorded_token(w, w->t), "%s, step %d: token %d, wanted %d", w->id, w->t,
                  token, recorded_token(w, w->t));
    ck_assert_msg(certain < 0 || certain == token, "%s, step %d: %d was certain", w->id, w->t,
                  certain);
    other->kind->free(other);
    w->c->kind->advance(w->c, token);
    w->t++;
}

/* The published handler loses the next name's first letter here; we write it. */
static bool is_lost_letter(const json_t *step)
{
    return strcmp(json_string_value(json_array_get(step, 2)), "GENRES_VALUE->KEYSCALE_NAME") == 0;
}

static void walk_run(walk *w)
{
    size_t i;
    json_t *step;
    json_array_foreach(json_object_get(w->run, "steps"), i, step)
    {
        check_step(w, step);
        if (!is_lost_letter(step)) continue;
        ps_expectation e;
        ck_assert_str_eq(ps_acestep_states_name(w->c), "KEYSCALE_NAME");
        w->c->kind->expect(w->c, &e);
        ck_assert_int_eq(e.certain, ps_tokenizer_find(lm.tokenizer, "keyscale"));
        break;
    }
}

static void check_run(const json_t *run, bool is_replayed)
{
    acestep_lm_texts texts;
    ps_acestep_params p;
    walk w = {.run = run, .V = lm.V, .is_replayed = is_replayed};
    w.id = json_string_value(json_object_get(run, "id"));
    w.words = ((size_t)lm.V + 63) / 64;
    w.logits = ps_mem_new((size_t)lm.V, sizeof *w.logits);
    w.seen = ps_mem_new((size_t)lm.V, sizeof *w.seen);
    w.allowed = ps_mem_new(w.words, sizeof *w.allowed);
    w.full = ps_mem_new(w.words, sizeof *w.full);
    ck_assert_msg(acestep_lm_params(&lm, run, &texts, &p) == PS_OK, "%s", ps_err_message());
    ck_assert_msg(ps_acestep_states_new(lm.vocabulary, &p, &w.c) == PS_OK, "%s: %s", w.id,
                  ps_err_message());
    walk_run(&w);
    w.c->kind->free(w.c);
    ps_mem_free(w.full);
    ps_mem_free(w.allowed);
    ps_mem_free(w.seen);
    ps_mem_free(w.logits);
}

/* Every run of the kind asked for; how many there were. */
static int check_runs(bool is_replayed)
{
    ps_text lines = {0};
    int n_runs = 0;
    ck_assert_msg(acestep_lm_read("fsm.jsonl", &lines) == PS_OK, "%s", ps_err_message());
    char *rest = NULL;
    for (char *line = strtok_r(lines.data, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *run = NULL;
        ck_assert_msg(ps_json_parse(line, strlen(line), "fsm.jsonl", &run) == PS_OK, "%s",
                      ps_err_message());
        if (json_is_string(json_object_get(run, "logits")) == is_replayed) {
            check_run(run, is_replayed);
            n_runs++;
        }
        json_decref(run);
    }
    ps_text_release(&lines);
    return n_runs;
}

START_TEST(recorded_runs_over_hashed_logits_are_repeated)
{
    ck_assert_int_eq(check_runs(false), 21);
}
END_TEST

START_TEST(recorded_runs_over_the_model_are_replayed)
{
    ck_assert_int_eq(check_runs(true), 34);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("serve/acestep_golden");
    TCase *runs = tcase_create("runs");
    tcase_set_timeout(runs, 60);
    tcase_add_unchecked_fixture(runs, open_lm, close_lm);
    tcase_add_test(runs, recorded_runs_over_hashed_logits_are_repeated);
    tcase_add_test(runs, recorded_runs_over_the_model_are_replayed);
    suite_add_tcase(suite, runs);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
