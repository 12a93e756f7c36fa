"""The certificate of a run: what is said of each token, of each answer, and of how often answers part from greedy ones.

docs/explanation/lossless.md says what each rule shows and what it does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from orthrus.values import Result
from orthrus.verification.lossy_parts import LossyPart
from orthrus.verification.mismatch import NOTHING, Divergence
from orthrus.verification.recording_verifier import TokenRecord, of_token
from orthrus.verification.reference_check import Judgement

Rule = Literal["holds", "fails", "not decided"]
CHANCE = 0.01  # a rate counts as higher than the control's if chance alone would make it so this seldom
CEILINGS = {"float32": 4096.0}  # unit roundoffs of a dtype's own error; docs/explanation/lossless.md derives them
CEILING = 64.0  # in 16 bits, where sums are in float32


@dataclass(frozen=True)
class Control:
    """The control: plain decoding's answers that differ between batch 1 and a larger one, 8 or all prompts if fewer."""

    divergent: int
    prompts: int
    batch: int

    @property
    def rate(self) -> float:
        """Their share."""
        return self.divergent / self.prompts if self.prompts else 0.0


@dataclass(frozen=True)
class Certificate:
    """The certificate of one run: a config at a batch.

    identical: answers that are those of greedy decoding (or of the sample that the seed decides). ties: tokens whose
    float32 logits nearly tie with another's, so that float64 decided. certified: answers of which every token passes.
    gaps: those above 0 between the reference's largest logit and the token's, of all tokens. bound: what they may be;
    error: the measured error of a logit that it is made of; roundoffs: the same in unit roundoffs of the
    largest logit; logit_error: the largest distance of a logit that the run saw, of a token it produced, from the
    reference's. control: None where nothing diverged and none was needed. lossy: the parts that are not exact.
    """

    label: str
    batch: int
    dtype: str
    temperature: float
    prompts: int
    tokens: int
    identical: int
    ties: int
    certified: int
    bound: float
    error: float
    roundoffs: float
    logit_error: float | None
    control: Control | None
    oracle_checked: int
    gaps: tuple[float, ...]
    divergences: tuple[Divergence, ...]
    lossy: tuple[LossyPart, ...] = ()

    @property
    def narrow(self) -> bool:
        """Whether the run computed in 16 bits, where near-ties flip and identical answers are not to be had."""
        return self.dtype in ("bfloat16", "float16")

    @property
    def largest_gap(self) -> float:
        """The largest gap; 0 if every token is the argmax."""
        return max(self.gaps, default=0.0)

    @property
    def float32_share(self) -> float | None:
        """The share of tokens that are what float32 says after the same text; None for a run in float32 or wider."""
        return (self.tokens - len(self.gaps)) / self.tokens if self.narrow and self.tokens else None

    @property
    def divergence_rate(self) -> float:
        """The share of answers that are not identical."""
        return (self.prompts - self.identical) / self.prompts if self.prompts else 0.0

    @property
    def rule_c(self) -> Rule | None:
        """The control's rule: how often answers differ from greedy decoding; None without a control."""
        if self.control is None:
            return None
        return compared(self.prompts - self.identical, self.prompts, self.control.divergent, self.control.prompts)

    @property
    def diverges_too_often(self) -> bool:
        """Whether answers differ from greedy decoding more often than the control's, beyond chance."""
        return self.rule_c == "fails"

    @property
    def ceiling(self) -> float:
        """The unit roundoffs that the error may be, if rounding is to explain it."""
        return CEILINGS.get(self.dtype, CEILING)

    @property
    def errs_too_much(self) -> bool:
        """Whether the target's own error is more than rounding explains: the bound made of it says nothing."""
        return not self.roundoffs <= self.ceiling

    @property
    def passed(self) -> bool:
        """Whether the run is certified: exact parts, a bound that means something, all answers pass, no rule fails."""
        holds = not self.errs_too_much and not self.diverges_too_often and not self.lossy
        return self.certified == self.prompts and holds

    def to_dict(self) -> dict[str, Any]:
        """Return the run as `orthrus verify --json` tells it."""
        control = None if self.control is None else {**asdict(self.control), "rate": self.control.rate}
        return {
            **asdict(self),
            "float32_share": self.float32_share,
            "largest_gap": _finite(self.largest_gap),
            "divergence_rate": self.divergence_rate,
            "control": control,
            "rule_c": self.rule_c,
            "diverges_too_often": self.diverges_too_often,
            "ceiling": self.ceiling,
            "errs_too_much": self.errs_too_much,
            "passed": self.passed,
            "bound": _finite(self.bound),
            "error": _finite(self.error),
            "roundoffs": _finite(self.roundoffs),
            "logit_error": None if self.logit_error is None else _finite(self.logit_error),
            "gaps": [_finite(gap) for gap in self.gaps],
            "divergences": [divergence.to_dict() for divergence in self.divergences],
        }


def wrong_tokens(
    result: Result, seen: Mapping[int, TokenRecord], judged: Judgement, bound: float, unit: float, logits_too: bool
) -> Iterator[Divergence]:
    """Yield the tokens of an answer that do not pass; comparisons are such that NaN does not pass either.

    unit: what scores are multiplied by to be logits. logits_too: whether the logits that the run saw are held against
    the reference's.
    """
    forced = judged.forced
    for index, token in enumerate(result.token_ids):
        own, gap = of_token(seen, index, token), forced.gaps[index]
        distance = abs(own.value * unit - forced.values[index])
        if not own.gap <= 0:
            yield Divergence(result.id, index, token, own.argmax, own.gap * unit, "own_logits")
        elif not gap <= bound:
            yield Divergence(result.id, index, token, forced.expected[index], gap, "teacher_forced")
        elif logits_too and not distance <= bound:
            yield Divergence(result.id, index, token, NOTHING, distance, "logit")


def logit_error(result: Result, seen: Mapping[int, TokenRecord], judged: Judgement, unit: float) -> float:
    """Return the largest distance of a logit that the run saw, of a token it produced, from the reference's."""
    pairs = zip(result.token_ids, judged.forced.values, strict=True)
    distances = [abs(of_token(seen, index, token).value * unit - value) for index, (token, value) in enumerate(pairs)]
    return max((distance for distance in distances if math.isfinite(distance)), default=0.0)


def compared(differing: int, total: int, expected: int, of: int) -> Rule:
    """Return what Fisher's exact test says of two shares; nothing, if it could not fail even with the share at 1."""
    if more_often(total, total, expected, of) >= CHANCE:
        return "not decided"
    return "fails" if more_often(differing, total, expected, of) < CHANCE else "holds"


def more_often(differing: int, total: int, expected: int, of: int) -> float:
    """Return how likely chance alone makes the first share this much higher: Fisher's exact test, one-sided."""
    together, everything = differing + expected, total + of
    ways = math.comb(everything, together)
    favourable = sum(
        math.comb(total, count) * math.comb(of, together - count)
        for count in range(differing, min(total, together) + 1)
        if together - count <= of
    )
    return favourable / ways


def differing(results: Sequence[Result], others: Sequence[Result]) -> int:
    """Return how many answers of two runs over the same prompts are not the same tokens."""
    return sum(result.token_ids != base.token_ids for result, base in zip(results, others, strict=True))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
