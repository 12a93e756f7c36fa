"""Linear layers of a model that multiply through oneDNN in the passes that ask for it."""

from __future__ import annotations

from functools import partial

import torch

from orthrus_transformers.kernels.onednn_linear import PackedLinear, fits
from orthrus_transformers.model.pass_state import PassState
from orthrus_transformers.model.patching import is_watched, patch


def packable(root: torch.nn.Module, apart_from: frozenset[torch.nn.Module] = frozenset()) -> list[torch.nn.Linear]:
    """Return the linear layers below a module that can be packed."""
    layers = [module for module in root.modules() if type(module) is torch.nn.Linear and fits(module.weight)]
    return [layer for layer in layers if layer not in apart_from and not is_watched(layer)]


def switch_linears(root: torch.nn.Module, copies: bool, apart_from: frozenset[torch.nn.Module] = frozenset()) -> None:
    """Let the linear layers below a module multiply so in passes that ask for it; copies: as of PackedLinear."""
    for layer in packable(root, apart_from):
        product = PackedLinear(layer.weight, layer.bias, copies=copies)
        patch(layer, product, partial(_multiplies, layer, product))


def _multiplies(layer: torch.nn.Linear, product: PackedLinear, state: PassState) -> bool:
    return state.form in ("fused", "packed") and layer.weight is product.weight  # and not another one since
