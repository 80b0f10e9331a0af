#!/usr/bin/env bash
# Runs the fuzz targets of a build, one after the other, FUZZ_SECONDS (60) each.
#
#   tests/fuzz/run.sh BUILD_DIR
#
# T=PATTERN runs only what matches. What a target finds lies under BUILD_DIR/found, what it learned under
# BUILD_DIR/corpus; the inputs of the repository (tests/fuzz/corpus) are read, never written. Exit status 1 when
# anything was found.
set -u
build=$1
seconds=${FUZZ_SECONDS:-60}
pattern=${T:-.}
here=$(cd "$(dirname "$0")" && pwd)
found=0

# Files of the targets: in memory, where that is to be had.
parent=${TMPDIR:-/tmp}
[ -d /dev/shm ] && [ -w /dev/shm ] && parent=/dev/shm
TMPDIR=$(mktemp -d -p "$parent") || exit 1
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
mkdir -p "$build/found" "$build/corpus"

# An input takes 10 s at most, 512 MB in one piece, 1 GB in all: far more than any of these has a right to.
limits=(-timeout=10 -malloc_limit_mb=512 -rss_limit_mb=1024 -max_len=65536)

# stood_still NAME: the last run took too long for an input that is fast when it is tried again, as happens where the
# machine has no time for it. Such an input is forgotten.
stood_still() {
    local input
    input=$(sed -n 's/.*Test unit written to \(.*-timeout-.*\)/\1/p' "$build/found/$1.log" | tail -n 1)
    [ -n "$input" ] && timeout 60 "$build/tests/fuzz/fuzz_$1" -timeout=10 "$input" >/dev/null 2>&1 && rm -f "$input"
}

# run_target NAME: until its time is over or something is found; its output is appended to the log.
run_target() {
    local name=$1 end=$((SECONDS + seconds)) status=0 dictionary=()
    [ ! -f "$here/dictionaries/$name.dict" ] || dictionary=("-dict=$here/dictionaries/$name.dict")
    mkdir -p "$build/corpus/$name"
    : >"$build/found/$name.log"
    while [ "$SECONDS" -lt "$end" ]; do
        nice -n 10 "$build/tests/fuzz/fuzz_$name" "$build/corpus/$name" "$here/corpus/$name" "${limits[@]}" \
            "${dictionary[@]}" -print_final_stats=1 -artifact_prefix="$build/found/$name-" \
            -max_total_time=$((end - SECONDS)) >>"$build/found/$name.log" 2>&1
        status=$?
        if [ $status -eq 0 ] || ! stood_still "$name"; then break; fi
        status=0
    done
    return $status
}

# sum_up NAME STATUS
sum_up() {
    local log=$build/found/$1.log executions coverage
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | awk '{ n += $1 } END { print n + 0 }')
    coverage=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    if [ "$2" -eq 0 ]; then
        printf 'ok   %s: %s executions, %s edges\n' "$1" "$executions" "${coverage:-no}"
        return
    fi
    found=$((found + 1))
    printf 'FAIL %s: %s executions, %s edges; %s\n' "$1" "$executions" "${coverage:-no}" "$log"
    grep -m 3 -E 'ERROR: |SUMMARY: |runtime error: |does not hold' "$log"
    sed -n 's/.*Test unit written to /     /p' "$log" | tail -n 1
}

for target in "$build"/tests/fuzz/fuzz_*; do
    name=${target##*/fuzz_}
    [ -x "$target" ] || continue
    grep -q -- "$pattern" <<<"$name" || continue
    run_target "$name"
    sum_up "$name" $?
done
[ $found -eq 0 ]
