/* adapter_config.json, NUL, adapter_model.safetensors; for matrices of 8 x 4 and of 3 x 40. */
#include <math.h>

#include "fuzz/fuzz.h"
#include "tool/import/lora.h"

static void use(ps_lora *lora)
{
    static const struct {
        const char *name;
        size_t out, in;
    } matrices[] = {{"m.weight", 8, 4}, {"layers.0.q", 3, 40}};
    for (size_t i = 0; i < sizeof matrices / sizeof matrices[0]; i++) {
        float values[16 * 40] = {0};
        const size_t rows[3] = {2, 0, 1};
        bool found;
        const ps_err err =
            ps_lora_select(lora, matrices[i].name, matrices[i].out, matrices[i].in, &found);
        if (fuzz_is_ok(err) && found) ps_lora_add(lora, rows, 3, values);
    }
    (void)fuzz_is_ok(ps_lora_check_all_used(lora));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input rest = {(const char *)data, size};
    ps_lora *lora;
    const fuzz_input config = fuzz_take(&rest);
    fuzz_file("adapter_config.json", config.data, config.n);
    fuzz_file("adapter_model.safetensors", rest.data, rest.n);
    if (!fuzz_is_ok(ps_lora_open(fuzz_path(""), &lora))) return 0;
    use(lora);
    ps_lora_close(lora);
    return 0;
}
