"""Checks of every draw of a drafter, draft by draft, and of the passes that it says it took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.reference.cache import PlainCache
from orthrus.reference.view_table import ViewTableTarget
from orthrus.testing.check import BrokenRuleError, Factory, check
from orthrus.testing.checks.contracts import make_drafter
from orthrus.testing.doubles.chances import NotedChance
from orthrus.testing.doubles.spies import WatchedDrafter, decoded
from orthrus.testing.doubles.verifiers import Dictated
from orthrus.testing.scenes import Scene, ladder
from orthrus.values import Draft

NEAR = 1e-3  # in logarithms of probabilities: of what is reported in float32
PROMPTS = tuple((row % 4, row % 3, 1, row % 2)[: 1 + row % 4] for row in range(12))
# Peaked and even tables, long texts, drafts of more than 32 tokens, and a vocabulary in which halves are too coarse.
DRAWS = [
    Scene(seed=1, prompts=((0, 1),), max_new_tokens=6, temperature=0.8),
    Scene(seed=2, prompts=PROMPTS[:5], max_new_tokens=60, temperature=1.3, top_k=3),
    Scene(seed=3, prompts=PROMPTS, max_new_tokens=60, temperature=0.8, spread=6.0),
    Scene(seed=4, prompts=PROMPTS, max_new_tokens=30, temperature=0.9, vocabulary=4200, order=1, states=8),
]


@check("drafter", DRAWS)
def every_draw_is_reported(make: Factory, scene: Scene) -> None:
    """Each token is what its reported probabilities give: the argmax of their logarithm and its own noise, or a draw.

    Noise is that of the row's request and of the place where the token will stand. What is drawn otherwise was drawn
    from what is reported, also where that is small.
    """
    target, chance = scene.target(), NotedChance(scene.seed)

    def look(context: Context, draft: Draft) -> None:
        if draft.probabilities is not None and draft.tokens.shape[1]:
            _hold_draws(context, draft, chance)
        chance.next_draft()

    decoded(scene, target, WatchedDrafter(make_drafter(make, target), look), Dictated(scene.seed), chance)


def _hold_draws(context: Context, draft: Draft, chance: NotedChance) -> None:
    assert draft.probabilities is not None
    vocabulary, width = context.vocabulary_size, min(draft.tokens.shape[1], context.max_room)
    if not chance.makes_noise and not chance.draws(vocabulary):
        return  # drawn from choices of its own, which cannot be compared token by token
    places = torch.arange(width, device=context.device) < draft.lengths[:, None]
    wrong = places
    reported = draft.probabilities[:, :width].double()
    if chance.makes_noise:
        noise = chance.noise_of(context, width)
        if draft.paths is not None:  # those of a place of the text have the same, whose depth it is
            depths = draft.paths.depths[:, 1 : width + 1] - 1  # [B, width], of drafts alone
            noise = noise.gather(1, depths[..., None].expand_as(noise))
        scores = reported.log() + noise
        own = scores.gather(-1, draft.tokens[:, :width, None])[..., 0]
        wrong = places & ~(own >= scores.amax(-1) - NEAR)
    for row, place in wrong.nonzero().tolist():
        token, given = int(draft.tokens[row, place]), reported[row, place]
        candidates = chance.drawn(token, vocabulary)
        if not any(_same(given, candidate) for candidate in candidates):
            how = "the noise of its place gives another token" if not candidates else "no draw was from these"
            at = f"place {place} of the draft of row {row}, cycle {context.cycle + 1}"
            raise BrokenRuleError(f"token {token}, reported with probability {float(given[token]):.4g}: {how}", at)


def _same(reported: Tensor, drawn: Tensor) -> bool:
    """Tell whether two distributions [V] are equal, also where they are small."""
    apart = (reported - drawn).abs() > NEAR * torch.maximum(reported, drawn) + 1e-12
    return not bool(apart.any())


@check("drafter", [*ladder(5), *ladder(3, temperature=0.8)])
def passes_are_counted(make: Factory, scene: Scene) -> None:
    """A draft reports no fewer passes than it took of the target since the draft before: `tpf` is of them."""
    target = _Counting(scene.table(), PlainCache(), max_length=scene.max_length)

    def look(context: Context, draft: Draft) -> None:
        taken, target.taken = target.taken, 0
        if draft.passes < taken:
            raise BrokenRuleError(
                f"{draft.passes} passes are reported, {taken} were taken", f"cycle {context.cycle + 1}"
            )

    drafter = _Beginning(make_drafter(make, target), look)
    drafter.target = target
    decoded(scene, target, drafter, Dictated(scene.seed))


class _Counting(ViewTableTarget):
    """Count the passes that are asked for beside the loop's own."""

    taken = 0

    def forward(self, *given: Any, **how: Any) -> Tensor:
        self.taken += 1
        return super().forward(*given, **how)

    def logits(self, token_ids: Sequence[int], last: int) -> Tensor:
        self.taken += 1
        return super().logits(token_ids, last)


class _Beginning(WatchedDrafter):
    """Forget what was counted when rows begin: what was drafted ahead for those before them is no draft's."""

    target: _Counting

    def start(self, context: Context, rows: Sequence[int]) -> None:
        super().start(context, rows)
        self.target.taken = 0


DRAFTER_DRAWS = (every_draw_is_reported, passes_are_counted)
