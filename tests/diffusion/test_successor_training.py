"""Training of a successor head: what it learns, what it leaves alone, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.thorough import thorough_but
from support.toy import MASK, MODEL, toy_config, toy_run
from torch import Tensor

from orthrus import InputError, PackedRows
from orthrus_diffusion.successor import SuccessorHead, split_weights
from orthrus_diffusion.training.fit import fit_view
from orthrus_diffusion.training.loss import BlockLoss, Following, Weights
from orthrus_diffusion.training.packing import Batch

ROWS, LENGTH, BLOCKS, SIZE, HIDDEN, VOCABULARY, RANK = 2, 10, 3, 4, 6, 9, 5


def written(directory: Path) -> dict[str, Tensor]:
    return dict(load_file(directory / "out" / "view" / "view.safetensors"))


def config_of(directory: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((directory / "out" / "view" / "config.json").read_text(encoding="utf-8"))
    return values


def records(directory: Path) -> list[dict[str, Any]]:
    text = (directory / "out" / "fit" / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def first_view(directory: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> Path:
    """Train a view without a head for a few steps; return its directory."""
    fit_view(toy_run(toy_config(directory, steps=4, save_every=1000), monkeypatch, print, *overrides))
    return directory / "out" / "view"


@pytest.mark.parametrize("storage", thorough_but(["int8"], ["float", "int8"]))
def test_the_head_alone_is_trained_beside_a_view_that_stays(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = first_view(tmp_path / "view", monkeypatch, f"training.storage={storage}")
    file = toy_config(tmp_path / "head", steps=3, train="successor", successor_rank=8)
    fit_view(toy_run(file, monkeypatch, print, f"training.start={view}", f"training.storage={storage}"))
    before, after = load_file(view / "view.safetensors"), written(tmp_path / "head")
    attention, head = split_weights(after)
    assert attention.keys() == before.keys()
    for name, weight in attention.items():
        torch.testing.assert_close(weight, before[name], rtol=1e-6, atol=0)  # scales may round anew, levels may not
    assert head["successor.out"].any()
    assert config_of(tmp_path / "head")["successor_rank"] == 8 and "successor_rank" not in config_of(tmp_path / "view")
    lines = records(tmp_path / "head")
    assert "successor_right_drafts" in lines[0] and "right_drafts" not in lines[0]


@pytest.mark.thorough
def test_both_are_trained_together_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit_view(toy_run(toy_config(tmp_path / "both", steps=3, successor_rank=8), monkeypatch))
    lines = records(tmp_path / "both")
    assert {"right_drafts", "successor_right_drafts", "divergence", "successor_divergence"} <= lines[0].keys()
    start = f"training.start={tmp_path / 'both' / 'out' / 'view'}"
    fit_view(toy_run(toy_config(tmp_path / "on", steps=1, learning_rate=0.0), monkeypatch, print, start))
    first, second = written(tmp_path / "both"), written(tmp_path / "on")
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    fit_view(toy_run(toy_config(tmp_path / "without", steps=1, successor_rank=0), monkeypatch, print, start))
    assert not split_weights(written(tmp_path / "without"))[1]
    with pytest.raises(InputError, match=r"fit\.successor_rank: is 4, and the head of '.*' has 8; set"):
        fit_view(toy_run(toy_config(tmp_path / "other", steps=1, successor_rank=4), monkeypatch, print, start))


def test_there_must_be_a_head_to_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"fit\.train: is successor, and there is no head to train; set fit.succ"):
        fit_view(toy_run(toy_config(tmp_path, steps=1, train="successor"), monkeypatch))


@pytest.mark.parametrize(("override", "own"), [("training.block=6", 8), ("training.mask_token_id=125", MASK)])
def test_a_view_that_stays_keeps_its_block_and_mask(
    override: str, own: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = toy_config(tmp_path, steps=1, train="successor", successor_rank=4)
    key, value = override.split("=")
    sentence = f"{key}: is {value}, and the view '{MODEL}', which fit.train=successor leaves as it is, has {own}; set"
    with pytest.raises(InputError, match=re.escape(f"{sentence} {key}={own}")):
        fit_view(toy_run(file, monkeypatch, print, f"training.start={MODEL}", "training.block=8", override))
    assert not (tmp_path / "out" / "view").exists()


@pytest.mark.thorough
def test_minutes_end_a_fit_with_its_rate_fallen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toy_config(tmp_path, steps=100_000, train="successor", successor_rank=4, minutes=0.005, log_every=1)
    fit_view(toy_run(file, monkeypatch))
    lines = records(tmp_path)
    steps = [line for line in lines if "learning_rate" in line]
    assert 2 <= steps[-1]["step"] < 10_000
    assert steps[-1]["learning_rate"] < max(line["learning_rate"] for line in steps)
    assert (tmp_path / "out" / "view").is_dir() and "tokens_per_cycle" in lines[-1]


def plain_loss(
    teacher: Tensor, drafted: Tensor, batch: Batch, matrix: Tensor, table: Tensor, head: SuccessorHead
) -> tuple[Tensor, int]:
    """Return the loss of a head's drafts, each after the answer's own token, and how many blocks are all right."""
    total, whole = drafted.new_zeros(()), 0
    for row in range(ROWS):
        for block in range(BLOCKS):
            anchor, good = int(batch.anchors[row, block]), True
            for index in range(SIZE - 1):
                column = anchor + index
                if column + 1 >= int(batch.ends[row, anchor]):
                    good = False
                    continue
                state, before = drafted[row, block, index], table[int(batch.rows.token_ids[row, column])]
                normed = [part / (part.square().mean() + 1e-6).sqrt() for part in (before, state)]
                told = head.token @ normed[0] + head.state @ normed[1]
                mixed = told[:RANK] * told[:RANK].sigmoid() * told[RANK:]
                logits = matrix @ state + matrix @ (head.out @ mixed)
                wanted = (matrix @ teacher[row, column]).softmax(0)
                total = total + 0.8**index * (wanted * (wanted.log() - logits.log_softmax(0))).sum()
                good = good and int(wanted.argmax()) == int(logits.argmax())
            whole += good
    return total, whole


@pytest.mark.parametrize(
    ("view", "compiled"), [(False, False), (True, False), pytest.param(True, True, marks=pytest.mark.nightly)]
)
def test_the_loss_of_a_head_is_the_one_written_out(view: bool, compiled: bool) -> None:
    generator = torch.Generator().manual_seed(4)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    matrix, table = random(VOCABULARY, HIDDEN), random(VOCABULARY, HIDDEN)
    weights = [random(2 * RANK, HIDDEN), random(2 * RANK, HIDDEN), random(HIDDEN, RANK)]
    head = SuccessorHead(*(weight.requires_grad_() for weight in weights))
    teacher, drafted = random(ROWS, LENGTH, HIDDEN), random(ROWS, BLOCKS, SIZE, HIDDEN)
    tokens = torch.randint(VOCABULARY, (ROWS, LENGTH), generator=generator)
    ends = torch.where(torch.arange(LENGTH) < 6, 6, LENGTH).repeat(ROWS, 1)
    anchors, nothing = torch.tensor([[0, 2, 6], [1, 4, 7]]), torch.zeros(ROWS, LENGTH)
    batch = Batch(PackedRows(tokens, nothing.long()), anchors, ends, torch.ones(ROWS, BLOCKS), nothing)
    wanted, whole = plain_loss(teacher, drafted, batch, matrix, table, head)
    expected = torch.autograd.grad(wanted / 10, weights)

    def project(hidden: Tensor, correction: Tensor | None = None) -> Tensor:
        return (hidden if correction is None else hidden + correction) @ matrix.T

    loss = BlockLoss(project, Weights(0.8, 0.0), compiled, Following(head, lambda ids: table[ids]), view)
    gradient, losses = loss(teacher, drafted, batch, 1, 10.0)
    assert losses.successor is not None and (losses.view is not None) == view == (gradient is not None)
    torch.testing.assert_close(losses.successor.loss.double(), wanted.detach() / 10, rtol=1e-4, atol=1e-5)
    assert int(losses.successor.right[-1]) == whole
    for weight, grad in zip(weights, expected, strict=True):
        assert weight.grad is not None
        torch.testing.assert_close(weight.grad, grad, rtol=1e-3, atol=1e-5)
