#!/usr/bin/env bash
# What rounded activations cost: KL divergence, likeliest tokens and perplexity with 16 and 8 bits against
# --activations f32, and what llama.cpp's rounding of the same file costs against its own f32.
#
#   bench/quality.sh [MODEL ...]       default: the tune model in q8_0 and in q4_0
#
# MODEL     a model file, a directory or a GGUF file; GGUF files get rows of llama.cpp where bench/peers/fetch.sh built it
# TEXT      a file; default: README.md and src/README.md of this tree. The tune model gets tunes that it writes itself
# CONTEXT   512 tokens at a time, as many as CHUNKS (8) times; the first half of each is not counted
#
# A text is encoded once and cut into CONTEXT tokens, the first of which is replaced by the bos of models that have one:
# so llama-perplexity has it, and its tokens are compared with ours. It computes on a copy of the file whose weights
# are widened to f32, exactly, and keeps those log-probabilities, in 16 bits, as the reference for the file itself.
#
# Columns: activations and cache are types; predictions are counted; change_percent is of the perplexity against the
# reference's; kl_99 is not passed by 99 % of the predictions; same_top is how often the likeliest token is the same.
# llama.cpp's row with f32 activations is the reference against itself: what its 16 bits leave.
set -euo pipefail
models=()
for file in "$@"; do models+=("$(realpath "$file")"); done
[ -z "${TEXT:-}" ] || TEXT=$(realpath "$TEXT")
cd "$(dirname "$0")/.."
. bench/common.sh
peers=${PS_PEERS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/pipestep/peers}
bin=$peers/bin
work=${BENCH_DIR:-build/bench}/quality
context=${CONTEXT:-512} chunks=${CHUNKS:-8}
skip=$((context / 2))
LIMIT_S=3600
mkdir -p "$work"
trap 'rm -f "$work"/*.h5 "$work"/*.gguf "$work"/*.logits' EXIT

fail() {
    echo "quality: $*" >&2
    exit 1
}

# row PROGRAM ACTIVATIONS CACHE PREDICTIONS PERPLEXITY REFERENCE KL MEDIAN KL_99 KL_MAX SAME_PERCENT
row() {
    awk -v m="$model" -v p="$1" -v a="$2" -v c="$3" -v n="$4" -v x="$5" -v r="$6" -v k="$7" -v k50="$8" -v k99="$9" \
        -v max="${10}" -v same="${11}" 'BEGIN {
            if (k == 0) k = 0 # for the peer prints -0.000000
            if (k50 == 0) k50 = 0
            printf "%s,%s,%s,%s,%d,%.4f,%+.4f,%.2e,%.2e,%.2e,%.2e,%.2f\n", m, p, a, c, n, x, 100 * (x / r - 1), k, k50, k99,
                max, same}'
}

# ---- tokens: sequences of CONTEXT ids, a line each ----

write_tunes() {
    local i
    for i in $(seq "$chunks"); do
        printf '0 '
        "$program" generate -q --seed $((9000 + i)) -n $((context - 1)) --temperature 0.8 --top-p 0.95 --ignore-eos --ids
    done >"$work/tokens.txt"
}

cut_text() { # FILE
    local bos
    bos=$("$program" tokenize "$1" -q </dev/null)
    "$program" tokenize "$1" -q <"$work/text.txt" | tr -s ' ' '\n' | awk -v n="$context" -v chunks="$chunks" -v bos="$bos" '
        NF && at < n * chunks {printf "%s%s", at % n == 0 && bos != "" ? bos : $1, ++at % n ? " " : "\n"}' | awk -v n="$context" 'NF == n' >"$work/tokens.txt"
    n=$(wc -l <"$work/tokens.txt")
    [ "$n" -ge 2 ] || fail "the text has fewer than $((2 * context)) tokens"
}

# ---- ours ----

ours() { # FILE
    local activations
    local score=(timeout "$LIMIT_S" "$program" score "$1" -q --json --tokens "$work/tokens.txt" --skip "$skip")
    "${score[@]}" --activations f32 --logits "$work/f32.h5" >/dev/null
    for activations in f32 i16 i8; do
        "${score[@]}" --activations $activations --reference "$work/f32.h5" | tail -n 1 >"$work/ours.json"
        row pipestep $activations f32 "$(field "$work/ours.json" predictions)" "$(field "$work/ours.json" perplexity)" \
            "$(field "$work/ours.json" reference_perplexity)" "$(field "$work/ours.json" kl_mean)" \
            "$(field "$work/ours.json" kl_median)" "$(field "$work/ours.json" kl_99)" "$(field "$work/ours.json" kl_max)" \
            "$(awk -v s="$(field "$work/ours.json" same_top)" 'BEGIN {print 100 * s}')"
    done
    rm -f "$work/f32.h5"
}

# ---- the peer's ----

# perplexity FILE ARG ...
perplexity() {
    local file=$1
    shift
    timeout $LIMIT_S nice -n 5 "$bin/llama-perplexity" -m "$file" -t "$(nproc)" -c "$context" -b "$context" --chunks "$chunks" \
        --no-warmup --kl-divergence-base "$work/peer.logits" "$@" >"$work/peer.txt" 2>"$work/peer.log"
}

statistic() { sed -n "s/^$1 *: *\([-0-9.]*\).*/\1/p" "$work/peer.txt" | head -n 1; }

peer_row() { # ACTIVATIONS CACHE FILE ARG ...
    local activations=$1 cache=$2
    shift 2
    perplexity "$@" --kl-divergence || fail "llama-perplexity: $(tail -n 1 "$work/peer.log")"
    [ -n "$(statistic 'Same top p')" ] || fail "llama-perplexity counts no fewer than 100 predictions"
    # Not its "PPL(base)": what it keeps ends 16 nats below the likeliest token.
    reference=${reference:-$(statistic 'Mean PPL(Q)')}
    row llama.cpp "$activations" "$cache" "$((n * (context - 1 - skip)))" "$(statistic 'Mean PPL(Q)')" "$reference" \
        "$(statistic 'Mean *KLD')" "$(statistic 'Median *KLD')" "$(statistic '99.0% *KLD')" \
        "$(statistic 'Maximum KLD')" "$(statistic 'Same top p')"
}

# Behind "_logits_" the file has context, vocabulary, chunks, then the tokens before bos is put in.
check_peer_tokens() {
    local first=20
    cmp -s <(od -An -v -w$((4 * context)) -td4 -j$first -N$((4 * context * n)) "$work/peer.logits" |
        awk '{$1 = ""; print}') <(awk '{$1 = ""; print}' "$work/tokens.txt") ||
        fail "llama.cpp encodes the text as other tokens"
}

peer() { # FILE
    local reference='' plain=(-ctk f32 -ctv f32 -fa off)
    timeout $LIMIT_S "$bin/llama-quantize" --allow-requantize --pure "$1" "$work/f32.gguf" F32 "$(nproc)" >"$work/quantize.log" 2>&1
    perplexity "$work/f32.gguf" -f "$work/text.txt" "${plain[@]}" || fail "llama-perplexity: $(tail -n 1 "$work/peer.log")"
    check_peer_tokens
    peer_row f32 f32 "$work/f32.gguf" "${plain[@]}"
    peer_row 8bit f32 "$1" "${plain[@]}"
    peer_row 8bit f16 "$1"
}

# ---- all ----

if [ -n "${TEXT:-}" ]; then
    cp "$TEXT" "$work/text.txt"
else
    cat README.md src/README.md >"$work/text.txt"
fi
header=("context=$context" "chunks=$chunks" "skipped=$skip")
[ $# -eq 0 ] || header+=("text_sha256=$(sha256sum "$work/text.txt" | cut -c 1-16)")
has_peer=
if [ $# -gt 0 ] && [ -x "$bin/llama-perplexity" ]; then
    has_peer=1
    header+=("peer=llama.cpp of llama-cpp-python $(cat "$bin/version")")
fi
bench_header quality "${header[@]}"
echo "model,program,activations,cache,predictions,perplexity,change_percent,kl_mean,kl_median,kl_99,kl_max,same_top_percent"
if [ $# -eq 0 ]; then
    write_tunes
    for type in q8_0 q4_0; do
        model=tunes-$type
        "$program" convert tests/golden/tunes --type $type -o "$work/$model.h5" -q
        ours "$work/$model.h5"
    done
fi
for file in "${models[@]}"; do
    model=$(basename "$file")
    model=${model%.*}
    cut_text "$file"
    ours "$file"
    case $file in
    *.gguf) [ -z "$has_peer" ] || peer "$file" ;;
    esac
done
