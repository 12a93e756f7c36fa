"""The checks above see what they are there to see: each planted bug makes them fail, on both kinds of target."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable

import pytest
import torch
from support.building import (
    Oracle,
    assert_lossless,
    decode_with,
    family_oracle,
    table_target,
    target_oracle,
    transformers_target,
)
from support.drafters import ScriptedDrafter
from support.thorough import thorough_but
from torch import Tensor

from orthrus import BuildError, Stop, Target
from orthrus.batch import commit
from orthrus.testing import OracleAnswer
from orthrus_caches import dynamic
from orthrus_caches.dynamic import DynamicCache
from orthrus_transformers.engines.eager import EagerEngine
from orthrus_transformers.engines.forward_pass import ForwardPass

Plant = Callable[[pytest.MonkeyPatch], None]
TRIALS = 8


def anchor_position_off_by_one(patch: pytest.MonkeyPatch) -> None:
    own_place, run = DynamicCache.place, EagerEngine.run

    def mispositioned(self: EagerEngine, forward_pass: ForwardPass) -> Tensor:
        shift = int(forward_pass.lengths.max() > 0)  # not in the prefill
        patch.setattr(DynamicCache, "place", own_place)
        slots, extent = forward_pass.placed() + shift, forward_pass.extent + shift
        return run(self, dataclasses.replace(forward_pass, slots=slots, extent=extent))

    def misplaced(self: DynamicCache, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        shift = int(self.lengths.max() > 0)
        return own_place(self, slots + shift, extent + shift, rows)

    patch.setattr(EagerEngine, "run", mispositioned)
    patch.setattr(DynamicCache, "place", misplaced)  # for targets without an engine


def a_stale_token_after_a_rejection(patch: pytest.MonkeyPatch) -> None:
    find = commit.find_anchors

    def stale(tokens: Tensor, lengths: Tensor) -> Tensor:
        beyond = lengths[:, None].clamp(max=tokens.shape[1] - 1)
        leftover = tokens.gather(1, beyond)[:, 0]  # what a rejected draft left behind, if it did
        return torch.where(leftover != 0, leftover, find(tokens, lengths))

    patch.setattr(commit, "find_anchors", stale)


def rows_swapped_after_ragged_acceptance(patch: pytest.MonkeyPatch) -> None:
    keep = DynamicCache.keep

    def swap(self: DynamicCache, lengths: Tensor) -> None:
        steps = lengths - self.lengths
        keep(self, lengths)
        if len(set(steps.tolist())) > 1:
            for held in (buffer for buffers in self.buffers for buffer in buffers):
                held.copy_(held.flip(0))

    patch.setattr(DynamicCache, "keep", swap)


def a_rejected_key_is_kept(patch: pytest.MonkeyPatch) -> None:
    put = dynamic.put

    def put_once(buffer: Tensor, states: Tensor, slots: Tensor, rows: Tensor | None, extent: int) -> Tensor:
        before = buffer.clone()
        put(buffer, states, slots, rows, extent)
        buffer.copy_(torch.where((before != 0).any(-1, keepdim=True), before, buffer))
        return buffer[slice(None) if rows is None else rows, :, :extent]

    patch.setattr(dynamic, "put", put_once)


def a_refilled_row_keeps_its_old_keys(patch: pytest.MonkeyPatch) -> None:
    own_place, own_adjacent = DynamicCache.place, DynamicCache.place_adjacent

    def misplace(self: DynamicCache, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        return own_place(self, slots, extent, rows if rows is None else (rows + 1) % len(self.lengths))

    def misplace_adjacent(self: DynamicCache, slots: Tensor, extent: int, first: int) -> int:
        return own_adjacent(self, slots, extent, (first + 1) % (len(self.lengths) - len(slots) + 1))

    patch.setattr(DynamicCache, "place", misplace)
    patch.setattr(DynamicCache, "place_adjacent", misplace_adjacent)


BUGS: list[Plant] = [
    anchor_position_off_by_one,
    a_stale_token_after_a_rejection,
    rows_swapped_after_ragged_acceptance,
    a_rejected_key_is_kept,
    a_refilled_row_keeps_its_old_keys,
]


CASES = [
    (
        [[chooser.randrange(1, 4) for _ in range(chooser.randrange(1, 8))] for _ in range(3)],
        seed,
    )
    for seed, chooser in [(seed, random.Random(seed)) for seed in range(TRIALS)]
]
STOP = Stop(10)


@functools.cache
def answers_of(oracle: Oracle) -> list[list[OracleAnswer]]:
    return [[oracle(prompt, STOP) for prompt in prompts] for prompts, _ in CASES]


def check(target: Target, oracle: Oracle) -> None:
    """Assert that every case is lossless with ragged drafts that are mostly right."""
    for (prompts, seed), answers in zip(CASES, answers_of(oracle), strict=True):
        truths = [answer.token_ids for answer in answers]
        drafter = ScriptedDrafter(truths, target.vocabulary_size, 0.7, [1, 2, 3, 5], seed)
        assert_lossless(decode_with(target, drafter, prompts, STOP, batch=2), answers)


TARGETS: dict[str, tuple[Callable[[], Target], Oracle]] = {
    "model": (transformers_target, family_oracle("llama")),
    "table": (lambda: table_target(3), target_oracle(table_target(3))),
}


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
@pytest.mark.parametrize("kind", thorough_but(["table"], TARGETS))
def test_a_planted_bug_is_seen(bug: Plant, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, oracle = TARGETS[kind]
    target = make()  # before the bug, or the probe at loading would refuse it
    check(target, oracle)
    bug(monkeypatch)
    with pytest.raises(AssertionError):
        check(target, oracle)


@pytest.mark.parametrize("bug", [anchor_position_off_by_one, a_rejected_key_is_kept], ids=lambda bug: bug.__name__)
def test_the_probe_refuses_a_target_that_is_off(bug: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    with pytest.raises(BuildError, match="does not give its own logits"):
        transformers_target("llama")
