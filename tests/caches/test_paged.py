"""Memory of the cache `paged`, to the byte, and which prefixes it keeps when they are too many."""

from __future__ import annotations

import pytest
import torch

from orthrus import InputError, KVCache
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.paged import PagedCache

HEADS, SIZE, BYTES = 2, 3, 4
CPU = torch.device("cpu")


def write(cache: KVCache, row: int, first: int, count: int) -> None:
    """Write slots of one row, as a prefill does, in a layer of float32."""
    states = torch.ones(1, HEADS, count, SIZE)
    cache.place(torch.arange(first, first + count)[None], first + count, torch.tensor([row]))
    cache.update(states, states, 0)


def filled(cache: KVCache, lengths: list[int]) -> KVCache:
    """Return the cache with rows of these lengths."""
    cache.start(len(lengths), CPU)
    for row, length in enumerate(lengths):
        write(cache, row, 0, length)
    cache.keep(torch.tensor(lengths))
    return cache


def test_memory_is_in_proportion_to_the_tokens_held() -> None:
    lengths = [1000, *[10] * 63]  # 1,630 tokens
    paged, dynamic = PagedCache(16), DynamicCache()
    filled(paged, lengths), filled(dynamic, lengths)
    slot = 2 * HEADS * SIZE * BYTES  # of keys and values
    assert paged.blocks_in_use == 63 + 63  # 1,000 tokens are 63 blocks
    # Buffers grow by 16 blocks or an eighth: 65 (two are reserved), 81, 97, 113, 129.
    assert paged.bytes_in_use() == 129 * 16 * slot
    assert dynamic.bytes_in_use() == 64 * 1024 * slot
    paged.keep(torch.tensor([20, *[10] * 63]))
    assert paged.blocks_in_use == 2 + 63
    write(paged, 1, 0, 900)  # into what the first row gave back
    assert paged.bytes_in_use() == 129 * 16 * slot


def test_a_row_that_has_ended_holds_nothing_whatever_passes_write_for_it() -> None:
    cache = PagedCache(4)
    filled(cache, [9, 5])
    cache.end_rows([0])
    assert cache.blocks_in_use == 2
    before = cache.bytes_in_use()
    states = torch.full((2, HEADS, 1, SIZE), torch.nan)
    states[1] = 1
    cache.place(torch.tensor([[9], [5]]), 10)
    keys, _ = cache.update(states, states, 0)
    assert cache.blocks_in_use == 2 and cache.bytes_in_use() == before
    assert not keys[0].any() and keys[1, :, :6].eq(1).all()
    cache.begin_rows([0], [3])
    write(cache, 0, 0, 3)
    assert cache.blocks_in_use == 3


def test_whoever_writes_what_others_hold_writes_a_copy() -> None:
    cache = PagedCache(4, prefixes=2)
    filled(cache, [8, 8])
    cache.offer_prefix(0, range(8))
    cache.begin_rows([1], [None])
    assert cache.adopt_prefix(1, range(8)) == 8 and cache.blocks_in_use == 2
    cache.keep(torch.tensor([8, 6]))
    twos = torch.full((1, HEADS, 1, SIZE), 2.0)
    cache.place(torch.tensor([[6]]), 7, torch.tensor([1]))
    assert cache.blocks_in_use == 3
    mine, _ = cache.update(twos, twos, 0)
    cache.place(torch.tensor([[8]]), 9, torch.tensor([0]))
    others, _ = cache.update(twos, twos, 0)
    assert mine[0, 0, :8, 0].tolist() == [1, 1, 1, 1, 1, 1, 2, 1]
    assert others[0, 0, :9, 0].tolist() == [1, 1, 1, 1, 1, 1, 1, 1, 2]


def test_the_pool_begins_anew_with_a_decoding() -> None:
    cache = PagedCache(4)
    filled(cache, [9, 5])
    cache.start(1, CPU)
    assert cache.blocks_in_use == cache.bytes_in_use() == 0


def test_the_prefix_that_was_used_longest_ago_goes_first_and_its_end_before_its_beginning() -> None:
    cache = PagedCache(2, prefixes=3)
    filled(cache, [4, 4, 4])
    first, second, third = [0, 0, 1, 1], [0, 0, 2, 2], [3, 3, 4, 4]
    for row, text in enumerate((first, second)):
        cache.offer_prefix(row, text)
    assert [cache.held_prefix(text) for text in (first, second)] == [4, 4]  # three blocks: the first is of both
    cache.end_rows([0])
    cache.begin_rows([0], [4])
    assert cache.adopt_prefix(0, first) == 4
    cache.offer_prefix(2, third[:2])  # the end of the second text makes room
    assert [cache.held_prefix(text) for text in (first, second, third)] == [4, 2, 2]
    cache.offer_prefix(2, third)
    assert [cache.held_prefix(text) for text in (first, second, third)] == [2, 2, 4]
    cache.end_rows([0, 1, 2])
    assert cache.blocks_in_use == 3
    cache.start(1, CPU)  # they stay
    assert cache.held_prefix(third) == 4 and cache.blocks_in_use == 3


def test_a_pool_that_is_full_says_so_and_gives_up_prefixes_before() -> None:
    cache = PagedCache(2, blocks=3, prefixes=3)
    filled(cache, [6])
    cache.offer_prefix(0, [1, 2, 3, 4, 5, 6])
    cache.start(2, CPU)
    assert cache.held_prefix([1, 2, 3, 4, 5, 6]) == 6 and cache.blocks_in_use == 3
    write(cache, 0, 0, 4)
    assert cache.held_prefix([1, 2, 3, 4, 5, 6]) == 2
    write(cache, 1, 0, 2)
    with pytest.raises(
        InputError, match=r"^all 3 blocks of 2 slots are in use; set a larger cache.blocks, or a smaller"
    ):
        write(cache, 1, 2, 1)


def test_what_is_written_behind_a_row_takes_free_blocks_for_one_pass_and_no_prefix() -> None:
    cache = PagedCache(2, blocks=4, prefixes=1)
    filled(cache, [2, 2])
    cache.offer_prefix(0, [1, 2])
    for row in (0, 1):
        cache.begin_rows([row], [2])
    write(cache, 0, 0, 6)  # a block of its own, and two behind it
    assert cache.blocks_in_use == 4
    write(cache, 1, 0, 6)
    assert cache.blocks_in_use == 4 and cache.held_prefix([1, 2]) == 2
    write(cache, 1, 0, 2)
    assert cache.blocks_in_use == 3
