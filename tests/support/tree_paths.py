"""Trees of drafts as a block's programs make them, compared path by path."""

from __future__ import annotations

import torch
from torch import Tensor


def assert_same_trees(tree: Tensor, wanted: Tensor) -> None:
    """Hold trees [B, 2 N + 1] of tokens, parents and lengths to others: the same paths, in any order of equal ones."""
    assert torch.equal(tree[:, -1], wanted[:, -1])
    for row, length in enumerate(wanted[:, -1].tolist()):
        mine, others = paths_of(tree[row], length), paths_of(wanted[row], length)
        assert mine == others or sorted(mine) == sorted(others)  # sums may round to equal ones


def paths_of(tree: Tensor, length: int) -> list[tuple[int, ...]]:
    """Return the tokens that lead to each token of a tree [2 N + 1], its own included; parents come first."""
    width = len(tree) // 2
    paths: dict[int, tuple[int, ...]] = {-1: ()}
    for index in range(length):
        parent = int(tree[width + index])
        assert -1 <= parent < index
        paths[index] = (*paths[parent], int(tree[index]))
    return list(paths.values())
