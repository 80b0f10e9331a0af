/* A file for --config: options of a run and of sampling. What is dumped reads back the same. */
#include <string.h>

#include "fuzz/fuzz.h"
#include "tool/options.h"

enum { GROUPS = 3 };

typedef struct values {
    ps_run_options run;
    ps_sampling_options sampling;
} values;

static bool parse(const char *path, values *v, ps_opt_group *groups, ps_opt_parsed *out)
{
    static char name[] = "--config";
    char *argv[] = {name, (char *)(uintptr_t)path};
    *v = (values){0};
    groups[0] = ps_run_group(&v->run);
    groups[1] = ps_base_group(&v->run);
    groups[2] = ps_sampling_group(&v->sampling);
    return fuzz_is_ok(ps_opt_parse(groups, GROUPS, NULL, 2, argv, out));
}

static void check_dump(const ps_opt_group *groups, const ps_opt_parsed *parsed)
{
    values v;
    ps_opt_group others[GROUPS];
    ps_opt_parsed read;
    ps_text dump = {0}, again = {0};
    ps_opt_dump(groups, GROUPS, parsed, &dump);
    fuzz_require(parse(fuzz_file("dump.conf", dump.data, dump.len), &v, others, &read));
    ps_opt_dump(others, GROUPS, &read, &again);
    fuzz_require(strcmp(ps_text_str(&dump), ps_text_str(&again)) == 0);
    ps_opt_release(&read);
    ps_text_release(&again);
    ps_text_release(&dump);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    values v;
    ps_opt_group groups[GROUPS];
    ps_opt_parsed parsed;
    ps_request request = {.sampling = ps_sample_params_default()};
    if (!parse(fuzz_file("run.conf", data, size), &v, groups, &parsed)) return 0;
    check_dump(groups, &parsed);
    if (fuzz_is_ok(ps_sampling_to_request(&v.sampling, &parsed, &request)))
        (void)fuzz_is_ok(ps_sample_params_check(&request.sampling, 300));
    ps_request_release(&request);
    ps_opt_release(&parsed);
    return 0;
}
