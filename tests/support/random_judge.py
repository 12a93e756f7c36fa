"""The judge of random cells: each token of an answer against a cache-free oracle in float64, its end, text and counts.

The oracle is the unmodified model with the run's own weights in float64: a pass over a whole text, no cache, no batch.
Every token of every answer is judged, given the tokens before it: it is the oracle's choice, or its score is less by no
more than the dtype explains. That is twice the largest distance, over the answer's places and the ten likeliest tokens
of each, of the logits that the unmodified model gives in the run's dtype from those that it gives in float64, and in 16
bits four times. In float64 it is 1e-9; 1e-4 with fused layers, as the model's own norms are in float32 and theirs are
not; 1e-3 for models whose layers scan in float32. Where top-k, top-p or min-p cut, or a penalty weighs, the oracle does
the same with its own logits. A token that ties with the last one that a cut keeps, within the bound, is kept, too.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from orthrus import Sampling
from orthrus.chance import Chance, request_key
from orthrus.testing import processed
from support.families import RECURRENT, VOCABULARY, tiny_model
from support.random_reports import report_faults, score_faults
from support.sessions import Answered, Asked

CONTENDERS = 10
EXACT, FUSED, SCANNED, SCORED = 1e-9, 1e-4, 1e-3, 1e-5  # scores are kept in float32
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Judge:
    """What the answers of a cell are held to. possible: tokens are drawn anew, and need but be possible."""

    family: str
    dtype: str
    fused: bool
    possible: bool
    seed: int

    def faults(self, asked: Asked, answer: Answered) -> tuple[int, list[str]]:
        """Return how many tokens are near-ties, and what is wrong with an answer."""
        assert answer.result is not None, "a request has ended once nothing is pending"
        wrong, tokens = report_faults(asked, answer), answer.result.token_ids
        if not tokens:
            return 0, wrong
        exact = self._logits(torch.float64, asked.prompt, tokens)
        apart = (exact - self._logits(DTYPES[self.dtype], asked.prompt, tokens)).abs()
        error = float(apart.gather(-1, exact.topk(CONTENDERS, -1).indices).max())
        least = SCANNED if self.family in RECURRENT else FUSED if self.fused else EXACT
        bound = max(least, (4 if self.dtype == "bfloat16" else 2) * error)
        gaps = self._gaps(asked, tokens, exact, bound := bound * _weight(asked.sampling))
        wrong += score_faults(asked, answer.result, exact, max(SCORED, bound, 4 * float(apart.max())))
        wrong += [
            f"token {index}: {token} is {gap:.3g} below, bound {bound:.3g}"
            for index, (token, gap) in enumerate(zip(tokens, gaps, strict=True))
            if gap > bound
        ]
        return sum(0 < gap <= bound for gap in gaps), wrong

    def _gaps(self, asked: Asked, tokens: Sequence[int], exact: Tensor, bound: float) -> list[float]:
        """Return by how much each token's score is less than the oracle's choice's."""
        gaps = []
        for index, token in enumerate(tokens):
            scores = with_ties(asked, exact[index], tokens[: index + 1], bound)
            if self.possible and asked.sampling.temperature > 0:
                gaps.append(0.0 if float(scores[token]) > float("-inf") else float("inf"))
                continue
            scores = scores + self._noise(asked, len(asked.prompt) + index)
            gaps.append(float(scores.max() - scores[token]) * (asked.sampling.temperature or 1.0))
        return gaps

    def _noise(self, asked: Asked, position: int) -> Tensor:
        if asked.sampling.temperature == 0:
            return torch.zeros(VOCABULARY)
        keys, places = torch.tensor([request_key(asked.id)]), torch.tensor([[position]])
        chance = Chance(self.seed if asked.seed is None else asked.seed)
        return chance.gumbel(keys, places, VOCABULARY)[0, 0].double()

    def _logits(self, dtype: torch.dtype, prompt: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """Return the logits before each token of the answer, [T, V], in float64."""
        text = torch.tensor([[*prompt, *tokens[:-1]]])
        with torch.no_grad():
            logits: Tensor = _model(self.family, self.dtype, dtype)(text, use_cache=False).logits
        return logits[0, len(prompt) - 1 :].double()


def with_ties(asked: Asked, logits: Tensor, output: Sequence[int], bound: float) -> Tensor:
    """Return the processed logits [V] before the last token, which counts as kept if it ties with the last one kept."""
    *before, token = output
    scores = processed(logits, asked.prompt, before, asked.stop, asked.sampling)
    uncut = dataclasses.replace(asked.sampling, top_k=None, top_p=1.0, min_p=0.0)
    whole = processed(logits, asked.prompt, before, asked.stop, uncut)
    if float(whole[token]) >= float(whole[scores > float("-inf")].min()) - bound:
        scores[token] = whole[token]
    return scores


def _weight(sampling: Sampling) -> float:
    """Return by how much settings may enlarge a difference of logits."""
    return max(1.0, sampling.repetition_penalty, 1 / sampling.repetition_penalty)


@functools.lru_cache(maxsize=8)
def _model(family: str, weights: str, dtype: torch.dtype) -> Any:
    """Return the unmodified model, its weights rounded as the run's are."""
    return tiny_model(family, dtype=DTYPES[weights]).to(dtype)
