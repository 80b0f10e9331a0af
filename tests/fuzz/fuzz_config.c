/* config.json of a Hugging Face directory: keys, families, and the spec that comes out. */
#include <string.h>

#include "fuzz/fuzz.h"
#include "tool/import/families.h"

/* A spec that was accepted is one that a model file can hold. */
static void check_spec(const ps_spec *spec)
{
    ps_text json = {0}, again = {0};
    ps_spec read;
    ps_spec_to_json(spec, &json);
    fuzz_require(ps_spec_from_json(json.data, json.len, "spec", &read) == PS_OK);
    ps_spec_to_json(&read, &again);
    fuzz_require(strcmp(json.data, again.data) == 0);
    ps_spec_release(&read);
    ps_text_release(&again);
    ps_text_release(&json);
}

/* Names and rows of the first tensors. */
static void walk_tensors(const ps_import *import)
{
    ps_tensor_need need;
    for (int cursor = 0, i = 0; i < 64 && ps_tensor_next(&import->spec, &cursor, &need); i++) {
        ps_text name = {0};
        fuzz_require(need.n > 0 && need.k > 0 && need.count > 0);
        if (!import->from[need.role].name) continue;
        ps_family_tensor_name(&import->from[need.role], need.layer, 0, &name);
        const int64_t rows = ps_import_rows(import, &need);
        for (int n = 0; n < need.n && n < 64; n++) {
            const int64_t row = ps_import_row(import, &need, n);
            fuzz_require(row >= 0 && row < rows);
        }
        const int64_t last = ps_import_row(import, &need, need.n - 1);
        fuzz_require(last >= 0 && last < rows);
        ps_text_release(&name);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ps_config config;
    ps_import import = {0};
    bool ok = fuzz_is_ok(ps_config_open(fuzz_file("config.json", data, size), &config));
    if (ok) ok = fuzz_is_ok(ps_family_read(&config, &import));
    if (ok) check_spec(&import.spec);
    if (ok) walk_tensors(&import);
    ps_spec_release(&import.spec);
    ps_config_close(&config);
    return 0;
}
