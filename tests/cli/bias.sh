# bias: the files it writes and what is in them, the heat map of the terminal, figures and page, and what it refuses.
# shellcheck source=tests/support/cli.sh
. "$TOP/tests/support/cli.sh"
bias() { pipestep bias "$model" -q "$@"; }

# A PATH without any program.
mkdir none
no_gnuplot() { PATH=$PWD/none "$PIPESTEP" bias "$model" -q "$@"; }

# ---- numbers ----

ok bias --prompt "$header" --layer 0,3 --head 1-2 --step 3,18- --out numbers --figures none
same 'nothing on standard output' '' "$out"
head -n 1 numbers/bias.csv >columns.txt
same 'columns' layer,head,query,key,distance,score,key_part,position_part,bias,weight,weight_without_bias "$(<columns.txt)"
# The prompt has 21 tokens: steps 3, 18, 19 and 20 see 4 + 19 + 20 + 21 keys, in two layers and two heads.
same 'lines' $((2 * 2 * 64 + 1)) "$(wc -l <numbers/bias.csv)"
same 'what is in them' '0,1 0,2 3,1 3,2' "$(tail -n +2 numbers/bias.csv | cut -d, -f1,2 | uniq | tr '\n' ' ' | sed 's/ $//')"
# Weights of a query sum to 1, key and position part to the bias, and distances are those of the positions.
awk -F, 'NR > 1 { sum[$1 "," $2 "," $3] += $10; plain[$1 "," $2 "," $3] += $11
                  d = $7 + $8 - $9; if (d * d > 1e-8 || $3 - $4 != $5 || $5 < 0) bad++ }
         END { for (q in sum) { n++; if ((sum[q] - 1)^2 > 1e-8 || (plain[q] - 1)^2 > 1e-8) bad++ }
               print n, bad + 0 }' numbers/bias.csv >sums.txt
same 'sums' '16 0' "$(<sums.txt)"
same 'HDF5' 89484446 "$(head -c 4 numbers/bias.h5 | od -An -tx1 | tr -d ' \n')"
grep -q 'No figures were drawn' numbers/index.html || complain 'the page does not say that there are no figures'
[ ! -e numbers/figures/map-layer00.svg ] || complain 'figures although none were wanted'

# The same bytes on any number of ranks and threads, in any chunks, with and without new tokens.
ok bias --prompt "$header" -n 70 --layer all --out one --figures none
for np in 2 3; do
    launch $np 60 "$PIPESTEP" bias "$model" -q --prompt "$header" -n 70 --layer all --out "ranks$np" --figures none \
        --chunk 5 --threads 1 || complain "$np ranks: exit status $?"
    cmp one/bias.csv "ranks$np/bias.csv" || complain "$np ranks: other numbers"
    cmp one/bias.h5 "ranks$np/bias.h5" || complain "$np ranks: another file"
    cmp one/index.html "ranks$np/index.html" || complain "$np ranks: another page"
done
# New tokens are those of generate.
ids=$(pipestep generate "$model" -q --prompt "$header" -n 4 --ids)
{ pipestep tokenize "$model" -q < <(printf %s "$header") | tr '\n' ' '; echo "$ids"; } >tokens.txt
ok bias --tokens tokens.txt --layer 0 --out given --figures none
ok bias --prompt "$header" -n 4 --layer 0 --out drawn --figures none
cmp given/bias.csv drawn/bias.csv || complain 'new tokens are not those of generate'

# Other windows, and kept tokens.
ok bias --prompt "$header" -n 20 --layer 0 --head 0 --step 40 --window 8 --out narrow --figures none
same 'a window of 8' 33 "$(sed -n 2p narrow/bias.csv | cut -d, -f4)"
ok bias --prompt "$header" -n 20 --layer 0 --head 0 --step 40 --window 8 --keep-first 2 --keep-at cache --out kept --figures none
same 'kept tokens' '0 1 33' "$(sed -n 2,4p kept/bias.csv | cut -d, -f4 | tr '\n' ' ' | sed 's/ $//')"
grep -q 'the last 8 keys, its own included, and the first 2' kept/index.html || complain 'the page does not tell the window'

# ---- the terminal ----

LC_ALL=C.UTF-8 bias --prompt "$header" --layer 0 --head 3 --text >text.txt || complain "--text: exit status $?"
cat >wanted.txt <<'EOF'
layer 0, head 3: bias (rel_pos), down: queries, 2 a row; across: keys from 0 on, 1 a column
     0 <|end… │██
     2 :      │▓███
     4 ↵      │░▓▓▓█▓
     6 :      │░░·▒▓▓██
     8 ↵      │░▒▒▒▒▓▓██▓
    10 :      │··░▒▒░·▒▓▓██
    12 ↵      │···░▒▓▓▓▒▒▓███
    14 :      │······░▒▒░·▒▓███
    16 ↵      │···░░··░▒▓▓▒░▒▓██▓
    18 :      │░░··░░░░··▒▓▓▒░░▓███
    20 ↵      │▒▒▒░·░░▒░··▒▒▓▒·░▓███
               · 0.70 to 2.17  ░ 2.17 to 2.97  ▒ 2.97 to 4.17  ▓ 4.17 to 9.08  █ 9.08 to 18.21

EOF
diff wanted.txt text.txt || complain '--text'
LC_ALL=C bias --prompt "$header" --layer 0 --head 3 --text >ascii.txt
if LC_ALL=C grep -q '[^ -~]' ascii.txt; then complain 'not ASCII'; fi
same 'lines in ASCII' "$(wc -l <text.txt)" "$(wc -l <ascii.txt)"

# ---- figures and page: where there is gnuplot, which is not needed for anything else ----

echo '1 2 3 4 5 6 7' >ids.txt
figures() {
    ok bias --prompt "$header" --layer 0,3 --head 0,4 --out pictures
    for figure in map distance keys mass; do
        for ending in svg png gp dat; do
            [ -s pictures/figures/$figure-layer03.$ending ] || complain "no $figure-layer03.$ending"
        done
    done
    [ -s pictures/figures/head-layer00-head04.svg ] || complain 'no figure of head 4'
    same 'PNG' 89504e47 "$(head -c 4 pictures/figures/map-layer00.png | od -An -tx1 | tr -d ' \n')"
    grep -q 'image-rendering:pixelated' pictures/figures/map-layer00.svg || complain 'blurred maps'
    # Whatever the page refers to is there, and nothing outside.
    grep -o '\(href\|src\)="[^"#]*"' pictures/index.html | cut -d'"' -f2 | sort -u >links.txt
    [ "$(wc -l <links.txt)" -gt 10 ] || complain 'hardly any links'
    while read -r link; do [ -e "pictures/$link" ] || complain "the page refers to $link"; done <links.txt
    # The scripts draw again by themselves.
    rm pictures/figures/keys-layer00.svg
    (cd pictures/figures && gnuplot keys-layer00.gp) 2>again.err || complain "redrawing: $(<again.err)"
    [ -s pictures/figures/keys-layer00.svg ] || complain 'not drawn again'
    ok bias --prompt "$header" --layer 0 --head 0 --out svg --figures svg
    same '--figures svg' map-layer00.svg "$(cd svg/figures && echo map-layer00.[sp]*g)"

    # A model without a bias says so.
    "$tiny_model" plain
    ok pipestep bias plain -q --tokens ids.txt --out unbiased
    grep -q 'add no bias to their scores' unbiased/index.html || complain 'the page does not say that there is no bias'
    [ -s unbiased/figures/mass-layer00.svg ] || complain 'no figure of the weights'
    [ ! -e unbiased/figures/distance-layer00.svg ] || complain 'a figure of no bias'

    # A bias of the distance alone has no key part, and its lines of single queries lie on their mean.
    pipestep convert plain -o plain.h5 -q || complain 'no model'
    "${tiny_model%/*}/alibi_model" plain.h5 alibi.h5 || complain 'no model with ALiBi'
    ok pipestep bias alibi.h5 -q --tokens ids.txt --layer 0 --head 0 --out alibi
    same 'key parts of ALiBi' 0 "$(tail -n +2 alibi/bias.csv | cut -d, -f7 | sort -u)"
    awk '/^[0-9]/ { for (i = 3; i <= NF; i++) if ($i != "NaN" && ($i - $2)^2 > 1e-8) bad++ } END { print (NR > 5), bad + 0 }' \
        alibi/figures/distance-layer00.dat >alibi.txt
    same 'one line' '1 0' "$(<alibi.txt)"
}
if command -v gnuplot >/dev/null; then
    figures
else
    echo 'figures are not tested for want of gnuplot (launch/deps.sh pictures)'
fi

# ---- what is refused, before any work ----

fails 2 'give --out DIR for files and figures, --text, or both' bias --prompt x
fails 2 '--figures goes with --out DIR' bias --prompt x --text --figures svg
fails 2 '--temperature goes with --seed' bias --prompt x --text --temperature 1
fails 2 'exclude each other' bias --prompt x --tokens ids.txt --text
fails 2 'give a text: --prompt, --prompt-file or --tokens, or new tokens: -n N' bias --text
fails 2 '--layer 8: the model has layers 0 to 7' bias --prompt x --text --layer 8
fails 2 '--head 2-6: the model has query heads 0 to 5' bias --prompt x --text --head 2-6
fails 2 '--step 500: the text has positions 0 to' bias --prompt x --text --step 500
for list in '' x 1-x 3-1 1,,2 -1 '1 2'; do
    fails 2 'wanted numbers and ranges' bias --prompt x --text --step="$list"
done
fails 1 'GB of numbers are asked for, at most 4 are kept' bias --prompt x -n 1000000 --layer all --text
fails 1 'gnuplot, which is not in PATH: install it (Debian: apt-get install gnuplot-nox), or ask for --figures none' \
    no_gnuplot --prompt x --out unmade
[ ! -e unmade ] || complain 'made a directory before it looked for gnuplot'
no_gnuplot --prompt "$header" --layer 0 --head 0 --out unneeded --figures none || complain 'gnuplot is needed for nothing'
: >file
fails 1 'file' bias --prompt x --out file/here --figures none
# gnuplot that fails is an error with its words.
mkdir broken
printf '#!/bin/sh\necho "line 3: no such terminal" >&2\nexit 1\n' >broken/gnuplot
chmod +x broken/gnuplot
broken() { PATH=$PWD/broken:$PATH "$PIPESTEP" bias "$model" -q "$@"; }
fails 1 'line 3: no such terminal' broken --prompt "$header" --layer 0 --head 0 --out failed
exit "$bad"
