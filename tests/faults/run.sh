#!/usr/bin/env bash
# Every fault of tests/faults/README.md that can be made to happen here, a row after the other.
#
#   tests/faults/run.sh BUILD_DIR [ROW ...]
#
# A row is a function row_N in rows_*.sh. Prints one line a row, and closes with "N rows hold, M do not, K are left out",
# where a row is left out, with the reason, when this machine lacks what it needs.
# shellcheck disable=SC2015,SC2034,SC2119,SC2120 # names and functions are for the rows
set -u
here=$(cd "$(dirname "$0")" && pwd)
TOP=$(cd "$here/../.." && pwd)
case $1 in /*) build=$1 ;; *) build=$PWD/$1 ;; esac
shift
export PIPESTEP=$build/pipestep TOP
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory" || exit 1
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
# shellcheck source=tests/faults/common.sh
. "$here/common.sh"
# shellcheck source=/dev/null
for rows in "$here"/rows_*.sh; do . "$rows"; done
build_shim || exit 1
shim_mpi=$PWD/shim_mpi.so
"${MPICC:-mpicc}" -shared -fPIC -O1 -o "$shim_mpi" "$here/shim_mpi.c" || exit 1
host=$(uname -n)

# unit PROGRAM: a Check program's verdict, run once for all rows.
unit() {
    local mark=$directory/${1//\//_}
    if [ ! -e "$mark.status" ]; then
        (cd "$TOP" && timeout 300 "$build/tests/unit/$1") >"$mark.output" 2>&1
        echo $? >"$mark.status"
    fi
    [ "$(<"$mark.status")" -eq 0 ] || complain "tests/unit/$1: $(tail -n 5 "$mark.output")"
}

# script NAME: one of tests/cli.
script() {
    mkdir script && (cd script && SCRATCH=$PWD timeout 600 bash "$TOP/tests/cli/$1" >../log 2>&1) || complain "tests/cli/$1: $(tail -n 20 log)"
}

# left_out REASON: this machine cannot do it.
left_out() {
    echo "$*" >left_out
    exit 0
}

# batch ARG ...: the requests of common.sh, alone.
batch() { pipestep batch "$model" "${quick[@]}" "${quiet[@]}" --in ../in.jsonl --out out.jsonl --journal-every 16 "$@"; }

# same_output NAME
same_output() { cmp -s out.jsonl ../wanted.jsonl || complain "$1: another output"; }

# Runs that the journal knows of.
count_runs() { grep -c '^.\{17\}J ' out.jsonl.journal 2>/dev/null || true; }

# start_here RANKS ARG ...: the same in the background.
start_here() {
    local ranks=$1
    shift
    started_ranks=$ranks
    runs_before=$(count_runs)
    cp ../rank.sh .
    start "$ranks" --in ../in.jsonl --out out.jsonl --journal-every 16 "$@"
}
have_all_pids() { have_pids "$started_ranks"; }
has_lines() { [ "$(count_runs)" != "$runs_before" ] && [ "$(wc -l 2>/dev/null <out.jsonl.journal || echo 0)" -ge "$1" ]; }
all_gone() {
    local file
    for file in pid.*; do is_gone "$(<"$file")" || return 1; done
}

# says TEXT: on standard error of a job.
says() { grep -aqF -- "$1" err || complain "no '$1' in: $(grep -a pipestep err)"; }

write_rank_script
write_requests >in.jsonl
(mkdir first && cd first && batch) || exit 1
mv first/out.jsonl wanted.jsonl

if [ $# -gt 0 ]; then numbers=("$@"); else mapfile -t numbers < <(compgen -A function row_ | cut -d_ -f2 | sort -n); fi
hold=0 fail=0 out_of=0
for number in "${numbers[@]}"; do
    begin=$SECONDS
    if ! declare -F "row_$number" >/dev/null; then
        echo "run.sh: there is no row $number" >&2
        exit 2
    fi
    mkdir "row_$number"
    # A row sets bad by complaining, in a shell of its own.
    if (cd "row_$number" && { "row_$number"; exit "$bad"; }) >"$directory/$number.log" 2>&1; then
        if [ -e "row_$number/left_out" ]; then
            out_of=$((out_of + 1))
            printf 'row %-3s left out: %s\n' "$number" "$(<"row_$number/left_out")"
        else
            hold=$((hold + 1))
            printf 'row %-3s holds (%s s)\n' "$number" $((SECONDS - begin))
        fi
    else
        fail=$((fail + 1))
        printf 'row %-3s DOES NOT HOLD\n%s\n' "$number" "$(cat "$directory/$number.log")"
    fi
    rm -rf "row_$number"
done
echo "$hold rows hold, $fail do not, $out_of are left out"
[ $fail -eq 0 ]
