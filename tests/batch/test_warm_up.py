"""Warming up: what is recorded before the first answer is nearly all that answers need, and it changes none."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import torch
from support.building import assert_held, decode_with, family_oracle, table_target
from support.families import VOCABULARY
from support.recordings import recording_target
from support.views import random_view

import orthrus
from orthrus import Chance, Context, Decoder, Draft, InputError, Stop
from orthrus.settings import WarmUp
from orthrus.warm_up import shapes, warm_up
from orthrus_diffusion.drafter import Diffusion
from orthrus_drafters.none import NoDrafter
from orthrus_verifiers.consensus import Consensus

LONGEST = 90  # tokens of a text, of the 96 that the tiny models have positions for
TABLE = "configs/recipes/table-prompt-lookup.yaml"


def plain() -> Decoder:
    """Return a decoder of a table, which is warmed up in no time."""
    return Decoder.of(table_target(), NoDrafter(), Consensus(), Stop(20))


@pytest.mark.thorough  # some hundred decodings
def test_hardly_anything_is_left_to_record() -> None:
    """What is left comes of acceptance: a block that is launched ahead is as wide as rows may have room for by then."""
    target, chance = recording_target(slots=64), random.Random(0)
    random_view(target, "noisy", noise=0.02)
    decoder = Decoder.of(target, Diffusion(target, 4, VOCABULARY - 1, "noisy", early=True), Consensus(), Stop(20))
    assert warm_up(decoder, WarmUp(rows=2, tokens=LONGEST, seconds=1e6)).done == 4
    engine: Any = target.engine
    recorded = set(engine.recordings)
    for _ in range(40):
        prompts = [chance.choices(range(VOCABULARY), k=chance.randint(1, 40)) for _ in range(chance.randint(1, 3))]
        stop = Stop(chance.randint(1, 40))
        results = decode_with(target, decoder.drafter, prompts, stop, batch=chance.choice([1, 2]))
        assert_held(results, family_oracle("llama"), prompts, stop)
    assert len(recorded) > 30
    assert len(set(engine.recordings) - recorded) <= 5


def test_lengths_double_up_to_the_longest_and_rows_up_to_the_next_power_of_two() -> None:
    assert shapes(plain(), WarmUp(rows=3, tokens=200)) == list(itertools.product([1, 2, 4], [32, 48, 64, 96, 128, 152]))
    assert shapes(plain(), WarmUp(rows=0)) == []


def test_no_decoding_is_begun_after_the_time() -> None:
    ticks = itertools.count()
    seen: list[tuple[int, int]] = []
    report = warm_up(plain(), WarmUp(rows=1, seconds=7.0), seen.append, lambda: float(next(ticks)))
    assert report.done == len(seen) < report.planned
    assert report.seconds == pytest.approx(9.0, abs=1.0)


def test_a_recipe_warms_up_and_says_when_the_time_was_too_short() -> None:
    said: list[str] = []
    decoder = orthrus.load(TABLE, warm_up={"rows": 2, "tokens": 80}, notify=said.append)
    assert said == []
    assert decoder.generate(["abc"])[0].token_ids == orthrus.load(TABLE).generate(["abc"])[0].token_ids
    orthrus.load(TABLE, warm_up={"rows": 1, "seconds": 0}, notify=said.append)
    assert len(said) == 1 and "set warm_up.seconds" in said[0]


def test_a_context_without_room_is_refused() -> None:
    with pytest.raises(InputError, match="at most 40 tokens, and 49 are needed"):
        warm_up(Decoder.of(recording_target(positions=40), NoDrafter(), Consensus(), Stop(4)), WarmUp(rows=1))


@pytest.mark.parametrize("widest", [4, pytest.param(40, marks=pytest.mark.thorough)])
def test_no_answer_is_longer_than_there_is_room_for(widest: int) -> None:
    """However wide drafts are: a cache of bounded slots would refuse it, and larger buffers lose what was captured."""
    target = table_target()
    lengths: list[int] = []

    class Wide(NoDrafter):
        def propose(self, context: Context, chance: Chance) -> Draft:
            lengths.append(max(row.length + row.room for row in context.rows))
            width = min(widest, context.max_room)
            tokens = torch.zeros(len(context.rows), width, dtype=torch.int64)
            return Draft(tokens, context.room.clamp(max=width))

    warm_up(Decoder.of(target, Wide(), Consensus(), Stop(20)), WarmUp(rows=1, tokens=100))
    assert max(lengths) == 100
