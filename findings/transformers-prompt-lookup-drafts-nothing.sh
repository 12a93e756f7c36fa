#!/usr/bin/env bash
# One guesses: `prompt_lookup_num_tokens` drafts the same for sampling as for greedy decoding, and a penalty only changes
# how much of a draft is kept.
# It is so: each token of a draft is first tried on made-up logits that are all equal, and is dropped where a processor
# forbids it there. A repetition penalty puts every token of the text below all others; the top-k that comes after it (50
# unless told otherwise) or top-p then forbids each of them. A draft has only tokens of the text: nothing is ever drafted.
# Where it bites: `repetition_penalty`, `top_k` and `top_p` stand together in the generation configs of published models
# (Qwen2.5-Instruct's is tried below): prompt lookup looks useless, and costs time, because it was never at work.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.24.0
cat > "$folder/try.py" <<'PY'
import logging
import warnings

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
print("transformers", transformers.__version__, "torch", torch.__version__)
torch.manual_seed(0)
SIZES = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
config = LlamaConfig(vocab_size=1000, **SIZES, tie_word_embeddings=False, eos_token_id=None, pad_token_id=0)
model = LlamaForCausalLM(config).eval()
widths: list[int] = []  # of the model's passes
model.register_forward_pre_hook(lambda _, __, given: widths.append(given["input_ids"].shape[1]), with_kwargs=True)
prompt = torch.arange(100, 110).repeat(4)[None]  # ten tokens again and again: there is always something to draft
RUNS = {
    "greedy": {"do_sample": False},
    "greedy, penalty 1.05": {"do_sample": False, "repetition_penalty": 1.05},
    "sampling": {"do_sample": True},
    "sampling, penalty 1.05": {"do_sample": True, "repetition_penalty": 1.05},
    "sampling, penalty 1.05, top_k 0": {"do_sample": True, "repetition_penalty": 1.05, "top_k": 0},
    "sampling, penalty 1.05, top_k 0, top_p 0.8": {
        "do_sample": True, "repetition_penalty": 1.05, "top_k": 0, "top_p": 0.8,
    },
    "Qwen2.5-Instruct's settings": {
        "do_sample": True, "repetition_penalty": 1.05, "temperature": 0.7, "top_k": 20, "top_p": 0.8,
    },
}
drafted = {}
for name, settings in RUNS.items():
    widths.clear()
    ask = {"attention_mask": torch.ones_like(prompt), "max_new_tokens": 9, "prompt_lookup_num_tokens": 4}
    with torch.no_grad():
        model.generate(prompt, **ask, **settings)
    drafted[name] = widths[0] - prompt.shape[1]
    print(f"{name:43} the first pass scores the prompt and {drafted[name]} drafted tokens")
silent = {name for name, count in drafted.items() if count == 0}
assert silent == {
    "sampling, penalty 1.05", "sampling, penalty 1.05, top_k 0, top_p 0.8", "Qwen2.5-Instruct's settings",
}, silent
PY
"$folder/env/bin/python" "$folder/try.py"
