"""The drafter `eagle3` against its references, SafeAILab's code and speculators': all recorded cycles."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from support.published import accepted, published
from torch import Tensor

from orthrus.drafter_models.fit import TargetSizes
from orthrus.drafter_models.key_values import KeyValues
from orthrus_eagle3.model import Eagle3Model, load_model
from orthrus_eagle3.options import Eagle3Options

FIXTURE = "tiny-eagle3-llama"
BY_SAFE_AI_LAB = ("head-reduced", "head-full", "head-narrow")
BY_SPECULATORS = (
    "head-reduced-speculators",
    "head-reduced-speculators-norm-before-residual",
    "head-full-speculators-norm-before-residual",
    "head-3.1-speculators",
)
LENGTH = 5
NEW_TOKENS = 48
SLOTS = 128
TOLERANCE = 1e-5


@cache
def drafter(name: str, options: Eagle3Options | None = None, dtype: torch.dtype = torch.float32) -> Eagle3Model:
    """Return the drafter of a recorded checkpoint."""
    with TemporaryDirectory() as folder:
        directory = published(FIXTURE).checkpoint(name, Path(folder))
        sizes = TargetSizes(*published(FIXTURE).sizes)
        return load_model(directory, sizes, options or Eagle3Options(source=""), dtype, "cpu")


def cycles_of(name: str, prompt: int, run: str) -> list[dict[str, Any]]:
    """Return the recorded cycles of a run."""
    return published(FIXTURE).expected["heads"][name]["runs"][prompt][run]["cycles"]  # type: ignore[no-any-return]


def feed(model: Eagle3Model, store: KeyValues, prompts: list[int], spans: list[tuple[int, int]]) -> None:
    """Feed the rows of spans of texts, one for each row, padded with what must not be read."""
    counts = [end - first for first, end in spans]
    taps = torch.full((len(prompts), max(counts), len(model.config.taps) * model.config.target_hidden_size), 1e4)
    tokens = torch.zeros(len(prompts), max(counts), dtype=torch.int64)
    for row, (prompt, (first, end)) in enumerate(zip(prompts, spans, strict=True)):
        taps[row, : end - first] = published(FIXTURE).taps(prompt, model.config.taps)[first:end]
        tokens[row, : end - first] = torch.tensor(published(FIXTURE).text(prompt)[first + 1 : end + 1])
    starts = torch.tensor([first for first, _ in spans])
    with torch.no_grad():
        model.feed(store, taps, tokens, starts, torch.tensor(counts), published(FIXTURE).embed)


@torch.no_grad()
def draft(model: Eagle3Model, store: KeyValues, lengths: list[int], *, wide: bool = False) -> tuple[Tensor, Tensor]:
    """Return the drafts after the rows that were fed, and their logits."""
    return model.draft(store, torch.tensor(lengths), published(FIXTURE).embed, LENGTH, wide=wide)


def differences(model: Eagle3Model, name: str, run: str, prompts: list[int]) -> Iterator[float]:
    """Yield how much the logits of each recorded cycle differ; drafts must be equal in both vocabularies."""
    recorded = [cycles_of(name, prompt, run) for prompt in prompts]
    store = model.new_store(len(prompts), SLOTS)
    for of_texts in zip(*recorded, strict=True):
        spans = [tuple(cycle["rows_fed"]) for cycle in of_texts]
        feed(model, store, prompts, spans)
        anchors = [cycle["anchor_position"] for cycle in of_texts]
        assert anchors == [end for _, end in spans]
        tokens, logits = draft(model, store, anchors)
        for row, cycle in enumerate(of_texts):
            assert tokens[row].tolist() == cycle["draft_ids"]
            assert logits[row].argmax(-1).tolist() == cycle["draft_ids_own"]
            yield float((logits[row] - published(FIXTURE).tensors[cycle["logits"]]).abs().max())


@pytest.mark.parametrize(
    ("name", "run"),
    [*((name, "plain") for name in BY_SAFE_AI_LAB), *((name, "forced") for name in BY_SAFE_AI_LAB + BY_SPECULATORS)],
)
def test_every_recorded_cycle_of_four_texts_at_once(name: str, run: str) -> None:
    """Rows of unlike lengths; what a chain wrote is dropped, and accepted rows are fed again with the target's taps."""
    measured = list(differences(drafter(name), name, run, [0, 1, 2, 3]))
    assert len(measured) == 4 * (8 if run == "forced" else 3)
    assert max(measured) <= TOLERANCE


@pytest.mark.parametrize("name", BY_SAFE_AI_LAB)
def test_accepted_counts(name: str) -> None:
    """The whole plain run, every cycle by what the ones before it won; a text that has ended is fed nothing more."""
    model, prompts = drafter(name), list(range(4))
    store = model.new_store(4, SLOTS)
    counts: list[list[int]] = [[] for _ in prompts]
    firsts, anchors = [0] * 4, [published(FIXTURE).prompt_length(prompt) for prompt in prompts]
    ends = [anchor + NEW_TOKENS - 1 for anchor in anchors]
    while any(anchor < end for anchor, end in zip(anchors, ends, strict=True)):
        feed(model, store, prompts, list(zip(firsts, anchors, strict=True)))
        drafts, firsts = draft(model, store, anchors)[0].tolist(), list(anchors)
        for row in prompts:
            if anchors[row] < ends[row]:
                counts[row].append(accepted(drafts[row], published(FIXTURE).text(row)[anchors[row] + 1 :]))
                anchors[row] += counts[row][-1] + 1
    runs = published(FIXTURE).expected["heads"][name]["runs"]
    assert counts == [run["plain"]["accepted_per_cycle"] for run in runs]


@pytest.mark.parametrize("name", BY_SAFE_AI_LAB + BY_SPECULATORS)
def test_every_recorded_cycle_of_one_text(name: str) -> None:
    """The way in which the reference itself decodes."""
    assert max(differences(drafter(name), name, "forced", [2])) <= TOLERANCE


def test_other_dtypes() -> None:
    """What goes in is converted. A chain goes on from its own drafts, so that its start is compared."""
    logits = []
    for dtype in (torch.float64, torch.bfloat16):
        model = drafter("head-reduced", None, dtype)
        store = model.new_store(1, SLOTS)
        feed(model, store, [2], [(0, 17)])
        logits.append(draft(model, store, [17])[1][0, 0])
    assert (logits[0] - published(FIXTURE).tensors["head-reduced.2.forced.0"][0]).abs().max() <= TOLERANCE
    assert TOLERANCE < (logits[0] - logits[1]).abs().max() < 0.1


def test_the_target_gives_what_was_recorded() -> None:
    """Else all else would be for nothing: taps relative to their largest value."""
    for prompt in range(4):
        reference = published(FIXTURE).tensors[f"target.taps.{prompt}"]
        taps = published(FIXTURE).taps(prompt, published(FIXTURE).expected["tap_boundaries"])[: len(reference)]
        assert (taps - reference).abs().max() <= TOLERANCE * reference.abs().max()


@pytest.mark.parametrize("shift", [-1, 1])
@pytest.mark.parametrize("name", ["head-reduced", "head-3.1-speculators"])
def test_taps_off_by_one_are_noticed(name: str, shift: int) -> None:
    """The mistake that programs differ in: reading the ids of one layout as those of the other."""
    moved = tuple(int(tap) + shift for tap in drafter(name).config.taps)
    wrong = drafter(name, Eagle3Options(source="", boundaries=moved))
    results = []
    for model in (drafter(name), wrong):
        store = model.new_store(1, SLOTS)
        feed(model, store, [2], [(0, 20)])
        results.append(draft(model, store, [20])[1])
    assert (results[0] - results[1]).abs().max() > 0.1
