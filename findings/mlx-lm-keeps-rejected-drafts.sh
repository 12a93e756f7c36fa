#!/usr/bin/env bash
# One guesses: mlx-lm refuses a draft model where a cache cannot be trimmed (it raises "requires a trimmable prompt cache"),
# so that rejected drafts are out of the cache wherever it decodes.
# It is so when decoding begins. The cache of a sliding window can be trimmed until it is full and not from then on; that is
# not asked again, and the call that trims returns 0 without doing anything, for all layers. Rejected drafts stay in it.
# Where it bites: targets with sliding windows (Gemma 3 and others) past the window: greedy decoding with a draft model gives
# other tokens than without. A draft model that is never wrong does not show it, nor does any text within the window.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check "mlx[cpu]==0.32.4" mlx-lm==0.32.2
cat > "$folder/try.py" <<'PY'
import importlib.metadata

import mlx.core as mx
from mlx_lm.generate import generate_step, speculative_generate_step
from mlx_lm.models.cache import can_trim_prompt_cache, make_prompt_cache, trim_prompt_cache
from mlx_lm.models.gemma3_text import Model, ModelArgs

print(*(f"{name} {importlib.metadata.version(name)}" for name in ("mlx", "mlx-lm")))
mx.set_default_device(mx.cpu)
SIZES = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "head_dim": 16}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "query_pre_attn_scalar": 16, "sliding_window_pattern": 3}
prompt = mx.array([7 * number % 64 for number in range(1, 9)])


def model(seed: int, window: int) -> Model:
    mx.random.seed(seed)
    made = Model(ModelArgs(model_type="gemma3_text", sliding_window=window, **SIZES))
    mx.eval(made.parameters())
    return made


equal = {}
for window in (128, 16):
    target, other = model(0, window), model(1, window)
    plain = [token for token, *_ in generate_step(prompt, target, max_tokens=32)]
    for name, draft in (("itself", target), ("another model", other)):
        decoded = speculative_generate_step(prompt, target, draft, num_draft_tokens=3, max_tokens=32)
        tokens = [int(token) for token, *_ in decoded]
        same = next((place for place, pair in enumerate(zip(plain, tokens)) if pair[0] != pair[1]), len(plain))
        equal[window, name] = same
        print(f"window {window:3}, prompt of {len(prompt)} tokens, drafts of {name:13}:", end=" ")
        print(f"{same} of {len(plain)} tokens are greedy decoding's")

cache = make_prompt_cache(target)
lengths = []
for count in (8, 16):
    target(mx.arange(8)[None], cache=cache)
    before = [layer.offset for layer in cache]
    print(f"a cache of {count} tokens, window 16: can be trimmed {can_trim_prompt_cache(cache)},", end=" ")
    print(f"trimming 2 takes {trim_prompt_cache(cache, 2)}, lengths {before} become {[layer.offset for layer in cache]}")
    lengths.append([layer.offset for layer in cache])
    if count == 8:
        target(mx.arange(2)[None], cache=cache)
assert equal[128, "itself"] == equal[128, "another model"] == equal[16, "itself"] == 32
assert equal[16, "another model"] < 16, "drafts are taken back past the window now"
assert lengths == [[6, 6, 6], [16, 16, 16]]
PY
"$folder/env/bin/python" "$folder/try.py"
