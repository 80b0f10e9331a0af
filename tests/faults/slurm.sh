#!/usr/bin/env bash
# launch/slurm.sbatch under a real Slurm: a slurmctld, a slurmd and a munged of this script's own on this machine, with
# all their files in a new directory. As root; installs Slurm where apt-get can.
#
#   tests/faults/slurm.sh
#
#   a job whose time limit is too short, three times over: queued again by itself, and the output of an undisturbed run
#   an array of jobs, each with requests of its own
#   scancel: a clean stop, and the same command goes on
#   a warning (scancel --signal): saved and queued again
#   the ranks started by srun --mpi=pmix, where Slurm has that
#
# Slurm counts time limits in minutes, so this takes some. Prints the log lines of the jobs.
set -u
here=$(cd "$(dirname "$0")" && pwd)
PIPESTEP=${PIPESTEP:-$PWD/build/pipestep}
case $PIPESTEP in /*) ;; *) PIPESTEP=$PWD/$PIPESTEP ;; esac
export PATH=$PATH:/usr/sbin
if [ "$(id -u)" -ne 0 ]; then
    echo 'slurm.sh: left out: needs root' >&2
    exit 77
fi
if ! command -v slurmctld >/dev/null || ! command -v slurmd >/dev/null || ! command -v munged >/dev/null; then
    apt-get -qq install -y --no-install-recommends slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge >/dev/null 2>&1
fi
if ! command -v slurmctld >/dev/null || ! command -v slurmd >/dev/null || ! command -v munged >/dev/null; then
    echo 'slurm.sh: left out: no slurmctld, slurmd and munged, and they cannot be installed' >&2
    exit 77
fi
directory=$(mktemp -d)
chmod 755 "$directory"
cd "$directory" || exit 1
# shellcheck source=tests/faults/common.sh
. "$here/common.sh"
export SLURM_CONF=$directory/slurm.conf OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
host=$(hostname -s)
bad=0
complain() {
    echo "$*" >&2
    bad=1
}

# ---- a Slurm of our own ----

daemons=()
stop_all() {
    scancel --me 2>/dev/null
    sleep 1
    for pid in "${daemons[@]}"; do kill "$pid" 2>/dev/null; done
    for pid in "${daemons[@]}"; do until_true 20 is_gone "$pid" || kill -KILL "$pid"; done
    rm -rf "$directory"
}
trap stop_all EXIT

start_slurm() {
    mkdir munge state spool
    chmod 700 munge
    dd if=/dev/urandom bs=128 count=1 of=munge/key status=none
    chmod 400 munge/key
    munged --foreground --force --key-file="$PWD/munge/key" --socket="$PWD/munge.socket" --pid-file="$PWD/munge/pid" \
        --log-file="$PWD/munge/log" --seed-file="$PWD/munge/seed" >munge/out 2>&1 &
    daemons+=($!)
    cat >slurm.conf <<END
ClusterName=pipestep
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$PWD/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$PWD/state
SlurmdSpoolDir=$PWD/spool
SlurmctldPidFile=$PWD/slurmctld.pid
SlurmdPidFile=$PWD/slurmd.pid
SlurmctldLogFile=$PWD/slurmctld.log
SlurmdLogFile=$PWD/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=10
JobRequeue=1
SchedulerParameters=batch_sched_delay=0,sched_interval=5
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
    until_true 20 test -S munge.socket || return 1
    slurmctld -D -f "$SLURM_CONF" >ctld.out 2>&1 &
    daemons+=($!)
    slurmd -D -f "$SLURM_CONF" -N "$host" >slurmd.out 2>&1 &
    daemons+=($!)
    until_true 40 node_is_up
}
node_is_up() { sinfo -h -o %T 2>/dev/null | grep -q idle; }

start_slurm || {
    echo 'slurm.sh: Slurm does not start' >&2
    tail -n 5 ctld.out slurmctld.log slurmd.out slurmd.log munge/out >&2
    exit 1
}
echo "slurm: $(scontrol --version), node $(sinfo -h -o '%n %T %c CPUs'), mpi: $(srun --mpi=list 2>&1 | tr -d '\t\n')"

# ---- jobs ----

# script NAME COMMAND-WORDS [LAUNCHER]: launch/slurm.sbatch as a user edits it; mpirun by default.
script() {
    local launcher=${3:-mpirun} options=''
    if [ "$launcher" = mpirun ]; then options='--allow-run-as-root --oversubscribe'; fi
    sed -e "s|^program=[^ ]*|program=$PIPESTEP|" -e "s|^model=[^ ]*|model=$model|" \
        -e "s|^command=.*|command=($2)|" -e "s|^launcher=[^ ]*|launcher=$launcher|" \
        -e "s|^launcher_options=.*|launcher_options=($options)|" \
        -e 's|^#SBATCH --nodes=.*|#SBATCH --nodes=1|' -e 's|^#SBATCH --ntasks-per-node=.*|#SBATCH --ntasks-per-node=2|' \
        -e 's|^#SBATCH --cpus-per-task=.*|#SBATCH --cpus-per-task=1|' -e 's|^#SBATCH --time=.*|#SBATCH --time=00:01:00|' \
        -e "s|^#SBATCH --output=.*|#SBATCH --output=$PWD/%x-%A_%a.log|" -e "s|^#SBATCH --job-name=.*|#SBATCH --job-name=$1|" \
        "$TOP/launch/slurm.sbatch" >"$1.sbatch"
}

state_of() { scontrol show job "$1" 2>/dev/null | sed -n 's/.*JobState=\([A-Z]*\).*/\1/p' | head -n 1; }
has_ended() { case $(state_of "$1") in COMPLETED | FAILED | CANCELLED | TIMEOUT | NODE_FAIL) ;; *) return 1 ;; esac }
is_running() { [ "$(state_of "$1")" = RUNNING ]; }
has_lines() { [ "$(wc -l 2>/dev/null <"$1" || echo 0)" -ge "$2" ]; }

# show JOB: what Slurm says of it, and its own log.
show() {
    scontrol show job "$1" | grep -oE 'JobState=[A-Z]+|Restarts=[0-9]+|ExitCode=[0-9:]+|Reason=[A-Za-z]+' | tr '\n' ' '
    echo
    cat ./*-"$1"_*.log 2>/dev/null | grep -E 'slurm.sbatch: saved|pipestep: (warning|out|.*goes on)' | sed 's/^/    /'
}

write_requests | grep -v no_such_key >some.jsonl

# About three times as much work as fits into a minute's job.
for ((i = 0; i < 400; i++)); do cat some.jsonl; done >all.jsonl
begin=$(date +%s%N)
head -n 150 all.jsonl >probe.jsonl
launch 2 300 "$PIPESTEP" batch "$model" -q -t 1 --in probe.jsonl --out probe.out </dev/null || complain 'the probe fails'
probe_ms=$((($(date +%s%N) - begin) / 1000000))
n=$((150 * 130000 / probe_ms))
[ $n -le 6000 ] || n=6000
head -n $n all.jsonl >in.jsonl
echo "requests: $n"
launch 2 600 "$PIPESTEP" batch "$model" -q -t 1 --in in.jsonl --out wanted.jsonl </dev/null || complain 'the undisturbed run fails'

script short "batch \"\$model\" --in $PWD/in.jsonl --out $PWD/out.jsonl --no-progress -t 1"
job=$(sbatch --parsable short.sbatch) || complain 'sbatch fails'
until_true 600 has_ended "$job"
echo "a time limit that is too short: job $job"
show "$job"
[ "$(state_of "$job")" = COMPLETED ] || complain "the job is $(state_of "$job"): $(tail -n 20 short-*.log)"
restarts=$(scontrol show job "$job" | sed -n 's/.*Restarts=\([0-9]*\).*/\1/p')
[ "${restarts:-0}" -ge 2 ] || complain "the job was queued again ${restarts:-0} times only"
cmp out.jsonl wanted.jsonl || complain 'after a short time limit: another output'

# ---- an array ----

for task in 0 1 2; do
    tail -n $((3 + task)) some.jsonl >in-$task.jsonl
    pipestep_alone() { "$PIPESTEP" batch "$model" -q --in in-$task.jsonl --out wanted-$task.jsonl; }
    pipestep_alone || complain 'a part of the array fails alone'
done
script array "batch \"\$model\" --in $PWD/in-\$SLURM_ARRAY_TASK_ID.jsonl --out $PWD/out-\$SLURM_ARRAY_TASK_ID.jsonl -t 1"
job=$(sbatch --parsable --array=0-2%1 array.sbatch) || complain 'sbatch --array fails'
array_is_done() { ! squeue -h -j "$job" 2>/dev/null | grep -q .; }
until_true 200 array_is_done
echo "an array: job $job"
for task in 0 1 2; do
    cmp out-$task.jsonl wanted-$task.jsonl || complain "task $task of the array: another output"
done

# ---- scancel, and a warning ----

rm -f out.jsonl*
script cancelled "batch \"\$model\" --in $PWD/in.jsonl --out $PWD/out.jsonl --no-progress -t 1"
job=$(sbatch --parsable cancelled.sbatch)
until_true 60 has_lines out.jsonl.journal 100 || complain "the job does not begin: $(cat cancelled-*.log)"
scancel "$job"
until_true 60 has_ended "$job"
echo "scancel: job $job"
show "$job"
[ -s out.jsonl.journal ] || complain 'scancel: no journal is left'
# Slurm tells all processes of the script's to end, and the script tells mpirun, which at the second time leaves at once;
# its ranks are gone a second or two later. Where that was too early for them the lock is left, of a dead job.
holder_is_gone() {
    local pid
    pid=$(sed -n 's/.*"pid": \([0-9]*\).*/\1/p' out.jsonl.lock 2>/dev/null)
    [ -z "$pid" ] || is_gone "$pid"
}
until_true 20 holder_is_gone || complain 'scancel: rank 0 is left'
launch 1 600 "$PIPESTEP" batch "$model" -q --in in.jsonl --out out.jsonl </dev/null || complain 'after scancel: does not go on'
cmp out.jsonl wanted.jsonl || complain 'after scancel: another output'

rm -f out.jsonl*
head -n 60 in.jsonl >few.jsonl
head -n 60 wanted.jsonl >few-wanted.jsonl
script warned "batch \"\$model\" --in $PWD/few.jsonl --out $PWD/out.jsonl --no-progress -t 1"
job=$(sbatch --parsable warned.sbatch)
until_true 60 has_lines out.jsonl.journal 20 || complain "the job does not begin: $(cat warned-*.log)"
scancel --batch --signal=USR1 "$job"
until_true 200 has_ended "$job"
echo "a warning: job $job"
show "$job"
grep -q 'saved and stopped by SIGUSR1' warned-*.log || complain "a warning: $(cat warned-*.log)"
[ "$(state_of "$job")" = COMPLETED ] || complain "a warning: the job is $(state_of "$job")"
cmp out.jsonl few-wanted.jsonl || complain 'after a warning: another output'

# ---- srun ----

if srun --mpi=list 2>&1 | grep -qw pmix; then
    rm -f out.jsonl*
    script direct "batch \"\$model\" --in $PWD/few.jsonl --out $PWD/out.jsonl --report $PWD/srun.json --no-progress -t 1" srun
    job=$(sbatch --parsable direct.sbatch)
    until_true 120 has_ended "$job"
    echo "srun --mpi=pmix: job $job"
    show "$job"
    [ "$(state_of "$job")" = COMPLETED ] || complain "srun: the job is $(state_of "$job"): $(tail -n 20 direct-*.log)"
    grep -q '"rank": 1,' srun.json || complain 'srun: the ranks did not find each other'
    cmp out.jsonl few-wanted.jsonl || complain 'srun: another output'
else
    echo 'srun: left out: Slurm has no plugin for PMIx here'
fi
[ $bad -eq 0 ] && echo 'slurm: all outputs as those of undisturbed runs'
exit $bad
