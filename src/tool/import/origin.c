#include "tool/import/origin.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/sha256.h"

typedef struct origin_file {
    const char *path; // borrowed
    uint64_t bytes;
    char hash[PS_SHA256_TEXT_BYTES];
} origin_file;

struct ps_origin {
    origin_file *files; // [n] owned
    int n;
    pthread_t thread;
    bool running;
    atomic_bool stop;
    ps_err err;
    char message[PS_ERR_MESSAGE_BYTES]; // of err
};

static void *hash_files(void *arg)
{
    ps_origin *o = arg;
    for (int i = 0; i < o->n && !o->err && !atomic_load(&o->stop); i++) {
        origin_file *f = &o->files[i];
        o->err = ps_sha256_file(f->path, &o->stop, f->hash, &f->bytes);
    }
    // The message is the thread's own, and the thread ends.
    if (o->err) snprintf(o->message, sizeof o->message, "%s", ps_err_message());
    return NULL;
}

/* The tensors come in the order of their files. */
static void list_files(const ps_source *source, ps_origin *o)
{
    size_t capacity = 0;
    for (int i = 0; i < source->n; i++) {
        const char *path = source->tensors[i].file;
        if (o->n > 0 && strcmp(o->files[o->n - 1].path, path) == 0) continue;
        o->files = ps_mem_grow(o->files, &capacity, (size_t)o->n + 1, sizeof *o->files);
        o->files[o->n++] = (origin_file){.path = path};
    }
}

ps_origin *ps_origin_begin(const ps_source *source)
{
    ps_origin *o = ps_mem_new(1, sizeof *o);
    atomic_init(&o->stop, false);
    list_files(source, o);
    // Without a thread the hashes are computed at the end.
    o->running = pthread_create(&o->thread, NULL, hash_files, o) == 0;
    return o;
}

ps_err ps_origin_finish(ps_origin *o, ps_text *json)
{
    if (o->running) {
        pthread_join(o->thread, NULL);
        o->running = false;
    } else {
        hash_files(o);
    }
    if (o->err) return PS_FAIL(o->err, "%s", o->message);
    ps_text_append_char(json, '[');
    for (int i = 0; i < o->n; i++) {
        const char *slash = strrchr(o->files[i].path, '/');
        const char *name = slash ? slash + 1 : o->files[i].path;
        ps_text_append_str(json, i > 0 ? ", {\"name\": " : "{\"name\": ");
        ps_json_append_text(json, name, strlen(name));
        ps_text_appendf(json, ", \"bytes\": %" PRIu64 ", \"sha256\": \"%s\"}", o->files[i].bytes,
                        o->files[i].hash);
    }
    ps_text_append_char(json, ']');
    return PS_OK;
}

void ps_origin_free(ps_origin *o)
{
    if (!o) return;
    atomic_store(&o->stop, true);
    if (o->running) pthread_join(o->thread, NULL);
    ps_mem_free(o->files);
    ps_mem_free(o);
}
