#!/usr/bin/env bash
# Runs pipestep on several ranks of this machine, under the MPI that it was built with.
#
#   launch/local.sh [-np N] [--timeout SECONDS] [--no-bind] [--dry-run] [--] COMMAND [MODEL] [options]
#
#   -np N              ranks; by default one for each NUMA node of the machine
#   --timeout SECONDS  ends the job after so long
#   --no-bind          leaves the ranks unbound; for two jobs side by side, which else share cores
#   --dry-run          prints the command instead of running it
#
# Each rank gets its share of the cores, N of them for N threads, bound where there are enough; --threads, as an
# option of pipestep, changes the share. More ranks than cores are allowed, for trying things out.
# PIPESTEP names the program, MPIEXEC the launcher. The exit status is mpirun's.
#
#   launch/local.sh -np 2 generate model.h5 --prompt 'Once' -n 64
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=launch/launcher.sh
. "$here/launcher.sh"

fail() {
    echo "local.sh: $*" >&2
    exit 2
}

find_program() {
    local place
    [ -n "${PIPESTEP:-}" ] && echo "$PIPESTEP" && return
    for place in "${here%/*}/build/pipestep" "${here%/*/*/*}/bin/pipestep"; do
        [ -x "$place" ] && echo "$place" && return
    done
    command -v pipestep || fail "no pipestep beside this script nor in PATH: build it with make, or set PIPESTEP"
}

# count NAME VALUE: VALUE, if it is a number from 1 on.
count() {
    [[ ${2:-} =~ ^[1-9][0-9]{0,8}$ ]] || fail "$1 wants a number from 1 on, not '${2:-}'"
}

ranks=''
seconds=0
bind=yes
dry_run=no
while [ $# -gt 0 ]; do
    case $1 in
    -np | -n | --np) count "$1" "${2:-}" && ranks=$2 && shift 2 ;;
    --timeout) count "$1" "${2:-}" && seconds=$2 && shift 2 ;;
    --no-bind) bind=no && shift ;;
    --dry-run) dry_run=yes && shift ;;
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
    --) shift && break ;;
    -*) fail "unknown option $1 (options of pipestep follow its command; --help tells)" ;;
    *) break ;;
    esac
done
[ $# -gt 0 ] || fail 'no command for pipestep, such as: generate model.h5 --prompt Once (--help tells)'
program=$(find_program) || exit 2
[ -x "$program" ] || fail "$program is not a program"
launcher_for "$program" || exit 2
if [ -z "$ranks" ]; then
    nodes=(/sys/devices/system/node/node[0-9]*)
    ranks=${#nodes[@]}
fi

# Threads of a rank: as pipestep is told, or an equal share of the cores.
threads=0
previous=''
for argument in "$@"; do
    case $previous in -t | --threads) threads=$argument ;; esac
    case $argument in --threads=*) threads=${argument#*=} ;; -t[0-9]*) threads=${argument#-t} ;; esac
    previous=$argument
done
[[ $threads =~ ^[1-9][0-9]{0,4}$ ]] || threads=$(($(launcher_cores) / ranks))
[ "$threads" -ge 1 ] || threads=1

if [ $bind = yes ]; then
    launcher_bind "$ranks" "$threads"
else
    launcher_unbound
fi
if launcher_in_container; then
    export OMPI_MCA_btl_vader_single_copy_mechanism=${OMPI_MCA_btl_vader_single_copy_mechanism:-none}
fi
launcher_command "$ranks" "$seconds" "${BINDING[@]}"
if [ $dry_run = yes ]; then
    printf '%q ' "${LAUNCH_COMMAND[@]}" "$program" "$@"
    echo
    exit 0
fi
exec "${LAUNCH_COMMAND[@]}" "$program" "$@"
