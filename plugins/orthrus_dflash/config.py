"""Config of a DFlash drafter, the same for both layouts, and whether it fits a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from orthrus import BuildError, InputError
from orthrus.drafter_models.rotary import Rotary

Tap = int | Literal["final"]


@dataclass(frozen=True)
class TargetSizes:
    """What a drafter must fit: the target's hidden size, vocabulary size and count of layers."""

    hidden_size: int
    vocabulary_size: int
    layers: int


@dataclass(frozen=True)
class LayerKind:
    """What the rows of a block see in a layer.

    causal: only the rows of the block before them, and themselves; else all of its rows. window: so many positions, or
    None for all. window_from: whether they are counted from each row, or from the anchor and before it, where rows of
    the block do not count.
    """

    causal: bool = False
    window: int | None = None
    window_from: Literal["row", "anchor"] = "row"


@dataclass(frozen=True)
class DFlashConfig:
    """The sizes and conventions of a drafter.

    taps: what it reads of the target, in the order in which they are concatenated: a boundary k is the residual stream
    that enters layer k, 0 the embeddings; "final" is the state after the final norm. block: the anchor and the masks
    that it was trained with. draft_vocabulary_size: ids that its own head knows; None: it uses the target's head.
    """

    layout: Literal["z-lab", "speculators"]
    hidden_size: int
    intermediate_size: int
    heads: int
    key_heads: int
    head_size: int
    epsilon: float
    rotary: Rotary
    vocabulary_size: int
    layers: tuple[LayerKind, ...]
    taps: tuple[Tap, ...]
    block: int
    mask_token_id: int
    output_multiplier: float = 1.0
    soft_cap: float | None = None
    embedding_scale: float = 1.0
    draft_vocabulary_size: int | None = None
    target_layers: int | None = None

    def check_fits(self, target: TargetSizes, source: str) -> None:
        """Raise BuildError if the drafter was made for a target of other sizes; source: what it is called."""
        pairs = (
            ("hidden size", self.hidden_size, target.hidden_size),
            ("vocabulary", self.vocabulary_size, target.vocabulary_size),
            ("number of layers", self.target_layers, target.layers),
        )
        for what, own, of_target in pairs:
            if own is not None and own != of_target:
                raise BuildError(f"'{source}' was made for a target whose {what} is {own}; this one's is {of_target}")
        if self.mask_token_id >= target.vocabulary_size:
            raise InputError(
                f"the mask token {self.mask_token_id} of '{source}' is not in the target's vocabulary of"
                f" {target.vocabulary_size}"
            )


def taps_from(boundaries: Sequence[int], layers: int, source: str, *, last_is_final: bool = True) -> tuple[Tap, ...]:
    """Return boundaries as taps; the one after the last layer is read after the final norm.

    last_is_final: whether the layout knows the boundary after the last layer. Raises InputError for one beyond the
    model.
    """
    last = layers if last_is_final else layers - 1
    for boundary in boundaries:
        if not 0 <= boundary <= last:
            raise InputError(
                f"'{source}' taps the boundary {boundary} between layers, which is beyond the target: with its {layers}"
                f" layers they are 0 to {last}"
            )
    return tuple("final" if boundary == layers else boundary for boundary in boundaries)
