"""Drafts that were made on the host, row by row, as one `Draft` on the device. B: rows, n: width of the draft."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from orthrus import AutoBlock, Context, Draft

Tree = tuple[Sequence[int], Sequence[int]]  # the tokens of a row, and the parent of each
LONGEST = 31  # drafts that `auto` may choose: with the anchor, a pass of 32 tokens


def chosen_width(context: Context, drafts: Sequence[Sequence[int]], auto: AutoBlock | None) -> int:
    """Return how wide a draft to make of these: the longest, or what `auto` chooses, whose passes have few widths."""
    if auto is None:
        return max(len(tokens) for tokens in drafts)
    return auto.choose(
        context, [len(tokens) if row.room else None for tokens, row in zip(drafts, context.rows, strict=True)]
    )


def padded_trees(context: Context, drafts: Sequence[Tree]) -> Draft:
    """Return the rows' trees, padded to the largest, uploaded all at one go."""
    width = max(len(tokens) for tokens, _ in drafts)
    if width == 0:
        return context.empty_draft()
    rows = [
        [len(tokens), *tokens, *[0] * (width - len(tokens)), *parents, *[-1] * (width - len(tokens))]
        for tokens, parents in drafts
    ]
    uploaded = torch.tensor(rows).to(context.device, non_blocking=True)  # [B, 1 + 2 n]
    lengths, tokens, parents = uploaded[:, 0], uploaded[:, 1 : 1 + width], uploaded[:, 1 + width :]
    return Draft(tokens, lengths, parents=parents, host_lengths=tuple(len(tokens) for tokens, _ in drafts))


def padded(context: Context, drafts: Sequence[Sequence[int]], width: int) -> Draft:
    """Return the rows' tokens, cut or padded to a width, uploaded all at one go."""
    if width == 0:
        return context.empty_draft()
    cut = [tokens[:width] for tokens in drafts]
    rows = [[len(tokens), *tokens, *[0] * (width - len(tokens))] for tokens in cut]
    uploaded = torch.tensor(rows).to(context.device, non_blocking=True)  # [B, 1 + n]
    return Draft(uploaded[:, 1:], uploaded[:, 0], host_lengths=tuple(map(len, cut)))
