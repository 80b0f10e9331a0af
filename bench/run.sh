#!/usr/bin/env bash
# The ladder: limits of the machine -> kernels -> attention -> hop -> decode steps. About five minutes; CSV with
# "# key=value" headers on standard output and in build/bench.
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
step "linear-1" "$build/bench/math/bench_linear" 1
[ "$cores" -lt 2 ] || step "linear-$cores" "$build/bench/math/bench_linear" "$cores"
step "attention" "$build/bench/math/bench_attention" 1
step "bias" "$build/bench/math/bench_bias" 1
[ "$cores" -lt 2 ] || step "hop" launch 2 300 "$build/bench/pipe/bench_hop"
step "decode" env BENCH_DIR="$out" RUNS="${RUNS:-3}" bench/decode.sh "${PRESET:-llama-1.1b}" "${TYPES:-f16}"
