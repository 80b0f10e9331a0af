# Help, version, and what is wrong with a command line: exit status 2 and one line, before anything is read.
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
commands=(generate batch acestep score tokenize detokenize plan inspect convert bench)

# ---- help and version ----

ok pipestep --version
case $out in pipestep*MPI:*HDF5:*BLAS:*) ;; *) complain "--version: $out" ;; esac
ok pipestep help
for command in "${commands[@]}"; do
    grep -q "^  $command " <<<"$out" || complain "help does not list $command"
done
general=$out
for form in 'help help' '--help' '-h'; do
    read -ra words <<<"$form"
    ok pipestep "${words[@]}"
    same "$form" "$general" "$out"
done
for command in "${commands[@]}"; do
    ok pipestep help "$command"
    help=$out
    case $help in "usage: pipestep $command"*--quiet*) ;; *) complain "help $command: $help" ;; esac
    ok pipestep "$command" --help --nonsense
    same "$command --help" "$help" "$out"
    [ "$(awk 'length > 100' <<<"$help")" = '' ] || complain "help $command: lines over 100"
done
pipestep >no.out 2>no.err
same 'no command: status' 2 $?
same 'no command: help' "$general" "$(<no.out)"

# ---- what does not exist ----

fails 2 'unknown command genrate; did you mean generate?' pipestep genrate
fails 2 'unknown command xyzzy; pipestep help lists them' pipestep help xyzzy
fails 2 'unknown option --temprature; did you mean --temperature?' pipestep generate --temprature 1
fails 2 'unknown option --no-id; did you mean --no-ids?' pipestep generate --no-id
fails 2 'unknown option -Z' pipestep generate -Z
fails 2 'argument "b" is too much; wanted only MODEL' pipestep generate a b
fails 2 'argument SOURCE is missing' pipestep convert -o x.h5
fails 2 'option --seed is given twice' pipestep generate --seed 1 --seed 2
fails 2 'option --seed needs a value' pipestep generate --seed
fails 2 'option --ids takes no value, found "1"' pipestep generate --ids=1
fails 2 'option --gemm wants one of panel|blas, found "blass"; did you mean blas?' pipestep generate --gemm blass
fails 2 'option --stall-timeout wants a time' pipestep generate --stall-timeout 5x

# ---- every number of every command ----

# "name range" of the options whose help ends with a range.
numbers() {
    pipestep help "$1" | awk 'substr($0, 1, 20) == sprintf("%20s", "") {sub(/^ +/, " "); line = line $0; next} {print line; line = $0} END {print line}' |
        sed -n 's/^ *\(-.,\)\{0,1\} *--\([a-z-]*\) .*[( ]\(-\{0,1\}[0-9][0-9.e+-]*\.\.[0-9.e+]*\))$/\2 \3/p'
}
tried=0
for command in generate batch plan bench; do
    while read -r name range; do
        # A word that is fine as a real number is none of these.
        values=(x '' nan 99999999999999999999999999 1e999 0x10)
        case $range in -*) ;; *) values+=(-7) ;; esac
        for value in "${values[@]}"; do
            fails 2 "option --$name wants " pipestep "$command" "--$name=$value"
        done
        tried=$((tried + 1))
    done < <(numbers "$command" | if [ "$command" = generate ]; then cat; else grep -E '^(seed|np|threads) '; fi)
done
[ $tried -ge 24 ] || complain "only $tried numeric options were found in the help"
for value in x '' nan -1 18446744073709551616 1.5; do
    fails 2 'option --seed wants an integer' pipestep generate "--seed=$value"
done

# ---- options that contradict each other, or need another ----

fails 2 'exclude each other' pipestep generate --prompt a --tokens f
fails 2 '--ids and --json exclude each other' pipestep generate --ids --json
fails 2 '--echo and --json exclude each other' pipestep generate --echo --json
fails 2 '--logprobs goes with --json' pipestep generate --logprobs 2
fails 2 '-n -1 never ends' pipestep generate -n -1 --samples 2
fails 2 'contradict each other' pipestep inspect -q -v
fails 2 '--hidden goes with --logits' pipestep score --tokens f --hidden
fails 2 'give either --tokens FILE or --text FILE' pipestep score
fails 2 '--in FILE is missing' pipestep batch --out x
fails 2 '--out FILE is missing' pipestep batch --in x
fails 2 '-o MODEL.h5 is missing' pipestep convert dir
fails 2 'go together' pipestep bench -o x.h5
fails 2 '--logit-bias 3: wanted a token id, a colon and a number' pipestep generate --logit-bias 3
fails 2 '--logit-bias 3:nan: wanted' pipestep generate --logit-bias 3:nan
fails 2 '--ban -2: wanted a token id' pipestep generate --ban=-2
fails 2 'no step is named "topk"; the nearest is top_k' pipestep generate --sampler-order topk
fails 2 'top_k is set, but the sampler order does not name top_k' pipestep generate --sampler-order temperature --top-k 5
fails 2 'this processor has' pipestep generate --isa avx99

# ---- configuration files ----

printf 'temperature = 0.5\nfrobnicate = 1\n' >bad.conf
fails 2 'bad.conf:2: ' pipestep generate --config bad.conf
printf 'temperature = hot\n' >bad.conf
fails 2 'bad.conf:1: temperature wants a finite number in 0..100000, found "hot"' pipestep generate --config bad.conf
fails 1 'none.conf: cannot open: No such file or directory' pipestep generate --config none.conf
for file in "$TOP"/configs/*.conf; do
    ok pipestep generate "$model" --config "$file" -n 2 -q
done
exit "$bad"
