#!/usr/bin/env bash
# What the types of cached keys and values cost in quality, and what they take: perplexity of the same text with
# each, against f32.
#
#   bench/cache_types.sh [MODEL] [TEXT]        default: the model that ships, on tunes that it writes itself
#
# Columns: perplexity over all predicted tokens, its change against f32 in per cent, bytes of a token in all caches.
set -euo pipefail
cd "$(dirname "$0")/.."
program=build/pipestep
work=${BENCH_DIR:-build/bench}
model=${1:-configs/tunes/tunes.h5}
text=${2:-}
mkdir -p "$work"
if [ -z "$text" ]; then
    input=(--tokens "$work/cache-types.txt")
    for seed in $(seq 9001 9040); do
        printf '0 ' && "$program" generate -q --seed "$seed" -n 600 --temperature 0.8 --top-p 0.95 --ids
    done >"$work/cache-types.txt"
else
    input=(--text "$text")
fi

echo "# bench=cache_types"
echo "# model=$(basename "$model")"
"$program" --version | sed -n '1s/^pipestep /# version=/p'
echo "keys,values,tokens,perplexity,change_percent,bytes_token"
base=
for types in "f32 f32" "f16 f16" "bf16 bf16" "q8_0 q8_0" "q8_0 q4_0" "q4_0 q8_0" "q4_0 q4_0"; do
    read -r keys values <<<"$types"
    "$program" score "$model" "${input[@]}" --cache-k "$keys" --cache-v "$values" -q --report "$work/cache-types.json" \
        >"$work/cache-types-out.txt"
    bytes=$(sed -n 's/.*"bytes_per_token": \([0-9]*\), "windows".*/\1/p' "$work/cache-types.json")
    read -r tokens perplexity < <(sed -n 's/^[0-9]*: \([0-9]*\) tokens, log-probability \([-0-9.]*\),.*/\1 \2/p' \
        "$work/cache-types-out.txt" | awk '{n += $1 - 1; sum += $2} END {printf "%d %.6f\n", n, exp(-sum / n)}')
    base=${base:-$perplexity}
    awk -v k="$keys" -v v="$values" -v n="$tokens" -v p="$perplexity" -v b="$base" -v bytes="$bytes" \
        'BEGIN {printf "%s,%s,%d,%.4f,%+.3f,%d\n", k, v, n, p, 100 * (p / b - 1), bytes}'
done
