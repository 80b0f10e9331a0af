#!/usr/bin/env bash
# Include rules: a file includes its own floor and those below, and libraries only in their rooms.
set -u
cd "$(dirname "$0")/../.." || exit 1
floors=(base math model pipe serve tool)
bad=0
complain() {
    printf '%s\n' "$*"
    bad=1
}
for i in "${!floors[@]}"; do
    for j in "${!floors[@]}"; do
        [ "$j" -gt "$i" ] || continue
        while IFS= read -r line; do
            [ -n "$line" ] && complain "upward include: $line"
        done < <(grep -rn "#include \"${floors[$j]}/" "src/${floors[$i]}" "include/${floors[$i]}" 2>/dev/null)
    done
done
# library HEADER ROOM-PATTERN
library() {
    while IFS= read -r line; do
        grep -qE "^(src|include)/$2" <<<"$line" || complain "$1 outside its room: $line"
    done < <(grep -rnE "#include <($1)" src include)
}
library 'mpi\.h' 'pipe/(comm|ring)'
library 'hdf5\.h' 'model/h5'
library 'cblas\.h' 'math/linear'
library 'hwloc' 'base/cores'
library 'openssl/' 'base/sha256'
library 'pcre2' 'serve/tokenizer'
library 'utf8proc' 'serve/tokenizer'
# Rooms that must not know of each other's concerns.
while IFS= read -r line; do
    complain "ranks in a floor that does not know them: $line"
done < <(grep -rniE 'mpi_|\brank\b' src/math include/math 2>/dev/null | grep -viE 'MPI: (local|rank)|rank-| of rank' | grep -E '\.c:' )
# Allocation in one place, printing in few, and nothing of the unsafe kind.
while IFS= read -r line; do
    complain "allocation outside base/mem: $line"
done < <(grep -rnE '\b(malloc|calloc|realloc|aligned_alloc|strdup)\(' src include | grep -v '^src/base/mem\.c')
while IFS= read -r line; do
    complain "unsafe function: $line"
done < <(grep -rnE '\b(strcpy|strcat|sprintf|gets|atoi)\(' src include)
# Sizes of files and functions.
while IFS= read -r file; do
    n=$(wc -l <"$file")
    [ "$n" -gt 800 ] && complain "$file has $n lines, the limit is 800"
done < <(git ls-files '*.c' '*.h')
# Every header compiles alone.
if [ "${1:-}" != quick ]; then
    flags=$(pkg-config --cflags hdf5-serial jansson 2>/dev/null || pkg-config --cflags hdf5 jansson)
    while IFS= read -r header; do
        case $header in src/math/isa/vec_*) continue ;; esac
        # shellcheck disable=SC2086
        printf '#include "%s"\nint nothing;\n' "${header#*/}" |
            "${MPICC:-mpicc}" -std=c17 -D_GNU_SOURCE -DPS_ISA_NAME=portable -Iinclude -Isrc $flags \
                -fsyntax-only -x c - 2>/tmp/header.$$ || complain "$header does not compile alone: $(head -n 2 /tmp/header.$$)"
        rm -f /tmp/header.$$
    done < <(git ls-files 'include/*.h' 'src/*.h')
fi
[ $bad -eq 0 ] && echo "floors: in order"
exit $bad
