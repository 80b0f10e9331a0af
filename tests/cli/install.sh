# make install: a tree that works by itself, wherever it is put; make help; what README.md shows.
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
# build/MODE or build/MODE-CC[-MPICC]: as this program was built.
flavour=${PIPESTEP%/pipestep}
flavour=${flavour##*/}
words=("MODE=${flavour%%-*}")
[ "$flavour" = "${flavour#*-}" ] || words+=("CC=$(cut -d- -f2 <<<"$flavour")")
in_top() { env -u MAKEFLAGS -u MAKELEVEL make --no-print-directory -C "$TOP" "${words[@]}" "$@"; }

in_top help >help.txt || complain 'make help'
for target in all demo install test unit mpi cli golden bench format floors lint asan clean help; do
    grep -q "^  $target " help.txt || complain "make help does not list $target"
done

in_top install PREFIX=/opt/pipestep "DESTDIR=$PWD/stage" >log 2>&1 || complain "make install: $(<log)"
same 'nothing beside the prefix' opt "$(ls stage)"
mv stage/opt/pipestep moved # the tree need not lie where PREFIX says
for file in bin/pipestep share/pipestep/tunes.h5 share/pipestep/README.md share/pipestep/launch/local.sh share/pipestep/configs/tune.conf; do
    [ -s "moved/$file" ] || complain "not installed: $file"
done
cd moved/bin || exit 1
cmp pipestep "$PIPESTEP" || complain 'another program was installed'
ok ./pipestep generate -q --prompt "$header" -n 20 # the model that ships, found beside it
alone=$out
ok pipestep generate "$model" -q --prompt "$header" -n 20
same 'the installed program' "$out" "$alone"
ok ./pipestep generate --config ../share/pipestep/configs/tune.conf --prompt "$header" --seed 9 -q
case $out in "$header"*) ;; *) complain "tune.conf: $out" ;; esac
out=$(../share/pipestep/launch/local.sh -np 2 --timeout 60 -- generate -q --prompt "$header" -n 20 2>log)
same 'the installed launcher' "$alone" "$out"
cp pipestep ../../lost
cd ../..
fails 2 "no MODEL was given, and the model that ships is not beside $PWD" ./lost generate -q

# Options and files that README.md and the other texts name exist.
for command in generate batch acestep score encode bias tokenize detokenize plan inspect convert bench; do
    ok pipestep help "$command"
    echo "$out"
done >all-help.txt
grep -ho '`--[a-z-]*' "$TOP/README.md" "$TOP/configs/tunes/README.md" "$TOP/bench/README.md" | tr -d '`' | sort -u >named.txt
while read -r option; do
    grep -q -- "$option\b\|--\[no-\]${option#--}\|--\[no-\]${option#--no-}" all-help.txt || complain "a README names $option"
done < <(grep -vxE -- '--(bind-to|map-by|oversubscribe)' named.txt)
for text in README.md bench/README.md launch/README.md configs/tunes/README.md src/README.md; do
    while read -r link; do
        [ -e "$TOP/$(dirname "$text")/$link" ] || complain "$text links to $link"
    done < <(grep -o '](\([^)#]*\))' "$TOP/$text" | tr -d ']()' | grep -v '^http')
done
exit "$bad"
