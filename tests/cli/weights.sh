# Weights in the mapped file and copied into memory: the same bits, and what is told and refused about it.
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
# shellcheck source=tests/support/same_bits.sh
. "$TOP/tests/support/same_bits.sh"

# ---- the same bits, and the report says how ----

cp "$model" tunes.h5
ids 4 100 >some
wanted=$(logits_sum tunes 0 1 --tokens some --weights map --report report.json)
for np in 1 2; do
    for access in map copy auto; do
        same "logits with --weights $access on $np ranks" "$wanted" \
            "$(logits_sum tunes 0 $np --tokens some --weights $access --report $np.$access.json)"
    done
    same "$np: ranks that copied" "$np" "$(grep -o '"weights": "copy", "weights_why": "--weights"' $np.copy.json | wc -l)"
    same "$np: ranks that mapped" "$np" "$(grep -o '"weights": "map", "weights_why": "--weights"' $np.map.json | wc -l)"
    same "$np: ranks that chose" "$np" "$(grep -o '"weights_why": "auto: [^"]*"' $np.auto.json | wc -l)"
    same "$np: nothing mapped of a copy" 0 "$(grep -o '"mapped_bytes": [1-9]' $np.copy.json | wc -l)"
    same "$np: nothing copied of a map" 0 "$(grep -o '"copied_bytes": [1-9]' $np.map.json | wc -l)"
done
pipestep generate tunes.h5 --prompt X -n 2 --ids --weights copy >/dev/null 2>log
grep -q '(weights read [0-9.]*, verified' log || complain "a copy is read: $(<log)"
grep -q 'pipestep: weights: copied into memory (--weights)' log || complain "the report does not say it: $(<log)"

# A copy is of the file as it was checked: what happens to the file afterwards is no matter, what was damaged is found.
"$tiny_model" --dtype f16 --width 96 --ffn 400 --tokenizer damaged.h5 || complain 'no model'
cp damaged.h5 whole.h5
printf '\x01\x02\x03' | dd of=damaged.h5 bs=1 seek=$(($(stat -c %s damaged.h5) / 2)) conv=notrunc 2>/dev/null
for access in map copy; do
    fails 1 'is damaged: its checksum differs' pipestep generate damaged.h5 --prompt a -n 2 -q --weights $access
    truncate -s -100 whole.h5
    fails 1 'whole.h5: not an HDF5 file, or a damaged or truncated one' pipestep generate whole.h5 --prompt a -q --weights $access
done

# ---- plan ----

ok pipestep plan -np 3 --weights copy
grep -q '^weights: copied into memory (--weights)$' <<<"$out" || complain "plan --weights copy: $out"
ok pipestep plan -np 3
grep -q '^weights: \(mapped\|copied into memory\) (auto: .*)$' <<<"$out" || complain "plan: $out"
fails 2 'option --weights wants one of auto|map|copy' pipestep plan --weights paged

# Long work is copied, short work is not, on one NUMA node.
one() { HWLOC_SYNTHETIC='numa:1 core:2 pu:1' HWLOC_THISSYSTEM=1 pipestep "$@"; }
one generate tunes.h5 --prompt X -n 4 --ids >/dev/null 2>log
grep -q 'weights: mapped (auto: short work, a local file, one NUMA node)' log || complain "short work: $(<log)"
for i in $(seq 6); do ids "$i" 180; done >many
one score tunes.h5 --tokens many --slots 1 >/dev/null 2>log
grep -q 'weights: copied into memory (auto: long work)' log || complain "long work: $(<log)"

# On two NUMA nodes auto copies; hwloc can be told that there are two.
out=$(HWLOC_SYNTHETIC='numa:2 core:1 pu:1' HWLOC_THISSYSTEM=1 pipestep plan 2>log)
grep -q '^weights: copied into memory (auto: 2 NUMA nodes)$' <<<"$out" || complain "plan on two nodes: $out $(<log)"

# A limit on a process's own memory bounds copies, not maps: 198 MB of weights, and no more than 300 MB.
"$tiny_model" --dtype f16 --width 1024 --ffn 16000 --layers 2 --tokenizer big.h5 || complain 'no model'
if [ -z "${ASAN_OPTIONS:-}" ]; then
    data() { (ulimit -d 300000 && exec timeout 60 "$PIPESTEP" "$@"); }
    data plan big.h5 --ctx 64 --weights map >out 2>log || complain "plan of a map under ulimit -d: $(<log)"
    data plan big.h5 --ctx 64 --weights copy >out 2>log
    same 'plan of a copy under ulimit -d: status' 1 $?
    refusal='stage 0 needs [0-9.]* MiB (copied weights, caches, buffers), the limit (RLIMIT_DATA) leaves [0-9.]* MiB: '
    grep -q "^pipestep: error: $refusal.*, --weights map or" log || complain "plan of a copy under ulimit -d: $(<log)"
    fails 1 'the limit (RLIMIT_DATA) leaves' data generate big.h5 --prompt a -n 1 -q --weights copy
fi
exit "$bad"
