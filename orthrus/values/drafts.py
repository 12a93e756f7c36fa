"""Drafts and what is said of them. B: rows, n: width of the draft, V: size of the vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from orthrus.paths import Paths


@dataclass(frozen=True, eq=False)
class Draft:
    """A drafter's proposal of tokens to follow each row's anchor.

    tokens [B, n] int64; what lies at or beyond a row's length is ignored. lengths [B] int64, each <= the row's room.
    probabilities [B, n, V]: what each token was drawn from, given those before it on its path and its parent's earlier
    children; None says that it was chosen, not drawn.
    parents [B, n] int64: the index of each token's parent in the draft, which comes before it, or -1 for the anchor.
    None is a chain. Of a tree, lengths count all tokens, those of the branches, too.
    passes: forward passes of a target-sized model that proposing cost (for `tpf`); a smaller one's is a fraction.
    host_lengths: the lengths as numbers, of a draft that was made on the host: who reads them saves a sync. None if
    the drafter does not know them. drafter: the name of who drafted it, if it is not the drafter that proposes it.
    depth: of a tree, the most tokens of any path: as many may be accepted, and what is launched ahead of the next cycle
    has to make room for them. None: as many as there are tokens.
    """

    tokens: Tensor
    lengths: Tensor
    probabilities: Tensor | None = None
    parents: Tensor | None = None
    passes: float = 0
    host_lengths: tuple[int, ...] | None = None
    drafter: str | None = None
    depth: int | None = None

    @cached_property
    def paths(self) -> Paths | None:
        """The paths of a tree whose parents are within their bounds, as a scheduler makes them; None of a chain."""
        if self.parents is None:
            return None
        from orthrus.paths import Paths

        return Paths(self.parents)


@dataclass(frozen=True, eq=False)
class Verdict:
    """A verifier's verdict: accepted [B] leading draft tokens are kept, then next_tokens [B], the target's own.

    last [B]: of a tree, the last token that is kept, by its index, -1 for none. Kept is then the path that leads to it,
    of accepted [B] tokens. None: the draft was a chain.
    """

    accepted: Tensor
    next_tokens: Tensor
    last: Tensor | None = None


@dataclass(frozen=True)
class Trial:
    """A change of a drafter's options that could raise what is accepted of its drafts; see `OffersTrials`.

    name: the change in a few words. sentence: what is wrong with the drafter as it is, if the change helps. options:
    what is laid over the drafter's options in the config, written as a config writes them.
    """

    name: str
    sentence: str
    options: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class LikeliestTokens:
    """The k likeliest tokens after the anchor and after each draft token, and their logits: [B, n + 1, k] each."""

    tokens: Tensor
    logits: Tensor


@dataclass(frozen=True)
class DraftShape:
    """How much is drafted. drafts: places after the anchor; nodes: tokens of a tree over them, 0: they are a chain."""

    drafts: int
    nodes: int = 0


@dataclass(frozen=True)
class DraftedTree:
    """A row's tree of drafts, read by the host. parents: of its tokens, as `Draft.parents`; -1 is the anchor.

    kept: the tokens on the accepted path, by their index, from the anchor on.
    """

    parents: tuple[int, ...]
    kept: tuple[int, ...]
