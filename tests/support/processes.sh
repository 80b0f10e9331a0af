#!/usr/bin/env bash
# What tests that kill and stop processes share.

# until_true SECONDS COMMAND ...: asks every 5 ms.
until_true() {
    local turns=$(($1 * 200))
    shift
    until "$@"; do
        [ $((turns -= 1)) -gt 0 ] || return 1
        sleep 0.005
    done
}

# A rank that its parent did not ask about yet is a zombie: gone all the same.
is_gone() {
    local line
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 0
    case ${line##*) } in Z*) return 0 ;; esac
    return 1
}

# have_pids RANKS: every rank has left its number in pid.RANK.
have_pids() {
    local r
    for ((r = 0; r < $1; r++)); do [ -s pid.$r ] || return 1; done
}
