#!/usr/bin/env bash
# One guesses: with the model's own cache a text may be passed over in chunks of any size, and its logits are the whole's.
# It is so for Mamba-2, and for Mamba one token at a time. Mamba and Falcon-Mamba begin at no state when they are given
# several tokens behind a cache that holds one: only the convolution goes on. Nothing is said; the logits are another text's.
# Where it bites: chunked prefill, a second turn over a kept cache, and drafts that are scored several at a time.
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
from transformers import AutoModelForCausalLM, FalconMambaConfig, Mamba2Config, MambaConfig

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
print("transformers", transformers.__version__, "torch", torch.__version__)
SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
CONFIGS = {
    "mamba": MambaConfig(**SMALL),
    "falcon_mamba": FalconMambaConfig(**SMALL),
    "mamba2": Mamba2Config(**SMALL, num_heads=8, head_dim=8, n_groups=1, chunk_size=16),
}
text = torch.arange(1, 13)[None] * 5 % 64
forgets = {}
for name, config in CONFIGS.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, trust_remote_code=False).double().eval()
    with torch.no_grad():
        whole = model(text, use_cache=False).logits[0, -1]
        for sizes in ([8, 1, 1, 1, 1], [8, 4]):
            cache = None
            for chunk in text.split(sizes, dim=1):
                out = model(chunk, use_cache=True, **({} if cache is None else {"cache_params": cache}))
                cache = out.cache_params
            error = float((out.logits[0, -1] - whole).abs().max() / whole.std())
            forgets[name, len(sizes)] = error
            print(f"{name:13} a text in chunks of {str(sizes):16} differs from the whole by {error:.1e} of the spread")
assert all(forgets[name, 5] < 1e-6 for name in CONFIGS), "one token at a time differs, too"
assert forgets["mamba", 2] > 1e-3 and forgets["falcon_mamba", 2] > 1e-3, "several tokens go on from the state now"
assert forgets["mamba2", 2] < 1e-6
PY
"$folder/env/bin/python" "$folder/try.py"
