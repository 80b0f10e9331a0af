# Chats: prompts in the model's template, the token that ends an answer, and what is refused.
set -u
bad=0
complain() {
    echo "$*" >&2
    bad=1
}

# expect NAME WANTED FOUND
expect() {
    [ "$2" = "$3" ] || complain "$1"$'\n'"  wanted: $2"$'\n'"  found:  $3"
}

# expect_refusal NAME MESSAGE COMMAND ...: exit status 2, and the message is in what is said.
expect_refusal() {
    local name=$1 message=$2 said status
    shift 2
    said=$("$@" 2>&1 >/dev/null)
    status=$?
    [ $status -eq 2 ] || complain "$name: exit status $status, not 2: $said"
    [[ $said == *"$message"* ]] || complain "$name"$'\n'"  wanted: $message"$'\n'"  found:  $said"
}

# A model whose tokenizer has the tokens of ChatML, 266 and 267; its own end is 265.
"$(dirname "$PIPESTEP")/tests/tools/tiny_model" --tokenizer model || exit 1
sed -i 's/"added_tokens": \[/&{"id": 266, "content": "<|im_start|>", "special": true}, {"id": 267, "content": "<|im_end|>", "special": true}, /' \
    model/tokenizer.json
cat >model/tokenizer_config.json <<'END'
{"chat_template": "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{{ '<|im_start|>' + message['role'] }}"}
END
"$PIPESTEP" convert model -o model.h5 -q || exit 1

# prompt ARGUMENTS ...: number of prompt tokens of a request.
prompt() {
    "$PIPESTEP" generate model.h5 "$@" -n 1 --json -q | sed 's/.*"prompt_tokens": \([0-9]*\).*/\1/'
}

# The bytes are tokens, but for the merges, so every text of the template counts.
plain=$(prompt --prompt x)
own=$(prompt --chat --prompt x)
none=$(prompt --chat --chat-template chatml --prompt x)
given=$(prompt --chat --system 'Be kind.' --prompt x)
[ "$none" -gt "$plain" ] || complain "a chat of $none tokens, the prompt alone has $plain"
[ "$own" -gt "$none" ] || complain "with the template's system message $own tokens, without $none"
expect 'the system message by hand' "$own" "$given"

# What a user writes is never a control token.
expect 'a control token in a message' $((none + 9)) "$(prompt --chat --chat-template chatml --prompt '<|im_end|>')"

# The answer ends with the template's token, also when that is not the model's; a plain prompt does not.
cat >requests.jsonl <<'END'
{"id": 1, "messages": [{"role": "user", "content": "x"}], "logit_bias": {"267": 1000}, "max_tokens": 5, "temperature": 0}
{"id": 2, "prompt": "x", "logit_bias": {"267": 1000}, "max_tokens": 5, "temperature": 0}
{"id": 3, "messages": [{"role": "user", "content": "x"}], "logit_bias": {"267": 1000}, "max_tokens": 5, "temperature": 0, "min_tokens": 3}
{"id": 4, "prompt": "x", "logit_bias": {"265": 1000}, "max_tokens": 5, "temperature": 0, "min_tokens": 3}
{"id": 5, "messages": [{"role": "user", "content": "x"}], "logit_bias": {"267": 1000}, "max_tokens": 5, "temperature": 0, "ignore_eos": true}
{"id": 6, "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}], "logit_bias": {"267": 1000}, "max_tokens": 5, "temperature": 0}
{"id": 7, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}
{"id": 8, "messages": [{"role": "tool", "content": "x"}]}
{"id": 9, "messages": [{"role": "user", "content": "x"}], "prompt": "x"}
END
"$PIPESTEP" batch model.h5 -i requests.jsonl -o results.jsonl -q || complain "batch failed"
# result ID FIELD: new tokens and why it ended, or the error
result() {
    sed -n "s/^{\"id\": $1,.*\"finish_reason\": \"\([a-z]*\)\".*\"completion_tokens\": \([0-9]*\).*/\2 \1/p
            s/^{\"id\": $1,.*\"message\": \"\(.*\)\"}}$/\1/p" results.jsonl
}
expect 'the template ends an answer' '1 stop' "$(result 1)"
expect 'a plain prompt goes on' '5 length' "$(result 2)"
expect 'no end before min_tokens, in a chat' '4 stop' "$(result 3)"
expect 'no end before min_tokens' '4 stop' "$(result 4)"
expect 'ignore_eos' '5 length' "$(result 5)"
expect 'content in parts' '1 stop' "$(result 6)"
expect 'a part that is no text' 'message 0: a part of \"content\" is not of type text' "$(result 7)"
expect 'an unknown role' 'message 0 has the role \"tool\", wanted system, user or assistant' "$(result 8)"
expect 'two prompts' 'wanted one of \"prompt\", \"tokens\" and \"messages\"' "$(result 9)"

expect_refusal 'an unknown template' 'unknown chat template "alpaca": it is one of qwen3, chatml' \
    "$PIPESTEP" generate model.h5 --chat --chat-template alpaca --prompt x
expect_refusal 'a system message without a chat' '--system goes with --chat' \
    "$PIPESTEP" generate model.h5 --system x --prompt x
expect_refusal 'ids in a chat' '--chat and --tokens exclude each other' \
    "$PIPESTEP" generate model.h5 --chat --tokens ids.txt
exit $bad
