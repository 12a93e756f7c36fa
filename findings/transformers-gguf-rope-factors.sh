#!/usr/bin/env bash
# transformers reads a GGUF file of the Llama 3.1 kind without its rotary factors, and says nothing.
#
# One guesses: `from_pretrained(..., gguf_file=...)` applies every tensor of a file, or warns of those it leaves out.
# So it is: `rope_freqs.weight`, which llama.cpp's converter writes for every Llama 3.1 and later and which llama.cpp
#   divides the angles by, is dropped; the config says `rope_type: default`, and the loading report is empty.
# Where it bites: texts are those of another model, more so the longer they are; nothing in the output shows it.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6
"$work/venv/bin/python" -m pip install --quiet transformers==5.24.0 gguf==0.19.0 accelerate==1.15.0
"$work/venv/bin/python" - "$work" <<'PY'
import sys
from importlib.metadata import version

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

folder = sys.argv[1]
torch.manual_seed(0)
scaling = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
config = LlamaConfig(
    vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
    max_position_embeddings=512, rope_parameters={**scaling, "original_max_position_embeddings": 64},
)
original = LlamaForCausalLM(config).eval()
names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 1)
writer = gguf.GGUFWriter(f"{folder}/model.gguf", "llama")
for add, value in (
    (writer.add_context_length, 512), (writer.add_block_count, 1), (writer.add_embedding_length, 64),
    (writer.add_feed_forward_length, 64), (writer.add_head_count, 4), (writer.add_head_count_kv, 4),
    (writer.add_layer_norm_rms_eps, 1e-6), (writer.add_rope_dimension_count, 16), (writer.add_rope_freq_base, 1e4),
    (writer.add_vocab_size, 64), (writer.add_name, "tiny"),
):
    add(value)
for name, weight in original.state_dict().items():
    stem, kind = name.rsplit(".", 1)
    found = "output" if stem == "lm_head" else names.get_name(stem)
    values = weight.numpy()
    if stem.endswith(("q_proj", "k_proj")):  # rotated pairs lie side by side in the file
        values = values.reshape(4, 2, 8, 64).swapaxes(1, 2).reshape(64, 64)
    writer.add_tensor(f"{found}.{kind}", np.ascontiguousarray(values))
plain = 1e4 ** -(torch.arange(0, 16, 2).double() / 16)
factors = (plain / original.model.rotary_emb.inv_freq.double()).float().numpy()
writer.add_tensor("rope_freqs.weight", factors)
writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file(), writer.close()

read, report = AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", output_loading_info=True)
ids = torch.arange(60)[None]
with torch.no_grad():
    apart = (read.eval()(ids).logits - original(ids).logits).abs().max().item()
print("transformers", version("transformers"), "gguf", version("gguf"))
print("factors in the file:", [round(float(factor), 3) for factor in factors])
print("rotary positions of the model read:", read.config.rope_parameters)
print("unexpected keys reported:", sorted(report["unexpected_keys"]))
print(f"largest difference of a logit from the original's: {apart:.4f}")
assert read.config.rope_parameters["rope_type"] == "default" and not report["unexpected_keys"] and apart > 1e-3
PY
