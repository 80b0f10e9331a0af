# shellcheck shell=bash
# Outputs, journals and locks, clocks, names: rows 64 to 76.
# shellcheck disable=SC2154,SC2034,SC2015,SC2016 # names of run.sh; complain where the one or the other fails

row_64() { "$TOP/tests/faults/every_call.sh" >log 2>&1 || complain "$(<log)"; }

# Each call that writes, with each error that it may give: status 1 and one line, whatever was there stays, and the same
# command goes on.
row_65() {
    local calls at error status
    faulty() { LD_PRELOAD=$shim FAULT_PATH=out.jsonl FAULT_CALLS=write,fsync,ftruncate,rename,link,unlink small; }
    small() { pipestep batch "$model" "${quick[@]}" -q --in small.jsonl --out out.jsonl --slots 2 --journal-every 4; }
    head -n 1 ../in.jsonl | sed 's/200/12/' >small.jsonl
    sed -n 4p ../in.jsonl | sed 's/120/5/' >>small.jsonl
    FAULT_LOG=calls faulty || complain 'no output'
    mv out.jsonl wanted.jsonl
    calls=$(wc -l <calls)
    for ((at = 1; at <= calls; at++)); do
        for error in 28 122 30 5; do
            rm -f out.jsonl*
            FAULT_AT=$at FAULT_TIMES=-1 FAULT_ACTION=$error faulty >out 2>err
            status=$?
            if [ $status -eq 0 ]; then
                # Only what is removed at the end may fail without a word.
                sed -n "${at}p" calls | grep -q ' unlink ' || complain "call $at ($(sed -n "${at}p" calls)), error $error: exit status 0"
            elif [ $status -ne 1 ] || [ "$(wc -l <err)" -ne 1 ]; then
                complain "call $at, error $error: exit status $status: $(<err)"
            fi
            small || complain "after call $at, error $error: does not go on"
            cmp -s out.jsonl wanted.jsonl || complain "after call $at, error $error: another output"
        done
    done
    # A disk that is really full.
    mount -t tmpfs -o size=16k none /mnt 2>/dev/null && umount /mnt
    mkdir disk
    if mount -t tmpfs -o size=48k none disk 2>/dev/null; then
        pipestep batch "$model" "${quick[@]}" -q --in ../in.jsonl --out disk/out.jsonl >out 2>err && complain 'a full disk is no error'
        says 'No space left on device'
        mount -o remount,size=4m disk
        pipestep batch "$model" "${quick[@]}" -q --in ../in.jsonl --out disk/out.jsonl || complain 'does not go on when there is room'
        cmp -s disk/out.jsonl ../wanted.jsonl || complain 'after a full disk: another output'
        umount disk
    fi
    # A limit on the size of files.
    (ulimit -f 8 && batch >out 2>err)
    [ $? -eq 1 ] || complain "a file over its limit: $(<err)"
    batch || complain 'does not go on without the limit'
    same_output 'after a limit on the size of files'
}
row_66() {
    LD_PRELOAD=$shim FAULT_PATH=row_66/out.jsonl FAULT_CALLS=close FAULT_AT=1 FAULT_TIMES=-1 FAULT_ACTION=28 batch >out 2>err
    same 'exit status' 1 $?
    says 'No space left on device'
    batch || complain 'does not go on'
    same_output 'after an error of close'
}
row_67() {
    "$PIPESTEP" batch "$model" -q --in ../in.jsonl --out - 2>err | head -c 10 >/dev/null
    same 'exit status' 4 "${PIPESTATUS[0]}"
    [ ! -s err ] || complain "$(<err)"
}
leave_journal() {
    start_here 1
    until_true 30 have_all_pids && until_true 30 has_lines 30
    kill -USR1 "$(<pid.0)"
    wait "$job"
}
row_68() {
    leave_journal
    fails 2 'was begun with seed 0, this run has 1' batch --seed 1
    "$tiny_model" --family llama --tokenizer other.h5 || complain 'no model'
    fails 2 'was begun with model ' pipestep batch other.h5 -q --in ../in.jsonl --out out.jsonl
    unit tool/test_ledger
}
row_69() {
    leave_journal
    quiet=()
    start_here 3
    wait "$job" || complain "$(<err)"
    says 'before on 1 ranks with 1 threads each, now on 3 with 1'
    same_output 'another number of ranks'
    leave_journal
    pipestep batch "$model" -q -t 2 --in ../in.jsonl --out out.jsonl || complain failed
    same_output 'another number of threads'
}
row_70() {
    local size i
    leave_journal
    cp out.jsonl.journal kept
    size=$(stat -c %s kept)
    for i in $(seq 16); do
        if [ $((i % 2)) -eq 0 ]; then
            head -c $((size * i / 17)) kept >out.jsonl.journal
        else
            cp kept out.jsonl.journal
            printf '\377' | dd of=out.jsonl.journal bs=1 seek=$((size * i / 17)) conv=notrunc status=none
        fi
        batch 2>err || complain "damage $i: $(<err)"
        same_output "damage $i"
        cp kept out.jsonl.journal
        head -c $((size / 2)) ../wanted.jsonl >out.jsonl
    done
    unit base/test_journal
    unit tool/test_ledger
}
row_71() {
    start_here 2
    until_true 30 have_all_pids && until_true 30 has_lines 5
    kill -STOP "$(<pid.0)" # so that it does not end meanwhile
    fails 1 "out.jsonl.lock: is held by process $(<pid.0) on $host, which is running" batch
    kill -CONT "$(<pid.0)"
    wait "$job" || complain "$(<err)"
    same_output 'the first of two jobs'
}
row_72() {
    FAULT_CLOCK=1 PRELOAD=$shim start_here 2 --stall-timeout 5 --stop-after 1h
    wait "$job" || complain "$(<err)"
    same_output 'a clock that jumps'
}
row_73() {
    start_here 2
    until_true 30 have_all_pids && until_true 30 has_lines 20
    kill -KILL "$(<pid.0)"
    wait "$job"
    [ -e out.jsonl.lock ] || complain 'no lock is left'
    pipestep batch "$model" "${quick[@]}" --in ../in.jsonl --out out.jsonl 2>err
    says "which is dead, was taken over"
    unit base/test_lock
}

# A minute's worth of what 24 hours are: requests one after the other, with the memory and the files that are open. The long
# one is tests/faults/soak.sh.
row_74() { "$TOP/tests/faults/soak.sh" 60000 >log 2>&1 || complain "$(<log)"; }
row_75() {
    local odd=$'a b\n"ü\\' status
    mkdir "$odd"
    cp ../in.jsonl "$odd/requests 1.jsonl"
    pipestep batch "$model" "${quick[@]}" -q --in "$odd/requests 1.jsonl" --out "$odd/o\"ut.jsonl" --report "$odd/r.json" || complain failed
    cmp -s "$odd/o\"ut.jsonl" ../wanted.jsonl || complain 'odd names: another output'
    python3 -c 'import json, sys; json.load(open(sys.argv[1]))' "$odd/r.json" 2>/dev/null || complain 'the report is no JSON'
    unshare -u true 2>/dev/null || return
    unshare -u bash -c 'hostname "$(printf "%064d" 0)" && exec "$@"' - "$PIPESTEP" batch "$model" "${quick[@]}" -q \
        --in ../in.jsonl --out out.jsonl --stop-after 0.001 2>err
    status=$?
    [ $status -eq 75 ] || complain "a host name of 64 bytes: exit status $status: $(<err)"
    grep -q '"host": "0000' out.jsonl.journal || complain 'the name is not in the journal'
    batch || complain 'another host does not go on'
    same_output 'another host'
}
row_76() {
    OMP_NUM_THREADS=7 OPENBLAS_NUM_THREADS=9 GOTO_NUM_THREADS=3 pipestep batch "$model" --in ../in.jsonl --out out.jsonl \
        --report report.json -t 2 --wait shared 2>err || complain "$(<err)"
    grep -q '"threads": 2' report.json || complain "threads: $(grep -o '"threads": [0-9]*' report.json)"
    same_output 'variables that contradict each other'
}
