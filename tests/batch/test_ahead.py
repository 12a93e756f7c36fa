"""What a drafter may do in `ahead`, before the host knows what a cycle committed: launch work, and no more."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.building import table_target
from support.recordings import recording_target
from support.views import random_view
from torch import Tensor

from orthrus import Chance, Context, Decoder, Draft, DraftError, RowState, Stop, run_draft_pass
from orthrus.testing import PlainConsensus


class Ahead:
    """Propose one wrong token a row, and do something in `ahead`."""

    name, needs, learns = "early", frozenset[str](), False

    def start(self, context: Context, rows: Any) -> None: ...

    def observe(self, step: Any) -> None: ...

    def propose(self, context: Context, chance: Chance) -> Draft:
        return Draft(torch.zeros_like(context.anchors)[:, None], context.room.clamp(max=1))


def texts(drafter: Any) -> list[tuple[int, ...]]:
    decoder = Decoder.of(table_target(), drafter, PlainConsensus(), Stop(9))
    return [result.token_ids for result in decoder.generate([[1, 2], [3]], batch=2)]


@pytest.mark.parametrize("name", ["anchors", "lengths", "room", "tokens"])
def test_it_may_not_write_the_context(name: str) -> None:
    class Writes(Ahead):
        def ahead(self, context: Context, chance: Chance) -> None:
            getattr(context, name).zero_()

    with pytest.raises(DraftError, match=rf"drafter 'early' changed context\.{name} in cycle 1"):
        texts(Writes())


@pytest.mark.parametrize("value", [4, None])
def test_an_attribute_of_that_name_that_is_no_method_is_not_called(value: Any) -> None:
    class Number(Ahead):
        ahead = value

    assert texts(Number()) == texts(Ahead())


def test_a_wrong_draft_that_was_written_over_since_is_told() -> None:
    class Reuses(Ahead):
        def __init__(self) -> None:
            self.buffer = torch.full((2, 1), 10**6)

        def propose(self, context: Context, chance: Chance) -> Draft:
            return Draft(self.buffer, context.room.clamp(max=1))

        def ahead(self, context: Context, chance: Chance) -> None:
            self.buffer.zero_()

    with pytest.raises(DraftError, match=r"drafter 'early' proposed something wrong for row 0, and has written over"):
        texts(Reuses())


class Unhashable:
    """Be a draft pass that no engine can tell from others."""

    __hash__ = None  # type: ignore[assignment]
    width, spare = 3, False

    def tokens(self, rows: RowState) -> Tensor:
        return rows.anchors[:, None].expand(-1, 3)

    def positions(self, rows: RowState) -> Tensor:
        return rows.lengths[:, None] - 1 + torch.arange(3)

    def result(self, rows: RowState, logits: Tensor) -> Tensor:
        return logits.argmax(-1)


def test_a_draft_pass_that_has_no_hash_is_one_sentence() -> None:
    target = recording_target()
    random_view(target, "noisy", noise=0.02)

    class Drafter(Ahead):
        def propose(self, context: Context, chance: Chance) -> Draft:
            return Draft(run_draft_pass(target, context, Unhashable(), view="noisy"), context.room.clamp(max=2))

    with pytest.raises(DraftError, match=r"draft pass 'Unhashable' has no hash; make it a frozen dataclass"):
        Decoder.of(target, Drafter(), PlainConsensus(), Stop(9)).generate([[1, 2]])
