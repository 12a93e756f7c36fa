"""Config of an EAGLE-3 drafter, the same for both layouts, and whether it fits a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orthrus import BuildError, InputError, TapPoint
from orthrus.drafter_models.fit import TargetSizes
from orthrus.drafter_models.rotary import Rotary


@dataclass(frozen=True)
class Eagle3Config:
    """The sizes and conventions of a drafter with one layer.

    taps: what it reads of the target, in the order in which they are concatenated: a boundary k is the residual stream
    that enters layer k, 0 the embeddings; "final" is the state after the final norm. draft_vocabulary_size: ids that it
    knows. head_norms: whether queries and keys are normed. norm_before_residual: the layer's residual stream begins
    with the normed feature. norm_before_fc: all taps are normed as one; norm_taps: each by itself. norm_output: a step
    goes on from the state after the final norm. position_offset: what is added to the rotary positions of its steps.
    """

    layout: Literal["SafeAILab", "speculators"]
    hidden_size: int
    target_hidden_size: int
    intermediate_size: int
    heads: int
    key_heads: int
    head_size: int
    epsilon: float
    rotary: Rotary
    vocabulary_size: int
    draft_vocabulary_size: int
    taps: tuple[TapPoint, ...]
    head_norms: bool = False
    norm_before_residual: bool = False
    norm_before_fc: bool = False
    norm_taps: bool = False
    norm_output: bool = False
    position_offset: int = 0

    @property
    def reduced(self) -> bool:
        """Return whether the drafter knows a part of the target's vocabulary only."""
        return self.draft_vocabulary_size != self.vocabulary_size

    def check_fits(self, target: TargetSizes, source: str) -> None:
        """Raise BuildError if the drafter was made for a target of other sizes; source: what it is called."""
        pairs = (
            ("hidden size", self.target_hidden_size, target.hidden_size),
            ("vocabulary", self.vocabulary_size, target.vocabulary_size),
        )
        for what, own, of_target in pairs:
            if own != of_target:
                raise BuildError(f"'{source}' was made for a target whose {what} is {own}; this one's is {of_target}")


def default_boundaries(layers: int, source: str) -> tuple[int, ...]:
    """Return the boundaries that are tapped where nobody says which: low, middle and high.

    Raises InputError where they are not three in this order, as in a target of few layers.
    """
    boundaries = (2, layers // 2, layers - 3)
    if not boundaries[0] < boundaries[1] < boundaries[2]:
        usual = ", ".join(map(str, boundaries))
        raise InputError(
            f"'{source}' does not say which boundaries it taps, and the usual ones, 2, L//2 and L-3, are {usual} for a"
            f" target of {layers} layers, not three in order: give the option boundaries"
        )
    return boundaries
