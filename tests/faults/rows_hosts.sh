# shellcheck shell=bash
# Several hosts, with a network between them that may fail: rows 43, 52 and 77 to 79.
# shellcheck disable=SC2154,SC2034,SC2015,SC2016 # names of run.sh; complain where the one or the other fails

# shellcheck source=tests/faults/hosts.sh
. "$TOP/tests/faults/hosts.sh"

# with_hosts: or the row is left out.
with_hosts() {
    cp ../rank.sh .
    runs_before=$(count_runs)
    started_ranks=2
    open_hosts || left_out "$lacks"
    trap close_hosts EXIT
}
start_two() {
    runs_before=$(count_runs)
    start_hosts 1 1 "$@"
}
no_ranks_on() { [ -z "$(host_pids "$1" "$PIPESTEP")" ]; }

# ranks_ended SECONDS STATUS HOST ...: the ranks on these hosts in that time, the launcher when it has given its daemon up;
# status any: not 0.
ranks_ended() {
    local seconds=$1 wanted=$2 status host
    shift 2
    for host in "$@"; do
        until_true "$seconds" no_ranks_on "$host" || complain "ranks are still on host$host after $seconds s"
    done
    until_true 40 is_gone "$job" || complain 'the launcher is still there after 40 s'
    wait "$job"
    status=$?
    case $wanted in
    any) [ $status -ne 0 ] || complain 'exit status 0' ;;
    *) [ $status -eq "$wanted" ] || complain "exit status $status, not $wanted: $(<err)" ;;
    esac
}

# A network of both hosts that leads nowhere, named as the one to take: the start ends by its deadline.
row_43() {
    local host interface=eth1
    with_hosts
    for host in a b; do
        in_net $host ip link add eth1 type veth peer name blind
        in_net $host ip link set blind up
        in_net $host ip link set eth1 up
    done
    in_net a ip address add 10.78.0.1/24 dev eth1
    in_net b ip address add 10.78.0.2/24 dev eth1
    start_two --start-timeout 3
    ranks_ended 10 3 a b
    says 'pipestep: error: MPI_Init did not return within 3 s'
    [ ! -s out.jsonl ] || complain 'there is output'
}

# Cut for 5 s: one warning, one word, the same output. Cut for good: both sides say whom they lost, and leave.
row_52() {
    with_hosts
    quiet=()
    start_two --stall-timeout 12
    until_true 30 has_lines 20 || complain 'did not begin'
    cut_link
    sleep 5
    mend_link
    wait "$job" || complain "$(<err)"
    says 'warning: rank 1 (hostb, layers 4..7) gave no sign of life for 3.0 s'
    says ') is back'
    same_output 'a link that was cut for 5 s'
    rm -f out.jsonl*
    start_two --stall-timeout 3
    until_true 30 has_lines 20 || complain 'did not begin'
    cut_link
    ranks_ended 10 3 a b
    says 'error: rank 1 (hostb, layers 4..7) gave no sign of life for 3.0 s'
    mend_link
    start_two
    wait "$job" || complain "does not go on: $(<err)"
    same_output 'after a link that was cut'
}

# As many as on one, however the ranks are dealt out.
row_77() {
    local ranks
    with_hosts
    for ranks in '1 1' '2 1' '1 2'; do
        # shellcheck disable=SC2086 # two words
        start_hosts $ranks --report report.json
        wait "$job" || complain "$ranks ranks: $(<err)"
        same_output "$ranks ranks on two hosts"
        grep -q '"host": "hostb"' report.json || complain "no hostb in the report of $ranks ranks"
        rm -f out.jsonl
    done
}

# A host that is gone from one moment to the next, network and all; then one whose processes die and whose kernel says so.
row_78() {
    local dead silent other
    with_hosts
    for dead in b a; do
        for silent in yes no; do
            rm -f out.jsonl*
            start_two --stall-timeout 3
            until_true 30 has_lines 20 || complain 'did not begin'
            other=$([ $dead = a ] && echo b || echo a)
            [ $silent = no ] || cut_link
            kill_host $dead
            case $dead$silent in
            byes)
                ranks_ended 10 3 "$other"
                says 'error: rank 1 (hostb, layers 4..7) gave no sign of life for 3.0 s'
                ;;
            *) ranks_ended 10 any "$other" ;;
            esac
            close_hosts
            # On another host the lock is that of a dead job when its lease is over.
            touch -d '5 minutes ago' out.jsonl.lock
            (unset "${!OMPI_MCA_@}" && start_here 2 && wait "$job") || complain "host$dead died (silently: $silent): does not go on: $(<err)"
            same_output "host$dead died (silently: $silent)"
            open_hosts || complain "$lacks"
        done
    done
}

# One rank is refused what all of them are asked at the start: all leave, with its reason.
row_79() {
    export PRELOAD=$shim FAULT_PATH=cores FAULT_CALLS=cores FAULT_AT=1 FAULT_ACTION=1 FAULT_RANK=1
    start_here 3
    ended 10 1
    says "error: rank 1 ($host): the processors this process may use cannot be found out"
    [ "$(grep -ac '^pipestep' err)" -eq 1 ] || complain "more than a line: $(<err)"
}
