"""Ragged rows of every family, past its window, equal the unmodified model's own greedy text."""

from __future__ import annotations

import itertools
import random

import pytest
from support.building import assert_lossless, decode_with, family_oracle, transformers_target
from support.drafters import ScriptedDrafter
from support.families import FAMILIES, FEW, NEEDS_EAGER, VOCABULARY, WINDOW, attention_for
from support.thorough import nightly_but

from orthrus import BuildError, Stop

STOP = Stop(max_new_tokens=10)


OWN = [(family, attention_for(family)) for family in FAMILIES]
EVERY_TIME = [case for case in OWN if case[0] in FEW]
REFUSED = ("gemma2", "sdpa")
CASES = list(itertools.product(FAMILIES, ("sdpa", "eager")))


@pytest.mark.parametrize(("family", "attention"), nightly_but([*EVERY_TIME, REFUSED], CASES, thorough=OWN))
def test_family(family: str, attention: str) -> None:
    if attention == "sdpa" and family in NEEDS_EAGER:
        with pytest.raises(BuildError, match=r"attention.*set attention.name=eager"):
            transformers_target(family, attention=attention)
        return
    chooser = random.Random(family)
    prompts = [[chooser.randrange(VOCABULARY) for _ in range(length)] for length in (3, WINDOW + 7, 1)]
    answers = [family_oracle(family)(prompt, STOP) for prompt in prompts]
    target = transformers_target(family, chunk=4, attention=attention)
    drafter = ScriptedDrafter([answer.token_ids for answer in answers], VOCABULARY, 0.7, [0, 3, 6])
    assert_lossless(decode_with(target, drafter, prompts, STOP), answers)
