/* What clang's analyser cannot see from one source file; included before each by
 * tests/checks/lint.sh.
 *
 * A failure never returns PS_OK: without this the analyser walks paths on which it did. */
#include "base/err.h"
#undef PS_FAIL
#define PS_FAIL(code, ...) (ps_err_set((code), __VA_ARGS__), (code))
