# What a run leaves for other programs: messages as JSON (--log-json), the record of a batch (OUT.run.json), metrics for
# Prometheus (--metrics).
# shellcheck disable=SC2015,SC2317 # complain where the one or the other fails; functions are called by name
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
# shellcheck source=tests/faults/common.sh
. "$TOP/tests/faults/common.sh"
write_rank_script
quick=(-t 1 --wait shared)

# are_objects NAME FILE: every line is a JSON object; looked at in the end, all at once.
are_objects() {
    [ -s "$2" ] || complain "$1: nothing was said"
    cat "$2" >>objects.txt
}
# By the word of batch, which reads such lines.
check_objects() {
    pipestep batch "$model" -q --in objects.txt --out - >objects.out || complain "objects.txt cannot be read"
    same 'objects' "$(wc -l <objects.txt)" "$(wc -l <objects.out)"
    grep -v 'unknown key ' objects.out && complain 'no objects'
}
line='^\{"time": "20[0-9-]{8}T[0-9:]{8}\.[0-9]{3}Z", "level": "[a-z]+", "rank": [0-9]+, "host": "[^"]+", "message": ".*"\}$'
# logs NAME: standard error in log is lines of this form.
logs() {
    are_objects "$1" log
    grep -vE "$line" log && complain "$1: another form"
}

# ---- messages as JSON ----

pipestep generate "$model" --log-json "${quick[@]}" -v -n 3 --ids --hash-every 1 --report r.json >out 2>log || complain "$(<log)"
logs 'a run'
for level in debug info status; do grep -q "\"level\": \"$level\"" log || complain "no message of level $level: $(<log)"; done
same 'tokens' 3 "$(wc -w <out)"
# Errors before the options are understood, with bytes that are no text, before and after MPI is up.
for argument in --bogus --seed=x $'--prompt-file=\x80\xff"\\' --ctx=-1 --config=none; do
    pipestep generate "$model" "$argument" --log-json >out 2>log && complain "no error: $argument"
    logs "$argument"
    same "$argument: lines" 1 "$(wc -l <log)"
    grep -q '"level": "error", "rank": 0' log || complain "$argument: $(<log)"
done
pipestep generat --log-json 2>log
logs 'an unknown command'
pipestep generate $'no\nmodel' --log-json 2>log
logs 'a name of two lines'
grep -qF 'no\nmodel: ' log || complain "a name of two lines: $(<log)"
echo 'log-json = true' >log.conf
pipestep generate none.h5 --config log.conf 2>log
logs 'from a configuration file'
pipestep generate none.h5 --config log.conf --no-log-json 2>log
grep -q '^pipestep: error: none.h5' log || complain "--no-log-json: $(<log)"
# Every rank says who it is.
launch 2 60 "$PIPESTEP" generate "$model" --log-json -t 64 -n 1 --ids >out 2>log || complain "2 ranks: $(<log)"
logs '2 ranks'
for rank in 0 1; do
    grep -q "\"level\": \"warning\", \"rank\": $rank, .*64 threads on the" log || complain "rank $rank says nothing: $(<log)"
done

# ---- the record of a batch ----

# value KEY: as it stands in the record, which has a key a line.
value() { sed -n "s/^\"$1\": \(.*[^,]\),\{0,1\}\$/\1/p" out.jsonl.run.json; }
# records NAME EXIT-STATUS REASON STATE
records() {
    { tr -d '\n' <out.jsonl.run.json && echo; } >object
    are_objects "$1" object
    same "$1" "$2 $3 $4" "$(value exit_status) $(value reason) $(value state)"
}
has_lines() { [ "$(wc -l 2>/dev/null <out.jsonl.journal || echo 0)" -ge "$1" ]; }
has_ended() { grep -q '"state": "ended"' out.jsonl.run.json; }

for ((i = 0; i < 400; i++)); do echo "{\"id\": $i, \"prompt\": \"X:1\", \"max_tokens\": 300, \"ignore_eos\": true}"; done >long.jsonl
{ head -n 3 long.jsonl && echo '{"no": "request"}'; } >in.jsonl
batch() { pipestep batch "$model" "${quick[@]}" -q --in in.jsonl "$@"; }
batch --out out.jsonl || complain 'no output'
records 'to the end' 0 '"done"' '"ended"'
same 'requests' '{"all": 4, "finished": 3, "failed": 1, "left": 0}' "$(value requests)"
same 'tokens' '{"prompt": 12, "generated": 900, "begun": 0}' "$(value tokens)"
same 'command' '"batch"' "$(value command)"
same 'model' "\"$model\"" "$(value model)"
same 'journal' null "$(value journal)"
same 'stages' '[{"rank": 0, "ring": 0, "host": "'"$(uname -n)"'", "first_layer": 0, "end_layer": 8, "threads": 1}]' "$(value stages)"
case $(value arguments) in *'"--in", "in.jsonl", "--out", "out.jsonl"]') ;; *) complain "arguments: $(value arguments)" ;; esac
case $(value options) in *'"threads = 1"'*) ;; *) complain "options: $(value options)" ;; esac
# Nowhere to lie beside, and no run: no record.
cp out.jsonl.run.json before.json
batch --out - >stdout.jsonl
batch --out /dev/null
same 'other records' out.jsonl.run.json "$(echo ./*.run.json | sed 's|\./||g')"
fails 1 none.h5 pipestep batch none.h5 --in in.jsonl --out out.jsonl
cmp before.json out.jsonl.run.json || complain 'a run that did not begin has a record'
rm out.jsonl*
# Refused before there is a plan.
fails 2 '--in-flight 3: a ring of 1 rank has buffers for at most 2 parcels' \
    pipestep batch "$model" "${quick[@]}" -q --in in.jsonl --out out.jsonl --in-flight 3
records 'refused' 2 '"usage"' '"ended"'
same 'refused: stages' '[{"rank": 0, "ring": 0, "host": "'"$(uname -n)"'", "first_layer": null, "end_layer": null, "threads": 1}]' "$(value stages)"
rm out.jsonl*

# Without a launcher, which takes its time.
start_alone() {
    rm -f pid.0
    timeout 60 ./rank.sh "$PIPESTEP" batch "$model" "${quick[@]}" -q --in long.jsonl --out out.jsonl >out 2>err &
    job=$!
}

# Told to save, told to end, killed, stopped by the clock.
start 2 --in long.jsonl --out out.jsonl --journal-every 16
until_true 30 has_lines 10 || complain "no journal: $(<err)"
records 'under way' null '""' '"running"'
kill -USR1 "$(<pid.1)"
wait "$job"
records 'SIGUSR1' 75 '"saved"' '"ended"'
same 'SIGUSR1: message' '"out.jsonl: saved and stopped by SIGUSR1; the same command goes on"' "$(value message)"
same 'SIGUSR1: journal' '"out.jsonl.journal"' "$(value journal)"
same 'SIGUSR1: ranks' 2 "$(value ranks)"
start_alone
until_true 30 have_pids 1 && until_true 30 grep -qs running out.jsonl.run.json || complain "no record: $(<err)"
lines=$(wc -l <out.jsonl.journal)
until_true 30 has_lines $((lines + 2)) || complain "does not go on: $(<err)"
kill -TERM "$(<pid.0)"
wait "$job"
until_true 10 has_ended || complain "SIGTERM: $(<out.jsonl.run.json)"
records 'SIGTERM' 143 '"terminated"' '"ended"'
same 'SIGTERM: runs' 1 "$(value earlier_runs)"
start_alone
until_true 30 have_pids 1 && until_true 30 grep -qs running out.jsonl.run.json || complain "no record: $(<err)"
kill -KILL "$(<pid.0)"
wait "$job"
records 'SIGKILL' null '""' '"running"'
pipestep batch "$model" -q --in long.jsonl --out out.jsonl --stop-after 0.01
same '--stop-after' 75 $?
records '--stop-after' 75 '"saved"' '"ended"'
[ "$(value earlier_runs)" -ge 2 ] || complain "runs: $(value earlier_runs)"

# ---- metrics ----

# parses FILE: the text format: every sample behind the HELP and TYPE of its metric, no sample twice.
parses() {
    awk '
    /^# HELP pipestep_[a-z_]+ [A-Z].*\.$/ {help = $3; next}
    /^# TYPE pipestep_[a-z_]+ (gauge|counter)$/ {if ($3 != help || seen[$3]++) exit 1; type = $3; next}
    /^pipestep_[a-z_]+(\{[a-z_]+="([^"\\]|\\[\\"n])*"(,[a-z_]+="([^"\\]|\\[\\"n])*")*\})? [-+.0-9eE]+$/ {
        name = $1; sub(/\{.*/, "", name); sample = $0; sub(/ [^ ]*$/, "", sample)
        if (name != type || samples[sample]++) exit 1; n++; next
    }
    {exit 1}
    END {exit !(n > 10)}' "$1" || complain "$1 does not parse: $(<"$1")"
}
# metric SAMPLE: its value.
metric() { awk -v s="pipestep_$1 " 'index($0, s) == 1 {print substr($0, length(s) + 1)}' m.prom; }

cp "$model" $'m"\\\n\x80.h5'
pipestep generate $'m"\\\n\x80.h5' "${quick[@]}" -q -n 5 --ignore-eos --ids --metrics m.prom >out || complain 'metrics of generate'
parses m.prom
same 'files of the metrics' m.prom "$(echo m.prom*)"
grep -qF 'model="m\"\\\n?.h5"' m.prom || complain "name of the model: $(grep info m.prom)"
same 'generate' '0 0 1 0 1 5 1' "$(for s in running exit_status 'requests{state="finished"}' 'requests{state="begun"}' 'tokens_total{ring="0",kind="prompt"}' \
    'tokens_total{ring="0",kind="generated"}' slots; do metric "$s"; done | paste -sd' ')"
echo 'X:1' >text.txt
pipestep score "$model" --text text.txt "${quick[@]}" -q --metrics m.prom >out || complain 'metrics of score'
parses m.prom
same 'score' '1 0 4 0' "$(for s in 'requests{state="finished"}' 'requests{state="waiting"}' 'tokens_total{ring="0",kind="prompt"}' 'tokens_total{ring="0",kind="generated"}'; do metric "$s"; done | paste -sd' ')"
fails 1 'no/m.prom: cannot create' pipestep generate "$model" -q --metrics no/m.prom
rm -f out.jsonl* m.prom
start 2 --in long.jsonl --out out.jsonl --metrics m.prom --metrics-every 0.1
is_running() { [ "$(metric 'requests{state="finished"}')" -gt 2 ]; }
until_true 30 is_running 2>/dev/null || complain "no progress: $(<m.prom)"
cp m.prom now.prom
kill -USR1 "$(<pid.1)"
wait "$job"
parses now.prom
grep -q '^pipestep_running 1$' now.prom || complain "running: $(<now.prom)"
grep -qE '^pipestep_tokens_per_second\{ring="0",kind="generated"\} [1-9]' now.prom || complain "no rate: $(<now.prom)"
grep -qE '^pipestep_slots_used\{ring="0"\} [1-9]' now.prom || complain "slots: $(<now.prom)"
parses m.prom
same 'in the end' '0 75' "$(metric running) $(metric exit_status)"
same 'shares of time' 6 "$(grep -c '^pipestep_time_ratio{rank="[01]",host="' m.prom)"
same 'caches' 2 "$(grep -cE '^pipestep_cache_bytes\{rank="[01]"\} [1-9]' m.prom)"
same 'all requests' 400 "$(awk '/^pipestep_requests/ {n += $2} END {print n}' m.prom)"
# What the record says too.
same 'metrics and record' "$(metric 'requests{state="finished"}')" "$(sed -n 's/.*"finished": \([0-9]*\).*/\1/p' out.jsonl.run.json)"
# Two rings: each rank is one. What the other did is known in the end.
rm -f out.jsonl*
start 2 --in in.jsonl --out out.jsonl --stages 1 --metrics m.prom
wait "$job" || complain "2 rings: $(<err)"
parses m.prom
records '2 rings' 0 '"done"' '"ended"'
same '2 rings: requests' '3 1' "$(metric 'requests{state="finished"}') $(metric 'requests{state="failed"}')"
same '2 rings: tokens' "900 $(value tokens | sed 's/.*generated": //; s/,.*//')" \
    "$(awk '/^pipestep_tokens_total.*generated/ {n += $2} END {print n}' m.prom) 900"
case $(value stages) in *'{"rank": 1, "ring": 1, '*'"first_layer": 0, "end_layer": 8, "threads": 1}]') ;; *) complain "2 rings: $(value stages)" ;; esac
check_objects
exit "$bad"
