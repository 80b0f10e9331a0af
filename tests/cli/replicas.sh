# batch --stages: several rings that have the whole model each give the bytes of one, whatever is killed or stopped.
# shellcheck source=tests/support/cli.sh
# shellcheck disable=SC2015 # complain where the one or the other fails
. "$TOP/tests/support/cli.sh"
# shellcheck source=tests/faults/common.sh
. "$TOP/tests/faults/common.sh"
write_rank_script
write_requests >in.jsonl
files=(--in in.jsonl --out out.jsonl)
options=("${files[@]}" --journal-every 16)

has_lines() { [ "$(wc -l 2>/dev/null <out.jsonl.journal || echo 0)" -ge "$1" ]; }
# ends STATUS NAME WANTED: the job in the background, and its output.
ends() {
    local status
    wait "$job"
    status=$?
    [ $status -eq "$1" ] || complain "$2: exit status $status, not $1: $(<err)"
    [ -z "${3:-}" ] || cmp out.jsonl "$3" || complain "$2: another output"
}

ok pipestep batch "$model" -q -t 1 --in in.jsonl --out wanted.jsonl
same 'a request that cannot run' 1 "$(grep -c '"error"' wanted.jsonl)"

# ---- rings of one and of two ranks ----

# whole STAGES WANTED ARG ...: a run that nobody disturbs, and its report.
whole() {
    local stages=$1 wanted=$2
    shift 2
    start 4 "${options[@]}" --stages "$stages" --report "$stages.json" "$@"
    ends 0 "--stages $stages" "$wanted"
    same "--stages $stages: files left" 'out.jsonl out.jsonl.run.json' "$(echo out.jsonl*)"
    same "--stages $stages: ranks in the report" '0 1 2 3' "$(grep -o '"rank": [0-9]*' "$stages.json" | grep -o '[0-9]*' | xargs)"
    same "--stages $stages: rings in the report" $((4 / stages)) "$(grep -c '"first_rank": ' "$stages.json")"
    same "--stages $stages: requests" $((n_requests - 1)) "$(sed -n 's/^ "requests": \([0-9]*\).*/\1/p' "$stages.json")"
    same "--stages $stages: requests of all rings" $((n_requests - 1)) \
        "$(sed -n 's/^  {"first_rank.*"requests": \([0-9]*\).*/\1/p' "$stages.json" | awk '{s += $1} END {print s}')"
    same "--stages $stages: rings that got nothing" 0 "$(grep -c '"first_rank.*"requests": 0,' "$stages.json")"
}
# With a common prefix, which each ring computes; with a split that each measures.
ok pipestep batch "$model" -q -t 1 --in in.jsonl --out prefixed.jsonl --prefix $'X:1\nR:jig\n'
whole 1 prefixed.jsonl --prefix $'X:1\nR:jig\n'
whole 2 wanted.jsonl --split auto

# ---- killed, stopped ----

start 4 "${options[@]}" --stages 2
until_true 30 have_pids 4 && until_true 30 has_lines 20 || complain "killed: did not get there: $(<err)"
kill -KILL "$(<pid.3)"
wait "$job" && complain 'killed: exit status 0'
until_true 10 is_gone "$(<pid.0)" || complain 'killed: rank 0 is still there'
[ -s out.jsonl.journal ] || complain 'killed: no journal'
start 4 "${options[@]}" --stages 4
ends 0 'after a killed rank' wanted.jsonl

# What the others had under way is saved.
start 2 "${files[@]}" --stages 1 --journal-every 100000
until_true 30 has_lines 5 || complain "SIGUSR1: did not get there: $(<err)"
kill -USR1 "$(<pid.1)"
ends 75 SIGUSR1
same 'tokens under way' true "$([ "$(cut -c 18 out.jsonl.journal | grep -c P)" -ge 4 ] && echo true)"
ok pipestep batch "$model" -q -t 1 "${files[@]}"
cmp out.jsonl wanted.jsonl || complain 'after SIGUSR1: another output'

# A rank that stands still is named, and ends the job.
start 4 "${options[@]}" --stages 2 --stall-timeout 1
until_true 30 has_lines 20 || complain "stopped: did not get there: $(<err)"
kill -STOP "$(<pid.3)"
until_true 10 is_gone "$(<pid.0)" || complain 'stopped: rank 0 is still there'
kill -KILL "$(<pid.3)" 2>/dev/null
ends 3 'a rank that stands still'
grep -q 'rank 3 (.*, layers .*) gave no sign of life for 1.0 s' err || complain "stopped: $(<err)"

# ---- numbers that go wrong on another ring ----

# Token 8 is damaged: in the first panel of the embedding, [K][16], its first value is NaN.
"$tiny_model" --tokenizer --seed 2 hf
ok pipestep convert hf -o good.h5 -q
first=$(($(od -An -tu8 -N 8 hf/model.safetensors) + 8))
lanes=$(for row in {0..15}; do od -An -tx1 -j $((first + row * 36 * 4)) -N 4 hf/model.safetensors; done | tr -d '\n')
at=$(LC_ALL=C grep -obUaP "${lanes// /\\x}" good.h5 | cut -d : -f 1)
cp good.h5 bad.h5
printf '\000\000\300\177' | dd of=bad.h5 bs=1 seek=$((at + 32)) conv=notrunc status=none
for first_token in 1 8 2; do
    echo "{\"tokens\": [$first_token, 3], \"max_tokens\": 200, \"temperature\": 0, \"ignore_eos\": true}"
done >in.jsonl
ok pipestep batch good.h5 -q -t 1 --in in.jsonl --out wanted.jsonl
rm -f out.jsonl*
model=bad.h5
start 2 "${options[@]}" --stages 1 --verify never
ends 1 'NaN on a ring'
same 'NaN on a ring' "pipestep: error: rank 1 ($(uname -n)): the logit of token 0 is NaN: the model's numbers overflow" \
    "$(grep '^pipestep' err)"
ok pipestep batch good.h5 -q -t 1 "${files[@]}"
cmp out.jsonl wanted.jsonl || complain 'after NaN on a ring: another output'

# ---- refused ----

fails 2 '--stages 2: wants a multiple of so many ranks, there is 1' pipestep batch "$model" --in in.jsonl --out no.jsonl --stages 2
start 2 --in in.jsonl --out no.jsonl --stages 3
ends 2 'ranks left over'
same 'ranks left over' 'pipestep: error: --stages 3: wants a multiple of so many ranks, there are 2' "$(grep '^pipestep' err)"
[ ! -e no.jsonl ] || complain 'ranks left over: an output'
fails 2 'stages' pipestep generate "$model" --stages 1
exit "$bad"
