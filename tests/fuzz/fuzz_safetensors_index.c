/* The index of a set of shards, over two good ones: a.safetensors holds "a" and "b", b.safetensors
 * "c". */
#include <string.h>

#include "base/text.h"
#include "fuzz/fuzz.h"
#include "tool/import/safetensors.h"

static void write_shard(const char *name, const char *json, size_t data_bytes)
{
    ps_text file = {0};
    const size_t n = strlen(json);
    for (int i = 0; i < 8; i++) {
        ps_text_append_char(&file, (char)(n >> (8 * i)));
    }
    ps_text_append(&file, json, n);
    for (size_t i = 0; i < data_bytes; i++) {
        ps_text_append_char(&file, (char)i);
    }
    fuzz_file(name, file.data, file.len);
    ps_text_release(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool written;
    ps_safetensors *files;
    if (!written) {
        write_shard("a.safetensors",
                    "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                    "\"b\":{\"dtype\":\"F16\",\"shape\":[1,2],\"data_offsets\":[8,12]}}",
                    12);
        write_shard("b.safetensors",
                    "{\"c\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3);
        written = true;
    }
    const char *path = fuzz_file("model.safetensors.index.json", data, size);
    if (!fuzz_is_ok(ps_safetensors_open(path, &files))) return 0;
    for (int i = 0; i < ps_safetensors_count(files); i++) {
        const ps_safetensors_tensor *t = ps_safetensors_at(files, i);
        fuzz_require(ps_safetensors_find(files, t->name) == t);
    }
    ps_safetensors_close(files);
    return 0;
}
