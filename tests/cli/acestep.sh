# acestep: metadata and codes of a tiny model in ACE-Step's shape; the same bytes on any ranks, in any company; one clear
# line for what is wrong.
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
# shellcheck source=tests/support/processes.sh
. "$TOP/tests/support/processes.sh"
lm=$TOP/tests/golden/acestep/lm
ok pipestep convert "$lm/model" -o lm.h5 -q
acestep() { pipestep acestep lm.h5 --codebook 1980 -q "$@"; }

# has NAME TEXT PART
has() {
    case $2 in *"$3"*) ;; *) complain "$1: no '$3' in ${2:0:600}" ;; esac
}

# ---- one song ----

song=(--caption 'calm piano, rain' --instrumental --duration 12.5 --seed 7)
ok acestep "${song[@]}"
text=$out
has 'metadata' "$text" $'\nduration: 12\n'
same 'codes on one line, 5 a second' 62 "$(tail -n 1 <<<"$text" | grep -o '<|audio_code_[0-9]*|>' | wc -l)"
ok acestep "${song[@]}"
same 'the same seed' "$text" "$out"
ok acestep "${song[@]:0:5}" --seed 8
[ "$text" != "$out" ] || complain 'another seed gives the same song'
ok acestep "${song[@]}" --sampler-order vllm
[ "$text" != "$out" ] || complain 'the order of the sampler changes nothing'
ok acestep "${song[@]}" --json --codes song.codes
json=$out
has 'JSON' "$json" '{"mode": "generate", "format": "new", "seed": 7, "metadata": {"bpm": '
has 'JSON' "$json" '"target_codes": 62'
has 'JSON' "$json" '"without": "<|im_start|>system\n# Instruction\nGenerate audio'
same 'the file of codes' "$(tail -n 1 <<<"$text")" "$(<song.codes)"
case $json in *seconds*) complain 'times in JSON' ;; esac
ok acestep "${song[@]}" --json --timings
has 'times' "$out" '"seconds": 0.'
# shellcheck disable=SC2001 # a pattern
same 'times apart' "$json" "$(sed 's/, "seconds": [0-9.e-]*//g' <<<"$out")"
pipestep acestep lm.h5 --codebook 1980 "${song[@]}" >said.out 2>said.err || complain 'a song fails'
has 'the seed is told' "$(<said.err)" 'seed 7'
has 'the speed is told' "$(<said.err)" 'codes: 62 in '
has 'the speed is told' "$(<said.err)" ' s of music a second'

for np in 1 2 3; do
    for options in '' '--threads 3 --chunk 7' '--slots 3 --in-flight 1'; do
        # shellcheck disable=SC2086
        launch $np 60 "$PIPESTEP" acestep lm.h5 --codebook 1980 -q "${song[@]}" --json $options >ranks.json 2>&1
        same "$np ranks $options" "$json" "$(<ranks.json)"
    done
done

# Sample b is the same in any batch.
codes_of() { grep -o "\"sample\": $1, \"codes\": \[[^]]*\]" <<<"$2"; }
ok acestep "${song[@]}" --json --batch 5
same 'sample 0 of 5' "$(codes_of 0 "$json")" "$(codes_of 0 "$out")"
five=$out
same 'five samples' 5 "$(grep -o '"sample": ' <<<"$five" | wc -l)"
same 'all different' 5 "$(grep -o '"codes": \[[^]]*\]' <<<"$five" | sort -u | wc -l)"
ok acestep "${song[@]}" --json --batch 3 --slots 2
for b in 0 1 2; do
    same "sample $b of 3 in two slots" "$(codes_of $b "$five")" "$(codes_of $b "$out")"
done
ok acestep "${song[@]}" --batch 3 --codes three.codes
same 'a line for each' 3 "$(wc -l <three.codes)"

# Greedy: no seed matters. Without guidance other codes.
ok acestep "${song[@]}" --temperature 0 --json
greedy=${out/'"seed": 7'/}
ok acestep "${song[@]:0:5}" --temperature 0 --seed 9 --json
same 'greedy, another seed' "$greedy" "${out/'"seed": 9'/}"
ok acestep "${song[@]}" --temperature 0 --cfg-scale 1
guided=$(acestep "${song[@]}" --temperature 0)
[ "$out" != "$guided" ] || complain 'guidance changes nothing'
ok acestep "${song[@]}" --temperature 0 --negative 'noise, low quality'
[ "$out" != "$guided" ] || complain 'a negative prompt changes nothing'

# However hot: codes that the sound model knows, and no others.
ok acestep --caption x --instrumental --duration 40 --temperature 9 --top-p 1 --seed 7
same 'as many as there should be' 200 "$(grep -o '<|audio_code_[0-9]*|>' <<<"$out" | wc -l)"
same 'legal codes' '' "$(grep -o '<|audio_code_[0-9]*|>' <<<"$out" | tr -dc '0-9\n' | awk '$1 > 1979')"

# What is given is not asked for; what is not wanted is not written.
ok acestep --caption x --bpm 90 --keyscale 'B♭ major' --timesignature 6/8 --duration 10 --temperature 0
same 'all given' $'bpm: 90\nduration: 10\nkeyscale: B♭ major\ntimesignature: \'6\'' "$(head -n 4 <<<"$out")"
ok acestep --caption x --temperature 0 --metadata-only --no-cot-caption --no-cot-language --language zh --max-duration 17
case $out in *caption:* | *language:* | *audio_code*) complain "fields that were not wanted: $out" ;; esac
ok acestep --caption x --temperature 0 --no-cot --duration 10 --language de
same 'without thinking' $'duration: 10\nlanguage: de' "$(head -n 2 <<<"$out")"
printf 'la la\n' >song.txt
ok acestep --caption x --lyrics-file song.txt --temperature 0 --target-duration 3 --json
has 'lyrics from a file' "$out" '# Lyric\nla la\n<|im_end|>'
has 'seconds of codes' "$out" '"target_codes": 15'
ok acestep --caption x --temperature 0 --format legacy --duration 10 --json
has 'legacy' "$out" '</think>\n\n<|im_end|>\n", "without": '

# ---- the other modes ----

ok acestep --mode understand --audio-codes song.codes --temperature 0 --genres "$lm/genres.txt"
has 'understand' "$out" $'bpm: '
has 'understand' "$out" $'\ngenres: '
grep -o '[0-9]*' song.codes | paste -sd, >numbers.txt
understood=$out
ok acestep --mode understand --audio-codes - --temperature 0 --genres "$lm/genres.txt" <numbers.txt
same 'codes as numbers' "$understood" "$out"
ok acestep --mode inspiration --caption 'warm blues about two friends' --language fr --temperature 0 --max-tokens 300
has 'inspiration' "$out" $'\nlanguage: fr\n'
ok acestep --mode rewrite --caption 'pop' --lyrics 'la' --temperature 0 --max-tokens 300 --json
has 'rewrite' "$out" '{"mode": "rewrite", "seed": '
has 'rewrite' "$out" '"lyrics": "[Verse'

# ---- many requests ----

cat >requests.jsonl <<'EOF'
{"id": "a", "caption": "calm piano, rain", "instrumental": true, "duration": 12.5, "seed": 7}
{"caption": "a", "bpm": 10}

{"id": 3, "mode": "understand", "audio_codes": [1, 2, 3], "lm_temperature": 0, "max_tokens": 200}
{"caption": "b", "duration": 10}
{"id": 5, "caption": "b", "duration": 10, "batch_size": 2, "seed": 3}
{"mode": "understand", "audio_codes": [1980]}
{"caption": "c", "lm_cfg_scale": 1, "duration": 10, "format": "legacy_cfg_open", "seed": 4}
EOF
ok acestep --requests requests.jsonl --out results.jsonl
echo 'acestep = true' >songs.conf
same 'record' 1 "$(grep -c '^"requests": {"all": 7, ' results.jsonl.run.json)"
same 'a result a request' 7 "$(wc -l <results.jsonl)"
same 'as alone' "$json" "$(sed -n 's/^{"id": "a", /{/p' results.jsonl)"
result() { sed -n "$1p" results.jsonl; }
same 'a bad value' \
    '{"line": 2, "error": {"type": "usage", "message": "bpm: 10 beats a minute, wanted a whole number from 30 to 300"}}' \
    "$(result 2)"
has 'an id' "$(result 3)" '{"id": 3, "mode": "understand", "seed": '
same 'a code too high' \
    '{"line": 7, "error": {"type": "usage", "message": "audio code 0 is 1980, the model has 0..1979"}}' "$(result 6)"
for np in 1 2 3; do
    launch $np 60 "$PIPESTEP" acestep lm.h5 --codebook 1980 -q --requests requests.jsonl -o $np.jsonl --slots $((np + 1))
    cmp results.jsonl $np.jsonl || complain "$np ranks: other results"
done
for in in '--in requests.jsonl' '--in=requests.jsonl' '-i requests.jsonl'; do
    # shellcheck disable=SC2086 # one or two words
    ok pipestep batch lm.h5 --acestep --codebook 1980 -q $in --out batch.jsonl
    cmp -s batch.jsonl results.jsonl || complain "batch --acestep $in: other results"
    rm -f batch.jsonl
done
fails 2 'acestep: is for the command line' pipestep batch lm.h5 --config songs.conf --in requests.jsonl --out x.jsonl
acestep --requests - <requests.jsonl | cmp - results.jsonl || complain 'standard input and output: other results'
sed -n 5p requests.jsonl | acestep --requests - >first.jsonl
[ "$(<first.jsonl)" != "$(result 4)" ] || complain 'the seed does not come from the place'
ok acestep --requests requests.jsonl --out other.jsonl --seed 1 --bpm 77
same 'options are what lines leave out' 77 "$(sed -n 4p other.jsonl | grep -o '"bpm": [0-9]*' | head -n 1 | tr -dc 0-9)"
pipestep acestep lm.h5 --codebook 1980 --requests requests.jsonl --out other.jsonl 2>said.err || complain 'requests fail'
has 'failures are told' "$(<said.err)" '2 of 7 requests could not run'

# ---- a job that is killed goes on ----

for ((i = 0; i < 40; i++)); do
    echo '{"id": '$i', "caption": "song '$i'", "instrumental": true, "duration": 10}'
done >many.jsonl
ok acestep --requests many.jsonl --out whole.jsonl --no-journal
"$PIPESTEP" acestep lm.h5 --codebook 1980 -q --requests many.jsonl --out part.jsonl --slots 2 -t 1 2>killed.err &
job=$!
# shellcheck disable=SC2317 # until_true calls it
has_three_songs() { [ -s part.jsonl.journal ] && [ "$(wc -l <part.jsonl)" -ge 3 ]; }
until_true 30 has_three_songs || complain 'no songs come out'
kill -KILL $job
wait $job 2>/dev/null
[ -s part.jsonl.journal ] || complain 'the songs were done before the job was killed'
fails 2 'bpm' acestep --requests many.jsonl --out part.jsonl --bpm 90
launch 2 60 "$PIPESTEP" acestep lm.h5 --codebook 1980 --requests many.jsonl --out part.jsonl --resume yes 2>on.err
cmp whole.jsonl part.jsonl || complain 'a job that goes on gives other songs'
[ ! -e part.jsonl.journal ] || complain 'the journal stays'
fails 2 '--resume goes with --requests' acestep --caption x --resume yes

# ---- what is wrong ----

long() { head -c "$1" /dev/zero | tr '\0' x; }
fails 1 '--caption: has 512 characters, wanted at most 511' acestep --caption "$(long 512)"
fails 1 '--lyrics: has 4096 characters, wanted at most 4095' acestep --lyrics "$(long 4096)"
long 4096 >long.txt
fails 1 'long.txt: has 4096 characters' acestep --lyrics-file long.txt
fails 1 '--caption: not UTF-8: byte 1 is 0xff' acestep --caption $'a\xff'
printf 'la \x80\n' >bad.txt
fails 1 'bad.txt: not UTF-8: byte 3 is 0x80' acestep --lyrics-file bad.txt
fails 1 '--negative: not UTF-8' acestep --negative $'\xff'
fails 2 '--bpm: 301 beats a minute, wanted a whole number from 30 to 300' acestep --bpm 301
fails 2 '--bpm: 90.5 beats' acestep --bpm 90.5
fails 2 '--duration: 9 seconds, wanted 10 to 600' acestep --duration 9
fails 2 '--duration: 660 seconds, wanted 10 to 600' acestep --duration 11m
fails 2 '--keyscale: "H minor" is no key' acestep --keyscale 'H minor'
fails 2 '--timesignature: "7/8" is no time signature, wanted 2, 3, 4 or 6' acestep --timesignature 7/8
fails 2 '--language: "xx" is no language' acestep --language xx
fails 2 '--lyrics and --instrumental exclude each other' acestep --lyrics la --instrumental
fails 2 '--lyrics and --lyrics-file exclude each other' acestep --lyrics la --lyrics-file song.txt
fails 2 '--no-cot and --metadata-only leave nothing to do' acestep --no-cot --metadata-only
fails 2 '--mode understand wants --audio-codes FILE' acestep --mode understand
fails 2 '--cfg-scale has no use in mode rewrite' acestep --mode rewrite --cfg-scale 3
fails 2 '--audio-codes has no use in mode generate' acestep --audio-codes song.codes
fails 2 '--caption has no use in mode understand' acestep --mode understand --audio-codes song.codes --caption x
fails 2 '--codes: this run makes no codes' acestep --mode rewrite --codes x
fails 2 '--codes and --requests exclude each other' acestep --requests requests.jsonl --codes x
fails 2 '--out goes with --requests' acestep --out x
fails 2 '--genres has no use in mode generate' acestep --genres "$lm/genres.txt"
fails 2 '--negative has no use with --cfg-scale 1' acestep --negative noise --cfg-scale 1
fails 2 '--batch has no use where there are no codes' acestep --metadata-only --batch 2
fails 2 '--target-duration has no use where there are no codes' acestep --metadata-only --target-duration 5
fails 1 'nowhere/x: cannot be created' acestep --requests requests.jsonl --out nowhere/x
fails 1 'none.jsonl: cannot open' acestep --requests none.jsonl
fails 2 '--slots 1: guidance takes two' acestep --caption x --slots 1
fails 2 '--timings goes with --json' acestep --timings
fails 2 'would overwrite the requests' acestep --requests requests.jsonl --out ./requests.jsonl
fails 1 'there is other text among 62 codes' acestep --mode understand --audio-codes <(cat song.codes song.txt)
fails 2 'audio code 1 is 1999, the model has 0..1979' acestep --mode understand --audio-codes <(echo 5 1999)
fails 1 'none.txt: cannot open' acestep --mode inspiration --genres none.txt
fails 1 'nowhere' acestep --codes nowhere/song.codes
fails 2 'codebook' acestep --codebook 2001
fails 1 'tunes.h5: tokenizer: no token <|im_end|>: not that of an ACE-Step language model' pipestep acestep "$model" -q --caption x
fails 1 'the prompt has' acestep --caption "$(long 400)" --ctx 40
fails 1 'the prompt has 80 tokens, the context 70' acestep "${song[@]:0:5}" --temperature 0 --ctx 70 # the codes' prompt
pipestep acestep lm.h5 --codebook 1980 --caption x --instrumental --temperature 0 --duration 10 --ctx 130 >cut.out 2>cut.err
has 'what is cut off' "$(<cut.err)" "codes of sample 0: cut off after $(grep -o audio_code cut.out | wc -l) (--ctx, --max-tokens)"
pipestep acestep lm.h5 --codebook 1980 --caption x --temperature 0 --duration 10 --max-tokens 20 >cut.out 2>cut.err
has 'what is cut off' "$(<cut.err)" 'metadata: cut off after 20 tokens; codes of sample 0: cut off after 20 (--ctx'
fails 2 'MODEL' pipestep acestep
exit "$bad"
