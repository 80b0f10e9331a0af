/* How long sequences may become: by what the work needs, what the model knows, and what --ctx
 * says. */
#include <stdlib.h>
#include <string.h>

#include "support/scratch.h"
#include "tool/job.h"

/* The context that a run gets; windows of 0 leave a layer without one. */
static ps_err context_of(int64_t ctx, int64_t trained, int n_positions, int64_t window,
                         int64_t longest, int64_t *out)
{
    ps_spec spec = ps_spec_plain();
    const ps_run_options run = {.context = ctx, .chunk = 64};
    const ps_needs needs = {.n_sequences = 1, .longest = longest};
    ps_limits limits = {0};
    spec.context = trained;
    spec.n_positions = n_positions;
    ps_spec_take_layers(&spec, 1);
    spec.layers[0].window = window;
    const ps_err err = ps_job_limits(&run, &spec, &needs, 1, &limits);
    *out = limits.context;
    ps_spec_release(&spec);
    return err;
}

static void assert_context(int64_t ctx, int64_t trained, int n_positions, int64_t window,
                           int64_t longest, int64_t wanted)
{
    int64_t found;
    assert_ok(context_of(ctx, trained, n_positions, window, longest, &found));
    ck_assert_int_eq(found, wanted);
}

START_TEST(the_context_is_what_is_needed_as_far_as_the_model_was_trained)
{
    assert_context(0, 4096, 0, 0, 100, 100);
    assert_context(0, 4096, 0, 0, 5000, 4096);
    assert_context(0, 4096, 0, 0, INT64_MAX, 4096);
    assert_context(200, 4096, 0, 0, 100, 200);
    assert_context(8000, 4096, 0, 0, 100, 8000); // with a warning
    assert_context(0, 4096, 0, 64, 5000, 5000);  // windows go on for ever
}
END_TEST

START_TEST(learned_positions_bound_it_whatever_the_windows)
{
    int64_t found;
    assert_context(0, 0, 128, 0, INT64_MAX, 128);
    assert_context(0, 0, 128, 64, INT64_MAX, 128);
    assert_context(0, 4096, 128, 0, 5000, 128);
    assert_context(128, 128, 128, 0, 5000, 128);
    ck_assert_int_eq(context_of(129, 128, 128, 0, 10, &found), PS_ERR_USAGE);
    assert_message("--ctx is 129, but the model has 128 learned positions");
}
END_TEST

START_TEST(without_any_bound_ctx_is_wanted)
{
    int64_t found;
    ck_assert_int_eq(context_of(0, 0, 0, 0, INT64_MAX, &found), PS_ERR_USAGE);
    assert_mentions("give --ctx");
    assert_context(0, 0, 0, 0, 700, 700);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/limits");
    TCase *tcase = scratch_case(suite, "limits");
    tcase_add_test(tcase, the_context_is_what_is_needed_as_far_as_the_model_was_trained);
    tcase_add_test(tcase, learned_positions_bound_it_whatever_the_windows);
    tcase_add_test(tcase, without_any_bound_ctx_is_wanted);
    return scratch_run(suite);
}
