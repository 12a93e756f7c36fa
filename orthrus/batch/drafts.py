"""Drafts as the host sees them, for those who count, show or read them. B: rows, n: width of a draft."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from orthrus.values import Draft, DraftedTree


@dataclass(frozen=True)
class SeenDrafts:
    """The length of each row's draft, if they are counted, its tokens, if any row shows its own, and its tree."""

    lengths: tuple[int, ...] | None = None
    tokens: tuple[tuple[int, ...], ...] | None = None
    trees: tuple[DraftedTree, ...] | None = None


@dataclass(frozen=True)
class DraftReading:
    """The columns of a draft that the host reads with a step.

    shown: its tokens and, of a tree, its parents. counted: how many were proposed. trees: of a tree its parents.
    """

    shown: bool
    counted: bool
    trees: bool

    def columns(self, draft: Draft, last: Tensor | None) -> list[Tensor]:
        """Return what is read of a draft as it was scored, [B, ...] each; last [B]: of a verdict of a tree."""
        tree = self._reads_tree(draft)
        if draft.tokens.shape[1] == 0 or not (self.shown or self.counted or tree):
            return []
        columns = [draft.tokens] if self.shown else []
        if tree:
            assert draft.parents is not None and last is not None, "the verdict of a tree has a last token"
            columns += [draft.parents, last[:, None]]
        return [*columns, draft.lengths[:, None]]

    def take(self, seen: Sequence[list[int]], draft: Draft) -> SeenDrafts:
        """Take what `columns` added off the end of what was read of each row."""
        width, tree = draft.tokens.shape[1], self._reads_tree(draft)
        if not (self.shown or self.counted or tree):
            return SeenDrafts()
        lengths = tuple(values.pop() if width else 0 for values in seen)
        trees = tuple(map(_tree, seen, [width] * len(seen), lengths)) if tree else None
        tokens = tuple(map(_taken, seen, [width] * len(seen), lengths)) if self.shown else None
        return SeenDrafts(lengths if self.counted else None, tokens, trees)

    def _reads_tree(self, draft: Draft) -> bool:
        return draft.parents is not None and (self.shown or self.trees)


def _taken(values: list[int], width: int, length: int) -> tuple[int, ...]:
    """Take the last n values off a row's; return as many of them as were proposed."""
    first = len(values) - width
    tokens = tuple(values[first : first + length])
    del values[first:]
    return tokens


def _tree(values: list[int], width: int, length: int) -> DraftedTree:
    """Take the index of the last kept token off a row's values, and the parents [n] before it."""
    last, kept = values.pop(), list[int]()
    parents = _taken(values, width, length)
    while 0 <= last < length:  # of a row that takes no part anything may be said
        kept.append(last)
        last = parents[last]
    return DraftedTree(parents, tuple(reversed(kept)))
