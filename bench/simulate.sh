#!/usr/bin/env bash
# The scheduler, the pipeline and the ring on more ranks than there are: the same code in SimGrid's SMPI, over stages
# that take given times, on several networks; beside it the closed forms, and runs that really take place on few ranks.
#
#   bench/simulate.sh           make bench-simulate; wants smpicc and smpirun (Debian: libsimgrid-dev)
#
# RANKS (2 4 8 16 64 256 1024) of prompts, DECODE_RANKS (2 4 8 16 64); LINKS, words name:latency_us:MB_per_s of a hop;
# STAGE_US (1000); CHUNKS (32) of 8 rows; TOKENS (8); CASES, words of: prompt decode sleep model; PRESET and RUNS (5 pairs)
# of the last.
#
#   prompt  one prompt in chunks: equal stages, and stages that differ by up to 30 %
#   decode  two sequences for each rank: equal stages, unequal ones, and sequences of any length up to twice the mean
#   sleep   the same program under the MPI of this machine, its stages asleep: 1 to 4 ranks
#   model   a synthetic model on 1..cores ranks, and the simulation with the times that plan --measure finds of it
#
# CSV to standard output and build/bench/simulate. Columns: bench/simulate/simulate.c; bench/README.md.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/launcher.sh
. bench/common.sh
build=${1:-build/release}
work=${BENCH_DIR:-build/bench}/simulate
read -ra ranks <<<"${RANKS:-2 4 8 16 64 256 1024}"
read -ra decode_ranks <<<"${DECODE_RANKS:-2 4 8 16 64}"
read -ra links <<<"${LINKS:-memory:1:8000 fast:3:12000 ethernet:30:1250 far:1000:125}"
stage_us=${STAGE_US:-1000} chunks=${CHUNKS:-32} tokens=${TOKENS:-8}
cases=${CASES:-prompt decode sleep model}
width=2048 chunk=8
LIMIT_S=900
mkdir -p "$work"
for tool in smpicc smpirun; do
    command -v "$tool" >/dev/null || {
        echo "simulate.sh: $tool is missing (Debian: apt-get install libsimgrid-dev)" >&2
        exit 1
    }
done

# platform LATENCY_US MB_S: as many hosts as ranks can be. A path crosses the links of both hosts, so each has half of
# the latency.
platform() {
    cat >"$work/platform.xml" <<XML
<?xml version="1.0"?>
<!DOCTYPE platform SYSTEM "https://simgrid.org/simgrid.dtd">
<platform version="4.1">
  <cluster id="c" prefix="h" suffix="" radical="0-1023" speed="1Gf" bw="$2MBps" lat="$(awk -v l="$1" 'BEGIN {print l / 2}')us"/>
</platform>
XML
}
seq -f 'h%g' 0 1023 >"$work/hosts"

# simulate RANKS KEY=VALUE ...: small messages leave at once, as they do in reality; the factors that SMPI has are of
# an old network; nothing but what is asked for takes time.
simulate() {
    local np=$1
    shift
    timeout $LIMIT_S smpirun -np "$np" -platform "$work/platform.xml" -hostfile "$work/hosts" \
        --cfg=smpi/async-small-thresh:65536 --cfg=smpi/lat-factor:0:1 --cfg=smpi/bw-factor:0:1 \
        --cfg=smpi/simulate-computation:no --cfg=smpi/test:0 --cfg=smpi/allgather:bruck --cfg=network/crosstraffic:0 \
        --log=root.thres:warning build/smpi/simulate "$@" 2>"$work/log" || {
        echo "simulate.sh: $np ranks: $(tail -n 1 "$work/log")" >&2
        exit 1
    }
}

# hop_us LATENCY MB_S ROWS: of a parcel of so many rows
hop_us() { awk -v l="$1" -v b="$2" -v r="$3" -v w=$width 'BEGIN {printf "%.3f", l + (r * w * 4 + 192) / b}'; }

# row CASE LINK WHERE: the line that a run printed, with these before it
row() { sed "s/^/$1,$2,$3,/"; }

on_link() { # NAME LATENCY MB_S
    local np spread flight kind hop
    platform "$2" "$3"
    for np in "${ranks[@]}"; do
        [[ $cases == *prompt* ]] || break
        hop=$(hop_us "$2" "$3" $chunk)
        for spread in 0 0.3; do
            for flight in 0 -1; do
                simulate "$np" stage_us="$stage_us" spread=$spread requests=1 prompt=$((chunks * chunk)) tokens=1 \
                    chunk=$chunk in_flight=$flight hop_us="$hop" | row "prompt-$([ $spread = 0 ] || echo un)equal" "$1" simulated
            done
        done
    done
    for np in "${decode_ranks[@]}"; do
        [[ $cases == *decode* ]] || break
        hop=$(hop_us "$2" "$3" 2)
        for kind in equal:0:0 unequal:0.3:0 mixed:0:1; do
            IFS=: read -r kind spread mixed <<<"$kind"
            for flight in 0 -1; do
                simulate "$np" stage_us="$stage_us" spread="$spread" mixed="$mixed" requests=$((np * (1 + 3 * mixed) * 2)) \
                    slots=$((2 * np)) tokens="$tokens" in_flight=$flight hop_us="$hop" | row "decode-$kind" "$1" simulated
            done
        done
    done
}

# The program itself, awake where the simulator computes, its stages asleep as there.
asleep() {
    local np arguments
    platform 1 8000
    for np in 1 2 3 4; do
        for arguments in "prompt=128 tokens=1 requests=1" "tokens=12 requests=8" "tokens=12 requests=16 slots=8 mixed=1"; do
            read -ra words <<<"$arguments stage_us=10000 chunk=$chunk hop_us=$(hop_us 1 8000 $chunk)"
            simulate "$np" "${words[@]}" | row sleep memory simulated
            launch "$np" 120 "$build/bench/simulate/simulate" "${words[@]}" watched=1 | row sleep memory real
        done
    done
}

# pair_of_model RANKS: its times, then the model itself with the split and the groups that were planned, then the
# simulation of both; a line of model.csv.
pair_of_model() {
    local stages head hop flight real simulated
    launch_bound "$1" 1 300 "$program" plan "$model" --measure --slots $sequences --ctx $((new + 2)) -t 1 --json >"$work/plan.json"
    head=$(field "$work/plan.json" head_ns)
    hop=$(field "$work/plan.json" hop_ns)
    flight=$(field "$work/plan.json" in_flight)
    stages=$(grep -o '"time_ns": [0-9]*' "$work/plan.json" |
        awk -v h="$head" '{printf "%s%.3f", (NR > 1 ? "," : ""), ($2 - (NR == 1 ? h : 0)) / 1e3}')
    afresh "$work"
    launch_bound "$1" 1 300 "$program" batch "$model" -i "$work/requests.jsonl" -o "$work/out.jsonl" -q -t 1 \
        --slots $sequences --in-flight "$flight" --split "$(grep -o '"first_layer": [0-9]*, "end_layer": [0-9]*' \
            "$work/plan.json" | awk '{printf "%s%d", (NR > 1 ? "," : ""), $4 - $2}')" --report "$work/report.json"
    real=$(field "$work/report.json" wall_s)
    platform "$(awk -v h="$hop" 'BEGIN {print (h > 0 ? h : 1) / 1e3}')" 8000
    simulated=$(simulate "$1" stages="$stages" head_us="$(awk -v h="$head" 'BEGIN {print h / 1e3}')" requests=$sequences \
        tokens=$new in_flight="$flight" width=1024 | cut -d, -f16)
    awk -v p="$1" -v n=$sequences -v t=$new -v g="$flight" -v r="$real" -v s="$simulated" \
        -v planned="$(field "$work/plan.json" planned_tokens_per_s)" 'BEGIN {
        printf "%d,%d,%d,%d,%.4f,%.4f,%.3f,%.2f,%.2f\n", p, n, t, g, r, s, r / s, planned, n * t / r}'
}

# A model's own times, and the model: as many pairs as RUNS, for a machine's speed changes from one to the next.
of_model() {
    local np model=$work/model.h5 sequences=8 new=32
    "$program" bench -q --synthetic "${PRESET:-llama-0.3b,type=f16}" -o "$model"
    requests $sequences 1 $new "$(vocabulary "$model")" >"$work/requests.jsonl"
    echo "ranks,sequences,tokens,in_flight,real_s,simulated_s,real_of_simulated,planned_tokens_s,real_tokens_s" >"$work/model.csv"
    for np in $(seq "$(launcher_cores)"); do
        for _ in $(seq "${RUNS:-5}"); do
            pair_of_model "$np"
        done | tee "$work/pairs.csv" >&2
        cat "$work/pairs.csv" >>"$work/model.csv"
        echo "# model on $np ranks: real over simulated $(cut -d, -f7 "$work/pairs.csv" | median) (median)" | tee -a "$work/model.csv" >&2
    done
    rm -f "$model"
}

{
    bench_header simulate "stage_us=$stage_us" "width=$width" "chunk=$chunk" "chunks=$chunks" "tokens=$tokens" "links=${links[*]}" \
        "simulator=$(smpirun --version 2>/dev/null | grep -io 'simgrid version [0-9.]*' | head -n 1)"
    echo "case,link,where,$("$build/bench/simulate/simulate" --columns)"
    for link in "${links[@]}"; do
        IFS=: read -r name latency rate <<<"$link"
        on_link "$name" "$latency" "$rate"
    done
    [[ $cases != *sleep* ]] || asleep
} | tee "$work/simulate.csv"
if [[ $cases == *model* ]]; then of_model; fi

command -v gnuplot >/dev/null || exit 0
# dots CASE LINK FLIGHT: ranks, and the time over the formula, of runs with as many parcels as ranks (0) or as needed
dots() {
    awk -F, -v c="$1" -v l="$2" -v f="$3" '$1 == c && $2 == l && $3 == "simulated" {
        if (f == 0 ? !seen[$4]++ : seen[$4]++ == 1) print $4, 1 - $23}' "$work/simulate.csv"
}
{
    echo 'set terminal svg size 900,600 dynamic; set grid; set key left bottom; set logscale x 2; set xlabel "ranks"'
    echo 'set ylabel "busy share of all ranks"; set yrange [0:1]'
    for kind in prompt-equal prompt-unequal decode-equal decode-unequal decode-mixed; do
        words=()
        for link in "${links[@]}"; do
            for flight in 0 1; do
                name=${link%%:*}
                dots "$kind" "$name" $flight >"$work/$kind-$name-$flight.dat"
                [ ! -s "$work/$kind-$name-$flight.dat" ] || words+=("'$work/$kind-$name-$flight.dat' with linespoints dt $((2 - flight)) title '$name, $(
                    [ $flight = 0 ] && echo 'as many parcels as ranks' || echo 'as needed')'")
            done
        done
        [ ${#words[@]} -gt 0 ] || continue
        echo "set output '$work/$kind.svg'; set title '$kind'"
        (
            IFS=,
            echo "plot ${words[*]}"
        )
    done
} >"$work/figures.gnuplot"
gnuplot "$work/figures.gnuplot" && echo "# figures: $work/*.svg" >&2
