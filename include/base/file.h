/* Files as a whole: read with a bound, map, and replace atomically.
 *
 * Every read is checked against the file's length, EINTR and short reads are continued. A file that
 * is written goes to a temporary name in the same directory, is fsynced, and renamed over the old
 * one only when it is complete; until then the old file stays as it was.
 *
 * Errors: PS_ERR_IO with path and reason; PS_ERR_LIMIT for a file over its bound.   MPI: local.
 */
#ifndef PS_BASE_FILE_H
#define PS_BASE_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/text.h"

/* Appends the contents of `path` to *out. `path` "-" reads standard input. A directory, or a file
 * of more than `limit` bytes, is an error. */
ps_err ps_file_read(const char *path, size_t limit, ps_text *out) PS_MUST_CHECK;

/* Up to n bytes of a regular file from `offset` on (zeros behind its end) and its length, without
 * mapping it. */
ps_err ps_file_peek(const char *path, uint64_t offset, void *out, size_t n,
                    uint64_t *bytes) PS_MUST_CHECK;

/* A regular file mapped for reading, shared through the page cache. When somebody cuts it short, or
 * its disk fails, whoever reads what is gone ends the process with one line and exit status 1. */
typedef struct ps_file_map {
    const unsigned char *data; // borrowed until ps_file_map_close; NULL for an empty file
    size_t bytes;
    int fd;
    int64_t modified_ns; // when it was mapped
} ps_file_map;

ps_err ps_file_map_open(const char *path, ps_file_map *out) PS_MUST_CHECK;

/* The same file only opened, for ps_file_read_at: data stays NULL. */
ps_err ps_file_map_open_unmapped(const char *path, ps_file_map *out) PS_MUST_CHECK;

/* Fails when the mapped file was written to since: its contents are then not known any more. A file
 * that was renamed over it is another one, and no matter. */
ps_err ps_file_map_check(const ps_file_map *map, const char *path) PS_MUST_CHECK;

void ps_file_map_close(ps_file_map *map);

/* n bytes at `offset` of an open file, whole or an error. */
ps_err ps_file_read_at(int fd, const char *path, uint64_t offset, void *out,
                       size_t n) PS_MUST_CHECK;

/* What tells one state of a file from another without reading it. */
typedef struct ps_file_identity {
    uint64_t device, inode, bytes;
    int64_t modified_ns, changed_ns;
} ps_file_identity;

ps_err ps_file_identify(const char *path, ps_file_identity *out) PS_MUST_CHECK;

/* Name of the network file system that the file lies on, static; NULL: a local one, or none that is
 * known. By the kernel's numbers, the second from one of them (statfs' f_type). */
const char *ps_file_network_system(const char *path);
const char *ps_file_network_system_of(long type);

/* Atomic replacement: open, write any number of times, then commit or abandon. */
typedef struct ps_file_writer {
    char *path;      // final name, owned
    char *temporary; // name while being written, owned; NULL for a device or pipe
    int fd;
    char *buffer; // owned
    size_t used;
    ps_err err; // first error; later writes do nothing
} ps_file_writer;

/* A device or a pipe (/dev/stderr, a shell's >(command)) cannot be replaced and is written to as it
 * is. */
ps_err ps_file_writer_open(const char *path, ps_file_writer *out) PS_MUST_CHECK;
void ps_file_writer_write(ps_file_writer *w, const void *bytes, size_t n);

/* fsync, close, rename, fsync of the directory. Returns the first error of any write. The writer is
 * released in every case; on error the temporary file is removed and the old file untouched. */
ps_err ps_file_writer_commit(ps_file_writer *w) PS_MUST_CHECK;

/* The same without fsync: for what is written again soon, and matters while the machine runs. */
ps_err ps_file_writer_replace(ps_file_writer *w) PS_MUST_CHECK;
void ps_file_writer_abandon(ps_file_writer *w);

/* Whether `path` can be written, before the work whose result goes there: an error for a directory,
 * or when its own directory is missing or read-only. *out is the file to replace: the path, or what
 * it links to; owned by the caller. *regular is false for a device or pipe; NULL: such a thing is
 * an error too. */
ps_err ps_file_find_target(const char *path, bool *regular, char **out) PS_MUST_CHECK;

/* Whether both names lead to one file that is there. */
bool ps_file_is_same(const char *a, const char *b);

/* The two halves for writers that do their own output (HDF5): a fresh temporary name beside `path`
 * (owned by the caller), and the fsync + rename + fsync of the directory that makes it final. */
char *ps_file_temporary_name(const char *path);
ps_err ps_file_sync(const char *path) PS_MUST_CHECK; // what was written to it is on the disk
ps_err ps_file_publish(const char *temporary, const char *path) PS_MUST_CHECK;

/* All n bytes to a descriptor. PS_ERR_CLOSED when the reader of a pipe went away. `what` names the
 * destination in the message. */
ps_err ps_file_write_all(int fd, const void *bytes, size_t n, const char *what) PS_MUST_CHECK;

/* Appends the program's directory for things that can be made again: pipestep in $XDG_CACHE_HOME,
 * or in ~/.cache. False, and nothing, when there is neither. */
bool ps_file_cache_directory(ps_text *out);

/* Makes a directory and its parents. */
ps_err ps_file_make_dirs(const char *path) PS_MUST_CHECK;

#endif
