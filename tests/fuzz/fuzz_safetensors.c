/* A safetensors file. */
#include <string.h>

#include "fuzz/fuzz.h"
#include "tool/import/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ps_safetensors *files;
    unsigned sum = 0;
    const char *path = fuzz_file("model.safetensors", data, size);
    if (!fuzz_is_ok(ps_safetensors_open(path, &files))) return 0;
    for (int i = 0; i < ps_safetensors_count(files); i++) {
        const ps_safetensors_tensor *t = ps_safetensors_at(files, i);
        size_t values = 1;
        for (int d = 0; d < t->n_dims; d++) {
            values *= t->shape[d];
        }
        fuzz_require(values * ps_safetensors_dtype_bytes(t->dtype) == t->bytes);
        fuzz_require(ps_safetensors_find(files, t->name) == t);
        fuzz_require(ps_safetensors_index(files, t) == i);
        for (size_t b = 0; b < t->bytes; b++) {
            sum += t->data[b];
        }
    }
    fuzz_require(sum <= 255u * size);
    ps_safetensors_close(files);
    return 0;
}
