#!/usr/bin/env bash
# GGUF as its users have it: a file becomes a model that runs; damage is
# refused with one line, and leave nothing behind.
set -u
golden=${PS_GOLDEN:-$TOP/tests/golden}/gguf
source=$golden/llama-mixed/model.gguf

fail() {
    printf 'convert_gguf: %s\n' "$*" >&2
    exit 1
}

# refused TEXT FILE: exit status 1, one line on standard error that holds TEXT, no model file.
refused() {
    "$PIPESTEP" convert "$2" -o refused.h5 >out 2>err
    local status=$?
    [ $status -eq 1 ] || fail "$2: exit status $status, wanted 1"
    [ ! -s out ] || fail "$2: standard output is not empty"
    [ "$(wc -l <err)" -eq 1 ] || fail "$2: more than one line: $(cat err)"
    grep -qF -- "$1" err || fail "$2: wanted \"$1\", found: $(cat err)"
    [ -z "$(compgen -G 'refused.h5*')" ] || fail "$2: a model file, or a part of one, was made"
}

"$PIPESTEP" convert "$source" -o model.h5 -q || fail 'is not converted'
"$PIPESTEP" convert "$source" -o again.h5 -q || fail 'is not converted again'
cmp model.h5 again.h5 || fail 'equal inputs give different files'
printf '1 2 3\n' >ids
"$PIPESTEP" generate model.h5 --tokens ids -n 4 --ids --temperature 0 --ignore-eos -q >out 2>err || fail "$(cat err)"
[ "$(wc -w <out)" -eq 4 ] || fail "wanted 4 ids, found: $(cat out)"

bytes=$(wc -c <"$source")
for i in 0 1 4 8 12 15; do
    head -c $((bytes * i / 16)) "$source" >cut.gguf
    refused 'cut.gguf: ' cut.gguf
done
printf 'GGUF\0\0\0\3' >big-endian.gguf
refused 'big-endian.gguf: is a big-endian GGUF file' big-endian.gguf
printf 'nothing' >nothing.gguf
refused 'nothing.gguf: does not begin with GGUF' nothing.gguf
