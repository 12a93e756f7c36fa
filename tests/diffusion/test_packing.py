"""Rows of texts: each once an epoch, nothing overlaps, anchors lie in answers, and steps can be begun anywhere."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orthrus import InputError
from orthrus.testing.profiles import fewer
from orthrus_diffusion.training.packing import Batch, Packer
from orthrus_diffusion.training.shards import Text

LENGTH = 32


@st.composite
def texts(draw: st.DrawFn) -> list[Text]:
    """Return texts whose tokens all differ, so that each token tells which text it is of."""
    lengths = draw(st.lists(st.integers(2, 40), min_size=1, max_size=12))
    counter = itertools.count(1)
    texts_of_answers = []
    for length in lengths:
        tokens = torch.tensor([next(counter) for _ in range(length)], dtype=torch.int32)
        texts_of_answers.append(Text(tokens, draw(st.integers(0, length - 1))))
    return texts_of_answers


def usable(texts_of_answers: list[Text]) -> list[Text]:
    return [text for text in texts_of_answers if min(len(text), LENGTH) - text.answer >= 2]


def packer(
    texts_of_answers: list[Text], anchors: int = 4, rows: int = 2, seed: int = 0, longest: int | None = None
) -> Packer:
    return Packer(texts_of_answers, LENGTH, anchors, rows, seed, longest)


def same(batch: Batch, other: Batch) -> bool:
    pairs = [(batch.rows.token_ids, other.rows.token_ids), (batch.rows.starts, other.rows.starts)]
    pairs += [
        (batch.anchors, other.anchors),
        (batch.ends, other.ends),
        (batch.used, other.used),
        (batch.noise, other.noise),
    ]
    return all(torch.equal(first, second) for first, second in pairs)


@fewer(2)
@given(texts(), st.integers(0, 3))
def test_rows_hold_whole_texts_one_after_the_other(texts_of_answers: list[Text], seed: int) -> None:
    if not usable(texts_of_answers):
        with pytest.raises(InputError, match="nothing to train on"):
            packer(texts_of_answers)
        return
    by_first = {int(text.token_ids[0]): text for text in texts_of_answers}
    for batch in itertools.islice(packer(texts_of_answers, seed=seed).steps(0), 3):
        for row in range(2):
            ids, starts, ends = (tensor[row] for tensor in (batch.rows.token_ids, batch.rows.starts, batch.ends))
            for start in {int(start) for start, token in zip(starts, ids, strict=True) if token}:
                text, end = by_first[int(ids[start])], int(ends[start])
                assert ids[start:end].tolist() == text.token_ids[:LENGTH].tolist()
                assert set(starts[start:end].tolist()) == {start} and set(ends[start:end].tolist()) == {end}


@fewer(2)
@given(texts(), st.integers(1, 6))
def test_anchors_are_tokens_of_answers_with_one_after_them(texts_of_answers: list[Text], anchors: int) -> None:
    if not usable(texts_of_answers):
        return
    by_first = {int(text.token_ids[0]): text for text in texts_of_answers}
    batch = next(packer(texts_of_answers, anchors).steps(0))
    for row, (places, used) in enumerate(zip(batch.anchors.tolist(), batch.used.tolist(), strict=True)):
        assert places == sorted(places)
        real = [anchor for anchor, is_used in zip(places, used, strict=True) if is_used]
        assert len(set(real)) == len(real) >= 1
        possible = 0
        for start in {
            int(start_column) for start_column in batch.rows.starts[row] if batch.rows.token_ids[row, start_column]
        }:
            text = by_first[int(batch.rows.token_ids[row, start])]
            first, last = start + text.answer, int(batch.ends[row, start]) - 2
            possible += last - first + 1
            real = [anchor for anchor in real if not first <= anchor <= last]
        assert real == []
        assert sum(used) == min(anchors, possible)


@fewer(2)
@given(texts(), st.integers(0, 5))
def test_every_text_comes_once_an_epoch(texts_of_answers: list[Text], seed: int) -> None:
    wanted = sorted(int(text.token_ids[0]) for text in usable(texts_of_answers))
    if not wanted:
        return
    steps = packer(texts_of_answers, rows=1, seed=seed).steps(0)
    seen: list[int] = []
    while len(seen) < 3 * len(wanted):
        batch = next(steps)
        here = {int(start) for start, token in zip(batch.rows.starts[0], batch.rows.token_ids[0], strict=True) if token}
        seen += [int(batch.rows.token_ids[0, start]) for start in here]
    for epoch in range(3):
        assert sorted(seen[epoch * len(wanted) : (epoch + 1) * len(wanted)]) == wanted


@fewer(2)
@given(texts(), st.integers(0, 4))
def test_steps_can_be_begun_anywhere_and_shared(texts_of_answers: list[Text], first: int) -> None:
    if not usable(texts_of_answers):
        return
    whole = list(itertools.islice(packer(texts_of_answers).steps(0), 6))
    for batch, later in zip(whole[first:], packer(texts_of_answers).steps(first), strict=False):
        assert same(batch, later)
    halves = [next(packer(texts_of_answers).steps(first, slice(process, process + 1))) for process in range(2)]
    parts = list(whole[first].split(1))
    assert all(same(half, part) for half, part in zip(halves, parts, strict=True))


def test_the_seed_decides_the_order_and_the_anchors() -> None:
    chooser = random.Random(0)
    texts_of_answers = [
        Text(torch.tensor([chooser.randrange(9) for _ in range(10)], dtype=torch.int32), 2) for _ in range(20)
    ]
    assert same(next(packer(texts_of_answers, seed=1).steps(0)), next(packer(texts_of_answers, seed=1).steps(0)))
    assert not same(next(packer(texts_of_answers, seed=1).steps(0)), next(packer(texts_of_answers, seed=2).steps(0)))


def test_rows_are_well_filled() -> None:
    chooser = random.Random(0)
    texts_of_answers = [Text(torch.ones(chooser.randrange(3, 30), dtype=torch.int32), 1) for _ in range(500)]
    batch = next(packer(texts_of_answers, rows=100).steps(0))
    assert float((batch.rows.token_ids > 0).float().mean()) > 0.9


@fewer(2)
@given(texts(), st.integers(2, 40))
def test_no_text_is_longer_than_the_model_can_take(texts_of_answers: list[Text], longest: int) -> None:
    most = min(longest, LENGTH)
    if not any(min(len(text), most) - text.answer >= 2 for text in texts_of_answers):
        with pytest.raises(InputError, match="nothing to train on"):
            packer(texts_of_answers, longest=longest)
        return
    for batch in itertools.islice(packer(texts_of_answers, longest=longest).steps(0), 3):
        lengths = (batch.ends - batch.rows.starts)[batch.rows.token_ids != 0]
        assert int(lengths.max()) <= most


def test_a_model_that_takes_too_little_is_named() -> None:
    text = Text(torch.arange(1, 20, dtype=torch.int32), 6)
    with pytest.raises(InputError, match=r"none has two tokens within the model's context, 7$"):
        packer([text], longest=7)
    assert next(iter(packer([text], longest=8).steps(0))).rows.token_ids.max() == 8
