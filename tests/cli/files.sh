# Files that are not what they should be: models that are cut, damaged, unreadable; sources of a conversion; full disks.
# Every kind of damage to a model file has unit tests; here the whole way is sampled.
# shellcheck disable=SC2015 # complain where the one or the other fails
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
"$tiny_model" --tokenizer hf
ok pipestep convert hf -o good.h5 -q
ok pipestep convert hf -o again.h5 -q
cmp good.h5 again.h5 || complain 'two conversions differ'
ok pipestep generate good.h5 -q --prompt abc -n 5 --ids
answer=$out
size=$(stat -c %s good.h5)

# ---- no model ----

fails 1 'none.h5: cannot open: No such file or directory' pipestep generate none.h5 -q
fails 1 'none.h5: cannot open: No such file or directory' pipestep inspect none.h5
fails 1 'none.h5: cannot open: No such file or directory' pipestep plan none.h5
mkdir empty
fails 1 'empty/config.json: cannot open: No such file or directory' pipestep generate empty -q
: >empty.h5
fails 1 'empty.h5: the file is empty' pipestep generate empty.h5 -q
fails 1 'hf/config.json: not an HDF5 file' pipestep generate hf/config.json -q
mkfifo pipe
fails 1 'pipe: is a FIFO, wanted a regular file' pipestep generate pipe -q
cp good.h5 secret.h5
chmod 000 secret.h5
if [ "$(id -u)" -ne 0 ]; then
    fails 1 'secret.h5: cannot open: Permission denied' pipestep generate secret.h5 -q
elif command -v setpriv >/dev/null; then
    # Root may read everything without this capability's loss.
    fails 1 'secret.h5: cannot open: Permission denied' setpriv --bounding-set=-dac_override,-dac_read_search \
        --inh-caps=-dac_override,-dac_read_search timeout 60 "$PIPESTEP" generate secret.h5 -q
fi
# Under mpirun the same one line, whatever the launcher adds.
launch 3 60 "$PIPESTEP" generate none.h5 -q >out 2>log
same 'three ranks: status' 1 $?
same 'three ranks' 'pipestep: error: none.h5: cannot open: No such file or directory' "$(grep '^pipestep' log)"

# ---- cut ----

for i in $(seq 1 15); do
    head -c $((size * i / 16)) good.h5 >cut.h5
    fails 1 'cut.h5: ' pipestep generate cut.h5 -q --prompt abc -n 5
done

# ---- one byte changed, all over the file: noticed, or harmless ----

# flip FILE OFFSET: inverts a byte.
flip() {
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1")
    printf '%b' "\\x$(printf %x $((255 - byte)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
noticed=0
for i in $(seq 0 11); do
    cp good.h5 flipped.h5
    offset=$((size * i / 12 + i * 7))
    flip flipped.h5 $offset
    pipestep generate flipped.h5 -q --prompt abc -n 5 --ids >out 2>log
    status=$?
    if [ $status -eq 0 ]; then
        same "byte $offset: harmless" "$answer" "$(<out)"
    else
        noticed=$((noticed + 1))
        same "byte $offset: status" 1 $status
        [ "$(wc -l <log)" -eq 1 ] && grep -q '^pipestep: error: flipped.h5: ' log || complain "byte $offset: $(<log)"
        [ ! -s out ] || complain "byte $offset: printed $(<out)"
    fi
done
[ $noticed -ge 7 ] || complain "only $noticed of 12 changed bytes were noticed"
# In a tensor: named. It was verified once; changed afterwards it is verified again.
cp good.h5 flipped.h5
ok pipestep generate flipped.h5 -q --prompt abc -n 1 --ids
flip flipped.h5 $((size / 2))
fails 1 'is damaged: its checksum differs' pipestep generate flipped.h5 -q --prompt abc -n 1
fails 1 "$(sed 's/^pipestep: error: //' fails.err)" pipestep inspect flipped.h5 --verify

# ---- conversions ----

# broken TEXT COMMAND ...: the command changes a copy of the source, which then fails so.
broken() {
    local text=$1
    shift
    rm -rf source
    cp -R hf source
    (cd source && "$@")
    fails 1 "$text" pipestep convert source -o broken.h5 -q
    [ ! -e broken.h5 ] || complain "a file was made: $text"
}
weights=$(stat -c %s hf/model.safetensors)
broken 'source/config.json: cannot open' rm config.json
broken 'source/config.json: not valid JSON' truncate -s 20 config.json
broken 'source/config.json: key frobnicate_scale is not understood' sed -i '0,/{/s//{"frobnicate_scale": 2,/' config.json
broken 'model_type' sed -i 's/"llama"/"lama"/' config.json
broken 'tensor model.embed_tokens.weight is [270,36], wanted [270,38]' sed -i 's/"hidden_size": 36/"hidden_size": 38/' config.json
broken 'is missing' sed -i 's/"num_hidden_layers": 3/"num_hidden_layers": 4/' config.json
broken 'layers.2.' sed -i 's/"num_hidden_layers": 3/"num_hidden_layers": 2/' config.json
broken "has 266 tokens, the model's vocab_size is 260" sed -i 's/: 270/: 260/; s/: 264/: 4/; s/: 265/: 5/' config.json
broken 'num_hidden_layers' sed -i 's/"num_hidden_layers": 3/"num_hidden_layers": -3/' config.json
broken 'vocab' sed -i 's/"vocab_size": 270/"vocab_size": 1e9/' config.json
broken 'holds neither model.safetensors nor' rm model.safetensors
broken 'source/model.safetensors: ' truncate -s 100 model.safetensors
broken 'source/model.safetensors: ' truncate -s $((weights - 1)) model.safetensors
broken 'source/model.safetensors: ' truncate -s 0 model.safetensors
# shellcheck disable=SC2016
broken 'tensor lm_head.weight holds NaN or infinity' bash -c 'printf "\377\377\377\177" |
    dd of=model.safetensors bs=1 seek=$(($0 - 400)) conv=notrunc status=none' "$weights"
broken 'source/tokenizer.json: not valid JSON' truncate -s 500 tokenizer.json
"$tiny_model" --tokenizer --seed 2 exact
ok pipestep convert exact -o exact.h5 -q
fails 1 'none/config.json: cannot open' pipestep convert none -o x.h5
fails 1 'no/x.h5: cannot create: No such file or directory' pipestep convert hf -o no/x.h5 -q
fails 1 'hf: is a directory, wanted a regular file' pipestep convert hf -o hf -q
fails 1 '/dev/null: is a device, wanted a regular file' pipestep convert hf -o /dev/null -q
[ -c /dev/null ] || complain '/dev/null was replaced'
# A link is followed, and what was there stays until the new file is whole.
mkdir elsewhere
ln -s elsewhere/m.h5 link.h5
cp good.h5 elsewhere/m.h5
ok pipestep convert exact -o link.h5 -q
[ -L link.h5 ] && cmp -s exact.h5 elsewhere/m.h5 || complain 'a link was replaced'

# ---- a full disk, a file over its limit ----

(ulimit -f 40 && fails 1 'limited.h5: cannot be written (HDF5: File too large)' pipestep convert hf -o limited.h5 -q && exit "$bad") || bad=1
if [ "$(id -u)" -eq 0 ] && mkdir disk && mount -t tmpfs -o size=64k tmpfs disk 2>/dev/null; then
    seq -s' ' 0 99 >tokens.txt
    cp good.h5 kept.h5
    fails 1 'No space left on device' pipestep convert hf -o disk/x.h5 -q
    fails 1 'No space left on device' pipestep score good.h5 --tokens tokens.txt --logits disk/x.h5 -q
    fails 1 'No space left on device' pipestep bench --synthetic tunes -o disk/x.h5 -q
    same 'nothing is left on the disk' '' "$(ls disk)"
    umount disk
fi
exit "$bad"
