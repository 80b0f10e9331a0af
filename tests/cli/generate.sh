# generate: what is printed in which form, how it ends, and every way to steer the draws.
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
generate() { pipestep generate "$model" -q "$@"; }

# ---- forms ----

ok generate --prompt "$header" -n 40 --ids
ids=$out
same 'forty ids' 40 "$(wc -w <<<"$ids")"
ok generate --prompt "$header" -n 40
text=$out
# Both forms are the same tokens.
same 'ids and text' "$text" "$(pipestep detokenize "$model" --skip-special -q <<<"$ids")"
ok generate --prompt "$header" -n 40 --echo
same 'echo' "$header$text" "$out"
printf '%s' "$header" >prompt.txt
ok generate --prompt-file prompt.txt -n 40
same 'prompt file' "$text" "$out"
out=$(generate --prompt-file - -n 40 <prompt.txt)
same 'prompt from standard input' "$text" "$out"
prompt=$(pipestep tokenize "$model" -q <prompt.txt)
printf '%s\nmore lines are not looked at\n' "$prompt" >tokens.txt
ok generate --tokens tokens.txt -n 40 --ids
same '--tokens' "$ids" "$out"
ok generate --tokens tokens.txt -n 3 --ids --echo
same '--ids --echo' "$prompt $(cut -d' ' -f1-3 <<<"$ids")" "$out"
# Nothing is added to tokens: without the token that begins a tune the text is another.
cut -d' ' -f2- tokens.txt >bare.txt
ok generate --tokens bare.txt -n 1 --json
case $out in *'"prompt_tokens": 20,'*) ;; *) complain "--tokens added something: $out" ;; esac
ok generate --prompt "$header" -n 0
same '-n 0' '' "$out"
ok generate -n 4
same 'no prompt' X:1 "${out:0:3}"

for np in 1 2 4; do
    out=$(launch $np 60 "$PIPESTEP" generate "$model" -q --prompt "$header" -n 40 --ids)
    same "$np ranks" "$ids" "$out"
done

# ---- ends ----

ok generate --prompt "$header" -n 2000 --seed 9
[ ${#out} -lt 2000 ] || complain 'a tune does not end'
ok generate --prompt "$header" -n 600 --seed 9 --ignore-eos --ids
same '--ignore-eos' 600 "$(wc -w <<<"$out")"
ok generate --prompt "$header" -n 600 --logit-bias 0:100 --ids
same 'an end token' 0 "$out"
ok generate --prompt "$header" -n 600 --logit-bias 0:100 --min-tokens 50 --ids
same '--min-tokens' 51 "$(wc -w <<<"$out")"
ok generate --prompt "$header" -n 600 --stop '|e2e' --stop none
same '--stop' "${text%%|e2e*}" "$out"
# --ctx bounds a sequence, and changes nothing before.
ok generate --prompt "$header" -n 40 --ctx 30 --ids
same '--ctx' "$(cut -d' ' -f1-10 <<<"$ids")" "$out"
fails 1 'the prompt has 21 tokens, the context 5' generate --prompt "$header" --ctx 5
# No end: the reader decides, and text comes before the end of it.
generate -n -1 --ignore-eos --seed 3 | head -n 40 >endless.txt
same 'status when the reader leaves' '4 0' "${PIPESTATUS[*]}"
same 'lines of an endless run' 40 "$(wc -l <endless.txt)"

# ---- draws ----

ok generate --prompt "$header" -n 40 --seed 5
drawn=$out
[ "$drawn" != "$text" ] || complain '--seed draws nothing'
ok generate --prompt "$header" -n 40 --seed 5 --temperature 1
same 'temperature 1 is the default of a draw' "$drawn" "$out"
ok generate --prompt "$header" -n 40 --seed 5 --temperature 0
same 'temperature 0' "$text" "$out"
for one in '--top-k 1' '--top-p 0' '--min-p 1' '--typical 1e-9 --top-k 1'; do
    read -ra words <<<"$one"
    ok generate --prompt "$header" -n 40 --seed 5 "${words[@]}"
    same "$one leaves the likeliest token" "$text" "$out"
done
for changed in '--top-k 3' '--top-p 0.5' '--min-p 0.3' '--typical 0.3' '--temperature 0.3' '--repetition-penalty 3' \
    '--presence-penalty 3' '--frequency-penalty 3' '--ban 33' '--logit-bias 33:-50' '--seed 6'; do
    read -ra words <<<"$changed"
    case $changed in --seed*) ;; *) words+=(--seed 5) ;; esac
    ok generate --prompt "$header" -n 40 "${words[@]}"
    [ "$out" != "$drawn" ] || complain "$changed changes nothing"
done
ok generate --prompt "$header" -n 200 --seed 5 --ban 92 --ban 257 --ids --ignore-eos
case " $out " in *' 92 '* | *' 257 '*) complain "a banned token: $out" ;; esac
ok generate --prompt "$header" -n 40 --seed 5 --temperature 0.5 --top-p 0.9 --sampler-order llama
llama=$out
ok generate --prompt "$header" -n 40 --seed 5 --temperature 0.5 --top-p 0.9 --sampler-order hf
[ "$out" != "$llama" ] || complain '--sampler-order changes nothing'
ok generate --prompt "$header" -n 40 --seed 5 --temperature 0.5 --top-p 0.9 --sampler-order top_p,temperature
same 'an order by names' "$llama" "$out"
ok generate --prompt "$header" -n 40 --samples 3 --seed 5 --ids
same 'three samples' 3 "$(wc -l <<<"$out")"
same 'different samples' 3 "$(sort -u <<<"$out" | wc -l)"
first=$(head -n 1 <<<"$out")
ok generate --prompt "$header" -n 40 --seed 5 --ids
same 'the first of three' "$out" "$first"
ok generate --prompt "$header" -n 2 --seed 5 --json --logprobs 3
same 'likeliest tokens' 6 "$(grep -o '"logprob": -' <<<"$out" | wc -l)"
same 'chosen tokens' 1 "$(grep -c '"token_logprobs": \[-[0-9.]*, -[0-9.]*\]' <<<"$out")"
# A seed that was not given is told.
pipestep generate "$model" --top-k 5 -n 10 >told.txt 2>told.err
seed=$(sed -n 's/^pipestep: seed \([0-9]*\)$/\1/p' told.err)
ok generate --top-k 5 -n 10 --seed "${seed:-none}"
same 'the seed that was told' "$(<told.txt)" "$out"

# ---- what cannot be a prompt ----

fails 1 '--prompt: not UTF-8: byte 1 is 0xff' generate --prompt $'a\xffb'
printf 'abc\xc3' >bad.txt
fails 1 'bad.txt: not UTF-8: byte 3 is 0xc3' generate --prompt-file bad.txt
fails 1 'none.txt: cannot open: No such file or directory' generate --prompt-file none.txt
fails 1 '.: is a directory, wanted a file' generate --prompt-file .
fails 2 'prompt token 1 is 768, the vocabulary has 0..767' generate --tokens <(echo 5 768)
fails 1 '"9x" at column 3 is not a token id' generate --tokens <(echo 5 9x)
fails 1 'is not a token id' generate --tokens <(echo 99999999999999999999)
fails 2 'the prompt is empty' generate --tokens /dev/null
fails 2 'banned: token 768, wanted 0 to 767' generate --ban 768
fails 2 'stop: string 1 is empty' generate --stop ''
"$tiny_model" --tokenizer --context 40 hf && pipestep convert hf -o small.h5 -q
"$tiny_model" bare.h5
fails 1 'the prompt has 101 tokens, the context 40' pipestep generate small.h5 -q --prompt "$(printf 'a%.0s' {1..100})"
fails 2 'bare.h5: has no tokenizer: give token ids (--tokens)' pipestep generate bare.h5 -q --prompt a
exit "$bad"
