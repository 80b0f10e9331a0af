# score: sums and perplexity, a sequence a line; the logits as HDF5, the same bytes on any number of ranks.
# shellcheck disable=SC2015,SC2001 # complain where the one or the other fails; patterns are for sed
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
score() { pipestep score "$model" -q "$@"; }

printf '%s' "$header" | pipestep tokenize "$model" -q >one.txt
{
    cat one.txt
    echo '56 26 17 199 50 26'
    echo 7
    seq -s' ' 0 300
} >tokens.txt
ok score --tokens tokens.txt --json
plain=$out
same 'a line a sequence' 4 "$(wc -l <<<"$out")"
same 'tokens' '21 6 1 301' "$(sed 's/.*"tokens": \([0-9]*\),.*/\1/' <<<"$out" | paste -sd' ')"
same 'sequences' '0 1 2 3' "$(sed 's/.*"sequence": \([0-9]*\),.*/\1/' <<<"$out" | paste -sd' ')"
# perplexity = exp(-sum / (T - 1))
awk -F'[:,}]' '{w = $4 > 1 ? exp(-$6 / ($4 - 1)) : 1; if ($8 / w > 1.000001 || $8 / w < 0.999999) exit 1}' <<<"$out" ||
    complain "perplexity is not that of the sum: $out"
ok score --tokens tokens.txt
case $out in '0: 21 tokens, log-probability -'*', perplexity '*) ;; *) complain "as text: $out" ;; esac

# Each token's log-probability is the one that generate tells when it takes that token.
ok pipestep generate "$model" -q --tokens one.txt -n 12 --json --logprobs 0
ids=$(grep -o '"tokens": \[[0-9, ]*\]' <<<"$out" | tr -d '[],' | cut -d: -f2)
sum=$(grep -o '"token_logprobs": \[[^]]*\]' <<<"$out" | tr -d '[],' | cut -d: -f2 | tr ' ' '\n' | awk '{s += $1} END {printf "%.9g", s}')
{
    cat one.txt
    echo "$(<one.txt)$ids"
} >both.txt
ok score --tokens both.txt --json
# shellcheck disable=SC2034
difference=$(sed 's/.*"logprob": \([-0-9.e]*\),.*/\1/' <<<"$out" | paste -sd' ' | awk '{printf "%.9g", $2 - $1}')
awk -v a="$sum" -v b="$difference" 'BEGIN {d = a - b; exit !(d < 1e-4 && d > -1e-4)}' ||
    complain "generate says $sum, score $difference"

# Texts get what a prompt gets; tokens nothing.
printf 'X:1\nR:jig\n' >text.txt
while IFS= read -r line; do printf '%s' "$line" | pipestep tokenize "$model" -q; done <text.txt >text-tokens.txt
ok score --text text.txt --json
texts=$out
ok score --tokens text-tokens.txt --json
same '--text' "$out" "$texts"

# ---- logits ----

ok score --tokens tokens.txt --json --logits one.h5
same 'with --logits' "$plain" "$out"
for run in '2 --slots 1' '3 --chunk 7' '4 --in-flight 2 --slots 3'; do
    read -r np words <<<"$run"
    read -ra words <<<"$words"
    out=$(launch "$np" 60 "$PIPESTEP" score "$model" -q --tokens tokens.txt --json --logits many.h5 "${words[@]}")
    same "$run" "$plain" "$out"
    cmp one.h5 many.h5 || complain "$run: other logits"
done
size=$(stat -c %s one.h5)
values=$(((21 + 6 + 1 + 301) * 768 + 20 + 5 + 0 + 300))
[ "$size" -gt $((4 * values)) ] && [ "$size" -lt $((4 * values + 40000)) ] || complain "one.h5 has $size bytes"
ok score --tokens tokens.txt --json --logits hidden.h5 --hidden
same 'with --hidden' "$plain" "$out"
# Alignment may take more or less room.
[ "$(stat -c %s hidden.h5)" -gt $((size + 4 * 9 * 192 * (21 + 6 + 1 + 301) - 20000)) ] || complain 'hidden.h5 lacks something'
launch 2 60 "$PIPESTEP" score "$model" -q --tokens tokens.txt --logits x.h5 --hidden >/dev/null 2>log
same '--hidden on two ranks' 2 $?
grep -q '^pipestep: error: --hidden needs all layers on one rank, found 2 ranks' log || complain "--hidden: $(<log)"
[ ! -e x.h5 ] || complain 'x.h5 was made'

# ---- errors ----

fails 2 ':2: the sequence is empty' score --tokens <(printf '1 2\n\n3\n')
fails 1 ': holds no sequence' score --tokens /dev/null
fails 1 ':2: "x" at column 3 is not a token id' score --tokens <(printf '1\n2 x\n')
fails 2 ':2: token 1 is 768, the vocabulary has 0..767' score --tokens <(printf '1\n2 768\n')
fails 1 ':2: not UTF-8: byte 1 is 0xff' score --text <(printf 'a\nb\xff\n')
fails 1 ':4: the sequence has 301 tokens, the context 100' score --tokens tokens.txt --ctx 100
fails 1 'none: cannot open' score --tokens none
fails 1 'no/x.h5: cannot create: No such file or directory' score --tokens tokens.txt --logits no/x.h5
fails 1 '.: is a directory, wanted a regular file' score --tokens tokens.txt --logits .
fails 1 '/dev/null: is a device, wanted a regular file' score --tokens tokens.txt --logits /dev/null
cp tokens.txt kept.txt
fails 2 'would overwrite what is read' score --tokens tokens.txt --logits tokens.txt
cmp tokens.txt kept.txt || complain 'the tokens were overwritten'
exit "$bad"
