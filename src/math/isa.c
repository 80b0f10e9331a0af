/* One row for each build; the processor is asked once, at the start. */
#include "math/isa.h"

#include <string.h>

#include "base/text.h"
#include "math/kernels.h"

#ifdef __aarch64__
#include <sys/auxv.h>
#endif

extern const ps_kernels ps_kernels_portable;
static bool always(void)
{
    return true;
}

#ifdef __x86_64__
extern const ps_kernels ps_kernels_avx2, ps_kernels_avx512, ps_kernels_avx512vnni;
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
}
static bool has_avx512vnni(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512vnni");
}
#endif

#ifdef __aarch64__
extern const ps_kernels ps_kernels_neon, ps_kernels_neon_i8mm;
static bool has_i8mm(void)
{
    return (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0;
}
#endif

static const struct {
    const ps_kernels *kernels;
    bool (*supported)(void);
} table[] = {
    {&ps_kernels_portable, always},
#ifdef __x86_64__
    {&ps_kernels_avx2, has_avx2},
    {&ps_kernels_avx512, has_avx512},
    {&ps_kernels_avx512vnni, has_avx512vnni},
#endif
#ifdef __aarch64__
    {&ps_kernels_neon, always}, // every 64-bit ARM that Linux runs on
    {&ps_kernels_neon_i8mm, has_i8mm},
#endif
};

int ps_isa_count(void)
{
    return (int)(sizeof table / sizeof table[0]);
}

const char *ps_isa_name(int isa)
{
    return table[isa].kernels->name;
}

bool ps_isa_supported(int isa)
{
    return table[isa].supported();
}

ps_err ps_isa_kernels(const char *name, const ps_kernels **out)
{
    const bool any = !name || strcmp(name, "auto") == 0;
    ps_text have = {0};
    for (int i = ps_isa_count() - 1; i >= 0; i--) {
        if (!ps_isa_supported(i)) continue;
        if (any || strcmp(ps_isa_name(i), name) == 0) {
            *out = table[i].kernels;
            ps_text_release(&have);
            return PS_OK;
        }
        ps_text_appendf(&have, " %s", ps_isa_name(i));
    }
    const ps_err err =
        PS_FAIL(PS_ERR_USAGE, "instruction set %s: this processor has%s", name, ps_text_str(&have));
    ps_text_release(&have);
    return err;
}
