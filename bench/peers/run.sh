#!/usr/bin/env bash
# Beside llama.cpp: the same weights, the same threads, runs in turn; medians, and the median of the pairs' ratios.
#
#   bench/peers/run.sh BUILD_DIR       after bench/peers/fetch.sh; make bench-peers does both
#
# TYPES    F16 Q8_0 Q4_0 Q4_K_M: of the 1.1 B Llama shape, random weights; made once, kept in $PS_PEERS_DIR/models
# MODEL    a GGUF file instead (its name stands in the column type)
# RUNS     7 pairs of each row;  TOKENS 24 new ones a run;  ROWS  all, or words of: decode prompt batch ranks
# WEIGHTS  copy: as a long job has it; map: ours from the mapped file
# SHAPE    layers, width, heads, key heads, feed-forward, vocabulary, context
#
# Columns: row is what is done: decode (one sequence), prompt128, prompt512, batch8 (eight sequences); ranks are our
# MPI ranks and the peer's RPC servers (0 servers: one process on both sides). limit_tokens_s is what plain reading of
# the weights, or the rate of f32 multiply-adds where that is less, would allow in this run (integers may pass it).
# of_peer is the median of the pairs' ratios.
set -euo pipefail
cd "$(dirname "$0")/../.."
. launch/launcher.sh
. bench/common.sh
build=${1:?usage: run.sh BUILD_DIR}
peers=${PS_PEERS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/pipestep/peers}
bin=$peers/bin models=$peers/models
work=${BENCH_DIR:-build/bench}/peers
runs=${RUNS:-7} tokens=${TOKENS:-24} rows=${ROWS:-decode prompt batch ranks}
read -ra shape <<<"${SHAPE:-22 2048 32 4 5632 32000 2048}"
port=${PORT:-50152}
servers=()
LIMIT_S=900
mkdir -p "$work" "$models"

stop_servers() {
    local pid
    for pid in "${servers[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    servers=()
}
trap stop_servers EXIT

# ---- weights ----

stem=llama-$(
    IFS=x
    echo "${shape[*]}"
)

# make_gguf TYPE: sets gguf
make_gguf() {
    local f16=$models/$stem-F16.gguf pure=(--pure)
    gguf=$models/$stem-$1.gguf
    if [ ! -s "$f16" ]; then
        "$build/bench/peers/synthetic_gguf" "$f16.part" "${shape[@]}"
        mv -f "$f16.part" "$f16"
    fi
    [ ! -s "$gguf" ] || return 0
    # A mixture of types is what Q4_K_M means.
    [ "$1" != Q4_K_M ] || pure=()
    timeout $LIMIT_S "$bin/llama-quantize" --allow-requantize "${pure[@]}" "$f16" "$gguf.part" "$1" "$(nproc)" \
        >"$work/quantize.log" 2>&1
    mv -f "$gguf.part" "$gguf"
}

# ---- one run of each side: tokens/s ----

# ours RANKS THREADS REQUESTS KEY [OPTION ...]
ours() {
    local ranks=$1 threads=$2 requests=$3 key=$4
    shift 4
    afresh "$work"
    launch_bound "$ranks" "$threads" $LIMIT_S "$program" batch "$h5" -i "$requests" -o "$work/out.jsonl" -q -t "$threads" --weights "${WEIGHTS:-copy}" \
        --report "$work/report.json" "$@" || return
    field "$work/report.json" "$key"
}

rpc_options=()

# bench_peer THREADS PROMPT NEW
bench_peer() {
    timeout $LIMIT_S "$bin/llama-bench" -m "$gguf" -t "$1" -p "$2" -n "$3" -r 1 -o json "${rpc_options[@]}" \
        2>"$work/peer.log" | sed -n 's/.*"avg_ts": \([0-9.]*\).*/\1/p' | head -n 1
}

# batch_peer THREADS SEQUENCES: its log thread now and then loses the last line, so it is asked again.
batch_peer() {
    local rate
    for _ in 1 2 3; do
        rate=$(timeout $LIMIT_S "$bin/llama-batched-bench" -m "$gguf" -t "$1" -tb "$1" -c 1024 -b 512 -ub 512 -npp 8 \
            -ntg "$tokens" -npl "$2" --output-format jsonl "${rpc_options[@]}" 2>"$work/peer.log" |
            sed -n 's/.*"speed_tg": \([0-9.]*\).*/\1/p' | head -n 1)
        [ -z "$rate" ] || break
    done
    echo "$rate"
}

# pairs TYPE ROW RANKS THREADS LIMIT: what the arrays one and other run, in turn
pairs() {
    local i a b
    : >"$work/pairs.txt"
    for i in $(seq 0 "$runs"); do
        a=$("${one[@]}")
        b=$("${other[@]}")
        if [ -z "$a" ] || [ -z "$b" ]; then
            echo "bench-peers: no figure for $1 $2 (ours: ${a:-none}, peer: ${b:-none}; see $work/peer.log)" >&2
            return 0
        fi
        # The first pair reads the files and is not counted.
        [ "$i" -eq 0 ] || echo "$a $b" >>"$work/pairs.txt"
    done
    printf '%s,%s,%d,%d,%d,%.2f,%.2f,%.2f,%.3f,%.3f\n' "$1" "$2" "$3" "$4" "$runs" \
        "$(awk '{print $1}' "$work/pairs.txt" | median)" "$(awk '{print $2}' "$work/pairs.txt" | median)" "$5" \
        "$(awk -v l="$5" '{print $1 / l}' "$work/pairs.txt" | median)" "$(awk '{print $1 / $2}' "$work/pairs.txt" | median)"
}

# ---- rows ----

start_servers() {
    local i list=
    for i in 0 1; do
        "$bin/ggml-rpc-server" -H 127.0.0.1 -p $((port + i)) -t 1 >"$work/server$i.log" 2>&1 &
        servers+=("$!")
        list+=${list:+,}127.0.0.1:$((port + i))
    done
    sleep 2
    rpc_options=(--rpc "$list" -ngl 99)
}

# count_values MODEL: values of the matrices that a token is multiplied with; the same without the head
count_values() {
    "$program" inspect "$1" | awk '
        match($0, /\[[0-9]+, [0-9]+\]/) {
            split(substr($0, RSTART + 1, RLENGTH - 2), shape, ", ")
            if ($0 ~ /\/head\//) head = shape[1] * shape[2]
            if ($0 ~ /\/embed\//) tied = shape[1] * shape[2]
            if ($0 ~ /\/layers\//) sum += shape[1] * shape[2]
        }
        END {print sum + (head ? head : tied), sum}'
}

# limit_decode THREADS SEQUENCES, limit_prompt THREADS
limit_decode() {
    awk -v b="$bytes" -v r="${reads[$1]}" -v f="${fmas[$1]}" -v n="$2" -v p="$values" 'BEGIN {
        read = b / r / 1e9; multiply = 2 * p * n / f / 1e9; printf "%.2f", n / (read > multiply ? read : multiply)}'
}
limit_prompt() { awk -v f="${fmas[$1]}" -v p="$layer_values" 'BEGIN {printf "%.2f", f * 1e9 / (2 * p)}'; }

rows_of() { # TYPE
    local threads length
    for threads in 1 $(($(nproc) > 1 ? 2 : 0)); do
        [ "$threads" -gt 0 ] || continue
        if [[ $rows == *decode* ]]; then
            one=(ours 1 "$threads" "$work/decode.jsonl" new_tokens_per_s)
            other=(bench_peer "$threads" 0 "$tokens")
            pairs "$1" decode 1 "$threads" "$(limit_decode "$threads" 1)"
        fi
        for length in 128 512; do
            [[ $rows == *prompt* ]] || continue
            one=(ours 1 "$threads" "$work/prompt$length.jsonl" prompt_tokens_per_s --slots 1 --chunk "$length")
            other=(bench_peer "$threads" "$length" 0)
            pairs "$1" "prompt$length" 1 "$threads" "$(limit_prompt "$threads")"
        done
        if [[ $rows == *batch* ]]; then
            one=(ours 1 "$threads" "$work/batch.jsonl" new_tokens_per_s)
            other=(batch_peer "$threads" 8)
            pairs "$1" batch8 1 "$threads" "$(limit_decode "$threads" 8)"
        fi
    done
}

rows_of_ranks() { # TYPE
    [[ $rows == *ranks* && $(nproc) -gt 1 ]] || return 0
    start_servers
    one=(ours 2 1 "$work/decode.jsonl" new_tokens_per_s)
    other=(bench_peer 1 0 "$tokens")
    pairs "$1" decode 2 1 "$(limit_decode 1 1)"
    one=(ours 2 1 "$work/prompt512.jsonl" prompt_tokens_per_s --slots 1 --chunk 64)
    other=(bench_peer 1 512 0)
    pairs "$1" prompt512 2 1 "$(limit_prompt 2)"
    one=(ours 2 1 "$work/batch.jsonl" new_tokens_per_s)
    other=(batch_peer 1 8)
    pairs "$1" batch8 2 1 "$(limit_decode 2 8)"
    stop_servers
    rpc_options=()
}

declare -A reads fmas
for threads in 1 2; do
    [ "$threads" -le "$(nproc)" ] || continue
    reads[$threads]=$(read_rate "$threads")
    fmas[$threads]=$(fma_rate "$threads")
done
bench_header peers "peer=llama.cpp of llama-cpp-python $(cat "$bin/version")" "runs=$runs" "tokens=$tokens" \
    "read_gb_s=${reads[1]} ${reads[2]:-}" "fma_gflop_s=${fmas[1]} ${fmas[2]:-}"
echo "type,row,ranks,threads,runs,tokens_s,peer_tokens_s,limit_tokens_s,of_limit,of_peer"
for type in ${MODEL:-${TYPES:-F16 Q8_0 Q4_0 Q4_K_M}}; do
    if [ -n "${MODEL:-}" ]; then
        gguf=$MODEL type=$(basename "$MODEL" .gguf)
    else
        make_gguf "$type"
    fi
    h5=$models/$(basename "$gguf" .gguf).h5
    if ! [ "$h5" -nt "$gguf" ] || ! is_usable "$h5"; then "$program" convert "$gguf" -o "$h5" -q; fi
    size=$(vocabulary "$h5")
    requests 1 8 "$tokens" "$size" >"$work/decode.jsonl"
    requests 8 8 "$tokens" "$size" >"$work/batch.jsonl"
    # Several, one after the other: the first also reads the weights into its process.
    requests 4 128 1 "$size" >"$work/prompt128.jsonl"
    requests 3 512 1 "$size" >"$work/prompt512.jsonl"
    bytes=$(read_bytes "$h5")
    read -r values layer_values < <(count_values "$h5")
    rows_of "$type"
    rows_of_ranks "$type"
done
