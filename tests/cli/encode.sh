# encode: an encoder's vectors as HDF5, the same bytes on any number of ranks, whole and streamed; what is refused.
# shellcheck disable=SC2015 # complain where the one or the other fails
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
h5_bytes=${PIPESTEP%/*}/tests/tools/h5_bytes
lyric=$TOP/tests/golden/acestep/lyric-encoder/a

ok pipestep convert "$lyric" -o lyric.h5 -q
encode() { pipestep encode lyric.h5 -q "$@"; }
{
    seq -s' ' 1 40
    echo 5
    seq -s, 20 59
    seq -s' ' 0 119
} >tokens.txt

# ---- what is written ----

ok encode --tokens tokens.txt --out one.h5
same 'standard output' '' "$out"
for i in 0:40 1:1 2:40 3:120; do
    same "${i%:*}: ids" $((4 * ${i#*:})) "$("$h5_bytes" one.h5 "/${i%:*}/ids" | wc -c)"
    same "${i%:*}: hidden" $((4 * 64 * ${i#*:})) "$("$h5_bytes" one.h5 "/${i%:*}/hidden" | wc -c)"
    same "${i%:*}: output" $((4 * 80 * ${i#*:})) "$("$h5_bytes" one.h5 "/${i%:*}/output" | wc -c)"
done
"$h5_bytes" one.h5 /0/mask 2>/dev/null && complain 'a mask that was not given'

# A directory is converted on the way; sequences do not know of each other.
ok pipestep encode "$lyric" -q --tokens tokens.txt --out direct.h5
cmp one.h5 direct.h5 || complain 'from the directory: other vectors'
sed -n 4p tokens.txt >fourth.txt
ok encode --tokens fourth.txt --out fourth.h5
cmp <("$h5_bytes" one.h5 /3/hidden /3/output) <("$h5_bytes" fourth.h5 /0/hidden /0/output) ||
    complain 'the fourth sequence alone: other vectors'

for run in '2 --slots 1' '3 --threads 1' '2 --in-flight 1 --chunk 120'; do
    read -r np words <<<"$run"
    read -ra words <<<"$words"
    launch "$np" 60 "$PIPESTEP" encode lyric.h5 -q --tokens tokens.txt --out many.h5 "${words[@]}" ||
        complain "$run: exit status $?"
    cmp one.h5 many.h5 || complain "$run: other vectors"
done

# ---- padding ----

# Rows of a padded sequence are those of the sequence alone.
{
    echo "$(seq -s' ' 1 40) 0 0 0 0 0 0 0"
    echo '5 0 0'
} >padded.txt
{
    echo "$(yes 1 | head -n 40 | paste -sd' ') 0 0 0 0 0 0 0"
    echo '1 0 0'
} >mask.txt
ok encode --tokens padded.txt --mask mask.txt -o padded.h5
for i in 0:40 1:1; do
    for part in hidden:64 output:80; do
        bytes=$((4 * ${part#*:} * ${i#*:}))
        cmp <("$h5_bytes" one.h5 "/${i%:*}/${part%:*}") \
            <("$h5_bytes" padded.h5 "/${i%:*}/${part%:*}" | head -c $bytes) ||
            complain "padded sequence ${i%:*}: other ${part%:*}"
    done
done
same 'mask' '1 0 0' "$("$h5_bytes" padded.h5 /1/mask | od -An -td4 | xargs)"
launch 3 60 "$PIPESTEP" encode lyric.h5 -q --tokens padded.txt --mask mask.txt --out masked.h5
cmp padded.h5 masked.h5 || complain 'with a mask on three ranks: other vectors'
# Nothing but padding: numbers all the same.
echo '0 0 0' >none.txt
ok encode --tokens none.txt --mask none.txt -o none.h5

# ---- streamed ----

ok encode --tokens tokens.txt --stream 16 -o stream.h5
cmp <("$h5_bytes" one.h5 /3/output) <("$h5_bytes" stream.h5 /3/output) >/dev/null &&
    complain '--stream changes nothing'
cmp <("$h5_bytes" one.h5 /1/output) <("$h5_bytes" stream.h5 /1/output) || complain 'a single token sees itself alone'
for words in '--chunk 1' '--chunk 7' '--chunk 50 --slots 1'; do
    read -ra list <<<"$words"
    ok encode --tokens tokens.txt --stream 16 -o chunks.h5 "${list[@]}"
    cmp stream.h5 chunks.h5 || complain "--stream 16 $words: other vectors"
done
launch 3 60 "$PIPESTEP" encode lyric.h5 -q --tokens tokens.txt --out chunks.h5 --stream 16 --chunk 9
cmp stream.h5 chunks.h5 || complain '--stream 16 on three ranks: other vectors'
# A stream is as long as it likes, whatever the messages hold.
seq 0 9999 | awk '{printf "%d ", $1 % 120} END {print ""}' >long.txt
ok encode --tokens long.txt --stream 16 -o long.h5
same 'a long stream' $((10000 * 80 * 4)) "$("$h5_bytes" long.h5 /0/output | wc -c)"

# ---- every layer, on the ranks that have them ----

for np in 2 3; do
    golden=$(cd "$TOP" && PS_GOLDEN=tests/golden/acestep GOLDEN_NP=$np "${PIPESTEP%/*}/tests/tools/golden" "$PIPESTEP")
    case $golden in
    *' 0 failed') ;;
    *) complain "reference data on $np ranks: $golden" ;;
    esac
done

# ---- refusals ----

echo hold >kept.h5
fails 1 'tokens.txt:4: the sequence has 120 tokens, but one whose tokens see all others goes in one message, of 64 tokens' \
    encode --tokens tokens.txt --chunk 64 -o kept.h5
fails 1 'long.txt:1: the sequence has 10000 tokens' encode --tokens long.txt -o kept.h5
printf '1 2\n3 120\n' >beyond.txt
fails 2 'beyond.txt:2: token 1 is 120, the vocabulary has 0..119' encode --tokens beyond.txt -o kept.h5
printf '1 2\n\n3\n' >empty.txt
fails 2 'empty.txt:2: the sequence is empty' encode --tokens empty.txt -o kept.h5
: >nothing.txt
fails 1 'nothing.txt: holds no sequence' encode --tokens nothing.txt -o kept.h5
printf '1 2 x\n' >words.txt
fails 1 'words.txt:1: "x" at column 5 is not a token id' encode --tokens words.txt -o kept.h5
fails 1 'mask.txt: has 2 lines, tokens.txt has 4' encode --tokens tokens.txt --mask mask.txt -o kept.h5
fails 1 'none.txt:1: 3 numbers for the 120 tokens of fourth.txt:1' encode --tokens fourth.txt --mask none.txt -o kept.h5
echo '1 2 1' >twos.txt
fails 1 'twos.txt:1: number 1 is 2, wanted 0 or 1' encode --tokens none.txt --mask twos.txt -o kept.h5
fails 2 '--tokens FILE is missing' encode -o kept.h5
fails 2 '--out OUT.h5 is missing' encode --tokens tokens.txt
fails 2 '--out tokens.txt: would overwrite what is read' encode --tokens tokens.txt -o tokens.txt
fails 2 '--out lyric.h5: would overwrite what is read' encode --tokens tokens.txt -o lyric.h5
fails 2 "the model's queries look ahead" encode --tokens tokens.txt --window 16 -o kept.h5
fails 1 'no/out.h5' encode --tokens tokens.txt -o no/out.h5
same 'what was there' hold "$(<kept.h5)"
for f in ./*.h5.*; do [ -e "$f" ] && complain "$f is left behind"; done

# An encoder predicts nothing, and a language model encodes nothing.
fails 2 'lyric.h5: is an encoder, which predicts no tokens: use encode' pipestep generate lyric.h5 -q --prompt a
fails 2 'lyric.h5: is an encoder' pipestep score lyric.h5 -q --tokens tokens.txt
echo '{"prompt": "a"}' >requests.jsonl
fails 2 'lyric.h5: is an encoder' pipestep batch lyric.h5 -q -i requests.jsonl -o kept.h5
fails 2 'tunes.h5: is no encoder' pipestep encode "$model" -q --tokens tokens.txt -o kept.h5
launch 2 60 "$PIPESTEP" score lyric.h5 -q --tokens tokens.txt 2>ranks.err
same 'exit status on two ranks' 2 $?
grep -q 'is an encoder' ranks.err || complain "on two ranks: $(<ranks.err)"
exit "$bad"
