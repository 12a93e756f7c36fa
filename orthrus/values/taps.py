"""Hidden states that a target hands on. R: rows, n: columns, T: points, h: hidden size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor


TapPoint = int | Literal["final"]  # boundary k: what enters layer k; "final": what the last norm gives


@dataclass(frozen=True, eq=False)
class TappedStates:
    """The target's hidden states after committed tokens, at the points that a drafter declared.

    states [R, n, T h]: of the tokens at positions starts [R] and those that follow, the T points side by side; of each
    row the first counts [R] of the n columns are committed text, and the others are to be left out. rows [R]: which
    rows; None: all, in a cycle. The token that follows each of these positions is in `context.tokens`. The next pass
    may write over the states.
    """

    states: Tensor
    starts: Tensor
    counts: Tensor
    rows: Tensor | None = None
