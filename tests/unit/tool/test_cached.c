/* Models of other formats in the cache: what makes a new file, who converts when several want the
 * same, and what is left when a converter is killed or fails.
 *
 * The conversion is looked at from outside: each one notes itself in the file "conversions", and
 * waits in the middle while there is a file "hold". */
#include "tool/import/cached.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "model/ckpt.h"
#include "support/gguf_file.h"
#include "support/gguf_model.h"
#include "support/same_model.h"
#include "support/scratch.h"
#include "support/tiny_model.h"
#include "tool/import/convert.h"

enum { WAIT_S = 30 };

ps_err __real_ps_convert_model(const char *path, const char *output,
                               const ps_convert_options *options);
ps_err __wrap_ps_convert_model(const char *path, const char *output,
                               const ps_convert_options *options);

/* Absolute, since the conversion has the test's working directory all the same. */
static void note_conversion(void)
{
    const int fd = open("conversions", O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0 || write(fd, "x", 1) != 1) _exit(9);
    close(fd);
}

static void wait_while(const char *path, bool there)
{
    const int64_t begin = ps_clock_now_ns();
    while (scratch_exists(path) == there) {
        if (ps_clock_seconds_between(begin, ps_clock_now_ns()) > WAIT_S) _exit(8);
        ps_clock_sleep_us(2000);
    }
}

ps_err __wrap_ps_convert_model(const char *path, const char *output,
                               const ps_convert_options *options)
{
    note_conversion();
    if (scratch_exists("hold")) {
        // As far as a real one that is stopped in the middle.
        ps_text part = {0};
        ps_text_appendf(&part, "%s.part-%d", output, (int)getpid());
        const int fd = open(ps_text_str(&part), O_WRONLY | O_CREAT, 0600);
        if (fd < 0 || write(fd, "half", 4) != 4) _exit(9);
        close(fd);
        wait_while("hold", true);
        unlink(ps_text_str(&part));
        ps_text_release(&part);
    }
    return __real_ps_convert_model(path, output, options);
}

static size_t conversions(void)
{
    struct stat s;
    return stat("conversions", &s) == 0 ? (size_t)s.st_size : 0;
}

static int entries(const char *directory)
{
    char *here = getcwd(NULL, 0);
    ck_assert_int_eq(chdir(directory), 0);
    const int n = scratch_count();
    ck_assert_int_eq(chdir(here), 0);
    free(here);
    return n;
}

static char *find(const char *path)
{
    char *model;
    assert_ok(ps_cached_find(path, "cache", false, &model));
    ck_assert(scratch_exists(model));
    return model;
}

/* The model is looked for again, and is another file than `old`, converted anew; or the same. */
static char *find_other(const char *path, char *old)
{
    const size_t before = conversions();
    char *model = find(path);
    ck_assert_str_ne(model, old);
    ck_assert_uint_eq(conversions(), before + 1);
    ps_mem_free(old);
    return model;
}

static void find_same(const char *path, const char *old)
{
    const size_t before = conversions();
    char *model = find(path);
    ck_assert_str_eq(model, old);
    ck_assert_uint_eq(conversions(), before);
    ps_mem_free(model);
}

static void write_directory(uint64_t seed)
{
    tiny_model m = tiny_model_default(TINY_LLAMA);
    m.seed = seed;
    assert_ok(tiny_model_write(&m, "dir"));
}

/* A whole Llama, in one file or with its tensors in the first of two parts. */
static void write_gguf(const char *path, int parts)
{
    tiny_model m = tiny_model_default(TINY_LLAMA);
    ps_ckpt ckpt;
    gguf_file f = {0};
    assert_ok(tiny_model_convert(&m, "plain.h5"));
    assert_ok(ps_ckpt_open("plain.h5", &ckpt));
    if (parts > 1) {
        gguf_file_int(&f, "split.no", PS_GGUF_U16, 0);
        gguf_file_int(&f, "split.count", PS_GGUF_U16, parts);
    }
    gguf_model_add(&f, &ckpt, "llama", GGUF_MODEL_NEIGHBOURS, ckpt.spec.n_layers);
    gguf_file_write(&f, path);
    gguf_file_release(&f);
    ps_ckpt_close(&ckpt);
}

static void set_time(const char *path, time_t seconds, long ns)
{
    const struct timespec times[2] = {{seconds, ns}, {seconds, ns}};
    ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* The same bytes and time in another file of that name. */
static void replace(const char *path)
{
    size_t n;
    struct stat s;
    char *bytes = scratch_read(path, &n);
    ck_assert_int_eq(stat(path, &s), 0);
    scratch_write("new", bytes, n);
    ck_assert_int_eq(rename("new", path), 0);
    set_time(path, s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    ps_mem_free(bytes);
}

static void append(const char *path, const char *text)
{
    size_t n;
    struct stat s;
    char *bytes = scratch_read(path, &n);
    ps_text more = {0};
    ck_assert_int_eq(stat(path, &s), 0);
    ps_text_append(&more, bytes, n);
    ps_text_append_str(&more, text);
    const int fd = open(path, O_WRONLY);
    ck_assert_int_eq(pwrite(fd, more.data, more.len, 0), (ssize_t)more.len);
    close(fd);
    set_time(path, s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    ps_text_release(&more);
    ps_mem_free(bytes);
}

/* ---- what is foreign ---- */

START_TEST(directories_and_gguf_files_are_foreign)
{
    write_directory(1);
    scratch_write("a.gguf", "GGUF\3", 5);
    scratch_write("short", "GGU", 3);
    scratch_write("m.h5", "\211HDF\r\n\032\n", 8);
    scratch_write_text("empty", "");
    ck_assert_int_eq(mkfifo("pipe", 0600), 0);
    ck_assert(ps_cached_is_foreign("dir") && ps_cached_is_foreign("a.gguf"));
    ck_assert(!ps_cached_is_foreign("short") && !ps_cached_is_foreign("m.h5"));
    ck_assert(!ps_cached_is_foreign("empty") && !ps_cached_is_foreign("nothing"));
    ck_assert(!ps_cached_is_foreign("pipe"));
}
END_TEST

/* ---- one conversion for each state ---- */

START_TEST(a_directory_is_converted_once_for_each_state)
{
    write_directory(1);
    char *model = find("dir");
    ck_assert_uint_eq(conversions(), 1);
    find_same("dir", model);
    find_same("./dir/../dir/", model); // another name of it
    assert_ok(ps_convert_directory("dir", "wanted.h5", NULL));
    assert_same_model(model, "wanted.h5");
    set_time("dir/model.safetensors", 1000000000, 1);
    model = find_other("dir", model);
    set_time("dir/model.safetensors", 1000000000, 2); // a nanosecond
    model = find_other("dir", model);
    set_time("dir/config.json", 1000000000, 1);
    model = find_other("dir", model);
    append("dir/config.json", "\n");
    model = find_other("dir", model);
    replace("dir/config.json");
    model = find_other("dir", model);
    scratch_write_text("dir/generation_config.json", "{}");
    model = find_other("dir", model);
    scratch_write_text("dir/README.md", "not part of the model");
    find_same("dir", model);
    ck_assert_int_eq(rename("dir", "moved"), 0);
    model = find_other("moved", model);
    ps_mem_free(model);
    ck_assert_int_eq(entries("cache"), 8); // models alone: no locks, no parts
}
END_TEST

START_TEST(a_new_model_under_an_old_name_is_what_is_found)
{
    write_directory(1);
    char *model = find("dir");
    ps_mem_free(model);
    scratch_remove("dir");
    write_directory(2);
    model = find("dir");
    assert_ok(ps_convert_directory("dir", "wanted.h5", NULL));
    assert_same_model(model, "wanted.h5");
    ps_mem_free(model);
}
END_TEST

START_TEST(a_gguf_file_is_converted_once_for_each_state)
{
    write_gguf("m.gguf", 1);
    char *model = find("m.gguf");
    assert_ok(ps_convert_gguf("m.gguf", "wanted.h5", NULL));
    assert_same_model(model, "wanted.h5");
    scratch_write_text("beside.gguf", "GGUF");
    find_same("m.gguf", model);
    ck_assert_int_eq(symlink("m.gguf", "link.gguf"), 0);
    find_same("link.gguf", model);
    replace("m.gguf");
    model = find_other("m.gguf", model);
    set_time("m.gguf", 5, 5);
    model = find_other("m.gguf", model);
    ps_mem_free(model);
}
END_TEST

#define PART_1 "m-00001-of-00002.gguf"
#define PART_2 "m-00002-of-00002.gguf"

START_TEST(each_part_of_a_split_file_counts)
{
    write_gguf(PART_1, 2);
    gguf_file f = {0};
    gguf_file_int(&f, "split.no", PS_GGUF_U16, 1);
    gguf_file_int(&f, "split.count", PS_GGUF_U16, 2);
    gguf_file_write(&f, PART_2);
    gguf_file_release(&f);
    char *model = find(PART_1);
    scratch_write_text("m-2-of-2.gguf", "not a part");
    scratch_write_text("other-00002-of-00002.gguf", "nor that");
    find_same(PART_1, model);
    set_time(PART_2, 5, 5);
    model = find_other(PART_1, model);
    replace(PART_2);
    model = find_other(PART_1, model);
    ps_mem_free(model);
}
END_TEST

/* The name is what the header says, so files of another version of the format have other names. */
START_TEST(the_versions_of_the_format_and_of_its_layouts_are_in_the_name)
{
    write_gguf("m.gguf", 1);
    char *path = realpath("m.gguf", NULL), *model = find("m.gguf");
    ps_file_identity id;
    assert_ok(ps_file_identify(path, &id));
    for (int i = 0; i < 4; i++) {
        const int version = PS_CKPT_VERSION + i % 2, layouts = PS_CKPT_LAYOUTS - i / 2;
        ps_text key = {0}, name = {0};
        ps_text_appendf(&key, "%s\nformat %d, layouts %d\n%s %" PRIu64 " %" PRIu64 " %" PRId64 "\n",
                        path, version, layouts, path, id.bytes, id.inode, id.modified_ns);
        ps_text_appendf(&name, "cache/m.gguf-%016" PRIx64 ".h5",
                        (uint64_t)XXH3_64bits(key.data, key.len));
        ck_assert_int_eq(strcmp(model, ps_text_str(&name)) == 0, i == 0);
        ps_text_release(&name);
        ps_text_release(&key);
    }
    ps_mem_free(model);
    free(path);
}
END_TEST

START_TEST(the_users_cache_directory_is_taken_when_none_is_given)
{
    write_directory(1);
    char *here = getcwd(NULL, 0), *model;
    ps_text wanted = {0};
    ps_text_appendf(&wanted, "%s/xdg/pipestep/models/dir-", here);
    setenv("XDG_CACHE_HOME", "xdg", 1); // not absolute: does not count
    setenv("HOME", here, 1);
    assert_ok(ps_cached_find("dir", NULL, false, &model));
    ck_assert(scratch_exists(".cache/pipestep/models"));
    ps_mem_free(model);
    ps_text xdg = {0};
    ps_text_appendf(&xdg, "%s/xdg", here);
    setenv("XDG_CACHE_HOME", ps_text_str(&xdg), 1);
    assert_ok(ps_cached_find("dir", NULL, false, &model));
    ck_assert_int_eq(strncmp(model, wanted.data, wanted.len), 0);
    ps_mem_free(model);
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    ck_assert_int_eq(ps_cached_find("dir", NULL, false, &model), PS_ERR_USAGE);
    assert_message("there is no cache directory: set HOME or XDG_CACHE_HOME, or give --cache-dir");
    ck_assert_ptr_null(model);
    ps_text_release(&xdg);
    ps_text_release(&wanted);
    free(here);
}
END_TEST

/* ---- several at once ---- */

/* A process that looks for the model and leaves with 0 when it is there. */
static pid_t start_finder(void)
{
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child > 0) return child;
    char *model;
    const ps_err err = ps_cached_find("dir", "cache", false, &model);
    _exit(err == PS_OK && scratch_exists(model) ? 0 : 1);
}

static int status_of(pid_t child)
{
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return status;
}

START_TEST(processes_that_want_the_same_model_convert_it_once)
{
    enum { N = 4 };
    pid_t children[N];
    write_directory(1);
    scratch_write_text("hold", "");
    for (int i = 0; i < N; i++) {
        children[i] = start_finder();
    }
    wait_while("conversions", false);
    ps_clock_sleep_us(300000); // those that did not wait would be at work by now
    ck_assert_uint_eq(conversions(), 1);
    scratch_remove("hold");
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(status_of(children[i]), 0);
    }
    ck_assert_uint_eq(conversions(), 1);
    ck_assert_int_eq(entries("cache"), 1);
}
END_TEST

START_TEST(a_killed_converter_leaves_neither_lock_nor_half_a_model)
{
    write_directory(1);
    scratch_write_text("hold", "");
    const pid_t child = start_finder(), waiting = start_finder();
    wait_while("conversions", false);
    ps_clock_sleep_us(100000);
    ck_assert_uint_eq(conversions(), 1);
    scratch_remove("hold");
    scratch_write_text("hold", ""); // the next one stops as well
    kill(child, SIGKILL);
    kill(waiting, SIGKILL); // whichever of them it was that converted
    ck_assert(WIFSIGNALED(status_of(child)));
    ck_assert(WIFSIGNALED(status_of(waiting)));
    ck_assert_int_eq(entries("cache"), 2); // the lock's file, half a model
    scratch_remove("hold");
    char *model = find("dir");
    ck_assert_uint_eq(conversions(), 2);
    ck_assert_int_eq(entries("cache"), 1);
    ps_mem_free(model);
}
END_TEST

/* Whoever waits takes over when the one before failed. */
START_TEST(who_waited_for_a_failure_tries_for_himself)
{
    write_directory(1);
    size_t n;
    char *config = scratch_read("dir/config.json", &n);
    scratch_write_text("dir/config.json", "{");
    char *model;
    ck_assert_int_eq(ps_cached_find("dir", "cache", false, &model), PS_ERR_FORMAT);
    assert_mentions("dir/config.json: not valid JSON");
    ck_assert_ptr_null(model);
    ck_assert_int_eq(entries("cache"), 0);
    scratch_write("dir/config.json", config, n);
    ps_mem_free(find("dir"));
    ps_mem_free(config);
}
END_TEST

/* The file that is locked may have lost its name to somebody who was done: it locks nothing. */
START_TEST(a_lock_on_a_file_without_a_name_is_not_enough)
{
    write_directory(1);
    char *model = find("dir");
    ps_text lock = {0};
    ps_text_appendf(&lock, "%s.lock", model);
    scratch_remove(model);
    const int old = open(ps_text_str(&lock), O_RDWR | O_CREAT, 0600);
    ck_assert_int_eq(flock(old, LOCK_EX), 0);
    const pid_t child = start_finder();
    ps_clock_sleep_us(300000); // waits for the old file
    ck_assert_uint_eq(conversions(), 1);
    ck_assert_int_eq(unlink(ps_text_str(&lock)), 0);
    const int new = open(ps_text_str(&lock), O_RDWR | O_CREAT, 0600);
    ck_assert_int_eq(flock(new, LOCK_EX), 0);
    ck_assert_int_eq(flock(old, LOCK_UN), 0); // the child has the descriptor, too
    close(old);
    ps_clock_sleep_us(600000); // has the old one, and must wait for the new one
    ck_assert_uint_eq(conversions(), 1);
    close(new);
    ck_assert_int_eq(status_of(child), 0);
    ck_assert_uint_eq(conversions(), 2);
    ps_text_release(&lock);
    ps_mem_free(model);
}
END_TEST

/* ---- places that do not do ---- */

START_TEST(places_that_cannot_be_written_are_named)
{
    write_directory(1);
    char *model;
    scratch_write_text("file", "");
    ck_assert_int_eq(ps_cached_find("dir", "file", false, &model), PS_ERR_IO);
    assert_message("file: cannot make directory: File exists");
    ck_assert_int_eq(ps_cached_find("dir", "file/below", false, &model), PS_ERR_IO);
    assert_message("file: cannot make directory: File exists");
    ck_assert_int_eq(ps_cached_find("nothing", "cache", false, &model), PS_ERR_IO);
    assert_message("nothing: No such file or directory");
    ck_assert_uint_eq(conversions(), 0);
}
END_TEST

/* As a user who may read everything here and write nothing; and back, for who tidies up. */
static void give_rights_up(bool up)
{
    const bool other = getuid() == 0;
    if (other && !up) ck_assert_int_eq(seteuid(0), 0);
    ck_assert_int_eq(chmod("cache", up ? 0555 : 0755), 0);
    if (!other || !up) return;
    ck_assert_int_eq(chmod(".", 0755), 0);
    ck_assert_int_eq(chmod("..", 0755), 0);
    ck_assert_int_eq(seteuid(65534), 0);
}

START_TEST(a_directory_without_rights_is_an_error_and_still_gives_what_it_has)
{
    write_directory(1);
    char *model = find("dir"), *other;
    ck_assert_int_eq(rename("dir", "new"), 0);
    write_directory(2);
    char *second = find("dir");
    give_rights_up(true);
    find_same("dir", second);
    ck_assert_int_eq(ps_cached_find("new", "cache", false, &other), PS_ERR_IO);
    assert_mentions("cache/new-");
    assert_mentions(".h5.lock: cannot make: Permission denied");
    give_rights_up(false);
    ps_mem_free(second);
    ps_mem_free(model);
}
END_TEST

int main(void)
{
    ps_log_set(PS_LOG_ERROR, 0);
    Suite *suite = suite_create("tool/cached");
    TCase *states = scratch_case(suite, "states");
    tcase_add_test(states, directories_and_gguf_files_are_foreign);
    tcase_add_test(states, a_directory_is_converted_once_for_each_state);
    tcase_add_test(states, a_new_model_under_an_old_name_is_what_is_found);
    tcase_add_test(states, a_gguf_file_is_converted_once_for_each_state);
    tcase_add_test(states, each_part_of_a_split_file_counts);
    tcase_add_test(states, the_versions_of_the_format_and_of_its_layouts_are_in_the_name);
    tcase_add_test(states, the_users_cache_directory_is_taken_when_none_is_given);
    TCase *several = scratch_case(suite, "several");
    tcase_add_test(several, processes_that_want_the_same_model_convert_it_once);
    tcase_add_test(several, a_killed_converter_leaves_neither_lock_nor_half_a_model);
    tcase_add_test(several, who_waited_for_a_failure_tries_for_himself);
    tcase_add_test(several, a_lock_on_a_file_without_a_name_is_not_enough);
    TCase *places = scratch_case(suite, "places");
    tcase_add_test(places, places_that_cannot_be_written_are_named);
    tcase_add_test(places, a_directory_without_rights_is_an_error_and_still_gives_what_it_has);
    return scratch_run(suite);
}
