"""Groups of prompts of similar length: what a prefill pads is in proportion to its tokens."""

from __future__ import annotations

from collections.abc import Sequence

PADDING = 2.0  # the most columns of a group, over the tokens of its prompts; a further pass costs launches
SMALL = 256  # columns of a pass that takes hardly longer than one of a single column


def prefill_groups(lengths: Sequence[int]) -> list[list[int]]:
    """Return the indices of prompts in groups, each to be padded to its longest prompt; the longest prompts first.

    A group has little padding, or is so small that padding costs less than a further pass.
    """
    groups: list[list[int]] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        group = groups[-1] if groups else []
        columns = (len(group) + 1) * lengths[group[0]] if group else 0
        if group and columns <= max(SMALL, PADDING * (tokens + lengths[index])):
            group.append(index)
            tokens += lengths[index]
        else:
            groups.append([index])
            tokens = lengths[index]
    return [sorted(group) for group in groups]
