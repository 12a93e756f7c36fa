"""Results of a prediction: frozen values, written as JSON. The names of measures are those of docs/explanation."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orthrus.bench.results import Spread

FORMAT = "orthrus-predict 1"


@dataclass(frozen=True)
class Expected:
    """What is expected of the prompts that were not used to predict, if they are like those that were.

    ratio: to plain decoding at the same batch; ratio_range: where it lies in 8 of 10 draws of the prompts that it was
    learned from, so how much it depends on them. tokens_per_cycle, accepted_length: pooled. cycle_seconds: from one
    commit to the next; drafting_seconds: what of it is beyond a cycle whose draft costs nothing. prefill_seconds: of a
    prompt that is passed over alone.
    """

    tokens_per_second: float
    ratio: float
    ratio_range: tuple[float, float]
    tokens_per_cycle: float | None
    accepted_length: float | None
    cycle_seconds: float | None
    drafting_seconds: float
    prefill_seconds: float


@dataclass(frozen=True)
class Measured:
    """What was measured of the other prompts, one value a round; ratio: to plain decoding in the same round."""

    tokens_per_second: Spread
    ratio: Spread
    cycle_seconds: Spread | None
    tokens_per_cycle: float | None
    accepted_length: float | None
    new_tokens: int
    identical: float  # share of the answers that are plain decoding's, token by token


@dataclass(frozen=True)
class Prediction:
    """One drafter at one block and batch. block: anchor and drafts, "auto", or None where the drafter does not say.

    acceptance: "every place" where one run served for all blocks, "this block" where each was run.
    """

    drafter: str
    block: int | str | None
    batch: int
    acceptance: str
    expected: Expected
    measured: Measured | None = None

    @property
    def error(self) -> float | None:
        """How far the expected speed is off the median of the measured ones, as a share of that; None without those."""
        return None if self.measured is None else _off(self.expected.tokens_per_second, self.measured.tokens_per_second)

    @property
    def ratio_error(self) -> float | None:
        """How far the expected ratio is off, as a share of the median of the measured ones."""
        return None if self.measured is None else _off(self.expected.ratio, self.measured.ratio)


@dataclass(frozen=True)
class ScoredCycle:
    """One measured cost: a cycle over so many rows with so many drafts each, which cost nothing to draft.

    tree: whether the drafts of a row are one tree.
    """

    batch: int
    drafts: int
    seconds: float
    tree: bool = False


@dataclass(frozen=True)
class Predictions:
    """One prediction with all that it rests on: the command, the machine, the settings, costs and outcomes."""

    command: str
    date: str
    environment: Mapping[str, Any]
    settings: Mapping[str, Any]
    scored: tuple[ScoredCycle, ...]
    predictions: tuple[Prediction, ...]

    def best(self, batch: int) -> Prediction:
        """Return the one of a batch that is fastest: as measured, or as expected if nothing was."""
        return max((each for each in self.predictions if each.batch == batch), key=speed)

    def to_json(self) -> str:
        """Return the JSON text, errors and medians included."""
        return json.dumps({"format": FORMAT, **_plain(self)}, indent=1, allow_nan=False) + "\n"


def speed(prediction: Prediction) -> float:
    """Return the measured tokens a second, or the expected ones if nothing was measured."""
    measured = prediction.measured
    return prediction.expected.tokens_per_second if measured is None else measured.tokens_per_second.median


def _off(expected: float, measured: Spread) -> float | None:
    return expected / measured.median - 1 if measured.median else None


def _plain(value: Any) -> Any:
    if isinstance(value, Spread):
        return {"median": value.median, "low": value.low, "high": value.high, "values": list(value.values)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        errors = {"error": value.error, "ratio_error": value.ratio_error} if isinstance(value, Prediction) else {}
        return {**fields, **errors}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
