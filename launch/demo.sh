#!/usr/bin/env bash
# The demo: four ranks play a new tune. Prints it, leaves build/demo/tune.abc and, where abc2midi is
# installed, build/demo/tune.mid. SEED, NP, HEADER, MODEL in the environment change it.
#
# The model is small and sometimes writes a repeat that does not close. Where abc2midi objects to a tune, the
# demo says so and plays the next seed's, five at most.
set -eu
cd "$(dirname "$0")/.."
np=${NP:-4}
seed=${SEED:-9}
header=${HEADER:-$'R:jig\nM:6/8\nL:1/8\nK:D'}
out=build/demo
mkdir -p "$out"

# play SEED: leaves the tune in tune.abc. The model knows no titles, but readers of ABC want one.
play() {
    launch/local.sh -np "$np" -- generate ${MODEL:+"$MODEL"} --config configs/tune.conf \
        --prompt "X:1"$'\n'"$header"$'\n' --seed "$1" >"$out/generated.abc"
    {
        sed -n 1p "$out/generated.abc"
        printf 'T:pipestep, seed %s\n' "$1"
        sed 1d "$out/generated.abc"
        printf '\n'
    } >"$out/tune.abc"
}

# to_midi: false when abc2midi finds an error; its messages are in $messages.
to_midi() {
    messages=$(abc2midi "$out/tune.abc" -o "$out/tune.mid" 2>&1) || return 1
    [ -s "$out/tune.mid" ] && ! grep -q '^Error' <<<"$messages"
}

for try in 1 2 3 4 5; do
    printf 'A new tune from %s ranks (seed %s):\n\n' "$np" "$seed" >&2
    play "$seed"
    cat "$out/tune.abc"
    if ! command -v abc2midi >/dev/null 2>&1; then
        printf 'written: %s (no abc2midi here, so no MIDI)\n' "$out/tune.abc" >&2
        exit 0
    fi
    if to_midi; then
        printf 'written: %s, %s\n' "$out/tune.abc" "$out/tune.mid" >&2
        exit 0
    fi
    printf 'abc2midi objects: %s\n\n' "$(grep '^Error' <<<"$messages" | head -n 1)" >&2
    seed=$((seed + 1))
done
printf 'abc2midi accepted none of %s tunes\n' "$try" >&2
exit 1
