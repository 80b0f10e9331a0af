#!/usr/bin/env bash
# A stream far past the trained context: memory and time for every 10000 tokens of the small model, and the same
# stream on another number of ranks, which must draw the same tokens (hashes of all ids so far).
#
#   bench/endless.sh [TOKENS] [RANKS]        default: 1000000 3
#
# Writes build/bench/endless.csv (tokens, seconds of the last 10000, resident MiB, hash) and, where gnuplot is
# installed, build/bench/endless.svg. Columns of the summary: median seconds of the first and last tenth of the
# stream and their ratio, of the first and last 10000, and resident memory at both ends. Exit status 1 when the
# hashes of the two runs differ.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/launcher.sh
. bench/common.sh
tokens=${1:-1000000}
ranks=${2:-3}
work=${BENCH_DIR:-build/bench}
every=$((tokens >= 100000 ? 10000 : (tokens + 9) / 10))
mkdir -p "$work"

# stream RANKS: CSV lines of one run
stream() {
    launch "$1" 3000 "$program" generate --config configs/endless.conf --seed 7 -n "$tokens" --hash-every "$every" \
        --ids -q 2>"$work/endless-$1.log" >/dev/null
    sed -n 's/^pipestep: \([0-9]*\) tokens, hash \([0-9a-f]*\), \([0-9.]*\) s, resident \([0-9.]*\) MiB$/\1,\3,\4,\2/p' \
        "$work/endless-$1.log"
}

echo "# bench=endless"
echo "# tokens=$tokens"
"$program" --version | sed -n '1s/^pipestep /# version=/p'
{ echo "tokens,seconds,resident_mib,hash" && stream 1; } >"$work/endless.csv"
stream "$ranks" >"$work/endless-other.csv"
rows=$(($(wc -l <"$work/endless.csv") - 1))
tenth=$((rows / 10 > 0 ? rows / 10 : 1))
times() { tail -n +2 "$work/endless.csv" | cut -d, -f2; }
memory() { tail -n +2 "$work/endless.csv" | cut -d, -f3; }
begin=$(times | head -n "$tenth" | median)
end=$(times | tail -n "$tenth" | median)
echo "first_tenth_s,last_tenth_s,ratio,first_s,last_s,first_mib,last_mib"
awk -v b="$begin" -v e="$end" -v f="$(times | head -n 1)" -v l="$(times | tail -n 1)" \
    -v m="$(memory | head -n 1)" -v n="$(memory | tail -n 1)" \
    'BEGIN {printf "%.3f,%.3f,%.3f,%.3f,%.3f,%.1f,%.1f\n", b, e, e / b, f, l, m, n}'
if command -v gnuplot >/dev/null; then
    gnuplot <<PLOT
set terminal svg size 900,420 font "sans,14"
set output "$work/endless.svg"
set datafile separator ","
set title "$tokens tokens of the small model on one rank"
set xlabel "tokens"
set ylabel "seconds for $every tokens"
set y2label "resident memory of the process, MiB"
set y2tics
set ytics nomirror
set yrange [0:*]
set y2range [0:*]
set key bottom right
plot "$work/endless.csv" using 1:2 every ::1 with lines lw 2 lc rgb "#4477aa" title "time", \
     "" using 1:3 every ::1 axes x1y2 with lines lw 2 lc rgb "#ee6677" title "memory"
PLOT
    echo "# plot=$work/endless.svg"
fi
if cmp -s <(tail -n +2 "$work/endless.csv" | cut -d, -f1,4) <(cut -d, -f1,4 "$work/endless-other.csv"); then
    echo "# hashes on 1 and $ranks ranks: equal, $rows of $rows"
else
    echo "# hashes on 1 and $ranks ranks: DIFFERENT"
    exit 1
fi
