#!/usr/bin/env bash
# transformers' top-p throws greedy decoding's own token away where two logits are equal.
#
# One guesses: the smaller `top_p` is, the nearer sampling comes to greedy decoding; at `top_p=1e-6` one token is left,
#   the one that greedy decoding takes. And `top_k=1` leaves one token.
# So it is: greedy decoding takes the first of equal logits; top-p sorts, without keeping the order of equal ones, and
#   keeps whichever comes last, so that the token of `do_sample=False` may have probability 0. `top_k=1` keeps all equals.
# Where it bites: the two largest logits are equal at some percent of the places in bfloat16. There texts of `top_p=1e-6`
#   and of greedy decoding part, those of two devices that sort otherwise, and a drafter's draws from the target's.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6
"$work/venv/bin/python" -m pip install --quiet transformers==5.24.0
"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

import torch
from transformers import LlamaConfig, LlamaForCausalLM, TopKLogitsWarper, TopPLogitsWarper

logits = torch.tensor([[1.0, 4.0, 0.0, 4.0, 2.0]])
kept = {
    "top_p=0.1": TopPLogitsWarper(0.1)(None, logits).isfinite().nonzero()[:, 1].tolist(),
    "top_k=1": TopKLogitsWarper(1)(None, logits).isfinite().nonzero()[:, 1].tolist(),
}
torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=32000, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
    tie_word_embeddings=False, initializer_range=0.3, eos_token_id=None, pad_token_id=0,
)
model = LlamaForCausalLM(config).to(torch.bfloat16).eval()
prompts = torch.arange(1, 201)[:, None]
ask = {"attention_mask": torch.ones_like(prompts), "max_new_tokens": 1}
with torch.no_grad():
    best = model(prompts).logits[:, -1].float().topk(2).values
equal = int((best[:, 0] == best[:, 1]).sum())
greedy = model.generate(prompts, do_sample=False, **ask)[:, 1]
narrow = model.generate(prompts, do_sample=True, top_k=0, top_p=1e-6, **ask)[:, 1]
other = int((greedy != narrow).sum())
print("transformers", version("transformers"), "torch", version("torch"))
print("logits", logits.tolist()[0], "argmax", int(logits.argmax()), "kept", kept)
print(f"a model of random weights in bfloat16, {len(prompts)} prompts: the two largest logits are equal for {equal}")
print(f"first tokens of top_p=1e-6 that are not greedy decoding's: {other}")
assert kept == {"top_p=0.1": [3], "top_k=1": [1, 3]}
assert 0 < other <= equal
PY
