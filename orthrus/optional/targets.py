"""Abilities of targets: to tell what they are, what a pass reads, and to score texts. V: size of the vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from orthrus.interfaces import KVCache

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from orthrus.batch.turn import Turn


@runtime_checkable
class HoldsCache(Protocol):
    """A target whose KV cache can be asked how much it holds."""

    @property
    def cache(self) -> KVCache:
        """What keeps the keys and values of its passes."""


@runtime_checkable
class TakesTurns(Protocol):
    """A target that notices a second decoding, and lets one thread at a time use it."""

    turn: Turn


@runtime_checkable
class HasDtype(Protocol):
    """A target that tells the dtype in which it computes."""

    dtype: torch.dtype


@runtime_checkable
class HasModelPath(Protocol):
    """A target that knows the file or directory which its model was loaded from; None for one that was handed over."""

    model_path: Path | None


@runtime_checkable
class LoadedTarget(Protocol):
    """A target that tells what its model is, for `orthrus verify`, whose certificates are of the model as loaded."""

    def provenance(self) -> str:
        """Return a sentence: where the model is from, and how it was held against that."""


@runtime_checkable
class MeasuredTarget(Protocol):
    """A target that tells `orthrus bench` what its passes must read."""

    def pass_bytes(self, lengths: Sequence[int]) -> int:
        """Return the bytes of weights, keys and values that this process reads in a pass over rows so long."""


@runtime_checkable
class HasPassIdentity(Protocol):
    """A target that tells what its passes' times depend on."""

    def pass_identity(self) -> Mapping[str, Any]:
        """Return all of the target that decides how long its passes take, as names and plain values.

        With it, what `AutoBlock` measures is kept for other processes on the machine.
        """


@runtime_checkable
class ScoresTexts(Protocol):
    """A target that gives the logits along a text in chunks, so that those of a long one need not fit into memory."""

    def text_logits(self, token_ids: Sequence[int], chunk: int) -> Iterator[Tensor]:
        """Yield the logits [n, V] after the tokens of one sequence, from scratch, n <= chunk of them at a time.

        They are those of `logits`, but for rounding. No decoding's cache is used: steps may come between two chunks.
        """


@runtime_checkable
class WidenedTarget(Protocol):
    """A target whose weights can be computed in a wider dtype, where its own rounding is to be judged."""

    def widened(self, dtype: torch.dtype) -> Callable[[Sequence[int], int], Tensor]:
        """Return what `logits` is, over a copy of the very same weights that computes in another dtype."""
