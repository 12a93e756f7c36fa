"""Windows of layers as transformers' own masks have them, for families that do not tell the attention of them.

Most families hand the window to the attention function (`sliding_window`). Some put it into the mask alone (qwen2_moe,
phimoe), which a backend that builds its own masks never sees. So transformers' masks are looked at once, at loading.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from orthrus import BuildError

NAME = "orthrus_masks"
SHORT, TOKENS = 4, 9  # a window while masks are looked at, and a text that is longer


@dataclass(frozen=True)
class SeenLayer:
    """The window of one layer: whether its mask has one, and whether the attention is given one."""

    layer: int
    masked: bool
    given: bool


def windows_in_masks(model: Any) -> dict[int, int | None]:
    """Return the windows of layers whose mask says something else than the attention is told; most models have none.

    Raises BuildError for a mask that is neither causal nor causal with the config's window, and for a window that the
    model's code speaks of and no layer has.
    """
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    layers = list(seen_layers(model, config, window))
    kinds = getattr(config, "layer_types", None)
    nowhere = not any(layer.masked or layer.given for layer in layers)
    if window and nowhere and (kinds is None or "sliding_attention" in kinds) and _speaks_of_windows(model):
        raise BuildError(
            f"model type '{model.config.model_type}' has sliding_window={window}, of which no layer is told; set it to"
            " null in config.json if its layers see all keys"
        )
    return {layer.layer: window if layer.masked else None for layer in layers if layer.masked != layer.given}


def seen_layers(model: Any, config: Any, window: int | None) -> Iterator[SeenLayer]:
    """Run the model's own forward with a short window, and yield what each layer's attention is handed."""
    handed: list[tuple[int, Tensor | None, bool]] = []

    def attend(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None, **options: Any
    ) -> Any:
        handed.append((getattr(module, "layer_idx", 0), attention_mask, options.get("sliding_window") is not None))
        heads = query.shape[1] // value.shape[1]
        return value.repeat_interleave(heads, dim=1).transpose(1, 2).contiguous(), None

    ids = torch.zeros(1, TOKENS, dtype=torch.int64, device=model.device)
    with _attention(model, attend), _window(config, window), torch.no_grad():
        model(input_ids=ids, use_cache=False, logits_to_keep=slice(-1, None))  # a number: some layers see one column
    for layer, mask, given in handed:
        yield SeenLayer(layer, _has_window(mask, model, layer), given)


def _has_window(mask: Tensor | None, model: Any, layer: int) -> bool:
    if mask is None:
        return False
    seen = mask[0, 0] if mask.dtype == torch.bool else mask[0, 0] == 0  # [n, n]
    positions = torch.arange(TOKENS, device=seen.device)
    causal = positions[None] <= positions[:, None]
    if torch.equal(seen, causal):
        return False
    if torch.equal(seen, causal & (positions[None] > positions[:, None] - SHORT)):
        return True
    raise BuildError(
        f"model type '{model.config.model_type}' has in layer {layer} a mask that is neither causal nor a window; it is"
        " not supported"
    )


@contextmanager
def _attention(model: Any, attend: Any) -> Iterator[None]:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@contextmanager
def _window(config: Any, window: int | None) -> Iterator[None]:
    if not window:
        yield
        return
    config.sliding_window = SHORT
    try:
        yield
    finally:
        config.sliding_window = window


def _speaks_of_windows(model: Any) -> bool:
    return "sliding_window" in inspect.getsource(sys.modules[type(model).__module__])
