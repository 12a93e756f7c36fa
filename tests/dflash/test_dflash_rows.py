"""Rows of a batch that come, grow, are refilled and moved: each drafts what it drafts alone, from an empty store."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.published import DATA, installed
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from orthrus.drafter_models.key_values import KeyValues
from orthrus.testing.profiles import fewer
from orthrus_dflash.config import LayerKind, TargetSizes
from orthrus_dflash.model import DFlashModel, load_model
from orthrus_dflash.options import DFlashOptions
from orthrus_dflash.visibility import block_mask

ROWS, SLOTS, HIDDEN, VOCABULARY = 3, 48, 64, 96
TABLE = torch.randn(VOCABULARY, HIDDEN, generator=torch.Generator().manual_seed(1))

CHANGES = st.one_of(
    st.tuples(st.just("feed"), st.lists(st.sampled_from([0, 1, 3, 12]), min_size=ROWS, max_size=ROWS)),
    st.tuples(st.just("draft"), st.integers(2, 8)),
    st.tuples(st.just("refill"), st.tuples(st.integers(0, ROWS - 1), st.integers(1, 6))),
    st.tuples(st.just("move"), st.lists(st.integers(-1, ROWS - 1), min_size=ROWS, max_size=ROWS)),
    st.tuples(st.just("hold"), st.integers(1, 8)),
)


@cache
def model() -> DFlashModel:
    """Return a drafter with a sliding and a full layer."""
    with TemporaryDirectory() as folder:
        directory = installed(DATA / "tiny-dflash-qwen3", "drafter-sliding", Path(folder))
        return load_model(directory, TargetSizes(HIDDEN, VOCABULARY, 6), DFlashOptions(source=""), torch.float32, "cpu")


def embed(tokens: Tensor) -> Tensor:
    """Return rows of a table that is embeddings and head."""
    return TABLE[tokens]


def head(states: Tensor) -> Tensor:
    """Return logits by the same table."""
    return states @ TABLE.T


class Batch:
    """A store beside the taps that each of its rows has had."""

    def __init__(self) -> None:
        self.store = model().new_store(ROWS, SLOTS)
        self.taps = [torch.zeros(0, 3 * HIDDEN) for _ in range(ROWS)]
        self._generator = torch.Generator().manual_seed(2)

    def feed(self, counts: list[int], rows: list[int] | None = None) -> None:
        """Feed rows new taps; what pads a row, further than a block, is NaN, and spoils all that reads it."""
        chosen = list(range(ROWS)) if rows is None else rows
        counts = [min(count, SLOTS - 8 - len(self.taps[row])) for row, count in zip(chosen, counts, strict=True)]
        new = torch.randn(len(chosen), max(*counts, 1), 3 * HIDDEN, generator=self._generator)
        starts = torch.tensor([len(self.taps[row]) for row in chosen])
        for index, (row, count) in enumerate(zip(chosen, counts, strict=True)):
            self.taps[row] = torch.cat([self.taps[row], new[index, :count]])
            new[index, count:] = float("nan")
        model().feed(self.store, new, starts, torch.tensor(counts), None if rows is None else torch.tensor(rows))

    def change(self, kind: str, value: object) -> None:
        """Do what was drawn."""
        match kind, value:
            case "feed", [*counts]:
                self.feed(counts)
            case "draft", int(block):
                drafts(self.store, [len(taps) for taps in self.taps], block)
            case "refill", (int(row), int(count)):
                self.taps[row] = self.taps[row][:0]
                self.feed([count], [row])
            case "move", [*sources]:
                self.store.move_rows(sources)
                self.taps = [self.taps[source] if source >= 0 else self.taps[0][:0] for source in sources]
            case "hold", int(more):
                self.store.hold(ROWS, self.store.slots + more)


def drafts(store: KeyValues, lengths: list[int], block: int = 8, **others: object) -> Tensor:
    """Return the logits of blocks after anchors that depend on the lengths alone."""
    tensor = torch.tensor(lengths)
    return model().draft(store, tensor % 90, tensor, embed, head, block=block, **others)[1]  # type: ignore[arg-type]


@fewer(5)
@given(st.lists(CHANGES, max_size=8))
def test_rows_draft_what_they_draft_alone(changes: list[tuple[str, object]]) -> None:
    """Chunks of a prompt, drafts in between, refilled and moved rows, larger buffers."""
    batch = Batch()
    for kind, value in changes:
        batch.change(kind, value)
    lengths = [len(taps) for taps in batch.taps]
    together = drafts(batch.store, lengths)
    for row, taps in enumerate(batch.taps):
        alone = model().new_store(1, SLOTS)
        model().feed(alone, taps[None], torch.zeros(1, dtype=torch.int64), torch.tensor([len(taps)]))
        torch.testing.assert_close(together[row], drafts(alone, [len(taps)])[0], rtol=0, atol=1e-4)


def test_a_stale_row_is_noticed() -> None:
    """The check above would see one row too many, or one that is missing."""
    batch = Batch()
    batch.feed([5, 6, 7])
    right = drafts(batch.store, [5, 6, 7])
    assert (right - drafts(batch.store, [4, 6, 7]))[0].abs().max() > 1e-2


def test_a_width_is_a_shorter_block() -> None:
    """Rows of unlike room in one pass of one shape; and fewer slots are read if the rows end before them."""
    batch = Batch()
    batch.feed([5, 6, 7])
    widths = torch.tensor([1, 3, 8])
    together = drafts(batch.store, [5, 6, 7], widths=widths, extent=16)
    assert together.isfinite().all()
    for row, width in enumerate([1, 3, 8]):
        if width > 1:
            shorter = drafts(batch.store, [5, 6, 7], block=width)[row]
            torch.testing.assert_close(together[row, : width - 1], shorter, rtol=0, atol=1e-4)


def test_a_pass_waits_for_nothing_and_has_one_shape() -> None:
    """Tensors without values: what needs one, or makes a shape of it, fails."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        lengths = torch.zeros(ROWS, dtype=torch.int64)
        with pytest.raises(DataDependentOutputException):
            int(lengths.max())
        store = model().new_store(ROWS, SLOTS)
        model().feed(store, torch.zeros(ROWS, 4, 3 * HIDDEN), lengths, lengths)
        tokens, logits = model().draft(store, lengths, lengths, embed, head, widths=lengths + 2)
    assert tokens.shape == (ROWS, 7)
    assert logits.shape == (ROWS, 7, VOCABULARY)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("origin", ["row", "anchor"])
def test_what_rows_see(causal: bool, window: int | None, origin: str) -> None:
    """The rule, slot by slot."""
    mask = block_mask(LayerKind(causal, window, origin), torch.tensor([6, 1]), torch.tensor([4, 2]), 4, 12)
    for row, (anchor, width) in enumerate([(6, 4), (1, 2)]):
        for column in range(width):
            query = anchor + column
            for slot in range(12):
                sees = slot < anchor + width and (not causal or slot <= query)
                if window and origin == "row":
                    sees = sees and abs(query - slot) < window
                if window and origin == "anchor":
                    sees = sees and slot >= anchor - window
                assert mask[row, column, slot] == sees, (row, column, slot)
