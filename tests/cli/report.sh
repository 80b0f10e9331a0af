# plan before a run and the report after it: numbers that must agree with each other, and limits of memory.
# shellcheck disable=SC2016 # the dollars are for awk
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"

# value FILE KEY: the first; values: all, one a line; total: their sum.
values() { grep -o "\"$2\": [-0-9.e+]*" "$1" | sed 's/.*: //'; }
value() { values "$@" | head -n 1; }
total() { values "$@" | awk '{s += $1} END {printf "%.0f", s}'; }
# holds NAME EXPRESSION VALUES ...: an awk condition over $1, $2 ...
holds() {
    local name=$1 condition=$2
    shift 2
    awk "{exit !($condition)}" <<<"$*" || complain "$name: not ($condition) with $*"
}

# ---- report ----

echo 56 >one.txt
for np in 1 2 3; do
    launch $np 60 "$PIPESTEP" generate "$model" --tokens one.txt -n 50 --ignore-eos --ids --report $np.json >out 2>log ||
        complain "$np ranks: $(<log)"
    same "$np: ranks" "$np" "$(values $np.json rank | wc -l)"
    same "$np: lines of the report" "$np" "$(grep -c '^pipestep:   *[0-9] ' log)"
    same "$np: tokens" '1 50' "$(value $np.json prompt_tokens) $(value $np.json new_tokens)"
    same "$np: layers" 8 "$(paste <(values $np.json first_layer) <(values $np.json end_layer) | tail -n "$np" | awk '{s += $2 - $1} END {print s}')"
    # A parcel a token; what a hop carries is what the plan says, and what the kernels read is no matter of the split.
    same "$np: parcels" "$((50 * np))" "$(total $np.json parcels)"
    same "$np: bytes of a hop" "$(value $np.json hop_bytes)" "$(($(value $np.json sent_bytes) / 50))"
    for key in weight_bytes cache_bytes; do
        same "$np: $key" "$(tail -n 4 1.json | total /dev/stdin $key)" "$(sed '/^ "plan"/d' $np.json | total /dev/stdin $key)"
    done
    while read -r wall busy wait send peak base; do
        holds "$np: shares of a rank's time" '$2 + $3 + $4 <= 1.001 * $1 && $2 > 0' "$wall" "$busy" "$wait" "$send"
        holds "$np: memory" '$1 > $2 && $1 < $2 + 48e6' "$peak" "$base"
    done < <(paste <(values $np.json wall_s | tail -n "$np") <(values $np.json busy_s) <(values $np.json wait_s) \
        <(values $np.json send_s) <(values $np.json peak_resident_bytes) <(values $np.json base_resident_bytes))
    # 49 times between 50 tokens.
    holds "$np: rates" '$1 > 0 && $2 <= $3 && $4 + 49 / $5 < 1.01 * $6 + 0.001' "$(value $np.json prompt_tokens_per_s)" \
        "$(value $np.json token_p50_ms)" "$(value $np.json token_p99_ms)" "$(value $np.json first_token_s)" \
        "$(value $np.json new_tokens_per_s)" "$(value $np.json wall_s)"
    holds "$np: bubble" '$1 >= 1 - 1 / $2 - 0.02 && $1 < 1' "$(value $np.json bubble)" "$np"
done
# Many prompts: their rate is over all the time that it took, not over that of the first.
for _ in $(seq 40); do echo '{"prompt": "X:1", "max_tokens": 20, "temperature": 0}'; done >requests.jsonl
ok pipestep batch "$model" -q --in requests.jsonl --out results.jsonl --slots 2 --report batch.json
holds 'rate of many prompts' '$1 <= 1.5 * $2 / $3' "$(value batch.json prompt_tokens_per_s)" "$(value batch.json prompt_tokens)" "$(value batch.json wall_s)"
pipestep score "$model" --tokens one.txt 2>log >/dev/null
grep -q '^pipestep: 1 prompt and 0 new tokens in [0-9.]* s; [0-9.]* tokens/s;' log || complain "score: $(<log)"
# The peak is this program's, not that of a big one that started it.
big=$(head -c 150000000 /dev/zero | tr '\0' a)
ok pipestep generate "$model" -q -n 1 --report peak.json
same 'a big shell' 150000000 ${#big}
unset big
holds 'peak under a big shell' '$1 < 1.2e8' "$(value peak.json peak_resident_bytes)"
# Where the report goes.
ok pipestep generate "$model" -q -n 1 --ids --report /dev/stdout
case $out in *'"program": "pipestep"'*) ;; *) complain "report to a pipe: $out" ;; esac
fails 1 'no/r.json: cannot create: No such file or directory' pipestep generate "$model" -q --report no/r.json
fails 1 '.: is a directory, wanted a regular file' pipestep generate "$model" -q --report .

# The trace: its sums are the report's shares, and a parcel is worked on by one rank after the other on one clock.
for np in 1 3; do
    launch $np 60 "$PIPESTEP" generate "$model" --prompt X -n 30 --ignore-eos --ids -q --trace trace.json --report traced.json >/dev/null 2>log ||
        complain "trace of $np ranks: $(<log)"
    sed -n 's/.*"name": "\([a-z]*\)", "pid": \([0-9]*\), "tid": 0, "ts": \([-0-9.]*\), "dur": \([0-9.]*\), "args": {"parcel": \([0-9]*\)}}.*/\1 \2 \3 \4 \5/p' \
        trace.json >spans.txt
    same "$np: events" "$(($(wc -l <trace.json) - np - 2))" "$(wc -l <spans.txt)"
    for ((rank = 0; rank < np; rank++)); do
        holds "$np: busy of rank $rank" '$1 - $2 < 1e-5 && $2 - $1 < 1e-5 && $3 == 30' \
            "$(values traced.json busy_s | sed -n "$((rank + 1))p")" \
            "$(awk -v r=$rank '$2 == r && $1 ~ /embed|blocks|head/ {s += $4} $2 == r && $1 == "blocks" {n++} END {printf "%.7f %d", s / 1e6, n}' spans.txt)"
    done
    awk '$1 == "blocks" {begin[$2, $5] = $3; end[$2, $5] = $3 + $4}
        END {for (at in begin) {split(at, part, SUBSEP); before = (part[1] - 1) SUBSEP part[2]; if (before in end && begin[at] < end[before]) exit 1}}' \
        spans.txt || complain "$np: a parcel was worked on before it had come"
done
fails 1 'no/t.json: cannot create: No such file or directory' pipestep generate "$model" -q --trace no/t.json

# The way to the first token, in parts that add up.
for verify in always never; do
    launch 2 60 "$PIPESTEP" generate "$model" --prompt X -n 4 --ids --verify $verify --report start.json >/dev/null 2>log ||
        complain "report of the start: $(<log)"
    grep -q 'to the first token [0-9.]* s: ranks ' log || complain "no parts of the start: $(<log)"
    holds "parts of the start, --verify $verify" '($1 + $2 + $3 + $4 + $5 + $6) / $7 > 0.999 && ($1 + $2 + $3 + $4 + $5 + $6) / $7 < 1.001' \
        "$(for part in join index input plan open prompt to_first_token; do value start.json ${part}_s; done | paste -sd' ')"
    # Mapping and verifying are the slowest rank's: another may be at it longer than rank 0 takes to open its own part.
    holds "opening, --verify $verify" '$1 > $2 && $1 > $3 && $2 > 0' "$(value start.json to_first_token_s) $(value start.json map_s) $(value start.json verify_s)"
    holds 'the next token' '$1 > 0' "$(value start.json next_token_s)"
    launch 1 60 "$PIPESTEP" generate "$model" --prompt X -n 4 --ids --verify $verify -q --report alone.json >/dev/null
    holds "opening alone, --verify $verify" '$1 >= $2 && $1 >= $3 && $2 > 0' "$(value alone.json open_s) $(value alone.json map_s) $(value alone.json verify_s)"
done
holds 'nothing verified' '$1 < 0.001' "$(value start.json verify_s)"

# ---- plan ----

ok pipestep plan "$model" -np 4 --ctx 4096 --slots 8
plan=$out
same 'a line a stage' 4 "$(grep -c '^ *[0-3] ' <<<"$plan")"
grep -q '^slots 8, context 4096, ' <<<"$plan" || complain "plan: $plan"
ok pipestep plan "$model" --np=4 --ctx 4096 --slots 8
same '--np' "$(sed '$d' <<<"$plan")" "$(sed '$d' <<<"$out")"
out=$(launch 4 60 "$PIPESTEP" plan "$model" --ctx 4096 --slots 8 2>/dev/null)
same 'under mpirun' "$(sed '$d' <<<"$plan")" "$(sed '$d' <<<"$out")"
ok pipestep plan "$model" --json
echo "$out" >plan.json
holds 'base' '$1 > 1e7 && $1 < 2e8' "$(value plan.json base_bytes)"
ok pipestep plan "$model"
grep -q 'context not bounded' <<<"$out" || complain "plan without an end: $out"
ok pipestep plan "$model" -np 3 --split 1,3,4
same '--split' '0..0 1..3 4..7' "$(awk '/^ *[0-2] / {print $2}' <<<"$out" | paste -sd' ')"
fails 2 '20 ranks, but a model of 8 layers makes at most 9 stages' pipestep plan "$model" -np 20
fails 2 '--split 1,2: adds up to 3 layers, the model has 8' pipestep plan "$model" -np 2 --split 1,2
fails 2 '--split 1,x: "x" is not a number of layers' pipestep plan "$model" -np 2 --split 1,x
fails 2 '--split 8: names 1 stages for 2 ranks' pipestep plan "$model" -np 2 --split 8

# Measured, here and under a launcher; and what the split contradicts.
ok pipestep plan "$model" --measure -np 3 --slots 6 --json
echo "$out" >plan.json
same 'measured: stages with a time' 3 "$(grep -o '"time_ns": [1-9]' plan.json | wc -l)"
same 'measured: rows of a parcel' 2 "$(value plan.json timed_rows)"
holds 'measured: a round' '$1 > $2 && $3 > 0' "$(value plan.json round_ns)" "$(value plan.json head_ns)" \
    "$(value plan.json planned_tokens_per_s)"
launch 2 60 "$PIPESTEP" plan "$model" --measure --json >plan.json 2>log || complain "plan --measure on 2 ranks: $(<log)"
same 'measured on 2 ranks: stages with a time' 2 "$(grep -o '"time_ns": [1-9]' plan.json | wc -l)"
holds 'measured on 2 ranks: a hop' '$1 > 0' "$(value plan.json hop_ns)"
fails 2 '--measure finds the split: --split 4,4 contradicts it' pipestep plan "$model" -np 2 --measure --split 4,4
launch 2 60 "$PIPESTEP" plan "$model" --measure -np 3 >out 2>log
same 'measured for other ranks than there are: status' 2 $?
grep -q 'measures the 2 ranks that there are: -np 3 is another number' log || complain "plan --measure -np 3: $(<log)"
fails 2 'option --np needs a value' pipestep plan "$model" -np
for np in x -3 0.5 99999999999; do
    fails 2 'option --np wants an integer in 0..65536' pipestep plan "$model" "--np=$np"
done

# ---- limits of memory: of the process, of its control group ----

"$tiny_model" --context 0 --tokenizer --windows 0,0,0,0 open.h5
much=(open.h5 --ctx 400000 --slots 8)
ok pipestep plan "${much[@]}" # about 1.8 GB
limited() { (ulimit -v 1000000 && exec timeout 60 "$PIPESTEP" "$@"); }
# The address sanitizer reserves terabytes of addresses.
if [ -z "${ASAN_OPTIONS:-}" ]; then
    limited plan "${much[@]}" >out 2>log
    same 'plan under ulimit -v: status' 1 $?
    grep -q '^pipestep: error: stage 0 needs [0-9.]* MiB .*, the limit (RLIMIT_AS) leaves [0-9.]* MiB: take more ranks' log ||
        complain "plan under ulimit -v: $(<log)"
    fails 1 'the limit (RLIMIT_AS) leaves' limited generate "${much[@]}" --prompt a -q
fi

# in_group FILE BYTES COMMAND ...: in a control group of its own with this limit; status 99 if there can be none.
in_group() {
    local file=$1 bytes=$2 group status
    shift 2
    group=$(dirname "$file")
    mkdir "$group" 2>/dev/null || return 99
    if [ -e "$group/cgroup.procs" ] && [ -e "$file" ] && { echo "$bytes" >"$file"; } 2>/dev/null; then
        bash -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" timeout 60 "$@"
        status=$?
    else
        status=99
    fi
    rmdir "$group"
    return $status
}
for file in /sys/fs/cgroup/memory/pipestep-$$/memory.limit_in_bytes /sys/fs/cgroup/pipestep-$$/memory.max; do
    in_group "$file" 900000000 "$PIPESTEP" plan "${much[@]}" >out 2>log
    status=$?
    [ $status -eq 99 ] && continue
    same "$file: status" 1 $status
    grep -q 'the limit (cgroup) leaves 8[0-9][0-9]' log || complain "$file: $(<log)"
    # What fits one by one but not together is for more machines than this.
    in_group "$file" 900000000 "$PIPESTEP" plan "${much[@]}" -np 3 >out 2>log
    same "$file, three ranks: status" 0 $?
    grep -q 'pipestep: warning: together the ranks need .* (cgroup) is 858.3 MiB' log || complain "$file, three ranks: $(<log)"
done
exit "$bad"
