#!/usr/bin/env bash
# One guesses: what a hybrid model's cached decoding gives is what its forward over the whole text gives, up to rounding.
# It is so for Falcon-H1. Nemotron-H and Zamba2 keep the steps of their state spaces above `time_step_min` (0.001) where
# they scan several tokens, and not where they take one: the state update has no such argument. So a smaller step is one
# thing in a prefill and another in decoding.
# Where it bites: logits of decoding held against a forward over the text; drafts that are scored several at a time, whose
# tokens get other logits than they would get one by one. It grows where steps are small.
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
from transformers import AutoModelForCausalLM, FalconH1Config, NemotronHConfig, Zamba2Config

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
print("transformers", transformers.__version__, "torch", torch.__version__)
SMALL = {"vocab_size": 64, "hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2, "initializer_range": 0.3}
CONFIGS = {
    "nemotron_h": lambda least: NemotronHConfig(
        **SMALL, intermediate_size=64, hybrid_override_pattern="M*M-", head_dim=16, mamba_num_heads=8, mamba_head_dim=8,
        ssm_state_size=8, n_groups=1, chunk_size=16, time_step_min=least,
    ),
    "zamba2": lambda least: Zamba2Config(
        **SMALL, num_hidden_layers=3, intermediate_size=64, layers_block_type=["mamba", "hybrid", "mamba"],
        mamba_d_state=8, n_mamba_heads=8, mamba_expand=2, mamba_ngroups=1, chunk_size=16, time_step_min=least,
    ),
    "falcon_h1": lambda least: FalconH1Config(
        **SMALL, num_hidden_layers=2, intermediate_size=64, mamba_d_ssm=64, mamba_n_heads=8, mamba_d_head=8,
        mamba_d_state=8, mamba_n_groups=1, mamba_chunk_size=16,
    ),
}
text = torch.arange(1, 17)[None] * 5 % 64
errors = {}
for name, config in CONFIGS.items():
    for least in (1e-3,) if name == "falcon_h1" else (1e-3, 1.0):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config(least), trust_remote_code=False).double().eval()
        with torch.no_grad():
            whole = model(text, use_cache=False).logits[0, -1]
            out = model(text[:, :-6], use_cache=True)
            for token in text[:, -6:].split(1, dim=1):
                out = model(token, past_key_values=out.past_key_values, use_cache=True)
        errors[name, least] = float((out.logits[0, -1] - whole).abs().max() / whole.std())
        print(f"{name:17} time_step_min={least}: six tokens one by one differ by {errors[name, least]:.1e} of the spread")
assert errors["falcon_h1", 1e-3] < 1e-5, "one without such limits differs, too"
for name in ("nemotron_h", "zamba2"):
    assert errors[name, 1e-3] > 1e-4 and errors[name, 1.0] > 0.1, f"{name} decodes within its limits now"
PY
"$folder/env/bin/python" "$folder/try.py"
