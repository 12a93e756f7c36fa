"""The drafter `dflash` against its reference, dflash 0.1.0: all recorded cycles, four texts at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from support.published import accepted, published
from torch import Tensor

from orthrus.drafter_models.fit import TargetSizes
from orthrus.drafter_models.key_values import KeyValues
from orthrus_dflash.model import DFlashModel, load_model
from orthrus_dflash.options import DFlashOptions

FIXTURE = "tiny-dflash-qwen3"
DRAFTERS = (
    "drafter-full",
    "drafter-sliding",
    "drafter-sliding-noncausal",
    "drafter-options",
    "drafter-full-speculators",
)
NEW_TOKENS = 48
SLOTS = 128
TOLERANCE = 1e-5


@cache
def drafter(name: str, options: DFlashOptions | None = None, dtype: torch.dtype = torch.float32) -> DFlashModel:
    """Return the drafter of a recorded checkpoint."""
    with TemporaryDirectory() as folder:
        directory = published(FIXTURE).checkpoint(name, Path(folder))
        sizes = TargetSizes(*published(FIXTURE).sizes)
        return load_model(directory, sizes, options or DFlashOptions(source=""), dtype, "cpu")


@dataclass(frozen=True)
class Cycle:
    """A cycle of one text: where its anchor is, the rows that are fed before, and how wide its block is."""

    anchor: int
    first: int
    width: int


def cycles_of(name: str, prompt: int, run: str, block: int) -> list[Cycle]:
    """Return all cycles of a run, those that are not recorded, too: their anchors follow from what was won."""
    length = published(FIXTURE).prompt_length(prompt)
    anchor, first, cycles = length, 0, []
    for advance in expected_runs(name)[prompt][run]["advance_per_cycle"]:
        cycles.append(Cycle(anchor, first, min(block, length + NEW_TOKENS - anchor)))
        first, anchor = anchor, anchor + advance
    return cycles


def expected_runs(name: str) -> list[dict[str, dict[str, list[int]]]]:
    """Return the runs of a drafter, one for each prompt."""
    drafters = published(FIXTURE).expected["drafters"]
    return drafters[drafters[name].get("same_as", name)]["runs"]  # type: ignore[no-any-return]


def drafted(
    model: DFlashModel, name: str, run: str, prompts: list[int]
) -> Iterator[tuple[int, list[Cycle], Tensor, Tensor]]:
    """Draft the cycles of texts together; yield each cycle's number, places, drafts and logits, of all texts.

    A text that has no cycle left goes on at its last one.
    """
    block = model.config.block
    of_texts = [cycles_of(name, prompt, run, block) for prompt in prompts]
    store = model.new_store(len(prompts), SLOTS)
    for number in range(max(map(len, of_texts))):
        cycles = [cycles[min(number, len(cycles) - 1)] for cycles in of_texts]
        feed(model, store, prompts, [(cycle.first, cycle.anchor) for cycle in cycles])
        yield number, cycles, *draft(model, store, prompts, cycles)


def feed(model: DFlashModel, store: KeyValues, prompts: list[int], spans: list[tuple[int, int]]) -> None:
    """Feed the taps of spans of texts, one for each row, padded with what must not be read."""
    counts = [end - first for first, end in spans]
    width = len(model.config.taps) * model.config.hidden_size
    taps = torch.full((len(prompts), max(counts), width), 1e4)
    for row, (prompt, (first, end)) in enumerate(zip(prompts, spans, strict=True)):
        taps[row, : end - first] = published(FIXTURE).taps(prompt, model.config.taps)[first:end]
    model.feed(store, taps, torch.tensor([first for first, _ in spans]), torch.tensor(counts))


@torch.no_grad()
def draft(model: DFlashModel, store: KeyValues, prompts: list[int], cycles: list[Cycle]) -> tuple[Tensor, Tensor]:
    """Return drafts and logits of the blocks after the cycles' anchors."""
    anchors = [published(FIXTURE).text(prompt)[cycle.anchor] for prompt, cycle in zip(prompts, cycles, strict=True)]
    return model.draft(
        store,
        torch.tensor(anchors),
        torch.tensor([cycle.anchor for cycle in cycles]),
        published(FIXTURE).embed,
        published(FIXTURE).head,
        widths=torch.tensor([cycle.width for cycle in cycles]),
    )


def differences(model: DFlashModel, name: str, run: str, prompts: list[int]) -> Iterator[float]:
    """Yield how much the logits of each recorded cycle differ; drafts, places and accepted counts must be equal."""
    runs = [expected_runs(name)[prompt][run] for prompt in prompts]
    recorded = [{cycle["cycle"]: cycle for cycle in expected["cycles"]} for expected in runs]
    for number, cycles, tokens, logits in drafted(model, name, run, prompts):
        for row, (prompt, cycle) in enumerate(zip(prompts, cycles, strict=True)):
            if number >= len(runs[row]["advance_per_cycle"]):
                continue
            own = tokens[row, : cycle.width - 1].tolist()
            if run == "plain":
                truth = published(FIXTURE).text(prompt)[cycle.anchor + 1 :]
                assert min(accepted(own, truth), len(truth) - 1) == runs[row]["accepted_per_cycle"][number]
            if (expected := recorded[row].get(number)) is not None:
                assert (cycle.anchor, cycle.width) == (expected["anchor_position"], expected["block"])
                assert [cycle.first, cycle.anchor] == expected["context_rows_fed"]
                assert own == expected["draft_ids"]
                reference = published(FIXTURE).tensors[expected["logits"]]
                yield float((logits[row, : cycle.width - 1] - reference).abs().max())


@pytest.mark.parametrize("run", ["plain", "forced"])
@pytest.mark.parametrize("name", DRAFTERS)
def test_every_recorded_cycle_of_four_texts_at_once(name: str, run: str) -> None:
    """Rows of unlike lengths, caches that are cropped, blocks that are shortened near the limit."""
    measured = list(differences(drafter(name), name, run, [0, 1, 2, 3]))
    assert len(measured) == 4 * (7 if run == "forced" else 3)
    assert max(measured) <= TOLERANCE


@pytest.mark.parametrize("name", DRAFTERS[:4])
def test_every_recorded_cycle_of_one_text(name: str) -> None:
    """The way in which the reference itself decodes."""
    assert max(differences(drafter(name), name, "forced", [2])) <= TOLERANCE


def test_other_dtypes() -> None:
    """The target's are its own: what goes in and comes out is converted. float64 is as near as the reference's is."""
    model, cycle = drafter("drafter-full", None, torch.float64), cycles_of("drafter-full", 2, "forced", 8)[0]
    store = model.new_store(1, SLOTS)
    feed(model, store, [2], [(0, cycle.anchor)])
    exact = draft(model, store, [2], [cycle])[1]
    assert (exact[0] - published(FIXTURE).tensors["drafter-full.2.forced.0"]).abs().max() <= TOLERANCE
    model = drafter("drafter-full", None, torch.bfloat16)
    store = model.new_store(1, SLOTS)
    feed(model, store, [2], [(0, cycle.anchor)])
    rounded = draft(model, store, [2], [cycle])[1]
    assert rounded.dtype == torch.float32
    assert TOLERANCE < (exact - rounded).abs().max() < 0.1


@pytest.mark.parametrize("name", DRAFTERS[:4])
def test_context_and_states(name: str) -> None:
    """What the layers read of the target, and what the head is given."""
    model, reference = drafter(name), published(FIXTURE).tensors
    cycle = cycles_of(name, 1, "forced", model.config.block)[0]
    taps = published(FIXTURE).taps(1, model.config.taps)
    assert (model.context(taps[:5]) - reference[f"{name}.context.1"]).abs().max() <= TOLERANCE
    store = model.new_store(1, SLOTS)
    feed(model, store, [1], [(0, cycle.anchor)])
    block = [published(FIXTURE).text(1)[cycle.anchor]] + [model.config.mask_token_id] * (cycle.width - 1)
    embedded = published(FIXTURE).embed(torch.tensor([block])).detach()
    states = model.block_states(store, embedded, torch.tensor([cycle.anchor]), torch.tensor([cycle.width]), SLOTS)
    expected = reference[f"{name}.hidden.1"]
    assert (states[0, 1:] - expected).abs().max() <= TOLERANCE * expected.abs().max()


def test_the_target_gives_what_was_recorded() -> None:
    """Else all else would be for nothing: boundaries relative to their largest value, logits absolute."""
    for prompt in range(3):
        length = published(FIXTURE).prompt_length(prompt)
        reference = published(FIXTURE).tensors[f"target.boundaries.{prompt}"]
        states = torch.stack(published(FIXTURE).boundaries(prompt))[:, :length]
        assert (states - reference).abs().max() <= TOLERANCE * reference.abs().max()


@pytest.mark.parametrize("shift", [-1, 1])
@pytest.mark.parametrize("name", DRAFTERS[:4])
def test_taps_off_by_one_are_noticed(name: str, shift: int) -> None:
    """The mistake that programs differ in: reading the ids of one layout as those of the other."""
    boundaries = [6 if tap == "final" else int(tap) for tap in drafter(name).config.taps]
    moved = tuple(min(max(boundary + shift, 0), 6) for boundary in boundaries)
    wrong = drafter(name, DFlashOptions(source="", boundaries=moved))
    assert wrong.config.taps != drafter(name).config.taps
    cycle = cycles_of(name, 2, "forced", wrong.config.block)[1]
    results = []
    for model in (drafter(name), wrong):
        store = model.new_store(1, SLOTS)
        feed(model, store, [2], [(0, cycle.anchor)])
        results.append(draft(model, store, [2], [cycle])[1])
    assert (results[0] - results[1]).abs().max() > 0.1
