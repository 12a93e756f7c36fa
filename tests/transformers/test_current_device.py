"""A target's passes run with its own CUDA device as the current one; on a CPU nothing is asked of CUDA."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from orthrus_transformers.guards import on_its_device
from orthrus_transformers.target import TransformersTarget
from orthrus_transformers.training.dual_pass import DualPass


@dataclass
class Placed:
    device: torch.device
    current: list[str] = field(default_factory=lambda: ["the one before"])

    @on_its_device
    def work(self, given: int, *, more: int) -> tuple[str, int]:
        """Do it."""
        return self.current[-1], given + more


@pytest.mark.parametrize(
    ("name", "there"), [("cuda:1", "cuda:1"), ("cuda:0", "the one before"), ("cpu", "the one before")]
)
def test_the_device_is_current_while_it_lasts(name: str, there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    placed = Placed(torch.device(name))

    @contextmanager
    def device(chosen: Any) -> Iterator[None]:
        placed.current.append(str(chosen))
        yield
        placed.current.pop()

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert placed.work(1, more=2) == (there, 3)
    assert placed.current == ["the one before"]
    assert (placed.work.__name__, placed.work.__doc__) == ("work", "Do it.")


@pytest.mark.parametrize(
    "method",
    [
        *(getattr(TransformersTarget, name) for name in ("prefill", "score", "forward", "draft")),
        *(getattr(DualPass, name) for name in ("committed", "drafted")),
    ],
)
def test_every_pass_is_one_of_them(method: Any) -> None:
    codes = []
    while method is not None:
        codes.append(method.__code__)
        method = getattr(method, "__wrapped__", None)
    assert Placed.work.__code__ in codes
