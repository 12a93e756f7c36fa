#!/usr/bin/env bash
# transformers' generate keeps its streamer, assistant model and tokenizer from a callable that is given as custom_generate.
#
# One guesses: a callable is called with all that generate was given, as the built-in loops are.
# So it is: the arguments of the loop are replaced by those that the callable's signature adds to them, and the streamer is
#   none of them. The prompt is put into it all the same; then nothing comes, nor the end. The tokenizer is lost, too, so
#   that stop_strings are refused for want of one, also when it was given.
# Where it bites: whoever reads a TextIteratorStreamer in another thread waits for ever. Orthrus reads the streamer from the
#   frame of generate, which calls it (plugins/orthrus_transformers/generate/arguments.py).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6
"$work/venv/bin/python" -m pip install --quiet transformers==5.24.0
"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

import torch
from transformers import LlamaConfig, LlamaForCausalLM

config = LlamaConfig(
    vocab_size=32, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, eos_token_id=None
)
model = LlamaForCausalLM(config).eval()


class Streamer:
    def __init__(self):
        self.handed = []

    def put(self, value):
        self.handed.append(value.tolist())

    def end(self):
        self.handed.append("end")


def given(model, input_ids, streamer=None, tokenizer=None, assistant_model=None, **others):
    print("the callable is given", {"streamer": streamer, "tokenizer": tokenizer, "assistant_model": assistant_model})
    return input_ids


streamer, ids = Streamer(), torch.tensor([[1, 2, 3]])
print("transformers", version("transformers"))
model.generate(ids, max_new_tokens=2, custom_generate=given, streamer=streamer, assistant_model=model)
print("the streamer was handed", streamer.handed)
assert streamer.handed == [[[1, 2, 3]]]
try:
    model.generate(ids, max_new_tokens=2, custom_generate=given, stop_strings=["x"], tokenizer=object())
except ValueError as error:
    print("stop_strings:", error)
else:
    raise SystemExit("stop_strings are taken now")
PY
