# Ranks that die, stand still, or were started unlike the others; files that change under a run; readers and launchers
# that go away. All ranks end within the deadline, with an exit status that is not 0 and one line that says why.
#
# The cases mostly wait, so several run side by side, each in a directory of its own.
set -u
# shellcheck source=launch/launcher.sh
. "$TOP/launch/launcher.sh"
# shellcheck source=tests/support/processes.sh
. "$TOP/tests/support/processes.sh"
launcher_for "$PIPESTEP" || exit 1
model=$TOP/configs/tunes/tunes.h5
host=$(uname -n)
SIDE_BY_SIDE=3 # cases
STALL_S=2

# Says where a rank is to be found, and becomes the program.
cat >rank.sh <<'END'
#!/bin/sh
echo $$ >"pid.${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-${PMIX_RANK:-0}}}"
exec "$@"
END
chmod +x rank.sh

options=(--prompt X:1 --ignore-eos --seed 1 -t 1 --wait shared --stall-timeout "$STALL_S")
endless=(generate "$model" "${options[@]}" -n -1)

complain() {
    echo "$case_name: $*" >>"$SCRATCH/complaints"
}

# begin RANKS PROGRAM ARG ...: starts them and waits until rank 0 has written something.
begin() {
    local ranks=$1
    shift
    : >out
    launch "$ranks" 60 ../rank.sh "$@" >out 2>err </dev/null &
    job=$!
    until_true 20 have_pids "$ranks" && until_true 30 test -s out && return 0
    complain "did not begin to work: $(cat err)"
    return 1
}

# descendants PID: the processes below it, by their numbers.
descendants() {
    local child children
    { read -r children <"/proc/$1/task/$1/children"; } 2>/dev/null
    for child in ${children:-}; do
        descendants "$child"
        echo "$child"
    done
}

ranks_are_gone() {
    local file
    for file in pid.*; do
        is_gone "$(cat "$file")" || return 1
    done
}

# The launcher has five seconds more for its own affairs. Sometimes Open MPI's stands still in them, waiting for a
# lock of its own: that is not ours to judge, and its exit status is then not looked at.
end_launcher() {
    until_true 5 is_gone "$job" && return 0
    local pid
    for pid in $(descendants "$job") "$job"; do
        kill -KILL "$pid" 2>/dev/null
    done
    return 1
}

# ended SECONDS [any]: all ranks must end by themselves in that time, with a status that is not 0 (or any); sets
# `status`.
# Whatever is left is killed, by its number.
ended() {
    local file pid
    if ! until_true "$1" ranks_are_gone; then
        complain "still there after $1 s: $(cat err)"
        for file in pid.*; do
            pid=$(cat "$file")
            is_gone "$pid" && continue
            complain "${file#pid.} is left behind"
            kill -KILL "$pid"
        done
    fi
    if end_launcher; then
        wait "$job" 2>/dev/null
        status=$?
        [ $status -ne 0 ] || [ "${2:-}" = any ] || complain "exit status 0: $(cat err)"
    else
        wait "$job" 2>/dev/null
        status=unknown
    fi
}

# says_once TEXT [STATUS]: our lines of errors are one, with this text in it.
says_once() {
    local lines
    lines=$(grep -a '^pipestep: .*error: ' err)
    case $lines in
    *$'\n'*) complain "more than a line: $lines" ;;
    *"$1"*) ;;
    *) complain "no '$1' in: ${lines:-$(cat err)}" ;;
    esac
    [ -z "${2:-}" ] || [ "$status" = unknown ] || [ "$status" -eq "$2" ] || complain "exit status $status, not $2"
}

# ---- ranks that die or stand still at work ----

case_stopped_rank() {
    begin 4 "$PIPESTEP" "${endless[@]}" || return
    kill -STOP "$(cat pid.2)"
    ended $((STALL_S + 8))
    says_once "rank 2 ($host, layers 4..5) gave no sign of life for $STALL_S"
    says_once "; rank 3 ($host, layers 6..7) waits for it" 3
}

case_stopped_rank_0() {
    begin 4 "$PIPESTEP" "${endless[@]}" || return
    kill -STOP "$(cat pid.0)"
    ended $((STALL_S + 8))
    says_once "[rank 1] error: rank 0 ($host, layers 0..1) gave no sign of life for $STALL_S"
    says_once "; rank 1 ($host, layers 2..3) waits for it" 3
}

# The launcher sees a rank die and ends the others, sooner than any deadline.
case_killed_rank() {
    begin 4 "$PIPESTEP" "${endless[@]}" || return
    kill -KILL "$(cat pid.2)"
    ended 8
}

case_killed_rank_0() {
    begin 3 "$PIPESTEP" "${endless[@]}" || return
    kill -KILL "$(cat pid.0)"
    ended 8
}

# A launcher that lets the others live, as a node that loses its network does.
case_killed_rank_unseen() {
    local flag=-disable-auto-cleanup
    if launcher_is_open_mpi; then flag=--enable-recovery; fi
    LAUNCH_FLAGS="$flag" launch 1 20 true >/dev/null 2>&1 || return 0
    LAUNCH_FLAGS="$flag" begin 4 "$PIPESTEP" "${endless[@]}" || return
    kill -KILL "$(cat pid.1)"
    ended $((STALL_S + 8)) any
    says_once "rank 1 ($host, layers 2..3) gave no sign of life for $STALL_S"
    says_once "; rank 2 ($host, layers 4..5) waits for it"
}

# At any moment of the start: before MPI, while ranks agree, while weights are read.
case_stopped_at_the_start() {
    local delay
    for delay in 0 0.1 0.2 0.3; do
        rm -f pid.*
        : >out
        launch 3 60 ../rank.sh "$PIPESTEP" "${endless[@]}" --start-timeout 2 --verify always >out 2>err </dev/null &
        job=$!
        until_true 20 test -s pid.1 || complain "did not start"
        sleep $delay
        kill -STOP "$(cat pid.1)"
        ended 14
        grep -qa '^pipestep: .*error: ' err || complain "stopped after $delay s, nobody says why: $(cat err)"
    done
}

# Rank 0 reads its input; the others have nothing to do but to be there.
case_stopped_while_another_reads() {
    mkfifo input
    launch 2 60 ../rank.sh "$PIPESTEP" tokenize "$model" --stall-timeout $STALL_S >out 2>err <input &
    job=$!
    exec 7>input
    until_true 20 have_pids 2 || complain "did not start"
    sleep 1
    kill -STOP "$(cat pid.1)"
    echo X:1 >&7
    exec 7>&-
    ended $((STALL_S + 10))
    says_once "rank 1 ($host) gave no sign of life for $STALL_S" 3
}

# ---- ranks that were not started alike ----

# unlike TEXT STATUS PROGRAM ARG ...: rank 0 scores the model; ranks 1 and 2 are started as said.
unlike() {
    local text=$1 wanted=$2
    shift 2
    launch 1 60 "$PIPESTEP" score qwen.h5 --tokens tokens : -np 2 "$@" >out 2>err </dev/null
    status=$?
    says_once "$text" "$wanted"
    [ ! -s out ] || complain "there is output: $(cat out)"
}

case_started_unlike() {
    local tool revision other=other
    tool=$(dirname "$PIPESTEP")/tests/tools/tiny_model
    "$tool" --family qwen3 --windows 5 qwen.h5 || complain 'no model'
    "$tool" --family qwen3 --windows 5 --seed 2 other.h5 || complain 'no model'
    echo 1 2 3 4 5 >tokens
    unlike "rank 1 ($host): other.h5: another model than the one on rank 0" 1 "$PIPESTEP" score other.h5 --tokens tokens
    unlike "rank 1 ($host): none.h5: cannot open" 1 "$PIPESTEP" score none.h5 --tokens tokens
    unlike 'has another set of options than rank 0: "chunk = 9", there "chunk = 0"' 2 \
        "$PIPESTEP" score qwen.h5 --tokens tokens --chunk 9
    unlike 'has another command than rank 0: "generate", there "score"' 2 "$PIPESTEP" generate qwen.h5 --tokens tokens
    unlike 'rank 1' 2 "$PIPESTEP" score qwen.h5 --tokens tokens --no-such-option
    # The same program under another version: its text is exchanged for one of the same length.
    revision=$("$PIPESTEP" --version | sed -n 's/^pipestep \([^ ]*\) (\(.*\)).*/\2/p')
    tr 0-9a-f 1-9a-f0 <<<"$revision" >$other.revision
    LC_ALL=C sed "s/$revision/$(cat $other.revision)/g" "$PIPESTEP" >$other
    chmod +x $other
    unlike 'rank 1 ('"$host"'): has another version than rank 0: "' 2 ./$other score qwen.h5 --tokens tokens
}

# ---- files that change under a run ----

case_model_cut_short() {
    cp "$model" model.h5
    begin 3 "$PIPESTEP" generate model.h5 --weights map "${options[@]}" -n -1 || return
    truncate -s 1000000 model.h5
    ended 10
    grep -qa "error: model.h5: was cut short while it was in use, or cannot be read any more (offset" err ||
        complain "$(cat err)"
}

case_model_written_to() {
    cp "$model" model.h5
    begin 2 "$PIPESTEP" generate model.h5 --weights map "${options[@]}" -n 12000 || return
    printf x | dd of=model.h5 bs=1 seek=3000000 conv=notrunc 2>/dev/null
    ended 40
    says_once "model.h5: was written to while it was in use" 1
}

# Another file under the same name is not the one that is in use.
case_model_replaced() {
    cp "$model" model.h5
    begin 2 "$PIPESTEP" generate model.h5 --weights map "${options[@]}" -n 4000 || return
    cp "$model" new.h5 && mv new.h5 model.h5
    wait $job || complain "exit status $?: $(cat err)"
}

# ---- readers and launchers that go away ----

case_reader_gone() {
    local statuses
    timeout 30 "$PIPESTEP" "${endless[@]}" 2>err | head -c 10 >/dev/null
    statuses=("${PIPESTATUS[@]}")
    [ "${statuses[0]}" -eq 4 ] || complain "exit status ${statuses[0]}, not 4: $(cat err)"
    ! grep -q error err || complain "$(cat err)"
    # Under a launcher the pipe that breaks is the launcher's: what it says of that is its own affair.
    mkfifo output
    launch 3 30 ../rank.sh "$PIPESTEP" "${endless[@]}" >output 2>err </dev/null &
    job=$!
    head -c 10 <output >/dev/null
    ended 20
}

# interrupted NAME: a signal to the launcher.
interrupted() {
    local mpirun
    begin 3 "$PIPESTEP" "${endless[@]}" || return
    # The launcher is the parent of the ranks.
    mpirun=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$(cat pid.0)/status")
    kill "-$1" "$mpirun"
    ended 10
}
case_launcher_interrupted() { interrupted INT; }
case_launcher_terminated() { interrupted TERM; }

case_rank_terminated() {
    begin 3 "$PIPESTEP" "${endless[@]}" || return
    kill -TERM "$(cat pid.1)"
    ended 10
}

case_terminated_alone() {
    local pid
    "$PIPESTEP" "${endless[@]}" >out 2>err &
    pid=$!
    until_true 10 test -s out
    kill -TERM $pid
    until_true 5 is_gone $pid || complain "does not end"
    wait $pid
    [ $? -eq 143 ] || complain "exit status not 143: $(cat err)"
}

running=0
: >complaints
for case_name in $(compgen -A function case_); do
    mkdir "$case_name"
    (cd "$case_name" && "$case_name") 2>>"$case_name.log" &
    running=$((running + 1))
    if [ $running -ge $SIDE_BY_SIDE ]; then
        wait -n
        running=$((running - 1))
    fi
done
wait
cat complaints >&2
[ ! -s complaints ]
