/* What a rank chooses for its weights, and the words for it. */
#include "tool/placing.h"

#include "support/scratch.h"

static void expect(ps_placing_facts facts, ps_weights_access access, const char *why)
{
    ps_placing found;
    ps_placing_choose(&facts, &found);
    ck_assert_int_eq(found.access, access);
    ck_assert_str_eq(found.why, why);
}

START_TEST(what_was_asked_for_is_taken)
{
    // Whether there is memory for it is the plan's to say.
    expect((ps_placing_facts){PS_WEIGHTS_COPY, 1, NULL, 9, 10, 5}, PS_WEIGHTS_COPY, "--weights");
    expect((ps_placing_facts){PS_WEIGHTS_MAP, 8, "NFS", 5000, 10, 50}, PS_WEIGHTS_MAP, "--weights");
}
END_TEST

START_TEST(auto_maps_local_files_on_one_node_for_short_work)
{
    expect((ps_placing_facts){PS_WEIGHTS_AUTO, 1, NULL, PS_PLACING_LONG - 1, 10, 50},
           PS_WEIGHTS_MAP, "auto: short work, a local file, one NUMA node");
}
END_TEST

START_TEST(auto_copies_on_many_nodes_from_networks_and_for_long_work)
{
    expect((ps_placing_facts){PS_WEIGHTS_AUTO, 2, NULL, 1, 10, 10}, PS_WEIGHTS_COPY,
           "auto: 2 NUMA nodes");
    expect((ps_placing_facts){PS_WEIGHTS_AUTO, 1, "Lustre", 1, 10, 10}, PS_WEIGHTS_COPY,
           "auto: the file is on Lustre");
    expect((ps_placing_facts){PS_WEIGHTS_AUTO, 8, "NFS", 1, 10, 10}, PS_WEIGHTS_COPY,
           "auto: 8 NUMA nodes");
    expect((ps_placing_facts){PS_WEIGHTS_AUTO, 1, NULL, PS_PLACING_LONG, 10, 20}, PS_WEIGHTS_COPY,
           "auto: long work");
}
END_TEST

START_TEST(auto_maps_where_a_copy_does_not_fit)
{
    expect((ps_placing_facts){PS_WEIGHTS_AUTO, 2, NULL, 5000, 11, 10}, PS_WEIGHTS_MAP,
           "auto: 2 NUMA nodes, but no memory");
    expect((ps_placing_facts){PS_WEIGHTS_AUTO, 1, "NFS", 1, 11, 10}, PS_WEIGHTS_MAP,
           "auto: the file is on NFS, but no memory");
    // Speed alone is not worth the memory of others.
    expect((ps_placing_facts){PS_WEIGHTS_AUTO, 1, NULL, 5000, 11, 21}, PS_WEIGHTS_MAP,
           "auto: long work, but no memory");
}
END_TEST

/* Each of the slots takes its turns. */
START_TEST(positions_are_those_of_a_slot)
{
    const ps_limits limits = {.n_slots = 4, .context = 100};
    const struct {
        int64_t n_sequences, longest, wanted;
    } cases[] = {{1, 30, 30},    {4, 30, 30},         {5, 30, 60},
                 {9, 1000, 300}, {1, INT64_MAX, 100}, {INT64_MAX / 4, 100, INT64_MAX}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const ps_needs needs = {.n_sequences = cases[i].n_sequences, .longest = cases[i].longest};
        ck_assert_int_eq(ps_placing_positions(&needs, &limits), cases[i].wanted);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/placing");
    TCase *tcase = scratch_case(suite, "placing");
    tcase_add_test(tcase, what_was_asked_for_is_taken);
    tcase_add_test(tcase, auto_maps_local_files_on_one_node_for_short_work);
    tcase_add_test(tcase, auto_copies_on_many_nodes_from_networks_and_for_long_work);
    tcase_add_test(tcase, auto_maps_where_a_copy_does_not_fit);
    tcase_add_test(tcase, positions_are_those_of_a_slot);
    return scratch_run(suite);
}
