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

# ---- another run's logits ----

# number NAME: of the last line
number() { sed -n "\$s/.*\"$1\": \([-0-9.e]*\)[,}].*/\1/p" <<<"$out"; }
ok score --tokens tokens.txt --json --reference one.h5
same 'against itself, the sequences' "$plain" "$(head -n 4 <<<"$out")"
case $(tail -n 1 <<<"$out") in
'{"reference": "one.h5", "predictions": 325, "kl_mean": 0, "kl_median": 0, "kl_99": 0, "kl_max": 0, "same_top": 1, "perplexity": '*) ;;
*) complain "against itself: $out" ;;
esac
same 'against itself, perplexities' "$(number perplexity)" "$(number reference_perplexity)"
sums=$(sed 's/.*"tokens": \([0-9]*\), "logprob": \([-0-9.e]*\),.*/\1 \2/' <<<"$plain")
awk -v p="$(number perplexity)" '{n += $1 - 1; s += $2} END {d = p / exp(-s / n) - 1; exit !(d < 1e-9 && d > -1e-9)}' <<<"$sums" ||
    complain "perplexity of all: $out"

# Caches of 8 bits are near, not equal; what is said does not depend on ranks.
rounded=(--tokens tokens.txt --json --cache-k q8_0 --cache-v q8_0)
ok score "${rounded[@]}" --reference one.h5
rounded_out=$out
awk -v mean="$(number kl_mean)" -v most="$(number kl_max)" -v middle="$(number kl_median)" -v same="$(number same_top)" \
    'BEGIN {exit !(mean > 0 && mean < 0.01 && middle > 0 && middle < most && mean < most && same > 0.9)}' ||
    complain "caches of 8 bits: $out"
out=$(launch 3 60 "$PIPESTEP" score "$model" -q "${rounded[@]}" --reference one.h5 --chunk 7)
same 'on three ranks' "$rounded_out" "$out"
ok score --tokens tokens.txt --reference one.h5
case $(tail -n 1 <<<"$out") in
'one.h5: 325 predictions, KL divergence 0 (median 0, 99 % 0, maximum 0), same likeliest token 100.000 %, perplexity '*' here, '*' there') ;;
*) complain "as text: $out" ;;
esac

# Without the first predictions of each.
head -n 1 tokens.txt >first.txt
tail -n 1 tokens.txt >>first.txt
ok score --tokens first.txt --json --skip 16 --logits late.h5
skipped=$out
h5_bytes=${PIPESTEP%/*}/tests/tools/h5_bytes
"$h5_bytes" one.h5 /0/logits | tail -c $((4 * 768 * 5)) >wanted
"$h5_bytes" late.h5 /0/logits | cmp - wanted || complain '--skip: other logits'
"$h5_bytes" one.h5 /3/logprob | tail -c $((4 * 284)) >wanted
"$h5_bytes" late.h5 /1/logprob | cmp - wanted || complain '--skip: other log-probabilities'
awk -F'[:,}]' '{w = exp(-$6 / ($4 - 17)); if ($8 / w > 1.000001 || $8 / w < 0.999999) exit 1}' <<<"$out" ||
    complain "--skip: perplexity is not that of the sum: $out"
ok score --tokens first.txt --json --skip 20 --reference late.h5
same '--skip: predictions' 280 "$(number predictions)"
same '--skip: divergence' 0 "$(number kl_max)"
out=$(launch 2 60 "$PIPESTEP" score "$model" -q --tokens first.txt --json --skip 16)
same '--skip on two ranks' "$skipped" "$out"

# ---- errors ----

fails 1 'one.h5: sequence 1 has 6 tokens, the one to score 301' score --tokens first.txt --reference one.h5
fails 1 'late.h5: begins at token 16 of each sequence, wanted 0 (--skip) or before' score --tokens first.txt --reference late.h5
fails 1 'tokens.txt: not an HDF5 file' score --tokens tokens.txt --reference tokens.txt
fails 1 'none.h5: cannot open' score --tokens tokens.txt --reference none.h5
fails 2 ':2: the sequence has 6 tokens, of which 6 are skipped' score --tokens tokens.txt --skip 6
echo 7 >single.txt
ok score --tokens single.txt --logits single.h5
fails 2 '--reference: no sequence has a token to predict' score --tokens single.txt --reference single.h5
cp one.h5 kept.h5
fails 2 'would overwrite what is read' score --tokens tokens.txt --logits one.h5 --reference one.h5
cmp one.h5 kept.h5 || complain 'the reference was overwritten'

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
