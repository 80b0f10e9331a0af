# shellcheck shell=bash
# Model files, and what the system does with files: rows 1 to 24.
# shellcheck disable=SC2154,SC2034,SC2015,SC2016 # names of run.sh; complain where the one or the other fails
score() { pipestep score "$model" -q --tokens ../tokens "$@"; }

row_1() { script files.sh; }
row_2() {
    : >empty.h5
    echo text >text.h5
    printf 'GGUF\3\0\0\0' >other.h5
    fails 1 'empty.h5: the file is empty' pipestep score empty.h5 -q --tokens x
    fails 1 'text.h5: not an HDF5 file' pipestep score text.h5 -q --tokens x
    fails 1 'other.h5' pipestep score other.h5 -q --tokens x
}
row_3() {
    local size i
    size=$(stat -c %s "$model")
    for i in $(seq 0 15); do
        head -c $((size * i / 16)) "$model" >cut.h5
        fails 1 'cut.h5: ' pipestep generate cut.h5 -q -n 2
    done
}
row_4() { unit model/test_ckpt_damage && unit model/test_weights; }

# Random bytes at random places: refused with one line, or the same output. Readers of single structures are fuzzed.
row_5() {
    local size i at status
    RANDOM=5
    size=$(stat -c %s "$model")
    pipestep generate "$model" -q -n 8 --ids >wanted
    for i in $(seq 60); do
        cp "$model" mutant.h5
        at=$(((RANDOM * 32768 + RANDOM) % (i % 2 ? 20000 : size)))
        printf '%b' "\\x$(printf %x $((RANDOM % 256)))" | dd of=mutant.h5 bs=1 seek=$at conv=notrunc status=none
        pipestep generate mutant.h5 -q -n 8 --ids >found 2>log
        status=$?
        case $status in
        0) cmp -s wanted found || complain "byte $at: another output" ;;
        1) [ "$(wc -l <log)" -eq 1 ] || complain "byte $at: $(<log)" ;;
        *) complain "byte $at: exit status $status: $(<log)" ;;
        esac
    done
    local target
    for target in model_file model_index safetensors gguf; do
        [ "$(TMPDIR=$PWD timeout 120 "$build/tests/fuzz/fuzz_$target" "$TOP/tests/fuzz/corpus/$target" 2>log)" ] ||
            complain "fuzz_$target: $(tail -n 5 log)"
    done
}
row_6() { unit model/test_ckpt_damage; }
row_7() { unit model/test_ckpt_damage; }
row_8() { unit model/test_ckpt_damage; }
row_9() { unit model/test_h5_foreign; }
row_10() { unit model/test_h5_foreign && unit model/test_spec; }
row_11() { unit model/test_h5_foreign; }
row_12() { unit model/test_h5_foreign && unit model/test_ckpt_damage; }
row_13() { unit model/test_h5_foreign; }
row_14() { unit model/test_weights && unit model/test_h5_foreign; }
row_15() { unit model/test_h5_foreign; }
row_16() { unit model/test_h5_foreign && unit model/test_ckpt_damage; }
row_17() { unit model/test_ckpt_damage; }
row_18() { unit model/test_ckpt_damage && unit model/test_weights; }
row_19() { unit model/test_ckpt_damage && unit serve/test_tokenizer_open; }
row_20() {
    local status
    cp "$model" model.h5
    pipestep generate model.h5 --weights map -q -n -1 --ignore-eos >out 2>err &
    until_true 20 test -s out || complain 'no output'
    truncate -s 1000000 model.h5
    wait $!
    status=$?
    same 'exit status' 1 $status
    says 'error: model.h5: was cut short while it was in use, or cannot be read any more (offset'
}
row_21() { unit model/test_h5_foreign; }

# The n-th read of the model file fails, for each n that a start has.
row_22() {
    local calls at status
    cp "$model" model.h5
    faulty() { LD_PRELOAD=$shim FAULT_PATH=model.h5 FAULT_CALLS=open,pread,read,mmap "$@"; }
    FAULT_LOG=calls faulty pipestep generate model.h5 -q -n 4 --ids >wanted || complain 'no output'
    calls=$(wc -l <calls)
    [ "$calls" -ge 10 ] || complain "only $calls calls: $(<calls)"
    for ((at = 1; at <= calls; at++)); do
        FAULT_AT=$at FAULT_ACTION=5 faulty pipestep generate model.h5 -q -n 4 --ids >found 2>log
        status=$?
        if [ $status -eq 0 ]; then
            cmp -s wanted found || complain "call $at: another output"
        elif [ $status -ne 1 ] || ! grep -q '^pipestep: error: model.h5' log || [ "$(wc -l <log)" -ne 1 ]; then
            complain "call $at ($(sed -n "${at}p" calls)): exit status $status: $(<log)"
        fi
    done
}
row_23() {
    cp "$model" model.h5
    LD_PRELOAD=$shim FAULT_PATH=model.h5 FAULT_CALLS=pread,read FAULT_AT=1 FAULT_TIMES=-1 FAULT_ACTION=part \
        pipestep generate model.h5 -q -n 4 --ids >found || complain 'short reads of the model: failed'
    pipestep generate model.h5 -q -n 4 --ids | cmp - found || complain 'short reads: another output'
    LD_PRELOAD=$shim FAULT_PATH=.jsonl FAULT_CALLS=read,pread,write FAULT_AT=1 FAULT_TIMES=-1 FAULT_ACTION=part batch ||
        complain 'short writes: failed'
    same_output 'short reads and writes'
    LD_PRELOAD=$shim FAULT_PATH=.jsonl FAULT_CALLS=read,pread,write FAULT_AT=3 FAULT_TIMES=40 FAULT_ACTION=4 batch ||
        complain 'EINTR: failed'
    same_output 'EINTR'
}
row_24() {
    cp "$model" model.h5
    LD_PRELOAD=$shim FAULT_PATH=model.h5 FAULT_CALLS=pread,read FAULT_AT=2 FAULT_TIMES=-1 FAULT_ACTION=116 \
        fails 1 'model.h5' pipestep generate model.h5 -q -n 4
}
