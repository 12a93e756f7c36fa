"""Sessions over the cache `paged`: no block is lost, and requests wait for blocks where these are few."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.small_sessions import LETTERS, LONGEST, target_of
from support.thorough import nightly_but
from torch import Tensor

from orthrus import Context, Decoder, Draft, InputError, Session, Stop
from orthrus.batch.arrangement import row_count
from orthrus.reference.table import Letters, TableTarget
from orthrus.testing.profiles import fewer
from orthrus_caches.paged import PagedCache
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_verifiers.consensus import Consensus


def over(cache: PagedCache) -> TableTarget:
    """Return the table of small sessions, over this cache."""
    return TableTarget(target_of().table.view(8, 8, 8), cache, tokenizer=Letters(LETTERS), max_length=LONGEST)


def decoder_of(target: TableTarget) -> Decoder:
    return Decoder.of(target, PromptLookup(3, 1, 4), Consensus(), Stop(12))


def random_prompt(chooser: random.Random) -> list[int]:
    return [chooser.randrange(8) for _ in range(chooser.randint(1, 20))]


def most_held(session: Session, cache: PagedCache, count: int, chooser: random.Random) -> int:
    """Answer so many requests, one in ten cancelled, and return the most blocks that were held at a time."""
    most, going = 0, list[str]()
    for number in range(count):
        going.append(session.add(random_prompt(chooser), stop={"max_new_tokens": number % 12}))
        going = [id for id in going if id in session]
        if number % 10 == 0 and going:
            session.cancel(chooser.choice(going))
        if number % 4 == 0:
            for _ in islice(session, chooser.randint(0, 8)):
                most = max(most, cache.blocks_in_use)
    for _ in session:
        most = max(most, cache.blocks_in_use)
    return most


@pytest.mark.parametrize("count", nightly_but([500], [500, 10_000]))
def test_no_block_is_lost(count: int) -> None:
    cache, chooser = PagedCache(block=4), random.Random(count)
    session = decoder_of(over(cache)).session(8)
    assert 0 < most_held(session, cache, count, chooser) <= 8 * (LONGEST // 4 + 1)
    assert cache.blocks_in_use == 0
    session.add([1, 2, 3], id="the last")
    assert next(iter(session)).id == "the last" and cache.blocks_in_use
    session.cancel("the last")  # with nobody beside it, no step comes after
    assert cache.blocks_in_use == 0


def test_requests_wait_for_blocks_and_get_what_they_get_alone() -> None:
    cache, chooser = PagedCache(block=4, blocks=11), random.Random(1)  # a text may be of 10
    prompts = [random_prompt(chooser) for _ in range(40)]
    assert texts(over(cache), prompts) == texts(target_of(), prompts)
    session = decoder_of(over(cache)).session(8)
    assert most_held(session, cache, 200, chooser) <= 11
    assert cache.blocks_in_use == 0


def test_rows_beyond_those_that_fit_wait() -> None:
    cache = PagedCache(block=4, blocks=11)
    session = decoder_of(over(cache)).session(4)
    for id, length in (("long", 20), ("short", 2), ("waits", 1)):  # of 8, 3 and 2 blocks
        session.add([number % 8 for number in range(length)], id=id, stop={"max_new_tokens": 8})
    ended = [event.id for event in session if event.result is not None]
    assert sorted(ended) == ["long", "short", "waits"] and ended[-1] == "waits"


@fewer(10)
@given(st.integers(0, 2**32), st.integers(10, 40))
def test_passes_have_no_rows_for_requests_that_do_not_fit(seed: int, blocks: int) -> None:
    target, chooser = over(PagedCache(block=4, blocks=blocks)), random.Random(seed)
    passes: list[tuple[int, int]] = []  # rows of each, and those that go on

    def score(context: Context, draft: Draft) -> Tensor:
        passes.append((len(context.rows), sum(row.live for row in context.rows)))
        return TableTarget.score(target, context, draft)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, "score", score)
        results = decoder_of(target).generate([random_prompt(chooser) for _ in range(20)], batch=20)
    assert all(result.token_ids for result in results)
    assert [rows for rows, _ in passes] == [row_count(going_on, 20) for _, going_on in passes]


def test_a_request_that_never_fits_is_refused_with_the_numbers() -> None:
    target = over(PagedCache(block=4, blocks=5))
    decoder = decoder_of(target)
    session = decoder.session(2)
    session.add([1, 2], id="fits")
    why = (
        "may need 27 slots (15 tokens and 12 new ones), and the cache does not hold them: these are 7 blocks of 4"
        " slots, more than cache.blocks=5; set cache.blocks=7 or a smaller stop.max_new_tokens"
    )
    with pytest.raises(InputError) as refused:
        session.add([1] * 15, id="too long")
    assert str(refused.value) == f"request 'too long' {why}"
    assert [event.id for event in session if event.result] == ["fits"]  # no other is harmed
    with pytest.raises(InputError) as refused:
        decoder.generate([[1, 2], [1] * 15])
    assert str(refused.value) == f"prompt 1 {why}"


def texts(target: TableTarget, prompts: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Return the tokens of each answer."""
    return [result.token_ids for result in decoder_of(target).generate(prompts, batch=8)]


def test_the_table_is_what_it_was() -> None:
    assert torch.equal(over(PagedCache()).table, target_of().table)
