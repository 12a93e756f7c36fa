"""States of recurrent layers forget rejected drafts: ragged rows in batches have the unmodified model's own text."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from support.building import assert_held, decode_with, family_oracle, transformers_target
from support.drafters import ScriptedDrafter
from support.families import RECURRENT, VOCABULARY
from support.thorough import nightly_but

from orthrus import Drafter, Result, Stop
from orthrus_drafters.none import NoDrafter
from orthrus_transformers.target import TransformersTarget

PROMPTS = [
    [chooser.randrange(1, VOCABULARY) for _ in range(length)]
    for chooser in [random.Random(1)]
    for length in (4, 11, 1, 4)
]
STOP = Stop(12)


def plain(family: str, target: TransformersTarget) -> list[Result]:
    """Return what the target decodes without drafts, held to the unmodified model's own text."""
    results = decode_with(target, NoDrafter(), PROMPTS, STOP)
    assert_held(results, family_oracle(family), PROMPTS, STOP)
    return results


def scripted(results: Sequence[Result], right: float) -> Drafter:
    """Return a drafter that proposes these texts, of whose tokens such a share is right."""
    return ScriptedDrafter([result.token_ids for result in results], VOCABULARY, right, [0, 2, 5])


def assert_same(results: Sequence[Result], expected: Sequence[Result]) -> None:
    assert [result.token_ids for result in results] == [result.token_ids for result in expected]


@pytest.mark.parametrize("family", nightly_but(["qwen3_next"], RECURRENT, thorough=["mamba", "mamba2"]))
def test_drafts_that_are_rejected_leave_nothing_behind(family: str) -> None:
    target = transformers_target(family, chunk=4)
    expected = plain(family, target)
    for batch in (None, 2):
        assert_same(decode_with(target, scripted(expected, 0.6), PROMPTS, STOP, batch=batch), expected)
