"""Comparison with a higher-precision reference: one a target and way to sample, with the bound on the difference.

docs/explanation/lossless.md derives the bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from orthrus.decoder import Decoder
from orthrus.errors import InputError
from orthrus.optional import HasDtype, LoadedTarget, WidenedTarget
from orthrus.values import Result
from orthrus.verification.expected import oracle, wrong_end
from orthrus.verification.mismatch import Divergence
from orthrus.verification.teacher_forcing import Forced, Logits, teacher_force

NARROW = (torch.bfloat16, torch.float16)
Key = tuple[str, tuple[int, ...], tuple[int, ...], str | None]


@dataclass(frozen=True)
class Judgement:
    """The result of a reference check of one answer.

    forced: held against the reference. disputed: the places at which the target, teacher-forced in the run's own dtype,
    says another token, and float64 had to decide; none for a dtype of 16 bits. wrong_end: as a divergence.
    """

    forced: Forced
    disputed: tuple[int, ...]
    wrong_end: tuple[Divergence, ...]


class ReferenceCheck:
    """Judge answers of runs that agree in target, stop, sampling and seed, each answer once.

    widened: returns logits of the same weights in another dtype, or None if the target cannot; asked when needed.
    """

    def __init__(self, decoder: Decoder, widened: Callable[[torch.dtype], Logits | None]) -> None:
        self._decoder = decoder
        self._widened = widened
        self.device = decoder.target.device
        self.dtype = dtype_of(decoder)
        self.narrow = self.dtype in NARROW
        self._judged: dict[Key, Judgement] = {}
        self._replayed: dict[Key, tuple[Divergence, ...]] = {}
        if self.narrow and not isinstance(decoder.target, WidenedTarget):
            raise InputError(
                f"the target computes in {dtype_name(self.dtype)}, where near-ties flip, and has no `widened` to say"
                " what float32 gives: its runs cannot be certified"
            )

    def judge(self, result: Result) -> Judgement:
        """Return what is to be said of an answer."""
        key = _key(result)
        if key not in self._judged:
            self._judged[key] = self._judge(result)
        return self._judged[key]

    def replay(self, result: Result) -> tuple[Divergence, ...]:
        """Return where the naive oracle says something else."""
        key = _key(result)
        if key not in self._replayed:
            self._replayed[key] = tuple(oracle(self._decoder, result))
        return self._replayed[key]

    @property
    def provenance(self) -> str | None:
        """The provenance of the target's model, as the target tells it; None if it says nothing."""
        target = self._decoder.target
        return target.provenance() if isinstance(target, LoadedTarget) else None

    @property
    def error(self) -> float:
        """The largest error of a logit in the run's dtype, over all answers for which it was measured."""
        return max((judgement.forced.error for judgement in self._judged.values()), default=0.0)

    @property
    def bound(self) -> float:
        """By how much the logit of a token may be below the largest: two errors, one for each of the tokens."""
        return 2 * self.error

    @property
    def largest(self) -> float:
        """The largest logit, or score, of any token of the answers; those that were cut are none."""
        values = [abs(value) for judgement in self._judged.values() for value in judgement.forced.values]
        return max((value for value in values if math.isfinite(value)), default=0.0)

    @property
    def roundoffs(self) -> float:
        """The error in unit roundoffs of the largest logit."""
        roundoff = torch.finfo(self.dtype).eps / 2
        if self.largest == 0:
            return math.inf if self.error else 0.0
        return self.error / (roundoff * self.largest)

    def _judge(self, result: Result) -> Judgement:
        end = tuple(wrong_end(self._decoder, result))
        own = self._decoder.target.logits
        if self.narrow:
            reference = self._widened(torch.float32)
            assert reference is not None
            return Judgement(teacher_force(self._decoder, result, reference, torch.float64, own), (), end)
        forced = teacher_force(self._decoder, result, own, self.dtype)
        disputed = tuple(index for index, gap in enumerate(forced.gaps) if not gap <= 0)
        wider = self._widened(torch.float64) if disputed and self.dtype == torch.float32 else None
        if wider is not None:
            forced = teacher_force(self._decoder, result, wider, torch.float64, own)
        return Judgement(forced, disputed, end)


def dtype_of(decoder: Decoder) -> torch.dtype:
    """Return the dtype in which a target computes: what it says, or that of its logits."""
    target = decoder.target
    said = target.dtype if isinstance(target, HasDtype) else None
    return said if isinstance(said, torch.dtype) else decoder.target.logits([0], 1).dtype


def dtype_name(dtype: torch.dtype) -> str:
    """Return a dtype as a config writes it."""
    return str(dtype).removeprefix("torch.")


def _key(result: Result) -> Key:
    return result.id, result.prompt_token_ids, result.token_ids, result.finish_reason


def unique(results: Sequence[Result]) -> list[Result]:
    """Return the answers, those that are there twice once."""
    return list({_key(result): result for result in results}.values())
