# batch: results in the order of the requests, whatever the others are; a bad line fails alone.
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
batch() { pipestep batch "$model" -q "$@"; }

# result N TEXT: what stands in line N of the results.
result() {
    local line
    line=$(sed -n "$1p" results.jsonl)
    case $line in *"$2"*) ;; *) complain "result $1: no '$2' in ${line:0:300}" ;; esac
}

# ---- good requests ----

jig='X:1\nR:jig\nM:6/8\nL:1/8\nK:D\n'
cat >requests.jsonl <<EOF
{"id": "a", "prompt": "$jig", "max_tokens": 40, "temperature": 0}
{"id": [1, {"k": null}], "prompt": "$jig", "max_tokens": 40, "seed": 5}

{"tokens": [56, 26, 17], "max_tokens": 3, "temperature": 0, "model": "m", "user": "u"}
{"prompt": [56, 26, 17], "max_tokens": 3, "temperature": 0, "logprobs": 2}
{"id": "drawn", "prompt": "$jig", "n": 3, "stop": ["|", "none"], "top_k": 20, "top_p": 0.9, "min_p": 0.01, "typical_p": 0.99}
{"prompt": "$jig", "max_tokens": 40, "seed": 5, "temperature": 0.5, "top_p": 0.9, "sampler_order": "llama"}
{"prompt": "$jig", "max_tokens": 40, "temperature": 0, "banned": [33], "repetition_penalty": 1.1, "repeat_last_n": 8}
{"prompt": "$jig", "max_tokens": 60, "temperature": 0, "logit_bias": {"0": 100}, "min_tokens": 50}
{"prompt": "$jig", "max_tokens": 60, "temperature": 0, "logit_bias": {"0": 100}, "ignore_eos": true}
{"prompt": "$jig", "max_tokens": 0, "seed": null, "stop": null}
{"prompt": "$jig", "presence_penalty": 1, "frequency_penalty": 0.5, "logprobs": false}
EOF
ok batch --in requests.jsonl --out results.jsonl
same 'nothing on standard output' '' "$out"
same 'a result a request' 11 "$(wc -l <results.jsonl)"
same 'no error' 0 "$(grep -c '"error"' results.jsonl)"
result 1 '{"id": "a", "choices": [{"index": 0, "text": "A|d2d dcd|'
result 2 '{"id": [1,{"k":null}], "choices"'
result 4 '"logprobs": {"token_logprobs": ['
result 5 '{"index": 2, "text": "'
result 8 '"completion_tokens": 51,'
result 9 '"completion_tokens": 60,'
result 10 '"text": "", "tokens": [], "finish_reason": "length"'
result 11 '"completion_tokens": 16,'
ids_of() { sed -n "$1p" results.jsonl | grep -o '"tokens": \[[^]]*\]' | head -n 1; }
same 'tokens and a prompt of ids' "$(ids_of 3)" "$(ids_of 4)"
# The same as generate makes, line by line.
text_of() { sed -n "$1p" results.jsonl | sed 's/.*"text": "\([^"]*\)".*/\1/'; }
for pair in '1:--temperature 0' '2:--seed 5' '6:--seed 5 --temperature 0.5 --top-p 0.9 --sampler-order llama' \
    '7:--temperature 0 --ban 33 --repetition-penalty 1.1 --repeat-last-n 8'; do
    read -ra words <<<"${pair#*:}"
    ok pipestep generate "$model" -q --prompt "$header" -n 40 "${words[@]}"
    same "generate ${pair#*:}" "$out" "$(printf '%b' "$(text_of "${pair%%:*}")")"
done
for np in 1 3; do
    launch $np 60 "$PIPESTEP" batch "$model" -q --in requests.jsonl --out $np.jsonl
    cmp results.jsonl $np.jsonl || complain "$np ranks: other results"
done
ok batch --in requests.jsonl --out one-slot.jsonl --slots 1
cmp results.jsonl one-slot.jsonl || complain 'one slot: other results'
batch --in - --out - <requests.jsonl | cmp - results.jsonl || complain 'standard input and output: other results'
ok batch --in requests.jsonl --out seed.jsonl --seed 1
cmp -s results.jsonl seed.jsonl && complain '--seed changes nothing'
ok batch --in /dev/null --out empty.jsonl
same 'no request, no result' 0 "$(wc -c <empty.jsonl)"

# ---- bad lines among good ones ----

deep=$(printf '[%.0s' {1..3000})
bad_lines=(
    '{"prompt": "a"|not valid JSON'
    'not json|not valid JSON'
    '[1]|the line is not a JSON object'
    '{}|wanted one of'
    '{"prompt": "a", "tokens": [1]}|wanted one of'
    '{"prompt": null}|is not a text or an array of token ids'
    '{"prompt": ["a", "b"]}|entry 0 is not a token id'
    '{"tokens": "1"}|is not an array of token ids'
    '{"tokens": [1, 1.5]}|entry 1 is not a token id'
    '{"tokens": [768]}|prompt token 0 is 768, the vocabulary has 0..767'
    '{"tokens": []}|the prompt is empty'
    '{"prompt": "a", "prompt": "b"}|duplicate object key'
    '{"prompt": "a", "tmperature": 1}|did you mean \"temperature\"?'
    '{"prompt": "a", "echo": true}|unknown key \"echo\"'
    '{"prompt": "a", "max_tokens": "9"}|max_tokens is a string, wanted an integer'
    '{"prompt": "a", "max_tokens": -1}|max_tokens is -1, wanted 0..2147483647'
    '{"prompt": "a", "max_tokens": 99999999999999999999}|too big integer'
    '{"prompt": "a", "max_tokens": 1.5}|max_tokens is a number, wanted an integer'
    '{"prompt": "a", "n": 0}|n is 0, wanted 1..1024'
    '{"prompt": "a", "temperature": -1}|temperature is -1'
    '{"prompt": "a", "temperature": 1e999}|real number overflow'
    '{"prompt": "a", "temperature": NaN}|not valid JSON'
    '{"prompt": "a", "temperature": true}|temperature is a boolean'
    '{"prompt": "a", "top_p": 2}|top_p is 2, wanted 0 to 1'
    '{"prompt": "a", "top_k": -1}|top_k is -1'
    '{"prompt": "a", "typical_p": 0}|typical_p is 0'
    '{"prompt": "a", "repetition_penalty": 0}|repetition_penalty is 0'
    '{"prompt": "a", "seed": -1}|seed is -1, wanted 0 or more'
    '{"prompt": "a", "seed": "x"}|seed is a string'
    '{"prompt": "a", "stop": [1]}|neither a text nor an array of texts'
    '{"prompt": "a", "stop": ["x", ""]}|stop: string 2 is empty'
    '{"prompt": "a", "logprobs": 21}|logprobs is 21, wanted 0..20'
    '{"prompt": "a", "logit_bias": {"x": 1}}|is not a token id with a number'
    '{"prompt": "a", "logit_bias": {"768": 1}}|token 768, wanted 0 to 767'
    '{"prompt": "a", "logit_bias": [1]}|logit_bias is an array, wanted an object'
    '{"prompt": "a", "banned": ["x"]}|entry 0 is not a token id'
    '{"prompt": "a", "sampler_order": "topk"}|no step is named \"topk\"'
    '{"prompt": "a", "ignore_eos": 1}|ignore_eos is an integer, wanted a boolean'
    '{"prompt": "\ud800"}|invalid Unicode'
    "{\"id\": $deep|maximum parsing depth"
)
good='{"prompt": "X:1", "max_tokens": 1, "temperature": 0}'
all="{\"prompt\": \"a\", \"banned\": [$(seq -s, 0 767)]}"
{
    for entry in "${bad_lines[@]}"; do
        printf '%s\n%s\n' "${entry%|*}" "$good"
    done
    printf '%s\n' "$all"
    printf '{"prompt": "a\0b"}\n\0\n{"prompt": "\xff"}\n'
    printf '{"prompt": "%s", "max_tokens": 1}\n' "$(head -c 2000000 /dev/zero | tr '\0' a)"
    printf '%s\r\n' "$good"
    printf '%s' "$good" # no line end
} >bad.jsonl
ok batch --in bad.jsonl --out results.jsonl --ctx 100
n=${#bad_lines[@]}
same 'results' $((2 * n + 7)) "$(wc -l <results.jsonl)"
for ((i = 0; i < n; i++)); do
    result $((2 * i + 1)) "${bad_lines[i]##*|}"
    result $((2 * i + 1)) "\"line\": $((2 * i + 1)), \"error\": {\"type\": \""
    result $((2 * i + 2)) '"finish_reason": "length"'
done
result $((2 * n + 1)) 'banned: all 768 tokens, none is left'
result $((2 * n + 2)) 'control character 0x0'
result $((2 * n + 3)) 'not valid JSON'
result $((2 * n + 4)) 'unable to decode byte 0xff'
result $((2 * n + 5)) 'tokens, the context 100'
result $((2 * n + 6)) '"finish_reason": "length"'
result $((2 * n + 7)) '"finish_reason": "length"'
pipestep batch "$model" --in bad.jsonl --out results.jsonl --ctx 100 2>log
grep -q "^pipestep: warning: $((n + 5)) of $((2 * n + 7)) requests could not run" log || complain "no warning: $(<log)"

# ---- a common prefix: the results of requests that hold it, and it is computed once ----

for ((i = 1; i <= 9; i++)); do
    printf '{"prompt": "K:D\\n%d", "max_tokens": 90, "seed": %d, "n": %d}\n' $((i * i)) "$i" $((i % 3 + 1))
done >rest.jsonl
echo '{"tokens": [26, 17, 30], "max_tokens": 70, "temperature": 0}' >>rest.jsonl
echo '{"prompt": "", "max_tokens": 9, "temperature": 0}' >>rest.jsonl
printf 'X:1\nR:jig\nM:6/8\nL:1/8\n' >prefix.txt
prefix=$(pipestep tokenize "$model" -q <prefix.txt)
while read -r line; do
    case $line in
    *'"prompt": '*) own=$(printf '%s\n' "$line" | sed 's/.*"prompt": "\([^"]*\)".*/\1/' | xargs -0 printf '%b' | head -c -1 |
        pipestep tokenize "$model" -q --no-special) ;;
    *) own='26 17 30' ;;
    esac
    printf '%s\n' "$line" |
        sed "s/\"\(prompt\|tokens\)\": \(\"[^\"]*\"\|\[[^]]*\]\)/\"tokens\": [$(xargs <<<"$prefix $own" | tr ' ' ,)]/"
done <rest.jsonl >whole.jsonl
ok batch --in whole.jsonl --out whole.out
for slots in 0 2 7; do
    ok batch --in rest.jsonl --out rest.out --prefix-file prefix.txt --slots $slots --report report.json
    cmp -s rest.out whole.out || complain "results behind a prefix, $slots slots: $(diff rest.out whole.out | head -c 600)"
done
ok launch 3 60 "$PIPESTEP" batch "$model" -q --in rest.jsonl --out rest.out --prefix "$(<prefix.txt)"$'\n'
cmp -s rest.out whole.out || complain 'results behind a prefix on 3 ranks'
grep -q '"prefix_tokens": 17, "shared_prompt_tokens": 170,' report.json || complain "report: $(sed -n 5,6p report.json)"
fails 2 '--prefix and --prefix-file exclude each other' batch --in rest.jsonl --out x --prefix a --prefix-file b
fails 2 '--slots 1 leaves none' batch --in rest.jsonl --out x --prefix a --slots 1
fails 2 '--prefix-file and --in cannot both be standard input' batch --in - --out x --prefix-file -

# ---- files ----

cp requests.jsonl kept.jsonl
ln -s requests.jsonl link.jsonl
fails 2 'would overwrite the requests' batch --in requests.jsonl --out ./requests.jsonl
fails 2 'would overwrite the requests' batch --in requests.jsonl --out link.jsonl
cmp requests.jsonl kept.jsonl || complain 'the requests were changed'
fails 1 'none.jsonl: cannot open: No such file or directory' batch --in none.jsonl --out x
fails 1 '.: is a directory, wanted a file' batch --in . --out x
fails 1 'no/x: cannot be created: No such file or directory' batch --in requests.jsonl --out no/x
fails 1 '.: cannot be created: Is a directory' batch --in requests.jsonl --out .
fails 1 '/dev/full: cannot write: No space left on device' batch --in requests.jsonl --out /dev/full
fails 1 'standard output: cannot write: No space left on device' bash -c "'$PIPESTEP' batch -q --in requests.jsonl --out - >/dev/full"
exit "$bad"
