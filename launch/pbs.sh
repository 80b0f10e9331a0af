#!/usr/bin/env bash
# Runs pipestep on the nodes of a PBS job (PBS Pro, OpenPBS).
#
#   cp pbs.sh mine.sh; edit the settings; qsub mine.sh
#
# The first block is for PBS: select=NODES:ncpus=CORES:mpiprocs=RANKS:ompthreads=THREADS, all for one node. One rank for
# each NUMA node, with all of its cores, is a good start; ncpus is mpiprocs times ompthreads. pipestep plan MODEL
# --np RANKS shows beforehand whether the model fits, and its split. Standard output (the text, or JSON lines) goes to
# the file named below, the log and errors to the job's own file. bash pbs.sh --help shows this text. What may go wrong,
# and why: launch/README.md.
#
#PBS -N pipestep
#PBS -S /bin/bash
#PBS -l select=2:ncpus=16:mpiprocs=2:ompthreads=8
#PBS -l place=scatter:excl
#PBS -l walltime=01:00:00
#PBS -j oe
set -u
cd "${PBS_O_WORKDIR:-.}" || exit 1

# ---- settings ----
program=pipestep                  # a name in PATH, or a path that is the same on all nodes
model=model.h5                    # likewise
output=pipestep-${PBS_JOBID:-0}.txt  # what goes to standard output
command=(generate "$model" --prompt-file prompt.txt -n 512 --seed 7)
# A batch saves itself before the walltime is over and ends with status 75: submit the same file again until it is done.
#command=(batch "$model" --in requests.jsonl --out results.jsonl --stop-after 55m)
threads=${OMP_NUM_THREADS:-}      # threads of a rank; PBS sets it from ompthreads
bind=yes                          # no: on nodes that are shared with other jobs
mpirun_options=()                 # such as (--mca btl_tcp_if_include ib0 --mca oob_tcp_if_include ib0)
#module load openmpi hdf5 openblas
# ---- end of settings ----

fail() {
    echo "pbs.sh: $*" >&2
    exit 2
}

if [ "${1:-}" = -h ] || [ "${1:-}" = --help ]; then
    sed -n '2,/^#PBS/{/^#PBS/d; s/^# \{0,1\}//; p;}' "$0"
    exit 0
fi
[ -r "${PBS_NODEFILE:-}" ] || fail 'not in a PBS job: submit this file with qsub'
[[ $threads =~ ^[1-9][0-9]*$ ]] ||
    fail 'the number of threads is unknown: give ompthreads, or set threads'
binary=$(command -v "$program") || fail "there is no program $program on $(hostname)"
"$binary" --version >/dev/null || fail "$program does not run on $(hostname): its libraries are not there"
[ -r "$model" ] || fail "the model $model cannot be read on $(hostname), in $PWD"
mpirun=$(command -v mpirun) || fail 'there is no mpirun in PATH'

# The file has a line for each rank.
ranks=$(grep -c . "$PBS_NODEFILE")
nodes=$(sort -u "$PBS_NODEFILE" | grep -c .)
on_a_node=$((ranks / nodes))
cores=$(lscpu -p=SOCKET,CORE | grep -v '^#' | sort -u | wc -l)
[ $((on_a_node * nodes)) -eq "$ranks" ] ||
    fail "$ranks ranks are not spread evenly over $nodes nodes: give place=scatter"
[ $((on_a_node * threads)) -le "$cores" ] ||
    fail "$on_a_node ranks of $threads threads are too many for the $cores cores of $(hostname)"

if "$mpirun" --version 2>/dev/null | grep -qiE 'open mpi|openrte|prte'; then
    line=("$mpirun" -np "$ranks")
    # Built with PBS's tm library Open MPI asks PBS for the nodes; otherwise (Debian's) it wants the file, and ssh.
    if ! { ompi_info --parsable || prte_info --parsable; } 2>/dev/null | grep -qE '(plm|ras):tm'; then
        line+=(--hostfile "$PBS_NODEFILE" -x PATH)
        if [ -n "${LD_LIBRARY_PATH:-}" ]; then line+=(-x LD_LIBRARY_PATH); fi
    fi
    if [ $bind = yes ]; then
        line+=(--map-by "ppr:$on_a_node:node:PE=$threads" --bind-to core)
    else
        line+=(--map-by "ppr:$on_a_node:node" --bind-to none)
    fi
else
    line=("$mpirun" -f "$PBS_NODEFILE" -np "$ranks" -ppn "$on_a_node")
    if [ $bind = yes ]; then line+=(-bind-to "core:$threads"); fi
fi
line+=("${mpirun_options[@]}" "$binary" "${command[@]}" --threads "$threads")

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

echo "pbs.sh: ${line[*]} > $output" >&2

# As if the ranks had this script's place: what it is told is for them.
warned=no
trap 'warned=yes; if [ -n "$record" ]; then kill -USR1 "$ranks_pid"; fi' USR1
trap 'warned=yes; kill -TERM "$ranks_pid"' TERM INT
"${line[@]}" >"$output" &
ranks_pid=$!
while :; do
    warned=no
    wait "$ranks_pid"
    status=$?
    [ $warned = yes ] || break # the wait ended, not the ranks
done
said=''
if [ -n "$record" ]; then said=$(sed -n 's/^"exit_status": \([0-9]*\),$/\1/p' "$record" 2>/dev/null); fi
if [ -n "$said" ] && [ "$said" -ne "$status" ]; then
    echo "pbs.sh: the launcher ended with status $status, the run with $said ($record)" >&2
    status=$said
fi
exit "$status"
