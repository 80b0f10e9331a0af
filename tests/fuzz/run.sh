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

# sum_up NAME LOG STATUS
sum_up() {
    local executions coverage
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$2" | tail -n 1)
    coverage=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$2" | tail -n 1)
    if [ "$3" -eq 0 ]; then
        printf 'ok   %s: %s executions, %s edges\n' "$1" "${executions:-no}" "${coverage:-no}"
        return
    fi
    found=$((found + 1))
    printf 'FAIL %s: %s executions, %s edges; %s\n' "$1" "${executions:-no}" "${coverage:-no}" "$2"
    grep -m 3 -E 'ERROR: |SUMMARY: |runtime error: |does not hold' "$2"
    sed -n 's/.*Test unit written to /     /p' "$2"
}

for target in "$build"/tests/fuzz/fuzz_*; do
    name=${target##*/fuzz_}
    [ -x "$target" ] || continue
    grep -q -- "$pattern" <<<"$name" || continue
    corpus=$build/corpus/$name
    log=$build/found/$name.log
    dictionary=()
    [ ! -f "$here/dictionaries/$name.dict" ] || dictionary=("-dict=$here/dictionaries/$name.dict")
    mkdir -p "$corpus"
    nice -n 10 "$target" "$corpus" "$here/corpus/$name" "${limits[@]}" "${dictionary[@]}" -print_final_stats=1 \
        -artifact_prefix="$build/found/$name-" -max_total_time="$seconds" >"$log" 2>&1
    sum_up "$name" "$log" $?
done
[ $found -eq 0 ]
