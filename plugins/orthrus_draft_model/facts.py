"""Facts of a draft model that its drafter goes by: those that another process can be told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

from orthrus import Target
from orthrus.optional import HasDtype, HasFingerprint, HasPassIdentity, MeasuredTarget, MovesRows, name_of


@dataclass(frozen=True)
class ModelFacts:
    """What there is to know of a draft model beside what it says.

    share: see `share_of_weights`. identity: what tells the costs of its passes from another's. moves_rows: whether its
    cache does (see `MovesRows`). fingerprint: of its weights; None: it has none.
    """

    share: float
    identity: str
    moves_rows: bool
    fingerprint: Callable[[], str] | None

    @classmethod
    def of(cls, own: Target, target: Target) -> ModelFacts:
        """Return those of a model that drafts for a target."""
        moves = isinstance(own, MovesRows) and own.moves_rows
        fingerprint = own.fingerprint if isinstance(own, HasFingerprint) else None
        return cls(share_of_weights(own, target), _identity(own), moves, fingerprint)


def share_of_weights(own: Target, target: Target) -> float:
    """Return the weights that a pass of the draft model reads over those of the target's, by number and not by size.

    1 if a target does not tell: too much rather than too little.
    """
    weights = [
        part.pass_bytes([]) / part.dtype.itemsize
        for part in (own, target)
        if isinstance(part, MeasuredTarget) and isinstance(part, HasDtype)
    ]
    return weights[0] / weights[1] if len(weights) == 2 else 1.0


def _identity(own: Target) -> str:
    """Return what tells the costs of one draft model from those of another."""
    facts = dict(own.pass_identity()) if isinstance(own, HasPassIdentity) else {"model": name_of(own)}
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:8]
