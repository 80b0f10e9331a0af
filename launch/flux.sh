#!/usr/bin/env bash
# Runs pipestep on the nodes of a Flux job.
#
#   cp flux.sh mine.sh; edit the settings; flux batch mine.sh
#
# The first block is for Flux: nodes, ranks on all of them (slots), threads of each (cores of a slot). One rank for each
# NUMA node, with all of its cores, is a good start. pipestep plan MODEL --np RANKS shows beforehand whether the model
# fits, and its split. Standard output (the text, or JSON lines) goes to the file named below, the log and errors to
# --output.
#
# A batch that does not come to its end in the job's time saves what it has before that, ends with status 75, and is
# submitted again by this script: it goes on where it stopped, as often as it takes. bash flux.sh --help shows this
# text. What may go wrong, and why: launch/README.md.
#
#flux: --job-name=pipestep
#flux: --nodes=2
#flux: --nslots=4
#flux: --cores-per-slot=8
#flux: --exclusive
#flux: --time-limit=60m
#flux: --output=pipestep-{{id}}.log
#flux: # --queue=NAME --bank=NAME
set -u

# ---- settings ----
program=pipestep                  # a name in PATH, or a path that is the same on all nodes
model=model.h5                    # likewise
output=pipestep-flux.txt          # what goes to standard output
command=(generate "$model" --prompt-file prompt.txt -n 512 --seed 7)
#command=(batch "$model" --in requests.jsonl --out results.jsonl)
threads=8                         # threads of a rank: cores of a slot
margin=120                        # a batch stops so many seconds before the end of the job
flux_options=()                   # such as (-o pmi=pmix), where Flux has it and Open MPI wants it
#module load openmpi hdf5 openblas
# ---- end of settings ----

fail() {
    echo "flux.sh: $*" >&2
    exit 2
}

if [ "${1:-}" = -h ] || [ "${1:-}" = --help ]; then
    sed -n '2,/^#flux:/{/^#flux:/d; s/^# \{0,1\}//; p;}' "$0"
    exit 0
fi
[ -n "${FLUX_URI:-}" ] || fail 'not in a Flux job: submit this file with flux batch'
left=$(flux job timeleft 2>/dev/null) || fail 'not in a Flux job: submit this file with flux batch'
[[ $threads =~ ^[1-9][0-9]*$ ]] || fail "threads is a number from 1 on, not '$threads'"
[[ $margin =~ ^[0-9]+$ ]] || fail "margin is a number of seconds, not '$margin'"
binary=$(command -v "$program") || fail "there is no program $program on $(hostname)"
"$binary" --version >/dev/null || fail "$program does not run on $(hostname): its libraries are not there"
[ -r "$model" ] || fail "the model $model cannot be read on $(hostname), in $PWD"

# What Flux gave this job: nodes, and cores of all of them.
read -r nodes cores < <(flux resource list --states=all --no-header --format='{nnodes} {ncores}')
[[ ${nodes:-} =~ ^[1-9][0-9]*$ && ${cores:-} =~ ^[1-9][0-9]*$ ]] || fail 'flux resource list names no nodes and cores'
ranks=$((cores / threads))
((ranks >= 1 && ranks * threads == cores && ranks % nodes == 0)) ||
    fail "ranks of $threads threads do not divide the $cores cores of $nodes nodes: set threads, or --cores-per-slot"

# Neighbouring ranks share a node, so that few messages cross the network. A rank that fails ends all.
line=(flux run "--nodes=$nodes" "--ntasks=$ranks" "--cores-per-task=$threads" -o cpu-affinity=per-task -o exit-timeout=30s
    "${flux_options[@]}")
# Without a limit Flux names a number beyond all years.
if [ "${command[0]}" = batch ] && [ "$left" -lt 1000000000 ]; then
    [ "$left" -gt $((2 * margin)) ] || margin=$((left / 2))
    command+=(--stop-after "$((left - margin))s")
fi
command+=(--threads "$threads")

# What becomes of a batch stands in its record (OUT.run.json): launchers change exit statuses.
record=''
case ${command[0]} in
batch | acestep)
    for ((i = 1; i < ${#command[@]}; i++)); do
        case ${command[i]} in
        --out | -o) record=$(readlink -f -- "${command[i + 1]:-}").run.json ;;
        --out=*) record=$(readlink -f -- "${command[i]#*=}").run.json ;;
        esac
    done
    ;;
esac
if [ -n "$record" ]; then rm -f -- "$record"; fi # an earlier run's

echo "flux.sh: ${line[*]} $binary ${command[*]} > $output" >&2
"${line[@]}" "$binary" "${command[@]}" >"$output"
status=$?
said=''
if [ -n "$record" ]; then said=$(sed -n 's/^"exit_status": \([0-9]*\),$/\1/p' "$record" 2>/dev/null); fi
if [ -n "$said" ] && [ "$said" -ne "$status" ]; then
    echo "flux.sh: the launcher ended with status $status, the run with $said ($record)" >&2
    status=$said
fi
if [ "$status" -eq 75 ]; then
    echo 'flux.sh: saved; the job is submitted again' >&2
    # Flux runs a copy of this file. The job's own instance ends with it: the one above takes the next.
    flux --parent batch "$0" || echo 'flux.sh: not submitted again: submit the same script once more' >&2
fi
exit "$status"
