"""Sizes, points and dtype of a target, which a drafter with weights of its own must fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from orthrus.errors import BuildError, InputError
from orthrus.interfaces import Target
from orthrus.optional import HasDtype, TappedTarget
from orthrus.values import TapPoint


@dataclass(frozen=True)
class TargetSizes:
    """What a drafter must fit: the target's hidden size, vocabulary size and count of layers."""

    hidden_size: int
    vocabulary_size: int
    layers: int

    @classmethod
    def of(cls, target: TappedTarget) -> TargetSizes:
        """Return a target's sizes."""
        return cls(target.hidden_size, target.vocabulary_size, target.layer_count)


def taps_from(
    boundaries: Sequence[int], layers: int, source: str, *, last_is_final: bool = True, normed: bool = True
) -> tuple[TapPoint, ...]:
    """Return boundaries as taps; the one after the last layer is read after the final norm, or before it.

    last_is_final: whether the layout knows the boundary after the last layer. normed: whether that one is read after
    the norm. Raises InputError for one beyond the model, and where `normed` makes no difference.
    """
    last = layers if last_is_final else layers - 1
    for boundary in boundaries:
        if not 0 <= boundary <= last:
            raise InputError(
                f"'{source}' taps the boundary {boundary} between layers, which is beyond the target: with its {layers}"
                f" layers they are 0 to {last}"
            )
    if not normed and layers not in boundaries:
        raise InputError(
            f"final_norm=false changes nothing for '{source}': no tap is behind the last of {layers} layers"
        )
    return tuple("final" if normed and boundary == layers else boundary for boundary in boundaries)


def tapped_target(target: Target, drafter: str) -> TappedTarget:
    """Return the target, which offers hidden states; raise BuildError if it does not. drafter: its name."""
    if isinstance(target, TappedTarget):
        return target
    raise BuildError(
        f"drafter '{drafter}' reads hidden states, which target '{type(target).__name__}' does not offer;"
        " set target.name=transformers"
    )


def dtype_of(option: str, target: Target) -> torch.dtype:
    """Return the dtype that an option names; `auto`: the target's, float32 if it does not tell."""
    if option == "auto":
        return target.dtype if isinstance(target, HasDtype) else torch.float32
    dtype: torch.dtype = getattr(torch, option)
    return dtype
