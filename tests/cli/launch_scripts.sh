# launch/: local.sh for real; the batch scripts, copied and edited as a user does, under stand-ins for the batch
# systems that check nothing but run the ranks: the command lines are checked here.
set -u
model=$TOP/configs/tunes/tunes.h5
stubs=$TOP/tests/support/stubs
export REAL_PATH=$PATH STUB_MPI='mpirun (Open MPI) 4.1.4' STUB_PLUGINS=pmix STUB_COMPONENTS=''
unset SLURM_JOB_ID SLURM_NTASKS SLURM_CPUS_PER_TASK SLURM_HINT PBS_NODEFILE LSB_MCPU_HOSTS LD_LIBRARY_PATH
bad=0

complain() {
    echo "$*" >&2
    bad=1
}

# same NAME WANTED FOUND
same() {
    [ "$2" = "$3" ] || complain "$1"$'\n'"  wanted: $2"$'\n'"  found:  $3"
}

# fails STATUS WANTED-TEXT COMMAND ...: exit status, and the one line that says why.
fails() {
    local status=$1 text=$2 output found
    shift 2
    output=$("$@" 2>&1 >/dev/null)
    found=$?
    [ $found -eq "$status" ] || complain "exit status $found, not $status: $* ($output)"
    case $output in
    *$'\n'*) complain "more than a line: $output" ;;
    *"$text"*) ;;
    *) complain "no '$text' in: $output" ;;
    esac
}

# ---- on this machine ----

tune=(generate "$model" --prompt $'X:1\nR:jig\n' -n 24 --seed 7 -t 1)
local_sh() { "$TOP/launch/local.sh" --timeout 60 "$@"; }

"$PIPESTEP" "${tune[@]}" --ids >alone 2>log || complain "one rank failed: $(cat log)"
for ranks in 1 2 3; do
    local_sh -np $ranks -- "${tune[@]}" --ids --report report.json >out 2>log || complain "local.sh -np $ranks: $(cat log)"
    same "tokens of $ranks ranks" "$(cat alone)" "$(cat out)"
    same "stages of $ranks ranks" "$ranks" "$(grep -c '"rank":' report.json)"
done
fails 2 "no command for pipestep" "$TOP/launch/local.sh" -np 2
fails 2 "-np wants a number from 1 on, not 'x'" "$TOP/launch/local.sh" -np x generate
fails 2 "unknown option --nq" "$TOP/launch/local.sh" --nq 2 generate
fails 2 "is not a program" env PIPESTEP=/nowhere "$TOP/launch/local.sh" generate
"$TOP/launch/local.sh" -np 2 --timeout 2 generate "$model" --prompt X -n -1 --ignore-eos -q >/dev/null 2>&1 </dev/null &&
    complain "--timeout did not end an endless run"
# Each rank gets its share of the cores, or none is bound.
line=$(MPIEXEC=$stubs/mpirun "$TOP/launch/local.sh" --dry-run -np 1 generate m.h5 -t 1)
grep -qE -- '(--map-by slot:PE=1 --bind-to core|--bind-to none --oversubscribe) -np 1 .*generate m.h5 -t 1' <<<"$line" ||
    complain "local.sh -np 1 -t 1: $line"
line=$(MPIEXEC=$stubs/mpirun "$TOP/launch/local.sh" --dry-run -np 2 generate m.h5 --threads 1000)
grep -q -- '--bind-to none --oversubscribe -np 2' <<<"$line" || complain "local.sh with more threads than cores: $line"
line=$(STUB_MPI='HYDRA build details:' MPIEXEC=$stubs/mpirun "$TOP/launch/local.sh" --dry-run --no-bind -np 2 plan m.h5)
grep -qE -- 'mpirun --bind-to none -np 2' <<<"$line" || complain "local.sh with MPICH: $line"

# ---- batch scripts ----

# edit FILE [SED-OPTION ...]: what a user does to a copy.
edit() {
    local file=$1
    shift
    sed -e "s|^program=[^ ]*|program=$PIPESTEP|" -e "s|^model=[^ ]*|model=$model|" -e 's/ -n 512 / -n 24 /' \
        "$@" "$TOP/launch/$file" >"mine-$file"
}

# runs NAME OUTPUT WANTED-LINE COMMAND ...: the ranks were started by this line and played what one rank plays.
runs() {
    local name=$1 output=$2 wanted=$3
    shift 3
    rm -f line "$output"
    env PATH="$stubs:$PATH" "$@" 2>log || complain "$name: exit status $? ($(cat log))"
    same "$name" "$wanted" "$(tr '\n' ' ' <line)"
    same "$name: tokens" "$(cat alone)" "$(cat "$output")"
}

printf 'X:1\nR:jig\n' >prompt.txt
command="$PIPESTEP generate $model --prompt-file prompt.txt -n 24 --seed 7 --ids -t 1"
ids=(-e 's/--seed 7)/--seed 7 --ids -t 1)/')

edit slurm.sbatch "${ids[@]}"
slurm="srun --mpi=pmix -n 4 -c 8 --distribution=block:block --kill-on-bad-exit=1"
runs 'slurm.sbatch' pipestep-77.txt "$slurm --cpu-bind=cores $command " sbatch mine-slurm.sbatch
runs 'slurm.sbatch with a hint' pipestep-77.txt "$slurm $command " env SLURM_HINT=nomultithread sbatch mine-slurm.sbatch
edit slurm.sbatch "${ids[@]}" -e 's/^launcher=srun/launcher=mpirun/' -e 's/^launcher_options=()/launcher_options=(--tag)/'
runs 'slurm.sbatch with mpirun' pipestep-77.txt \
    "mpirun -np 4 --map-by ppr:2:node --bind-to none --tag $command --bind " sbatch mine-slurm.sbatch
runs 'slurm.sbatch with MPICH' pipestep-77.txt \
    "mpirun -np 4 -bind-to none --tag $command --bind " env STUB_MPI=HYDRA sbatch mine-slurm.sbatch
edit slurm.sbatch
fails 2 'not in a Slurm job' bash mine-slurm.sbatch
fails 2 'srun knows no --mpi=pmix' env PATH="$stubs:$PATH" STUB_PLUGINS=pmi2 sbatch mine-slurm.sbatch
edit slurm.sbatch -e '/^#SBATCH --cpus/d'
fails 2 'give --cpus-per-task' env PATH="$stubs:$PATH" sbatch mine-slurm.sbatch
edit slurm.sbatch -e 's/^launcher=srun/launcher=prun/'
fails 2 'launcher is srun or mpirun, not prun' env PATH="$stubs:$PATH" sbatch mine-slurm.sbatch
edit slurm.sbatch -e 's|^model=.*|model=none.h5|'
fails 2 'the model none.h5 cannot be read' env PATH="$stubs:$PATH" sbatch mine-slurm.sbatch
edit slurm.sbatch -e 's|^program=.*|program=no-such-program|'
fails 2 'there is no program no-such-program' env PATH="$stubs:$PATH" sbatch mine-slurm.sbatch

# Two threads a rank instead of eight, so that the ranks fit this machine better.
few=(-e 's/--seed 7)/--seed 7 --ids)/' -e 's/ompthreads=8/ompthreads=2/')
command="${command% -t 1} --threads 2"
bound='--map-by ppr:2:node:PE=2 --bind-to core'
edit pbs.sh "${few[@]}"
runs 'pbs.sh' pipestep-77.txt "mpirun -np 4 --hostfile $SCRATCH/nodes -x PATH $bound $command " qsub mine-pbs.sh
runs 'pbs.sh with tm' pipestep-77.txt \
    "mpirun -np 4 $bound $command " env STUB_COMPONENTS=mca:plm:tm:version qsub mine-pbs.sh
runs 'pbs.sh with MPICH' pipestep-77.txt \
    "mpirun -f $SCRATCH/nodes -np 4 -ppn 2 -bind-to core:2 $command " env STUB_MPI=HYDRA qsub mine-pbs.sh
edit pbs.sh "${few[@]}" -e 's/^bind=yes/bind=no/'
runs 'pbs.sh unbound' pipestep-77.txt \
    "mpirun -np 4 --hostfile $SCRATCH/nodes -x PATH --map-by ppr:2:node --bind-to none $command " qsub mine-pbs.sh
fails 2 'not in a PBS job' bash mine-pbs.sh
edit pbs.sh -e 's/ompthreads=8/ompthreads=9/'
fails 2 '2 ranks of 9 threads are too many for the 16 cores' env PATH="$stubs:$PATH" qsub mine-pbs.sh
edit pbs.sh -e 's/:ompthreads=8//'
fails 2 'give ompthreads' env PATH="$stubs:$PATH" OMP_NUM_THREADS='' qsub mine-pbs.sh
printf 'a\na\nb\n' >uneven
fails 2 '3 ranks are not spread evenly over 2 nodes' \
    env PATH="$stubs:$PATH" PBS_NODEFILE=uneven OMP_NUM_THREADS=1 bash mine-pbs.sh

few=(-e 's/--seed 7)/--seed 7 --ids)/' -e 's/^threads=8/threads=2/' -e 's/-n 32/-n 8/' -e 's/ptile=16/ptile=4/')
submit='bsub <mine-lsf.bsub'
edit lsf.bsub "${few[@]}"
runs 'lsf.bsub' pipestep-77.txt \
    "mpirun -np 4 --host node1:2,node2:2 -x PATH $bound $command " bash -c "$submit"
runs 'lsf.bsub with LSF in Open MPI' pipestep-77.txt \
    "mpirun -np 4 $bound $command " env STUB_COMPONENTS=mca:plm:lsf:version bash -c "$submit"
runs 'lsf.bsub with MPICH' pipestep-77.txt \
    "mpirun -hosts node1:2,node2:2 -np 4 -ppn 2 -bind-to core:2 $command " env STUB_MPI=HYDRA bash -c "$submit"
fails 2 'not in an LSF job' bash mine-lsf.bsub
fails 2 'unequal shares' env PATH="$stubs:$PATH" LSB_MCPU_HOSTS='a 4 b 2' bash mine-lsf.bsub
edit lsf.bsub -e 's/^threads=8/threads=3/'
fails 2 '3 threads a rank do not divide the 16 cores on node1' env PATH="$stubs:$PATH" bash -c "$submit"
edit lsf.bsub -e 's/^threads=8/threads=x/'
fails 2 "threads is a number from 1 on, not 'x'" env PATH="$stubs:$PATH" bash -c "$submit"

few=(-e 's/--seed 7)/--seed 7 --ids)/' -e 's/^threads=8/threads=2/' -e 's/cores-per-slot=8/cores-per-slot=2/')
export STUB_SECONDS=4294967295 # the batches below have time enough
flux="flux run --nodes=2 --ntasks=4 --cores-per-task=2 -o cpu-affinity=per-task -o exit-timeout=30s"
edit flux.sh "${few[@]}"
runs 'flux.sh' pipestep-flux.txt "$flux $command " flux batch mine-flux.sh
fails 2 'not in a Flux job' bash mine-flux.sh
fails 2 'not in a Flux job' env PATH="$stubs:$PATH" STUB_SECONDS='' flux batch mine-flux.sh
edit flux.sh "${few[@]}" -e 's/^threads=.*/threads=3/'
fails 2 'ranks of 3 threads do not divide the 8 cores of 2 nodes' env PATH="$stubs:$PATH" flux batch mine-flux.sh
edit flux.sh -e 's/^margin=120/margin=x/'
fails 2 "margin is a number of seconds, not 'x'" env PATH="$stubs:$PATH" flux batch mine-flux.sh
# A batch is told to stop before the job's end; when it did, the same script is submitted again.
edit flux.sh "${few[@]}" -e "s|^command=.*|command=(batch $model --in in.jsonl --out out.jsonl)|"
for seconds in 1000 100; do
    rm -f again
    env PATH="$stubs:$PATH" STUB_SECONDS=$seconds STUB_IDLE=yes STUB_STATUS=75 flux batch mine-flux.sh 2>log
    same 'flux.sh: saved: status' 75 $?
    cmp -s mine-flux.sh again || complain "flux.sh: not submitted again: $(cat log)"
    tail -n 4 line | paste -sd' '
done >stops
same 'flux.sh: when a batch stops' $'--stop-after 880s --threads 2\n--stop-after 50s --threads 2' "$(cat stops)"

# ---- a batch decides by its record, whatever the launcher says ----

for _ in $(seq 40); do echo '{"prompt": "X:1", "max_tokens": 100}'; done >requests.jsonl
# ends STATUS LAUNCHER-STATUS COMMAND ...
ends() {
    local wanted=$1 launcher=$2 found
    shift 2
    env PATH="$stubs:$PATH" STUB_STATUS="$launcher" "$@" >out 2>log
    found=$?
    [ $found -eq "$wanted" ] || complain "exit status $found, not $wanted where the launcher says $launcher: $* ($(cat log))"
}
for submission in 'sbatch slurm.sbatch' 'qsub pbs.sh' 'bsub lsf.bsub' 'flux flux.sh'; do
    read -r submit file <<<"$submission"
    # batch ARGUMENTS: edits the script to run such a batch.
    batch() {
        edit "$file" -e "s|^command=(.*|command=(batch \"\$model\" --in requests.jsonl --out done.jsonl -q $*)|" \
            -e 's/ompthreads=8/ompthreads=2/' -e 's/^threads=8/threads=2/' -e 's/-n 32/-n 4/' -e 's/ptile=16/ptile=4/' \
            -e 's/select=2/select=1/' -e 's/nodes=2/nodes=1/' -e 's/cores-per-slot=8/cores-per-slot=2/'
    }
    words=("$submit" "mine-$file")
    if [ "$submit" = bsub ]; then words=(bash -c 'bsub <mine-lsf.bsub'); fi
    if [ "$submit" = flux ]; then words=(flux batch mine-flux.sh); fi
    rm -f done.jsonl* scontrol
    batch --stop-after 0.001
    ends 75 1 "${words[@]}"
    grep -q 'the launcher ended with status 1, the run with 75' log || complain "$file: $(cat log)"
    [ "$file" = slurm.sbatch ] || continue
    same 'queued again' 'requeue 77' "$(grep requeue scontrol)"
    batch
    ends 0 137 "${words[@]}"
    same "$file: results" 40 "$(wc -l <done.jsonl)"
    # Without a record of this run's own the launcher is believed: a record that was left says nothing.
    sed -i 's/^"exit_status": .*/"exit_status": 75,/' done.jsonl.run.json
    sed -i 's/--in requests/--in none/' "mine-$file"
    ends 9 9 "${words[@]}"
done

for script in local.sh slurm.sbatch pbs.sh lsf.bsub flux.sh; do
    help=$(bash "$TOP/launch/$script" --help) || complain "$script --help: exit status $?"
    grep -q '^Runs pipestep on' <<<"$help" || complain "$script --help: $help"
    grep -q '^#' <<<"$help" && complain "$script --help shows comments as such: $help"
done
exit $bad
