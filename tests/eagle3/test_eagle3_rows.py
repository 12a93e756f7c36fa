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

from orthrus.drafter_models.fit import TargetSizes
from orthrus.drafter_models.key_values import KeyValues
from orthrus.testing.profiles import fewer
from orthrus_eagle3 import model as module
from orthrus_eagle3.model import Eagle3Model, load_model
from orthrus_eagle3.options import Eagle3Options

ROWS, SLOTS, HIDDEN, VOCABULARY = 3, 48, 64, 96
TABLE = torch.randn(VOCABULARY, HIDDEN, generator=torch.Generator().manual_seed(1))

CHANGES = st.one_of(
    st.tuples(st.just("feed"), st.lists(st.sampled_from([0, 1, 3, 12]), min_size=ROWS, max_size=ROWS)),
    st.tuples(st.just("draft"), st.integers(1, 6)),
    st.tuples(st.just("refill"), st.tuples(st.integers(0, ROWS - 1), st.integers(1, 6))),
    st.tuples(st.just("move"), st.lists(st.integers(0, ROWS - 1), min_size=ROWS, max_size=ROWS)),
    st.tuples(st.just("hold"), st.integers(1, 8)),
)


@cache
def model() -> Eagle3Model:
    """Return a drafter of a reduced vocabulary, without embeddings of its own."""
    with TemporaryDirectory() as folder:
        directory = installed(DATA / "tiny-eagle3-llama", "head-reduced", Path(folder))
        return load_model(directory, TargetSizes(HIDDEN, VOCABULARY, 7), Eagle3Options(source=""), torch.float32, "cpu")


def embed(tokens: Tensor) -> Tensor:
    """Return rows of a table."""
    return TABLE[tokens]


class Batch:
    """A store beside the taps and tokens that each of its rows has had."""

    def __init__(self) -> None:
        self.store = model().new_store(ROWS, SLOTS)
        self.taps = [torch.zeros(0, 3 * HIDDEN) for _ in range(ROWS)]
        self.tokens = [torch.zeros(0, dtype=torch.int64) for _ in range(ROWS)]
        self._generator = torch.Generator().manual_seed(2)
        self.feed([1] * ROWS)

    def feed(self, counts: list[int], rows: list[int] | None = None) -> None:
        """Feed rows new taps and tokens; what pads a row is NaN, and spoils all that reads it."""
        chosen = list(range(ROWS)) if rows is None else rows
        counts = [min(count, SLOTS - 8 - len(self.taps[row])) for row, count in zip(chosen, counts, strict=True)]
        width = max(*counts, 1)
        taps = torch.randn(len(chosen), width, 3 * HIDDEN, generator=self._generator)
        tokens = torch.randint(VOCABULARY, (len(chosen), width), generator=self._generator)
        starts = torch.tensor([len(self.taps[row]) for row in chosen])
        for index, (row, count) in enumerate(zip(chosen, counts, strict=True)):
            self.taps[row] = torch.cat([self.taps[row], taps[index, :count]])
            self.tokens[row] = torch.cat([self.tokens[row], tokens[index, :count]])
            taps[index, count:] = float("nan")
        given_rows = None if rows is None else torch.tensor(rows)
        model().feed(self.store, taps, tokens, starts, torch.tensor(counts), embed, given_rows)

    def change(self, kind: str, value: object) -> None:
        """Do what was drawn."""
        match kind, value:
            case "feed", [*counts]:
                self.feed(counts)
            case "draft", int(length):
                drafts(self.store, [len(taps) for taps in self.taps], length)
            case "refill", (int(row), int(count)):
                self.taps[row], self.tokens[row] = self.taps[row][:0], self.tokens[row][:0]
                self.feed([count], [row])
            case "move", [*sources]:
                self.store.move_rows(sources)
                self.taps = [self.taps[source] for source in sources]
                self.tokens = [self.tokens[source] for source in sources]
            case "hold", int(more):
                self.store.hold(ROWS, self.store.slots + more)


def drafts(store: KeyValues, lengths: list[int], length: int = 5, **others: object) -> tuple[Tensor, Tensor]:
    """Return drafts and logits after the rows that were fed."""
    return model().draft(store, torch.tensor(lengths), embed, length, **others)  # type: ignore[arg-type]


def alone(taps: Tensor, tokens: Tensor) -> KeyValues:
    """Return a store with one row, fed at once."""
    store = model().new_store(1, SLOTS)
    model().feed(store, taps[None], tokens[None], torch.tensor([0]), torch.tensor([len(taps)]), embed)
    return store


@fewer(5)
@given(st.lists(CHANGES, max_size=8))
def test_rows_draft_what_they_draft_alone(changes: list[tuple[str, object]]) -> None:
    """Chunks of a prompt, drafts in between, refilled and moved rows, larger buffers."""
    batch = Batch()
    for kind, value in changes:
        batch.change(kind, value)
    together = drafts(batch.store, [len(taps) for taps in batch.taps], wide=False)[1]
    for row, (taps, tokens) in enumerate(zip(batch.taps, batch.tokens, strict=True)):
        own = drafts(alone(taps, tokens), [len(taps)], wide=False)[1][0]
        torch.testing.assert_close(together[row], own, rtol=0, atol=1e-4)


def test_a_stale_row_and_unshifted_tokens_are_noticed() -> None:
    """The check above would see a row of the chain that stays, and tokens that stand beside their own taps."""
    generator = torch.Generator().manual_seed(3)
    taps = torch.randn(9, 3 * HIDDEN, generator=generator)
    tokens = torch.randint(VOCABULARY, (10,), generator=generator)
    right = drafts(alone(taps, tokens[1:]), [9], wide=False)[1]
    assert (right - drafts(alone(taps, tokens[:-1]), [9], wide=False)[1]).abs().max() > 1e-2
    assert (right - drafts(alone(taps, tokens[1:]), [10], wide=False)[1]).abs().max() > 1e-2


def test_a_long_prompt_goes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask is as large as a piece by the slots; pieces of any size give the same."""
    batch, small = Batch(), []
    batch.feed([9, 4, 7])
    lengths = [len(taps) for taps in batch.taps]
    for size in (256, 2):
        monkeypatch.setattr(module, "CHUNK", size)
        stores = [alone(taps, tokens) for taps, tokens in zip(batch.taps, batch.tokens, strict=True)]
        small.append([drafts(store, [length], wide=False)[1] for store, length in zip(stores, lengths, strict=True)])
    for whole, pieces in zip(*small, strict=True):
        torch.testing.assert_close(whole, pieces, rtol=0, atol=1e-4)


def test_the_target_s_vocabulary() -> None:
    """Tokens that the drafter does not know are impossible; others have its logits; a chooser sees them all."""
    batch, seen = Batch(), []

    def likeliest(logits: Tensor, step: int) -> Tensor:
        seen.append((step, logits))
        return logits.argmax(-1)

    tokens, wide = drafts(batch.store, [1, 1, 1])
    own_tokens, own = drafts(batch.store, [1, 1, 1], wide=False)
    chosen, _ = drafts(batch.store, [1, 1, 1], choose=likeliest)
    assert torch.equal(tokens, own_tokens)
    assert torch.equal(tokens, chosen)
    assert wide.shape == (ROWS, 5, VOCABULARY)
    assert own.shape == (ROWS, 5, 64)
    known = wide[0, 0].isfinite()
    assert int(known.sum()) == 64
    assert torch.equal(wide[..., known], own)  # the fixture's tokens are in order
    assert [step for step, _ in seen] == list(range(5))
    assert torch.equal(torch.stack([logits for _, logits in seen], dim=1), wide)


def test_a_pass_waits_for_nothing_and_has_one_shape() -> None:
    """Tensors without values: what needs one, or makes a shape of it, fails."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        lengths = torch.zeros(ROWS, dtype=torch.int64)
        with pytest.raises(DataDependentOutputException):
            int(lengths.max())
        store = model().new_store(ROWS, SLOTS)
        fed = torch.zeros(ROWS, 4, 3 * HIDDEN), torch.zeros(ROWS, 4, dtype=torch.int64)
        model().feed(store, *fed, lengths, lengths, embed)
        tokens, logits = model().draft(store, lengths, embed, 5)
    assert tokens.shape == (ROWS, 5)
    assert logits.shape == (ROWS, 5, VOCABULARY)
