"""Facts of a draft model that its drafter goes by: those that another process can be told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

from orthrus import Target
from orthrus.drafter_models.whole_weights import weight_bytes_of
from orthrus.optional import HasDtype, HasFingerprint, HasPassIdentity, MovesRows, name_of


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

    Of a model that several processes share all of its weights count, so that all say what one process would. 1 if a
    target does not tell: too much rather than too little.
    """
    counts = [_weights_of(part) for part in (own, target)]
    return 1.0 if counts[0] is None or counts[1] is None else counts[0] / counts[1]


def _weights_of(part: Target) -> float | None:
    """Return how many weights a pass reads; None: it does not tell."""
    read = weight_bytes_of(part)
    return read / part.dtype.itemsize if read is not None and isinstance(part, HasDtype) else None


def _identity(own: Target) -> str:
    """Return what tells the costs of one draft model from those of another."""
    facts = dict(own.pass_identity()) if isinstance(own, HasPassIdentity) else {"model": name_of(own)}
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:8]
