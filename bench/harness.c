#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "math/kernels.h"
#include "tool/machine.h"
#include "tool/version.h"

enum { RUNS_MAX = 4096 };

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

bench_time bench_measure(bench_function *function, void *arg, int min_runs, double min_s)
{
    static double times[RUNS_MAX];
    bench_time t = {0};
    function(arg);
    const int64_t begin = ps_clock_now_ns();
    while (t.runs < RUNS_MAX) {
        const int64_t start = ps_clock_now_ns();
        function(arg);
        const int64_t end = ps_clock_now_ns();
        times[t.runs++] = ps_clock_seconds_between(start, end);
        if (t.runs >= min_runs && ps_clock_seconds_between(begin, end) >= min_s) break;
    }
    qsort(times, (size_t)t.runs, sizeof times[0], by_value);
    t.min_s = times[0];
    t.median_s = times[(t.runs - 1) / 2];
    t.p90_s = times[(t.runs - 1) * 9 / 10];
    return t;
}

static void print_processor(void)
{
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "model name", 10) != 0) continue;
        char *colon = strchr(line, ':');
        if (colon) printf("# processor=%s", colon + 2);
        break;
    }
    if (f) fclose(f);
}

void bench_header(const char *name, const ps_engine *engine)
{
    char host[64] = "";
    gethostname(host, sizeof host - 1);
    printf("# bench=%s\n# version=%s\n# host=%s\n", name, ps_version(), host);
    print_processor();
    printf("# cores=%ld\n", sysconf(_SC_NPROCESSORS_ONLN));
    if (engine)
        printf("# threads=%d\n# isa=%s\n", ps_pool_threads(engine->pool), engine->kernels->name);
}

static void must(ps_err err)
{
    if (!err) return;
    fprintf(stderr, "%s\n", ps_err_message());
    exit(1);
}

ps_engine bench_engine(int n_threads, const char *isa)
{
    ps_engine engine;
    const ps_engine_params params = {.isa = isa, .n_threads = n_threads, .wait = PS_WAIT_LATENCY};
    must(ps_engine_open(&params, &engine));
    return engine;
}

void *bench_memory(size_t bytes)
{
    ps_region region;
    must(ps_region_take(bytes, "bench", &region));
    memset(region.base, 1, bytes);
    return region.base;
}

double bench_read_gb_s(const ps_engine *engine)
{
    ps_machine m;
    must(ps_machine_measure_read(engine, &m));
    return m.read_gb_s;
}

double bench_fma_gflop_s(const ps_engine *engine)
{
    ps_machine m;
    ps_machine_measure_fma(engine, &m);
    return m.fma_gflop_s;
}
