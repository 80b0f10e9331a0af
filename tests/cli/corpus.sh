# Every input of tests/fuzz/corpus through its target, without libFuzzer: what once went wrong stays right.
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
export TMPDIR=$PWD
targets=${PIPESTEP%/*}/tests/fuzz
for corpus in "$TOP"/tests/fuzz/corpus/*/; do
    name=$(basename "$corpus")
    [ -x "$targets/fuzz_$name" ] || complain "corpus $name has no target"
done
for target in "$targets"/fuzz_*; do
    [ -x "$target" ] || continue
    corpus=$TOP/tests/fuzz/corpus/${target##*/fuzz_}
    count=$(find "$corpus" -type f ! -name '.*' | wc -l)
    out=$(timeout 120 "$target" "$corpus" 2>log)
    same "${target##*/}: exit status" 0 $?
    same "${target##*/}" "$count inputs" "$out"
    [ "$out" = "$count inputs" ] || tail -n 20 log >&2
done
exit "$bad"
