# Standard streams that are closed, full, or left by their reader; never a hang, and never bytes in a wrong place.
# shellcheck disable=SC2015 # complain where the one or the other fails
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
echo 1 2 3 >tokens.txt
printf '{"prompt": "a", "max_tokens": 3}\n' >requests.jsonl
commands=("generate $model -n 20 -q" "generate $model -n 20 -q --json" "batch $model -q --in requests.jsonl --out -"
    "score $model -q --tokens tokens.txt" "plan $model" "inspect $model" --version help 'generate --help'
    "tokenize $model" "detokenize $model" "bench --synthetic tunes -o $PWD/made.h5")

# run HOW COMMAND ...: with standard output closed, full, or read by nobody; standard error in log.
run() {
    local how=$1
    shift
    case $how in
    closed) pipestep "$@" <tokens.txt 2>log >&- ;;
    full) pipestep "$@" <tokens.txt 2>log >/dev/full ;;
    esac
}
for command in "${commands[@]}"; do
    read -ra words <<<"$command"
    case $command in bench*) continue ;; esac
    run closed "${words[@]}"
    same "closed: status of $command" 4 $?
    same "closed: $command" '' "$(grep -v '^pipestep: [0-9r ]' log)"
    run full "${words[@]}"
    same "full: status of $command" 1 $?
    same "full: $command" 'pipestep: error: standard output: cannot write: No space left on device' \
        "$(grep -v '^pipestep: [0-9r ]' log)"
done
# Standard streams that are missing altogether: files that are opened do not take their numbers.
pipestep bench --synthetic tunes -o made.h5 <&- >&- 2>&-
same 'all closed: status' 0 $?
ok pipestep inspect made.h5 --verify
pipestep score "$model" --tokens tokens.txt --logits closed.h5 -q <&- >&- 2>&-
same 'all closed: status of score' 4 $?
pipestep score "$model" --tokens tokens.txt --logits open.h5 -q >scores 2>&-
same 'standard error closed: status' 0 $?
[ -s scores ] && [ -s open.h5 ] || complain 'standard error closed: no result'
pipestep generate "$model" --prompt-file - -q <&- >out 2>log
same 'standard input closed: status' 1 $?
same 'standard input closed' 'pipestep: error: standard input: cannot read: Bad file descriptor' "$(<log)"

# The reader leaves: with nothing said, even where there is much left to write.
for command in "generate $model -n -1 --ignore-eos -q --seed 1" "inspect $model"; do
    read -ra words <<<"$command"
    pipestep "${words[@]}" 2>log | head -c 1 >/dev/null
    status=${PIPESTATUS[0]}
    [ "$status" -eq 4 ] || { [ "$status" -eq 0 ] && [ "${words[0]}" = inspect ]; } || complain "left: status $status of $command"
    same "left: $command" '' "$(<log)"
done
# A reader that pauses is waited for.
pipestep generate "$model" -n 3000 --ignore-eos --seed 1 -q --ids >straight
pipestep generate "$model" -n 3000 --ignore-eos --seed 1 -q --ids | { sleep 1 && cat; } | cmp - straight ||
    complain 'a slow reader gets something else'
# The report goes to standard error alone, and -q leaves nothing of it.
pipestep generate "$model" -n 3 >out 2>log
same 'text alone' 'X:1' "$(<out)"
grep -q 'tokens/s' log || complain 'no report'
exit "$bad"
