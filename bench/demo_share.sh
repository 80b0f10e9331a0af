#!/usr/bin/env bash
# How many of the demo's tunes can be read: 200 pairs of seed and header (rhythms with their metres, several
# keys) with the demo's own sampling settings (configs/tune.conf), run as one batch and given to abc2midi.
#
#   bench/demo_share.sh [COUNT] [FIRST_SEED]        default: 200 1; needs abc2midi
#
# Prints the share of tunes without an error, and the share without a warning about the length of a bar. The
# tunes and what abc2midi said about each stay in build/bench/demo_share.
# shellcheck disable=SC2001,SC2015 # patterns are for sed; the loop goes on where either is false
set -eu
cd "$(dirname "$0")/.."
count=${1:-200}
first=${2:-1}
work=${BENCH_DIR:-build/bench}/demo_share
command -v abc2midi >/dev/null || { echo 'demo_share.sh: abc2midi is missing (package abcmidi)' >&2 && exit 1; }
rm -rf "$work"
mkdir -p "$work"

rhythms=('reel 2/2 1/8' 'jig 6/8 1/8' 'hornpipe 4/4 1/8' 'slip jig 9/8 1/8' 'air 3/4 1/8' 'march 4/4 1/8'
    'quickstep 2/4 1/16' 'strathspey 4/4 1/8' 'clog 2/4 1/16' 'jig 6/8 1/8')
keys=(D G A Em Am Bm Ador C F Bb Edor)

# setting NAME: its value in the demo's configuration
setting() { sed -n "s/^$1 = //p" "${CONFIG:-configs/tune.conf}"; }

# request SEED: the demo's request, with a header that the seed picks
request() {
    local rhythm metre length
    read -r rhythm metre length < <(sed 's/slip jig/slip_jig/' <<<"${rhythms[$(($1 % ${#rhythms[@]}))]}")
    printf '{"id": %d, "seed": %d, "temperature": %s, "top_p": %s, "min_p": %s, "banned": [%s], "max_tokens": %s, "prompt": "%s"}\n' \
        "$1" "$1" "$(setting temperature)" "$(setting top-p)" "$(setting min-p)" "$(setting ban | paste -sd, -)" "$(setting n)" \
        "X:1\\nR:${rhythm/_/ }\\nM:$metre\\nL:$length\\nK:${keys[$((($1 / ${#rhythms[@]}) % ${#keys[@]}))]}\\n"
}

for seed in $(seq "$first" $((first + count - 1))); do
    request "$seed"
done >"$work/requests.jsonl"
build/pipestep batch --in "$work/requests.jsonl" --out "$work/results.jsonl" -q

# prompt and text of each line, their escapes resolved, with a title as the demo gives one
paste "$work/requests.jsonl" "$work/results.jsonl" | sed 's/.*"prompt": "\(.*\)"}\t.*"text": "\([^"\\]*\(\\.[^"\\]*\)*\)", "tokens".*/\1\2/' \
    >"$work/tunes.txt"
seed=$first
while IFS= read -r tune; do
    printf '%b\n\n' "${tune/X:1\\n/X:1\\nT:seed $seed\\n}" >"$work/$seed.abc"
    abc2midi "$work/$seed.abc" -o "$work/$seed.mid" >"$work/$seed.log" 2>&1 || true
    seed=$((seed + 1))
done <"$work/tunes.txt"

good=0
in_bars=0
for log in "$work"/*.log; do
    [ -s "${log%.log}.mid" ] && ! grep -q '^Error' "$log" || continue
    good=$((good + 1))
    grep -q '^Warning.*[Bb]ar' "$log" || in_bars=$((in_bars + 1))
done
echo "# bench=demo_share"
build/pipestep --version | sed -n '1s/^pipestep /# version=/p'
echo "tunes,without_error,without_bar_warning"
awk -v n="$count" -v g="$good" -v b="$in_bars" 'BEGIN {printf "%d,%.3f,%.3f\n", n, g / n, b / n}'
