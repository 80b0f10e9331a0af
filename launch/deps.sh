#!/bin/sh
# Makes sure that what pipestep is built from is there; silent when it is.
#
#   launch/deps.sh [build|demo|pictures|test|fuzz|arm|all]
#
# build     compiler, make, pkg-config, MPI, OpenBLAS, HDF5, jansson, PCRE2, utf8proc, xxHash, hwloc, OpenSSL (default)
# demo      and abcmidi, for MIDI files; the demo does without it where it cannot be had
# pictures  build, and gnuplot, for the figures of pipestep bias
# test      build, and Check
# fuzz      build, and clang with libFuzzer; FUZZ_CC names another clang
# arm       a compiler and an emulator for 64-bit ARM, for make neon on other machines
# all       demo, pictures, test, fuzz and arm, and the tools of make lint and make format
#
# Looks for programs, headers and pkg-config modules, so it is right on any distribution. On Debian and its kin,
# as root, it installs what is missing; elsewhere it names it, with the command that installs it, and fails.
# CC, MPICC, MPIEXEC and PKG_CONFIG name other programs, as they do for make.
set -u
set_wanted=${1:-build}
pkg_config=${PKG_CONFIG:-pkg-config}
mpicc=${MPICC:-mpicc}

say() {
    echo "deps: $*" >&2
}

# ---- what there is ----

has_program() {
    command -v "$1" >/dev/null 2>&1
}

# has_header COMPILER HEADER
has_header() {
    has_program "${1%% *}" && echo "#include <$2>" | $1 -E -x c - >/dev/null 2>&1
}

# has_module MODULE ...: any of them.
has_module() {
    for module in "$@"; do
        $pkg_config --exists "$module" 2>/dev/null && return 0
    done
    return 1
}

has_mpi() {
    has_header "$mpicc" mpi.h && has_program "${MPIEXEC:-mpirun}"
}

# has_fuzzer CLANG: links a target that does nothing.
has_fuzzer() {
    echo 'int LLVMFuzzerTestOneInput(const char *data, long size) { return 0 * (data[0] + size); }' |
        $1 -w -fsanitize=fuzzer,address,undefined -x c - -o /dev/null >/dev/null 2>&1
}

# Where the distribution's own clang tools are newer, version 14 has a package and a name of its own.
has_tool() {
    has_program "$1-14" || has_program "$1"
}

# ---- what is missing ----

debian='' fedora='' arch='' names='' optional=''

# missing NAME DEBIAN FEDORA ARCH: packages are words; a distribution that has none says -.
missing() {
    names="$names${names:+, }$1"
    debian="$debian $2"
    [ "$3" = - ] || fedora="$fedora $3"
    [ "$4" = - ] || arch="$arch $4"
}

probe_build() {
    has_header "${CC:-gcc}" stdlib.h || missing 'a C compiler' 'gcc libc6-dev' 'gcc glibc-devel' gcc
    has_program make || missing make make make make
    has_program "${pkg_config%% *}" || missing pkg-config pkg-config pkgconf-pkg-config pkgconf
    case $mpicc in
    *mpich*) has_mpi || missing MPICH 'mpich libmpich-dev' mpich-devel mpich ;;
    *) has_mpi || missing MPI 'openmpi-bin libopenmpi-dev' openmpi-devel openmpi ;;
    esac
    has_module openblas || missing OpenBLAS libopenblas-pthread-dev openblas-devel openblas
    has_module hdf5-serial hdf5 || missing HDF5 libhdf5-dev hdf5-devel hdf5
    has_module jansson || missing jansson libjansson-dev jansson-devel jansson
    has_module libpcre2-8 || missing PCRE2 libpcre2-dev pcre2-devel pcre2
    has_module libutf8proc || missing utf8proc libutf8proc-dev utf8proc-devel libutf8proc
    has_module libxxhash || missing xxHash libxxhash-dev xxhash-devel xxhash
    has_module hwloc || missing hwloc libhwloc-dev hwloc-devel hwloc
    has_module libcrypto || missing OpenSSL libssl-dev openssl-devel openssl
}

probe_test() {
    has_module check || missing Check check check-devel check
}

probe_pictures() {
    has_program gnuplot || missing gnuplot gnuplot-nox gnuplot gnuplot
}

probe_demo() {
    has_program abc2midi || optional=abcmidi
}

# The runtime is a package of its own on Debian, of clang's major version.
probe_fuzz() {
    clang=${FUZZ_CC:-clang}
    if ! has_program "${clang%% *}"; then
        missing clang 'clang libclang-rt-14-dev' 'clang compiler-rt' 'clang compiler-rt'
    elif ! has_fuzzer "$clang"; then
        major=$($clang -dumpversion)
        missing 'libFuzzer and the sanitizers of clang' "libclang-rt-${major%%.*}-dev" compiler-rt compiler-rt
    fi
}

# On ARM itself there is nothing to emulate.
probe_arm() {
    [ "$(uname -m)" != aarch64 ] || return 0
    if has_program "${CROSS_CC:-aarch64-linux-gnu-gcc}" && { has_program qemu-aarch64-static || has_program qemu-aarch64; }; then
        return 0
    fi
    missing 'a compiler and an emulator for ARM' 'gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static' - \
        'aarch64-linux-gnu-gcc qemu-user-static'
}

probe_tools() {
    has_tool clang-tidy || missing clang-tidy clang-tidy clang-tools-extra -
    has_tool clang-format || missing clang-format clang-format - -
    has_program shellcheck || missing shellcheck shellcheck ShellCheck shellcheck
}

probe() {
    debian='' fedora='' arch='' names='' optional=''
    probe_build
    case $set_wanted in demo | all) probe_demo ;; esac
    case $set_wanted in test | all) probe_test ;; esac
    case $set_wanted in pictures | all) probe_pictures ;; esac
    case $set_wanted in fuzz | all) probe_fuzz ;; esac
    case $set_wanted in arm | all) probe_arm ;; esac
    if [ "$set_wanted" = all ]; then probe_tools; fi
}

# ---- what to do about it ----

can_install() {
    [ "$(id -u)" -eq 0 ] && has_program apt-get && has_program dpkg
}

# Time limits, so that a machine without network fails within minutes and says why.
apt() {
    DEBIAN_FRONTEND=noninteractive timeout 1200 apt-get -qq -o Acquire::Retries=2 \
        -o Acquire::http::Timeout=30 -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" >>"$log" 2>&1
}

log='' lists_updated=''

# install PACKAGE ...
install() {
    say "installing $* (apt-get)"
    if [ -z "$log" ]; then
        log=$(mktemp) || exit 1
        trap 'rm -f "$log"' EXIT
    fi
    [ -n "$lists_updated" ] || apt update || say 'apt-get update failed; going on with the lists that are there'
    lists_updated=yes
    apt install -y --no-install-recommends "$@"
}

tell() {
    say "missing: $names"
    if has_program apt-get; then
        say "to install: apt-get install$debian   (as root)"
    elif has_program dnf; then
        say "to install: dnf install$fedora   (as root)"
    elif has_program pacman; then
        say "to install: pacman -S$arch   (as root)"
    else
        say "packages on Debian:$debian; on Fedora and RHEL:$fedora; on Arch:$arch"
    fi
    case $names in
    *MPI*) say "an MPI that is installed but not in PATH: module load it, or set MPICC and MPIEXEC" ;;
    esac
}

case $set_wanted in
build | demo | pictures | test | fuzz | arm | all) ;;
*)
    say "unknown set $set_wanted: build, demo, pictures, test, fuzz, arm or all"
    exit 2
    ;;
esac
probe
if [ -n "$names" ] && can_install; then
    # shellcheck disable=SC2086
    if ! install $debian; then
        say 'apt-get failed:'
        tail -n 5 "$log" >&2
    fi
    hash -r
    probe
fi
if [ -n "$names" ]; then
    tell
    exit 1
fi
if [ -n "$optional" ] && ! { can_install && install $optional; }; then
    say "without $optional; only the MIDI file of the demo needs it"
fi
exit 0
