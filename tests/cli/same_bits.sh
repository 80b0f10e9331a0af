# The law of same bits: logits and tokens do not depend on ranks, split, threads, chunks, other requests, slots,
# parcels in flight, instruction set or way of waiting. The checksums below hold on every machine.
#
# Every value of every dimension is there once, and pairs that meet in one place of the program (ranks and chunks,
# crowds and slots, threads and instruction sets) together.
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
# shellcheck source=tests/support/same_bits.sh
. "$TOP/tests/support/same_bits.sh"

# The sequence that is looked at: once round every ring of the tunes model and past a segment of 256 keys. In the
# crowd it is the fourth of eight.
ids 4 330 >alone
for n in 5 64 200; do ids "$n" "$n"; done >crowd
cat alone >>crowd
for n in 1 17 130 77; do ids "$n" "$n"; done >>crowd

# Windows: none but a bias over all keys; 5, less than a tile of 16 keys and than a chunk, in half of the layers.
"$tools/tiny_model" --layers 8 --dtype f16 --kv-heads 1 --seed 3 llama.h5 || complain 'no model'
"$tools/alibi_model" llama.h5 alibi.h5 || complain 'no model'
"$tools/tiny_model" --family qwen3 --layers 7 --windows 5 --dtype bf16 --half-rotary --seed 4 qwen3.h5 ||
    complain 'no model'
cp "$TOP/configs/tunes/tunes.h5" tunes.h5

# Portable code takes ten times as long: only small models have all of theirs in it.
fastest=${sets%% *}

# scores MODEL SHA256 SPLIT ISA: all ways to run the model. SPLIT is for 3 ranks, ISA for a crowd on 4.
scores() {
    local model=$1 wanted=$2 set
    each() {
        local input=alone number=0
        if [ "$1" = crowd ]; then
            input=crowd
            number=3
            shift
        fi
        same "$model, $input, ranks and options $*" "$wanted" "$(logits_sum "$model" "$number" "$1" --tokens "$input" "${@:2}")"
    }
    each 1 -t 1
    each 1 -t 2 --chunk 7
    each 1 -t 1 --chunk 1
    each 1 -t 3 --chunk 64 --wait latency
    each 2 -t 2
    each 3 -t 1 --chunk 7 --split "$3"
    each crowd 3 -t 1 --split auto
    each 4 -t 1 --chunk 64 --in-flight 1
    each 8 -t 1 --chunk 1 --wait shared
    each crowd 1 -t 2 --chunk 64
    each crowd 1 -t 1 --slots 3 --chunk 1
    each crowd 2 -t 1 --chunk 7 --in-flight 5
    each crowd 3 -t 2 --slots 2
    each crowd 8 -t 1 --chunk 64
    for set in $sets; do
        each 1 -t 2 --isa "$set" --chunk 33
    done
    each crowd 4 -t 1 --isa "$4" --chunk 16 --in-flight 2 --verify always
    each crowd 2 -t 2 --isa "$fastest" --slots 5 --chunk 128 --verify never
}

scores alibi 4e8a89bf40238624e4d2c8ee56545b45907ec94a414fa0e98d80f95a1e4057c2 0,4,4 portable
scores qwen3 868384c667a86748cec21e98350d04cfbd68c5a366c44958e25faff5fcb0c671 1,5,1 portable
scores tunes 547efc954808c360411de7a83d565bb09faa820a6d878df5dc5f01b265c7958e 5,2,1 "$fastest"

# ---- generation: sampled tokens with a seed ----

sampling=(--seed 77 --temperature 0.9 --top-k 50 --top-p 0.95 --repetition-penalty 1.1 --ignore-eos)
prompt=$(ids 9 70)
printf '%s\n' "$prompt" >prompt

# generate MODEL RANKS ARG ...: checksum of two samples of 200 tokens, with log-probabilities.
generate() {
    local model=$1 ranks=$2
    shift 2
    run "$ranks" generate "$model.h5" --tokens prompt -n 200 --samples 2 --json --logprobs 3 "${sampling[@]}" "$@" | sum
}

# in_batch MODEL RANKS ARG ...: the same request as the fourth of eight.
in_batch() {
    local model=$1 ranks=$2 i
    shift 2
    for i in 1 2 3 4 5 6 7 8; do
        if [ "$i" -eq 4 ]; then
            echo "{\"tokens\": [${prompt_json}], \"max_tokens\": 200, \"n\": 2, \"seed\": 77, \"temperature\": 0.9," \
                '"top_k": 50, "top_p": 0.95, "repetition_penalty": 1.1, "ignore_eos": true, "logprobs": 3}'
        else
            echo "{\"tokens\": [$i, 3, 5], \"max_tokens\": $((i * 40)), \"n\": $((i % 3 + 1)), \"seed\": $i}"
        fi
    done >requests
    run "$ranks" batch "$model.h5" --in requests --out - "$@" | sed -n 4p | sum
}
prompt_json=$(sed 's/ *$//; s/ /, /g' prompt)

# generates MODEL SHA256 ISA
generates() {
    local model=$1 wanted=$2
    same "$model, generate, 1 rank" "$wanted" "$(generate "$model" 1 -t 1)"
    same "$model, generate, 2 threads, chunk 7" "$wanted" "$(generate "$model" 1 -t 2 --chunk 7)"
    same "$model, generate, chunk 1, $3" "$wanted" "$(generate "$model" 1 -t 1 --chunk 1 --isa "$3")"
    same "$model, generate, 2 ranks, samples one by one" "$wanted" "$(generate "$model" 2 -t 1 --slots 1)"
    same "$model, generate, 3 ranks, chunk 64" "$wanted" "$(generate "$model" 3 -t 1 --chunk 64)"
    same "$model, generate, 8 ranks" "$wanted" "$(generate "$model" 8 -t 1 --in-flight 1)"
    same "$model, batch, 1 rank" "$wanted" "$(in_batch "$model" 1 -t 2)"
    same "$model, batch, 4 ranks" "$wanted" "$(in_batch "$model" 4 -t 1 --slots 4 --chunk 5)"
}

generates alibi b37d4990e9fb453580aa982fbee17eeaeab02f21c7eb1812bf68170f7c6b98ad portable
generates tunes 31f320bd02b04baeacedc295861faef2adec2f8429ccc39f897afd31401f1289 "$fastest"
exit "$bad"
