#!/usr/bin/env bash
# Whole decode steps of a synthetic model against the machine's plain read bandwidth, and what a second rank
# costs one stream. Alternating runs, medians.
#
#   bench/decode.sh [PRESET] [TYPES]        default: llama-1.1b "f32 f16 bf16"
#
# WEIGHTS: copy (default: what a long decoding takes by itself) or map.
# Columns: bytes read for a token x tokens/s against the mean of plain reads right before and after it; the line of
# the median ratio. runs: how many of RUNS (5) count.
set -eu
cd "$(dirname "$0")/.."
. launch/launcher.sh
. bench/common.sh
preset=${1:-llama-1.1b}
types=${2:-f32 f16 bf16}
work=${BENCH_DIR:-build/bench}
runs=${RUNS:-5}
tokens=${TOKENS:-24}
weights=${WEIGHTS:-copy}
mkdir -p "$work"
echo "1 2 3 4 5 6 7 8" >"$work/prompt.txt"

# median_line: the line whose first number is the median
median_line() { sort -g | awk '{a[NR]=$0} END {print a[int((NR+1)/2)]}'; }

# decode RANKS THREADS MODEL: p50 of a token in ms
decode() {
    launch_bound "$1" "$2" 300 "$program" generate "$3" --tokens "$work/prompt.txt" -n "$tokens" --ids --ignore-eos \
        -t "$2" --weights "$weights" -q --report "$work/report.json" >/dev/null || return
    field "$work/report.json" token_p50_ms
}

# run NAME RANKS THREADS: a line "token_ms read_gb_s" for NAME, or none where the reads before and after differ by more
# than a tenth: a machine whose cores change places under it changes its bandwidth within seconds.
run() {
    local before after ms
    for _ in 1 2 3 4; do
        before=$(read_rate "$3")
        ms=$(decode "$2" "$3" "$model")
        after=$(read_rate "$3")
        awk -v t="$ms" -v a="$before" -v b="$after" \
            'BEGIN {if (a > 0.9 * b && b > 0.9 * a) print t, (a + b) / 2; else exit 1}' >>"$work/$1.txt" && return 0
    done
    return 0
}

cores=$(nproc)
echo "# bench=decode"
echo "# preset=$preset"
echo "# weights=$weights"
"$program" --version | sed -n '1s/^pipestep /# version=/p'
echo "type,ranks,threads,runs,token_ms,tokens_s,bytes_token_gb,rate_gb_s,read_gb_s,of_read"
for type in $types; do
    model=$work/$preset-$type.h5
    is_usable "$model" || "$program" bench --synthetic "$preset,type=$type" -o "$model" -q
    # Weights of all layers and the head; the embedding is looked up, not read.
    bytes=$(read_bytes "$model")
    decode 1 "$cores" "$model" >/dev/null # pages in, contents verified
    : >"$work/one.txt" && : >"$work/two.txt" && : >"$work/all.txt"
    for _ in $(seq "$runs"); do
        run one 1 1
        [ "$cores" -lt 2 ] || run two 2 1
        run all 1 "$cores"
    done
    for row in one:1:1 two:2:1 "all:1:$cores"; do
        IFS=: read -r name ranks threads <<<"$row"
        [ -s "$work/$name.txt" ] || continue
        awk -v b="$bytes" '{print b * 1e-6 / $1 / $2, $1, $2}' "$work/$name.txt" | median_line |
            awk -v t="$type" -v n="$ranks" -v c="$threads" -v b="$bytes" -v k="$(wc -l <"$work/$name.txt")" \
                '{printf "%s,%d,%d,%d,%.2f,%.2f,%.3f,%.2f,%.2f,%.3f\n", t, n, c, k, $2, 1e3/$2, b*1e-9, b*1e-6/$2, $3, $1}'
    done
    paste "$work/one.txt" "$work/two.txt" | awk 'NF==4 {print $3/$1}' | median |
        awk -v t="$type" '{printf "# %s: a token over two ranks of one thread takes %.3f of one rank (median of pairs)\n", t, $1}'
    [ -n "${KEEP_MODELS:-}" ] || rm -f "$model"
done
