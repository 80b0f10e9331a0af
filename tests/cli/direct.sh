# Models of other formats without a step in between: a GGUF file or a directory runs, is converted once into the cache,
# alone and under mpirun, and what cannot be converted says so once and leaves nothing.
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
launcher_for "$PIPESTEP" || exit 1
golden=${PS_GOLDEN:-$TOP/tests/golden}
cache=$XDG_CACHE_HOME/pipestep/models
cp "$golden/gguf/llama-mixed/model.gguf" m.gguf
mkdir dir
cp "$golden"/families/llama/*.json "$golden"/families/llama/*.safetensors dir
printf '1 2 3\n' >ids
run=(--tokens ids -n 6 --ids --ignore-eos -q)

# names DIR: what is in a directory, without hashes.
names() { find "$1" -mindepth 1 -printf '%f\n' 2>/dev/null | sed 's/-[0-9a-f]\{16\}\./-#./' | sort | xargs; }

# What the same gives with a step in between.
ok pipestep convert m.gguf -o m.h5 -q
ok pipestep convert dir -o dir.h5 -q
ok pipestep generate m.h5 "${run[@]}"
from_gguf=$out
ok pipestep generate dir.h5 "${run[@]}"
from_dir=$out

# ---- once ----

ok pipestep generate m.gguf "${run[@]}"
same 'a GGUF file' "$from_gguf" "$out"
same 'the cache' 'm.gguf-#.h5' "$(names "$cache")"
made=$(stat -c %i "$cache"/m.gguf-*)
ok pipestep generate m.gguf "${run[@]}"
same 'the second start' "$from_gguf" "$out"
same 'the file of the second start' "$made" "$(stat -c %i "$cache"/m.gguf-*)"
cmp "$cache"/m.gguf-*.h5 m.h5 || complain 'not what convert makes'
ok pipestep generate dir "${run[@]}" --cache-dir here/and/there
same 'a directory' "$from_dir" "$out"
same 'a cache of its own' 'dir-#.h5' "$(names here/and/there)"
same 'the other cache' 'm.gguf-#.h5' "$(names "$cache")"

# It says what it does, unless it is to be quiet.
pipestep generate dir "${run[@]:0:5}" >out 2>err
same 'a line about the conversion' 1 "$(grep -c '^pipestep: converting dir, once; kept as .*/cache/pipestep/models/dir-.*\.h5$' err)"
pipestep generate dir "${run[@]:0:5}" >out 2>err
same 'no line the second time' 0 "$(grep -c converting err)"

# ---- every command that takes a model ----

printf '{"tokens": [1, 2, 3], "max_tokens": 6, "ignore_eos": true}\n' >requests
for model_of in 'm.gguf m.h5' 'dir dir.h5'; do
    read -r foreign file <<<"$model_of"
    for command in 'score --tokens ids' 'batch --in requests --out -'; do
        read -ra words <<<"$command"
        ok pipestep "${words[0]}" "$file" "${words[@]:1}" -q
        wanted=$out
        ok pipestep "${words[0]}" "$foreign" "${words[@]:1}" -q
        same "$command of $foreign" "$wanted" "$out"
    done
    ok pipestep inspect "$file" --json
    wanted=${out#*\"spec\"}
    ok pipestep inspect "$foreign" --json -q
    same "inspect $foreign" "$wanted" "${out#*\"spec\"}"
    ok pipestep plan "$file" --np 2 --json -q
    wanted=$(grep -o '"layers[^]]*\]\|"mapped_bytes": [0-9]*' <<<"$out")
    ok pipestep plan "$foreign" --np 2 --json -q
    same "plan $foreign" "$wanted" "$(grep -o '"layers[^]]*\]\|"mapped_bytes": [0-9]*' <<<"$out")"
done
rm -r "$cache"
ok pipestep inspect m.gguf -q --cache-dir looked
same 'inspect with a cache of its own' 'm.gguf-#.h5' "$(names looked)"

# ---- a source that changes ----

ok pipestep generate dir "${run[@]}"
touch -d '2001-01-01' dir/config.json
ok pipestep generate dir "${run[@]}"
same 'two states' 'dir-#.h5 dir-#.h5' "$(names "$cache")"
cp "$golden/gguf/qwen3-mixed/model.gguf" m.gguf
ok pipestep convert m.gguf -o other.h5 -q
ok pipestep generate other.h5 "${run[@]}"
wanted=$out
ok pipestep generate m.gguf "${run[@]}"
same 'another model under the same name' "$wanted" "$out"
cp "$golden/gguf/llama-mixed/model.gguf" m.gguf

# ---- ranks ----

rm -r "$cache"
launch 3 60 "$PIPESTEP" generate m.gguf "${run[@]}" >out 2>err </dev/null || complain "3 ranks: $(<err)"
same '3 ranks' "$from_gguf" "$(<out)"
same '3 ranks: quiet' '' "$(<err)"
same '3 ranks: the cache' 'm.gguf-#.h5' "$(names "$cache")"

# The others wait for as long as rank 0 takes: here it waits itself, for somebody who holds the lock.
kept=$(echo "$cache"/m.gguf-*.h5)
rm "$kept"
flock "$kept.lock" sleep 3 &
until [ -e "$kept.lock" ]; do sleep 0.05; done
SECONDS=0
launch 3 60 "$PIPESTEP" generate m.gguf "${run[@]}" --stall-timeout 0.5 >out 2>err </dev/null ||
    complain "longer than the stall timeout: $(<err)"
same 'longer than the stall timeout' "$from_gguf" "$(<out)"
[ "$SECONDS" -ge 2 ] || complain 'did not wait for the lock'
same 'the lock is gone' 'm.gguf-#.h5' "$(names "$cache")"
wait

# ---- damage ----

rm -r "$cache"
head -c 800000 m.gguf >cut.gguf
fails 1 'cut.gguf: ' pipestep generate cut.gguf "${run[@]}"
same 'nothing is left' '' "$(names "$cache")"
launch 3 60 "$PIPESTEP" generate cut.gguf "${run[@]}" >out 2>err </dev/null
same '3 ranks, damaged: status' 1 $?
same '3 ranks, damaged: output' '' "$(<out)"
same '3 ranks, damaged: one line' 1 "$(grep -c '^pipestep: error: cut.gguf: ' err)"
same '3 ranks, damaged: nothing is left' '' "$(names "$cache")"
echo '{' >dir/config.json
fails 1 'dir/config.json: not valid JSON' pipestep score dir --tokens ids -q
same 'nothing is left of the directory' '' "$(names "$cache")"
touch file
fails 1 'file: cannot make directory: File exists' pipestep generate m.gguf "${run[@]}" --cache-dir file
fails 2 'give --cache-dir' env -u HOME -u XDG_CACHE_HOME "$PIPESTEP" generate m.gguf "${run[@]}"
# What takes no model has no cache for one.
fails 2 'cache-dir' pipestep convert m.gguf -o x.h5 --cache-dir here
fails 2 'cache-dir' pipestep tokenize m.gguf --cache-dir here
exit "$bad"
