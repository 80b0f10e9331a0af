#!/usr/bin/env bash
# What a token costs as the sequence grows: full layers against the line of bytes over bandwidth, window layers
# against themselves. Synthetic models whose caches outweigh their weights; medians of tokens, the read figure
# beside them.
#
#   bench/context.sh [LENGTHS] [CACHE_TYPES]        default: "1024 8192 32768" "f32 f16"
#
# Columns: kv is the number of key heads (of 16 heads of 64); bytes_token are weights and caches that a token
# reads; of_read is their rate over plain reading by as many threads in the same run.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/launcher.sh
. bench/common.sh
lengths=${1:-1024 8192 32768}
types=${2:-f32 f16}
work=${BENCH_DIR:-build/bench}
tokens=${TOKENS:-33}
mkdir -p "$work"

# row MODEL KV LENGTH THREADS TYPE WINDOW
row() {
    "$program" generate "$1" --tokens "$work/context-prompt.txt" -n "$tokens" --ids --ignore-eos -t "$4" -q --chunk 512 \
        --cache-k "$5" --cache-v "$5" --window "$6" --ctx $(($3 + tokens)) --report "$work/context.json" >/dev/null
    local ms weights position seen rate
    ms=$(field "$work/context.json" token_p50_ms)
    position=$(sed -n 's/.*"bytes_per_token": \([0-9]*\), "windows".*/\1/p' "$work/context.json")
    weights=$(sed -n 's/.*"weight_bytes": \([0-9]*\).*/\1/p' "$work/context.json" | head -n 1)
    parcels=$(field "$work/context.json" parcels)
    seen=$([ "$6" = full ] && echo $(($3 + tokens / 2)) || echo "$6")
    rate=$(read_rate "$4")
    awk -v kv="$2" -v n="$3" -v t="$4" -v c="$5" -v w="$6" -v ms="$ms" -v p="$position" -v weights="$weights" \
        -v parcels="$parcels" -v seen="$seen" -v r="$rate" 'BEGIN {
            b = weights / parcels + p * seen
            printf "%d,%s,%s,%d,%d,%.3f,%.1f,%.2f,%.2f,%.3f\n", kv, c, w, t, n, ms, b * 1e-6, b * 1e-6 / ms, r, b * 1e-6 / ms / r}'
}

echo "# bench=context"
"$program" --version | sed -n '1s/^pipestep /# version=/p'
echo "kv,cache,window,threads,position,token_ms,bytes_token_mb,rate_gb_s,read_gb_s,of_read"
for kv in 4 1; do
    model=$work/context-$kv.h5
    [ -s "$model" ] || "$program" bench -q -o "$model" \
        --synthetic "llama-0.3b,layers=2,d=256,heads=16,kv=$kv,head_dim=64,ff=256,vocab=256,context=65536,type=f16"
    for length in $lengths; do
        awk -v n="$length" 'BEGIN {for (i = 0; i < n; i++) printf "%d ", (i * 7919 + int(i / 13)) % 256; print ""}' \
            >"$work/context-prompt.txt"
        for threads in 1 $(($(nproc) > 1 ? 2 : 0)); do
            [ "$threads" -gt 0 ] || continue
            for type in $types; do
                row "$model" $kv "$length" "$threads" "$type" full
            done
            row "$model" $kv "$length" "$threads" f32 1024
        done
    done
done
