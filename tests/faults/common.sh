# shellcheck shell=bash
# What the fault tests share. PIPESTEP is the program, TOP the sources; the working directory is the test's own.
# shellcheck disable=SC2034 # the scripts use them
set -u
TOP=${TOP:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
PIPESTEP=${PIPESTEP:-$TOP/build/pipestep}
model=$TOP/configs/tunes/tunes.h5
# shellcheck source=launch/launcher.sh
. "$TOP/launch/launcher.sh"
# shellcheck source=tests/support/processes.sh
. "$TOP/tests/support/processes.sh"
launcher_for "$PIPESTEP" || exit 1
export XDG_CACHE_HOME=${XDG_CACHE_HOME:-$PWD/cache}
quick=(-t 1 --wait shared)
quiet=(-q)

# The library that makes system calls fail (tests/faults/shim.c).
build_shim() {
    shim=$PWD/shim.so
    "${CC:-gcc}" -shared -fPIC -O1 -o "$shim" "$TOP/tests/faults/shim.c" -ldl
}

# Says where a rank is to be found, and becomes the program; PRELOAD is for the ranks, not for the launcher.
write_rank_script() {
    cat >rank.sh <<'END'
#!/bin/sh
rank="${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-${PMIX_RANK:-0}}}"
echo $$ >"pid.$rank"
if [ -n "${PRELOAD:-}" ]; then export LD_PRELOAD="$PRELOAD"; fi
exec "$@"
END
    chmod +x rank.sh
}

# start RANKS ARG ...: a batch in the background; its launcher in $job.
start() {
    local ranks=$1
    shift
    rm -f pid.*
    launch "$ranks" 120 ./rank.sh "$PIPESTEP" batch "$model" "${quick[@]}" "${quiet[@]}" "$@" >out 2>err </dev/null &
    job=$!
}

# Requests with everything that a result may depend on; their ids are 1 .. n_requests.
n_requests=16
write_requests() {
    local jig='X:1\nR:jig\nM:6/8\nL:1/8\nK:D\n' long
    long=$(for ((i = 0; i < 700; i++)); do printf '%s,' $(((i * i + 7 * i) % 700 + 2)); done)
    cat <<END
{"id": 1, "prompt": "$jig", "max_tokens": 200, "logprobs": 3}
{"id": 2, "prompt": "$jig", "max_tokens": 250, "repetition_penalty": 1.2, "presence_penalty": 0.5, "repeat_last_n": 40, "ignore_eos": true}
{"id": 3, "prompt": "$jig", "max_tokens": 300, "stop": ["|]\n\n\n", "zzz", "A4|"], "ignore_eos": true}
{"id": 4, "prompt": "$jig", "max_tokens": 120, "n": 3, "frequency_penalty": 0.3}
{"id": 5, "prompt": "$jig", "max_tokens": 90, "n": 5, "logprobs": 0, "stop": "d2d", "top_p": 0.9}
{"id": 6, "prompt": "X:2\nR:reel\n", "max_tokens": 200, "temperature": 0, "ignore_eos": true}
{"id": 7, "tokens": [${long}1], "max_tokens": 60, "logprobs": 20}
{"id": 8, "prompt": "x", "no_such_key": 1}
{"id": 9, "prompt": "$jig", "max_tokens": 200, "logit_bias": {"0": 100}, "min_tokens": 150, "banned": [33, 40]}
{"id": 10, "prompt": "$jig", "max_tokens": 0}
{"id": 11, "prompt": "$jig", "max_tokens": 30, "n": 12, "top_k": 20, "sampler_order": "llama"}
{"id": 12, "tokens": [${long}2], "max_tokens": 5, "n": 2}
{"id": 13, "prompt": "$jig", "max_tokens": 300, "temperature": 1.3, "min_p": 0.02, "ignore_eos": true}
{"id": 15, "prompt": "$jig", "max_tokens": 150, "guidance_scale": 1.7, "negative_prompt": "X:1\\nR:reel\\n", "logprobs": 2, "ignore_eos": true}
{"id": 16, "prompt": "$jig", "max_tokens": 70, "guidance_scale": 2.5, "n": 3, "repetition_penalty": 1.1}
{"id": 14, "prompt": "$jig", "max_tokens": 150, "typical_p": 0.9, "logprobs": true}
END
}

# rows FILE: sets $lost and $doubled, ids that are not there and ids that are there again.
count_rows() {
    local ids
    ids=$(grep -oE '^\{"id": [0-9]+' "$1" | grep -oE '[0-9]+' | sort -n)
    doubled=$(uniq -d <<<"$ids" | grep -c .)
    lost=$((n_requests - $(uniq <<<"$ids" | grep -c .)))
}
