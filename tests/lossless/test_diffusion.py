"""Whatever a view proposes, the text is the oracle's: any weights, any block, ragged rows, past the window."""

from __future__ import annotations

import functools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.building import assert_held, decode_with, family_oracle, transformers_target
from support.families import FAMILIES, FEW, VOCABULARY, WINDOW
from support.thorough import thorough_but
from support.views import committed, random_view

from orthrus import RowState, Stop
from orthrus.testing.profiles import fewer
from orthrus.testing.strategies import batches, stops
from orthrus_caches.static import StaticCache
from orthrus_diffusion.block import MaskedBlock
from orthrus_diffusion.drafter import Diffusion
from orthrus_transformers.target import TransformersTarget

MASK = VOCABULARY - 1
KINDS = {"noisy": 0.3, "copied": 0.0, "nearly copied": 0.02}


@functools.cache
def target_of(family: str, static: bool = False) -> TransformersTarget:
    target = transformers_target(family, StaticCache(slots=8) if static else None, chunk=5)
    for kind, noise in KINDS.items():
        random_view(target, kind, noise=noise)
    return target


@pytest.mark.parametrize("family", thorough_but(FEW, FAMILIES))
def test_every_family(family: str) -> None:
    chooser, stop = random.Random(family), Stop(10)
    prompts = [[chooser.randrange(VOCABULARY) for _ in range(length)] for length in (3, WINDOW + 7, 1)]
    target = transformers_target(family, chunk=4)
    random_view(target, "noisy")
    results = decode_with(target, Diffusion(target, 6, MASK, "noisy"), prompts, stop)
    assert_held(results, family_oracle(family), prompts, stop)


@pytest.mark.parametrize("family", thorough_but(["llama"], ["llama", "gemma3_text", "gpt2"]))
@fewer(6)  # a model's passes, and its oracle's for every token
@given(
    prompts=batches(VOCABULARY, longest=14, rows=4),
    stop=stops(VOCABULARY),
    kind=st.sampled_from(sorted(KINDS)),
    block=st.integers(2, 17),
    mask=st.integers(0, VOCABULARY - 1),
    batch=st.integers(1, 4),
    static=st.booleans(),
)
def test_any_view_and_any_block(
    family: str,
    prompts: list[list[int]],
    stop: Stop,
    kind: str,
    block: int,
    mask: int,
    batch: int,
    static: bool,
) -> None:
    target = target_of(family, static)
    results = decode_with(target, Diffusion(target, block, mask, kind), prompts, stop, batch=batch)
    assert_held(results, family_oracle(family), prompts, stop)


def test_a_block_begins_at_the_anchor_and_its_first_row_predicts_what_follows() -> None:
    # Under a causal mask the first row of a view of copies is the target's own choice: the shift, and no step more.
    target = target_of("llama")
    context = committed(target, [[1, 2, 3], [7] * 20], room=4)
    rows, block = (
        RowState(context.lengths, context.anchors, context.room),
        MaskedBlock(3, MASK, spare=True, choose=True),
    )
    tokens, positions = block.tokens(rows), block.positions(rows)
    through = target.forward(context, tokens, positions, view="copied", kind="causal")[:, 0].argmax(-1)
    wanted = [family_oracle()([*row.prompt, *row.output], Stop(1)).token_ids[0] for row in context.rows]
    assert through.tolist() == wanted


def test_a_block_is_cut_to_each_rows_room() -> None:
    target = target_of("llama")
    context = committed(target, [[1] * 3, [2] * 90], room=12)  # the model's context leaves the second row 96 - 91 = 5
    draft = Diffusion(target, 16, MASK, "copied").propose(context, None)  # type: ignore[arg-type]  # it draws nothing
    assert draft.lengths.tolist() == context.room.tolist() == [12, 5]
    assert draft.tokens.shape == (2, 12)
    assert draft.passes == 1
