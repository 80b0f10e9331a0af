# Guidance: two sequences a sample, the same tokens whatever runs beside them and wherever; refusals.
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
launcher_for "$PIPESTEP" || exit 1
reel=$'X:1\nR:reel\nM:4/4\nL:1/8\nK:G\n'
generate() { pipestep generate "$model" -q --ids --prompt "$header" "$@"; }

# ---- what it is ----

# Away from itself is nowhere: U + S (C - U) is C where C and U are the same numbers.
for options in '' '--seed 3 --samples 2'; do
    read -ra words <<<"$options"
    ok generate -n 40 "${words[@]}"
    plain=$out
    ok generate -n 40 "${words[@]}" --guidance 3 --negative "$header"
    same "guidance away from the prompt $options" "$plain" "$out"
    ok generate -n 40 "${words[@]}" --guidance 3 --negative "$reel"
    [ "$out" != "$plain" ] || complain "guidance changes nothing: $options"
done
ok generate -n 40 --guidance 1
ok generate -n 40
same 'a scale of 1 is off' "$out" "$(generate -n 40 --guidance 1)"
ok generate -n 20 --guidance 2
same 'without a negative prompt' "$out" "$(generate -n 20 --guidance 2 --negative '')"

# ---- the same everywhere ----

all=(-n 60 --guidance 2.5 --negative "$reel" --seed 11 --samples 3 --top-p 0.9 --ignore-eos)
ok generate "${all[@]}"
wanted=$out
for options in '--chunk 1' '--chunk 7 --slots 2' '--slots 5 --threads 2' '--sampler-order hf --chunk 32'; do
    read -ra words <<<"$options"
    ok generate "${all[@]}" "${words[@]}"
    same "guidance with $options" "$wanted" "$out"
done
for options in '2 --chunk 5 --in-flight 1' '3 --slots 4 --in-flight 3' 4; do
    read -ra words <<<"$options"
    out=$(launch "${words[0]}" 60 "$PIPESTEP" generate "$model" -q --ids --prompt "$header" "${all[@]}" "${words[@]:1}" </dev/null)
    same "guidance, ranks and options $options" "$wanted" "$out"
done
# Penalties that see the prompt or not, before guidance or behind it.
ok generate "${all[@]}" --repetition-penalty 1.5
other=$out
ok generate "${all[@]}" --repetition-penalty 1.5 --sampler-order vllm
[ "$out" != "$other" ] || complain 'the order vllm changes nothing'

# ---- in a batch ----

jig='X:1\nR:jig\nM:6/8\nL:1/8\nK:D\n'
cat >requests.jsonl <<EOF
{"prompt": "$jig", "max_tokens": 20, "seed": 1}
{"prompt": "$jig", "max_tokens": 60, "seed": 11, "n": 3, "top_p": 0.9, "ignore_eos": true, "guidance_scale": 2.5, "negative_prompt": "X:1\nR:reel\nM:4/4\nL:1/8\nK:G\n"}
{"prompt": "$jig", "max_tokens": 20, "seed": 2}
{"prompt": "$jig", "max_tokens": 20, "temperature": 0, "guidance_scale": 2, "negative_prompt": []}
EOF
ok pipestep batch "$model" -q --in requests.jsonl --out results.jsonl
ids_of() { sed -n "$1p" results.jsonl | grep -o '"tokens": \[[^]]*\]' | sed 's/.*\[//; s/\]//; s/,//g'; }
# The tokens of a sample follow those of the prompt nowhere: the same lines as above.
same 'a batch with guidance' "$wanted" "$(ids_of 2)"
same 'an empty negative prompt fails alone' 1 "$(grep -c '"error"' results.jsonl)"
for slots in 2 3 9; do
    ok pipestep batch "$model" -q --in requests.jsonl --out again.jsonl --slots $slots --chunk 3
    cmp results.jsonl again.jsonl || complain "a batch of $slots slots: other results"
done
sed 's/X:1\\n//' <requests.jsonl >rest.jsonl
sed -i 's/"negative_prompt": "X:1\\n/"negative_prompt": "/' rest.jsonl
ok pipestep batch "$model" -q --in rest.jsonl --out prefixed.jsonl --prefix $'X:1\n'
same 'behind a prefix' "$(head -n 3 results.jsonl)" "$(head -n 3 prefixed.jsonl)"
ok pipestep batch "$model" -q --in rest.jsonl --out prefixed.jsonl --prefix $'X:1\n' --slots 2
same 'a slot too few' 2 "$(grep -c 'takes two slots, there is 1' prefixed.jsonl)"

# ---- what does not go together ----

fails 2 '--negative goes with --guidance above 1' pipestep generate "$model" --negative a
fails 2 '--guidance and --save-state exclude each other' pipestep generate "$model" --guidance 2 --save-state s.h5
fails 2 '--guidance and --load-state exclude each other' pipestep generate "$model" --guidance 2 --load-state s.h5
fails 2 'a sample with guidance takes two slots, there is 1' pipestep generate "$model" --guidance 2 --slots 1
fails 2 'guidance is set, but the sampler order does not name guidance' \
    pipestep generate "$model" --guidance 2 --sampler-order temperature
exit "$bad"
