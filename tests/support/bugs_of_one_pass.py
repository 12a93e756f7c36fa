"""Attention over blocks beside a scored draft, each broken in one way that is easily made."""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus import AttentionCapabilities, MaskDescription
from support.bug import Bug
from support.bugs_of_attention import Written


class WrittenBlocks(Written):
    """Honest: attention in float64 that takes blocks beside a draft, in steps of which each is broken below."""

    capabilities = AttentionCapabilities(kinds=frozenset({"causal", "block", "blocks"}), softcap=True, sinks=True)

    def prepare(self, mask: MaskDescription, window: int | None, dtype: torch.dtype) -> Tensor:
        if mask.kind != "blocks":
            return super().prepare(mask, window, dtype)
        assert mask.paths is not None
        rows, columns, every = mask.paths.shape
        seen = torch.zeros(rows, columns, mask.extent, dtype=torch.bool)
        places = torch.arange(mask.extent).repeat(rows, 1)  # where in the text the key of each slot stands
        for row, length in enumerate(mask.lengths.tolist()):
            seen[row, :, :length] = True
            seen[row, :, length : length + every] = self.own(mask.paths, every - columns)[row]
            places[row, length + every - columns : length + every] = self.places(mask)[row]
        oldest = mask.positions[..., None] - (mask.extent + 99 if window is None else window)
        return seen & (places[:, None] > oldest)

    def own(self, paths: Tensor, scored: int) -> Tensor:
        return paths

    def places(self, mask: MaskDescription) -> Tensor:
        return mask.positions


class SeesItsOwnToken(WrittenBlocks):
    """Let a block see the model's key of its own first token, which its view's key stands for."""

    def own(self, paths: Tensor, scored: int) -> Tensor:
        drafts = torch.arange(scored) <= paths[..., :scored].sum(-1, keepdim=True)
        return torch.cat([drafts, paths[..., scored:]], dim=-1)


class SeesTheWholeDraft(WrittenBlocks):
    """Let each block see all of the draft, also what is refused where the block is used."""

    def own(self, paths: Tensor, scored: int) -> Tensor:
        return torch.cat([torch.ones_like(paths[..., :scored]), paths[..., scored:]], dim=-1)


class SeesOtherBlocks(WrittenBlocks):
    def own(self, paths: Tensor, scored: int) -> Tensor:
        return torch.cat([paths[..., :scored], torch.ones_like(paths[..., scored:])], dim=-1)


class WindowBySlot(WrittenBlocks):
    """Count a window's keys by the slots in which they lie, which are behind all of the draft."""

    def places(self, mask: MaskDescription) -> Tensor:
        assert mask.paths is not None
        columns, every = mask.paths.shape[1:]
        return mask.lengths[:, None] + torch.arange(every - columns, every)


CHECK = "blocks_see_what_is_accepted_before_them"
BUGS = [
    Bug("attention", "lets a block see its own first token's key of the model", CHECK, SeesItsOwnToken),
    Bug("attention", "lets a block see drafts that are refused where it is used", CHECK, SeesTheWholeDraft),
    Bug("attention", "lets blocks for other lengths see each other", CHECK, SeesOtherBlocks),
    Bug("attention", "counts a block's window by slots", CHECK, WindowBySlot),
]
