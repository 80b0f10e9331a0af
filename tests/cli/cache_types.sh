# What a cache of 16 bits cannot hold ends the run with one line that names the layer; other types hold it.
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"

# Layer 1's key projection becomes 1e5 everywhere, so keys are about 1e5 to 1e6.
"$tiny_model" hf || complain 'no model'
weights=hf/model.safetensors
header_bytes=$(od -An -tu8 -N8 "$weights" | tr -d ' ')
header=$(tail -c +9 "$weights" | head -c "$header_bytes")
offsets=${header#*'model.layers.1.self_attn.k_proj.weight"'}
offsets=${offsets#*'"data_offsets":['}
IFS=, read -r begin end <<<"${offsets%%]*}"
case $header in *'k_proj.weight":{"dtype":"F32"'*) ;; *) complain "the small model's weights are not F32" ;; esac
# shellcheck disable=SC2046 # one word for each value
printf '\000\120\303\107%.0s' $(seq $(((end - begin) / 4))) |
    dd of="$weights" bs=1 seek=$((8 + header_bytes + begin)) conv=notrunc 2>/dev/null

echo 3 1 4 1 5 >prompt.txt
for type in f32 bf16; do
    ok pipestep generate hf --tokens prompt.txt -n 3 --ids --cache-k $type -q
done
fails 1 'layer 1: a key or value is too large for a cache of f16 keys and f32 values (f16 and scales of blocks end at 65504): use bf16 or f32' \
    pipestep generate hf --tokens prompt.txt -n 3 --ids --cache-k f16 -q
