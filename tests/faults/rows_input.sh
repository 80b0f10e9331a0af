# shellcheck shell=bash
# Requests, options, machines: rows 25 to 47.
# shellcheck disable=SC2154,SC2034,SC2015,SC2016 # names of run.sh; complain where the one or the other fails
generate() { pipestep generate "$model" -q "$@"; }
one() { printf '%s\n' "$1" | pipestep batch "$model" -q --in - --out -; }

row_25() {
    out=$(one '{"tokens": []}')
    case $out in *'"error": {"type": "usage", "message": "the prompt is empty"}'*) ;; *) complain "$out" ;; esac
    # No text is a prompt all the same where the model begins every text with a token of its own.
    ok generate --prompt '' -n 9
}
row_26() {
    out=$(one '{"tokens": [1,2,3,4,5], "max_tokens": 1}')
    case $out in *length*) ;; *) complain "$out" ;; esac
    printf '{"tokens": [1,2,3,4,5]}\n{"tokens": [1,2]}\n' >in.jsonl
    ok pipestep batch "$model" -q --in in.jsonl --out - --ctx 4
    case $out in *'the prompt has 5 tokens, the context 4'*'finish_reason'*) ;; *) complain "$out" ;; esac
}
row_27() {
    local np
    for np in 1 2 3; do
        launch $np 60 "$PIPESTEP" generate "$model" -q --prompt X --ctx 64 -n 500 --ignore-eos --ids >$np.ids </dev/null 2>log ||
            complain "$np ranks: $(<log)"
        [ "$(wc -w <$np.ids)" -gt 55 ] && [ "$(wc -w <$np.ids)" -lt 66 ] || complain "$np ranks: $(wc -w <$np.ids) tokens"
        cmp $np.ids 1.ids || complain "$np ranks: other tokens"
    done
}
row_28() { unit serve/test_tokenizer_decode && unit serve/test_tokenizer_golden && script tokenize.sh; }
row_29() {
    head -c 10000000 /dev/zero | tr '\0' a >line
    ok timeout 60 "$PIPESTEP" tokenize "$model" -q <line
    { printf '{"prompt": "'; cat line; printf '"}\n'; } >in.jsonl
    ok timeout 100 "$PIPESTEP" batch "$model" -q --in in.jsonl --out - --ctx 100
    case $out in *'tokens, the context 100'*) ;; *) complain "$(head -c 300 <<<"$out")" ;; esac
}
row_30() {
    local pid before after
    fails 1 'standard input: ' pipestep batch "$model" -q --in - --out - <&-
    mkfifo input
    "$PIPESTEP" batch "$model" -q --in input --out out.jsonl >out 2>err &
    pid=$!
    sleep 1
    before=$(cut -d ' ' -f 14,15 /proc/$pid/stat)
    sleep 2
    after=$(cut -d ' ' -f 14,15 /proc/$pid/stat)
    [ $((${after% *} + ${after#* } - ${before% *} - ${before#* })) -lt 20 ] || complain "waits for its input at full speed: $before, $after"
    kill -TERM $pid
    until_true 5 is_gone "$pid" || complain 'SIGTERM does not end it'
    wait $pid
}
row_31() { script options.sh; }
row_32() { script options.sh; }
row_33() {
    out=$(one '{"prompt": "X", "temperature": 0, "top_k": 100000}{"prompt": "X"}')
    case $out in *error*) ;; *) complain "$out" ;; esac
    same 'greedy, whatever else' "$(generate --prompt X -n 9 --temperature 0 --ids)" \
        "$(generate --prompt X -n 9 --temperature 0 --top-k 100000 --top-p 1 --ids)"
    same 'top-p 0 takes the likeliest' "$(generate --prompt X -n 9 --temperature 0 --ids)" "$(generate --prompt X -n 9 --top-p 0 --ids)"
    unit serve/test_sampler_params
    unit serve/test_sampler_steps
}
row_34() { script options.sh; }
row_35() {
    locale -a 2>/dev/null | grep -qi '^de_DE' || export LOCPATH=$PWD
    LC_ALL=de_DE.UTF-8 LANG='' batch || complain failed
    same_output 'another locale'
    env -u LANG -u LC_ALL "$PIPESTEP" generate "$model" -q --prompt X --temperature 0.5 --seed 1 -n 20 >a
    LANG=C "$PIPESTEP" generate "$model" -q --prompt X --temperature 0.5 --seed 1 -n 20 | cmp - a || complain 'without LANG: another output'
}
row_36() {
    launch 12 60 "$PIPESTEP" generate "$model" -q --prompt X -n 2 >out 2>err </dev/null && complain '12 ranks for 8 layers are no error'
    says 'error: '
    launch 9 60 "$PIPESTEP" generate "$model" -q --prompt X -n 2 -t 1 --wait shared >out 2>err </dev/null || complain "9 ranks: $(<err)"
}
row_37() {
    local np
    for np in 2 3 5 7; do
        start_here $np
        wait "$job" || complain "$np ranks: $(<err)"
        same_output "$np ranks"
    done
}
row_38() { script lost_rank.sh; }
row_40() {
    cp ../rank.sh .
    taskset -c 0 true || left_out 'no taskset'
    LAUNCH_FLAGS='--bind-to none' launch 2 100 taskset -c 0 "$PIPESTEP" batch "$model" -t 4 --in ../in.jsonl --out out.jsonl >out 2>err </dev/null ||
        complain "$(<err)"
    says 'warning: 4 threads on the 1 cores'
    same_output 'four threads of two ranks on one core'
}
row_41() {
    unshare -m true 2>/dev/null || left_out 'no mount namespaces'
    cp ../rank.sh .
    start_in_small_shm() {
        launch 2 60 "$PIPESTEP" batch "$model" "${quick[@]}" -q --in ../in.jsonl --out out.jsonl >out 2>err </dev/null
    }
    export -f start_in_small_shm launch launcher_is_open_mpi launcher_command
    export model
    quick_words="${quick[*]}" unshare -m bash -c 'mount -t tmpfs -o size=64k none /dev/shm && read -ra quick <<<"$quick_words" && start_in_small_shm'
    case $? in
    0) same_output 'a tiny /dev/shm' ;;
    *) [ -s err ] || complain 'a tiny /dev/shm: fails without a word' ;;
    esac
}
row_42() {
    OMPI_MCA_btl_vader_single_copy_mechanism=none start_here 2
    wait "$job" || complain "$(<err)"
    same_output 'without copies by ptrace rights'
}
row_44() {
    local status
    (ulimit -v 400000 && generate --prompt X -n 2 >out 2>err)
    status=$?
    if [ $status -ne 0 ]; then says 'error: '; fi
    (ulimit -v 400000 && pipestep generate "$model" -q --prompt X -n 2 --slots 4000 --ctx 100000 --window full >out 2>err)
    same 'exit status' 1 $?
    says 'error: '
}

# Of the program's own allocations (alloc) or of the blocks it maps (region) the n-th fails in one rank: one line and status
# 1, whatever n, and nobody is left. A batch goes on from what the one before left; what comes to its end is right.
# fail_each KIND POINTS RANKS RANK COMMAND ...
fail_each() {
    local kind=$1 points=$2 ranks=$3 rank=$4 name="$1 in rank $4 of $3, $6" calls at step status
    shift 4
    one_run() {
        rm -f pid.*
        PRELOAD=$shim FAULT_PATH=$kind FAULT_CALLS=$kind FAULT_RANK=$rank FAULT_ACTION=12 FAULT_AT=$at \
            launch "$ranks" 30 ./rank.sh "$@" >out 2>err </dev/null
        status=$?
        if [ "$status" -eq 0 ] && [ -e out.jsonl ]; then mv out.jsonl out; fi
    }
    rm -f calls out.jsonl*
    at=0
    FAULT_LOG=calls one_run "$@"
    [ "$status" -eq 0 ] || complain "$name: $(<err)"
    mv out wanted
    calls=$(wc -l <calls)
    [ "$calls" -ge "$([ "$kind" = alloc ] && echo 100 || echo 3)" ] || complain "$name: only $calls were seen"
    step=$((calls / points + 1))
    for ((at = 1; at <= calls; at += at < points / 4 ? 1 : step)); do
        one_run "$@"
        until_true 5 all_gone || complain "$name: a rank is left after $at"
        grep -aqE 'Process received signal|Segmentation|assert' err && complain "$name, $at of $calls: $(<err)"
        if [ "$status" -eq 0 ]; then
            # A failure that costs nothing but speed, or a batch that had less left to do.
            cmp -s out wanted || complain "$name, $at of $calls: another output"
        elif [ "$status" -ne 1 ] || [ "$(grep -acE '^pipestep: (\[rank [0-9]\] )?(out of memory|error: .*memory)' err)" -ne 1 ]; then
            complain "$name, $at of $calls: exit status $status: $(<err)"
        fi
    done
    at=0
    one_run "$@"
    [ "$status" -eq 0 ] || complain "$name: does not go on: $(<err)"
    cmp -s out wanted || complain "$name: goes on to another output"
}
row_45() {
    local generate batch
    cp "$model" model.h5
    cp ../rank.sh .
    cat >in.jsonl <<'END'
{"prompt": "X", "max_tokens": 5, "n": 2, "logprobs": 2}
{"prompt": "X:1", "max_tokens": 4, "stop": "zz", "repetition_penalty": 1.1}
{"prompt": "X:2", "max_tokens": 4, "guidance_scale": 1.5, "negative_prompt": "X"}
END
    generate=("$PIPESTEP" generate model.h5 -q --prompt X -n 4 --ids -t 1 --wait shared)
    batch=("$PIPESTEP" batch model.h5 -q --in in.jsonl --out out.jsonl --journal-every 1 -t 1 --wait shared)
    fail_each alloc 20 1 0 "${generate[@]}"
    fail_each alloc 24 1 0 "${batch[@]}"
    fail_each alloc 6 2 0 "${batch[@]}"
    fail_each alloc 6 2 1 "${batch[@]}"
    fail_each region 8 1 0 "${generate[@]}"
    fail_each region 5 2 1 "${batch[@]}"
}
row_46() {
    LD_PRELOAD=$shim FAULT_PATH=thread FAULT_CALLS=thread FAULT_AT=1 FAULT_TIMES=-1 FAULT_ACTION=11 \
        pipestep batch "$model" -t 2 --in ../in.jsonl --out out.jsonl --no-progress 2>err || complain "no threads at all: $(<err)"
    same_output 'no threads at all'
}
row_47() {
    unit math/test_isa
    same 'the portable kernels' "$(generate --prompt X -n 20 --ids)" "$(generate --prompt X -n 20 --ids --isa portable)"
}
