#!/usr/bin/env bash
# Batches that are killed, and what becomes of their outputs.
#
#   tests/faults/kill_points.sh SEED COUNT
#
# COUNT batches (requests with log-probabilities, penalties, stop strings, several samples) run on 1 to 4 ranks, and one
# rank gets SIGKILL, in turn
#
#   load      before the work begins
#   prompt    while prompts are computed
#   decode    when the journal has so many lines
#   journal   rank 0, at a system call on the journal, the output or the lock, or in the middle of a write
#   shutdown  when the output is complete
#
# Each then goes on, on another number of ranks, with other slots and chunks; one in three is killed a second time
# first. The output must be that of a batch that nobody killed. Closes with
# "N of N outputs byte-identical, M rows lost, K doubled", and fails unless all are.
# VERBOSE=1 tells of each. The working directory is a new one.
set -u
here=$(cd "$(dirname "$0")" && pwd)
[ $# -eq 2 ] || {
    sed -n '2,/^set/{/^set/d; s/^# \{0,1\}//; p;}' "$0"
    exit 2
}
seed=$1
count=$2
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
PIPESTEP=${PIPESTEP:-$PWD/build/pipestep}
case $PIPESTEP in /*) ;; *) PIPESTEP=$PWD/$PIPESTEP ;; esac
cd "$directory" || exit 1
# shellcheck source=tests/faults/common.sh
. "$here/common.sh"
build_shim || exit 1
write_rank_script
write_requests >in.jsonl
strata=(load prompt decode journal shutdown)
declare -A struck
RANDOM=$((seed % 32768))

# random N: 0 .. N-1 in $dice.
random() { dice=$((((RANDOM << 15) | RANDOM) % $1)); }

# What may differ between the runs of a batch.
throw_free_options() {
    random 6
    free=(--slots $((3 + dice)))
    random 60
    free+=(--chunk $((4 + dice)))
}

batch_options=(--in in.jsonl --out out.jsonl --journal-every 16)

has_begun() { grep -qs '^.\{17\}J ' out.jsonl.journal; }
has_lines() { [ "$(wc -l 2>/dev/null <out.jsonl.journal || echo 0)" -ge "$1" ]; }
is_complete() { [ "$(wc -l 2>/dev/null <out.jsonl || echo 0)" -ge $n_requests ]; }
or_gone() { "$@" || is_gone "$job"; }

# strike RANK RANKS: SIGKILL, if the job is still there. The launcher ends the others.
strike() {
    local pid
    pid=$(cat "pid.$1")
    is_gone "$pid" && return 1
    kill -KILL "$pid" 2>/dev/null
}

# run_and_kill STRATUM RANKS
run_and_kill() {
    local stratum=$1 ranks=$2 hit=0
    local PRELOAD='' FAULT_PATH='' FAULT_AT='' FAULT_ACTION=''
    if [ "$stratum" = journal ]; then
        random "$n_calls"
        FAULT_AT=$((dice + 1))
        random 2
        FAULT_ACTION=$([ $dice -eq 0 ] && echo kill || echo torn)
        PRELOAD=$shim FAULT_PATH=out.jsonl
        export PRELOAD FAULT_PATH FAULT_AT FAULT_ACTION
    fi
    throw_free_options
    start "$ranks" "${batch_options[@]}" "${free[@]}"
    until_true 30 or_gone have_pids "$ranks"
    random "$ranks"
    local victim=$dice
    case $stratum in
    load)
        random 25
        sleep "0.$(printf %02d $dice)"
        strike $victim && hit=1
        ;;
    prompt)
        until_true 30 or_gone has_begun
        random 30
        sleep "0.$(printf %03d $dice)"
        strike $victim && hit=1
        ;;
    decode)
        random 110
        until_true 60 or_gone has_lines $((3 + dice))
        strike $victim && hit=1
        ;;
    shutdown)
        until_true 60 or_gone is_complete
        random 40
        sleep "0.$(printf %03d $dice)"
        strike $victim && hit=1
        ;;
    esac
    wait "$job"
    status=$?
    if [ "$stratum" = journal ] && [ $status -ne 0 ]; then hit=1; fi
    struck[$stratum]=$((${struck[$stratum]:-0} + hit))
    for file in pid.*; do
        until_true 10 is_gone "$(cat "$file")" || echo "a rank is still there 10 s after another was killed" >&2
    done
    export -n PRELOAD FAULT_PATH FAULT_AT FAULT_ACTION
}

# The undisturbed run, and how many system calls a run has on its files.
start 1 "${batch_options[@]}"
wait "$job" || {
    cat err >&2
    exit 1
}
mv out.jsonl wanted.jsonl
PRELOAD=$shim FAULT_PATH=out.jsonl FAULT_LOG=calls
export PRELOAD FAULT_PATH FAULT_LOG
start 1 "${batch_options[@]}"
wait "$job"
n_calls=$(wc -l <calls)
unset PRELOAD FAULT_PATH FAULT_LOG

same=0 all_lost=0 all_doubled=0
for ((point = 0; point < count; point++)); do
    stratum=${strata[point % 5]}
    ranks=$((1 + (point / 5) % 4))
    rm -rf out.jsonl*
    run_and_kill "$stratum" $ranks
    story="$stratum on $ranks"
    random 3
    if [ "$status" -ne 0 ] && [ $dice -eq 0 ]; then
        random 4
        again=$((dice + 1))
        run_and_kill decode $again
        story="$story, decode on $again"
    fi
    if [ "$status" -ne 0 ]; then
        random 3
        others=$((1 + (ranks + dice) % 4)) # not as many as before
        throw_free_options
        start $others "${batch_options[@]}" "${free[@]}"
        wait "$job"
        status=$?
        story="$story, then $others"
    fi
    count_rows out.jsonl
    all_lost=$((all_lost + lost))
    all_doubled=$((all_doubled + doubled))
    if [ $status -eq 0 ] && cmp -s out.jsonl wanted.jsonl; then
        same=$((same + 1))
    else
        echo "point $point ($story): exit status $status, $lost rows lost, $doubled doubled; $(cat err)" >&2
    fi
    [ -z "${VERBOSE:-}" ] || echo "point $point: $story"
done
for stratum in "${strata[@]}"; do
    printf '%s: %s killed\n' "$stratum" "${struck[$stratum]:-0}"
done
echo "$same of $count outputs byte-identical, $all_lost rows lost, $all_doubled doubled (seed $seed)"
[ $same -eq "$count" ] && [ $all_lost -eq 0 ] && [ $all_doubled -eq 0 ]
