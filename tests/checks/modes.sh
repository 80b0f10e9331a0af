#!/usr/bin/env bash
# Builds the program without a warning by gcc, by clang and with MPICH, and compares what the builds compute: the same
# bits, on one rank and on three.
#
#   tests/checks/modes.sh [gcc] [clang] [mpich]       default: all that are installed
#
# Builds are kept in build/modes. Exit status 77: one was asked for by name and is not installed.
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=launch/launcher.sh
. launch/launcher.sh
model=configs/tunes/tunes.h5
bad=0
skipped=0

complain() {
    echo "modes: $*"
    bad=1
}

# build MODE MAKE-SETTING ...
build() {
    local mode=$1 b=build/modes/$1
    shift
    mkdir -p "$b"
    timeout 900 make -j"${JOBS:-$(nproc)}" --no-print-directory "$@" WERROR=1 "B=$b" "$b/pipestep" >"$b/log" 2>&1 || {
        complain "$mode does not build:"
        grep -E 'error|warning|Error|undefined' "$b/log" || tail -n 5 "$b/log"
        return 1
    }
}

# smoke MODE: log-probabilities to their last digit, and drawn tokens.
smoke() {
    local program=build/modes/$1/pipestep out=build/modes/$1/smoke ranks before=$bad MPIEXEC=''
    launcher_for "$program" || return 1
    echo 'K:D A2A ABd|c2A B2G|A2A ABd|dfe dcB:|' >"$out.text"
    for ranks in 1 3; do
        {
            launch "$ranks" 120 "$program" score "$model" --text "$out.text" --json -q &&
                launch "$ranks" 120 "$program" generate "$model" --prompt X -n 64 --seed 7 --ids -q
        } >"$out.$ranks" 2>"$out.log" || complain "$1 fails on $ranks ranks: $(tail -n 3 "$out.log")"
        [ -s "$out.$ranks" ] || complain "$1 on $ranks ranks says nothing"
        [ -e build/modes/first ] || cp "$out.$ranks" build/modes/first
        cmp -s "$out.$ranks" build/modes/first ||
            complain "$1 on $ranks ranks computes other bits than the first build on one: $out.$ranks, build/modes/first"
    done
    [ $bad -eq "$before" ]
}

# mode NAME COMPILER-OR-WRAPPER MAKE-SETTING ...
mode() {
    local name=$1 needed=$2 begin=$SECONDS
    shift 2
    if ! command -v "$needed" >/dev/null; then
        echo "modes: skipped $name: no $needed"
        [ "$wanted" = all ] || skipped=77
        return
    fi
    build "$name" "$@" && smoke "$name" &&
        echo "modes: $name builds without a warning and runs ($((SECONDS - begin)) s)"
}

wanted=${1:-all}
[ $# -gt 0 ] || set -- gcc clang mpich
mkdir -p build/modes
rm -f build/modes/first
for name in "$@"; do
    case $name in
    gcc) mode gcc gcc CC=gcc ;;
    clang) mode clang "$(command -v clang || echo clang-14)" "CC=$(command -v clang || echo clang-14)" ;;
    mpich) mode mpich mpicc.mpich CC=gcc MPICC=mpicc.mpich ;;
    *) complain "unknown: $name" ;;
    esac
done
[ $bad -eq 0 ] || exit 1
exit $skipped
