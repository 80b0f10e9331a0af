#!/usr/bin/env bash
# What the scripts of tests/cli share: PIPESTEP is the program, TOP the sources, the working directory is empty.
# A script ends with: exit "$bad"
# shellcheck disable=SC2034 # the scripts use them
set -u
bad=0
model=$TOP/configs/tunes/tunes.h5
header=$'X:1\nR:jig\nM:6/8\nL:1/8\nK:D\n'
# Models of a few kilobytes in every shape; --help tells.
tiny_model=${PIPESTEP%/*}/tests/tools/tiny_model
# shellcheck source=launch/launcher.sh
. "$TOP/launch/launcher.sh"
# What the runs of this script verify is forgotten with it.
export XDG_CACHE_HOME=$PWD/cache

# For programs that tests run: never longer than this.
pipestep() { timeout 60 "$PIPESTEP" "$@"; }

complain() {
    echo "$*" >&2
    bad=1
}

# same NAME WANTED FOUND
same() {
    [ "$2" = "$3" ] || complain "$1"$'\n'"  wanted: $2"$'\n'"  found:  $3"
}

# fails STATUS TEXT COMMAND ...: this exit status, nothing on standard output, and on standard error one line, of
# pipestep, that holds the text.
fails() {
    local status=$1 text=$2 found errors
    shift 2
    "$@" >fails.out 2>fails.err
    found=$?
    errors=$(<fails.err)
    [ $found -eq "$status" ] || complain "exit status $found, not $status: ${*:1:9} ($errors)"
    [ ! -s fails.out ] || complain "standard output is not empty: ${*:1:9} ($(head -c 300 fails.out))"
    case $errors in
    *$'\n'*) complain "more than a line: ${*:1:9}: $errors" ;;
    "pipestep: error: "*"$text"*) ;;
    *) complain "no '$text' from ${*:1:9}: $errors" ;;
    esac
}

# ok COMMAND ...: exit status 0 and a quiet standard error; its output in $out.
ok() {
    local status
    out=$("$@" 2>ok.err)
    status=$?
    [ $status -eq 0 ] || complain "exit status $status: ${*:1:9} ($(<ok.err))"
    [ ! -s ok.err ] || complain "standard error is not empty: ${*:1:9} ($(<ok.err))"
}
