# shellcheck shell=bash
# Starts ranks on this machine, under Open MPI or MPICH and its kin. Sourced, not run: by launch/local.sh and
# by the tests, which need the same knowledge.
#
#   launch NP SECONDS PROGRAM [ARG ...]   runs ranks under a time limit (0: none); any number on any machine
#   launch_bound NP THREADS SECONDS PROGRAM [ARG ...]   the same, each rank bound to cores for its threads
#   launcher_for PROGRAM                  sets MPIEXEC to the launcher of the MPI that PROGRAM was built with
#   launcher_bind NP THREADS              sets BINDING, options that give each rank THREADS cores of its own
#   launcher_command NP SECONDS [FLAG...] sets LAUNCH_COMMAND, to be followed by the program; exports what Open MPI
#                                         is told in the environment
#
# MPIEXEC names a launcher, LAUNCH_FLAGS further options for it (words). Open MPI wants to be told that more
# ranks than cores are meant and that root is allowed; both are everyday in containers.

launcher_is_open_mpi() {
    "${1:-${MPIEXEC:-mpirun}}" --version 2>/dev/null | grep -qi 'open mpi\|openrte\|prte'
}

# Ranks started by another MPI's launcher do not find each other: each would be alone and do all of the work.
launcher_for() {
    local mpi candidate
    [ -n "${MPIEXEC:-}" ] && return 0
    mpi=$("$1" --version 2>/dev/null | sed -n 's/^MPI: *//p')
    case $mpi in
    'Open MPI'*)
        for candidate in mpirun mpirun.openmpi orterun mpiexec; do
            command -v "$candidate" >/dev/null && launcher_is_open_mpi "$candidate" && MPIEXEC=$candidate && return 0
        done
        ;;
    *)
        for candidate in mpiexec.hydra mpiexec.mpich mpiexec mpirun; do
            command -v "$candidate" >/dev/null && ! launcher_is_open_mpi "$candidate" && MPIEXEC=$candidate && return 0
        done
        ;;
    esac
    echo "$1 was built with ${mpi:-an unknown MPI}, and no mpirun or mpiexec of it is in PATH; MPIEXEC names one" >&2
    return 1
}

# list_cpus "0-3,8": 0 1 2 3 8, a number a line.
list_cpus() {
    local range
    for range in ${1//,/ }; do
        seq "${range%-*}" "${range#*-}"
    done
}

# count_cores CPUS: cores among the processors, however many hardware threads each has.
count_cores() {
    local cpu siblings=/sys/devices/system/cpu
    for cpu in $(list_cpus "$1"); do
        cat "$siblings/cpu$cpu/topology/thread_siblings_list" 2>/dev/null || echo "$cpu"
    done | sort -u | wc -l
}

# launcher_cores: how many cores this shell may use.
launcher_cores() {
    count_cores "$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)"
}

# Launchers bind to cores of the whole machine, whatever the mask they run under. Under a mask (taskset, a
# batch system) they would bind to cores that others use, so ranks then keep the mask and divide it themselves.
launcher_is_masked() {
    local mine all
    mine=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)
    all=$(cat /sys/devices/system/cpu/online 2>/dev/null)
    [ "$(list_cpus "$mine" | wc -l)" -lt "$(list_cpus "${all:-$mine}" | wc -l)" ]
}

# Without enough cores for all, no rank is bound. By default Open MPI would bind each of two ranks to a single
# core, and starve its threads.
launcher_bind() {
    if [ $(($1 * $2)) -gt "$(launcher_cores)" ] || launcher_is_masked; then
        launcher_unbound
    elif launcher_is_open_mpi; then
        BINDING=(--map-by "slot:PE=$2" --bind-to core)
    else
        BINDING=(-bind-to "core:$2")
    fi
}

launcher_unbound() {
    BINDING=(--bind-to none)
    if launcher_is_open_mpi; then BINDING+=(--oversubscribe); fi
}

# Containers often lack the ptrace rights by which Open MPI copies from one process to another.
launcher_in_container() {
    [ -n "${container:-}${APPTAINER_CONTAINER:-}${SINGULARITY_CONTAINER:-}" ] || [ -e /.dockerenv ] ||
        [ -e /run/.containerenv ] || grep -qsE 'docker|kubepods|containerd|lxc' /proc/1/cgroup
}

# MPICH has no option for a time limit, and Open MPI's may hang with its daemon: timeout(1) is behind both. It
# stays in the foreground, so that rank 0 may read a terminal. It kills what does not end when told: now and then
# mpirun of Open MPI 4.1 waits for a lock of its own in its last moments, when all ranks are gone.
launcher_command() {
    local np=$1 seconds=$2 words=()
    shift 2
    read -ra words <<<"${LAUNCH_FLAGS:-}"
    LAUNCH_COMMAND=()
    if ! launcher_is_open_mpi; then
        [ "$seconds" -gt 0 ] && LAUNCH_COMMAND+=(timeout --foreground -k 10 "$seconds")
        LAUNCH_COMMAND+=("${MPIEXEC:-mpirun}")
    else
        [ "$seconds" -gt 0 ] && LAUNCH_COMMAND+=(timeout --foreground -k 10 $((seconds + 30)))
        LAUNCH_COMMAND+=("${MPIEXEC:-mpirun}")
        # On one machine there is memory between ranks; a start that looks for networks takes twice as long.
        export OMPI_MCA_pml=${OMPI_MCA_pml:-ob1} OMPI_MCA_btl=${OMPI_MCA_btl:-^ofi,openib,uct,usnic}
        [ "$(id -u)" -eq 0 ] && LAUNCH_COMMAND+=(--allow-run-as-root)
        [ "$seconds" -gt 0 ] && LAUNCH_COMMAND+=(--timeout "$seconds")
    fi
    LAUNCH_COMMAND+=("$@" "${words[@]}" -np "$np")
}

launch_with() {
    local np=$1 seconds=$2 LAUNCH_COMMAND
    shift 2
    launcher_command "$np" "$seconds" "${BINDING[@]}"
    OMPI_MCA_btl_vader_single_copy_mechanism=${OMPI_MCA_btl_vader_single_copy_mechanism:-none} \
        "${LAUNCH_COMMAND[@]}" "$@"
}

# For tests, which must run anywhere, in any number, side by side: not bound, no copies by ptrace rights. Open MPI
# takes --oversubscribe alone for no reason to leave one or two ranks unbound.
launch() {
    local BINDING
    launcher_unbound
    launch_with "$@"
}

# For measurements: each rank has the cores for its threads to itself where there are enough.
launch_bound() {
    local np=$1 threads=$2 BINDING
    shift 2
    launcher_bind "$np" "$threads"
    launch_with "$np" "$@"
}
