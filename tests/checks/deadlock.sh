#!/usr/bin/env bash
# Scheduler, pipeline and ring on 2 to 16 ranks in SimGrid's SMPI, where every send waits for its receive (as MPI_Ssend
# does), whatever its size: no order of messages that an MPI may choose makes ranks wait for each other in a circle.
#
#   tests/checks/deadlock.sh [RANKS ...]      make deadlock; wants smpicc and smpirun (Debian: libsimgrid-dev)
#
# Each number of ranks runs prompts, decoding, sequences of mixed lengths over stages of unequal speed, and as many parcels
# under way as there can be, 3 for each rank less one. Each run must end by itself with all of its tokens. First two
# programs that do wait for each other must be found out: one always does, one only where sends are not buffered. The last
# line is "N runs end, M do not". Exit status 77: there is no SimGrid.
set -u
cd "$(dirname "$0")/../.." || exit 1
[ $# -gt 0 ] || set -- 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
for tool in smpicc smpirun; do
    command -v "$tool" >/dev/null || {
        echo "deadlock: skipped for want of $tool (Debian: apt-get install libsimgrid-dev)"
        exit 77
    }
done
simulate=$PWD/build/smpi/simulate
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
seq -f 'h%g' 0 15 >"$work/hosts"
cat >"$work/platform.xml" <<'XML'
<?xml version="1.0"?>
<!DOCTYPE platform SYSTEM "https://simgrid.org/simgrid.dtd">
<platform version="4.1">
  <cluster id="c" prefix="h" suffix="" radical="0-15" speed="1Gf" bw="1250MBps" lat="15us"/>
</platform>
XML

# run RANKS PROGRAM ARG ...: fails when they wait for each other. The simulator says so, and then exits with 0.
run() {
    local np=$1
    shift
    timeout 60 smpirun -np "$np" -platform "$work/platform.xml" -hostfile "$work/hosts" \
        --cfg=smpi/async-small-thresh:0 --cfg=smpi/send-is-detached-thresh:0 --cfg=smpi/lat-factor:0:1 \
        --cfg=smpi/bw-factor:0:1 --cfg=smpi/simulate-computation:no --cfg=smpi/test:0 --cfg=network/crosstraffic:0 --log=root.thres:warning \
        "$@" >"$work/out" 2>"$work/log" && ! grep -qi deadlock "$work/log"
}

# Both ranks send before they receive: one byte with each of the sends.
cat >"$work/circle.c" <<'C'
#include <mpi.h>
int main(int argc, char **argv)
{
    int rank;
    char mine = 1, other;
    MPI_Request request;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (argc > 1) {
        MPI_Ssend(&mine, 1, MPI_BYTE, 1 - rank, 0, MPI_COMM_WORLD);
    } else {
        MPI_Isend(&mine, 1, MPI_BYTE, 1 - rank, 0, MPI_COMM_WORLD, &request);
        MPI_Wait(&request, MPI_STATUS_IGNORE);
    }
    MPI_Recv(&other, 1, MPI_BYTE, 1 - rank, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Finalize();
    return 0;
}
C
smpicc -o "$work/circle" "$work/circle.c" >"$work/log" 2>&1 || {
    cat "$work/log"
    exit 1
}
for synchronous in '' yes; do
    if run 2 "$work/circle" ${synchronous:+"$synchronous"}; then
        echo "deadlock: two ranks that both send first are not found out${synchronous:+ (MPI_Ssend)}"
        exit 1
    fi
    grep -qi deadlock "$work/log" || {
        echo "deadlock: the simulator says nothing of two ranks that both send first: $(tail -n 3 "$work/log")"
        exit 1
    }
done

[ -x "$simulate" ] || {
    echo "deadlock: there is no $simulate: make deadlock"
    exit 1
}
ended=0 stuck=0
# check RANKS KEY=VALUE ...: the tokens of prompts and those behind are as many as on one rank, which sends nothing.
check() {
    local np=$1 wanted
    shift
    run 1 "$simulate" "$@" && wanted=$(cut -d, -f12,13 "$work/out")
    if run "$np" "$simulate" "$@" && [ -n "${wanted:-}" ] && [ "$(cut -d, -f12,13 "$work/out")" = "$wanted" ]; then
        ended=$((ended + 1))
    else
        stuck=$((stuck + 1))
        echo "deadlock: $np ranks, $*: wanted tokens $wanted, found $(cut -d, -f12,13 "$work/out"): $(grep -iv '^$' "$work/log" | head -n 5)"
    fi
}
for np in "$@"; do
    check "$np" requests=1 prompt=256 tokens=1 chunk=8
    check "$np" requests=3 prompt=100 tokens=1 chunk=16 in_flight=$((3 * np - 1)) spread=0.5
    check "$np" requests=$((2 * np)) tokens=6
    check "$np" requests=$((3 * np + 2)) slots=$((3 * np)) tokens=5 in_flight=$((3 * np - 1)) spread=0.9
    check "$np" requests=$((2 * np)) slots=$((np + 1)) prompt=20 tokens=6 mixed=1 chunk=4 in_flight=$((3 * np - 1)) spread=0.5
    check "$np" requests=$((2 * np)) slots=2 prompt=9 tokens=4 mixed=1 chunk=2 head_us=3000 in_flight=-1 hop_us=30
done
echo "$ended runs end, $stuck do not"
[ $stuck -eq 0 ] && [ $ended -gt 0 ]
