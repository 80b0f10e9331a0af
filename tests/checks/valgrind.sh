#!/usr/bin/env bash
# Reads of what was never written, and of what is not ours, under valgrind's memcheck (make valgrind builds what it needs).
#
#   tests/checks/valgrind.sh BUILD_DIR [TEST ...]
#
# The unit tests that are named; then tiny models generate and score, on one rank and on two. First a program that decides by
# what it never wrote must be found out. What is left out, and why: tests/support/valgrind.supp; Open MPI brings a list of its
# own. The last line is "N passed, N failed". Exit status 77: there is no valgrind.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top" || exit 1
case $1 in /*) build=$1 ;; *) build=$PWD/$1 ;; esac
shift
command -v valgrind >/dev/null || {
    echo 'valgrind: skipped for want of valgrind (Debian: apt-get install valgrind)'
    exit 77
}
# shellcheck source=launch/launcher.sh
. launch/launcher.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache
# Blocks that are still there at the end are the leak sanitizer's affair (make asan), which knows libraries apart.
memcheck=(valgrind -q --error-exitcode=86 --fair-sched=yes --leak-check=no "--suppressions=$top/tests/support/valgrind.supp")
list=/usr/share/openmpi/openmpi-valgrind.supp
[ ! -r $list ] || memcheck+=("--suppressions=$list")
passed=0 failed=0

# check NAME COMMAND ...
check() {
    local name=$1 status
    shift
    "$@" >"$work/out" 2>"$work/log" </dev/null
    status=$?
    if [ $status -eq 0 ] && ! grep -q '^==[0-9]*== ' "$work/log"; then
        passed=$((passed + 1))
        echo "ok   $name"
    else
        failed=$((failed + 1))
        echo "FAIL $name (exit status $status)"
        cat "$work/out" "$work/log" | head -n 60
    fi
}

cat >"$work/unset.c" <<'C'
#include <stdlib.h>
int main(void)
{
    volatile int *p = malloc(sizeof *p);
    return *p == 7 ? 1 : 0;
}
C
"${CC:-gcc}" -O0 -g -o "$work/unset" "$work/unset.c" || exit 1
"${memcheck[@]}" "$work/unset" >"$work/out" 2>&1
if [ $? -ne 86 ]; then
    echo "valgrind: a read of what was never written is not found out: $(head -n 5 "$work/out")"
    exit 1
fi

for program in "$@"; do
    check "${program#*/tests/}" env CK_FORK=no timeout 300 "${memcheck[@]}" "$program"
done
launcher_for "$build/pipestep" || exit 1
echo 1 2 3 4 5 6 7 8 9 >"$work/tokens"
for family in llama relpos_llama; do
    "$build/tests/tools/tiny_model" --family $family --tokenizer "$work/$family.h5" >/dev/null || exit 1
    check "$family generates" timeout 300 "${memcheck[@]}" "$build/pipestep" generate "$work/$family.h5" -q --prompt a -n 6 --ids \
        -t 2 --wait shared
    check "$family scores on 2 ranks" launch 2 300 "${memcheck[@]}" "$build/pipestep" score "$work/$family.h5" -q \
        --tokens "$work/tokens" -t 1 --wait shared
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
