#!/usr/bin/env bash
# Codes of ACE-Step's language model, guided, on synthetic models of its shapes: how many a second for batches of
# songs, beside what the machine's memory allows, and what it gains that only the legal codes' logits are computed.
#
#   bench/acestep.sh [PRESETS] [TYPES]        default: "acestep-0.6b acestep-1.7b" "bf16 q8_0 q4_0"
#
# A run is one request with all metadata given, so that nothing but codes is drawn: SECONDS_OF_MUSIC (10) of 5 codes
# each. Columns: codes a second of all songs together, behind the prompt; seconds of music in a second; bytes that the
# ranks read for a code; codes a second if these bytes came at the plain read rate; their ratio; codes a second of the
# same rows with every logit (generate --guidance), and the ratio of the two. Peak memory of the largest rank.
# BATCHES (1 2 8), RANKS (1 2) and RUNS (3) in the environment change the rows. Ranks share the cores evenly.
set -eu
cd "$(dirname "$0")/.."
. launch/launcher.sh
. bench/common.sh
presets=${1:-acestep-0.6b acestep-1.7b}
types=${2:-bf16 q8_0 q4_0}
work=${BENCH_DIR:-build/bench}
runs=${RUNS:-3}
seconds=${SECONDS_OF_MUSIC:-10}
cores=$(nproc)
mkdir -p "$work"
report=$work/acestep.json

# number KEY: from the report; sum KEY, most KEY: over its ranks.
number() { field "$report" "$1"; }
each() { grep -o "\"$1\": [0-9]*" "$report" | sed 's/.*: //'; }
sum() { each "$1" | awk '{n += $1} END {printf "%.0f", n}'; }
most() { each "$1" | sort -g | tail -n 1; }

# song RANKS THREADS BATCH MODEL: "codes/s bytes-a-code peak-bytes"
song() {
    launch_bound "$1" "$2" 600 "$program" acestep "$4" --caption 'slow piano and rain' --instrumental --bpm 90 \
        --keyscale 'A minor' --timesignature 4 --duration "$seconds" --batch "$3" --seed 1 -t "$2" -q \
        --report "$report" >/dev/null || return
    echo "$(number new_tokens_per_s) $(($(sum weight_bytes) + $(sum cache_bytes))) $(number new_tokens) \
$(most peak_resident_bytes)"
}

# The same number of rows with all logits. The prompts are as long as the song's.
full() {
    launch_bound "$1" "$2" 600 "$program" generate "$4" --prompt "$(printf 'x%.0s' {1..150})" --guidance 2 \
        --negative "$(printf 'y%.0s' {1..100})" --temperature 0.85 --top-p 0.9 --sampler-order pytorch --seed 1 \
        --ignore-eos --samples "$3" --slots $((2 * $3)) -n $((5 * seconds)) --json -t "$2" -q --report "$report" \
        >/dev/null || return
    number new_tokens_per_s
}

echo "# bench=acestep"
echo "# cores=$cores seconds_of_music=$seconds"
"$program" --version | sed -n '1s/^pipestep /# version=/p'
echo "preset,type,ranks,threads,batch,codes_s,music_s,mb_code,limit_codes_s,of_limit,full_codes_s,gain,peak_mib"
for preset in $presets; do
    for type in $types; do
        model=$work/$preset-$type.h5
        is_usable "$model" || "$program" bench --synthetic "$preset,type=$type" -o "$model" -q
        song 1 "$cores" 1 "$model" >/dev/null # pages in, contents verified
        for ranks in ${RANKS:-1 2}; do
            threads=$((cores / ranks > 0 ? cores / ranks : 1))
            for batch in ${BATCHES:-1 2 8}; do
                : >"$work/song.txt" && : >"$work/full.txt"
                for _ in $(seq "$runs"); do
                    song "$ranks" "$threads" "$batch" "$model" >>"$work/song.txt"
                    full "$ranks" "$threads" "$batch" "$model" >>"$work/full.txt"
                done
                rate=$(read_rate "$cores")
                read -r _ bytes tokens peak < <(tail -n 1 "$work/song.txt")
                awk -v head="$preset,$type,$ranks,$threads,$batch" -v c="$(median <"$work/song.txt")" \
                    -v f="$(median <"$work/full.txt")" -v b="$bytes" -v n="$tokens" -v r="$rate" -v p="$peak" \
                    'BEGIN {l = r * 1e9 * n / b; printf "%s,%.2f,%.2f,%.1f,%.1f,%.3f,%.2f,%.3f,%.0f\n",
                        head, c, c / 5, b / n * 1e-6, l, c / l, f, c / f, p / 1048576}'
            done
        done
        [ -n "${KEEP_MODELS:-}" ] || rm -f "$model"
    done
done
