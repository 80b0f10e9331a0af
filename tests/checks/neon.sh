#!/usr/bin/env bash
# The kernels for 64-bit ARM on a machine of another kind: cross-compiled, and run by an emulator of a processor without
# and of one with products of bytes (I8MM). All builds must give the bits of portable C.
#
#   tests/checks/neon.sh       exit status 77: no cross compiler, or no emulator
#
# On ARM itself make test does this. What the tests need of Check is in tests/support/plain. CROSS_CC names another compiler.
# The last line is "N passed, N failed".
set -u
cd "$(dirname "$0")/../.." || exit 1
cc=${CROSS_CC:-aarch64-linux-gnu-gcc} out=build/neon
emulator=$(command -v qemu-aarch64-static || command -v qemu-aarch64)
if ! command -v "$cc" >/dev/null || [ -z "$emulator" ]; then
    echo 'neon: skipped for want of a compiler and an emulator for ARM (launch/deps.sh arm)'
    exit 77
fi
sources='tests/support/floats.c src/base/clock.c src/base/clock_date.c src/base/err.c src/base/log.c src/base/mem.c'
sources+=' src/base/text.c src/math/activation.c src/math/dtype.c src/math/isa.c src/math/panel.c src/math/quant.c'
sources+=' src/math/quant_source.c src/math/quantise.c src/math/real.c src/math/rng.c'
passed=0 failed=0

kernels=()
for isa in portable neon neon_i8mm; do
    for kernel in src/math/isa/*.c; do
        kernels+=("$out/obj/math/isa-$isa/$(basename "$kernel" .c).o")
    done
done
timeout 900 make --no-print-directory -j"${JOBS:-$(nproc)}" MACHINE=aarch64 "MPICC=$cc" WERROR=1 OPT_release=-O2 "B=$out" "${kernels[@]}" >"$out.log" 2>&1 || {
    tail -n 20 "$out.log"
    exit 1
}
for name in test_isa test_kernels; do
    # shellcheck disable=SC2086
    timeout 300 "$cc" -std=c17 -D_GNU_SOURCE -ffp-contract=off -O2 -Iinclude -Isrc -Itests -Itests/support/plain \
        -static -o "$out/$name" "tests/unit/math/$name.c" $sources "${kernels[@]}" -lm || exit 1
    for processor in cortex-a72 max; do
        said=$(timeout 600 "$emulator" -cpu "$processor" "$out/$name" 2>&1)
        status=$?
        checks=$(sed -n 's/^100%: Checks: \([0-9]*\),.*/\1/p' <<<"$said")
        if [ $status -eq 0 ] && [ -n "$checks" ]; then
            echo "ok   $name on $processor: $checks checks"
            passed=$((passed + checks))
        else
            printf 'FAIL %s on %s (exit status %s)\n%s\n' "$name" "$processor" "$status" "$said"
            failed=$((failed + 1))
        fi
    done
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
