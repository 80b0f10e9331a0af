#!/usr/bin/env bash
# Fetches and builds the peer that figures stand beside: llama.cpp, from the source package of llama-cpp-python on
# the Python package index, for this processor, with its RPC servers.
#
#   bench/peers/fetch.sh           about 80 MB, ten minutes on two cores, 600 MB of disk
#
# Nothing of it is part of this tree: it lies in $PS_PEERS_DIR, by default pipestep/peers in the user's cache. A second
# call finds it there and does nothing. JOBS (1) is how many compilers run at a time, VERSION names another version.
set -euo pipefail
peers=${PS_PEERS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/pipestep/peers}
version=${VERSION:-0.3.36}
programs=(llama-bench llama-batched-bench llama-quantize llama-perplexity ggml-rpc-server)
FETCH_SECONDS=900

say() { echo "fetch: $*" >&2; }

fail() {
    say "$*"
    exit 1
}

is_built() {
    local program
    for program in "${programs[@]}"; do
        [ -x "$peers/bin/$program" ] || return 1
    done
    [ "$(cat "$peers/bin/version" 2>/dev/null)" = "$version" ]
}

if is_built; then
    say "llama.cpp of llama-cpp-python $version is in $peers/bin"
    exit 0
fi
for program in pip cmake c++ tar; do
    command -v "$program" >/dev/null || fail "$program is missing"
done
mkdir -p "$peers"
archive=$peers/llama_cpp_python-$version.tar.gz
if ! gzip -t "$archive" 2>/dev/null; then
    say "fetching llama-cpp-python $version"
    timeout "$FETCH_SECONDS" pip download --quiet --disable-pip-version-check --no-deps \
        --no-binary llama-cpp-python --dest "$peers" "llama-cpp-python==$version" >"$peers/fetch.log" 2>&1 ||
        fail "the package index cannot be reached, or has it no more (pip: $(tail -n 1 "$peers/fetch.log"))"
fi
source=$peers/llama_cpp_python-$version/vendor/llama.cpp
[ -r "$source/CMakeLists.txt" ] || tar -xzf "$archive" -C "$peers" "llama_cpp_python-$version/vendor/llama.cpp"

say "building it in $peers/build (log: $peers/build.log)"
options=(-DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DGGML_RPC=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_OPENSSL=OFF
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF
    -DLLAMA_BUILD_COMMON=ON -DLLAMA_BUILD_TOOLS=ON)
{
    cmake -S "$source" -B "$peers/build" "${options[@]}" &&
        cmake --build "$peers/build" --parallel "${JOBS:-1}" --target "${programs[@]}"
} >"$peers/build.log" 2>&1 || fail "it does not build: see the end of $peers/build.log"
mkdir -p "$peers/bin"
for program in "${programs[@]}"; do
    cp -f "$peers/build/bin/$program" "$peers/bin/$program"
done
echo "$version" >"$peers/bin/version"
say "done: $peers/bin"
