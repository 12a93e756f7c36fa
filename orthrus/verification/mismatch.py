"""A token of an answer that differs from the expected one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from orthrus.reference.oracle import OracleAnswer
from orthrus.values import Result

Check = Literal["own_logits", "teacher_forced", "logit", "end", "oracle"]
NOTHING = -1  # no token stands there


@dataclass(frozen=True)
class Divergence:
    """One token that differs from the expected one: its place in the answer, the expected token, and by how much.

    check: `own_logits` (not the argmax of what the run itself saw), `teacher_forced` (not the target's choice given the
    answer so far), `logit` (the run saw another logit for it than the target gives), `end` (the answer ends elsewhere
    than it should) or `oracle`. gap: of the first two the logit of the expected token minus that of the token, of
    `logit` the distance; NaN where there is nothing to compare.
    """

    id: str
    position: int
    token: int
    expected: int
    gap: float
    check: Check

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object; a gap that is no finite number is null."""
        return asdict(self) | {"gap": self.gap if math.isfinite(self.gap) else None}


def compare(result: Result, answer: OracleAnswer, check: Check) -> list[Divergence]:
    """Return the first place at which two answers part, if they do."""
    if answer.token_ids == result.token_ids and answer.finish_reason == result.finish_reason:
        return []
    pairs = zip(result.token_ids, answer.token_ids, strict=False)
    shorter = min(len(result.token_ids), len(answer.token_ids))
    index = next((i for i, (token, expected) in enumerate(pairs) if token != expected), shorter)
    tokens = _at(result.token_ids, index), _at(answer.token_ids, index)
    return [Divergence(result.id, index, *tokens, math.nan, check)]


def _at(tokens: Sequence[int], index: int) -> int:
    return tokens[index] if index < len(tokens) else NOTHING
