"""Logits in parts: what is made of all parts together is what is made of the whole."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, cast

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from orthrus.ranks.group import RankGroup
from orthrus_transformers.model.part_logits import PartLogits

VALUES = [0.0, -0.0, 1.0, 1.0 + 2**-23, 5.0, -7.0, math.inf, -math.inf, math.nan]


class Exchange:
    """Ranks that are threads: each gets what all have."""

    def __init__(self, count: int) -> None:
        self.barrier, self.parts = threading.Barrier(count, timeout=20), [torch.empty(0)] * count

    def of(self, rank: int) -> RankGroup:
        exchange = self

        class Rank:
            def __init__(self) -> None:
                self.rank = rank

            def gathered(self, part: Tensor) -> Tensor:
                exchange.parts[rank] = part
                exchange.barrier.wait()
                every = torch.stack(exchange.parts)
                exchange.barrier.wait()
                return every

        return cast(RankGroup, Rank())


def on_all_ranks(whole: Tensor, count: int, make: Callable[[PartLogits], Any]) -> list[Any]:
    """Return what each rank makes of its part; beyond the vocabulary parts hold what is larger than anything."""
    vocabulary = whole.shape[-1]
    width = -(-vocabulary // count)
    padded = torch.nn.functional.pad(whole, (0, width * count - vocabulary), value=math.inf)
    exchange, made = Exchange(count), [None] * count

    def run(rank: int) -> None:
        part = padded[..., rank * width : (rank + 1) * width]
        made[rank] = make(PartLogits(exchange.of(rank), part, vocabulary))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return made


@st.composite
def wholes(draw: st.DrawFn, values: list[float] = VALUES) -> Tensor:
    """Return logits [R, n, V] with many that are equal."""
    rows, columns, vocabulary = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 11))
    count = rows * columns * vocabulary
    numbers = draw(st.lists(st.sampled_from(values), min_size=count, max_size=count))
    return (
        torch.tensor(numbers)
        .to(draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float64])))
        .view(rows, columns, vocabulary)
    )


@given(wholes(), st.sampled_from([1, 2, 4]))
def test_the_argmax_is_that_of_the_whole(whole: Tensor, count: int) -> None:
    for made in on_all_ranks(whole, count, PartLogits.argmax):
        assert torch.equal(made, whole.argmax(-1))


@given(wholes(), st.sampled_from([1, 2, 4]), st.integers(1, 12))
def test_the_likeliest_are_those_of_the_whole(whole: Tensor, count: int, wanted: int) -> None:
    expected = whole.topk(min(wanted, whole.shape[-1]), dim=-1).values
    ranks = on_all_ranks(whole, count, lambda logits: logits.likeliest(wanted))
    for best in ranks:
        torch.testing.assert_close(best.logits, expected, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(whole.gather(-1, best.tokens), expected, rtol=0, atol=0, equal_nan=True)
        assert torch.equal(best.tokens, ranks[0].tokens)
        in_order = best.tokens.sort(-1).values
        assert bool((in_order[..., 1:] > in_order[..., :-1]).all()), "no token comes twice"


@given(wholes([0.0, 1.0, 5.0, -7.0, -math.inf]), st.sampled_from([1, 2, 4]))
def test_the_normalizer_is_that_of_the_whole(whole: Tensor, count: int) -> None:
    wide = whole if whole.dtype == torch.float64 else whole.float()
    for made in on_all_ranks(whole, count, PartLogits.normalizer):
        torch.testing.assert_close(made, wide.logsumexp(-1))
