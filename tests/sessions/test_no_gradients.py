"""No part is asked with autograd on, however decoding is begun: whoever keeps states would keep graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from support.building import table_target

from orthrus import Chance, Context, Decoder, Draft, Step, Stop
from orthrus_drafters.none import NoDrafter
from orthrus_verifiers.consensus import Consensus


def answered(decoder: Decoder) -> None:
    session = decoder.session(2)
    session.add([1, 2])
    list(session)


WAYS: dict[str, Callable[[Decoder], object]] = {
    "generate": lambda decoder: decoder.generate([[1, 2]], batch=1),
    "stream": lambda decoder: list(decoder.stream([1, 2])),
    "steps": lambda decoder: list(decoder.steps([[1, 2]])[1]),
    "session": answered,
}


class Watching(NoDrafter):
    """Note whether gradients are on wherever the loop asks."""

    def __init__(self) -> None:
        self.noted: set[tuple[str, bool]] = set()

    def _note(self, where: str) -> None:
        self.noted.add((where, torch.is_grad_enabled()))

    def start(self, context: Context, rows: Sequence[int]) -> None:
        self._note("start")

    def propose(self, context: Context, chance: Chance) -> Draft:
        self._note("propose")
        return super().propose(context, chance)

    def observe(self, step: Step) -> None:
        self._note("observe")


@pytest.mark.parametrize("way", WAYS)
def test_gradients_are_off(way: str) -> None:
    drafter = Watching()
    with torch.enable_grad():
        WAYS[way](Decoder.of(table_target(), drafter, Consensus(), Stop(4)))
    assert drafter.noted == {("start", False), ("propose", False), ("observe", False)}
