# shellcheck shell=bash
# Ranks, messages between them, and signals: rows 48 to 63.
# shellcheck disable=SC2154,SC2034,SC2015,SC2016 # names of run.sh; complain where the one or the other fails

# ended SECONDS STATUS: the job ends within that time, with this status (any: not 0), and all ranks with it.
ended() {
    local status
    until_true "$1" is_gone "$job" || complain "the job is still there after $1 s"
    wait "$job"
    status=$?
    case $2 in
    any) [ $status -ne 0 ] || complain 'exit status 0' ;;
    *) [ $status -eq "$2" ] || complain "exit status $status, not $2: $(grep -a pipestep err)" ;;
    esac
    until_true 5 all_gone || complain 'a rank is left'
}

# goes_on RANKS
goes_on() {
    unset PRELOAD
    start_here "$1"
    wait "$job" || complain "does not go on: $(<err)"
    same_output 'going on'
}

row_48() { (cd .. && "$TOP/tests/faults/kill_points.sh" 48 10) >log 2>&1 || complain "$(<log)"; }
row_49() {
    local signal
    for signal in SEGV ABRT; do
        start_here 3
        until_true 30 have_all_pids && until_true 30 has_lines 20
        kill -$signal "$(<pid.1)"
        ended 10 any
        [ "$(grep -ac 'Process received signal' err)" -eq 1 ] || complain "$signal: $(grep -ac 'Process received signal' err) backtraces"
    done
    goes_on 2
}

# Stopped, then let go on: one warning, one word when it is back, and the same output.
row_50() {
    quiet=()
    start_here 3 --stall-timeout 12
    until_true 30 have_all_pids && until_true 30 has_lines 20
    kill -STOP "$(<pid.1)"
    sleep 5
    kill -CONT "$(<pid.1)"
    wait "$job" || complain "$(<err)"
    says 'warning: rank 1 ('
    says 'gave no sign of life for 3.0 s'
    says ' waits for it; waiting for it until 12 s'
    says ') is back'
    [ "$(grep -ac 'warning: rank' err)" -eq 2 ] || complain "more warnings: $(<err)"
    same_output 'a rank that was stopped for 5 s'
}
row_51() {
    local victim
    for victim in 0 1 2; do
        start_here 3 --stall-timeout 2
        until_true 30 have_all_pids && until_true 30 has_lines 20
        kill -STOP "$(<pid.$victim)"
        ended 20 3
        says "rank $victim ($host, layers "
        says 'gave no sign of life for 2.0 s'
        [ "$(grep -ac '^pipestep' err)" -eq 1 ] || complain "more than a line: $(grep -a pipestep err)"
    done
    goes_on 1
}

# parcels ACTION ...: a job with something done to the 40th parcel of rank 1.
parcels() {
    export PRELOAD=$shim_mpi PARCEL_RANK=1 PARCEL_AT=40 PARCEL_ACTION=$1
    start_here 3 --stall-timeout "${2:-3}"
}
row_53() {
    PARCEL_MS=5 PARCEL_TIMES=-1 parcels delay
    wait "$job" || complain "$(<err)"
    same_output 'every parcel 5 ms late'
    PARCEL_MS=1000 parcels delay
    wait "$job" || complain "$(<err)"
    same_output 'a parcel 1 s late'
}
row_54() {
    parcels drop
    ended 20 3
    says 'parcel 40 arrived where 39 was expected'
    parcels double
    ended 20 3
    says 'parcel 39 arrived where 40 was expected'
    parcels swap
    ended 20 3
    says 'parcel 40 arrived where 39 was expected'
    # The last one of all that are under way: nothing follows it.
    PARCEL_TIMES=-1 parcels drop
    ended 20 3
    # Whoever looks first says so; each waits for the one before it.
    grep -aqE 'nothing has moved for 3\.0 s although work is under way; rank (2 .* waits for rank 1|1 .* waits for rank 0|0 .* waits for rank 2) ' err ||
        complain "nobody says who waits for whom: $(grep -a pipestep err)"
    goes_on 2
}
row_55() {
    parcels flip
    ended 20 3
    says '[rank 2] error: parcel 39: changed on the way, its checksum differs'
    goes_on 2
}
row_56() {
    local action
    for action in short empty long; do
        parcels $action
        ended 20 3
        says '[rank 2] error: parcel 39: '
        says 'bytes arrived that are not a parcel'
    done
    parcels huge
    ended 20 3
    says 'error: '
    goes_on 2
}
row_57() { unit pipe/test_parcel; }

# A last stage ten times as slow as the first: parcels wait in their senders' hands, not in memory that grows.
row_58() {
    local before=0 now=0 peak=0
    export PRELOAD=$shim_mpi PARCEL_RANK=2 PARCEL_AT=1 PARCEL_TIMES=-1 PARCEL_MS=8 PARCEL_ACTION=delay
    start_here 3 --chunk 16 --in-flight 6
    until_true 30 have_all_pids && until_true 30 has_lines 5
    before=$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$(<pid.0)/status")
    while ! is_gone "$job"; do
        now=$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$(<pid.0)/status" 2>/dev/null)
        [ "${now:-0}" -gt "$peak" ] && peak=$now
        sleep 0.1
    done
    wait "$job" || complain "$(<err)"
    [ "$peak" -lt $((before + 8192)) ] || complain "rank 0 grew from $before to $peak KiB"
    same_output 'a slow last stage'
}
row_59() {
    batch --slots 2 || complain failed
    same_output 'two slots'
    batch --slots 3 || complain failed
    same_output 'three slots'
}
row_60() {
    local i
    i=0
    while IFS= read -r line; do
        i=$((i + 1))
        case $line in *'"n": 12'* | *no_such_key*) continue ;; esac
        # Alone, with the seed that its place gives it.
        printf '%s\n' "${line%\}}, \"seed\": $(sed -n "${i}p" ../wanted.jsonl | sed 's/.*"seed": \([0-9]*\).*/\1/')}" >alone.jsonl
        pipestep batch "$model" -q --in alone.jsonl --out - >alone.out || complain "request $i failed"
        sed -n "${i}p" ../wanted.jsonl | cmp -s - alone.out || complain "request $i: alone it comes to another result"
    done <../in.jsonl
}
row_61() {
    local mpirun signal pid begin
    for signal in TERM INT; do
        start_here 3
        until_true 30 have_all_pids && until_true 30 has_lines 20
        mpirun=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$(<pid.0)/status")
        kill -$signal "$mpirun"
        ended 5 any
        goes_on 2
        rm -f out.jsonl
    done
    # Twice, to a process that cannot look up: its reader has stopped. The second one does not wait.
    mkfifo slow
    # A shell lets its background jobs ignore SIGINT.
    env --default-signal=INT "$PIPESTEP" batch "$model" -q --in ../in.jsonl --out - >slow 2>err &
    pid=$!
    exec 8<slow
    sleep 2
    kill -STOP $pid
    kill -INT $pid
    kill -CONT $pid
    begin=$SECONDS
    sleep 0.3
    kill -INT $pid 2>/dev/null
    until_true 5 is_gone "$pid" || complain 'the second Ctrl-C does not end it'
    exec 8<&-
    [ $((SECONDS - begin)) -le 5 ] || complain 'too late'
    wait $pid
}
row_62() {
    local victim
    for victim in 0 2; do
        start_here 3
        until_true 30 have_all_pids && until_true 30 has_lines 20
        kill -USR1 "$(<pid.$victim)"
        ended 10 75
        goes_on 1
        rm -f out.jsonl
    done
}
row_63() {
    local mpirun
    start_here 3
    until_true 30 have_all_pids && until_true 30 has_lines 20
    mpirun=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$(<pid.0)/status")
    kill -KILL "$mpirun"
    wait "$job"
    until_true 10 all_gone || complain 'ranks are left 10 s after their launcher was killed'
    goes_on 3
}
