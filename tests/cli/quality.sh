# bench/quality.sh, a few tokens of it: rows, what is 0, what is small, and texts that are cut.
# shellcheck shell=bash
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
export PIPESTEP BENCH_DIR=$PWD/bench CONTEXT=40 CHUNKS=2 PS_PEERS_DIR=$PWD/none

# column N: of the rows, with what they are of
column() { awk -F, -v n="$1" '!/^#/ && m++ {printf "%s%s/%s:%s", (m > 2 ? " " : ""), $1, $3, $n}' out.csv; }

timeout 60 "$TOP/bench/quality.sh" >out.csv 2>log || complain "quality.sh: $(<log)"
same 'predictions' 'tunes-q8_0/f32:38 tunes-q8_0/i16:38 tunes-q8_0/i8:38 tunes-q4_0/f32:38 tunes-q4_0/i16:38 tunes-q4_0/i8:38' "$(column 5)"
same 'f32 against itself' '0.00e+00 0.00e+00 100.00' "$(awk -F, '$3 == "f32" {print $8, $11, $12}' out.csv | sort -u)"
awk -F, '$3 ~ /^i/ {n++; if (!($8 > 0 && $11 >= $10 && $10 >= $9 && $8 < ($3 == "i8" ? 1e-2 : 1e-6))) exit 1} END {exit n != 4}' out.csv ||
    complain "divergences: $(<out.csv)"
grep -q '^# version=' out.csv || complain "no header: $(head -n 3 out.csv)"

# A text: its ids in sequences of 40, what is left over is left out.
head -c 400 "$TOP/configs/tunes/README.md" >text.txt
TEXT=text.txt CHUNKS=9 timeout 60 "$TOP/bench/quality.sh" "$model" >out.csv 2>log || complain "with a text: $(<log)"
ids=$(pipestep tokenize "$model" -q <text.txt | tr -s ' \n' ' ' | sed 's/ $//')
# shellcheck disable=SC2086 # a word for each id
set -- $ids
counted=$((19 * (($# - $# % 40) / 40)))
same 'predictions of a text' "tunes/f32:$counted tunes/i16:$counted tunes/i8:$counted" "$(column 5)"
bos=$(pipestep tokenize "$model" -q </dev/null)
same 'the first sequence' "${bos:+$bos }$(cut -d' ' -f"$((${bos:+1} + 1))-40" <<<"$ids")" "$(head -n 1 bench/quality/tokens.txt)"
head -c 40 text.txt >short.txt
TEXT=short.txt timeout 60 "$TOP/bench/quality.sh" "$model" >/dev/null 2>log
same 'a short text' '1 quality: the text has fewer than 80 tokens' "$? $(<log)"
exit "$bad"
