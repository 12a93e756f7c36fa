"""Time a draft of the package `dflash`, the authors' own, in the same shape and with random weights too.

`docs/tools/drafter_costs.py` calls it where the package is installed (`pip install --no-deps dflash==0.1.0`).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, Qwen3Config

COMMITTED = 1  # positions whose states a draft is given: nothing is accepted where weights are random


def reference_draft_ms(
    target: Any, config: Mapping[str, Any], taps: int, block: int, context: int, cycles: int
) -> float:
    """Return the median of a draft's milliseconds on the GPU, reading the states and the target's head included."""
    from dflash.model import DFlashDraftModel

    own = Qwen3Config(
        **{name: value for name, value in config.items() if name not in ("num_hidden_layers", "layer_types")},
        num_hidden_layers=taps,
        num_target_layers=target.layer_count,
    )
    own.dflash_config = {"block_size": block, "mask_token_id": 1}
    own._attn_implementation = "sdpa"
    torch.set_default_dtype(target.dtype)
    try:
        with torch.device("cuda"):
            model = DFlashDraftModel(own).eval()
    finally:
        torch.set_default_dtype(torch.float32)
    cache = DynamicCache(config=own)
    states = torch.randn(1, context, taps * target.hidden_size, device="cuda", dtype=target.dtype)
    tokens = torch.ones(1, block, dtype=torch.int64, device="cuda")

    def draft(given: Tensor, start: int) -> None:
        positions = torch.arange(start, start + given.shape[1] + block, device="cuda")[None]
        hidden = model(
            target_hidden=given,
            noise_embedding=target.embed(tokens),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )[:, 1 - block :]
        cache.crop(-block)
        model.compute_logits(hidden, target.head).argmax(-1)

    times = []
    with torch.no_grad():
        draft(states, 0)
        for cycle in range(cycles):
            began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            began.record()
            draft(states[:, :COMMITTED], context + cycle * COMMITTED)
            ended.record()
            torch.cuda.synchronize()
            times.append(began.elapsed_time(ended))
    return round(statistics.median(times[len(times) // 4 :]), 4)
