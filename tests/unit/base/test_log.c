/* Lines of the log as they arrive at the other end of a pipe, and on a terminal. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

static int kept_stderr, reader;
static char got[3 * PS_LOG_LINE_BYTES];

static void redirect_stderr(void)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    kept_stderr = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    reader = ends[0];
}

static void restore_stderr(void)
{
    dup2(kept_stderr, STDERR_FILENO);
    close(kept_stderr);
    close(reader);
}

/* What one read finds, as a string. Something must have been written. */
static const char *read_once(void)
{
    const ssize_t n = read(reader, got, sizeof got - 1);
    ck_assert_int_ge(n, 0);
    got[n] = '\0';
    return got;
}

START_TEST(rank_0_is_not_named)
{
    ps_log(PS_LOG_INFO, "%d layers", 28);
    ck_assert_str_eq(read_once(), "pipestep: 28 layers\n");
}

START_TEST(other_ranks_are_named)
{
    ps_log_set(PS_LOG_INFO, 3);
    ps_log(PS_LOG_INFO, "ready");
    ck_assert_str_eq(read_once(), "pipestep: [rank 3] ready\n");
}

START_TEST(errors_and_warnings_say_so)
{
    ps_log(PS_LOG_ERROR, "no model");
    ck_assert_str_eq(read_once(), "pipestep: error: no model\n");
    ps_log_set(PS_LOG_INFO, 12);
    ps_log(PS_LOG_WARNING, "slow disk");
    ck_assert_str_eq(read_once(), "pipestep: [rank 12] warning: slow disk\n");
}

START_TEST(debug_is_hidden_until_asked_for)
{
    ck_assert(!ps_log_shows(PS_LOG_DEBUG));
    ps_log(PS_LOG_DEBUG, "one");
    ps_log_set(PS_LOG_DEBUG, 0);
    ps_log(PS_LOG_DEBUG, "two");
    ck_assert_str_eq(read_once(), "pipestep: two\n");
}

START_TEST(a_quiet_log_shows_errors_only)
{
    ps_log_set(PS_LOG_ERROR, 0);
    ps_log(PS_LOG_WARNING, "one");
    ps_log(PS_LOG_INFO, "two");
    ps_log(PS_LOG_ERROR, "three");
    ck_assert_str_eq(read_once(), "pipestep: error: three\n");
}

START_TEST(control_characters_become_blanks)
{
    ps_log(PS_LOG_INFO, "%s", "a\nb\tc\r\033[2Jd\177\n\n");
    ck_assert_str_eq(read_once(), "pipestep: a b c  [2Jd\n");
}

START_TEST(other_letters_pass)
{
    ps_log(PS_LOG_INFO, "%s", "Gr\xC3\xBC\xC3\x9F");
    ck_assert_str_eq(read_once(), "pipestep: Gr\xC3\xBC\xC3\x9F\n");
}

START_TEST(a_line_that_fits_exactly_is_not_cut)
{
    char text[PS_LOG_LINE_BYTES];
    const size_t n = PS_LOG_LINE_BYTES - strlen("pipestep: ") - strlen("...") - 1;
    memset(text, 'x', n);
    text[n] = '\0';
    ps_log(PS_LOG_INFO, "%s", text);
    read_once();
    ck_assert_uint_eq(strlen(got), strlen("pipestep: ") + n + 1);
    ck_assert_str_eq(got + strlen(got) - 3, "xx\n");
}

START_TEST(a_long_line_is_cut_and_marked)
{
    char text[2 * PS_LOG_LINE_BYTES];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    ps_log(PS_LOG_INFO, "%s", text);
    read_once();
    ck_assert_uint_eq(strlen(got), PS_LOG_LINE_BYTES);
    ck_assert_str_eq(got + strlen(got) - 5, "x...\n");
}

START_TEST(a_long_line_is_cut_between_characters)
{
    // Two-byte characters behind `_i` single bytes: one of the two offsets splits a character.
    char text[2 * PS_LOG_LINE_BYTES + 1] = "x";
    for (size_t i = (size_t)_i; i + 1 < sizeof text; i += 2) {
        memcpy(text + i, "\xC3\xBC", 2);
    }
    text[sizeof text - 1] = '\0';
    ps_log(PS_LOG_INFO, "%s", text);
    read_once();
    ck_assert_uint_ge(strlen(got), PS_LOG_LINE_BYTES - 1);
    ck_assert_str_eq(got + strlen(got) - 6, "\xC3\xBC...\n");
}

START_TEST(errno_survives)
{
    errno = ENOENT;
    ps_log(PS_LOG_INFO, "text");
    ck_assert_int_eq(errno, ENOENT);
    ck_assert_str_eq(read_once(), "pipestep: text\n");
}

START_TEST(a_line_is_one_write)
{
    // A datagram socket would show two writes as two; a pipe in packet mode does the same.
    int ends[2];
    ck_assert_int_eq(pipe2(ends, O_DIRECT), 0);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    ps_log_set(PS_LOG_INFO, 1);
    ps_log(PS_LOG_WARNING, "a %s of %d words", "line", 5);
    ps_log(PS_LOG_INFO, "next");
    char packet[256];
    const ssize_t n = read(ends[0], packet, sizeof packet - 1);
    ck_assert_int_gt(n, 0);
    packet[n] = '\0';
    ck_assert_str_eq(packet, "pipestep: [rank 1] warning: a line of 5 words\n");
    close(ends[0]);
}

START_TEST(on_a_terminal_the_line_wipes_a_progress_line)
{
    int terminal, other;
    ck_assert_int_eq(openpty(&terminal, &other, NULL, NULL, NULL), 0);
    dup2(other, STDERR_FILENO);
    close(other);
    ps_log(PS_LOG_INFO, "ready");
    const ssize_t n = read(terminal, got, sizeof got - 1);
    ck_assert_int_gt(n, 0);
    got[n] = '\0';
    ck_assert_str_eq(got, "\r\033[Kpipestep: ready\r\n");
    close(terminal);
}

/* The one line that was written, as JSON; its message in *message. */
static json_t *read_object(const char **message)
{
    read_once();
    const size_t n = strlen(got);
    ck_assert_uint_gt(n, 1);
    ck_assert_uint_le(n, PS_LOG_LINE_BYTES);
    ck_assert_ptr_eq(strchr(got, '\n'), got + n - 1);
    json_error_t error;
    json_t *object = json_loads(got, JSON_REJECT_DUPLICATES, &error);
    ck_assert_msg(object != NULL, "%s: %s", error.text, got);
    *message = json_string_value(json_object_get(object, "message"));
    ck_assert_ptr_nonnull(*message);
    return object;
}

START_TEST(json_lines_say_when_who_and_what)
{
    const char *message;
    char host[64] = "";
    gethostname(host, sizeof host - 1);
    ps_log_set(PS_LOG_INFO, 3);
    ps_log_set_json(true);
    ck_assert(ps_log_is_json());
    ps_log(PS_LOG_WARNING, "slow %s", "disk");
    json_t *object = read_object(&message);
    ck_assert_str_eq(message, "slow disk");
    ck_assert_uint_eq(json_object_size(object), 5);
    ck_assert_int_eq(json_integer_value(json_object_get(object, "rank")), 3);
    ck_assert_str_eq(json_string_value(json_object_get(object, "host")), host);
    ck_assert_str_eq(json_string_value(json_object_get(object, "level")), "warning");
    const char *time = json_string_value(json_object_get(object, "time"));
    ck_assert_uint_eq(strlen(time), strlen("2026-01-31T23:59:59.999Z"));
    ck_assert_int_eq(time[10], 'T');
    ck_assert_int_eq(time[19], '.');
    json_decref(object);
}

START_TEST(json_levels_have_names)
{
    static const char *const names[] = {"status", "error", "warning", "info", "debug"};
    const char *message;
    ps_log_set(PS_LOG_DEBUG, 0);
    ps_log_set_json(true);
    for (int level = 0; level < PS_LOG_LEVEL_COUNT; level++) {
        ps_log((ps_log_level)level, "x");
        json_t *object = read_object(&message);
        ck_assert_str_eq(json_string_value(json_object_get(object, "level")), names[level]);
        json_decref(object);
    }
}

START_TEST(json_keeps_every_message)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"a\nb\tc\r\033[2J \x7f ", "a\nb\tc\r\033[2J \x7f "},
        {"\"C:\\x\": 100 %", "\"C:\\x\": 100 %"},
        {"Gr\xC3\xBC\xC3\x9F \xF0\x9F\x8E\xB5", "Gr\xC3\xBC\xC3\x9F \xF0\x9F\x8E\xB5"},
        // A lone continuation, a surrogate, a character that is not whole.
        {"a\x80z", "a\xEF\xBF\xBDz"},
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xE2\x82", "\xEF\xBF\xBD\xEF\xBF\xBD"},
    };
    const char *message;
    ps_log_set_json(true);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ps_log(PS_LOG_INFO, "%s", cases[i][0]);
        json_t *object = read_object(&message);
        ck_assert_str_eq(message, cases[i][1]);
        json_decref(object);
    }
}

START_TEST(json_survives_any_bytes)
{
    char text[300];
    const char *message;
    uint32_t state = 12345;
    ps_log_set_json(true);
    for (int round = 0; round < 500; round++) {
        for (size_t i = 0; i + 1 < sizeof text; i++) {
            state = state * 1664525 + 1013904223;
            text[i] = (char)(1 + (state >> 24) % 255);
        }
        text[sizeof text - 1] = '\0';
        ps_log(PS_LOG_INFO, "%s", text);
        json_decref(read_object(&message));
    }
}

START_TEST(json_lines_are_cut_too)
{
    // Characters that take 1, 2, 3 and 6 bytes in the line.
    static const char *const units[] = {"x", "\"", "\xE2\x82\xAC", "\001"};
    char text[3 * PS_LOG_LINE_BYTES] = "";
    const char *message, *unit = units[_i];
    const size_t n = strlen(unit);
    for (size_t i = 0; i + n < sizeof text; i += n) {
        memcpy(text + i, unit, n + 1);
    }
    ps_log_set_json(true);
    ps_log(PS_LOG_INFO, "%s", text);
    json_t *object = read_object(&message);
    const size_t length = strlen(message);
    ck_assert_uint_ge(strlen(got), PS_LOG_LINE_BYTES - 12);
    ck_assert_str_eq(message + length - 3, "...");
    ck_assert_uint_eq((length - 3) % n, 0);
    ck_assert_int_eq(memcmp(message, text, length - 3), 0);
    json_decref(object);
}

int main(void)
{
    Suite *suite = suite_create("log");
    TCase *lines = tcase_create("lines");
    tcase_add_checked_fixture(lines, redirect_stderr, restore_stderr);
    tcase_add_test(lines, rank_0_is_not_named);
    tcase_add_test(lines, other_ranks_are_named);
    tcase_add_test(lines, errors_and_warnings_say_so);
    tcase_add_test(lines, debug_is_hidden_until_asked_for);
    tcase_add_test(lines, a_quiet_log_shows_errors_only);
    tcase_add_test(lines, control_characters_become_blanks);
    tcase_add_test(lines, other_letters_pass);
    tcase_add_test(lines, a_line_that_fits_exactly_is_not_cut);
    tcase_add_test(lines, a_long_line_is_cut_and_marked);
    tcase_add_loop_test(lines, a_long_line_is_cut_between_characters, 0, 2);
    tcase_add_test(lines, errno_survives);
    tcase_add_test(lines, a_line_is_one_write);
    tcase_add_test(lines, on_a_terminal_the_line_wipes_a_progress_line);
    tcase_add_test(lines, json_lines_say_when_who_and_what);
    tcase_add_test(lines, json_levels_have_names);
    tcase_add_test(lines, json_keeps_every_message);
    tcase_add_test(lines, json_survives_any_bytes);
    tcase_add_loop_test(lines, json_lines_are_cut_too, 0, 4);
    suite_add_tcase(suite, lines);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
