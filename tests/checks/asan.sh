#!/usr/bin/env bash
# The tests of build/asan (make asan builds it) under the address, undefined-behaviour and leak sanitizers.
#
#   tests/checks/asan.sh [KIND ...]       default: unit mpi cli
#
# NP (2), T and NOT (scripts that are about other things than memory, or are long) select as for tests/run.sh; the last line is
# "N passed, N failed". A program that a sanitizer ends has exit status 86, which pipestep itself never has. Leaks are
# looked for where that works: not under a debugger, and not in every container. tests/support/lsan.supp lists those of
# others.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=build/asan
passed=0
failed=0
[ $# -gt 0 ] || set -- unit mpi cli
if [ ! -x $build/pipestep ]; then
    echo "asan: there is no $build/pipestep: make asan" >&2
    exit 1
fi

# An allocation too large must fail as it does elsewhere, so that the program's own answer to it is tested.
common=exitcode=86:allocator_may_return_null=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:exitcode=86
export LSAN_OPTIONS=exitcode=86:print_suppressions=0:suppressions=$PWD/tests/support/lsan.supp
# Check ends a test after 4 s, which is meant for code at full speed.
export CK_TIMEOUT_MULTIPLIER=10
export NP=${NP:-2}
long='same_bits\|score\|bias\|resume\|direct\|generate\|options\|report\|lost_rank\|tokenize\|state\|encode\|acestep'
other='launch_scripts\|install\|deps\|bench_scripts\|quality\|replicas\|guidance\|weights'
export NOT=${NOT-"cli/\\($long\\|$other\\)"}
leaks=1
if ! output=$(ASAN_OPTIONS=$common:detect_leaks=1 $build/pipestep --version 2>&1); then
    leaks=0
    echo "asan: leaks are not looked for: $(grep -m 1 Sanitizer <<<"$output")"
fi

for kind in "$@"; do
    # With MPI's libraries, which have no frame pointers, the list of leaks matches only what the slow unwinder
    # saw. It makes the unit tests four times as slow, and they do without MPI.
    fast=0
    [ "$kind" != unit ] || fast=1
    output=$(ASAN_OPTIONS=$common:detect_leaks=$leaks:fast_unwind_on_malloc=$fast tests/run.sh $build "$kind" 2>&1)
    sed '$d' <<<"$output"
    read -r p f < <(tail -n 1 <<<"$output" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p')
    passed=$((passed + ${p:-0}))
    failed=$((failed + ${f:-1}))
done
printf '%s passed, %s failed\n' $passed $failed
[ $failed -eq 0 ] && [ $passed -gt 0 ]
