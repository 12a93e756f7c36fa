"""Layers that convolve a token with the few before it, as LFM2's do, over a cache that rejected drafts can leave.

transformers holds the last inputs of such a layer in one place, which every pass changes. Here the input of a token
lies in the slot of its position, as its keys do in other layers: a rejected draft's is overwritten, a committed one's
stays, and rows may be of different lengths. It takes more memory: E numbers a slot and layer. R: rows, n: queries,
E: hidden size, L: tokens that are convolved.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from orthrus import KVCache
from orthrus.paths import Paths
from orthrus_transformers.model.pass_state import PastInputs
from orthrus_transformers.model.patching import Forward, patch

KNOWN = {"Lfm2ShortConv", "Lfm2MoeShortConv"}


class CachedInputs:
    """The inputs of one pass in the cache; positions [R, n]: the slots of its tokens, but for those of a tree.

    A tree's first token, the anchor, is in the slot of its position, and the others are behind it.
    """

    def __init__(self, cache: KVCache, positions: Tensor, tree: Paths | None = None) -> None:
        self._cache = cache
        self._positions = positions
        self._tree = tree

    def with_those_before(self, inputs: Tensor, layer: int, count: int) -> Tensor:
        """Return them [R, n, count, E], and leave the inputs in the cache."""
        width = inputs.shape[-1]
        first, second = pad(inputs, (0, width % 2))[:, None].chunk(2, dim=-1)  # as one head of keys and of values
        places = self._places(count, inputs.device)
        halves = [gathered(half[:, 0], places) for half in self._cache.update(first, second, layer)]
        return torch.cat(halves, dim=-1)[..., :width]

    def _places(self, count: int, device: torch.device) -> Tensor:
        """Return the slots of each token and of those before it: [R, n, count]."""
        if self._tree is not None:
            return self._positions[:, :1, None] + self._tree.back(count)
        return self._positions[..., None] - before(count, device)


def before(count: int, device: torch.device) -> Tensor:
    """Return how far back each of so many tokens lies [count], the token itself last."""
    return torch.arange(count - 1, -1, -1, device=device)


def gathered(states: Tensor, places: Tensor) -> Tensor:
    """Return the states [R, slots, E] at places [R, n, L]: [R, n, L, E]; zeros where a place is below 0."""
    rows, width = len(states), states.shape[-1]
    index = places.clamp(min=0).reshape(rows, -1, 1).expand(rows, -1, width)
    inputs = states.gather(1, index).view(*places.shape, width)
    return inputs.masked_fill(places[..., None] < 0, 0)


def find_convolutions(model: Any) -> list[Any]:
    """Return the modules of a model that convolve tokens, in the order of its layers."""
    return [module for module in model.modules() if type(module).__name__ in KNOWN]


def route_convolutions(model: Any) -> None:
    """Let convolutions find the tokens before in `state.inputs` while a pass has them; else they stay as they are."""
    for module in find_convolutions(model):
        patch(module, _forward(module), lambda state: state.inputs is not None)


def mask_for(convolves: bool, mask: Tensor) -> Tensor | dict[str, Tensor | None]:
    """Return the mask as a model takes it: by layer type, if there are layers that convolve."""
    return {"full_attention": mask, "conv": None} if convolves else mask


def _forward(module: Any) -> Forward:
    def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return _convolved(module, hidden_states, module.orthrus_attention.inputs)

    return forward


def _convolved(module: Any, hidden: Tensor, past: PastInputs) -> Tensor:
    """Return the layer's output for hidden [R, n, E]: gates around a convolution over each channel by itself."""
    gate, out_gate, states = module.in_proj(hidden).chunk(3, dim=-1)
    taps = past.with_those_before(gate * states, module.layer_idx, module.conv_kernel_size)  # [R, n, L, E]
    weight = module.conv.weight.squeeze(1).t()  # [L, E]
    wide = torch.promote_types(hidden.dtype, torch.float32)  # rounded once, at the end
    convolved = (taps.to(wide) * weight.to(wide)).sum(-2)
    if module.conv.bias is not None:
        convolved = convolved + module.conv.bias.to(wide)
    output: Tensor = module.out_proj(out_gate * convolved.to(hidden.dtype))
    return output
