#!/usr/bin/env bash
# Runs test programs and scripts, sums up what they say, and closes with "N passed, N failed".
#
#   tests/run.sh BUILD_DIR unit|mpi|cli|golden ...
#
# unit    BUILD_DIR/tests/unit/*/test_*         Check programs, a process for each test
# mpi     BUILD_DIR/tests/mpi/test_*            Check programs under mpirun, for each count in NP
# cli     tests/cli/*.sh                        one case a script: exit status 0 is a pass
# golden  BUILD_DIR/tests/tools/golden          rows of its own; closes with "N passed, N failed"
#
# T=PATTERN runs only what matches, NOT=PATTERN leaves out what matches. Everything has a time limit; nothing waits for
# ever.
set -u
build=$1
shift
NP=${NP:-1 2 3 4}
pattern=${T:-.}
unwanted=${NOT:-^$}
passed=0
failed=0
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/launcher.sh
. "$here/../launch/launcher.sh"

is_wanted() { grep -q -- "$pattern" <<<"$1" && ! grep -q -- "$unwanted" <<<"$1"; }

# note NAME OUTPUT STATUS: adds a Check program's "Checks: N, Failures: F, Errors: E".
note() {
    local checks failures errors
    read -r checks failures errors < <(sed -n \
        's/.*Checks: \([0-9]*\), Failures: \([0-9]*\), Errors: \([0-9]*\).*/\1 \2 \3/p' <<<"$2" | tail -n 1)
    if [ -z "${checks:-}" ]; then
        failed=$((failed + 1))
        printf 'FAIL %s: no result (exit status %s)\n%s\n' "$1" "$3" "$2"
        return
    fi
    local bad=$((failures + errors))
    # A program that fails without naming a failed check (a leak, a crash at the end) counts as one.
    [ "$bad" -eq 0 ] && [ "$3" -ne 0 ] && bad=1
    [ "$bad" -gt "$checks" ] && checks=$bad
    passed=$((passed + checks - bad))
    failed=$((failed + bad))
    if [ "$bad" -gt 0 ]; then
        printf 'FAIL %s (exit status %s)\n%s\n' "$1" "$3" "$2"
    else
        printf 'ok   %s: %s checks\n' "$1" "$checks"
    fi
}

# run_one_unit PROGRAM: leaves its output and its exit status in $results.
run_one_unit() {
    local to=$results/${1//\//_}
    CK_DEFAULT_TIMEOUT=120 timeout 300 "$1" >"$to.output" 2>&1
    echo $? >"$to.status"
}

# Side by side: a program of these is one process.
run_unit() {
    local program name at programs=()
    for program in "$build"/tests/unit/*/test_*; do
        [ -x "$program" ] || continue
        is_wanted "${program#"$build"/tests/}" && programs+=("$program")
    done
    [ ${#programs[@]} -gt 0 ] || return 0
    results=$(mktemp -d)
    export results
    export -f run_one_unit
    # shellcheck disable=SC2016 # it is the inner shell's
    printf '%s\0' "${programs[@]}" | xargs -0 -n 1 -P "${JOBS:-$(nproc)}" bash -c 'run_one_unit "$1"' -
    for program in "${programs[@]}"; do
        name=${program#"$build"/tests/}
        at=$results/${program//\//_}
        note "$name" "$(cat "$at.output")" "$(cat "$at.status")"
    done
    rm -rf "$results"
}

run_mpi() {
    local program name output np
    for program in "$build"/tests/mpi/test_*; do
        [ -x "$program" ] || continue
        name=${program#"$build"/tests/}
        is_wanted "$name" || continue
        for np in $NP; do
            output=$(CK_FORK=no launch "$np" 120 "$program" 2>&1)
            note "$name on $np ranks" "$output" $?
        done
    done
}

run_cli() {
    local script name output status scratch begin
    for script in "$here"/cli/*.sh; do
        name=${script#"$here"/}
        is_wanted "$name" || continue
        scratch=$(mktemp -d)
        begin=$SECONDS
        output=$(cd "$scratch" && PIPESTEP=$PWD_AT_START/$build/pipestep TOP=$PWD_AT_START \
            SCRATCH=$scratch timeout 600 bash "$script" 2>&1)
        status=$?
        rm -rf "$scratch"
        if [ $status -eq 0 ]; then
            passed=$((passed + 1))
            printf 'ok   %s (%s s)\n' "$name" $((SECONDS - begin))
        else
            failed=$((failed + 1))
            printf 'FAIL %s (exit status %s)\n%s\n' "$name" $status "$output"
        fi
    done
}

run_golden() {
    local output p f
    output=$("$build"/tests/tools/golden "$build/pipestep" 2>&1)
    printf '%s\n' "$output" | sed '$d'
    read -r p f < <(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' <<<"$output" | tail -n 1)
    if [ -z "${p:-}" ]; then
        failed=$((failed + 1))
        printf 'FAIL golden: no result\n%s\n' "$output"
        return
    fi
    passed=$((passed + p))
    failed=$((failed + f))
}

PWD_AT_START=$PWD
for kind in "$@"; do
    "run_$kind"
done
printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
