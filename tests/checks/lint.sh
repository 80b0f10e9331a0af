#!/usr/bin/env bash
# clang-tidy over the C sources (rules: .clang-tidy), shellcheck over the scripts.
#
#   tests/checks/lint.sh [PATTERN]      only files whose path matches
#
# A source that was found clean is not looked at again until it, a header of it, the rules or the flags change: what
# the compiler sees of it is hashed, comments included. build/lint holds the hashes. From nothing it takes about a
# second and a half a source on one core; JOBS cores (all) are used. Exit status 77: a tool is missing, the rest is well.
set -u
cd "$(dirname "$0")/../.." || exit 1
cache=build/lint

# Version 14 by its own name, where the distribution's is another.
tool() {
    command -v "$1-14" || command -v "$1"
}

# Headers of libraries are the system's: their contents are not ours to judge.
library_flags() {
    local module modules=(openblas jansson libpcre2-8 libutf8proc libxxhash hwloc)
    for module in hdf5 hdf5-serial; do
        "${PKG_CONFIG:-pkg-config}" --exists "$module" && modules+=("$module")
    done
    { "${MPICC:-mpicc}" -show && "${PKG_CONFIG:-pkg-config}" --cflags "${modules[@]}"; } |
        tr ' ' '\n' | sed -n 's/^-I/-isystem/p; /^-D/p' | sort -u
}

# Kernels are compiled for several instruction sets; the widest sees the most code.
isa_flags() {
    echo -DPS_ISA_NAME=lint
    if [ "$(uname -m)" = x86_64 ]; then
        printf '%s\n' -mavx2 -mfma -mf16c -mavx512f -mavx512vl -mavx512dq -mavx512bw
    fi
}

# lint_one TIDY CLANG SOURCE FLAG ...
lint_one() {
    local tidy=$1 clang=$2 source=$3 hash output
    shift 3
    hash=$({ "$tidy" --version && cat .clang-tidy && echo "$@" && "$clang" -E -CC "$@" "$source"; } 2>&1 | sha256sum)
    hash=$cache/${hash%% *}
    [ -e "$hash" ] && return 0
    if output=$(timeout 300 "$tidy" --quiet "$source" -- "$@" 2>/dev/null); then
        : >"$hash"
    else
        printf '%s: not clean (exit status %s)\n%s\n' "$source" $? "$output"
        return 1
    fi
}

# lint_sources LIST NAME FLAG ...: the sources in the file LIST, side by side.
lint_sources() {
    local list=$1 name=$2 tidy clang
    shift 2
    if ! tidy=$(tool clang-tidy) || ! clang=$(tool clang); then
        echo "lint: skipped $name: no clang-tidy (launch/deps.sh all installs it)"
        return 77
    fi
    mkdir -p "$cache"
    xargs -P "${JOBS:-$(nproc)}" -I{} "$0" --one "$tidy" "$clang" {} "$@" <"$list" || return 1
    echo "lint: $(wc -l <"$list") $name are clean"
}

# What begins with #! and a shell, and the scripts that are sourced or that tests/run.sh runs.
find_scripts() {
    grep -rlIE '^#!.*[/ ](ba|da)?sh$' launch tests bench .ci
    find launch tests bench -name '*.sh'
}

# Not of use here: 1091 (what is sourced under a name made at run time is looked at by itself), 2148 (no #! line means
# bash), 2317 (functions that are only called by name are taken for dead code).
lint_scripts() {
    if ! command -v shellcheck >/dev/null; then
        echo 'lint: skipped the scripts: no shellcheck (launch/deps.sh all installs it)'
        return 77
    fi
    xargs shellcheck -x -P . -e SC1091,SC2148,SC2317 <"$1" || return 1
    echo "lint: $(wc -l <"$1") scripts are clean"
}

if [ "${1:-}" = --one ]; then
    shift
    lint_one "$@"
    exit
fi
list=$(mktemp)
trap 'rm -f "$list"' EXIT
verdict=0
# judge COMMAND ...: with the files that match on standard input.
judge() {
    local status
    grep -- "$pattern" | sort -u >"$list"
    [ -s "$list" ] || return
    "$@"
    status=$?
    [ $status -eq 0 ] || [ $verdict -eq 1 ] || verdict=$status
}
pattern=${1:-.}
mapfile -t flags < <(printf '%s\n' -std=c17 -D_GNU_SOURCE -Iinclude -Isrc -include tests/checks/analyser.h \
    -DPS_REVISION=__FILE__ && library_flags)
mapfile -t isa < <(isa_flags)
judge lint_sources "$list" 'C sources' "${flags[@]}" < <(find src -name '*.c' -not -path 'src/math/isa/*')
judge lint_sources "$list" 'kernels' "${flags[@]}" "${isa[@]}" < <(find src/math/isa -name '*.c')
judge lint_scripts "$list" < <(find_scripts 2>/dev/null)
exit $verdict
