"""Options of published drafters that trials use: what each changes of the drafts, and what it leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.published import published
from torch import Tensor

from orthrus import InputError
from orthrus.drafter_models.fit import TargetSizes, taps_from
from orthrus.options import parse
from orthrus_dflash.model import DFlashModel
from orthrus_dflash.model import load_model as load_dflash
from orthrus_dflash.options import DFlashOptions
from orthrus_eagle3.model import load_model as load_eagle3
from orthrus_eagle3.options import Eagle3Options

CPU = torch.float32, "cpu"


def dflash_logits(directory: Path, context: int = 12, **options: Any) -> Tensor:
    """Return logits [K - 1, V] of the drafts after so many tokens of a text."""
    held = published("tiny-dflash-qwen3")
    model: DFlashModel = load_dflash(directory, TargetSizes(*held.sizes), DFlashOptions(source="", **options), *CPU)
    store, length = model.new_store(1, 64), torch.tensor([context])
    taps = held.taps(2, model.config.taps)[None, :context]
    model.feed(store, taps, torch.tensor([0]), length)
    anchors = torch.tensor([held.text(2)[context]])
    return model.draft(store, anchors, length, held.embed, held.head)[1][0].detach()


def eagle3_logits(directory: Path, **options: Any) -> Tensor:
    """Return logits [n, V] of a chain, each step's token given by the text; 0 for tokens that it does not know."""
    held, context = published("tiny-eagle3-llama"), 12
    model = load_eagle3(directory, TargetSizes(*held.sizes), Eagle3Options(source="", **options), *CPU)
    store, length = model.new_store(1, 64), torch.tensor([context])
    text = torch.tensor([held.text(2)])
    taps = held.taps(2, model.config.taps)[None, :context]
    model.feed(store, taps, text[:, 1 : context + 1], torch.tensor([0]), length, held.embed)
    given = text[0, context + 1 :]
    logits = model.draft(store, length, held.embed, 4, choose=lambda _, step: given[step : step + 1])[1]
    return logits[0].detach().nan_to_num(neginf=0.0)


@pytest.fixture
def block(tmp_path: Path) -> Path:
    return published("tiny-dflash-qwen3").checkpoint("drafter-full", tmp_path)


@pytest.fixture
def head(tmp_path: Path) -> Path:
    return published("tiny-eagle3-llama").checkpoint("head-reduced", tmp_path)


def test_rows_that_predict_the_next_token(block: Path) -> None:
    """The same rows, one earlier: the anchor's own drafts the first token."""
    usual, shifted = dflash_logits(block), dflash_logits(block, sample_from_anchor=True)
    assert shifted.shape == usual.shape
    assert torch.equal(shifted[1:], usual[:-1])


def test_positions_of_a_block(block: Path) -> None:
    """They are relative: an offset matters to what stands before the block alone."""
    usual = dflash_logits(block)
    assert (dflash_logits(block, position_offset=1) - usual).abs().max() > 0.01
    alone = dflash_logits(block, context=0)
    assert (dflash_logits(block, context=0, position_offset=1) - alone).abs().max() < 1e-5


def test_positions_of_a_chain(head: Path) -> None:
    """The first draft is of what was fed; the steps after it stand elsewhere."""
    usual, moved = eagle3_logits(head), eagle3_logits(head, position_offset=-1)
    assert torch.equal(moved[0], usual[0])
    assert (moved[1:] - usual[1:]).abs().amax(-1).min() > 1e-3


def test_what_the_config_says_can_be_said_by_options(block: Path, head: Path) -> None:
    """Given its own value an option changes nothing, given another it does."""
    for logits, directory, own, other in (
        (dflash_logits, block, {"mask_token_id": 95}, {"mask_token_id": 94}),
        (dflash_logits, block, {"rope_theta": 1e4}, {"rope_theta": 1e6}),
        (eagle3_logits, head, {"rope_theta": 5e5}, {"rope_theta": 1e4}),
        (eagle3_logits, head, {"norm_output": False}, {"norm_output": True}),
    ):
        usual = logits(directory)
        assert torch.equal(logits(directory, **own), usual), own
        assert (logits(directory, **other) - usual).abs().max() > 1e-3, other


def test_the_last_tap_before_the_norm() -> None:
    """Boundaries below it are what they were."""
    assert taps_from([1, 4], 4, "") == (1, "final")
    assert taps_from([1, 4], 4, "", normed=False) == (1, 4)


def test_a_norm_that_no_tap_is_behind_is_refused() -> None:
    with pytest.raises(InputError, match="final_norm=false changes nothing for 'x': no tap is behind the last of 4"):
        taps_from([1, 3], 4, "x", normed=False)


@pytest.mark.parametrize("options", [DFlashOptions, Eagle3Options])
def test_an_endless_rotary_base_is_refused(options: type) -> None:
    _, wrong = parse(options, {"source": "x", "rope_theta": float("inf")})
    assert wrong == [("rope_theta", "must be at most 1000000000000.0, not inf")]


def test_the_last_tap_by_option(block: Path, head: Path) -> None:
    sizes = TargetSizes(*published("tiny-dflash-qwen3").sizes)
    options = DFlashOptions(source="", boundaries=(1, 3, 6), final_norm=False)
    assert load_dflash(block, sizes, options, *CPU).config.taps == (1, 3, 6)
    assert load_dflash(block, sizes, replace(options, final_norm=True), *CPU).config.taps == (1, 3, "final")
    sizes = TargetSizes(*published("tiny-eagle3-llama").sizes)
    chain = Eagle3Options(source="", boundaries=(1, 3, 7), final_norm=False)
    assert load_eagle3(head, sizes, chain, *CPU).config.taps == (1, 3, 7)
