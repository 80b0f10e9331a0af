#!/usr/bin/env bash
# Mixed batch work for long: the memory and the open files of the ranks stay as they are.
#
#   tests/faults/soak.sh TOKENS [RANKS]
#
# Runs one batch of as many requests as make TOKENS new tokens (requests of common.sh, over and over). Every second
# soak.csv in the working directory gets a line of seconds, resident KiB and open files of rank 0. Fails when after the
# first fifth memory has grown by more than a tenth, or files were left open.
set -u
here=$(cd "$(dirname "$0")" && pwd)
tokens=${1:?tokens}
ranks=${2:-2}
origin=$PWD
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
PIPESTEP=${PIPESTEP:-$PWD/build/pipestep}
case $PIPESTEP in /*) ;; *) PIPESTEP=$PWD/$PIPESTEP ;; esac
cd "$directory" || exit 1
# shellcheck source=tests/faults/common.sh
. "$here/common.sh"
write_rank_script
write_requests | grep -v no_such_key >some.jsonl
per_round=2800 # new tokens of these requests, about
for ((i = 0; i < tokens / per_round + 1; i++)); do cat some.jsonl; done >in.jsonl
launch "$ranks" 0 ./rank.sh "$PIPESTEP" batch "$model" "${quick[@]}" -q --in in.jsonl --out out.jsonl --report report.json \
    >out 2>err </dev/null &
job=$!
until_true 60 have_pids "$ranks"
pid=$(<pid.0)
echo 'seconds,resident_kib,open_files' >soak.csv
begin=$SECONDS
while ! is_gone "$job"; do
    resident=$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$pid/status" 2>/dev/null)
    files=$(find "/proc/$pid/fd" -mindepth 1 2>/dev/null | wc -l)
    if [ -n "$resident" ] && [ -s out.jsonl ]; then echo "$((SECONDS - begin)),$resident,$files" >>soak.csv; fi
    sleep 1
done
wait $job || {
    cat err >&2
    exit 1
}
cp soak.csv "$origin/soak.csv"
[ "$(wc -l <out.jsonl)" -eq "$(wc -l <in.jsonl)" ] || {
    echo 'results are missing' >&2
    exit 1
}
# The process goes at the end, with its files: the last lines do not count.
awk -F, 'NR > 1 {s[NR - 1] = $1; m[NR - 1] = $2; f[NR - 1] = $3; n = NR - 1}
    END {
        first = int(n / 5) + 1
        last = n > 4 ? n - 2 : n
        for (i = first; i <= last; i++) { if (m[i] > most) most = m[i]; if (f[i] > open) open = f[i] }
        printf "%d s, resident %d KiB after a fifth, at most %d after it; open files %d, at most %d\n", s[last], m[first], most, f[first], open
        exit most > 1.1 * m[first] || open > f[first] + 1
    }' soak.csv
