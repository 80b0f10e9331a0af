/* The command line: each way to write an option, each kind of value, each refusal with its exact
 * text. The configuration file is in test_opt_config.c. */
#include "opt_table.h"

/* ---- defaults ---- */

START_TEST(targets_begin_with_the_defaults_of_the_table)
{
    memset(&run, 0xAA, sizeof run);
    memset(&sampling, 0xAA, sizeof sampling);
    ps_opt_defaults(groups, 2);
    ck_assert(run.progress && !run.verbose && !run.help);
    ck_assert_int_eq(run.threads, 1);
    ck_assert_int_eq(run.offset, 0);
    ck_assert_uint_eq(run.seed, 0);
    ck_assert_ptr_null(run.config);
    ck_assert_str_eq(run.output, "-");
    ck_assert_int_eq(run.wait, WAIT_SHARED);
    ck_assert_double_eq(run.deadline_s, 120.0);
    ck_assert_double_eq(sampling.temperature, 0.8);
    ck_assert_ptr_null(sampling.prompt);
    ck_assert_int_eq(sampling.stop.count, 0);
}

START_TEST(an_empty_line_leaves_the_defaults)
{
    ck_assert_int_eq(parse_with(NULL, 0, NULL), PS_OK);
    ck_assert_int_eq(run.threads, 1);
    ck_assert_int_eq(parsed.n_positionals, 0);
    ck_assert(!ps_opt_is_set(&parsed, "threads"));
}

START_TEST(a_default_that_its_row_refuses_is_a_programmer_error)
{
    static const ps_opt rows[] = {
        {.name = "x", .type = PS_OPT_INT, .initial = "0", .min = 1, .max = 2}};
    int x;
    close(STDERR_FILENO); // the assertion's own words are not for the test's output
    const ps_opt_group group = {.title = "Bad", .rows = rows, .count = 1, .target = &x};
    ps_opt_defaults(&group, 1);
}

START_TEST(two_rows_of_one_name_are_a_programmer_error)
{
    const ps_opt_group twice[] = {groups[1], groups[1]};
    close(STDERR_FILENO);
    const ps_err err = ps_opt_parse(twice, 2, NULL, 0, NULL, &parsed);
    ck_abort_msg("parsed: %d", (int)err);
}

/* ---- ways to write an option ---- */

START_TEST(a_value_may_stand_in_the_next_argument)
{
    PARSES("--threads", "5");
    ck_assert_int_eq(run.threads, 5);
}

START_TEST(a_value_may_stand_behind_an_equals_sign)
{
    PARSES("--threads=5", "--prompt=a=b", "--output=");
    ck_assert_int_eq(run.threads, 5);
    ck_assert_str_eq(sampling.prompt, "a=b");
    ck_assert_str_eq(run.output, "");
}

START_TEST(a_flag_is_set_by_its_name)
{
    PARSES("--verbose");
    ck_assert(run.verbose);
}

START_TEST(a_flag_is_cleared_by_no_and_its_name)
{
    PARSES("--no-progress");
    ck_assert(!run.progress);
    ck_assert(ps_opt_is_set(&parsed, "progress"));
}

START_TEST(a_letter_takes_the_next_argument)
{
    PARSES("-n", "5", "-v");
    ck_assert_int_eq(run.threads, 5);
    ck_assert(run.verbose);
}

START_TEST(a_letter_takes_the_rest_of_its_argument)
{
    PARSES("-n5", "-phello");
    ck_assert_int_eq(run.threads, 5);
    ck_assert_str_eq(sampling.prompt, "hello");
}

START_TEST(an_equals_sign_behind_a_letter_is_not_part_of_the_value)
{
    PARSES("-n=5", "-p==x");
    ck_assert_int_eq(run.threads, 5);
    ck_assert_str_eq(sampling.prompt, "=x");
}

START_TEST(negative_numbers_are_values)
{
    PARSES("--steps", "-1", "--offset", "-9", "--scale", "-.5");
    ck_assert_int_eq(run.steps, -1);
    ck_assert_int_eq(run.offset, -9);
    ck_assert_double_eq(sampling.scale, -0.5);
}

START_TEST(two_dashes_end_the_options)
{
    PARSES("-n", "2", "--", "--threads", "-v");
    ck_assert_int_eq(run.threads, 2);
    ck_assert_int_eq(parsed.n_positionals, 2);
    ck_assert_str_eq(parsed.positionals[0], "--threads");
    ck_assert_str_eq(parsed.positionals[1], "-v");
}

START_TEST(a_lone_dash_is_a_positional)
{
    PARSES("-");
    ck_assert_int_eq(parsed.n_positionals, 1);
    ck_assert_str_eq(parsed.positionals[0], "-");
}

START_TEST(a_lone_dash_is_a_value_too)
{
    PARSES("--output", "-", "-p", "-");
    ck_assert_str_eq(run.output, "-");
    ck_assert_str_eq(sampling.prompt, "-");
}

START_TEST(positionals_and_options_may_mix)
{
    PARSES("m.h5", "--threads", "2", "in.txt");
    ck_assert_int_eq(parsed.n_positionals, 2);
    ck_assert_str_eq(parsed.positionals[0], "m.h5");
    ck_assert_str_eq(parsed.positionals[1], "in.txt");
}

START_TEST(an_empty_argument_is_a_positional)
{
    PARSES("");
    ck_assert_int_eq(parsed.n_positionals, 1);
}

START_TEST(a_list_takes_every_item_in_order)
{
    PARSES("--stop", "a", "--stop=b", "--stop", "a");
    ck_assert_int_eq(sampling.stop.count, 3);
    ck_assert_str_eq(sampling.stop.items[0], "a");
    ck_assert_str_eq(sampling.stop.items[1], "b");
    ck_assert_str_eq(sampling.stop.items[2], "a");
}

START_TEST(what_was_given_can_be_asked_for)
{
    PARSES("--seed", "0", "--stop", "x");
    ck_assert(ps_opt_is_set(&parsed, "seed"));
    ck_assert(ps_opt_is_set(&parsed, "stop"));
    ck_assert(!ps_opt_is_set(&parsed, "threads"));
}

START_TEST(help_ends_the_parsing_at_once)
{
    ck_assert_int_eq(parse_with(&one_or_two, ARGS("--threads", "3", "-h", "--nonsense")), PS_OK);
    ck_assert(parsed.help);
    ck_assert_int_eq(run.threads, 1);
}

START_TEST(without_help_the_flag_is_down)
{
    PARSES("-v");
    ck_assert(!parsed.help);
}

/* ---- values ---- */

START_TEST(seconds_take_units)
{
    static const struct {
        const char *text;
        double seconds;
    } cases[] = {{"90", 90},     {"1.5", 1.5}, {"2m", 120}, {"1h", 3600},
                 {"0.5h", 1800}, {"7s", 7},    {"0", 0}};
    for (int i = 0; i < COUNT(cases); i++) {
        ps_opt_release(&parsed);
        PARSES("--deadline", cases[i].text);
        ck_assert_double_eq(run.deadline_s, cases[i].seconds);
    }
}

START_TEST(whole_numbers_reach_the_ends_of_their_types)
{
    PARSES("--steps", "-2147483648", "--offset", "-9223372036854775808", "--seed",
           "18446744073709551615");
    ck_assert_int_eq(run.steps, -2147483647 - 1);
    ck_assert(run.offset == INT64_MIN);
    ck_assert(run.seed == UINT64_MAX);
    ps_opt_release(&parsed);
    PARSES("--steps", "2147483647", "--offset", "9223372036854775807", "--seed", "0");
    ck_assert_int_eq(run.steps, 2147483647);
    ck_assert(run.offset == INT64_MAX);
}

START_TEST(leading_zeros_do_not_make_a_number_octal)
{
    PARSES("--steps", "010");
    ck_assert_int_eq(run.steps, 10);
}

START_TEST(a_seed_may_be_hexadecimal)
{
    PARSES("--seed", "0xFFffFFffFFffFFff");
    ck_assert(run.seed == UINT64_MAX);
    ps_opt_release(&parsed);
    PARSES("-s0x1F");
    ck_assert_uint_eq(run.seed, 31);
}

START_TEST(bounds_belong_to_the_range)
{
    PARSES("--threads", "64", "--temperature", "10", "--half", "0.5", "--grace", "1m");
    ck_assert_int_eq(run.threads, 64);
    ck_assert_double_eq(sampling.temperature, 10.0);
    ck_assert_double_eq(sampling.half, 0.5);
    ck_assert_double_eq(run.grace_s, 60.0);
}

START_TEST(reals_are_read_to_the_nearest_double)
{
    PARSES("--scale", "0.1", "--half", "1e300");
    ck_assert(sampling.scale == 0.1);
    ck_assert(sampling.half == 1e300);
    ps_opt_release(&parsed);
    PARSES("--scale", "1e-999");
    ck_assert(sampling.scale == 0.0);
}

START_TEST(names_of_one_choice_may_share_a_value)
{
    PARSES("--wait", "busy");
    ck_assert_int_eq(run.wait, WAIT_LATENCY);
}

START_TEST(values_that_are_no_integers_are_refused)
{
    static const char *const bad[] = {
        "1e3", "1.0", "",   " 1", "1 ",         "+1",          "0x10",
        "--1", "-",   "1a", "a",  "2147483648", "-2147483649", "99999999999999999999999999"};
    for (int i = 0; i < COUNT(bad); i++) {
        char argument[64], message[160];
        snprintf(argument, sizeof argument, "--steps=%s", bad[i]);
        snprintf(message, sizeof message,
                 "option --steps wants an integer in -2147483648..2147483647, found \"%s\"",
                 bad[i]);
        REFUSES(message, argument);
    }
}

START_TEST(values_that_are_no_seeds_are_refused)
{
    static const char *const bad[] = {
        "-1", "18446744073709551616", "0x", "0x10000000000000000", "0xg", "1.5", "0x-1", "f"};
    for (int i = 0; i < COUNT(bad); i++) {
        char argument[64], message[160];
        snprintf(argument, sizeof argument, "--seed=%s", bad[i]);
        snprintf(message, sizeof message,
                 "option --seed wants an integer in 0..18446744073709551615, found \"%s\"", bad[i]);
        REFUSES(message, argument);
    }
}

START_TEST(values_that_are_no_finite_numbers_are_refused)
{
    static const char *const bad[] = {
        "nan", "NaN", "inf", "-inf", "infinity", "1e999", "-1e999", "0x1p3", "1.0x",   "",
        " 1",  "1 ",  "1e",  ".",    "-",        "1,5",   "1.2.3",  "1e5e5", "nan(1)", "1_0"};
    for (int i = 0; i < COUNT(bad); i++) {
        char argument[64], message[160];
        snprintf(argument, sizeof argument, "--scale=%s", bad[i]);
        snprintf(message, sizeof message, "option --scale wants a finite number, found \"%s\"",
                 bad[i]);
        REFUSES(message, argument);
    }
}

START_TEST(values_that_are_no_times_are_refused)
{
    static const char *const bad[] = {"-1",  "1d",  "1hh",    "h",     "",
                                      "nan", "1 h", "1e308h", "1h30m", "inf"};
    for (int i = 0; i < COUNT(bad); i++) {
        char argument[64], message[160];
        snprintf(argument, sizeof argument, "--deadline=%s", bad[i]);
        snprintf(message, sizeof message,
                 "option --deadline wants a time (90, 1.5, 2m, 1h), found \"%s\"", bad[i]);
        REFUSES(message, argument);
    }
}

START_TEST(an_integer_out_of_range_is_refused_with_the_range)
{
    REFUSES("option --threads wants an integer in 1..64, found \"65\"", "--threads", "65");
    REFUSES("option --threads wants an integer in 1..64, found \"0\"", "-n0");
    REFUSES("option --threads wants an integer in 1..64, found \"-1\"", "-n", "-1");
}

START_TEST(an_offset_out_of_its_type_is_refused)
{
    REFUSES("option --offset wants an integer in -9223372036854775808..9223372036854775807, found "
            "\"9223372036854775808\"",
            "--offset", "9223372036854775808");
    REFUSES("option --offset wants an integer in -9223372036854775808..9223372036854775807, found "
            "\"-9223372036854775809\"",
            "--offset", "-9223372036854775809");
}

START_TEST(a_real_out_of_range_is_refused_with_the_range)
{
    REFUSES("option --temperature wants a finite number in 0..10, found \"10.001\"",
            "--temperature", "10.001");
    REFUSES("option --half wants a finite number >= 0.5, found \"0.4\"", "--half", "0.4");
    REFUSES("option --grace wants a time (90, 1.5, 2m, 1h) in 0..60, found \"2m\"", "--grace",
            "2m");
}

START_TEST(an_unknown_choice_is_refused_with_the_nearest)
{
    REFUSES("option --wait wants one of latency|shared|busy, found \"latencie\"; did you mean "
            "latency?",
            "--wait", "latencie");
    REFUSES("option --wait wants one of latency|shared|busy, found \"zebra\"", "--wait", "zebra");
    REFUSES("option --wait wants one of latency|shared|busy, found \"\"", "--wait=");
}

/* ---- errors of the line ---- */

START_TEST(an_unknown_option_is_refused_with_the_nearest)
{
    REFUSES("unknown option --temprature; did you mean --temperature?", "--temprature", "1");
    REFUSES("unknown option --sede; did you mean --seed?", "--sede=1");
    REFUSES("unknown option --temp; did you mean --temperature?", "--temp", "1");
}

START_TEST(an_unknown_option_far_from_all_gets_no_advice)
{
    REFUSES("unknown option --quixotic", "--quixotic");
    REFUSES("unknown option --x", "--x");
    REFUSES("unknown option --", "--=5");
}

START_TEST(an_unknown_negation_is_refused_with_the_nearest_flag)
{
    REFUSES("unknown option --no-progres; did you mean --no-progress?", "--no-progres");
}

START_TEST(only_flags_have_a_negation)
{
    REFUSES("unknown option --no-seed; did you mean --seed?", "--no-seed");
    REFUSES("unknown option --no-", "--no-");
}

START_TEST(an_unknown_letter_is_refused)
{
    REFUSES("unknown option -x", "-x");
    REFUSES("unknown option -5", "-5");
}

START_TEST(a_missing_value_is_refused)
{
    REFUSES("option --seed needs a value", "--seed");
    REFUSES("option --threads needs a value", "-v", "-n");
}

START_TEST(an_option_is_not_taken_for_a_value)
{
    REFUSES("option --prompt needs a value, found the option --seed; if that is the value, write "
            "--prompt=--seed",
            "--prompt", "--seed", "1");
    REFUSES("option --prompt needs a value, found the option -v; if that is the value, write "
            "--prompt=-v",
            "-p", "-v");
    REFUSES("option --seed needs a value, found the option --; if that is the value, write "
            "--seed=--",
            "--seed", "--", "5");
}

START_TEST(behind_an_equals_sign_anything_is_a_value)
{
    PARSES("--prompt=--seed", "--output=-v");
    ck_assert_str_eq(sampling.prompt, "--seed");
    ck_assert_str_eq(run.output, "-v");
}

START_TEST(a_text_may_begin_with_a_dash_that_begins_no_option)
{
    PARSES("--prompt", "-x", "-o", "-very long");
    ck_assert_str_eq(sampling.prompt, "-x");
    ck_assert_str_eq(run.output, "-very long");
}

START_TEST(a_flag_with_a_value_is_refused)
{
    REFUSES("option --verbose takes no value, found \"true\"", "--verbose=true");
    REFUSES("option --no-progress takes no value, found \"\"", "--no-progress=");
    REFUSES("option -v takes no value, found \"q\"", "-vq");
}

START_TEST(an_option_given_twice_is_refused)
{
    REFUSES("option --seed is given twice", "--seed", "1", "-s", "1");
    REFUSES("option --progress is given twice", "--progress", "--no-progress");
    REFUSES("option --config is given twice", "--config", "a", "--config", "b");
}

START_TEST(too_many_positionals_are_refused)
{
    REFUSES("argument \"c\" is too much; wanted only MODEL FILE", "a", "b", "c", "d");
    ck_assert_int_eq(parse_with(NULL, ARGS("a")), PS_ERR_USAGE);
    ck_assert_str_eq(ps_err_message(), "argument \"a\" is too much");
}

START_TEST(too_few_positionals_are_refused)
{
    ck_assert_int_eq(parse_with(&one_or_two, ARGS("-v")), PS_ERR_USAGE);
    ck_assert_str_eq(ps_err_message(), "argument MODEL is missing");
}

START_TEST(what_is_shown_of_a_bad_value_is_short_and_printable)
{
    char long_value[200] = "--seed=";
    memset(long_value + 7, 'a', 150);
    REFUSES("option --seed wants an integer in 0..18446744073709551615, found "
            "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...\"",
            long_value);
    REFUSES("option --seed wants an integer in 0..18446744073709551615, found \"1?2?\"",
            "--seed=1\n2\033");
}

START_TEST(after_an_error_the_targets_hold_the_defaults)
{
    CONFIG("prompt = from the file\nthreads = 3\n");
    REFUSES("option --seed wants an integer in 0..18446744073709551615, found \"x\"", "--config",
            "tune.conf", "--steps", "9", "--seed", "x");
    ck_assert_int_eq(run.threads, 1);
    ck_assert_int_eq(run.steps, 7);
    ck_assert_ptr_null(sampling.prompt);
    ck_assert_ptr_null(parsed.slots);
}

/* ---- hostile input ---- */

START_TEST(random_lines_are_read_or_refused_in_one_line)
{
    uint64_t state = (uint64_t)_i + 2000;
    for (int round = 0; round < 200; round++) {
        char texts[6][40];
        const char *argv[6];
        for (int i = 0; i < 6; i++) {
            static const char *const heads[] = {"--", "-", "", "--prompt=", "--threads=", "--no-"};
            char piece[20];
            snprintf(texts[i], sizeof texts[i], "%s%s", heads[next_random(&state) % 6],
                     random_text(&state, piece, sizeof piece));
            argv[i] = texts[i];
        }
        if (parse_with(&up_to_two, 6, argv) == PS_OK) {
            ps_opt_release(&parsed);
        } else {
            ck_assert_str_ne(ps_err_message(), "");
            ck_assert_ptr_null(strchr(ps_err_message(), '\n'));
        }
    }
}

static void add_line_tests(Suite *suite)
{
    TCase *ways = make_case(suite, "ways to write an option");
    tcase_add_test(ways, targets_begin_with_the_defaults_of_the_table);
    tcase_add_test(ways, an_empty_line_leaves_the_defaults);
    tcase_add_test(ways, a_value_may_stand_in_the_next_argument);
    tcase_add_test(ways, a_value_may_stand_behind_an_equals_sign);
    tcase_add_test(ways, a_flag_is_set_by_its_name);
    tcase_add_test(ways, a_flag_is_cleared_by_no_and_its_name);
    tcase_add_test(ways, a_letter_takes_the_next_argument);
    tcase_add_test(ways, a_letter_takes_the_rest_of_its_argument);
    tcase_add_test(ways, an_equals_sign_behind_a_letter_is_not_part_of_the_value);
    tcase_add_test(ways, negative_numbers_are_values);
    tcase_add_test(ways, two_dashes_end_the_options);
    tcase_add_test(ways, a_lone_dash_is_a_positional);
    tcase_add_test(ways, a_lone_dash_is_a_value_too);
    tcase_add_test(ways, positionals_and_options_may_mix);
    tcase_add_test(ways, an_empty_argument_is_a_positional);
    tcase_add_test(ways, a_list_takes_every_item_in_order);
    tcase_add_test(ways, what_was_given_can_be_asked_for);
    tcase_add_test(ways, help_ends_the_parsing_at_once);
    tcase_add_test(ways, without_help_the_flag_is_down);
}

/* Without the directory: an aborted test does not clean up. */
static void add_programmer_error_tests(Suite *suite)
{
    TCase *programmer = tcase_create("programmer errors");
    tcase_add_test_raise_signal(programmer, a_default_that_its_row_refuses_is_a_programmer_error,
                                SIGABRT);
    tcase_add_test_raise_signal(programmer, two_rows_of_one_name_are_a_programmer_error, SIGABRT);
    suite_add_tcase(suite, programmer);
}

static void add_value_tests(Suite *suite)
{
    TCase *values = make_case(suite, "values");
    tcase_add_test(values, seconds_take_units);
    tcase_add_test(values, whole_numbers_reach_the_ends_of_their_types);
    tcase_add_test(values, leading_zeros_do_not_make_a_number_octal);
    tcase_add_test(values, a_seed_may_be_hexadecimal);
    tcase_add_test(values, bounds_belong_to_the_range);
    tcase_add_test(values, reals_are_read_to_the_nearest_double);
    tcase_add_test(values, names_of_one_choice_may_share_a_value);
    tcase_add_test(values, values_that_are_no_integers_are_refused);
    tcase_add_test(values, values_that_are_no_seeds_are_refused);
    tcase_add_test(values, values_that_are_no_finite_numbers_are_refused);
    tcase_add_test(values, values_that_are_no_times_are_refused);
    tcase_add_test(values, an_integer_out_of_range_is_refused_with_the_range);
    tcase_add_test(values, an_offset_out_of_its_type_is_refused);
    tcase_add_test(values, a_real_out_of_range_is_refused_with_the_range);
    tcase_add_test(values, an_unknown_choice_is_refused_with_the_nearest);
}

static void add_error_tests(Suite *suite)
{
    TCase *errors = make_case(suite, "errors of the line");
    tcase_add_test(errors, an_unknown_option_is_refused_with_the_nearest);
    tcase_add_test(errors, an_unknown_option_far_from_all_gets_no_advice);
    tcase_add_test(errors, an_unknown_negation_is_refused_with_the_nearest_flag);
    tcase_add_test(errors, only_flags_have_a_negation);
    tcase_add_test(errors, an_unknown_letter_is_refused);
    tcase_add_test(errors, a_missing_value_is_refused);
    tcase_add_test(errors, an_option_is_not_taken_for_a_value);
    tcase_add_test(errors, behind_an_equals_sign_anything_is_a_value);
    tcase_add_test(errors, a_text_may_begin_with_a_dash_that_begins_no_option);
    tcase_add_test(errors, a_flag_with_a_value_is_refused);
    tcase_add_test(errors, an_option_given_twice_is_refused);
    tcase_add_test(errors, too_many_positionals_are_refused);
    tcase_add_test(errors, too_few_positionals_are_refused);
    tcase_add_test(errors, what_is_shown_of_a_bad_value_is_short_and_printable);
    tcase_add_test(errors, after_an_error_the_targets_hold_the_defaults);
    tcase_add_loop_test(errors, random_lines_are_read_or_refused_in_one_line, 0, 20);
}

int main(void)
{
    Suite *suite = suite_create("opt");
    add_line_tests(suite);
    add_programmer_error_tests(suite);
    add_value_tests(suite);
    add_error_tests(suite);
    return run_suite(suite);
}
