# What a run leaves for other programs: messages as JSON (--log-json).
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
quick=(--wait shared)

# are_objects NAME FILE: every line is a JSON object, by the word of batch, which reads such lines.
are_objects() {
    local name=$1 file=$2
    [ -s "$file" ] || complain "$name: nothing was said"
    pipestep batch "$model" -q --in "$file" --out objects.out || complain "$name: cannot be read: $(<"$file")"
    same "$name: lines" "$(grep -c . "$file")" "$(wc -l <objects.out)"
    grep -v 'unknown key ' objects.out && complain "$name: no objects: $(<"$file")"
}
line='^\{"time": "20[0-9-]{8}T[0-9:]{8}\.[0-9]{3}Z", "level": "[a-z]+", "rank": [0-9]+, "host": "[^"]+", "message": ".*"\}$'
# logs NAME: standard error in log is lines of this form.
logs() {
    are_objects "$1" log
    grep -vE "$line" log && complain "$1: another form"
}

# ---- messages as JSON ----

pipestep generate "$model" --log-json "${quick[@]}" -t 1 -v -n 3 --ids --hash-every 1 --report r.json >out 2>log || complain "$(<log)"
logs 'a run'
for level in debug info status; do grep -q "\"level\": \"$level\"" log || complain "no message of level $level: $(<log)"; done
same 'tokens' 3 "$(wc -w <out)"
# Errors before the options are understood, with bytes that are no text, before and after MPI is up.
for arguments in '--bogus' '--seed x' $'--prompt-file \x80\xff"\\' '-n 0 --ctx -1' '--config none'; do
    # shellcheck disable=SC2086 # words
    pipestep generate "$model" $arguments --log-json >out 2>log && complain "no error: $arguments"
    logs "$arguments"
    same "$arguments: lines" 1 "$(wc -l <log)"
    grep -q '"level": "error", "rank": 0' log || complain "$arguments: $(<log)"
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
launch 2 60 "$PIPESTEP" generate "$model" --log-json "${quick[@]}" -t 64 -n 1 --ids >out 2>log || complain "2 ranks: $(<log)"
logs '2 ranks'
for rank in 0 1; do
    grep -q "\"level\": \"warning\", \"rank\": $rank, .*64 threads on the" log || complain "rank $rank says nothing: $(<log)"
done
exit "$bad"
