/* Types and errors of the h5 room. f16 and bf16 are declared as HDF5 floating-point types of their
 * own fields, so that other tools show them as numbers; we move their bits and never ask HDF5 to
 * convert. */
#include "model/h5_types.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    size_t bytes;
} table[] = {
    [PS_H5_U8] = {"u8", 1},   [PS_H5_I32] = {"i32", 4},   [PS_H5_I64] = {"i64", 8},
    [PS_H5_F16] = {"f16", 2}, [PS_H5_BF16] = {"bf16", 2}, [PS_H5_F32] = {"f32", 4},
    [PS_H5_F64] = {"f64", 8},
};

_Static_assert(sizeof table / sizeof table[0] == PS_H5_TYPE_COUNT, "one row for each type");

const char *ps_h5_type_name(ps_h5_type type)
{
    return table[type].name;
}

size_t ps_h5_type_bytes(ps_h5_type type)
{
    return table[type].bytes;
}

/* A 16-bit float: sign, exponent_bits, mantissa_bits from the top. */
static hid_t make_half(size_t exponent_bits, size_t mantissa_bits, size_t bias)
{
    const hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    // The fields must fit before the size shrinks.
    if (H5Tset_fields(type, 15, mantissa_bits, exponent_bits, 0, mantissa_bits) < 0 ||
        H5Tset_size(type, 2) < 0 || H5Tset_ebias(type, bias) < 0) {
        H5Tclose(type);
        return -1;
    }
    return type;
}

hid_t ps_h5_make_type(ps_h5_type type)
{
    switch (type) {
    case PS_H5_U8:
        return H5Tcopy(H5T_STD_U8LE);
    case PS_H5_I32:
        return H5Tcopy(H5T_STD_I32LE);
    case PS_H5_I64:
        return H5Tcopy(H5T_STD_I64LE);
    case PS_H5_F16:
        return make_half(5, 10, 15);
    case PS_H5_BF16:
        return make_half(8, 7, 127);
    case PS_H5_F32:
        return H5Tcopy(H5T_IEEE_F32LE);
    default:
        return H5Tcopy(H5T_IEEE_F64LE);
    }
}

static herr_t keep_innermost(unsigned n, const H5E_error2_t *error, void *data)
{
    char *text = data;
    if (n == 0 && error->desc) snprintf(text, 512, "%s", error->desc);
    return 0;
}

/* HDF5 wraps the system's reason into times, buffers and counts: "... error message = 'No space
 * left on device', buf = 0x..." */
static void keep_system_reason(char *reason)
{
    static const char before[] = "error message = '";
    char *begin = strstr(reason, before);
    if (!begin) return;
    begin += sizeof before - 1;
    const size_t n = strcspn(begin, "'");
    memmove(reason, begin, n);
    reason[n] = '\0';
}

ps_err ps_h5_fail(ps_err code, const char *path, const char *what)
{
    char reason[512] = "";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, reason);
    keep_system_reason(reason);
    return PS_FAIL(code, "%s: %s%s%s%s", path, what, reason[0] ? " (HDF5: " : "", reason,
                   reason[0] ? ")" : "");
}

void ps_h5_quiet(void)
{
    // A file that could not be closed (disk full) keeps a handle to freed memory, and the library's
    // own clean-up at exit would walk into it (1.10.8). Only the first call, before any other, has
    // an effect; later ones say no.
    (void)H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

#if H5_VERSION_GE(1, 12, 1) || (H5_VERSION_GE(1, 10, 7) && !H5_VERSION_GE(1, 12, 0))
void ps_h5_lock_nothing(hid_t access)
{
    H5Pset_file_locking(access, false, true);
}
#else
void ps_h5_lock_nothing(hid_t access)
{
    (void)access; // older libraries have only the environment variable HDF5_USE_FILE_LOCKING
}
#endif

void ps_h5_library_version(char *out)
{
    unsigned major = 0, minor = 0, release = 0;
    H5get_libversion(&major, &minor, &release);
    snprintf(out, 16, "%u.%u.%u", major % 1000, minor % 1000, release % 1000);
}
