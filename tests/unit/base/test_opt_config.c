/* The configuration file, its order with the command line, the help, and the round trip through the
 * dump. */
#include "opt_table.h"

/* ---- the configuration file ---- */

START_TEST(a_file_gives_values_by_the_same_names)
{
    CONFIG("# a comment\n\n threads = 4\n\tprompt=hello  world \r\nverbose = true\n"
           "progress=false\nwait = latency # why\ndeadline = 1h\ntemperature=0.25");
    PARSES("--config", "tune.conf");
    ck_assert_int_eq(run.threads, 4);
    ck_assert_str_eq(sampling.prompt, "hello  world");
    ck_assert(run.verbose && !run.progress);
    ck_assert_int_eq(run.wait, WAIT_LATENCY);
    ck_assert_double_eq(run.deadline_s, 3600.0);
    ck_assert_double_eq(sampling.temperature, 0.25);
    ck_assert(ps_opt_is_set(&parsed, "threads"));
    ck_assert(!ps_opt_is_set(&parsed, "seed"));
    ck_assert_str_eq(run.config, "tune.conf");
}

START_TEST(the_line_wins_over_the_file_wherever_config_stands)
{
    CONFIG("threads = 4\nseed = 5\nverbose = true\n");
    PARSES("--threads", "8", "--no-verbose", "--config", "tune.conf");
    ck_assert_int_eq(run.threads, 8);
    ck_assert_uint_eq(run.seed, 5);
    ck_assert(!run.verbose);
    ps_opt_release(&parsed);
    PARSES("--config=tune.conf", "--threads", "9");
    ck_assert_int_eq(run.threads, 9);
}

START_TEST(a_list_of_the_line_replaces_that_of_the_file)
{
    CONFIG("stop = a\nthreads = 2\nstop = \"b\"\n");
    PARSES("--config", "tune.conf");
    ck_assert_int_eq(sampling.stop.count, 2);
    ck_assert_str_eq(sampling.stop.items[0], "a");
    ck_assert_str_eq(sampling.stop.items[1], "b");
    ps_opt_release(&parsed);
    PARSES("--stop", "c", "--config", "tune.conf");
    ck_assert_int_eq(sampling.stop.count, 1);
    ck_assert_str_eq(sampling.stop.items[0], "c");
}

START_TEST(quotation_marks_keep_a_value_as_it_is)
{
    CONFIG("prompt = \" a # b\\n\\t\\\"\\\\\\x41\\x7e\" # comment\noutput = 'c:\\new # \"x\"'\n");
    PARSES("--config", "tune.conf");
    ck_assert_str_eq(sampling.prompt, " a # b\n\t\"\\A~");
    ck_assert_str_eq(run.output, "c:\\new # \"x\"");
}

START_TEST(a_hash_within_a_word_is_no_comment)
{
    CONFIG("prompt = K:F#m # F sharp\noutput =#x\n");
    PARSES("--config", "tune.conf");
    ck_assert_str_eq(sampling.prompt, "K:F#m");
    ck_assert_str_eq(run.output, "#x");
}

START_TEST(a_value_may_be_empty)
{
    CONFIG("prompt =\noutput = # nothing\n");
    PARSES("--config", "tune.conf");
    ck_assert_str_eq(sampling.prompt, "");
    ck_assert_str_eq(run.output, "");
}

START_TEST(a_byte_order_mark_is_skipped)
{
    CONFIG("\xEF\xBB\xBFthreads = 3\n");
    PARSES("--config", "tune.conf");
    ck_assert_int_eq(run.threads, 3);
}

START_TEST(an_unknown_key_is_refused_with_place_and_nearest)
{
    REFUSES_CONFIG("tune.conf:3: unknown key temprature; did you mean temperature?",
                   "# x\n\ntemprature = 1\n");
    REFUSES_CONFIG("tune.conf:1: unknown key no-progress; did you mean progress?",
                   "no-progress = true\n");
    REFUSES_CONFIG("tune.conf:1: unknown key quixotic", "quixotic = true\n");
}

START_TEST(a_bad_value_in_the_file_is_refused_with_its_place)
{
    REFUSES_CONFIG("tune.conf:2: threads wants an integer in 1..64, found \"many\"",
                   "seed = 1\nthreads = many\n");
    REFUSES_CONFIG("tune.conf:1: progress wants true or false, found \"yes\"", "progress = yes\n");
    REFUSES_CONFIG("tune.conf:1: seed wants an integer in 0..18446744073709551615, found \"\"",
                   "seed =\n");
    REFUSES_CONFIG("tune.conf:1: wait wants one of latency|shared|busy, found \"share\"; did you "
                   "mean shared?",
                   "wait = share\n");
}

START_TEST(a_bad_value_in_the_file_is_refused_even_where_the_line_replaces_it)
{
    CONFIG("threads = many\n");
    REFUSES("tune.conf:1: threads wants an integer in 1..64, found \"many\"", "--config",
            "tune.conf", "--threads", "2");
}

START_TEST(a_key_given_twice_in_the_file_is_refused)
{
    REFUSES_CONFIG("tune.conf:3: seed is given twice", "seed = 1\nthreads = 2\nseed = 1\n");
}

START_TEST(a_file_cannot_name_another_file)
{
    REFUSES_CONFIG("tune.conf:1: config cannot stand in a configuration file",
                   "config = other.conf\n");
    REFUSES_CONFIG("tune.conf:1: help cannot stand in a configuration file", "help = true\n");
}

START_TEST(a_line_that_is_no_assignment_is_refused)
{
    REFUSES_CONFIG("tune.conf:2: wanted name = value, found \"threads 4\"", "\nthreads 4 # four\n");
    REFUSES_CONFIG("tune.conf:1: wanted name = value, found \"= 4\"", "= 4\n");
    REFUSES_CONFIG("tune.conf:1: wanted name = value, found \"verbose\"", "verbose");
    REFUSES_CONFIG("tune.conf:1: wanted name = value, found \"[run]\"", "[run]\nthreads = 1\n");
}

START_TEST(broken_quotation_marks_are_refused)
{
    REFUSES_CONFIG("tune.conf:1: a quotation mark is not closed", "prompt = \"abc\nseed = 1\n");
    REFUSES_CONFIG("tune.conf:1: a quotation mark is not closed", "prompt = 'abc");
    REFUSES_CONFIG("tune.conf:1: a quotation mark is not closed", "prompt = \"abc\\\"");
    REFUSES_CONFIG("tune.conf:1: text behind the closing quotation mark: \"def\"",
                   "prompt = \"abc\" def\n");
}

START_TEST(unknown_escapes_are_refused)
{
    REFUSES_CONFIG("tune.conf:1: no escape: \"\\q\"\"; there are \\\\ \\\" \\n \\r \\t \\xHH",
                   "prompt = \"a\\q\"\n");
    REFUSES_CONFIG("tune.conf:1: no escape: \"\\x00\"\"; there are \\\\ \\\" \\n \\r \\t \\xHH",
                   "prompt = \"a\\x00\"\n");
    REFUSES_CONFIG("tune.conf:1: no escape: \"\\x4\"\"; there are \\\\ \\\" \\n \\r \\t \\xHH",
                   "prompt = \"a\\x4\"\n");
    REFUSES_CONFIG("tune.conf:1: no escape: \"\\\"; there are \\\\ \\\" \\n \\r \\t \\xHH",
                   "prompt = \"a\\");
}

START_TEST(a_nul_byte_in_the_file_is_refused)
{
    REFUSES_CONFIG("tune.conf: a NUL byte at offset 9, wanted text", "seed = 1\n\0threads = 2\n");
}

START_TEST(standard_input_is_no_configuration_file)
{
    REFUSES("option --config wants a file: standard input reaches one process only", "--config",
            "-");
}

START_TEST(a_missing_file_is_an_error_of_input)
{
    ck_assert_int_eq(PARSE("--config", "nowhere.conf"), PS_ERR_IO);
    ck_assert_str_eq(ps_err_message(), "nowhere.conf: cannot open: No such file or directory");
}

START_TEST(a_huge_file_is_refused)
{
    char *big = ps_mem_new((1 << 20) + 1, 1);
    memset(big, '\n', (1 << 20) + 1);
    write_config(big, (1 << 20) + 1);
    ck_assert_int_eq(PARSE("--config", "tune.conf"), PS_ERR_LIMIT);
    ck_assert_str_eq(ps_err_message(), "tune.conf: more than 1048576 bytes");
    write_config(big, 1 << 20);
    ck_assert_int_eq(PARSE("--config", "tune.conf"), PS_OK);
    ps_mem_free(big);
}

/* ---- help ---- */

START_TEST(help_is_aligned_and_names_defaults_and_ranges)
{
    static const char expected[] =
        "Run:\n"
        "      --config FILE    Read options\n"
        "  -h, --help           Show this text\n"
        "      --[no-]progress  Progress (default on)\n"
        "  -v, --verbose        Say more\n"
        "  -n, --threads N      Threads of each rank (default 1; 1..64)\n"
        "      --steps N        Steps (default 7)\n"
        "      --offset N       Offset\n"
        "  -s, --seed N         Seed of the run\n"
        "      --wait NAME      How to wait (latency, shared, busy; default shared)\n"
        "      --deadline TIME  Limit (default 2m)\n"
        "      --grace TIME     Time to stop (default 5; 0..60)\n"
        "  -o, --output FILE    Where to (default -)\n"
        "\n"
        "Sampling:\n"
        "  -t, --temperature X  Softmax temperature (default 0.8; 0..10)\n"
        "      --scale X        Scale (default 1)\n"
        "      --half X         At least a half (default 1; >= 0.5)\n"
        "  -p, --prompt TEXT    The prompt\n"
        "      --stop TEXT      Stop at this text (repeatable)\n";
    ps_text text = {0};
    ps_opt_help(groups, 2, &text);
    ck_assert_str_eq(ps_text_str(&text), expected);
    ps_text_release(&text);
}

START_TEST(help_wraps_at_100_columns)
{
    static const ps_opt rows[] = {
        {.name = "a-name-that-is-far-too-long-for-a-column",
         .type = PS_OPT_FLAG,
         .help = "Its help begins on the next line, and this one is so long that it does not fit "
                 "into a hundred columns"},
        {.name = "short", .type = PS_OPT_TEXT, .initial = "", .help = "Sch\xC3\xB6n"},
    };
    static const char expected[] = "Wide:\n"
                                   "      --a-name-that-is-far-too-long-for-a-column\n"
                                   "                    Its help begins on the next line, and this "
                                   "one is so long that it does "
                                   "not fit\n"
                                   "                    into a hundred columns\n"
                                   "      --short TEXT  Sch\xC3\xB6n (default \"\")\n";
    const ps_opt_group group = {.title = "Wide", .rows = rows, .count = 2, .target = NULL};
    ps_text text = {0};
    ps_opt_help(&group, 1, &text);
    ck_assert_str_eq(ps_text_str(&text), expected);
    ps_text_release(&text);
}

/* ---- dump ---- */

START_TEST(the_dump_shows_the_values_in_force)
{
    static const char expected[] = "# Run\n"
                                   "progress = false\n"
                                   "verbose = false\n"
                                   "threads = 1\n"
                                   "steps = 7\n"
                                   "# offset =\n"
                                   "seed = 0\n"
                                   "wait = shared\n"
                                   "deadline = 120\n"
                                   "grace = 5\n"
                                   "output = \"-\"\n"
                                   "\n"
                                   "# Sampling\n"
                                   "temperature = 0.1\n"
                                   "scale = 1\n"
                                   "half = 1\n"
                                   "# prompt =\n"
                                   "stop = \"a \\\"b\\\"\"\n"
                                   "stop = \"\\n\\x01\"\n";
    PARSES("--no-progress", "--seed", "0x0", "-t.1", "--stop", "a \"b\"", "--stop", "\n\001");
    ps_text text = {0};
    ps_opt_dump(groups, 2, &parsed, &text);
    ck_assert_str_eq(ps_text_str(&text), expected);
    ps_text_release(&text);
}

static double random_real(uint64_t *state)
{
    const double mantissa = (double)(next_random(state) << 20 | next_random(state)) * 0x1p-31;
    return ldexp(mantissa, (int)(next_random(state) % 60) - 40);
}

START_TEST(the_dump_reads_back_to_the_same_values)
{
    uint64_t state = (uint64_t)_i + 1;
    char prompt[40], stop[3][40];
    const char *const stops[3] = {random_text(&state, stop[0], 40),
                                  random_text(&state, stop[1], 40),
                                  random_text(&state, stop[2], 40)};
    const run_options want = {.progress = next_random(&state) % 2,
                              .verbose = next_random(&state) % 2,
                              .threads = 1 + (int)(next_random(&state) % 64),
                              .steps = (int)(uint32_t)(next_random(&state) << 1),
                              .offset = (int64_t)(next_random(&state) << 33 | 1),
                              .seed = next_random(&state) << 32 | next_random(&state),
                              .output = "o",
                              .wait = next_random(&state) % 2 ? WAIT_LATENCY : WAIT_SHARED,
                              .deadline_s = random_real(&state),
                              .grace_s = 60.0};
    const double temperature = fmod(random_real(&state), 10.0), scale = -random_real(&state);
    run = want;
    sampling = (sampling_options){.temperature = temperature,
                                  .scale = scale,
                                  .half = 0.5 + random_real(&state),
                                  .prompt = random_text(&state, prompt, 40),
                                  .stop = {stops, (int)(next_random(&state) % 4)}};
    const sampling_options wanted = sampling;
    ps_text text = {0};
    ps_opt_dump(groups, 2, NULL, &text);
    write_config(text.data, text.len);
    PARSES("--config", "tune.conf");
    ck_assert_int_eq(run.progress, want.progress);
    ck_assert_int_eq(run.verbose, want.verbose);
    ck_assert_int_eq(run.threads, want.threads);
    ck_assert_int_eq(run.steps, want.steps);
    ck_assert_int_eq(run.offset, want.offset);
    ck_assert_uint_eq(run.seed, want.seed);
    ck_assert_int_eq(run.wait, want.wait);
    ck_assert(run.deadline_s == want.deadline_s && run.grace_s == want.grace_s);
    ck_assert(sampling.temperature == temperature && sampling.scale == scale);
    ck_assert(sampling.half == wanted.half);
    ck_assert_str_eq(sampling.prompt, wanted.prompt);
    ck_assert_int_eq(sampling.stop.count, wanted.stop.count);
    for (int i = 0; i < wanted.stop.count; i++) {
        ck_assert_str_eq(sampling.stop.items[i], stops[i]);
    }
    ps_text again = {0};
    ps_opt_dump(groups, 2, &parsed, &again);
    ck_assert_str_eq(ps_text_str(&again), ps_text_str(&text));
    ps_text_release(&again);
    ps_text_release(&text);
}

/* ---- hostile input ---- */

START_TEST(random_files_are_read_or_refused_in_one_line)
{
    uint64_t state = (uint64_t)_i + 1000;
    for (int round = 0; round < 50; round++) {
        ps_text text = {0};
        for (uint64_t lines = next_random(&state) % 5 + 1; lines > 0; lines--) {
            char piece[40];
            const uint64_t name = next_random(&state) % 8;
            ps_text_append_str(&text, name < 5 ? sampling_rows[name].name : "");
            ps_text_append_str(&text, next_random(&state) % 4 ? " = " : "");
            ps_text_append_str(&text, random_text(&state, piece, sizeof piece));
            ps_text_append_char(&text, '\n');
        }
        write_config(text.data, text.len);
        if (PARSE("--config", "tune.conf") == PS_OK) {
            ps_opt_release(&parsed);
        } else {
            ck_assert_str_ne(ps_err_message(), "");
            ck_assert_ptr_null(strchr(ps_err_message(), '\n'));
        }
        ps_text_release(&text);
    }
}

static void add_config_tests(Suite *suite)
{
    TCase *config = make_case(suite, "configuration file");
    tcase_add_test(config, a_file_gives_values_by_the_same_names);
    tcase_add_test(config, the_line_wins_over_the_file_wherever_config_stands);
    tcase_add_test(config, a_list_of_the_line_replaces_that_of_the_file);
    tcase_add_test(config, quotation_marks_keep_a_value_as_it_is);
    tcase_add_test(config, a_hash_within_a_word_is_no_comment);
    tcase_add_test(config, a_value_may_be_empty);
    tcase_add_test(config, a_byte_order_mark_is_skipped);
    tcase_add_test(config, an_unknown_key_is_refused_with_place_and_nearest);
    tcase_add_test(config, a_bad_value_in_the_file_is_refused_with_its_place);
    tcase_add_test(config, a_bad_value_in_the_file_is_refused_even_where_the_line_replaces_it);
    tcase_add_test(config, a_key_given_twice_in_the_file_is_refused);
    tcase_add_test(config, a_file_cannot_name_another_file);
    tcase_add_test(config, a_line_that_is_no_assignment_is_refused);
    tcase_add_test(config, broken_quotation_marks_are_refused);
    tcase_add_test(config, unknown_escapes_are_refused);
    tcase_add_test(config, a_nul_byte_in_the_file_is_refused);
    tcase_add_test(config, standard_input_is_no_configuration_file);
    tcase_add_test(config, a_missing_file_is_an_error_of_input);
    tcase_add_test(config, a_huge_file_is_refused);
    tcase_add_loop_test(config, random_files_are_read_or_refused_in_one_line, 0, 20);
}

int main(void)
{
    Suite *suite = suite_create("opt_config");
    add_config_tests(suite);
    TCase *output = make_case(suite, "help and dump");
    tcase_add_test(output, help_is_aligned_and_names_defaults_and_ranges);
    tcase_add_test(output, help_wraps_at_100_columns);
    tcase_add_test(output, the_dump_shows_the_values_in_force);
    tcase_add_loop_test(output, the_dump_reads_back_to_the_same_values, 0, 100);
    return run_suite(suite);
}
