/* Locks: one job at a time, and how a dead one is known. */
#include "base/lock.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "support/scratch.h"

static const char path[] = "out.lock";

/* The lock of another job: this process's line with one text exchanged for another. */
static void write_other(const char *from, const char *to)
{
    ps_lock *lock;
    size_t n;
    assert_ok(ps_lock_take(path, NULL, &lock));
    char *line = scratch_read(path, &n);
    ps_lock_release(lock);
    ps_text other = {0};
    ps_text_append(&other, line, n);
    char *at = strstr(other.data, from);
    ck_assert_ptr_nonnull(at);
    ps_text exchanged = {0};
    ps_text_append(&exchanged, other.data, (size_t)(at - other.data));
    ps_text_append_str(&exchanged, to);
    ps_text_append_str(&exchanged, at + strlen(from));
    scratch_write(path, exchanged.data, exchanged.len);
    ps_text_release(&exchanged);
    ps_text_release(&other);
    ps_mem_free(line);
}

static void set_age(int seconds)
{
    struct timespec times[2] = {{0}};
    clock_gettime(CLOCK_REALTIME, &times[0]);
    times[0].tv_sec -= seconds;
    times[1] = times[0];
    ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void expect_held(const char *text)
{
    ps_lock *lock;
    ck_assert_int_eq(ps_lock_take(path, NULL, &lock), PS_ERR_LIMIT);
    assert_mentions(text);
    ck_assert_int_eq(scratch_count(), 1);
}

static void expect_taken_over(const char *text)
{
    ps_lock *lock;
    ps_text dead = {0};
    assert_ok(ps_lock_take(path, &dead, &lock));
    ck_assert_msg(strstr(ps_text_str(&dead), text) != NULL, "%s", ps_text_str(&dead));
    ck_assert_int_eq(scratch_count(), 1);
    ps_lock_release(lock);
    ck_assert_int_eq(scratch_count(), 0);
    ps_text_release(&dead);
}

START_TEST(a_lock_is_there_while_it_is_held)
{
    ps_lock *lock;
    ps_text dead = {0};
    assert_ok(ps_lock_take(path, &dead, &lock));
    ck_assert_uint_eq(dead.len, 0);
    ck_assert(scratch_exists(path));
    expect_held("is held by process ");
    ps_lock_release(lock);
    ck_assert_int_eq(scratch_count(), 0);
    ck_assert_int_eq(ps_lock_take("no/out.lock", NULL, &lock), PS_ERR_IO);
}
END_TEST

START_TEST(a_process_that_has_gone_is_dead)
{
    const pid_t child = fork();
    if (child == 0) {
        ps_lock *lock;
        _exit(ps_lock_take(path, NULL, &lock) != PS_OK);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    expect_taken_over("which is dead, was taken over");
}
END_TEST

/* Its number was given to another process since. */
START_TEST(a_process_with_another_start_is_another)
{
    write_other("\"start\": \"", "\"start\": \"1");
    expect_taken_over("is dead");
}
END_TEST

START_TEST(another_hosts_job_lives_as_long_as_its_lease)
{
    write_other("\"host\": \"", "\"host\": \"other-");
    expect_held(" on other-");
    set_age(PS_LOCK_LEASE_S - 20);
    expect_held("which is running");
    set_age(PS_LOCK_LEASE_S + 20);
    expect_taken_over(" on other-");
}
END_TEST

/* In another container numbers of processes mean others. */
START_TEST(another_namespace_is_another_host)
{
    write_other("\"namespace\": \"", "\"namespace\": \"x");
    expect_held("is held by");
    set_age(PS_LOCK_LEASE_S + 20);
    expect_taken_over("is dead");
}
END_TEST

START_TEST(a_job_that_is_started_again_was_ended_before)
{
    setenv("SLURM_JOB_ID", "4711", 1);
    setenv("SLURM_RESTART_COUNT", "1", 1);
    write_other("\"host\": \"", "\"host\": \"other-");
    expect_held("is held by job slurm 4711, process ");
    setenv("SLURM_RESTART_COUNT", "2", 1);
    expect_taken_over("job slurm 4711");
    write_other("\"host\": \"", "\"host\": \"other-");
    setenv("SLURM_JOB_ID", "4712", 1);
    setenv("SLURM_RESTART_COUNT", "3", 1);
    expect_held("is held by job slurm 4711");
}
END_TEST

START_TEST(a_lock_that_was_taken_away_is_noticed)
{
    ps_lock *lock;
    assert_ok(ps_lock_take(path, NULL, &lock));
    assert_ok(ps_lock_renew(lock));
    scratch_write_text(path, "{}\n");
    // Another's file is not removed.
    ps_lock_release(lock);
    ck_assert(scratch_exists(path));
    ck_assert_int_eq(ps_lock_take(path, NULL, &lock), PS_ERR_FORMAT);
    assert_message("out.lock: is no lock file: remove it if no job is running");
}
END_TEST

enum { MANY = 16 };

/* Takes the lock when `begin` is closed, holds it until `end` is. Exits with 1 if it had it. */
static _Noreturn void contend(const int begin[2], const int end[2])
{
    char byte;
    ps_lock *lock;
    close(begin[1]);
    close(end[1]);
    if (read(begin[0], &byte, 1) < 0) _exit(9);
    const ps_err err = ps_lock_take(path, NULL, &lock);
    if (!err && read(end[0], &byte, 1) < 0) _exit(9);
    _exit(err == PS_OK ? 1 : err == PS_ERR_LIMIT ? 0 : 2);
}

/* How many of `left` children exit within 10 s, but for the last; adds those that had the lock. */
static int wait_for_losers(int left, int *taken)
{
    for (int turn = 0; left > 1 && turn < 10000; turn++) {
        int status;
        if (waitpid(-1, &status, WNOHANG) > 0) {
            ck_assert(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
            *taken += WEXITSTATUS(status);
            left--;
        } else {
            usleep(1000);
        }
    }
    return left;
}

/* Of many that find a dead job's lock at the same time, one takes it over. */
START_TEST(one_of_many_takes_over)
{
    write_other("\"start\": \"", "\"start\": \"1");
    int begin[2], end[2], taken = 0;
    ck_assert_int_eq(pipe(begin), 0);
    ck_assert_int_eq(pipe(end), 0);
    for (int i = 0; i < MANY; i++) {
        if (fork() == 0) contend(begin, end);
    }
    close(begin[0]);
    close(begin[1]);
    int left = wait_for_losers(MANY, &taken);
    close(end[0]);
    close(end[1]);
    for (; left > 0; left--) {
        int status;
        ck_assert_int_gt(waitpid(-1, &status, 0), 0);
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
        taken += WEXITSTATUS(status);
    }
    ck_assert_int_eq(taken, 1);
    ck_assert_int_eq(scratch_count(), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base/lock");
    TCase *tcase = scratch_case(suite, "lock");
    tcase_add_test(tcase, a_lock_is_there_while_it_is_held);
    tcase_add_test(tcase, a_process_that_has_gone_is_dead);
    tcase_add_test(tcase, a_process_with_another_start_is_another);
    tcase_add_test(tcase, another_hosts_job_lives_as_long_as_its_lease);
    tcase_add_test(tcase, another_namespace_is_another_host);
    tcase_add_test(tcase, a_job_that_is_started_again_was_ended_before);
    tcase_add_test(tcase, a_lock_that_was_taken_away_is_noticed);
    tcase_add_loop_test(tcase, one_of_many_takes_over, 0, 5);
    return scratch_run(suite);
}
