# The law of same bits for a model that has every score bias, sums of them, an output gate and a quiet softmax: its
# logits do not depend on ranks, threads, chunks, other requests or instruction set, also where first tokens are kept
# and caches hold rounded numbers. The checksums hold on every machine.
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
# shellcheck source=tests/support/same_bits.sh
. "$TOP/tests/support/same_bits.sh"

# Past a segment of 256 keys and several times round the rings.
ids 4 300 >alone
for n in 5 64; do ids "$n" "$n"; done >crowd
cat alone >>crowd
ids 17 17 >>crowd

"$tools/tiny_model" --family relpos_llama --layers 4 --windows 7,70,0,19 --seed 9 --output-gate heads --quiet-softmax \
    --score-biases 'alibi+t5+fox/fox+rel_pos/kerple_log+fire+sandwich/kerple_power+fox+t5+fire' heads.h5 ||
    complain 'no model'
"$tools/tiny_model" --family relpos_llama --layers 3 --windows 0,33,0,0 --seed 10 --output-gate elements --dtype bf16 \
    --attention-bias --score-biases 'fox/fire+fox/rel_pos+kerple_log' elements.h5 || complain 'no model'

# scores MODEL SHA256 ARG ...: all ways to run the model with these options.
scores() {
    local model=$1 wanted=$2
    shift 2
    local options=("$@")
    each() {
        local input=$1 number=0
        [ "$input" = crowd ] && number=2
        same "$model ${options[*]}, $*" "$wanted" \
            "$(logits_sum "$model" "$number" "$2" --tokens "$input" "${options[@]}" "${@:3}")"
    }
    each alone 1 -t 1
    each alone 1 -t 2 --chunk 1
    each alone 1 -t 1 --chunk 7
    each alone 2 -t 1 --chunk 64
    each alone 3 -t 1 --chunk 19
    each crowd 1 -t 2 --chunk 57
    each crowd 3 -t 1 --slots 2 --chunk 6
}

scores heads f1b62d135bb405a7187b4ea1c07f75ef36fb74cfe32959fd9b854441c41be469
scores elements ccc73368a1a0ab3fffb020430a2b2ac202abd12160b1b8a1d71166bebe8be1a2
scores elements 8f1493c0a6870d91867fc9ecd2d18a95326c8515be1d742552a88451c3411cf1 --keep-first 4
scores heads 3655025e4408531bf7184473dd0419103a07b28cb38d76447d0ad7d9325e6600 --keep-first 4 --keep-at cache
scores elements bef841a03c1dd823439eef23df0fd2f11dd0afd92617796e9f49fd6a94c862af --cache-k q8_0 --cache-v f16

for set in $sets; do
    same "heads, $set" f1b62d135bb405a7187b4ea1c07f75ef36fb74cfe32959fd9b854441c41be469 \
        "$(logits_sum heads 0 1 --tokens alone -t 2 --isa "$set")"
done
exit "$bad"
