"""A verifier that records what the wrapped verifier saw: per token the argmax, the score and the gap.

Whether a token is the argmax of the logits that the run itself saw is worked out from the logits. A run without a
recording verifier pays nothing for it. B: rows, n: width of a draft, V: size of the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from orthrus.accepted_path import AcceptedPath
from orthrus.batch.context import Context
from orthrus.chance import Chance
from orthrus.errors import InputError
from orthrus.interfaces import Verifier
from orthrus.machine import precise
from orthrus.optional import is_coupled
from orthrus.sampling import add_noise, append_bonus
from orthrus.trees import verifies_trees
from orthrus.values import Draft, Result, Verdict

AT_ONCE = 4096  # notes that are fetched from the device together


@dataclass(frozen=True)
class TokenRecord:
    """One token as a run saw it: the argmax of its scores, by how much the token's is less, and the token's."""

    token: int
    argmax: int
    gap: float
    value: float


class RecordingVerifier:
    """A wrapped verifier, of which every step is noted on the device, without a host sync."""

    def __init__(self, verifier: Verifier) -> None:
        self.greedy = verifier.greedy
        self.coupled = is_coupled(verifier)
        self.verifies_trees = verifies_trees(verifier)
        self._verifier = verifier
        self._notes: list[tuple[list[int], Tensor]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._verifier, name)

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        """Return the verifier's verdict; raise InputError if it changed the logits, which are not its own.

        The scores are a copy of before: a write through `.data` raises no version.
        """
        version, scores = logits._version, _scores(context, draft, logits, chance)
        verdict = self._verifier.verify(context, draft, logits, chance)
        if logits._version != version:
            name = type(self._verifier).__name__
            raise InputError(f"verifier '{name}' changed the logits that it was handed, so nothing can be said of them")
        note = _note(context, draft, verdict, scores)
        self._notes.append(([row.request for row in context.rows], note))
        return verdict

    def seen(self, results: Sequence[Result]) -> list[dict[int, TokenRecord]]:
        """Return for each answer, in the order of the prompts, what was seen of its tokens, by their places.

        What was noted last of a place counts: rows that take no part in a step are noted, too, and again when they do.
        """
        records: list[dict[int, TokenRecord]] = [{} for _ in results]
        starts = [len(result.prompt_token_ids) for result in results]
        for requests, rows in self._fetched():
            for request, row in zip(requests, rows, strict=True):
                if request >= 0:  # a row that no request has had is in passes for their shape alone
                    records[request].update(_read(row, starts[request]))
        return records

    def _fetched(self) -> Sequence[tuple[list[int], list[list[float]]]]:
        fetched = []
        for first in range(0, len(self._notes), AT_ONCE):
            notes = self._notes[first : first + AT_ONCE]
            values = torch.cat([note.flatten() for _, note in notes]).cpu()
            parts = torch.split(values, [note.numel() for _, note in notes])
            for (requests, note), part in zip(notes, parts, strict=True):
                fetched.append((requests, part.view(note.shape).tolist()))
        return fetched


def of_token(seen: Mapping[int, TokenRecord], index: int, token: int) -> TokenRecord:
    """Return what was seen of a token, or that nothing was."""
    record = seen.get(index)
    return record if record is not None and record.token == token else TokenRecord(token, -1, math.nan, math.nan)


def _scores(context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Tensor:
    """Return a copy of what the argmax is to be of [B, n + 1, V]: processed logits, above temperature 0 with noise."""
    if not context.settings.draws:
        return logits.clone()
    return add_noise(context, logits, chance, paths=draft.paths)


def _note(context: Context, draft: Draft, verdict: Verdict, scores: Tensor) -> Tensor:
    """Return [B, 2 + 4 (n + 1)]: length, accepted, and of each token itself, the argmax, its gap and its score."""
    drafted = draft.tokens
    if draft.paths is not None:  # what was seen along the accepted path
        path = AcceptedPath.of(draft, verdict)
        drafted, scores = path.tokens, path.along(scores)
    tokens = append_bonus(drafted, verdict.accepted, verdict.next_tokens)  # [B, n + 1]
    largest, argmax = scores.max(-1)
    values = scores.gather(-1, tokens[..., None])[..., 0]
    columns = [context.lengths[:, None], verdict.accepted[:, None], tokens, argmax, largest - values, values]
    return torch.cat([column.to(precise(scores.device)) for column in columns], dim=1)


def _read(row: Sequence[float], start: int) -> dict[int, TokenRecord]:
    """Return what one row of a note says, by the place in the answer."""
    first, accepted, width = int(row[0]) - start, int(row[1]), (len(row) - 2) // 4
    tokens, argmax, gaps, values = (row[2 + width * part : 2 + width * (part + 1)] for part in range(4))
    return {
        first + index: TokenRecord(int(tokens[index]), int(argmax[index]), gaps[index], values[index])
        for index in range(min(accepted + 1, width))
    }
