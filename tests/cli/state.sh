# --save-state and --load-state: a run that was stopped goes on with the same tokens and bytes on any number of ranks,
# whatever the sampler remembers and the text holds back; states that do not fit are refused.
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
launcher_for "$PIPESTEP" || exit 1

# run RANKS ARG ...: generate on so many ranks.
run() {
    local ranks=$1
    shift
    if [ "$ranks" -eq 1 ]; then
        pipestep generate "$@" -q 2>log
    else
        launch "$ranks" 60 "$PIPESTEP" generate "$@" -q 2>log </dev/null
    fi || complain "$ranks ranks, $*: exit status $?: $(cat log)"
}

# in_parts MODEL RANKS_1 N_1 RANKS_2 N_2 RANKS_3 N_3 ARG ...: three runs, each going on from the one before, print what
# one run prints.
in_parts() {
    local model=$1 r1=$2 n1=$3 r2=$4 n2=$5 r3=$6 n3=$7
    shift 7
    run 1 "$model" -n $((n1 + n2 + n3)) "$@" >whole
    run "$r1" "$model" -n "$n1" --save-state 1.h5 "$@" >part1
    run "$r2" "$model" -n "$n2" --load-state 1.h5 --save-state 2.h5 >part2
    run "$r3" "$model" -n "$n3" --load-state 2.h5 --chunk 3 --threads 2 >part3
    cat part1 part2 part3 | cmp -s - whole || complain "$model $n1 $n2 $n3 $*: $(cat whole) / $(cat part1) / \
$(cat part2) / $(cat part3)"
}

# ---- the tunes model: every way the sampler remembers, past its windows ----

in_parts "$model" 2 150 3 40 1 80 --prompt "$header" --seed 3 --ignore-eos
mv 1.h5 first.h5
mv 2.h5 second.h5
in_parts "$model" 1 1 2 1 3 70 --prompt "$header" --ignore-eos
in_parts "$model" 3 77 1 1 2 9 --seed 5 --ignore-eos --repetition-penalty 1.4 --presence-penalty 0.5
in_parts "$model" 1 64 3 65 2 10 --seed 6 --ignore-eos --frequency-penalty 0.7 --repeat-last-n 20 --top-p 0.9
in_parts "$model" 2 300 1 20 1 20 --seed 7 --ignore-eos --min-p 0.05 --logit-bias 33:-1.5 --ban 40 --sampler-order llama
# An end token that is not allowed before the 60th token is counted over all three.
in_parts "$model" 1 20 2 20 1 200 --logit-bias 0:100 --min-tokens 60 --seed 8

# Text that a stop string holds back belongs to the run in which it is shown: cuts at 20 places, each with a stop string
# that has begun there.
run 1 "$model" --prompt "$header" --seed 4 --ignore-eos -n 90 --ids >ids
for cut in 3 4 5 6 7 8 9 11 13 17 19 23 29 31 35 41 43 47 53 59; do
    cut -d ' ' -f "$((cut - 1))-$((cut + 1))" ids | pipestep detokenize "$model" --skip-special -q >tail.txt
    in_parts "$model" $((cut % 7 ? 1 : 3)) $cut $((cut % 5 ? 1 : 2)) 2 1 8 --prompt "$header" --seed 4 --ignore-eos \
        --stop "$(cat tail.txt)~" --stop "never seen"
done
held=0
run 1 "$model" --prompt "$header" --seed 4 --ignore-eos -n 59 >shown
run 1 "$model" --prompt "$header" --seed 4 --ignore-eos -n 59 --stop "$(tail -c 3 shown)~" --save-state s.h5 >less
held=$(($(wc -c <shown) - $(wc -c <less)))
same 'bytes held back' 3 $held
# The stop string is completed by the run that goes on, in the bytes that were held back.
run 1 "$model" --prompt "$header" --seed 4 --ignore-eos -n 70 >shown
stop=$(head -c $(($(wc -c <less) + 8)) shown | tail -c 8)
run 1 "$model" --prompt "$header" --seed 4 --ignore-eos -n 59 --stop "$stop" --save-state s.h5 >part1
run 3 "$model" --load-state s.h5 -n 50 >part2
same 'a stop string over two runs' "$(head -c "$(wc -c <less)" shown)" "$(cat part1 part2)"

# ---- characters of several tokens, relative positions, layers without a window; caches of other types ----

"$tiny_model" --family relpos_llama --layers 5 --windows 9,0,70,2 --tokenizer --seed 5 tiny.h5 || complain 'no model'
for cut in 1 2 3 4 5 6 7 8 90; do
    in_parts tiny.h5 $((cut % 4 ? 1 : 3)) $cut 1 1 $((cut % 3 ? 1 : 2)) 70 --prompt a --seed $cut --ignore-eos
done
run 1 "$model" --prompt "$header" --seed 9 --ignore-eos --cache-k q8_0 --cache-v f16 --keep-first 0 -n 200 >whole
run 2 "$model" --prompt "$header" --seed 9 --ignore-eos --cache-k q8_0 --cache-v f16 -n 100 --save-state q.h5 >part1
run 3 "$model" --cache-k q8_0 --cache-v f16 -n 100 --load-state q.h5 >part2
cat part1 part2 | cmp -s - whole || complain 'caches of other types'

# ---- endless, and JSON ----

run 1 "$model" --seed 3 --ignore-eos -n 100 --save-state e.h5 >part1
run 1 "$model" --seed 3 --ignore-eos -n 3000 >whole
timeout 60 "$PIPESTEP" generate "$model" -n -1 --load-state e.h5 -q 2>log | head -c 3000 >part2
cat part1 part2 | head -c 3000 | cmp -s - <(head -c 3000 whole) || complain 'an endless run from a state'
run 1 "$model" --prompt "$header" -n 30 --ids >whole
run 1 "$model" --prompt "$header" -n 10 --save-state j.h5 --json >part1
run 2 "$model" -n 20 --load-state j.h5 --json >part2
same 'tokens as JSON' "$(cat whole)" "$(sed -n 's/.*"tokens": \[\([0-9, ]*\)\].*/\1/p' part1 part2 | tr -d , | xargs)"

# ---- refusals: one line, and no file ----

generate() { pipestep generate "$model" -q "$@"; }
for option in '--prompt x' '--prompt-file x' '--tokens x' --chat --echo '--temperature 1' '--seed 3' '--top-k 3' \
    '--stop x' '--ban 3' '--min-tokens 3' --ignore-eos '--repetition-penalty 2' '--sampler-order hf'; do
    read -ra words <<<"$option"
    fails 2 "${words[0]} and --load-state exclude each other" generate --load-state first.h5 "${words[@]}"
done
fails 2 '--save-state goes with one sample' generate --save-state n.h5 --samples 2
fails 2 '--save-state: the state is written after -n tokens' generate --save-state n.h5 -n -1
fails 2 '--save-state: the state is written after -n tokens' generate --save-state n.h5 -n 0
fails 1 'none/n.h5: ' generate --save-state none/n.h5
fails 1 'n.h5: cannot open: No such file' generate --load-state n.h5
fails 1 'is no state file: its format is "pipestep-model"' generate --load-state "$model"
fails 1 'first.h5: is the state of another model' pipestep generate tiny.h5 -q --load-state first.h5
fails 1 'keys q8_0, values f16' generate --load-state q.h5
fails 1 'wanted "window 32,' generate --load-state first.h5 --window 32
fails 1 'first.h5: was computed with gemm panel, activations i16, this run has' generate --load-state first.h5 --activations f32
printf 'text' >text.h5
fails 1 'text.h5: not an HDF5 file' generate --load-state text.h5
for bytes in 100 5000 60000; do
    head -c $bytes first.h5 >cut.h5
    fails 1 'cut.h5: ' generate --load-state cut.h5
done
fails 1 'the state has 211 positions, the context 200' generate --load-state second.h5 --ctx 200
# The text has ended: nothing is left to go on with.
ok generate --prompt "$header" -n 600 --logit-bias 0:100 --save-state ended.h5
fails 1 'ended.h5: its text has ended' generate --load-state ended.h5
# What a failed run leaves is the old file.
cp first.h5 old.h5
fails 1 'the prompt has' generate --prompt "$header" --ctx 5 --save-state old.h5
cmp -s first.h5 old.h5 || complain 'a failed run changed the old state'
same 'files left' '' "$(find . -name '*.tmp*' -o -name 'n.h5')"
exit "$bad"
