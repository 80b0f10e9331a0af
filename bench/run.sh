#!/usr/bin/env bash
# The ladder: limits of the machine -> kernels -> attention -> layer -> hop -> decode steps -> scaling. About five
# minutes; CSV with "# key=value" headers on standard output and in build/bench. Products with weights: LINEAR_TYPES (all:
# every one) under LINEAR_ACTIVATIONS (i16, the program's default; all: every kind).
set -eu
cd "$(dirname "$0")/.."
. launch/launcher.sh
build=$1
out=build/bench
mkdir -p "$out"
cores=$(nproc)
step() { # NAME COMMAND ...
    local name=$1
    shift
    echo "== $name" >&2
    "$@" | tee "$out/$name.csv"
}
step "machine-1" build/pipestep bench -t 1
[ "$cores" -lt 2 ] || step "machine-$cores" build/pipestep bench -t "$cores"
linear=(auto "${LINEAR_TYPES:-f32,f16,bf16,q8_0,q4_0,q4_k,q5_k,q6_k}" "${LINEAR_ACTIVATIONS:-i16}")
step "linear-1" "$build/bench/math/bench_linear" 1 "${linear[@]}"
[ "$cores" -lt 2 ] || step "linear-$cores" "$build/bench/math/bench_linear" "$cores" "${linear[@]}"
step "attention" "$build/bench/math/bench_attention" 1
step "bias" "$build/bench/math/bench_bias" 1
step "layer" env BENCH_DIR="$out" RUNS="${RUNS:-3}" bench/layer.sh "$cores"
[ "$cores" -lt 2 ] || step "hop" launch_bound 2 1 300 "$build/bench/pipe/bench_hop"
step "decode" env BENCH_DIR="$out" RUNS="${RUNS:-3}" TOKENS="${TOKENS:-16}" bench/decode.sh "${PRESET:-llama-1.1b}" "${TYPES:-f16}"
step "scaling" env BENCH_DIR="$out" RUNS="${RUNS:-1}" CHUNKS="${CHUNKS:-4 16}" bench/scaling.sh
