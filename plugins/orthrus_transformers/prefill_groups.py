"""Groups of prompts of similar length: what a prefill pads is in proportion to its tokens."""

from __future__ import annotations

from collections.abc import Sequence

# Columns that a prompt may be padded by, and the least share of the longest prompt's columns that are its own: either
# is enough. On a GPU a further pass costs as much as some hundred columns; on a CPU every column has its price.
GPU, CPU = (256, 0.5), (16, 0.8)


def equal_groups(lengths: Sequence[int]) -> list[list[int]]:
    """Return the indices of prompts in groups of one length each, so that none is padded; the longest prompts first."""
    return [
        [index for index, length in enumerate(lengths) if length == shared]
        for shared in sorted(set(lengths), reverse=True)
    ]


def prefill_groups(lengths: Sequence[int], device: str = "cpu") -> list[list[int]]:
    """Return the indices of prompts in groups, each to be padded to its longest prompt; the longest prompts first.

    lengths: of the prompts. device: its type.
    """
    padding, share = CPU if device == "cpu" else GPU
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        longest = lengths[groups[-1][0]] if groups else 0
        if groups and (longest - lengths[index] <= padding or lengths[index] >= share * longest):
            groups[-1].append(index)
        else:
            groups.append([index])
    return [sorted(group) for group in groups]
