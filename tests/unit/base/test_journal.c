/* A journal: lines come back as they were, and whatever happens to the file, what comes back is a
 * beginning of what was written. */
#include "base/journal.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "support/dice.h"
#include "support/scratch.h"

enum { LINES = 20, BODY_MAX = 200 };

typedef struct lines {
    int n;
    char bodies[LINES + 8][BODY_MAX];
    ps_journal_place places[LINES + 8];
    int fail_at; // this line is an error; -1: none
} lines;

static ps_err collect(void *arg, uint64_t line, const ps_journal_place *place, const char *body,
                      size_t n)
{
    lines *l = arg;
    ck_assert_int_eq((int)line, l->n);
    ck_assert_uint_lt(n, BODY_MAX);
    if (l->n == l->fail_at) return PS_FAIL(PS_ERR_USAGE, "not this line");
    snprintf(l->bodies[l->n], BODY_MAX, "%.*s", (int)n, body);
    l->places[l->n++] = *place;
    return PS_OK;
}

static void body_of(int i, char out[BODY_MAX])
{
    dice d = {.seed = (uint64_t)i};
    const int n = i % 5 == 0 ? 0 : dice_throw(&d, BODY_MAX - 1);
    for (int k = 0; k < n; k++) {
        out[k] = (char)(32 + dice_throw(&d, 94));
    }
    out[n] = '\0';
}

static ps_journal *create(void)
{
    ps_journal *j;
    char body[BODY_MAX];
    body_of(0, body);
    assert_ok(ps_journal_create("j", body, strlen(body), NULL, &j));
    return j;
}

static void append(ps_journal *j, int first, int end)
{
    char body[BODY_MAX];
    for (int i = first; i < end; i++) {
        body_of(i, body);
        assert_ok(ps_journal_append(j, body, strlen(body), NULL));
    }
}

/* Reads the file; the lines must be the first n of those that were written. Returns n. */
static int read_back(uint64_t *cut_bytes)
{
    lines *l = ps_mem_new(1, sizeof *l);
    l->fail_at = -1;
    ps_journal *j;
    assert_ok(ps_journal_open("j", collect, l, NULL, cut_bytes, &j));
    for (int i = 0; i < l->n; i++) {
        char body[BODY_MAX];
        body_of(i, body);
        ck_assert_str_eq(l->bodies[i], body);
        ps_text again = {0};
        assert_ok(ps_journal_read(j, &l->places[i], &again));
        ck_assert_str_eq(ps_text_str(&again), body);
        ps_text_release(&again);
    }
    const int n = l->n;
    ps_journal_close(j);
    ps_mem_free(l);
    return n;
}

START_TEST(lines_come_back_in_their_order)
{
    uint64_t cut;
    ps_journal *j = create();
    append(j, 1, LINES);
    assert_ok(ps_journal_sync(j));
    ps_journal_close(j);
    ck_assert_int_eq(read_back(&cut), LINES);
    ck_assert_uint_eq(cut, 0);
    ck_assert_int_eq(scratch_count(), 1);
}
END_TEST

/* At each byte: the whole lines before it are kept, and what follows is gone; new lines go on. */
START_TEST(a_journal_that_is_cut_anywhere_goes_on)
{
    size_t n;
    uint64_t cut;
    ps_journal *j = create();
    append(j, 1, 6);
    ps_journal_close(j);
    char *bytes = scratch_read("j", &n);
    const size_t head = (size_t)((char *)memchr(bytes, '\n', n) - bytes) + 1;
    for (size_t length = head; length <= n; length++) {
        scratch_write("j", bytes, length);
        int whole = 0;
        size_t last = 0;
        for (size_t i = 0; i < length; i++) {
            if (bytes[i] != '\n') continue;
            whole++;
            last = i + 1;
        }
        ck_assert_int_eq(read_back(&cut), whole);
        ck_assert_uint_eq(cut, length - last);
        lines *l = ps_mem_new(1, sizeof *l);
        l->fail_at = -1;
        assert_ok(ps_journal_open("j", collect, l, NULL, &cut, &j));
        append(j, whole, whole + 2);
        ps_journal_close(j);
        ps_mem_free(l);
        ck_assert_int_eq(read_back(&cut), whole + 2);
        ck_assert_uint_eq(cut, 0);
    }
    ps_mem_free(bytes);
}
END_TEST

/* A changed byte, a lost, doubled or moved line: nothing from there on is believed. */
START_TEST(damage_ends_what_is_believed)
{
    size_t n;
    uint64_t cut;
    ps_journal *j = create();
    append(j, 1, 6);
    ps_journal_close(j);
    char *bytes = scratch_read("j", &n), *damaged = ps_mem_copy_bytes(bytes, n);
    const size_t head = (size_t)((char *)memchr(bytes, '\n', n) - bytes) + 1;
    int line = 0;
    for (size_t i = 0; i < n; i++) {
        memcpy(damaged, bytes, n);
        damaged[i] = (char)(damaged[i] ^ 1);
        scratch_write("j", damaged, n);
        if (i < head) {
            lines l = {.fail_at = -1};
            ck_assert_int_eq(ps_journal_open("j", collect, &l, NULL, &cut, &j), PS_ERR_FORMAT);
            assert_message("j: is no journal, or its first line is damaged");
        } else {
            ck_assert_int_eq(read_back(&cut), line);
        }
        line += bytes[i] == '\n';
    }
    // Line 1 twice.
    const char *second = bytes + head, *third = (char *)memchr(second, '\n', 400) + 1;
    ps_text doubled = {0};
    ps_text_append(&doubled, bytes, (size_t)(third - bytes));
    ps_text_append(&doubled, second, n - head);
    scratch_write("j", doubled.data, doubled.len);
    ck_assert_int_eq(read_back(&cut), 2);
    // Without line 1.
    ps_text_clear(&doubled);
    ps_text_append(&doubled, bytes, head);
    ps_text_append(&doubled, third, n - (size_t)(third - bytes));
    scratch_write("j", doubled.data, doubled.len);
    ck_assert_int_eq(read_back(&cut), 1);
    ps_text_release(&doubled);
    ps_mem_free(damaged);
    ps_mem_free(bytes);
}
END_TEST

START_TEST(a_reader_that_refuses_leaves_the_file_alone)
{
    size_t n, after;
    uint64_t cut;
    ps_journal *j = create();
    append(j, 1, 4);
    ps_journal_close(j);
    char *bytes = scratch_read("j", &n);
    scratch_write("j", bytes, n - 3);
    lines l = {.fail_at = 1};
    ck_assert_int_eq(ps_journal_open("j", collect, &l, NULL, &cut, &j), PS_ERR_USAGE);
    assert_message("not this line");
    ps_mem_free(scratch_read("j", &after));
    ck_assert_uint_eq(after, n - 3);
    ps_mem_free(bytes);
}
END_TEST

START_TEST(what_is_no_journal_is_refused)
{
    uint64_t cut;
    lines l = {.fail_at = -1};
    ps_journal *j;
    static const char *const texts[] = {"", "text\n", "0123456789abcdef text\n",
                                        "0000000000000000 \n", "2d06800538d394c2"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        scratch_write_text("j", texts[i]);
        ck_assert_int_eq(ps_journal_open("j", collect, &l, NULL, &cut, &j), PS_ERR_FORMAT);
    }
    ck_assert_int_eq(ps_journal_open("none", collect, &l, NULL, &cut, &j), PS_ERR_IO);
    assert_message("none: cannot open: No such file or directory");
    ck_assert_int_eq(ps_journal_open(".", collect, &l, NULL, &cut, &j), PS_ERR_IO);
}
END_TEST

/* A long line spans many reads. */
START_TEST(long_lines_come_back)
{
    enum { LONG = 1 << 20 };
    ps_text body = {0}, again = {0};
    ps_journal_place place;
    for (int i = 0; i < LONG; i++) {
        ps_text_append_char(&body, (char)('a' + i % 26));
    }
    ps_journal *j = create();
    assert_ok(ps_journal_append(j, body.data, body.len, &place));
    assert_ok(ps_journal_append(j, "x", 1, NULL));
    assert_ok(ps_journal_read(j, &place, &again));
    ck_assert_uint_eq(again.len, body.len);
    ck_assert(memcmp(again.data, body.data, body.len) == 0);
    ck_assert_int_eq(ps_journal_append(j, "a\nb", 3, NULL), PS_ERR_FORMAT);
    ps_journal_close(j);
    ps_text_release(&again);
    ps_text_release(&body);
}
END_TEST

typedef struct ticks {
    atomic_int n;
    int fail_at;
} ticks;

static ps_err on_tick(void *arg)
{
    ticks *t = arg;
    return atomic_fetch_add(&t->n, 1) == t->fail_at ? PS_FAIL(PS_ERR_IO, "the lease is gone")
                                                    : PS_OK;
}

/* The thread's error comes to whoever appends. */
START_TEST(what_the_thread_finds_is_told)
{
    ticks t = {.fail_at = 0};
    const ps_journal_tick tick = {on_tick, &t};
    ps_journal *j;
    assert_ok(ps_journal_create("j", "x", 1, &tick, &j));
    const int64_t begin = ps_clock_now_ns();
    ps_err err = PS_OK;
    while (!err && ps_clock_now_ns() - begin < 30000000000LL) {
        ps_clock_sleep_us(1000);
        err = ps_journal_append(j, "y", 1, NULL);
    }
    ck_assert_int_eq(err, PS_ERR_IO);
    assert_message("the lease is gone");
    ck_assert_int_eq(ps_journal_sync(j), PS_ERR_IO);
    ps_journal_close(j);
}
END_TEST

/* A write that the system refuses leaves whole lines, and nothing follows it. */
START_TEST(a_failed_append_is_the_last)
{
    uint64_t cut;
    ps_journal *j = create();
    append(j, 1, 3);
    ps_journal_close(j);
    lines *l = ps_mem_new(1, sizeof *l);
    l->fail_at = -1;
    assert_ok(ps_journal_open("j", collect, l, NULL, &cut, &j));
    // Behind the journal's back its file is exchanged for one that is always full.
    char name[64], target[64];
    for (int fd = 3; fd < 64; fd++) {
        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        const ssize_t n = readlink(name, target, sizeof target - 1);
        target[n > 0 ? n : 0] = '\0';
        const char *base = strrchr(target, '/');
        if (!base || strcmp(base, "/j") != 0) continue;
        FILE *full = fopen("/dev/full", "r+");
        ck_assert_ptr_nonnull(full);
        ck_assert_int_eq(dup2(fileno(full), fd), fd);
        fclose(full);
    }
    ck_assert_int_eq(ps_journal_append(j, "x", 1, NULL), PS_ERR_IO);
    assert_mentions("j: cannot write: No space left on device");
    ck_assert_int_eq(ps_journal_append(j, "x", 1, NULL), PS_ERR_IO);
    assert_message("j: an earlier line could not be written");
    ps_journal_close(j);
    ps_mem_free(l);
    ck_assert_int_eq(read_back(&cut), 3);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base/journal");
    TCase *tcase = scratch_case(suite, "journal");
    tcase_add_test(tcase, lines_come_back_in_their_order);
    tcase_add_test(tcase, a_journal_that_is_cut_anywhere_goes_on);
    tcase_add_test(tcase, damage_ends_what_is_believed);
    tcase_add_test(tcase, a_reader_that_refuses_leaves_the_file_alone);
    tcase_add_test(tcase, what_is_no_journal_is_refused);
    tcase_add_test(tcase, long_lines_come_back);
    tcase_add_test(tcase, what_the_thread_finds_is_told);
    tcase_add_test(tcase, a_failed_append_is_the_last);
    return scratch_run(suite);
}
