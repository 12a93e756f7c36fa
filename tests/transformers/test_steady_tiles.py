"""How attention `split` and the narrow layers lay out a pass does not depend on what else its tokens come with.

That their bits do not either shows on a GPU: tests/gpu/test_steady_bits_cuda.py.
"""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orthrus.kernels import skinny_linear
from orthrus.kernels.tiles import PART_COLUMNS, summed_tile, tile
from orthrus_attention.parts_of_keys import ENDS, FIRST_GROUP, GROUP, SLOTS, group_count, part_count
from orthrus_attention.steady_kv import FEW_QUERIES, FEW_SLOTS, MOST_SLOTS, MOST_TREE_TOKENS, is_steady, layout_of

ROWS, HEADS = st.integers(1, 4096), st.integers(1, 300)


@given(st.integers(1, 40_000))
def test_a_slot_is_in_one_part_whatever_follows(slots: int) -> None:
    assert part_count(slots + 1) - part_count(slots) in (0, 1)
    size = SLOTS[0] if slots < ENDS[0] else SLOTS[1] if slots < ENDS[1] else SLOTS[2]
    assert (part_count(slots + 1) > part_count(slots)) == (slots % size == 0)  # where a part ends, another one begins


@given(st.integers(1, 40_000))
def test_groups_are_of_whole_parts(slots: int) -> None:
    groups = group_count(slots)
    assert FIRST_GROUP + (groups - 2) * GROUP < part_count(slots) <= FIRST_GROUP + (groups - 1) * GROUP or groups == 1
    assert ENDS[0] == FIRST_GROUP * SLOTS[0]
    assert (ENDS[1] - ENDS[0]) % (GROUP * SLOTS[1]) == 0  # no group has parts of two sizes


@given(ROWS, ROWS, HEADS, HEADS, st.integers(1, MOST_SLOTS), st.sampled_from([16, 64, 80, 128, 256]), st.booleans())
def test_keys_are_taken_so_many_at_a_time_whatever_the_pass(
    rows: int, others: int, heads: int, more: int, slots: int, size: int, tree: bool
) -> None:
    """That decides bits; rows of a tile do not."""
    first = layout_of(rows, size, 2, heads, slots, tree)
    assert first.slots == layout_of(others, size, 2, more, 1, not tree).slots
    assert SLOTS[0] % first.slots == 0
    assert not (tree and first.grouped and slots <= ENDS[0])  # texts differ in its only group


def test_drafts_of_one_row_are_steady_and_blocks_are_laid_out_for_speed() -> None:
    kinds: tuple[Literal["causal", "tree"], ...] = ("causal", "tree")
    for kind in kinds:
        assert is_steady(1, 65, 8192 + 65, kind)
        assert not is_steady(1, 1, MOST_SLOTS + 1, kind)
    assert is_steady(1, 512, 8192, "causal")
    assert not is_steady(1, MOST_TREE_TOKENS + 1, 512, "tree")
    assert is_steady(1, FEW_QUERIES, FEW_SLOTS, "block")
    assert not is_steady(1, FEW_QUERIES + 1, FEW_SLOTS, "block")
    assert not is_steady(1, FEW_QUERIES, FEW_SLOTS + 1, "block")
    assert not is_steady(1, 512, 512, "causal", width=4)


@given(st.integers(1, 3000), st.integers(1, 600), st.integers(1, 40), st.sampled_from([32, 64, 96, 128]))
def test_a_tile_divides_what_it_is_of(tokens: int, outputs: int, width: int, head_size: int) -> None:
    layout = tile(tokens, 32 * outputs, 128 * width, most_columns=head_size)
    assert 32 * outputs % layout.columns == 0
    assert head_size % layout.columns == 0 or layout.columns <= 32
    assert layout.columns % PART_COLUMNS == 0


def test_passes_of_more_tokens_have_other_tiles() -> None:
    """So those of equal bits are not of equal kernels."""
    assert len({tile(tokens, 4096, 4096) for tokens in (16, 17, 33, 512)}) == 4
    assert len({tile(tokens, 576, 576) for tokens in (16, 33, 160, 512)}) == 4
    assert len({tile(tokens, 3072, 576) for tokens in (16, 33, 160, 512, 1024)}) == 5


@pytest.mark.parametrize(
    ("width", "inner", "most"),
    [(576, 1536, 160), (1024, 3072, 160), (4096, 12288, 96), (1056, 4096, 32), (2048, 5632 + 64, 32)],
)
def test_larger_models_of_uneven_sizes_are_steady_for_few_tokens(width: int, inner: int, most: int) -> None:
    weights = tuple(torch.empty(shape, device="meta") for shape in ((width, width), (2 * inner, width), (width, inner)))
    assert skinny_linear.most_invariant(torch.empty(1, 1, width, device="meta"), weights) == most


@given(st.integers(1, 300), st.sampled_from([576, 1024, 1536, 2048, 4096, 5120, 8192]))
def test_products_that_are_summed_over_gpus_have_small_tiles(tokens: int, width: int) -> None:
    layout = summed_tile(tokens, width)
    assert layout.tokens <= 32
    assert tokens > 32 or layout == tile(tokens, width, width)
