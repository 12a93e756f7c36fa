"""Texts over the cache `paged` whose pool has just the blocks that the prompts and answers come to."""

from __future__ import annotations

import random

from hypothesis import example, given
from hypothesis import strategies as st
from support.building import decode_with, transformers_target

from orthrus import Stop
from orthrus.testing.profiles import fewer
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.paged import PagedCache
from orthrus_drafters.prompt_lookup import PromptLookup

BLOCK = 4
LONG = st.integers(20, 28)  # so that the pool holds the self-check at load
OTHERS = st.lists(st.integers(1, 24), min_size=1, max_size=3)


@fewer(10)
@given(LONG, OTHERS, st.integers(1, 6), st.sampled_from([3, 512]), st.sampled_from([0, 64]))
@example(20, [4, 1], 1, 512, 0)  # two prompts in one group, whose padding is of 2 blocks
def test_requests_that_fit_find_their_blocks(
    long: int, others: list[int], count: int, chunk: int, prefixes: int
) -> None:
    lengths = [long, *others]
    chooser, stop = random.Random(0), Stop(count)
    prompts = [[chooser.randrange(3) for _ in range(length)] for length in lengths]
    blocks = sum(-(-(length + count) // BLOCK) for length in lengths)
    caches = DynamicCache(), PagedCache(BLOCK, blocks, prefixes)
    targets = [transformers_target("llama", cache, chunk) for cache in caches]
    results = [decode_with(target, PromptLookup(4, 1, 3), prompts, stop, batch=len(prompts)) for target in targets]
    expected, over_blocks = ([result.token_ids for result in each] for each in results)
    assert over_blocks == expected
