/* Progress through a pipe and on a pseudo terminal. Time passes by moving the beginning back. */
#include <check.h>
#include <fcntl.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/log.h"
#include "base/progress.h"

static int kept_stderr, reader;
static char got[8192];

static void stderr_into(int fd)
{
    kept_stderr = dup(STDERR_FILENO);
    dup2(fd, STDERR_FILENO);
    close(fd);
    fcntl(reader, F_SETFL, O_NONBLOCK);
}

static void into_pipe(void)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    reader = ends[0];
    stderr_into(ends[1]);
}

static void into_terminal(void)
{
    int other;
    const struct winsize size = {.ws_row = 24, .ws_col = 70};
    ck_assert_int_eq(openpty(&reader, &other, NULL, NULL, &size), 0);
    stderr_into(other);
}

static void restore_stderr(void)
{
    dup2(kept_stderr, STDERR_FILENO);
    close(kept_stderr);
    close(reader);
}

/* All that was written since the last call. */
static const char *written(void)
{
    const ssize_t n = read(reader, got, sizeof got - 1);
    got[n > 0 ? n : 0] = '\0';
    return got;
}

/* The cases are chosen so that a second more or less of real time changes no digit. */
static void pass_seconds(ps_progress *p, double seconds)
{
    p->begin_ns -= (int64_t)(seconds * 1e9);
    p->shown_ns -= (int64_t)(seconds * 1e9);
}

START_TEST(through_a_pipe_nothing_shows_within_a_minute)
{
    ps_progress p;
    ps_progress_begin(&p, "convert", 100, "files", false);
    ps_progress_update(&p, 1);
    pass_seconds(&p, 58);
    ps_progress_update(&p, 50);
    ps_progress_end(&p);
    ck_assert_str_eq(written(), "");
}

START_TEST(through_a_pipe_one_line_a_minute)
{
    ps_progress p;
    ps_progress_begin(&p, "convert", 200, "files", false);
    pass_seconds(&p, 100);
    ps_progress_update(&p, 160);
    ps_progress_update(&p, 161);
    pass_seconds(&p, 57);
    ps_progress_update(&p, 162);
    ck_assert_str_eq(written(),
                     "pipestep: convert:  80%  160 files of 200 files, 1.6 files/s, 0:25 left\n");
    pass_seconds(&p, 3);
    ps_progress_update(&p, 192);
    ck_assert_str_eq(written(),
                     "pipestep: convert:  96%  192 files of 200 files, 1.2 files/s, 0:07 left\n");
}

START_TEST(the_end_tells_the_time_it_took)
{
    ps_progress p;
    ps_progress_begin(&p, "score", 7200, "tokens", false);
    pass_seconds(&p, 61);
    ps_progress_update(&p, 61);
    written();
    pass_seconds(&p, 3538.7);
    ps_progress_update(&p, 7200);
    written();
    ps_progress_end(&p);
    const char *line = written();
    ck_assert_msg(strncmp(line, "pipestep: score: 100%  7200 tokens of 7200 tokens, ", 51) == 0,
                  "%s", line);
    ck_assert_msg(strstr(line, "/s, took 1:00:00\n") != NULL, "%s", line);
    ps_progress_end(&p);
    ck_assert_str_eq(written(), "");
}

START_TEST(bytes_are_scaled)
{
    ps_progress p;
    ps_progress_begin(&p, "read", 3100000000, "B", false);
    pass_seconds(&p, 1000);
    ps_progress_update(&p, 2600000000);
    ck_assert_str_eq(written(), "pipestep: read:  83%  2.6 GB of 3.1 GB, 2.6 MB/s, 3:12 left\n");
}

START_TEST(without_a_total_there_is_no_share)
{
    ps_progress p;
    ps_progress_begin(&p, "tunes", 0, "tokens", false);
    pass_seconds(&p, 100);
    ps_progress_update(&p, 5000);
    const char *line = written();
    ck_assert_msg(strncmp(line, "pipestep: tunes: 5000 tokens, ", 30) == 0, "%s", line);
    ck_assert_ptr_null(strstr(line, "left"));
    ck_assert_ptr_null(strstr(line, "%"));
}

START_TEST(more_than_the_total_is_all_of_it)
{
    ps_progress p;
    ps_progress_begin(&p, "x", 10, "files", false);
    pass_seconds(&p, 100);
    ps_progress_update(&p, UINT64_MAX);
    const char *line = written();
    ck_assert_ptr_nonnull(strstr(line, "100%"));
    ck_assert_ptr_null(strstr(line, "left"));
}

START_TEST(nothing_done_yet_has_no_time_left)
{
    ps_progress p;
    ps_progress_begin(&p, "x", 10, "files", false);
    pass_seconds(&p, 100);
    ps_progress_update(&p, 0);
    ck_assert_str_eq(written(), "pipestep: x:   0%  0 files of 10 files, 0 files/s\n");
}

START_TEST(silent_shows_nothing)
{
    ps_progress p;
    ps_progress_begin(&p, "convert", 200, "files", true);
    pass_seconds(&p, 100);
    ps_progress_update(&p, 50);
    ps_progress_end(&p);
    ck_assert_str_eq(written(), "");
}

START_TEST(a_quiet_log_silences_progress)
{
    ps_log_set(PS_LOG_WARNING, 0);
    ps_progress p;
    ps_progress_begin(&p, "convert", 200, "files", false);
    pass_seconds(&p, 100);
    ps_progress_update(&p, 50);
    ps_progress_end(&p);
    ck_assert_str_eq(written(), "");
}

START_TEST(on_a_terminal_nothing_shows_within_a_second)
{
    ps_progress p;
    ps_progress_begin(&p, "convert", 100, "files", false);
    ps_progress_update(&p, 100);
    ps_progress_end(&p);
    ck_assert_str_eq(written(), "");
}

START_TEST(on_a_terminal_the_line_is_drawn_in_place)
{
    ps_progress p;
    ps_progress_begin(&p, "convert", 200, "files", false);
    pass_seconds(&p, 1000);
    ps_progress_update(&p, 180);
    ck_assert_str_eq(written(),
                     "\rconvert:  90%  180 files of 200 files, 0.18 files/s, 1:51 left\033[K");
    pass_seconds(&p, 999.7);
    ps_progress_update(&p, 190);
    ck_assert_str_eq(written(),
                     "\rconvert:  95%  190 files of 200 files, 0.095 files/s, 1:45 left\033[K");
    ps_progress_end(&p);
    ck_assert_str_eq(
        written(), "\rconvert:  95%  190 files of 200 files, 0.095 files/s, took 33:20\033[K\r\n");
}

START_TEST(on_a_terminal_it_is_drawn_at_most_5_times_a_second)
{
    ps_progress p;
    ps_progress_begin(&p, "convert", 1000000, "files", false);
    pass_seconds(&p, 10);
    const int64_t begin_ns = p.begin_ns;
    int lines = 0;
    for (uint64_t i = 0; i < 20000; i++) {
        const int64_t shown_ns = p.shown_ns;
        ps_progress_update(&p, i);
        if (p.shown_ns == shown_ns) continue;
        if (lines++ > 0) ck_assert_int_ge(p.shown_ns - shown_ns, 200000000);
    }
    ck_assert_int_ge(lines, 1);
    ck_assert_int_eq(p.begin_ns, begin_ns);
}

START_TEST(a_line_never_reaches_the_terminals_last_column)
{
    ps_progress p;
    ps_progress_begin(&p,
                      "a very long name of a\nfile that somebody gave, \033[2J, \xC3\xBC\xC3\xBC",
                      200, "pieces of work", false);
    pass_seconds(&p, 10);
    ps_progress_update(&p, 50);
    const char *line = written();
    ck_assert_msg(strlen(line) <= 1 + 69 + 3, "%s", line);
    ck_assert_msg(strlen(line) >= 1 + 68 + 3, "%s", line);
    ck_assert_ptr_null(strchr(line, '\n'));
    ck_assert_ptr_null(strstr(line, "\033[2J"));
}

int main(void)
{
    Suite *suite = suite_create("progress");
    TCase *through_pipe = tcase_create("pipe"), *terminal = tcase_create("terminal");
    tcase_add_checked_fixture(through_pipe, into_pipe, restore_stderr);
    tcase_add_test(through_pipe, through_a_pipe_nothing_shows_within_a_minute);
    tcase_add_test(through_pipe, through_a_pipe_one_line_a_minute);
    tcase_add_test(through_pipe, the_end_tells_the_time_it_took);
    tcase_add_test(through_pipe, bytes_are_scaled);
    tcase_add_test(through_pipe, without_a_total_there_is_no_share);
    tcase_add_test(through_pipe, more_than_the_total_is_all_of_it);
    tcase_add_test(through_pipe, nothing_done_yet_has_no_time_left);
    tcase_add_test(through_pipe, silent_shows_nothing);
    tcase_add_test(through_pipe, a_quiet_log_silences_progress);
    suite_add_tcase(suite, through_pipe);
    tcase_add_checked_fixture(terminal, into_terminal, restore_stderr);
    tcase_add_test(terminal, on_a_terminal_nothing_shows_within_a_second);
    tcase_add_test(terminal, on_a_terminal_the_line_is_drawn_in_place);
    tcase_add_test(terminal, on_a_terminal_it_is_drawn_at_most_5_times_a_second);
    tcase_add_test(terminal, a_line_never_reaches_the_terminals_last_column);
    suite_add_tcase(suite, terminal);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
