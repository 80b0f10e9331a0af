/* A batch's journal, its output and its lock: three texts with NUL between. The lines of the first
 * are given right numbers, so that what is behind them is read; a last one that is not ended is
 * torn. The ledger has 4 requests of a vocabulary of 300. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/log.h"
#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "tool/ledger.h"

enum { N = 4 };

static void append_numbered(fuzz_input lines, ps_text *out)
{
    uint64_t hash = 0;
    while (lines.n > 0) {
        const char *end = memchr(lines.data, '\n', lines.n);
        const size_t n = end ? (size_t)(end - lines.data) : lines.n;
        hash = XXH3_64bits_withSeed(lines.data, n, hash);
        ps_text_appendf(out, "%016llx ", (unsigned long long)hash);
        ps_text_append(out, lines.data, n);
        if (end) ps_text_append_char(out, '\n');
        lines.data += n + (end != NULL);
        lines.n -= n + (end != NULL);
    }
}

static void use(ps_ledger *l)
{
    static const ps_output output = {0};
    if (!fuzz_is_ok(ps_ledger_begin(l, 1, 1, &output))) return;
    for (size_t i = 0; i < N; i++) {
        for (int n_logprobs = -1; n_logprobs < 2 && !ps_ledger_has(l, i); n_logprobs++) {
            ps_completion begun[2];
            if (!ps_ledger_begun(l, i, 2, n_logprobs, 300, begun)) continue;
            for (int s = 0; s < 2; s++) {
                for (size_t t = 0; t < begun[s].tokens.n; t++) {
                    fuzz_require(begun[s].tokens.ids[t] >= 0 && begun[s].tokens.ids[t] < 300);
                }
                if (n_logprobs >= 0 && begun[s].tokens.n > 0)
                    fuzz_require(begun[s].logprobs[begun[s].tokens.n - 1].n_top == n_logprobs);
                ps_completion_release(&begun[s]);
            }
        }
        if (ps_ledger_has(l, i)) continue;
        ps_text result = {0};
        ps_text_appendf(&result, "{\"result\": %zu}\n", i);
        fuzz_require(ps_ledger_put(l, i, &result) == PS_OK);
    }
    fuzz_require(ps_ledger_written(l) == N);
    fuzz_require(ps_ledger_finish(l) == PS_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input rest = {(const char *)data, size};
    const fuzz_input lines = fuzz_take(&rest), out = fuzz_take(&rest), lock = fuzz_take(&rest);
    ps_text journal = {0};
    ps_log_set(PS_LOG_ERROR, 0);
    append_numbered(lines, &journal);
    fuzz_file("out.journal", journal.data, journal.len);
    ps_text_release(&journal);
    const ps_ledger_params params = {.out = fuzz_file("out", out.data, out.n),
                                     .n = N,
                                     .journal = true,
                                     .exact = true,
                                     .identity = "seed = 0\nmodel = 1\n"};
    if (lock.n > 0) fuzz_file("out.lock", lock.data, lock.n);
    ps_ledger *l;
    if (fuzz_is_ok(ps_ledger_open(&params, &l))) {
        use(l);
        ps_ledger_close(l, true);
    }
    fuzz_remove("out.lock");
    return 0;
}
