# A bias of one's own, as tests/examples/own_bias.c hangs it into a model: it changes the model, the same way for any
# chunk and any number of threads, and what does not fit is refused.
set -u
programs=$(dirname "$PIPESTEP")/tests
bad=0

complain() {
    echo "$*" >&2
    bad=1
}

own_bias() { timeout 60 "$programs/examples/own_bias" "$@"; }

"$programs/tools/tiny_model" --family relpos_llama --windows 7,70,0,19 m.h5 || exit 1
awk 'BEGIN { x = 4; for (i = 0; i < 150; i++) { x = (x * 16807) % 2147483647; printf "%d ", x % 266 } }' >tokens

for layer in 0 1 2; do
    own_bias m.h5 "$layer" 1 150 1 <tokens >whole 2>err || complain "layer $layer: $(cat err)"
    # 4 heads, a line for each of the 150 keys, and the next token
    [ "$(wc -l <whole)" -eq 601 ] || complain "layer $layer: $(wc -l <whole) lines"
    for way in "1 1" "7 3" "64 2" "69 1"; do
        # shellcheck disable=SC2086
        own_bias m.h5 "$layer" 1 $way <tokens >other 2>err || complain "layer $layer, $way: $(cat err)"
        cmp -s whole other || complain "layer $layer: other numbers for chunk and threads $way"
    done
    own_bias m.h5 "$layer" 0 <tokens >without 2>err || complain "layer $layer, no gain: $(cat err)"
    [ "$(tail -n 1 whole)" != "$(cat without)" ] || complain "layer $layer: the bias changes nothing"
done
# Layer 0 has a window of 7: older keys are never asked for.
own_bias m.h5 0 <tokens | awk 'NF == 3 && $2 < 143 && $3 != 0 { exit 1 }' || complain "a key outside the window has a bias"
own_bias m.h5 0 <tokens | awk 'NF == 3 && $2 > 143 && $2 < 149 && $3 == 0 { exit 1 }' || complain "a key has no bias"

own_bias m.h5 3 <tokens >out 2>err
[ $? -eq 2 ] || complain "a layer that is not there: exit status"
grep -q 'own bias 0: layer 3 of a model with 3' err || complain "a layer that is not there: $(cat err)"
exit $bad
