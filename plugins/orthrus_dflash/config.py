"""Config of a DFlash drafter, the same for both layouts, and whether it fits a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orthrus import BuildError, InputError, TapPoint
from orthrus.drafter_models.fit import TargetSizes
from orthrus.drafter_models.rotary import Rotary


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
    from_anchor: whether a row drafts the token after it, the anchor's the first one. position_offset: what is added to
    the rotary positions of a block.
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
    taps: tuple[TapPoint, ...]
    block: int
    mask_token_id: int
    output_multiplier: float = 1.0
    soft_cap: float | None = None
    embedding_scale: float = 1.0
    draft_vocabulary_size: int | None = None
    target_layers: int | None = None
    from_anchor: bool = False
    position_offset: int = 0

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
