/* Files: bounded reads, maps, atomic replacement, and what the system refuses. Each test works in a
 * fresh directory of its own. */
#include "base/file.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"

static char directory[64];

static void enter_directory(void)
{
    strcpy(directory, "/tmp/pipestep-test-file-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(chdir(directory), 0);
}

static void leave_directory(void)
{
    DIR *d = opendir(directory);
    for (struct dirent *entry; d && (entry = readdir(d));) {
        if (entry->d_name[0] != '.') remove(entry->d_name);
    }
    if (d) closedir(d);
    ck_assert_int_eq(chdir("/"), 0);
    rmdir(directory);
}

static int count_files(void)
{
    DIR *d = opendir(".");
    int n = 0;
    for (const struct dirent *entry; (entry = readdir(d));) {
        n += entry->d_name[0] != '.';
    }
    closedir(d);
    return n;
}

static void make_file(const char *path, const char *bytes, size_t n)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, bytes, n), (ssize_t)n);
    close(fd);
}

static void expect_contents(const char *path, const char *wanted)
{
    ps_text text = {0};
    ck_assert_int_eq(ps_file_read(path, 1 << 20, &text), PS_OK);
    ck_assert_str_eq(ps_text_str(&text), wanted);
    ps_text_release(&text);
}

static void expect_failure(ps_err found, ps_err wanted, const char *message)
{
    ck_assert_int_eq(found, wanted);
    ck_assert_str_eq(ps_err_message(), message);
}

START_TEST(reading_appends_the_whole_file)
{
    ps_text text = {0};
    ps_text_append_str(&text, "before:");
    make_file("f", "a\0b", 3);
    ck_assert_int_eq(ps_file_read("f", 3, &text), PS_OK);
    ck_assert_uint_eq(text.len, 10);
    ck_assert_mem_eq(text.data, "before:a\0b", 10);
    ps_text_release(&text);
}
END_TEST

START_TEST(a_file_over_its_bound_is_refused)
{
    ps_text text = {0};
    make_file("f", "abcd", 4);
    ck_assert_int_eq(ps_file_read("f", 4, &text), PS_OK);
    expect_failure(ps_file_read("f", 3, &text), PS_ERR_LIMIT, "f: more than 3 bytes");
    ps_text_release(&text);
}
END_TEST

START_TEST(what_cannot_be_read_says_why)
{
    ps_text text = {0};
    expect_failure(ps_file_read("none", 10, &text), PS_ERR_IO,
                   "none: cannot open: No such file or directory");
    expect_failure(ps_file_read(".", 10, &text), PS_ERR_IO, ".: is a directory, wanted a file");
    ps_text_release(&text);
}
END_TEST

START_TEST(a_dash_reads_standard_input_to_its_end)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(write(ends[1], "piped", 5), 5);
    close(ends[1]);
    const int before = dup(STDIN_FILENO);
    ck_assert_int_eq(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    ps_text text = {0};
    const ps_err err = ps_file_read("-", 5, &text);
    if (before >= 0) dup2(before, STDIN_FILENO);
    ck_assert_int_eq(err, PS_OK);
    ck_assert_str_eq(ps_text_str(&text), "piped");
    ps_text_release(&text);
}
END_TEST

START_TEST(a_mapped_file_shows_its_bytes)
{
    make_file("f", "mapped", 6);
    ps_file_map map;
    ck_assert_int_eq(ps_file_map_open("f", &map), PS_OK);
    ck_assert_uint_eq(map.bytes, 6);
    ck_assert_mem_eq(map.data, "mapped", 6);
    ps_file_map_close(&map);
    ck_assert_ptr_null(map.data);
    ps_file_map_close(&map);
}
END_TEST

START_TEST(an_empty_file_maps_to_nothing)
{
    make_file("f", "", 0);
    ps_file_map map;
    ck_assert_int_eq(ps_file_map_open("f", &map), PS_OK);
    ck_assert_uint_eq(map.bytes, 0);
    ck_assert_ptr_null(map.data);
    ps_file_map_close(&map);
}
END_TEST

START_TEST(an_unmapped_file_can_be_read_and_checked)
{
    char found[3];
    make_file("f", "opened", 6);
    ps_file_map map;
    ck_assert_int_eq(ps_file_map_open_unmapped("f", &map), PS_OK);
    ck_assert_uint_eq(map.bytes, 6);
    ck_assert_ptr_null(map.data);
    ck_assert_int_eq(ps_file_read_at(map.fd, "f", 2, found, 3), PS_OK);
    ck_assert_mem_eq(found, "ene", 3);
    ck_assert_int_eq(ps_file_map_check(&map, "f"), PS_OK);
    make_file("f", "another", 7);
    ck_assert_int_eq(ps_file_map_check(&map, "f"), PS_ERR_IO);
    ps_file_map_close(&map);
    ck_assert_int_eq(map.fd, -1);
}
END_TEST

START_TEST(network_file_systems_have_names)
{
    ck_assert_str_eq(ps_file_network_system_of(0x6969), "NFS");
    ck_assert_str_eq(ps_file_network_system_of(0x0BD00BD0), "Lustre");
    ck_assert_str_eq(ps_file_network_system_of(0x47504653), "GPFS");
    // As a machine of 32 bits shows it, whose numbers have a sign.
    ck_assert_str_eq(ps_file_network_system_of((int32_t)0xFF534D42), "CIFS");
    ck_assert_str_eq(ps_file_network_system_of(0xFF534D42), "CIFS");
    ck_assert_ptr_null(ps_file_network_system_of(0xEF53));     // ext4
    ck_assert_ptr_null(ps_file_network_system_of(0x58465342)); // XFS
    ck_assert_ptr_null(ps_file_network_system_of(0x01021994)); // tmpfs
    ck_assert_ptr_null(ps_file_network_system("/proc/self/stat"));
    ck_assert_ptr_null(ps_file_network_system("none"));
}
END_TEST

/* Opening a FIFO nobody writes to must not hang. */
START_TEST(only_regular_files_are_mapped)
{
    ps_file_map map;
    ck_assert_int_eq(mkfifo("fifo", 0666), 0);
    expect_failure(ps_file_map_open("fifo", &map), PS_ERR_IO,
                   "fifo: is a FIFO, wanted a regular file");
    expect_failure(ps_file_map_open(".", &map), PS_ERR_IO,
                   ".: is a directory, wanted a regular file");
    expect_failure(ps_file_map_open("/dev/null", &map), PS_ERR_IO,
                   "/dev/null: is a device, wanted a regular file");
    expect_failure(ps_file_map_open("none", &map), PS_ERR_IO,
                   "none: cannot open: No such file or directory");
    ps_file_map_close(&map);
}
END_TEST

START_TEST(a_mapped_file_that_was_written_to_is_noticed)
{
    make_file("f", "mapped", 6);
    ps_file_map map;
    ck_assert_int_eq(ps_file_map_open("f", &map), PS_OK);
    ck_assert_int_eq(ps_file_map_check(&map, "f"), PS_OK);
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1}};
    ck_assert_int_eq(utimensat(AT_FDCWD, "f", times, 0), 0);
    expect_failure(ps_file_map_check(&map, "f"), PS_ERR_IO,
                   "f: was written to while it was in use; the results may be wrong");
    ps_file_map_close(&map);
}
END_TEST

START_TEST(a_file_renamed_over_a_mapped_one_is_no_matter)
{
    make_file("f", "mapped", 6);
    make_file("new", "another", 7);
    ps_file_map map;
    ck_assert_int_eq(ps_file_map_open("f", &map), PS_OK);
    ck_assert_int_eq(rename("new", "f"), 0);
    ck_assert_int_eq(ps_file_map_check(&map, "f"), PS_OK);
    ck_assert_mem_eq(map.data, "mapped", 6);
    ps_file_map_close(&map);
}
END_TEST

/* Reads behind the new end of a file that was cut; its standard error goes to the file "said". */
static void read_what_was_cut(bool close_first)
{
    make_file("f", "", 0);
    ck_assert_int_eq(truncate("f", 3 * 4096), 0);
    ps_file_map map;
    ck_assert_int_eq(ps_file_map_open("f", &map), PS_OK);
    const volatile unsigned char *data = map.data;
    if (close_first) {
        ps_file_map_close(&map);
        const int fd = open("f", O_RDONLY);
        data = mmap(NULL, 3 * 4096, PROT_READ, MAP_SHARED, fd, 0);
    }
    make_file("said", "", 0);
    const int said = open("said", O_WRONLY);
    dup2(said, STDERR_FILENO);
    ck_assert_int_eq(truncate("f", 10), 0);
    _exit(data[2 * 4096 + 5] == 0 ? 50 : 51);
}

static int status_of_reading(bool close_first)
{
    int status;
    const pid_t child = fork();
    if (child == 0) read_what_was_cut(close_first);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return status;
}

START_TEST(a_mapped_file_that_is_cut_ends_the_process_with_one_line)
{
    const int status = status_of_reading(false);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 1);
    expect_contents("said", "pipestep: error: f: was cut short while it was in use, or cannot be "
                            "read any more (offset 8197)\n");
}
END_TEST

#ifndef __SANITIZE_ADDRESS__
START_TEST(a_bus_error_elsewhere_stays_what_it_is)
{
    const int status = status_of_reading(true);
    ck_assert(WIFSIGNALED(status));
    ck_assert_int_eq(WTERMSIG(status), SIGBUS);
    expect_contents("said", "");
}
END_TEST
#endif

START_TEST(reading_at_an_offset_is_whole_or_an_error)
{
    char bytes[4] = "";
    make_file("f", "0123456789", 10);
    const int fd = open("f", O_RDONLY);
    ck_assert_int_eq(ps_file_read_at(fd, "f", 6, bytes, 4), PS_OK);
    ck_assert_mem_eq(bytes, "6789", 4);
    ck_assert_int_eq(ps_file_read_at(fd, "f", 10, bytes, 0), PS_OK);
    expect_failure(ps_file_read_at(fd, "f", 8, bytes, 4), PS_ERR_IO,
                   "f: ends 2 bytes early at offset 10");
    close(fd);
    ck_assert_int_eq(ps_file_read_at(fd, "f", 0, bytes, 4), PS_ERR_IO);
}
END_TEST

START_TEST(identity_changes_with_the_file)
{
    ps_file_identity before, same, after;
    make_file("f", "one", 3);
    ck_assert_int_eq(ps_file_identify("f", &before), PS_OK);
    ck_assert_int_eq(ps_file_identify("f", &same), PS_OK);
    ck_assert_mem_eq(&before, &same, sizeof before);
    ck_assert_uint_eq(before.bytes, 3);
    make_file("f", "longer", 6);
    ck_assert_int_eq(ps_file_identify("f", &after), PS_OK);
    ck_assert_mem_ne(&before, &after, sizeof before);
    ck_assert_int_eq(ps_file_identify("none", &after), PS_ERR_IO);
}
END_TEST

START_TEST(a_writer_replaces_the_file_at_commit_only)
{
    make_file("f", "old", 3);
    ps_file_writer w;
    ck_assert_int_eq(ps_file_writer_open("f", &w), PS_OK);
    ps_file_writer_write(&w, "new ", 4);
    ps_file_writer_write(&w, "text", 4);
    expect_contents("f", "old");
    ck_assert_int_eq(ps_file_writer_commit(&w), PS_OK);
    expect_contents("f", "new text");
    ck_assert_int_eq(count_files(), 1);
}
END_TEST

START_TEST(an_abandoned_writer_leaves_no_trace)
{
    make_file("f", "old", 3);
    ps_file_writer w;
    ck_assert_int_eq(ps_file_writer_open("f", &w), PS_OK);
    ps_file_writer_write(&w, "new", 3);
    ps_file_writer_abandon(&w);
    expect_contents("f", "old");
    ck_assert_int_eq(count_files(), 1);
    ps_file_writer_abandon(&w);
}
END_TEST

/* Pieces below, at and above the buffer's size, against the same bytes in memory. */
START_TEST(large_and_small_writes_keep_their_order)
{
    static const size_t sizes[] = {1, 1 << 18, 7, (1 << 18) + 1, (1 << 18) - 3, 5, 1 << 20, 0, 3};
    static char piece[1 << 20];
    ps_text wanted = {0}, found = {0};
    ps_file_writer w;
    ck_assert_int_eq(ps_file_writer_open("f", &w), PS_OK);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        memset(piece, 'a' + (int)i, sizes[i]);
        ps_file_writer_write(&w, piece, sizes[i]);
        ps_text_append(&wanted, piece, sizes[i]);
    }
    ck_assert_int_eq(ps_file_writer_commit(&w), PS_OK);
    ck_assert_int_eq(ps_file_read("f", 1 << 24, &found), PS_OK);
    ck_assert_uint_eq(found.len, wanted.len);
    ck_assert_mem_eq(found.data, wanted.data, wanted.len);
    ps_text_release(&found);
    ps_text_release(&wanted);
}
END_TEST

START_TEST(a_writer_into_no_directory_fails_at_open)
{
    ps_file_writer w;
    expect_failure(ps_file_writer_open("none/f", &w), PS_ERR_IO,
                   "none/f: cannot create: No such file or directory");
    ps_file_writer_abandon(&w);
}
END_TEST

START_TEST(a_commit_that_cannot_rename_removes_the_temporary_file)
{
    ps_file_writer w;
    ck_assert_int_eq(ps_file_writer_open("f", &w), PS_OK);
    ck_assert_int_eq(mkdir("f", 0777), 0); // a file cannot replace a directory
    ps_file_writer_write(&w, "x", 1);
    expect_failure(ps_file_writer_commit(&w), PS_ERR_IO,
                   "f: cannot rename into place: Is a directory");
    ck_assert_int_eq(count_files(), 1);
}
END_TEST

START_TEST(a_writer_refuses_a_directory_at_once)
{
    ps_file_writer w;
    ck_assert_int_eq(mkdir("f", 0777), 0);
    expect_failure(ps_file_writer_open("f", &w), PS_ERR_IO,
                   "f: is a directory, wanted a regular file");
}
END_TEST

START_TEST(a_pipe_is_written_to_and_not_replaced)
{
    ps_file_writer w;
    char *target;
    ck_assert_int_eq(mkfifo("f", 0600), 0);
    expect_failure(ps_file_find_target("f", NULL, &target), PS_ERR_IO,
                   "f: is a FIFO, wanted a regular file");
    // Nobody reads: an error at once, no wait.
    expect_failure(ps_file_writer_open("f", &w), PS_ERR_IO,
                   "f: cannot open: No such device or address");
    const int reader = open("f", O_RDONLY | O_NONBLOCK);
    ck_assert_int_eq(ps_file_writer_open("f", &w), PS_OK);
    ps_file_writer_write(&w, "text", 4);
    ck_assert_int_eq(ps_file_writer_commit(&w), PS_OK);
    char got[8];
    ck_assert_int_eq(read(reader, got, sizeof got), 4);
    close(reader);
    struct stat s;
    ck_assert(lstat("f", &s) == 0 && S_ISFIFO(s.st_mode));
    ck_assert_int_eq(count_files(), 1);
}
END_TEST

START_TEST(a_link_stays_and_its_file_is_replaced)
{
    ps_file_writer w;
    ck_assert_int_eq(mkdir("d", 0777), 0);
    make_file("d/f", "old", 3);
    ck_assert_int_eq(symlink("d/f", "l"), 0);
    ck_assert_int_eq(ps_file_writer_open("l", &w), PS_OK);
    ps_file_writer_write(&w, "new", 3);
    ck_assert_int_eq(ps_file_writer_commit(&w), PS_OK);
    struct stat s;
    ck_assert(lstat("l", &s) == 0 && S_ISLNK(s.st_mode));
    expect_contents("d/f", "new");
    ck_assert(ps_file_is_same("l", "d/f"));
    ck_assert(!ps_file_is_same("d", "d/f"));
    ck_assert(!ps_file_is_same("l", "none"));
    unlink("d/f");
}
END_TEST

START_TEST(the_first_error_of_a_write_comes_out_at_commit)
{
    static char piece[1 << 19];
    make_file("f", "old", 3);
    ps_file_writer w;
    ck_assert_int_eq(ps_file_writer_open("f", &w), PS_OK);
    const int full = open("/dev/full", O_WRONLY);
    ck_assert_int_ge(full, 0);
    ck_assert_int_eq(dup2(full, w.fd), w.fd);
    close(full);
    ps_file_writer_write(&w, piece, sizeof piece);
    ps_file_writer_write(&w, "more", 4);
    expect_failure(ps_file_writer_commit(&w), PS_ERR_IO,
                   "f: cannot write: No space left on device");
    expect_contents("f", "old");
    ck_assert_int_eq(count_files(), 1);
}
END_TEST

START_TEST(a_temporary_name_lies_beside_its_file)
{
    char *name = ps_file_temporary_name("some/dir/f");
    ck_assert_ptr_eq(strstr(name, "some/dir/f."), name);
    ps_mem_free(name);
}
END_TEST

START_TEST(publishing_a_missing_file_is_an_error)
{
    expect_failure(ps_file_publish("none", "f"), PS_ERR_IO,
                   "none: cannot open: No such file or directory");
    make_file("t", "x", 1);
    ck_assert_int_eq(ps_file_publish("t", "f"), PS_OK);
    expect_contents("f", "x");
}
END_TEST

START_TEST(a_reader_that_went_away_is_told_from_other_errors)
{
    int ends[2];
    signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(pipe(ends), 0);
    close(ends[0]);
    expect_failure(ps_file_write_all(ends[1], "x", 1, "standard output"), PS_ERR_CLOSED,
                   "standard output: its reader has gone away");
    close(ends[1]);
    ck_assert_int_eq(ps_file_write_all(ends[1], "x", 1, "standard output"), PS_ERR_IO);
    signal(SIGPIPE, SIG_DFL);
}
END_TEST

static bool is_directory(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

START_TEST(directories_are_made_with_their_parents)
{
    ck_assert_int_eq(ps_file_make_dirs("a/b//c/"), PS_OK);
    ck_assert(is_directory("a/b/c"));
    ck_assert_int_eq(ps_file_make_dirs("a/b/c"), PS_OK);
    char absolute[128];
    snprintf(absolute, sizeof absolute, "%s/a/d", directory);
    ck_assert_int_eq(ps_file_make_dirs(absolute), PS_OK);
    ck_assert(is_directory("a/d"));
    ck_assert_int_eq(ps_file_make_dirs("/"), PS_OK);
    ck_assert_int_eq(ps_file_make_dirs("."), PS_OK);
    rmdir("a/b/c");
    rmdir("a/b");
    rmdir("a/d");
}
END_TEST

START_TEST(a_file_in_the_way_of_a_directory_is_an_error)
{
    make_file("f", "", 0);
    ck_assert_int_eq(ps_file_make_dirs("f/a"), PS_ERR_IO);
    ck_assert_int_eq(ps_file_make_dirs("f"), PS_ERR_IO);
    ck_assert_int_eq(ps_file_make_dirs(""), PS_ERR_IO);
}
END_TEST

static void add_tests(TCase *tcase)
{
    tcase_add_test(tcase, reading_appends_the_whole_file);
    tcase_add_test(tcase, a_file_over_its_bound_is_refused);
    tcase_add_test(tcase, what_cannot_be_read_says_why);
    tcase_add_test(tcase, a_dash_reads_standard_input_to_its_end);
    tcase_add_test(tcase, a_mapped_file_shows_its_bytes);
    tcase_add_test(tcase, an_empty_file_maps_to_nothing);
    tcase_add_test(tcase, an_unmapped_file_can_be_read_and_checked);
    tcase_add_test(tcase, network_file_systems_have_names);
    tcase_add_test(tcase, only_regular_files_are_mapped);
    tcase_add_test(tcase, a_mapped_file_that_was_written_to_is_noticed);
    tcase_add_test(tcase, a_file_renamed_over_a_mapped_one_is_no_matter);
    tcase_add_test(tcase, a_mapped_file_that_is_cut_ends_the_process_with_one_line);
#ifndef __SANITIZE_ADDRESS__
    tcase_add_test(tcase, a_bus_error_elsewhere_stays_what_it_is);
#endif
    tcase_add_test(tcase, reading_at_an_offset_is_whole_or_an_error);
    tcase_add_test(tcase, identity_changes_with_the_file);
    tcase_add_test(tcase, a_writer_replaces_the_file_at_commit_only);
    tcase_add_test(tcase, an_abandoned_writer_leaves_no_trace);
    tcase_add_test(tcase, large_and_small_writes_keep_their_order);
    tcase_add_test(tcase, a_writer_into_no_directory_fails_at_open);
    tcase_add_test(tcase, a_commit_that_cannot_rename_removes_the_temporary_file);
    tcase_add_test(tcase, a_writer_refuses_a_directory_at_once);
    tcase_add_test(tcase, a_pipe_is_written_to_and_not_replaced);
    tcase_add_test(tcase, a_link_stays_and_its_file_is_replaced);
    tcase_add_test(tcase, the_first_error_of_a_write_comes_out_at_commit);
    tcase_add_test(tcase, a_temporary_name_lies_beside_its_file);
    tcase_add_test(tcase, publishing_a_missing_file_is_an_error);
    tcase_add_test(tcase, a_reader_that_went_away_is_told_from_other_errors);
    tcase_add_test(tcase, directories_are_made_with_their_parents);
    tcase_add_test(tcase, a_file_in_the_way_of_a_directory_is_an_error);
}

int main(void)
{
    TCase *tcase = tcase_create("file");
    tcase_add_checked_fixture(tcase, enter_directory, leave_directory);
    add_tests(tcase);
    Suite *suite = suite_create("base/file");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
