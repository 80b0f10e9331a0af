#!/usr/bin/env bash
# The demo: four ranks play a new tune. Prints it, leaves build/demo/tune.abc and, where abc2midi is
# installed, build/demo/tune.mid. SEED, NP, HEADER, MODEL in the environment change it.
set -eu
cd "$(dirname "$0")/.."
np=${NP:-4}
seed=${SEED:-7}
header=${HEADER:-$'R:jig\nM:6/8\nL:1/8\nK:D'}
out=build/demo
mkdir -p "$out"

printf 'A new tune from %s ranks (seed %s):\n\n' "$np" "$seed" >&2
launch/local.sh -np "$np" -- generate ${MODEL:+"$MODEL"} --config configs/tune.conf \
    --prompt "X:1"$'\n'"$header"$'\n' --seed "$seed" >"$out/generated.abc"
# The model knows no titles, but ABC readers want one.
{
    sed -n 1p "$out/generated.abc"
    printf 'T:pipestep, seed %s\n' "$seed"
    sed 1d "$out/generated.abc"
    printf '\n'
} >"$out/tune.abc"
cat "$out/tune.abc"

if command -v abc2midi >/dev/null 2>&1; then
    messages=$(abc2midi "$out/tune.abc" -o "$out/tune.mid" 2>&1) || true
    if grep -q '^Error' <<<"$messages" || [ ! -s "$out/tune.mid" ]; then
        printf 'abc2midi does not accept the tune:\n%s\n' "$messages" >&2
        exit 1
    fi
    printf 'written: %s, %s\n' "$out/tune.abc" "$out/tune.mid" >&2
else
    printf 'written: %s (no abc2midi here, so no MIDI)\n' "$out/tune.abc" >&2
fi
