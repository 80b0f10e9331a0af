#!/usr/bin/env bash
# What threads share, under the thread sanitizer: unit tests of the pool, of what it computes and of the journal, which has
# a thread of its own; the pipeline on one rank; and the program as typed, alone and on two ranks (make tsan builds it).
#
#   tests/checks/tsan.sh
#
# MPI and other libraries are not instrumented: what they do among themselves is not looked at. Nothing else is left out.
# First a program with a race must be found out. The last line is "N passed, N failed". A program in which a race is found
# ends with status 86.
set -u
cd "$(dirname "$0")/../.." || exit 1
top=$PWD
build=$top/build/tsan
[ -x "$build/pipestep" ] || {
    echo "tsan: there is no $build/pipestep: make tsan" >&2
    exit 1
}
# shellcheck source=launch/launcher.sh
. launch/launcher.sh
export TSAN_OPTIONS="exitcode=86 ignore_noninstrumented_modules=1"
export CK_TIMEOUT_MULTIPLIER=20 CK_DEFAULT_TIMEOUT=240
# Where addresses are drawn from more bits than the sanitizer knows of, it cannot start.
plain=()
if ! "$build/pipestep" --version >/dev/null 2>&1; then plain=(setarch -R); fi
passed=0 failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache

# check NAME COMMAND ...
check() {
    local name=$1 status
    shift
    "$@" >"$work/out" 2>"$work/log" </dev/null
    status=$?
    if [ $status -eq 0 ] && ! grep -q 'WARNING: ThreadSanitizer' "$work/log" "$work/out"; then
        passed=$((passed + 1))
        echo "ok   $name"
    else
        failed=$((failed + 1))
        echo "FAIL $name (exit status $status)"
        cat "$work/out" "$work/log" | head -n 120
    fi
}

cat >"$work/race.c" <<'C'
#include <pthread.h>
static int shared;
static void *add(void *arg)
{
    for (int i = 0; i < 1000; i++) shared++;
    return arg;
}
int main(void)
{
    pthread_t other;
    pthread_create(&other, 0, add, 0);
    add(0);
    pthread_join(other, 0);
    return 0;
}
C
"${CC:-gcc}" -O1 -g -fsanitize=thread -o "$work/race" "$work/race.c" -lpthread || exit 1
"${plain[@]}" "$work/race" >"$work/out" 2>&1
if [ $? -ne 86 ] || ! grep -q 'data race' "$work/out"; then
    echo "tsan: a race is not found out: $(head -n 5 "$work/out")"
    exit 1
fi

for program in "$build"/tests/unit/*/test_*; do
    [ -x "$program" ] && check "${program#"$build"/tests/}" timeout 300 "${plain[@]}" "$program"
done
launcher_for "$build/pipestep" || exit 1
export CK_FORK=no
check mpi/test_pipeline launch 1 300 "${plain[@]}" "$build/tests/mpi/test_pipeline"
unset CK_FORK
model=configs/tunes/tunes.h5
for threads in 2 3; do
    check "generate on $threads threads" timeout 120 "${plain[@]}" "$build/pipestep" generate $model -q --prompt X:1 -n 24 --ids -t $threads
done
request='{"prompt": "X:1", "max_tokens": 12, "n": 2, "logprobs": 2, "ignore_eos": true}'
printf '%s\n' "$request" "$request" "$request" >"$work/in.jsonl"
for ranks in 1 2; do
    rm -f "$work"/out.jsonl*
    check "batch on $ranks ranks" launch $ranks 120 "${plain[@]}" "$build/pipestep" batch $model -q -t 2 --wait shared \
        --in "$work/in.jsonl" --out "$work/out.jsonl" --journal-every 2 --trace "$work/trace.json" --report "$work/report.json"
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
