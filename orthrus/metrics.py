"""Every measure of a decoded row, in one object; the words are those of docs/explanation/decode-loop.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Measures:
    """The cost and gain of one row.

    cycles: steps after the prefill in which the row took part. passes: forward passes of the target's size that it
    took part in: prefill (1, however many chunks), drafting (as the draft says, also in fractions) and verifying.
    accepted_per_cycle: drafts the target agreed with in each cycle, the bonus token excluded, counted before a stop
    cuts them. seconds: from the request to its last token. ttft_seconds: from the request to its first token; None if
    there is none.
    """

    new_tokens: int
    cycles: int
    passes: float
    accepted_per_cycle: tuple[int, ...]
    seconds: float
    ttft_seconds: float | None

    @property
    def accepted_length(self) -> float | None:
        """The mean number of accepted drafts a cycle, bonus excluded; None without cycles."""
        return sum(self.accepted_per_cycle) / self.cycles if self.cycles else None

    @property
    def tokens_per_cycle(self) -> float | None:
        """Tokens committed by cycles over cycles, bonus included; None without cycles.

        The prefill's own token is not a cycle's.
        """
        return (self.new_tokens - 1) / self.cycles if self.cycles else None

    @property
    def tpf(self) -> float | None:
        """New tokens per forward pass (arXiv 2605.12825, TPF); None without passes."""
        return self.new_tokens / self.passes if self.passes else None

    @property
    def tokens_per_second(self) -> float | None:
        """New tokens over seconds; None if no time passed."""
        return self.new_tokens / self.seconds if self.seconds > 0 else None

    def to_dict(self) -> dict[str, Any]:
        """Return all measures but new_tokens as a JSON object."""
        return {
            "cycles": self.cycles,
            "passes": round(self.passes, 6),  # fractions do not add up to the last digit
            "accepted_per_cycle": list(self.accepted_per_cycle),
            "accepted_length": self.accepted_length,
            "tokens_per_cycle": self.tokens_per_cycle,
            "tpf": self.tpf,
            "seconds": self.seconds,
            "ttft_seconds": self.ttft_seconds,
            "tokens_per_second": self.tokens_per_second,
        }


@dataclass(frozen=True)
class Ratio:
    """One measure over several rows: pooled (a ratio of sums) and per prompt (the mean of the rows' ratios)."""

    pooled: float | None
    per_prompt: float | None


@dataclass(frozen=True)
class Summary:
    """The measures of several rows. Rows without cycles or passes count in no ratio that needs them."""

    new_tokens: int
    tokens_per_cycle: Ratio
    accepted_length: Ratio
    tpf: Ratio


def summarize(measures: Sequence[Measures]) -> Summary:
    """Return the pooled and the per-prompt measures of some rows."""
    cycled = [row for row in measures if row.cycles]
    passed = [row for row in measures if row.passes]
    return Summary(
        new_tokens=sum(row.new_tokens for row in measures),
        tokens_per_cycle=_ratio([(row.new_tokens - 1, row.cycles) for row in cycled]),
        accepted_length=_ratio([(sum(row.accepted_per_cycle), row.cycles) for row in cycled]),
        tpf=_ratio([(row.new_tokens, row.passes) for row in passed]),
    )


def _ratio(pairs: Sequence[tuple[int, float]]) -> Ratio:
    if not pairs:
        return Ratio(None, None)
    over, under = (sum(column) for column in zip(*pairs, strict=True))
    return Ratio(over / under, sum(count / base for count, base in pairs) / len(pairs))
