# tokenize and detokenize: there and back, as lines of JSON too, and what is neither text nor ids.
# shellcheck disable=SC2094 # cmp reads what tokenize reads
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
tokenize() { pipestep tokenize "$model" -q "$@"; }
detokenize() { pipestep detokenize "$model" -q "$@"; }

printf '%s' "$header" >text
ok tokenize <text
same 'ids' '0 56 26 17 199 50 26 404 199 45 26 340 199 44 26 280 199 43 26 36 199' "$out"
ok tokenize --no-special <text
same '--no-special' '56 26 17 199 50 26 404 199 45 26 340 199 44 26 280 199 43 26 36 199' "$out"
tokenize --no-special <text | detokenize | cmp - text || complain 'there and back'
tokenize <text | detokenize --skip-special | cmp - text || complain 'there and back, control tokens skipped'
same 'control tokens are shown' '<|endoftune|>X' "$(echo 0 56 | detokenize)"
printf '\xc3\xa9\xf0\x9f\x8e\xb5 \xce\xa9\n' >unicode
tokenize --no-special <unicode | detokenize | cmp - unicode || complain 'there and back beyond ASCII'
head -c 200000 /dev/zero | tr '\0' 'a' >long
tokenize --no-special <long | detokenize | cmp - long || complain 'there and back, long'
same 'no text' 0 "$(tokenize </dev/null)"
same 'no text, nothing added' '' "$(tokenize --no-special </dev/null)"
same 'no ids' '' "$(detokenize </dev/null)"

printf '%s\n' '"X:1\nR:jig\n"' '""' '"a\u0000b \ud83c\udfb5 \"\\"' >lines
ok tokenize --no-special --jsonl <lines
same 'lines of ids' 3 "$(wc -l <<<"$out")"
same 'a line of ids' '[56, 26, 17, 199, 50, 26, 404, 199]' "$(head -n 1 <<<"$out")"
same 'an empty line' '[]' "$(sed -n 2p <<<"$out")"
detokenize --jsonl <<<"$out" >back
tokenize --no-special --jsonl <back | cmp - <(echo "$out") || complain "lines there and back: $(<back)"
for np in 1 3; do
    launch $np 60 "$PIPESTEP" tokenize "$model" -q <text >many
    same "$np ranks" "$(tokenize <text)" "$(<many)"
done

# A tokenizer without a model.
"$tiny_model" --tokenizer hf
ok pipestep convert hf -o hf.h5 -q
ids=$(pipestep tokenize hf.h5 --no-special -q <text)
for place in hf hf/tokenizer.json; do
    ok pipestep tokenize "$place" --no-special -q <text
    same "$place" "$ids" "$out"
done

# ---- errors ----

input() { printf '%b' "$1" >input; }
input 'ab\xff'
fails 1 'standard input: not UTF-8: byte 2 is 0xff' tokenize <input
fails 1 'standard input: not UTF-8: byte 2 is 0xff' tokenize --no-special <input
input '"a"\n"b\n'
fails 1 'standard input:2: not valid JSON: column ' tokenize --jsonl <input
input '5\n'
fails 1 'standard input:1: not a JSON string' tokenize --jsonl <input
input '"\xff"\n'
fails 1 'standard input:1: not valid JSON: column 1: unable to decode byte 0xff' tokenize --jsonl <input
input '5 x\n'
fails 1 'standard input:1: "x" at column 3 is not a token id' detokenize <input
input '5\n768\n'
fails 1 'standard input:2: token id 768, the vocabulary has 0..767' detokenize <input
input '[5, 768]\n'
fails 1 'standard input:1: token id 768, the vocabulary has 0..767' detokenize --jsonl <input
for line in '[5' '5' '[1.5]' '[-1]' '["5"]' '[99999999999]'; do
    input "$line"
    fails 1 'standard input:1: not a JSON array of token ids' detokenize --jsonl <input
done
"$tiny_model" bare.h5
fails 2 'bare.h5: this model has no tokenizer' pipestep tokenize bare.h5 -q <text
fails 1 'none.json: cannot open: No such file or directory' pipestep tokenize none.json -q <text
echo '{' >broken.json
fails 1 'broken.json: not valid JSON' pipestep tokenize broken.json -q <text
echo '{}' >broken.json
fails 1 'broken.json: ' pipestep tokenize broken.json -q <text
fails 1 'standard input: cannot read: Is a directory' tokenize </
exit "$bad"
