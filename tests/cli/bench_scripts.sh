# bench/scaling.sh and its batch script, on models of a few kilobytes: what rows there are, and the columns that are
# no matter of time.
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
export PIPESTEP BENCH_DIR=$PWD/bench RUNS=1 TOKENS=4 CHUNK=8 SEQUENCES=2 LAYERS=3
export SYNTHETIC=tunes,d=64,ff=64,vocab=64,window=0,type=f16,layers=4

# column NAME: of out.csv, by key
column() {
    awk -F, -v name="$1" '!/^#/ {
        if (!n) {for (i = 1; i <= NF; i++) if ($i == name) n = i; next}
        printf "%s%s/%s/%s:%s", (m++ ? " " : ""), $1, $2, $6, $n}' out.csv
}

# What a benchmark that was killed has left is nothing to go on from.
mkdir -p bench/scaling && echo 'of another job' | tee bench/scaling/out.jsonl >bench/scaling/out.jsonl.journal
RANKS='1 2 3' CHUNKS='2 4' timeout 300 "$TOP/bench/scaling.sh" >out.csv 2>log || complain "scaling.sh: $(<log)"
same 'layers' 'groups/1/2:4 groups/2/2:4 groups/1/3:4 groups/3/3:4 layers/1/0:3 layers/2/0:6 layers/3/0:9 prompt/1/2:4 prompt/2/2:4 prompt/3/2:4 prompt/1/4:4 prompt/2/4:4 prompt/3/4:4 replicas/2/0:4 replicas/2/0:4 replicas/3/0:4 replicas/3/0:4 sequences/1/0:4 sequences/2/0:4 sequences/3/0:4 strong/1/0:4 strong/2/0:4 strong/3/0:4' \
    "$(column layers)"
same 'sequences' 'groups/1/2:4 groups/2/2:4 groups/1/3:6 groups/3/3:6 layers/1/0:2 layers/2/0:4 layers/3/0:6 prompt/1/2:1 prompt/2/2:1 prompt/3/2:1 prompt/1/4:1 prompt/2/4:1 prompt/3/4:1 replicas/2/0:8 replicas/2/0:8 replicas/3/0:12 replicas/3/0:12 sequences/1/0:2 sequences/2/0:4 sequences/3/0:6 strong/1/0:6 strong/2/0:6 strong/3/0:6' \
    "$(column sequences)"
# m / (m + p - 1)
same 'the formula of prompts' '1.000 0.667 0.500 1.000 0.800 0.667' \
    "$(column formula | tr ' ' '\n' | sed -n 's/^prompt.*://p' | paste -sd' ')"
same 'parcels of prompts' '2 2 2 4 4 4' "$(column parcels | tr ' ' '\n' | sed -n 's/^prompt.*://p' | paste -sd' ')"
same 'busy shares' '1 2 3' "$(column busy_by_stage | tr ' ' '\n' | sed -n 's/^strong.*://p' | awk -F';' '{print NF}' | paste -sd' ')"
same 'stages of replicas' '2 1 3 1' "$(column stages | tr ' ' '\n' | sed -n 's/^replicas.*://p' | paste -sd' ')"
same 'threads of groups' '2 1 3 1' "$(column threads | tr ' ' '\n' | sed -n 's/^groups.*://p' | paste -sd' ')"
BENCH_LAUNCH='srun -n' KINDS='strong groups' "$TOP/bench/scaling.sh" 2>log
same 'groups of a batch system: status' 2 $?
same 'groups of a batch system' 'scaling.sh: KINDS=groups compares ranks with one process of this machine: not with BENCH_LAUNCH' "$(<log)"
grep -q '^# version=' out.csv || complain "no header: $(head -n 3 out.csv)"

# As a Slurm job, with stand-ins.
export REAL_PATH=$PATH STUB_MPI='mpirun (Open MPI) 4.1.4' STUB_PLUGINS=pmix
unset SLURM_JOB_ID SLURM_NTASKS SLURM_CPUS_PER_TASK SLURM_HINT
sed -e "s|^tree=[^ ]*|tree=$TOP|" -e "s|^directory=.*|directory=$PWD/job|" -e "s|^synthetic=[^ ]*|synthetic=$SYNTHETIC|" \
    -e 's/^runs=5/runs=1/' -e 's/nodes=4/nodes=3/' -e 's/ntasks-per-node=2/ntasks-per-node=1/' -e 's/cpus-per-task=8/cpus-per-task=1/' \
    -e 's/^layers=11 /layers=2 /' -e 's/^sequences=4 /sequences=1 /' "$TOP/launch/scaling.sbatch" >mine.sbatch
KINDS='strong layers' PATH=$TOP/tests/support/stubs:$PATH timeout 300 sbatch mine.sbatch >/dev/null 2>log ||
    complain "scaling.sbatch: $(<log)"
cp job/scaling.csv out.csv || complain 'scaling.sbatch wrote no table'
same 'a job of three ranks' 'layers/1/0:2 layers/2/0:4 layers/3/0:6 strong/1/0:4 strong/2/0:4 strong/3/0:4' "$(column layers)"
same 'how ranks were started' 'srun --mpi=pmix -c 1 --distribution=block:block --kill-on-bad-exit=1 --cpu-bind=cores -n 3' \
    "$(head -n 9 line | paste -sd' ' | sed 's| /.*||')"
bash mine.sbatch 2>log
same 'outside a job: status' 2 $?
same 'outside a job' 'scaling.sbatch: not in a Slurm job: submit this file with sbatch' "$(<log)"

# The program that is simulated, under a real MPI: what is computed is no matter of how ranks wait.
simulate=${PIPESTEP%/*}/bench/simulate/simulate
column=$("$simulate" --columns | tr ',' '\n' | grep -n '^new_tokens$' | cut -d: -f1)
for np in 1 3; do
    for watched in 0 1; do
        launch $np 60 "$simulate" stage_us=300 requests=5 slots=3 prompt=6 tokens=4 chunk=4 watched=$watched >out 2>log ||
            complain "simulate on $np ranks: $(<log)"
        same "$np ranks: sequences of 4 tokens" "$np 20" "$(cut -d, -f"1,$column" out | tr ',' ' ')"
    done
done
exit "$bad"
