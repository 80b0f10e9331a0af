#!/usr/bin/env bash
# One decoder block and the head of a synthetic model, one row: what plan --measure finds, beside plain reading.
#
#   bench/layer.sh [THREADS] [TYPES]        default: 1 "f16 q8_0 q4_0 q4_k"
#
# Columns: bytes of weights of a layer, and of the head, over their time; of_read against the read figure of this run.
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/common.sh
threads=${1:-1}
types=${2:-f16 q8_0 q4_0 q4_k}
work=${BENCH_DIR:-build/bench}
runs=${RUNS:-5}
layers=4
mkdir -p "$work"
rate=$(read_rate "$threads")
bench_header layer "preset=${PRESET:-llama-1.1b}" "threads=$threads" "read_gb_s=$rate"
echo "type,what,ms,mb,rate_gb_s,of_read"
for type in $types; do
    model=$work/layer-$type.h5
    "$program" bench -q --synthetic "${PRESET:-llama-1.1b},layers=$layers,type=$type" -o "$model"
    # Layers without a cache: a context of 2 adds one position.
    for _ in $(seq "$runs"); do
        "$program" plan "$model" --measure -t "$threads" --ctx 2 --json
    done | sed -n 's/.*"head_ns": \([0-9]*\),.*"time_ns": \([0-9]*\).*/\1 \2/p' >"$work/layer.txt"
    head=$(awk '{print $1}' "$work/layer.txt" | median)
    all=$(awk '{print $2 - $1}' "$work/layer.txt" | median)
    "$program" inspect "$model" | awk -v type="$type" -v head="$head" -v all="$all" -v n="$layers" -v read="$rate" '
        function row(what, bytes, ns) {
            printf "%s,%s,%.3f,%.1f,%.2f,%.3f\n", type, what, ns / 1e6, bytes / 1e6, bytes / ns, bytes / ns / read
        }
        /\/layers\/000\// {layer += $3}
        /\/head\// {out += $3}
        END {row("layer", layer, all / n); row("head", out, head)}'
    rm -f "$model"
done
