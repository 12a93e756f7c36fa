#!/usr/bin/env bash
# One guesses: mlx-lm's greedy decoding gives the same tokens with a draft model as without one, whatever logits processors
# are given to both: the target's logits are processed as ever.
# It is so without processors. With a draft model they are not shown the prompt but for its last token; without one they
# are shown all of it. The tokens that a penalty counts are others, and so is the text.
# Where it bites: `repetition_penalty` (and presence, frequency, or a processor of one's own that reads the text so far)
# together with `draft_model`, even where the draft model is the target itself and no draft is rejected.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check "mlx[cpu]==0.32.4" mlx-lm==0.32.2
cat > "$folder/try.py" <<'PY'
import importlib.metadata

import mlx.core as mx
from mlx_lm.generate import generate_step, speculative_generate_step
from mlx_lm.models.llama import Model, ModelArgs
from mlx_lm.sample_utils import make_logits_processors

print(*(f"{name} {importlib.metadata.version(name)}" for name in ("mlx", "mlx-lm")))
mx.set_default_device(mx.cpu)
mx.random.seed(0)
SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
model = Model(ModelArgs(model_type="llama", vocab_size=64, rms_norm_eps=1e-5, tie_word_embeddings=False, **SIZES))
mx.eval(model.parameters())
prompt = mx.array([7 * number % 64 for number in range(1, 17)])
shown: list[int] = []  # how many tokens the processor was shown, call by call


def look(tokens: mx.array, logits: mx.array) -> mx.array:
    shown.append(len(tokens))
    return logits


def decode(processors: list, drafts: bool) -> list[int]:
    ask = {"max_tokens": 12, "logits_processors": processors}
    if not drafts:
        return [token for token, *_ in generate_step(prompt, model, **ask)]
    return [int(token) for token, *_ in speculative_generate_step(prompt, model, model, num_draft_tokens=3, **ask)]


texts = {}
for name, penalty in (("no processor", None), ("repetition penalty 2", 2.0)):
    for drafts in (False, True):
        texts[name, drafts] = decode(make_logits_processors(repetition_penalty=penalty), drafts)
        print(f"{name:20} {'the model drafts for itself' if drafts else 'no draft model':28}{texts[name, drafts]}")
[penalize] = make_logits_processors(repetition_penalty=2.0)
unseen = decode([lambda tokens, logits: penalize(tokens[len(prompt) - 1 :], logits)], False)
print(f"{'the same, for which':20} {'the prompt is cut off':28}{unseen}")
firsts = []
for drafts in (False, True):
    shown.clear()
    decode([look], drafts)
    firsts.append(shown[0])
    print(f"of a prompt of {len(prompt)} tokens the first call is shown {shown[0]}", "with drafts" if drafts else "without drafts")
assert texts["no processor", False] == texts["no processor", True]
assert firsts == [16, 1], "the prompt is shown in both ways now"
assert texts["repetition penalty 2", False] != texts["repetition penalty 2", True] == unseen
PY
"$folder/env/bin/python" "$folder/try.py"
