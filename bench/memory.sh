#!/usr/bin/env bash
# Does a rank take the memory that the plan says? Peak resident set of each rank of a synthetic model against
# plan (weights, tables, caches, buffers) + base (what `pipestep plan` takes itself before it holds any of a
# model). The prompt and the new tokens fill the context, so that nothing of the caches stays untouched.
#
#   bench/memory.sh [SPEC] [RANKS ...]        default: llama-1.1b,type=f16  1 2
#
# Columns: of_plan is peak / (plan + base). Exit status 1 where that is outside 0.9 .. 1.1.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/launcher.sh
spec=${1:-llama-1.1b,type=f16}
counts=("${@:2}")
[ ${#counts[@]} -gt 0 ] || counts=(1 2)
. bench/common.sh
work=${BENCH_DIR:-build/bench}
context=${CONTEXT:-256}
mkdir -p "$work"
model=$work/memory-$(tr -c 'a-z0-9.\n' - <<<"$spec").h5
is_usable "$model" || "$program" bench --synthetic "$spec" -o "$model" -q
seq "$((context - 32))" | tr '\n' ' ' >"$work/memory-prompt.txt"

# values FILE KEY: all of a key, one a line
values() { grep -o "\"$2\": [0-9]*" "$1" | sed 's/.*: //'; }

# planned FILE: bytes of each stage
planned() {
    local keys=(mapped_bytes weights_bytes cache_bytes buffer_bytes ring_bytes) columns=() key
    for key in "${keys[@]}"; do
        values "$1" "$key" >"$work/memory-$key.txt"
        columns+=("$work/memory-$key.txt")
    done
    paste "${columns[@]}" | awk '{print $1 + $2 + $3 + $4 + $5}'
}

echo "# bench=memory"
echo "# spec=$spec"
echo "# context=$context"
"$program" --version | sed -n '1s/^pipestep /# version=/p'
echo "ranks,rank,plan_mib,base_mib,peak_mib,of_plan"
for np in "${counts[@]}"; do
    threads=$(($(nproc) / np > 0 ? $(nproc) / np : 1))
    "$program" plan "$model" --np "$np" --ctx "$context" -t "$threads" --json -q >"$work/memory-plan.json"
    launch "$np" 300 "$program" generate "$model" --tokens "$work/memory-prompt.txt" -n 32 --ctx "$context" \
        -t "$threads" --ids --ignore-eos -q --report "$work/memory-report.json" >/dev/null
    base=$(values "$work/memory-plan.json" base_bytes)
    # The report holds the plan too, without peaks.
    paste <(planned "$work/memory-plan.json") <(values "$work/memory-report.json" peak_resident_bytes) |
        awk -v n="$np" -v b="$base" '{printf "%d,%d,%.1f,%.1f,%.1f,%.3f\n", n, NR - 1, $1 / 1048576, b / 1048576,
            $2 / 1048576, $2 / ($1 + b)}'
done | tee "$work/memory.csv"
[ -n "${KEEP_MODELS:-}" ] || rm -f "$model"
awk -F, '$6 < 0.9 || $6 > 1.1 {bad = 1} END {exit bad || NR == 0}' "$work/memory.csv"
