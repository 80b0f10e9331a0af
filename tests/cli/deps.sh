# launch/deps.sh: silent when all is there; otherwise root gets the packages, a user their names, on each distribution.
set -u
unset CC MPICC MPIEXEC
REAL_PKG_CONFIG=$(command -v "${PKG_CONFIG:-pkg-config}")
export REAL_PKG_CONFIG
bad=0

complain() {
    echo "$*" >&2
    bad=1
}

# says NAME STATUS WANTED FOUND-STATUS FOUND
says() {
    [ "$2" -eq "$4" ] || complain "$1: exit status $4, not $2: $5"
    [ "$3" = "$5" ] || complain "$1"$'\n'"  wanted: $3"$'\n'"  found:  $5"
}

# A machine without jansson and Check until apt-get has run, unless there is no network. The rest is really there.
mkdir bin
cat >bin/pkg-config <<'END'
#!/bin/sh
case " $* " in *' jansson '* | *' check '*) [ -e installed ] || exit 1 ;; esac
exec "$REAL_PKG_CONFIG" "$@"
END
cat >bin/apt-get <<'END'
#!/bin/sh
[ -z "$NO_NETWORK" ] || { echo 'E: Unable to fetch some archives' && exit 100; }
while :; do
    case $1 in -o) shift 2 ;; -qq) shift ;; *) break ;; esac
done
echo "$*" >>said
case $* in *install*) touch installed ;; esac
END
cat >bin/id <<'END'
#!/bin/sh
echo "$USER_ID"
END
chmod +x bin/*
export PKG_CONFIG=$SCRATCH/bin/pkg-config NO_NETWORK='' USER_ID=0
deps() { env PATH="$SCRATCH/bin:$PATH" "$TOP/launch/deps.sh" "$@" 2>&1; }

out=$(PKG_CONFIG=$REAL_PKG_CONFIG "$TOP/launch/deps.sh" 2>&1)
says 'nothing missing' 0 '' $? "$out"

out=$(deps test)
says 'root' 0 'deps: installing libjansson-dev check (apt-get)' $? "$out"
[ "$(cat said)" = $'update\ninstall -y --no-install-recommends libjansson-dev check' ] || complain "apt-get: $(cat said)"
rm installed

out=$(USER_ID=1000 deps test)
says 'a user' 1 'deps: missing: jansson, Check
deps: to install: apt-get install libjansson-dev check   (as root)' $? "$out"

out=$(NO_NETWORK=1 deps build)
says 'no network' 1 'deps: installing libjansson-dev (apt-get)
deps: apt-get update failed; going on with the lists that are there
deps: apt-get failed:
E: Unable to fetch some archives
E: Unable to fetch some archives
deps: missing: jansson
deps: to install: apt-get install libjansson-dev   (as root)' $? "$out"

out=$(deps everything)
says 'an unknown set' 2 'deps: unknown set everything: build, demo, pictures, test, fuzz, arm or all' $? "$out"

# Another distribution: nothing but these in PATH.
mkdir other
for program in sh gcc make mpicc mpirun sed id timeout; do
    ln -s "$(command -v $program)" other/$program
done
ln -s ../bin/pkg-config other/pkg-config
other() { env PATH="$SCRATCH/other" "$TOP/launch/deps.sh" "$@" 2>&1; }
ln -s /bin/true other/dnf
out=$(other test)
says 'Fedora' 1 'deps: missing: jansson, Check
deps: to install: dnf install jansson-devel check-devel   (as root)' $? "$out"
out=$(other pictures)
says 'no gnuplot' 1 'deps: missing: jansson, gnuplot
deps: to install: dnf install jansson-devel gnuplot   (as root)' $? "$out"
mv other/dnf other/pacman
out=$(other build)
says 'Arch' 1 'deps: missing: jansson
deps: to install: pacman -S jansson   (as root)' $? "$out"
rm other/pacman
out=$(MPICC=no-mpicc other build)
says 'an unknown one' 1 'deps: missing: MPI, jansson
deps: packages on Debian: openmpi-bin libopenmpi-dev libjansson-dev; on Fedora and RHEL: openmpi-devel jansson-devel; '\
'on Arch: openmpi jansson
deps: an MPI that is installed but not in PATH: module load it, or set MPICC and MPIEXEC' $? "$out"

# abcmidi is welcome, not needed.
touch installed
out=$(other demo)
says 'no abcmidi' 0 'deps: without abcmidi; only the MIDI file of the demo needs it' $? "$out"

# libFuzzer is of clang's own version.
out=$(other fuzz)
says 'no clang' 1 'deps: missing: clang
deps: packages on Debian: clang libclang-rt-14-dev; on Fedora and RHEL: clang compiler-rt; on Arch: clang compiler-rt' \
    $? "$out"
cat >other/clang <<'END'
#!/bin/sh
[ "$1" = -dumpversion ] && echo 16.0.1
END
chmod +x other/clang
out=$(other fuzz)
says 'no libFuzzer' 1 'deps: missing: libFuzzer and the sanitizers of clang
deps: packages on Debian: libclang-rt-16-dev; on Fedora and RHEL: compiler-rt; on Arch: compiler-rt' $? "$out"
printf '#!/bin/sh\nexit 0\n' >other/clang
out=$(other fuzz)
says 'libFuzzer' 0 '' $? "$out"
exit $bad
