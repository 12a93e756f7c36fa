"""The check that Triton kernels of the decode step run on a device."""

from __future__ import annotations

import warnings
from functools import cache
from importlib.util import find_spec
from types import ModuleType

import torch

MOST_PLACES = 64  # of a tree for which there are kernels: the anchor's and its tokens'


@cache
def row_kernels(device: torch.device) -> ModuleType | None:
    """Return the kernels that do in one launch what a cycle does to its rows; None where torch does it in many.

    A GPU for which Triton compiles nothing (it is too old, or there is no C compiler) is said once.
    """
    if device.type != "cuda" or find_spec("triton") is None:
        return None
    from orthrus.kernels import triton_rows as kernels

    number, two = torch.zeros(1, dtype=torch.int64, device=device), torch.zeros(1, 2, dtype=torch.int64, device=device)
    try:
        kernels.bound(two, number, number, 1)
        kernels.accept(two, two[:, :1], number)
        kernels.commit(two, number, number, number, two[:, :1], number, number, two, number)
    except Exception as error:  # whatever a compiler says
        reason = str(error).split("\n")[0]
        warnings.warn(f"Triton runs no kernels on '{device}' ({reason}); drafts are accepted by torch", stacklevel=2)
        return None
    return kernels


@cache
def tree_kernels(device: torch.device) -> ModuleType | None:
    """Return the kernels that do in one launch what a cycle does to trees of up to 64 places; None: torch does it."""
    if row_kernels(device) is None:  # which says why
        return None
    from orthrus.kernels import triton_trees as kernels

    number, two = torch.zeros(1, dtype=torch.int64, device=device), torch.zeros(1, 2, dtype=torch.int64, device=device)
    try:
        kernels.look(two[:, :1], number)
        kernels.agree(two, two[:, :1], two[:, :1], number)
        kernels.follow(two[:, :1], two[:, :1], number, number, number)
    except Exception as error:  # whatever a compiler says
        reason = str(error).split("\n")[0]
        warnings.warn(f"Triton runs no kernels of trees on '{device}' ({reason}); torch does it", stacklevel=2)
        return None
    return kernels


def small_trees(tokens: torch.Tensor) -> ModuleType | None:
    """Return the kernels for trees of tokens [B, n], if there are any for so many."""
    return tree_kernels(tokens.device) if 0 < tokens.shape[1] < MOST_PLACES else None
