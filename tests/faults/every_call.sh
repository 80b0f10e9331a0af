#!/usr/bin/env bash
# A small batch, killed at every system call that it makes on its output, journal and lock: before the call, and in the
# middle of each write. Each time the same command goes on and ends with the undisturbed output. And the order of the
# calls: nothing is in the output before it is in the journal, and the journal goes when the output is on the disk.
#
#   tests/faults/every_call.sh
#
# Closes with "N of N outputs byte-identical (calls 1..K)".
set -u
here=$(cd "$(dirname "$0")" && pwd)
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
PIPESTEP=${PIPESTEP:-$PWD/build/pipestep}
case $PIPESTEP in /*) ;; *) PIPESTEP=$PWD/$PIPESTEP ;; esac
cd "$directory" || exit 1
# shellcheck source=tests/faults/common.sh
. "$here/common.sh"
build_shim || exit 1
bad=0

for i in 1 2 3; do
    printf '{"prompt": "X:%s\\n", "max_tokens": %s, "n": 2, "logprobs": 1}\n' "$i" $((6 * i))
done >in.jsonl
batch() {
    timeout 60 "$PIPESTEP" batch "$model" "${quick[@]}" -q --in in.jsonl --out out.jsonl --journal-every 4 --slots 3
}
# with AT ACTION: the same with a fault.
with() {
    LD_PRELOAD=$shim FAULT_PATH=out.jsonl FAULT_AT=$1 FAULT_ACTION=$2 FAULT_LOG=${3:-} \
        FAULT_CALLS=open,pread,write,fsync,ftruncate,rename,link,unlink,close batch
}

with 0 none calls || exit 1
mv out.jsonl wanted.jsonl

# ---- the order of the calls of an undisturbed run ----

# line_of PATTERN: number of its first, or with -l last, line.
line_of() { grep -nE "$2" calls | { if [ "$1" = -l ]; then tail -n 1; else head -n 1; fi; } | cut -d: -f1; }
# in_order FIRST SECOND WHAT
in_order() {
    [ -n "$1" ] && [ -n "$2" ] && [ "$1" -lt "$2" ] && return
    echo "order of calls: $3 (lines ${1:-none}, ${2:-none} of:" >&2
    cat calls >&2
    bad=1
}
in_order "$(line_of -f 'link out.jsonl.lock$')" "$(line_of -f 'ftruncate .*/out.jsonl$')" 'the lock before the output is touched'
in_order "$(line_of -l 'write .*journal.part-')" "$(line_of -f 'fsync .*journal.part-')" 'a new journal is written, then synced'
in_order "$(line_of -f 'fsync .*journal.part-')" "$(line_of -f 'rename out.jsonl.journal$')" 'it is synced, then named'
in_order "$(line_of -f 'rename out.jsonl.journal$')" "$(line_of -f 'ftruncate .*/out.jsonl$')" 'it is named before the old output goes'
in_order "$(line_of -l 'write .*/out.jsonl$')" "$(line_of -l 'fsync .*/out.jsonl$')" 'the output is written, then synced'
in_order "$(line_of -l 'write .*/out.jsonl.journal$')" "$(line_of -l 'fsync .*/out.jsonl.journal$')" 'the journal is written, then synced'
in_order "$(line_of -l 'fsync .*/out.jsonl$')" "$(line_of -f 'unlink out.jsonl.journal$')" 'the output is synced before the journal goes'
in_order "$(line_of -f 'unlink out.jsonl.journal$')" "$(line_of -f 'unlink out.jsonl.lock$')" 'the lock goes last'
# Results come to the journal first: of each write to the output the one before it is to the journal.
grep -E ' write ' calls | awk '/\/out.jsonl$/ {if (before !~ /journal$/) exit 1} {before = $0}' || {
    echo 'a result was in the output before it was in the journal' >&2
    bad=1
}

# ---- killed at each of them ----

n_calls=$(wc -l <calls)
tried=0 same=0
for ((at = 1; at <= n_calls; at++)); do
    actions=(kill)
    if sed -n "${at}p" calls | grep -q ' write '; then actions+=(torn); fi
    for action in "${actions[@]}"; do
        rm -f out.jsonl*
        { with "$at" "$action"; } 2>/dev/null && echo "call $at: nobody was killed" >&2
        tried=$((tried + 1))
        if batch && cmp -s out.jsonl wanted.jsonl && [ ! -e out.jsonl.journal ] && [ ! -e out.jsonl.lock ]; then
            same=$((same + 1))
        else
            echo "killed at call $at ($action, $(sed -n "${at}p" calls)): $(ls)" >&2
        fi
    done
done
echo "$same of $tried outputs byte-identical (calls 1..$n_calls)"
[ $same -eq $tried ] && [ $bad -eq 0 ]
