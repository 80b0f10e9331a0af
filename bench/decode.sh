#!/usr/bin/env bash
# Whole decode steps of a synthetic model against the machine's plain read bandwidth, and what a second rank
# costs one stream. Alternating runs, medians.
#
#   bench/decode.sh [PRESET] [TYPES]        default: llama-1.1b "f32 f16 bf16"
#
# Columns: bytes read for a token x tokens/s against the read figure of the same run.
set -eu
cd "$(dirname "$0")/.."
. launch/launcher.sh
preset=${1:-llama-1.1b}
types=${2:-f32 f16 bf16}
program=build/pipestep
work=${BENCH_DIR:-build/bench}
runs=${RUNS:-5}
tokens=${TOKENS:-24}
mkdir -p "$work"
echo "1 2 3 4 5 6 7 8" >"$work/prompt.txt"

# median of the numbers on standard input
median() { sort -g | awk '{a[NR]=$1} END {print a[int((NR+1)/2)]}'; }

# field JSON-FILE KEY: a number of the report's top level
field() { sed -n "s/.*\"$2\": \([0-9.eE+-]*\).*/\1/p" "$1" | head -n 1; }

# decode RANKS THREADS MODEL: p50 of a token in ms
decode() {
    launch "$1" 300 "$program" generate "$3" --tokens "$work/prompt.txt" -n "$tokens" --ids --ignore-eos \
        -t "$2" -q --report "$work/report.json" >/dev/null
    field "$work/report.json" token_p50_ms
}

read_rate() { "$program" bench -t "$1" | sed -n '3s/,.*//p'; }

cores=$(nproc)
echo "# bench=decode"
echo "# preset=$preset"
"$program" --version | sed -n '1s/^pipestep /# version=/p'
echo "type,ranks,threads,token_ms,tokens_s,bytes_token_gb,rate_gb_s,read_gb_s,of_read"
for type in $types; do
    model=$work/$preset-$type.h5
    [ -s "$model" ] || "$program" bench --synthetic "$preset,type=$type" -o "$model" -q
    # Weights of all layers and the head; the embedding is looked up, not read.
    bytes=$("$program" plan "$model" --ctx 64 -np 1 --json | sed -n 's/.*"read_bytes_per_token": \([0-9]*\).*/\1/p')
    decode 1 "$cores" "$model" >/dev/null # pages in, contents verified
    : >"$work/one.txt" && : >"$work/two.txt" && : >"$work/all.txt"
    for _ in $(seq "$runs"); do
        decode 1 1 "$model" >>"$work/one.txt"
        [ "$cores" -lt 2 ] || decode 2 1 "$model" >>"$work/two.txt"
        decode 1 "$cores" "$model" >>"$work/all.txt"
    done
    for row in one:1:1 two:2:1 "all:1:$cores"; do
        IFS=: read -r name ranks threads <<<"$row"
        [ -s "$work/$name.txt" ] || continue
        rate=$(read_rate "$threads")
        median <"$work/$name.txt" | awk -v t="$type" -v n="$ranks" -v c="$threads" -v b="$bytes" -v r="$rate" \
            '{printf "%s,%d,%d,%.2f,%.2f,%.3f,%.2f,%.2f,%.3f\n", t, n, c, $1, 1e3/$1, b*1e-9, b*1e-6/$1, r, b*1e-6/$1/r}'
    done
    paste "$work/one.txt" "$work/two.txt" | awk 'NF==2 {print $2/$1}' | median |
        awk -v t="$type" '{printf "# %s: a token over two ranks of one thread takes %.3f of one rank (median of pairs)\n", t, $1}'
    [ -n "${KEEP_MODELS:-}" ] || rm -f "$model"
done
