"""One host sync a cycle: counted by watching every way in which a tensor's values reach Python."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from support.building import decode_with, table_target, transformers_target
from support.drafters import ScriptedDrafter
from support.sampled import DrawingDrafter, random_q
from support.thorough import thorough_but
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from orthrus import AutoBlock, Drafter, Result, Sampling, Stop, Target, Verifier
from orthrus_attention import unseen
from orthrus_diffusion.drafter import Diffusion
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_drafters.replay import Replay
from orthrus_verifiers.coupled import Coupled
from orthrus_verifiers.rejection import Rejection

READS = {"tolist", "item", "__bool__", "__int__", "__float__", "__index__", "numpy", "cpu", "nonzero", "__contains__"}
DATA_DEPENDENT = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal"}


class Reads(TorchFunctionMode):
    """Count the reads that Python code asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in READS:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


class HiddenReads(TorchDispatchMode):
    """Count the reads that happen below, such as indexing by a boolean tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        by_boolean = name.startswith("aten::index") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8)
            for index in (args[1] if isinstance(args[1], (list, tuple)) else [])
        )
        if name in DATA_DEPENDENT or by_boolean:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def reads_of(action: Callable[[], object]) -> list[str]:
    # On a CPU, where nothing waits, attention looks whether its output is finite; on other devices it does not.
    with mock.patch.object(unseen, "looks", lambda out: False), Reads() as reads, HiddenReads() as hidden:
        action()
    # `item` and its kin show up in both; `tolist` reads memory directly and shows up above only.
    return [name for name in reads.found if name in ("tolist", "numpy", "cpu")] + hidden.found


@pytest.mark.parametrize("make", thorough_but([table_target], [table_target, transformers_target]))
@pytest.mark.parametrize("drafter", ["none", "scripted", "lookup", "auto", "replay"])
def test_one_sync_a_cycle(
    make: Callable[[], Target], drafter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path))  # where `auto` keeps what passes cost
    target = make()
    drafters: dict[str, Drafter] = {
        "none": NoDrafter(),
        "scripted": ScriptedDrafter([[1] * 20, [2] * 20], 4, 0.5, [3]),
        "lookup": PromptLookup(2, 1, 4),
        "auto": PromptLookup(2, 1, 4, auto=AutoBlock(target, 4)),
        "replay": Replay(4, 0.7),
    }
    steps = []
    stop = Stop(16, min_new_tokens=3, token_ids=frozenset({3}))
    if drafters[drafter].learns:
        decode_with(target, drafters[drafter], [[1, 2, 1], [2]], stop)
    reads = reads_of(lambda: steps.extend(decode_with(target, drafters[drafter], [[1, 2, 1], [2]], stop)))
    cycles = max(result.measures.cycles for result in steps)
    assert reads == ["tolist"] * (cycles + 1)  # and one for the prefill


SAMPLING = Sampling(0.8, 5, 0.9, 0.01, 1.2, 0.1, 0.1, {1: 0.5}, ((1, 2), (3,)))


@pytest.mark.parametrize("verifier", [Rejection(), Coupled()])
@pytest.mark.parametrize("drafter", [NoDrafter(), PromptLookup(2, 1, 4), DrawingDrafter(random_q(1, 4), 3)])
def test_sampling_adds_none(verifier: Verifier, drafter: Drafter) -> None:
    results: list[Result] = []
    prompts, stop = [[1, 2, 1], [2]], Stop(16, min_new_tokens=3, token_ids=frozenset({3}))
    run = partial(decode_with, table_target(), drafter, prompts, stop, verifier=verifier, sampling=SAMPLING)
    reads = reads_of(lambda: results.extend(run()))
    assert reads == ["tolist"] * (max(result.measures.cycles for result in results) + 1)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("auto", thorough_but([False], [False, True]))
def test_a_drafting_pass_adds_none(
    auto: bool, temperature: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path))
    target = transformers_target()
    target.attach_view("copy")
    results: list[Result] = []
    drafter = Diffusion(target, 4, 0, "copy", auto=auto, early=True)  # as on a GPU: on a CPU drafts may be read first
    run = partial(decode_with, verifier=Coupled(), sampling=Sampling(temperature))
    if auto:  # what passes cost is measured with what a cycle reads, for two rows and for the one that goes on longer
        for prompts in ([[1, 2, 1], [2]], [[1, 2, 1]], [[2]]):
            run(target, drafter, prompts, Stop(16))
    reads = reads_of(lambda: results.extend(run(target, drafter, [[1, 2, 1], [2]], Stop(16))))
    assert reads == ["tolist"] * (max(result.measures.cycles for result in results) + 1)


@pytest.mark.parametrize(
    "read",
    [
        lambda t: t.item(),
        bool,
        lambda t: t.tolist(),
        int,
        lambda t: torch.arange(3)[torch.arange(3) > t],
    ],
)
def test_the_counter_sees_a_read(read: Callable[[torch.Tensor], object]) -> None:
    assert len(reads_of(lambda: read(torch.tensor(1)))) == 1
