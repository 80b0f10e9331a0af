# The law of same bits for quantised weights: a model whose matrices are of 17 formats gives the same logits and tokens on
# any number of ranks, threads and rows at a time, alone and in a crowd, on any instruction set, for each way to round
# activations. The checksums below hold on every machine. What holds for all models is in same_bits.sh.
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
# shellcheck source=tests/support/same_bits.sh
. "$TOP/tests/support/same_bits.sh"
ok pipestep convert "${PS_GOLDEN:-$TOP/tests/golden}/gguf/llama-mixed/model.gguf" -o mixed.h5 -q

# Longer than a segment of 256 keys; in the crowd it is the second of three.
ids 4 300 912 >alone
ids 9 40 912 >few
{ ids 5 64 912 && cat alone && ids 6 17 912; } >crowd

# score WANTED INPUT NUMBER RANKS ARG ...: checksum of a sequence's logits and log-probabilities.
score() {
    local wanted=$1 input=$2 number=$3 ranks=$4
    shift 4
    same "$input, $ranks ranks, $*" "$wanted" "$(logits_sum mixed "$number" "$ranks" --tokens "$input" "$@")"
}

# Up to 24 rows take another way through the kernels than more.
i16=12197707176ec7505ab857d8fadaf3854d515083f0b36d6725d8ce9f7c61ea9b
score $i16 alone 0 1 -t 1
score $i16 alone 0 1 -t 2 --chunk 24
score $i16 alone 0 1 -t 3 --chunk 25
score $i16 alone 0 2 -t 2 --chunk 64
score $i16 alone 0 3 -t 1 --chunk 7 --split 0,2,1
score $i16 crowd 1 1 -t 2 --chunk 5
score $i16 crowd 1 3 -t 1 --slots 2 --in-flight 1
score $i16 alone 0 4 -t 1 --chunk 100 --wait shared
for set in $sets; do
    score $i16 alone 0 1 -t 2 --chunk 64 --isa "$set"
done
short=28b386fe0e5aa62a7ee0fdd505bfccd2ffc798c213e60e0684af8178cb3efa44
for set in $sets; do
    score $short few 0 1 -t 1 --chunk 1 --isa "$set"
done

# Other ways to round are other numbers, and as firm.
i8=fb70413e70a9264997d10c2f6402ad96676a268e591970bb81c8cb03e3e982bf
score $i8 few 0 1 -t 1 --activations i8
score $i8 few 0 3 -t 2 --activations i8 --chunk 3
f32=22e1e513c75dc15dd1f06a5e3094b60fc3285aa0e8a9740355af2aad002a5951
score $f32 few 0 1 -t 1 --activations f32
score $f32 few 0 3 -t 2 --activations f32 --chunk 3
for set in $sets; do
    score $i8 few 0 1 -t 2 --activations i8 --isa "$set"
    score $f32 few 0 1 -t 2 --activations f32 --isa "$set"
done

# generate RANKS ARG ...: checksum of two samples of 60 tokens with log-probabilities.
generated=e9887569b022098d9246785c739aea7baca8490de5df0eb2a37d29bbb0b8d26a
generate() {
    same "generate, $*" "$generated" "$(run "$1" generate mixed.h5 --tokens few -n 60 --samples 2 --json --logprobs 3 \
        --seed 77 --temperature 0.9 --top-k 50 --ignore-eos "${@:2}" | sum)"
}
generate 1 -t 1
generate 1 -t 2 --chunk 7
generate 2 -t 1 --slots 1
generate 3 -t 1 --in-flight 1
generate 4 -t 1
generate 1 -t 2 --isa "${sets##* }"
exit "$bad"
