# shellcheck shell=bash
# What the scripts of the benchmarks share. Sourced, not run, in the root of the tree.

program=${PIPESTEP:-build/pipestep}

# bench_header NAME [KEY=VALUE ...]: the lines without which no figure stands.
bench_header() {
    local pair
    echo "# bench=$1"
    shift
    "$program" --version | sed -n '1s/^pipestep /# version=/p'
    echo "# host=$(uname -n)"
    sed -n '0,/^model name/s/^model name[[:space:]]*: /# processor=/p' /proc/cpuinfo
    echo "# cores=$(nproc)"
    for pair in "$@"; do
        echo "# $pair"
    done
}

# median: of the numbers on standard input
median() { sort -g | awk '{a[NR]=$1} END {if (NR) print a[int((NR+1)/2)]}'; }

# field JSON-FILE KEY: the first number of that key
field() { sed -n "s/.*\"$2\": \([0-9.eE+-]*\).*/\1/p" "$1" | head -n 1; }

# fields JSON-FILE KEY: that key's number of each stage, a line each
fields() { sed -n "s/^  {\"rank\".*\"$2\": \([0-9.eE+-]*\).*/\1/p" "$1"; }

# afresh DIRECTORY: without the output, the journal and the report of a run that was killed there
afresh() { rm -f "$1"/out.jsonl "$1"/out.jsonl.* "$1"/report.json; }

# read_rate THREADS, fma_rate THREADS: the machine's limits, GB/s and GFLOP/s
read_rate() { "$program" bench --limits -t "$1" | sed -n '3s/,.*//p'; }
fma_rate() { "$program" bench --limits -t "$1" | sed -n '3s/.*,//p'; }

# is_usable MODEL: it is there, and of the layouts that this version reads
is_usable() { [ -s "$1" ] && "$program" inspect "$1" >/dev/null 2>&1; }

# requests N PROMPT NEW VOCABULARY: that many, with other prompts of so many tokens, as JSON lines
requests() {
    awk -v n="$1" -v p="$2" -v new="$3" -v v="$4" 'BEGIN {
        for (i = 0; i < n; i++) {
            printf "{\"id\": %d, \"max_tokens\": %d, \"ignore_eos\": true, \"tokens\": [", i, new
            for (t = 0; t < p; t++) printf "%s%d", t ? ", " : "", (i * 131 + t * 7919 + int(t / 13)) % v
            print "]}"
        }
    }'
}

# vocabulary MODEL: its size
vocabulary() { "$program" inspect "$1" | sed -n 's/^vocabulary *//p'; }

# read_bytes MODEL: bytes of weights that a token reads, head included
read_bytes() {
    "$program" plan "$1" --ctx 64 -np 1 --json | sed -n 's/.*"read_bytes_per_token": \([0-9]*\).*/\1/p'
}
