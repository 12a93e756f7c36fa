#!/usr/bin/env bash
# One guesses: `LLMatcher.rollback(n)` takes back the last n tokens that were consumed, however they were handed over.
# It is so but for an end token. Where the grammar is complete and cannot go on, an end token that is handed over by itself
# is consumed (True, no error) and not counted: `rollback(1)` then takes back the token before it, too. Handed over in one
# call together with the others it is counted. And `try_consume_tokens` refuses there what `validate_tokens` grants.
# Where it bites: drafts under a grammar. After a rejected end token the matcher is one token short, or not, depending on
# how the draft was walked through; its masks are from then on those of another text, and nothing is said.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check llguidance==1.9.1 numpy==2.4.6
cat > "$folder/try.py" <<'PY'
import importlib.metadata

import llguidance
import llguidance.numpy

END = 3
TOKENS = [b"a", b"b", b"c", b"<end>"]


class Letters:
    eos_token_id, bos_token_id, tokens, special_token_ids = END, None, TOKENS, [END]

    def __call__(self, text: bytes | str) -> list[int]:
        return [TOKENS.index(bytes([byte])) for byte in (text if isinstance(text, bytes) else text.encode())]


print("llguidance", importlib.metadata.version("llguidance"))
tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Letters()))


def matcher(grammar: str) -> llguidance.LLMatcher:
    return llguidance.LLMatcher(tokenizer, llguidance.LLMatcher.grammar_from_lark(grammar))


def allowed(state: llguidance.LLMatcher) -> list[str]:
    mask = llguidance.numpy.allocate_token_bitmask(1, tokenizer.vocab_size)
    llguidance.numpy.fill_next_token_bitmask(state, mask)
    return [token.decode() for number, token in enumerate(TOKENS) if int(mask[0, 0]) >> number & 1]


def after_end(grammar: str, at_once: bool) -> list[str]:
    """Return what is allowed after a, b, c and the end were consumed, and the end was taken back."""
    state = matcher(grammar)
    text = [0, 1, 2, END]
    consumed = state.consume_tokens(text) if at_once else all(state.consume_token(token) for token in text)
    assert consumed and not state.is_error()
    assert state.rollback(1) and not state.is_error()
    return allowed(state)


result = {}
for name, grammar in (("cannot go on", 'start: "a" "b" "c"'), ("could go on", 'start: "a" "b" "c" "c"?')):
    before = matcher(grammar)
    before.consume_tokens([0, 1, 2])
    result[name] = allowed(before), after_end(grammar, True), after_end(grammar, False)
    print(f"a grammar that {name:12} after a b c: allowed {result[name][0]} before the end; the end taken back again:")
    print(f"  consumed at once {result[name][1]}, one by one {result[name][2]}")
draft = [0, 1, 2, END]
closed = 'start: "a" "b" "c"'
granted, taken = matcher(closed).validate_tokens(draft), matcher(closed).try_consume_tokens(draft)
print(f"of the draft a b c <end> validate_tokens grants {granted}, try_consume_tokens takes {taken}")
assert result["could go on"] == (["c", "<end>"],) * 3
assert result["cannot go on"] == (["<end>"], ["<end>"], ["c"]), "the end is counted in both ways now"
assert (granted, taken) == (4, 3)
PY
"$folder/env/bin/python" "$folder/try.py"
