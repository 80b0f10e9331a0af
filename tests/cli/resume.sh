# batch: jobs that are killed, told to stop, or find another job's files. Whatever happened to them, the same command
# goes on on any number of ranks and ends with the bytes of a job that nobody disturbed.
# shellcheck source=tests/support/cli.sh
# shellcheck disable=SC2015 # complain where the one or the other fails
. "$TOP/tests/support/cli.sh"
# shellcheck source=tests/faults/common.sh
. "$TOP/tests/faults/common.sh"
write_rank_script
write_requests >in.jsonl
options=(--in in.jsonl --out out.jsonl --journal-every 16)
host=$(uname -n)

batch() { pipestep batch "$model" "${quick[@]}" -q "$@"; }
has_begun() { grep -qs '^.\{17\}J ' out.jsonl.journal; }
has_lines() { [ "$(wc -l 2>/dev/null <out.jsonl.journal || echo 0)" -ge "$1" ]; }

# goes_on NAME RANKS ARG ...: to the end, and the output is the undisturbed one.
goes_on() {
    local name=$1 ranks=$2 status
    shift 2
    start "$ranks" "${options[@]}" "$@"
    wait "$job"
    status=$?
    [ $status -eq 0 ] || complain "$name: exit status $status: $(<err)"
    cmp out.jsonl wanted.jsonl || complain "$name: another output"
    same "$name: files left" 'out.jsonl out.jsonl.run.json' "$(echo out.jsonl*)"
}

# killed_at RANKS VICTIM CONDITION ...: SIGKILL of a rank once the condition holds.
killed_at() {
    local ranks=$1 victim=$2
    shift 2
    start "$ranks" "${options[@]}"
    until_true 30 have_pids "$ranks" && until_true 30 "$@" || complain "killed at $*: did not get there: $(<err)"
    kill -KILL "$(<pid."$victim")"
    wait "$job" && complain "killed at $*: exit status 0"
    until_true 10 is_gone "$(<pid.0)" || complain "killed at $*: rank 0 is still there"
}

batch --in in.jsonl --out wanted.jsonl || complain 'no output'
same 'files left' 'wanted.jsonl wanted.jsonl.run.json' "$(echo wanted.jsonl*)"
same 'results' $n_requests "$(wc -l <wanted.jsonl)"

# ---- killed ----

killed_at 1 0 true
goes_on 'killed at the start' 2
killed_at 2 1 has_begun
goes_on 'killed at the first prompt' 3 --slots 5 --chunk 7
killed_at 3 2 has_lines 12
killed_at 2 0 has_lines 30
goes_on 'killed twice' 1 --slots 3
killed_at 1 0 has_lines 50
quiet=()
start 3 "${options[@]}"
wait "$job"
grep -qE "^pipestep: out.jsonl: goes on: [0-9]+ of $n_requests requests are finished, [0-9]+ begun; before on 1 ranks with 1 \
threads each, now on 3 with 1" err || complain "what goes on is not said: $(<err)"
cmp out.jsonl wanted.jsonl || complain 'on 3 ranks: another output'
quiet=(-q)

# Behind a common prefix, which is computed again.
prefixed=("${options[@]}" --prefix $'X:1\nR:jig\n')
batch "${prefixed[@]}" || complain 'with a prefix: failed'
mv out.jsonl prefixed.jsonl
start 2 "${prefixed[@]}"
until_true 30 has_lines 30 && kill -KILL "$(<pid.1)"
wait "$job"
batch "${prefixed[@]}" --slots 4 || complain 'with a prefix: does not go on'
cmp out.jsonl prefixed.jsonl || complain 'with a prefix: another output'

# ---- told to stop ----

# stopped SIGNAL STATUS TEXT: a process alone.
stopped() {
    local pid status
    # A shell lets its background jobs ignore SIGINT.
    env --default-signal=INT "$PIPESTEP" batch "$model" "${options[@]}" -t 1 --no-progress >out 2>err &
    pid=$!
    until_true 30 has_lines 20
    kill "-$1" $pid
    wait $pid
    status=$?
    [ $status -eq "$2" ] || complain "$1: exit status $status, not $2: $(<err)"
    grep -q "^pipestep: warning: out.jsonl: saved and stopped by $3; the same command goes on" err || complain "$1: $(<err)"
    [ -s out.jsonl.journal ] || complain "$1: no journal"
    [ ! -e out.jsonl.lock ] || complain "$1: the lock is left"
}
stopped USR1 75 SIGUSR1
same 'lines that are torn' '' "$(pipestep batch "$model" "${options[@]}" -t 1 --stop-after 0.001 2>&1 | grep 'whole lines')"
goes_on 'after SIGUSR1' 2
stopped TERM 143 SIGTERM
goes_on 'after SIGTERM' 1
stopped INT 130 SIGINT
goes_on 'after SIGINT' 1

# Under a launcher, at any rank: rank 0 hears of it.
for victim in 0 1; do
    start 2 "${options[@]}"
    until_true 30 has_lines 20
    kill -USR1 "$(<pid.$victim)"
    wait "$job"
    status=$?
    [ $status -eq 75 ] || complain "SIGUSR1 to rank $victim: exit status $status: $(<err)"
    goes_on "after SIGUSR1 to rank $victim" 3
done
start 2 "${options[@]}"
until_true 30 has_lines 20
kill -TERM "$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$(<pid.0)/status")"
wait "$job" && complain 'SIGTERM to the launcher: exit status 0'
until_true 5 is_gone "$(<pid.1)" || complain 'SIGTERM to the launcher: rank 1 is still there'
goes_on 'after SIGTERM to the launcher' 1

# Times: a run that is stopped again and again comes to its end. All of it takes less than half a second where
# the kernels are fast.
runs=0 status=75 times=(0.05 0.1 0.2)
while [ $status -eq 75 ] && [ $runs -lt 60 ]; do
    batch "${options[@]}" --stop-after "${times[runs]:-0.5}"
    status=$?
    runs=$((runs + 1))
done
[ $status -eq 0 ] && [ $runs -gt 1 ] || complain "--stop-after: $runs runs, the last with exit status $status"
cmp out.jsonl wanted.jsonl || complain '--stop-after: another output'
SLURM_JOB_END_TIME=$(($(date +%s) + 5)) batch "${options[@]}"
[ $? -eq 75 ] || complain 'SLURM_JOB_END_TIME: the job was not stopped before'
goes_on 'after SLURM_JOB_END_TIME' 1
SLURM_JOB_END_TIME=1000 pipestep batch "$model" "${options[@]}" >log 2>&1 || complain "$(<log)"
grep -q 'warning: SLURM_JOB_END_TIME is "1000", which is no time to come: not heeded' log || complain "$(<log)"
fails 2 '--stop-after: - has no journal' batch --in in.jsonl --out - --stop-after 5

# SIGUSR2: who waits for whom, and how far the work is.
start 2 "${options[@]}"
until_true 30 has_lines 20
kill -USR2 "$(<pid.1)"
wait "$job" || complain "SIGUSR2: exit status $?"
grep -qE "^pipestep: rank 0 \($host, layers 0\.\.[0-9]+\): [1-9][0-9]* steps, (works|waits for rank 1 since [0-9.]+ s); 0.0 s ago" err &&
    grep -qE "^pipestep: rank 1 \($host, layers [0-9]+\.\.7\): [0-9]+ steps, " err &&
    grep -qE "^pipestep: [0-9]+ of $n_requests requests are finished, [1-9][0-9]* begun" err || complain "SIGUSR2: $(<err)"

# ---- what a journal may have gone through ----

# leave_journal: of a run that was stopped half way.
leave_journal() {
    start 1 "${options[@]}"
    until_true 30 has_lines 30
    kill -USR1 "$(<pid.0)"
    wait "$job"
    [ $? -eq 75 ] || complain 'no journal to try things with'
    rm -rf kept && mkdir kept && cp out.jsonl out.jsonl.journal kept
}
bring_back() { cp kept/out.jsonl kept/out.jsonl.journal .; }
leave_journal
bytes=$(wc -c <kept/out.jsonl.journal)
head -c $((bytes - 9)) kept/out.jsonl.journal >out.jsonl.journal
quiet=()
start 1 "${options[@]}"
wait "$job"
quiet=(-q)
grep -qE 'warning: out.jsonl.journal: the last [0-9]+ bytes are no whole lines, and were cut off' err || complain "a torn tail is not said: $(<err)"
cmp out.jsonl wanted.jsonl || complain 'a torn tail: another output'
bring_back
head -c $((bytes / 2)) kept/out.jsonl.journal >out.jsonl.journal
goes_on 'half a journal' 1
bring_back
printf 'X' | dd of=out.jsonl.journal bs=1 seek=$((bytes / 3)) conv=notrunc 2>dd.log
goes_on 'a damaged journal' 1
bring_back
: >out.jsonl
goes_on 'an output that was emptied' 1
bring_back
rm out.jsonl
goes_on 'an output that was removed' 1
bring_back
{ head -c 300 wanted.jsonl; cat in.jsonl; } >out.jsonl
goes_on 'another text in the output' 1
bring_back
cat wanted.jsonl in.jsonl >out.jsonl
goes_on 'an output that is ahead, with more behind it' 2

# ---- another job's journal ----

bring_back
fails 2 'out.jsonl.journal: was begun with seed 0, this run has 1; --resume no begins again' batch "${options[@]}" --seed 1
fails 2 'was begun with activations i16, this run has f32' batch "${options[@]}" --activations f32
fails 2 'was begun with window unset, this run has "64"' batch "${options[@]}" --window 64
fails 2 'was begun with order input, this run has finish' batch "${options[@]}" --order finish
{ cat in.jsonl; echo '{"prompt": "x"}'; } >longer.jsonl
fails 2 'was begun with input ' batch --in longer.jsonl --out out.jsonl
"$tiny_model" --family llama --layers 3 --windows 9 --tokenizer other.h5 || complain 'no model'
fails 2 'was begun with model ' pipestep batch other.h5 -q --in in.jsonl --out out.jsonl
fails 2 'with --gemm blas results depend on what runs side by side' batch "${options[@]}" --gemm blas
cmp out.jsonl.journal kept/out.jsonl.journal || complain 'a refused run changed the journal'
cmp out.jsonl kept/out.jsonl || complain 'a refused run changed the output'
cp in.jsonl same.jsonl
goes_on 'the same input under another name' 1 --resume yes
fails 2 'out.jsonl.journal: is not there, nothing to go on from: --resume yes' batch "${options[@]}" --resume yes
bring_back
batch "${options[@]}" --resume no --seed 1 || complain '--resume no: failed'
cmp -s out.jsonl wanted.jsonl && complain '--resume no: the old results'
goes_on 'over an old output' 1
bring_back
echo 'something else' >out.jsonl.journal
fails 1 'out.jsonl.journal: is no journal, or its first line is damaged' batch "${options[@]}"
goes_on 'instead of what is no journal' 1 --resume no

# ---- two jobs ----

start 2 "${options[@]}"
until_true 30 has_begun
fails 1 "out.jsonl.lock: is held by process $(<pid.0) on $host, which is running" batch "${options[@]}"
ln -s out.jsonl link.jsonl
fails 1 'out.jsonl.lock: is held by process' batch --in in.jsonl --out link.jsonl
kill -KILL "$(<pid.0)"
wait "$job"
until_true 10 is_gone "$(<pid.0)"
[ -e out.jsonl.lock ] || complain 'no lock is left of a job that was killed'
pipestep batch "$model" "${options[@]}" 2>log || complain "$(<log)"
grep -qE "warning: out.jsonl: the lock of process [0-9]+ on $host, which is dead, was taken over" log || complain "$(<log)"
cmp out.jsonl wanted.jsonl || complain 'after a dead job: another output'

# ---- the order of completion ----

options+=(--order finish)
batch "${options[@]}" || complain '--order finish failed'
cmp -s out.jsonl wanted.jsonl && complain '--order finish: in the order of the input'
sort wanted.jsonl | cmp - <(sort out.jsonl) || complain '--order finish: other results'
killed_at 2 0 has_lines 30
start 1 "${options[@]}"
wait "$job" || complain "--order finish: exit status $?"
sort wanted.jsonl | cmp - <(sort out.jsonl) || complain '--order finish, killed: other results'
exit "$bad"
