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
    expect((ps_placing_facts){PS_WEIGHTS_COPY, 1, NULL, 0, 10, 5}, PS_WEIGHTS_COPY, "--weights");
    expect((ps_placing_facts){PS_WEIGHTS_MAP, 8, "NFS", 0, 10, 50}, PS_WEIGHTS_MAP, "--weights");
}
END_TEST

START_TEST(auto_maps_local_files_on_one_node)
{
    expect((ps_placing_facts){PS_WEIGHTS_AUTO, 1, NULL, 0, 10, 50}, PS_WEIGHTS_MAP,
           "auto: one NUMA node, no network file system");
}
END_TEST

START_TEST(auto_copies_on_many_nodes_and_from_networks)
{
    expect((ps_placing_facts){PS_WEIGHTS_AUTO, 2, NULL, 0, 10, 10}, PS_WEIGHTS_COPY,
           "auto: 2 NUMA nodes");
    expect((ps_placing_facts){PS_WEIGHTS_AUTO, 1, "Lustre", 0, 10, 10}, PS_WEIGHTS_COPY,
           "auto: the file is on Lustre");
    expect((ps_placing_facts){PS_WEIGHTS_AUTO, 8, "NFS", 0, 10, 10}, PS_WEIGHTS_COPY,
           "auto: 8 NUMA nodes");
}
END_TEST

START_TEST(auto_maps_where_a_copy_does_not_fit)
{
    expect((ps_placing_facts){PS_WEIGHTS_AUTO, 2, NULL, 0, 11, 10}, PS_WEIGHTS_MAP,
           "auto: 2 NUMA nodes, but no memory");
    expect((ps_placing_facts){PS_WEIGHTS_AUTO, 1, "NFS", 0, 11, 10}, PS_WEIGHTS_MAP,
           "auto: the file is on NFS, but no memory");
}
END_TEST

START_TEST(auto_copies_for_long_work_where_there_is_plenty)
{
    expect((ps_placing_facts){PS_WEIGHTS_AUTO, 1, NULL, 256, 10, 20}, PS_WEIGHTS_COPY,
           "auto: 256 steps or more");
    expect((ps_placing_facts){PS_WEIGHTS_AUTO, 1, NULL, 256, 10, 19}, PS_WEIGHTS_MAP,
           "auto: 256 steps or more, but no memory");
    expect((ps_placing_facts){PS_WEIGHTS_AUTO, 1, NULL, 255, 10, 50}, PS_WEIGHTS_MAP,
           "auto: one NUMA node, no network file system");
    expect((ps_placing_facts){PS_WEIGHTS_MAP, 1, NULL, 1000, 10, 50}, PS_WEIGHTS_MAP, "--weights");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/placing");
    TCase *tcase = scratch_case(suite, "placing");
    tcase_add_test(tcase, what_was_asked_for_is_taken);
    tcase_add_test(tcase, auto_maps_local_files_on_one_node);
    tcase_add_test(tcase, auto_copies_on_many_nodes_and_from_networks);
    tcase_add_test(tcase, auto_maps_where_a_copy_does_not_fit);
    tcase_add_test(tcase, auto_copies_for_long_work_where_there_is_plenty);
    return scratch_run(suite);
}
