# shellcheck shell=bash
# Two hosts that are network namespaces of this machine, hosta and hostb, with a switch between them: the launcher runs on
# hosta and starts its daemon on hostb by a script in the place of ssh; the ranks talk over TCP. Sourced by rows_hosts.sh.
# shellcheck disable=SC2154,SC2034 # names of common.sh and run.sh
#
#   open_hosts               makes them; fails, with the reason in $lacks, where this machine cannot
#   close_hosts              ends every process on them, and so them
#   start_hosts A B ARG ...  a batch on A ranks of hosta and B of hostb, in the background; its launcher in $job. Words of
#                            $launcher_words are further options of the launcher
#   cut_link, mend_link      between hostb and the switch; no side is told
#   kill_host a|b            SIGKILL to every process there
#   host_pids a|b [PROGRAM]  numbers of the processes there, without the one that keeps the host; of one program alone
#
# The namespaces have no names, and so last as long as there are processes in them. Those of hostb are in a process
# namespace too, which the kernel empties when its first process ends; that one waits for the end of a pipe that this shell
# alone could write to. So they end with this shell, however it ends; the launcher on hosta has its time limit.

declare -A keeper

# keep_host NAME UNSHARE-OPTION ...: the number of its first process in host.NAME.
keep_host() {
    local name=$1
    shift
    # shellcheck disable=SC2016 # for that shell; /proc is that of the whole machine
    unshare --net --uts "$@" sh -c 'hostname "host$1"; read -r pid rest </proc/self/stat; echo "$pid" >"host.$1"; exec cat' \
        - "$name" <host.life >/dev/null 2>host.log {host_life}>&- &
    disown $!
    until_true 5 test -s "host.$name" || return 1
    keeper[$name]=$(<"host.$name")
}

in_net() { nsenter --net="/proc/${keeper[$1]}/ns/net" "${@:2}"; }

connect_host() { # NAME ADDRESS
    in_net s ip link add "to$1" type veth peer name eth0 netns "${keeper[$1]}" &&
        in_net s ip link set "to$1" master switch up &&
        in_net "$1" ip address add "$2" dev eth0 && in_net "$1" ip link set eth0 up && in_net "$1" ip link set lo up &&
        in_net "$1" sh -c 'echo 5 >/proc/sys/net/ipv4/tcp_retries2'
}

open_hosts() {
    local host
    lacks=''
    [ "$(id -u)" -eq 0 ] || lacks='not root'
    launcher_is_open_mpi || lacks='not Open MPI'
    for host in ip nsenter unshare; do command -v $host >/dev/null || lacks="no $host"; done
    [ -z "$lacks" ] || return 1
    rm -f host.*
    mkfifo host.life
    exec {host_life}<>host.life
    if ! { keep_host s && keep_host a && keep_host b --pid --fork --kill-child &&
        in_net s ip link add switch type bridge && in_net s ip link set switch up &&
        connect_host a 10.77.0.1/24 && connect_host b 10.77.0.2/24; } 2>>host.log; then
        lacks="no network namespaces: $(tail -n 1 host.log)"
        close_hosts
        return 1
    fi
    # In the place of ssh: its arguments are a host and words for a shell there.
    cat >agent.sh <<'AGENT'
#!/bin/sh
case $1 in
hostb) keeper=/proc/$HOST_B/ns ;;
*) echo "agent.sh: no host $1" >&2 && exit 1 ;;
esac
shift
nsenter --net=$keeper/net --uts=$keeper/uts --pid=$keeper/pid_for_children sh -c "$*"
status=$?
# Of a host that is out of reach ssh would not see the end either.
[ ! -e host.cut ] || sleep 100
exit $status
AGENT
    chmod +x agent.sh
    export HOST_B=${keeper[b]}
}

# When its other daemon is cut off, mpirun of Open MPI 4 waits for it as long as the kernel sends again (tcp_retries2; above,
# 13 s, by default a quarter of an hour) or, when there was nothing to send, asks (oob_tcp_keepalive_time; by default 5 min).
start_hosts() {
    local on_a=$1 on_b=$2 at=/proc/${keeper[a]}/ns words LAUNCH_COMMAND
    shift 2
    rm -f pid.*
    read -ra words <<<"${launcher_words:-}"
    export OMPI_MCA_pml=ob1 OMPI_MCA_btl=tcp,self OMPI_MCA_btl_tcp_if_include=${interface:-eth0} OMPI_MCA_oob_tcp_if_include=eth0 \
        OMPI_MCA_plm_rsh_agent=$PWD/agent.sh OMPI_MCA_oob_tcp_keepalive_time=8 OMPI_MCA_oob_tcp_keepalive_intvl=2 \
        OMPI_MCA_oob_tcp_keepalive_probes=3
    launcher_command $((on_a + on_b)) 100 --host "hosta:$on_a,hostb:$on_b" --bind-to none "${words[@]}"
    nsenter --net="$at/net" --uts="$at/uts" "${LAUNCH_COMMAND[@]}" ./rank.sh "$PIPESTEP" batch "$model" "${quick[@]}" "${quiet[@]}" \
        --in ../in.jsonl --out out.jsonl --journal-every 16 "$@" >out 2>err </dev/null {host_life}>&- &
    job=$!
}

cut_link() { : >host.cut && in_net s ip link set tob nomaster; }
mend_link() { rm host.cut && in_net s ip link set tob master switch; }

host_pids() {
    local file pid
    for file in /proc/[0-9]*/ns/net; do
        pid=${file#/proc/}
        pid=${pid%/ns/net}
        [ "$file" -ef "/proc/${keeper[$1]}/ns/net" ] || continue
        [ "$pid" != "${keeper[$1]}" ] || continue
        [ -z "${2:-}" ] || [ "/proc/$pid/exe" -ef "$2" ] || continue
        echo "$pid"
    done
}

kill_host() {
    local pids
    mapfile -t pids < <(host_pids "$1")
    [ ${#pids[@]} -eq 0 ] || kill -KILL "${pids[@]}" 2>/dev/null
}

close_hosts() {
    local host
    for host in a b s; do
        [ -n "${keeper[$host]:-}" ] || continue
        kill_host $host
        kill -KILL "${keeper[$host]}" 2>/dev/null
    done
    [ -z "${host_life:-}" ] || exec {host_life}>&-
}
