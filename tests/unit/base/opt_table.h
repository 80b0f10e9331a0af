/* A table with every type of option, and helpers, for the tests of the option table. The tests run
 * in a directory of their own. */
#ifndef PS_TEST_OPT_TABLE_H
#define PS_TEST_OPT_TABLE_H

#include <check.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/opt.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

enum { WAIT_LATENCY = 3, WAIT_SHARED = 5 };

typedef struct run_options {
    bool progress, verbose, help;
    int threads, steps;
    int64_t offset;
    uint64_t seed;
    const char *config, *output;
    int wait;
    double deadline_s, grace_s;
} run_options;

typedef struct sampling_options {
    double temperature, scale, half;
    const char *prompt;
    ps_opt_list stop;
} sampling_options;

static const ps_opt_choice waits[] = {
    {"latency", WAIT_LATENCY}, {"shared", WAIT_SHARED}, {"busy", WAIT_LATENCY}, {NULL, 0}};

#define RUN(field) .offset = offsetof(run_options, field)
static const ps_opt run_rows[] = {
    {.name = "config", .type = PS_OPT_TEXT, RUN(config), .hint = "FILE", .help = "Read options"},
    {.name = "help", .letter = 'h', .type = PS_OPT_FLAG, RUN(help), .help = "Show this text"},
    {.name = "progress", .type = PS_OPT_FLAG, RUN(progress), .initial = "true", .help = "Progress"},
    {.name = "verbose", .letter = 'v', .type = PS_OPT_FLAG, RUN(verbose), .help = "Say more"},
    {.name = "threads",
     .letter = 'n',
     .type = PS_OPT_INT,
     RUN(threads),
     .initial = "1",
     .min = 1,
     .max = 64,
     .help = "Threads of each rank"},
    {.name = "steps", .type = PS_OPT_INT, RUN(steps), .initial = "7", .help = "Steps"},
    {.name = "offset", .type = PS_OPT_I64, RUN(offset), .help = "Offset"},
    {.name = "seed", .letter = 's', .type = PS_OPT_U64, RUN(seed), .help = "Seed of the run"},
    {.name = "wait",
     .type = PS_OPT_CHOICE,
     RUN(wait),
     .initial = "shared",
     .choices = waits,
     .help = "How to wait"},
    {.name = "deadline", .type = PS_OPT_SECONDS, RUN(deadline_s), .initial = "2m", .help = "Limit"},
    {.name = "grace",
     .type = PS_OPT_SECONDS,
     RUN(grace_s),
     .initial = "5",
     .max = 60,
     .help = "Time to stop"},
    {.name = "output",
     .letter = 'o',
     .type = PS_OPT_TEXT,
     RUN(output),
     .initial = "-",
     .hint = "FILE",
     .help = "Where to"},
};

#define SAMPLING(field) .offset = offsetof(sampling_options, field)
static const ps_opt sampling_rows[] = {
    {.name = "temperature",
     .letter = 't',
     .type = PS_OPT_REAL,
     SAMPLING(temperature),
     .initial = "0.8",
     .max = 10,
     .help = "Softmax temperature"},
    {.name = "scale", .type = PS_OPT_REAL, SAMPLING(scale), .initial = "1", .help = "Scale"},
    {.name = "half",
     .type = PS_OPT_REAL,
     SAMPLING(half),
     .initial = "1",
     .min = 0.5,
     .max = INFINITY,
     .help = "At least a half"},
    {.name = "prompt", .letter = 'p', .type = PS_OPT_TEXT, SAMPLING(prompt), .help = "The prompt"},
    {.name = "stop", .type = PS_OPT_LIST_TEXT, SAMPLING(stop), .help = "Stop at this text"},
};

static run_options run;
static sampling_options sampling;
static ps_opt_parsed parsed;
static char directory[64];

static const ps_opt_group groups[] = {
    {.title = "Run", .rows = run_rows, .count = COUNT(run_rows), .target = &run},
    {.title = "Sampling",
     .rows = sampling_rows,
     .count = COUNT(sampling_rows),
     .target = &sampling},
};
static const char *const positional_names[] = {"MODEL", "FILE"};
static const ps_opt_positionals up_to_two = {.names = positional_names, .n_names = 2};
static const ps_opt_positionals one_or_two = {
    .names = positional_names, .n_required = 1, .n_names = 2};

static inline ps_err parse_with(const ps_opt_positionals *wanted, int argc, const char *const *argv)
{
    char *copy[64] = {0};
    ck_assert_int_le(argc, COUNT(copy));
    for (int i = 0; i < argc; i++) {
        copy[i] = (char *)(uintptr_t)argv[i];
    }
    return ps_opt_parse(groups, 2, wanted, argc, copy, &parsed);
}

#define ARGS(...)                                                                                  \
    COUNT(((const char *[]){__VA_ARGS__})), (const char *const[])                                  \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define PARSE(...)  parse_with(&up_to_two, ARGS(__VA_ARGS__))
#define PARSES(...) ck_assert_msg(PARSE(__VA_ARGS__) == PS_OK, "%s", ps_err_message())
#define REFUSES(text, ...)                                                                         \
    ck_assert_int_eq(PARSE(__VA_ARGS__), PS_ERR_USAGE);                                            \
    ck_assert_str_eq(ps_err_message(), text)

static inline void write_config(const char *text, size_t n)
{
    FILE *f = fopen("tune.conf", "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(text, 1, n, f), n);
    fclose(f);
}

#define CONFIG(text) write_config("" text, sizeof(text) - 1)
#define REFUSES_CONFIG(message, text)                                                              \
    CONFIG(text);                                                                                  \
    REFUSES(message, "--config", "tune.conf")

static inline void enter_directory(void)
{
    snprintf(directory, sizeof directory, "/tmp/pipestep-opt-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(chdir(directory), 0);
}

static inline void leave_directory(void)
{
    ps_opt_release(&parsed);
    unlink("tune.conf");
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_int_eq(rmdir(directory), 0);
}

/* A deterministic stream of numbers for the property tests (Knuth's MMIX constants). */
static inline uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static inline const char *random_text(uint64_t *state, char *out, size_t size)
{
    const size_t n = next_random(state) % size;
    for (size_t i = 0; i < n; i++) {
        static const char likely[] = "\\\"'# \n\r\t=ax";
        const uint64_t r = next_random(state);
        out[i] = r % 2 ? likely[r / 2 % (sizeof likely - 1)] : (char)(1 + r / 2 % 255);
    }
    out[n] = '\0';
    return out;
}

static inline TCase *make_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);
    tcase_add_checked_fixture(tcase, enter_directory, leave_directory);
    suite_add_tcase(suite, tcase);
    return tcase;
}

static inline int run_suite(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
