#!/usr/bin/env bash
# How the pipeline scales over ranks 1..N.
#
#   bench/scaling.sh            make bench-scaling; in a Slurm job: launch/scaling.sbatch
#
# strong     the same model, the same sequences, one token at a time
# sequences  weak: as many sequences for each rank
# layers     weak: as many layers for each rank, as many sequences for each rank
# prompt     one prompt in m chunks, through stages of equal layers
# replicas   the same ranks as one ring and as several that have the whole model each, fed from one queue
# groups     as many groups of sequences as ranks, in turn through these and through one process with all their threads
#
# RANKS (as many as cores over THREADS), THREADS (1) of each, SYNTHETIC (llama-0.3b,type=f16; or any that pipestep bench
# takes), SEQUENCES (4 for each rank), LAYERS (8 for each rank), TOKENS (32), CHUNK (32), CHUNKS (2 4 8 16), RUNS (3),
# KINDS; BENCH_LAUNCH, words that start ranks when their number follows (srun --mpi=pmix -n).
#
# CSV to standard output and build/bench/scaling/scaling.csv; each row is the run with the median rate. Figures where
# gnuplot is. Columns: bench/README.md.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/launcher.sh
. bench/common.sh
work=${BENCH_DIR:-build/bench}/scaling
threads=${THREADS:-1}
cores=$(launcher_cores)
sequences=${SEQUENCES:-4} layers=${LAYERS:-8} tokens=${TOKENS:-32} chunk=${CHUNK:-32} runs=${RUNS:-3}
synthetic=${SYNTHETIC:-llama-0.3b,type=f16}
# One process with the threads of all ranks has no place where a batch system starts ranks on several machines.
kinds=${KINDS:-strong sequences layers prompt replicas$([ -n "${BENCH_LAUNCH:-}" ] || echo ' groups')}
if [[ " $kinds " == *' groups '* && -n ${BENCH_LAUNCH:-} ]]; then
    echo 'scaling.sh: KINDS=groups compares ranks with one process of this machine: not with BENCH_LAUNCH' >&2
    exit 2
fi
read -ra ranks <<<"${RANKS:-$(seq -s ' ' 1 $((cores / threads > 0 ? cores / threads : 1)))}"
read -ra chunks <<<"${CHUNKS:-2 4 8 16}"
most=${ranks[-1]}
mkdir -p "$work"
: >"$work/raw.csv"

# ask N PROMPT NEW: the requests of the next run, of $file
ask() { requests "$@" "$(vocabulary "$file")" >"$work/requests.jsonl"; }

# start RANKS PROGRAM ...
start() {
    local words=()
    if [ -n "${BENCH_LAUNCH:-}" ]; then
        read -ra words <<<"$BENCH_LAUNCH"
        "${words[@]}" "$@"
    else
        launch "$1" 900 "${@:2}"
    fi
}

# model LAYERS: sets file; 0: as many as the preset has
model() {
    local spec=$synthetic
    [ "$1" -eq 0 ] || spec+=",layers=$1"
    file=$work/$(tr ',=' '-_' <<<"$spec").h5
    is_usable "$file" || "$program" bench -q --synthetic "$spec" -o "$file"
}

# list KEY: that key of every stage over its time, as words with ; between
list() {
    paste -d' ' <(fields "$work/report.json" "$1") <(fields "$work/report.json" wall_s) |
        awk '{printf "%s%.3f", (NR > 1 ? ";" : ""), ($2 > 0 ? $1 / $2 : 0)}'
}

# run KIND RANKS STAGES SEQUENCES CHUNKS KEY [OPTION ...]: a line of raw.csv, of $file and $work/requests.jsonl
run() {
    local kind=$1 np=$2 stages=$3 n=$4 m=$5 key=$6 parcels
    shift 6
    afresh "$work"
    start "$np" "$program" batch "$file" -i "$work/requests.jsonl" -o "$work/out.jsonl" -q -t "$threads" --bind \
        --report "$work/report.json" --stages "$stages" "$@"
    parcels=$(fields "$work/report.json" parcels | head -n 1)
    [ "$parcels" -gt 0 ] || {
        echo "scaling.sh: nothing was computed: $(head -n 1 "$work/out.jsonl")" >&2
        exit 1
    }
    printf '%s,%d,%d,%d,%d,%d,%s,%s,%s,%d,%s,%s,%s,%s,%d\n' "$kind" "$np" "$threads" \
        "$(fields "$work/report.json" end_layer | sort -n | tail -n 1)" "$n" "$m" "$(field "$work/report.json" wall_s)" \
        "$(field "$work/report.json" "$key")" "$(field "$work/report.json" bubble)" "$parcels" \
        "$(($(fields "$work/report.json" sent_bytes | tail -n 1) / $(fields "$work/report.json" parcels | tail -n 1)))" \
        "$(sed -n 's/^ "plan": //p' "$work/report.json" | grep -o '"read_bytes_per_token": [0-9]*' |
            awk '{s += $2; if ($2 > m) m = $2} END {print s / NR / m}')" "$(list busy_s)" "$(list wait_s)" "$stages" >>"$work/raw.csv"
}

# even RANKS: a split of $file in as equal parts as can be
even() {
    "$program" plan "$file" -np 1 --ctx 64 --json | grep -o '"end_layer": [0-9]*' |
        awk -v p="$1" '{for (s = 0; s < p; s++) printf "%s%d", s ? "," : "", int($2 * (s + 1) / p) - int($2 * s / p)}'
}

# divisors N: of numbers over 1, the largest first
divisors() { for ((d = $1; $1 > 1 && d > 0; d--)); do [ $(($1 % d)) -ne 0 ] || echo "$d"; done; }

for _ in $(seq "$runs"); do
    for np in "${ranks[@]}"; do
        for kind in $kinds; do
            case $kind in
            strong)
                model 0
                ask $((sequences * most)) 8 "$tokens"
                run strong "$np" "$np" $((sequences * most)) 0 new_tokens_per_s --slots $((sequences * most))
                ;;
            sequences)
                model 0
                ask $((sequences * np)) 8 "$tokens"
                run sequences "$np" "$np" $((sequences * np)) 0 new_tokens_per_s --slots $((sequences * np))
                ;;
            layers)
                model $((layers * np))
                ask $((sequences * np)) 8 "$tokens"
                run layers "$np" "$np" $((sequences * np)) 0 new_tokens_per_s --slots $((sequences * np))
                ;;
            prompt)
                model 0
                for m in "${chunks[@]}"; do
                    ask 1 $((m * chunk)) 1
                    run prompt "$np" "$np" 1 "$m" prompt_tokens_per_s --chunk "$chunk" --split "$(even "$np")"
                done
                ;;
            replicas)
                model 0
                for stages in $(divisors "$np"); do
                    n=$((sequences * np))
                    ask $((2 * n)) 8 "$tokens"
                    run replicas "$np" "$stages" $((2 * n)) 0 new_tokens_per_s --slots $((n * stages / np))
                done
                ;;
            groups)
                [ "$np" -gt 1 ] || continue
                model 0
                n=$((sequences * np))
                ask "$n" 8 "$tokens"
                # A process alone has buffers for two: of more groups, one ends before the third begins.
                threads=$((threads * np)) run groups 1 1 "$n" "$np" new_tokens_per_s --slots $((2 * sequences)) --in-flight 2
                run groups "$np" "$np" "$n" "$np" new_tokens_per_s --slots "$n" --in-flight "$np"
                ;;
            esac
        done
    done
done

# The median run of each row; speed-ups over the row of the fewest ranks, those of replicas over one ring. A weak row's speed-up is in work: by layers,
# a token is as much more of it as there are more layers.
{
    bench_header scaling "synthetic=$synthetic" "runs=$runs" "tokens=$tokens" "chunk=$chunk" \
        "launch=${BENCH_LAUNCH:-local}" "cores_of_this_host=$cores"
    echo "kind,ranks,threads,layers,sequences,chunks,seconds,tokens_s,speedup,efficiency,formula,balance,bubble,bubble_formula,parcels,hop_bytes,busy_least,busy_most,wait_most,busy_by_stage,stages"
    sort -t, -k1,1 -k6,6n -k2,2n -k15,15nr -k8,8g "$work/raw.csv" | awk -F, '
        function flush(  line, f, n, busy, wait, i, least, most, waited, m, p, s, group, speedup, bubble) {
            if (!count) return
            split(lines[int((count + 1) / 2)], f, ",")
            p = f[2]; s = f[15]
            group = f[1] "," f[6] (f[1] == "replicas" ? "," p : "")
            if (group != base_key) {
                base_key = group; base_ranks = p; base_threads = f[3]; base_rate = f[8]; base_layers = f[4]
            }
            speedup = f[8] / base_rate * (f[1] == "layers" ? f[4] / base_layers : 1)
            m = f[1] == "prompt" ? f[6] : f[10]
            bubble = (s - 1) / (m + s - 1)
            n = split(f[13], busy, ";"); split(f[14], wait, ";")
            least = 1e9; most = waited = 0
            for (i = 1; i <= n; i++) {
                if (busy[i] < least) least = busy[i]
                if (busy[i] > most) most = busy[i]
                if (wait[i] > waited) waited = wait[i]
            }
            printf "%s,%d,%d,%d,%d,%d,%.3f,%.2f,%.3f,%.3f,%.3f,%.3f,%.3f,%.3f,%d,%d,%.3f,%.3f,%.3f,%s,%d\n", f[1], p, f[3], f[4],
                f[5], f[6], f[7], f[8], speedup, speedup * base_ranks * base_threads / (p * f[3]), 1 - bubble, f[12], f[9], bubble, f[10], f[11],
                least, most, waited, f[13], s
            count = 0
        }
        {
            key = $1 "," $2 "," $6 "," $15
            if (key != last) flush()
            last = key
            lines[++count] = $0
        }
        END {flush()}'
} | tee "$work/scaling.csv"

command -v gnuplot >/dev/null || exit 0
# rows KIND COLUMN CHUNKS
rows() { awk -F, -v k="$1" -v c="$2" -v m="$3" '$1 == k && $6 == m {print $2, $c}' "$work/scaling.csv"; }
for kind in strong sequences layers; do
    rows "$kind" 9 0 >"$work/$kind.dat"
done
for m in "${chunks[@]}"; do
    rows prompt 9 "$m" >"$work/prompt$m.dat"
done
{
    echo 'set terminal svg size 900,600 dynamic; set grid; set key left top; set xlabel "ranks"; set ylabel "speed-up"'
    echo "set xrange [1:*]; set yrange [0:*]; set output '$work/decode.svg'"
    printf "plot x title 'ranks' lc rgb '#bbbbbb'"
    for kind in strong sequences layers; do
        [ ! -s "$work/$kind.dat" ] || echo -n ", '$work/$kind.dat' with linespoints lw 2 title '$kind'"
    done
    printf "\nset output '%s/prompt.svg'\nplot x title 'ranks' lc rgb '#bbbbbb'" "$work"
    for m in "${chunks[@]}"; do
        [ ! -s "$work/prompt$m.dat" ] || echo -n ", $m*x/($m+x-1) title '$m chunks, formula' dt 2" \
            ", '$work/prompt$m.dat' with linespoints lw 2 title '$m chunks'"
    done
    echo
} >"$work/figures.gnuplot"
gnuplot "$work/figures.gnuplot" && echo "# figures: $work/decode.svg $work/prompt.svg" >&2
