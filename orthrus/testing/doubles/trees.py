"""Drafters of trees, for checks of the other parts: bushy, ragged, with siblings alike; really drawn, or chosen.

B: rows, n: tokens of a draft, V: size of the vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.chance import Chance
from orthrus.values import Draft, Step


class ScriptedTrees:
    """A drafter of trees that knows each request's text; seed, key and place decide how they grow, and how rightly.

    texts: by key of the request. right: the share of branches that go on with the text, where they followed it so far;
    other tokens are any. sizes: how many tokens a row's tree may have. Siblings may be alike. Beyond a row's tree stand
    tokens that would have been right, and parents that are none: they must not count.
    """

    name = "scripted trees"
    needs: frozenset[str] = frozenset()
    learns = False
    drafts_trees = True

    def __init__(
        self,
        texts: Mapping[int, Sequence[int]],
        vocabulary: int,
        seed: int = 0,
        right: float = 0.6,
        sizes: Sequence[int] = (0, 1, 2, 3, 6, 9),
    ) -> None:
        self._texts, self._vocabulary = texts, vocabulary
        self._seed, self._right, self._sizes = seed, right, sizes

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Do nothing: the texts are known."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return each row's tree."""
        width = min(max(self._sizes), context.max_room)
        if width == 0:
            return context.empty_draft()
        trees = [self.tree(row.key, len(row.output), row.room, width) for row in context.rows]
        tokens, parents, lengths = (torch.tensor(part, device=context.device) for part in zip(*trees, strict=True))
        return Draft(tokens, lengths, parents=parents)

    def observe(self, step: Step) -> None:
        """Do nothing: the texts are known."""

    def tree(self, key: int, place: int, room: int, width: int) -> tuple[list[int], list[int], int]:
        """Return the tokens and parents [width] of a row's tree, and how many of them are its."""
        chooser = random.Random(f"{self._seed} {key} {place}")
        length = min(chooser.choice(self._sizes), room, width)
        text = [*self._texts.get(key, ())[place:], *[0] * (width + 1)]
        tokens, parents, depths = [], [], {-1: 0}  # of the anchor, and of tokens that follow the text
        for index in range(length):
            parent = index - 1 if chooser.random() < 0.6 else chooser.randrange(-1, index)
            token = chooser.randrange(self._vocabulary)
            if parent in depths:
                token = text[depths[parent]] if chooser.random() < self._right else token
                if token == text[depths[parent]]:
                    depths[index] = depths[parent] + 1
            tokens.append(token)
            parents.append(parent)
        beyond = range(length, width)
        return tokens + [text[index] for index in beyond], parents + [-9 + 2 * index for index in beyond], length


class DrawingTrees:
    """Draw the tokens of a tree of one shape from q [V, V], by the token before each, and say from what.

    shape: the parent of each token. replaced: whether siblings are drawn independently; else each of them is another
    token than those before it, if q has one. chosen: take the likeliest, and say nothing.
    """

    name = "drawing trees"
    needs: frozenset[str] = frozenset()
    learns = False
    drafts_trees = True

    def __init__(self, q: Tensor, shape: Sequence[int], *, replaced: bool = True, chosen: bool = False) -> None:
        self._q, self._shape, self._replaced, self._chosen = q, shape, replaced, chosen

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Do nothing: there is nothing to remember."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return a tree a row, each cut to its room."""
        shape = self._shape[: context.max_room]
        if not shape:
            return context.empty_draft()
        tokens: list[Tensor] = []
        given: list[Tensor] = []
        for index, parent in enumerate(shape):
            from_ = self._q[context.anchors if parent < 0 else tokens[parent]]
            siblings = [other for other in range(index) if shape[other] == parent]
            from_ = from_ if self._replaced and not self._chosen else self._without(from_, tokens, siblings)
            tokens.append(from_.argmax(-1) if self._chosen else chance.categorical(from_))
            given.append(from_)
        lengths = context.room.clamp(max=len(shape))
        parents = torch.tensor(shape).expand(len(lengths), -1)
        return Draft(torch.stack(tokens, 1), lengths, None if self._chosen else torch.stack(given, 1), parents)

    def observe(self, step: Step) -> None:
        """Do nothing: there is nothing to remember."""

    def _without(self, from_: Tensor, tokens: Sequence[Tensor], siblings: Sequence[int]) -> Tensor:
        """Return q [B, V] without the tokens of siblings, as probabilities; q itself where nothing would be left."""
        left = from_.clone()
        for sibling in siblings:
            left.scatter_(1, tokens[sibling][:, None], 0.0)
        total = left.sum(-1, keepdim=True)
        return torch.where(total > 0, left / total.clamp(min=1e-300), from_)
