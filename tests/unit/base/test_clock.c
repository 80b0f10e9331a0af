/* Clocks, as far as they can be tested without trusting another clock. */
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "base/clock.h"

START_TEST(time_goes_forwards)
{
    int64_t last_ns = ps_clock_now_ns();
    for (int i = 0; i < 100000; i++) {
        const int64_t now_ns = ps_clock_now_ns();
        ck_assert_int_ge(now_ns, last_ns);
        last_ns = now_ns;
    }
}

START_TEST(seconds_between_have_a_sign)
{
    ck_assert_double_eq_tol(ps_clock_seconds_between(1000000000, 3500000000), 2.5, 1e-12);
    ck_assert_double_eq_tol(ps_clock_seconds_between(3500000000, 1000000000), -2.5, 1e-12);
}

START_TEST(a_sleep_lasts_at_least_as_long_as_asked)
{
    const int64_t before_ns = ps_clock_now_ns();
    ps_clock_sleep_us(20000);
    const int64_t slept_ns = ps_clock_now_ns() - before_ns;
    ck_assert_int_ge(slept_ns, 20000000);
    ck_assert_int_lt(slept_ns, 3000000000);
}

START_TEST(no_sleep_for_nothing)
{
    const int64_t before_ns = ps_clock_now_ns();
    ps_clock_sleep_us(0);
    ps_clock_sleep_us(INT64_MIN);
    ck_assert_int_lt(ps_clock_now_ns() - before_ns, 1000000000);
}

static volatile sig_atomic_t n_alarms;

static void count_alarm(int signal)
{
    (void)signal;
    n_alarms++;
}

START_TEST(signals_do_not_shorten_a_sleep)
{
    signal(SIGALRM, count_alarm);
    const struct itimerval every_5_ms = {{0, 5000}, {0, 5000}}, never = {{0, 0}, {0, 0}};
    const int64_t before_ns = ps_clock_now_ns();
    ck_assert_int_eq(setitimer(ITIMER_REAL, &every_5_ms, NULL), 0);
    ps_clock_sleep_us(60000);
    setitimer(ITIMER_REAL, &never, NULL);
    ck_assert_int_ge(ps_clock_now_ns() - before_ns, 60000000);
    ck_assert_int_ge(n_alarms, 2);
}

START_TEST(dates_are_written_in_utc)
{
    static const struct {
        int64_t unix_s;
        const char *text;
    } cases[] = {{0, "1970-01-01T00:00:00Z"},
                 {951827696, "2000-02-29T12:34:56Z"},
                 {4102444799, "2099-12-31T23:59:59Z"},
                 {253402300799, "9999-12-31T23:59:59Z"}};
    setenv("TZ", "Asia/Tokyo", 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[PS_CLOCK_UTC_BYTES];
        ps_clock_utc_text(cases[i].unix_s, text);
        ck_assert_str_eq(text, cases[i].text);
    }
}

START_TEST(dates_have_milliseconds_where_they_are_wanted)
{
    char text[PS_CLOCK_UTC_MS_BYTES];
    ps_clock_utc_ms_text(0, text);
    ck_assert_str_eq(text, "1970-01-01T00:00:00.000Z");
    ps_clock_utc_ms_text(951827696007, text);
    ck_assert_str_eq(text, "2000-02-29T12:34:56.007Z");
    ps_clock_utc_ms_text(253402300799999, text);
    ck_assert_str_eq(text, "9999-12-31T23:59:59.999Z");
    const int64_t before_s = ps_clock_unix_s(), now_ms = ps_clock_unix_ms();
    ck_assert_int_ge(now_ms / 1000, before_s);
    ck_assert_int_le(now_ms / 1000, ps_clock_unix_s());
}

START_TEST(today_is_later_than_this_test)
{
    ck_assert_int_gt(ps_clock_unix_s(), 1735689600); // 2025
    char text[PS_CLOCK_UTC_BYTES];
    ps_clock_utc_text(ps_clock_unix_s(), text);
    ck_assert_uint_eq(strlen(text), PS_CLOCK_UTC_BYTES - 1);
}

int main(void)
{
    Suite *suite = suite_create("clock");
    TCase *clocks = tcase_create("clocks");
    tcase_add_test(clocks, time_goes_forwards);
    tcase_add_test(clocks, seconds_between_have_a_sign);
    tcase_add_test(clocks, a_sleep_lasts_at_least_as_long_as_asked);
    tcase_add_test(clocks, no_sleep_for_nothing);
    tcase_add_test(clocks, signals_do_not_shorten_a_sleep);
    tcase_add_test(clocks, dates_are_written_in_utc);
    tcase_add_test(clocks, dates_have_milliseconds_where_they_are_wanted);
    tcase_add_test(clocks, today_is_later_than_this_test);
    suite_add_tcase(suite, clocks);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
