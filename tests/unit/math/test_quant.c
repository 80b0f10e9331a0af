/* The quantised formats: reference blocks bit for bit, scales that are not finite, and the
 * quantisers' errors. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/dtype.h"
#include "math/panel.h"
#include "support/floats.h"
#include "support/golden_quants.h"

START_TEST(reference_blocks_come_out_bit_for_bit)
{
    golden_quant g;
    bool found;
    ck_assert_msg(!golden_quant_open("tests/golden/quants.h5", (ps_dtype)_i, &g, &found), "%s",
                  ps_err_message());
    ck_assert_int_eq(found, _i != PS_F32);
    if (!found) return;
    ps_text first = {0};
    const int wrong = golden_quant_count_wrong(&g, &first);
    ck_assert_msg(wrong == 0, "%s: %d values differ: %s", ps_dtype_name(g.dtype), wrong,
                  ps_text_str(&first));
    ps_text_release(&first);
    golden_quant_release(&g);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("quant");
    tcase_set_timeout(tcase, 60.0);
    tcase_add_loop_test(tcase, reference_blocks_come_out_bit_for_bit, 0, PS_DTYPE_COUNT);
    Suite *suite = suite_create("math/quant");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
