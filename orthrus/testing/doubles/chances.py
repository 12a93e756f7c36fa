"""Chances that note what a drafter draws from, and that draw what is unlikely more often.

B: rows, n: places, V: size of the vocabulary.
"""

from __future__ import annotations

from torch import Tensor

from orthrus.batch.context import Context
from orthrus.chance import Chance

LOUDER = 3.0  # noise is so many times as strong, so that tokens of little probability are drawn, too
KEPT = 3  # drafts whose draws are remembered: one may be made a cycle ahead


class NotedChance(Chance):
    """Make noise that is stronger than Gumbel's, and note every distribution and what was drawn from it.

    The argmax of log q and noise, whatever the noise, is the token that q gives: stronger noise finds what is wrong
    with small probabilities.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.makes_noise = False
        self._drawn: list[list[tuple[Tensor, Tensor]]] = [[]]  # of each draft: distributions [R, V], tokens [R]

    def gumbel(self, keys: Tensor, positions: Tensor, vocabulary_size: int) -> Tensor:
        """Return the noise [B, n, V]."""
        self.makes_noise = True
        return LOUDER * super().gumbel(keys, positions, vocabulary_size)

    def categorical(self, probabilities: Tensor) -> Tensor:
        """Return an index [...] drawn from each distribution [..., V]."""
        drawn = super().categorical(probabilities.double().clone())
        flat = probabilities.double().reshape(-1, probabilities.shape[-1])
        self._drawn[-1].append((flat / flat.sum(-1, keepdim=True), drawn.reshape(-1)))
        return drawn

    def next_draft(self) -> None:
        """Take note that a draft is complete."""
        self._drawn = [*self._drawn[1 - KEPT :], []]

    def drawn(self, token: int, vocabulary_size: int) -> list[Tensor]:
        """Return the distributions [V] that this token was drawn from of late."""
        every = (pair for draft in self._drawn for pair in draft if pair[0].shape[-1] == vocabulary_size)
        return [row for given, tokens in every for row in given[tokens == token]]

    def draws(self, vocabulary_size: int) -> bool:
        """Tell whether anything was drawn of late from distributions over the vocabulary."""
        return any(given.shape[-1] == vocabulary_size for draft in self._drawn for given, _ in draft)

    def noise_of(self, context: Context, count: int) -> Tensor:
        """Return the noise [B, n, V] of the rows' requests at the places of a draft."""
        return LOUDER * super().gumbel(context.keys, context.positions(count), context.vocabulary_size)
