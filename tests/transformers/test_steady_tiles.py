"""How attention `split` and the narrow layers lay out a pass does not depend on what else a few tokens come with.

That their bits do not either shows on a GPU: tests/gpu/test_steady_bits_cuda.py.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orthrus.kernels import skinny_linear
from orthrus_attention import split_kv
from orthrus_attention.split_kv import ENOUGH, FEW_QUERIES, FEW_SLOTS, MANY_QUERIES, MANY_SLOTS, SMALL_HEAD

HEADS = st.sampled_from([(3, 3), (1, 8), (4, 8), (2, 8), (8, 2)])  # groups, heads of keys
SLOTS = st.integers(1, FEW_SLOTS)


@given(
    HEADS, st.integers(1, 40), st.integers(1, FEW_QUERIES), st.integers(1, FEW_SLOTS), st.sampled_from([64, 128, 256])
)
def test_few_queries_are_tiled_and_split_as_one(
    heads: tuple[int, int], batch: int, queries: int, slots: int, size: int
) -> None:
    def layout(count: int) -> tuple[tuple[int, int, int], int]:
        assert split_kv.is_batch_invariant(count, slots)
        blocks = split_kv.tile_sizes(heads[0] * count, size, slots, 2, True)
        return blocks, split_kv.split_count(batch * heads[1], -(-heads[0] * count // blocks[0]), slots, blocks[1])

    assert layout(queries) == layout(1)


@given(st.integers(1, FEW_SLOTS), st.sampled_from([32, 64]), st.data())
def test_however_much_is_in_use_a_part_is_one_tile(slots: int, tile: int, data: st.DataObject) -> None:
    splits = split_kv.split_count(1, 1, slots, tile)
    used = data.draw(st.integers(1, slots))
    assert math.ceil(math.ceil(used / splits) / tile) == 1  # tiles of a part, as the kernel reckons
    assert splits * tile >= slots


@given(SLOTS, SLOTS, st.sampled_from([2, 4]), st.sampled_from([16, 64, 80, 128, 160, 256]))
def test_parts_are_added_in_one_order_as_a_text_grows(slots: int, more: int, width: int, size: int) -> None:
    def cells(held: int) -> int:
        _, tile, _ = split_kv.tile_sizes(16, size, held, width, True)
        splits = split_kv.split_count(1, 1, held, tile)
        assert splits <= split_kv.cell_count(splits, tile)
        return split_kv.cell_count(splits, tile)

    assert cells(slots) == cells(more)


@given(HEADS, st.integers(1, 40), st.integers(1, FEW_SLOTS))
def test_some_rows_are_split_as_one(heads: tuple[int, int], batch: int, slots: int) -> None:
    splits = split_kv.split_count(batch * heads[1], 1, slots, 64)
    assert splits == (split_kv.split_count(heads[1], 1, slots, 64) if batch * heads[1] < ENOUGH else 1)


@given(st.integers(1, MANY_QUERIES), st.integers(1, MANY_SLOTS), st.integers(1, 10))
def test_many_queries_of_small_heads_are_laid_out_as_one(queries: int, slots: int, batch: int) -> None:
    def layout(count: int) -> tuple[object, int]:
        assert split_kv.is_batch_invariant(count, slots, SMALL_HEAD, batch * 3)
        blocks = split_kv.tile_sizes(3 * count, SMALL_HEAD, slots, 2, True)
        return blocks, split_kv.split_count(batch * 3, -(-3 * count // blocks[0]), slots, blocks[1])

    assert layout(queries) == layout(1)
    assert split_kv.cell_count(layout(1)[1], 64) == split_kv.cell_count(1, 64)  # added up so many at a time


def test_many_rows_and_long_texts_are_laid_out_for_speed() -> None:
    assert not split_kv.is_batch_invariant(FEW_QUERIES + 1, FEW_SLOTS)
    assert not split_kv.is_batch_invariant(1, FEW_SLOTS + 1)
    assert not split_kv.is_batch_invariant(MANY_QUERIES + 1, 1, SMALL_HEAD)
    assert not split_kv.is_batch_invariant(1, MANY_SLOTS + 1, SMALL_HEAD)
    assert not split_kv.is_batch_invariant(1, FEW_SLOTS + 1, SMALL_HEAD, ENOUGH)
    assert split_kv.split_count(ENOUGH, 1, FEW_SLOTS, 64) == 1 < split_kv.split_count(ENOUGH - 1, 1, FEW_SLOTS, 64)


@pytest.mark.parametrize("outputs", [576, 960, 3072])
def test_small_models_have_one_layout_for_any_tokens(outputs: int) -> None:
    layouts = {skinny_linear.tile(tokens, outputs, 576) for tokens in range(1, skinny_linear.MOST_INVARIANT_TOKENS + 1)}
    assert len(layouts) == 1
    assert len({skinny_linear.tile(tokens, outputs, skinny_linear.SMALL_WIDTH + 1) for tokens in (16, 17)}) == 2
