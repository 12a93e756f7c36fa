"""Steps: the tokens that a cycle, or the prefill of some rows, committed. B: rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from orthrus.values.drafts import DraftedTree, LikeliestTokens


FinishReason = Literal["stop_token", "stop_string", "length", "cancelled", "failed"]


@dataclass(frozen=True)
class TokenScores:
    """The target's own natural log-probabilities at a committed token's place, before sampling settings.

    chosen: the token's. likeliest: pairs of a token and its log-probability, the likeliest first.
    """

    chosen: float
    likeliest: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, eq=False)
class Step:
    """The tokens that one cycle, or the prefill of some rows, committed.

    cycle: how many cycles there were, this one included. prefilled: the rows that a prefill filled; empty for a cycle.
    lengths [B]: committed tokens of each row, the anchor included (on the device).
    The tuples have one entry a row, on the host: the tokens committed (empty for a row that had ended before), the
    number of drafts accepted (counted before a stop cuts them), and why the row ended in this step, or None.
    passes: forward passes of the target's size that the step took.
    scores: of the tokens committed, for rows that want them; None if no row does.
    likeliest: of every scored place, for a drafter that asks for them.
    drafted: the number of drafts that were proposed for each row, for a session that counts them.
    drafts: the drafts themselves, of rows that show them, of a tree those of all branches; None if no row does.
    drafter: as of the draft.
    trees: of a tree, each row's own, for a drafter that reads them and with drafts that are shown; None otherwise.
    own: whether what was accepted is of the observing drafter's draft, if it made one; False: another's was scored.
    """

    cycle: int
    prefilled: tuple[int, ...]
    lengths: Tensor
    committed: tuple[tuple[int, ...], ...]
    accepted: tuple[int, ...]
    finished: tuple[FinishReason | None, ...]
    passes: float
    scores: tuple[tuple[TokenScores, ...], ...] | None = None
    likeliest: LikeliestTokens | None = None
    drafted: tuple[int, ...] | None = None
    drafts: tuple[tuple[int, ...], ...] | None = None
    drafter: str | None = None
    trees: tuple[DraftedTree, ...] | None = None
    own: bool = True

    def without_acceptance(self) -> Step:
        """Return the step as it is to a drafter whose draft it was not: nothing of its own was accepted.

        Written out because it is called in every cycle, where `dataclasses.replace` takes ten times as long.
        """
        nothing = (0,) * len(self.accepted)
        return Step(
            self.cycle,
            self.prefilled,
            self.lengths,
            self.committed,
            nothing,
            self.finished,
            self.passes,
            self.scores,
            self.likeliest,
            self.drafted,
            self.drafts,
            self.drafter,
            own=False,
        )
