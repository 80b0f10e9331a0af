#!/usr/bin/env bash
# What the scripts share that hold the law of same bits: runs on any number of ranks, ids that are the same everywhere,
# checksums. To be read after cli.sh; the working directory gets a log.
launcher_for "$PIPESTEP" || exit 1
tools=${PIPESTEP%/*}/tests/tools

# run RANKS ARG ...: the program, alone or on ranks.
run() {
    local ranks=$1
    shift
    if [ "$ranks" -eq 1 ]; then
        pipestep "$@" -q 2>log
    else
        launch "$ranks" 60 "$PIPESTEP" "$@" -q 2>log </dev/null
    fi || {
        complain "$ranks ranks, $*: exit status $?: $(<log)"
        return 1
    }
}

# ids SEED N [VOCABULARY]: N token ids under VOCABULARY (266).
ids() {
    awk -v x="$1" -v n="$2" -v size="${3:-266}" \
        'BEGIN { while (n-- > 0) { x = (x * 16807) % 2147483647; printf "%d ", x % size } print "" }'
}

sum() { sha256sum | cut -d ' ' -f 1; }

# logits_sum MODEL NUMBER RANKS ARG ...: checksum of a sequence's logits and log-probabilities, none of a run that fails.
logits_sum() {
    local model=$1 number=$2 ranks=$3
    shift 3
    rm -f out.h5
    run "$ranks" score "$model.h5" --logits out.h5 "$@" >/dev/null || return
    "$tools/h5_bytes" out.h5 "/$number/logits" "/$number/logprob" | sum
}

# What this processor has, out of what the program was built for.
echo 1 >one-id
# shellcheck disable=SC2034 # the scripts use it
sets=$(pipestep score --tokens one-id --isa none 2>&1 | sed -n 's/.*this processor has //p')
case " $sets " in *' portable '*) ;; *) complain "no instruction sets: $sets" ;; esac
