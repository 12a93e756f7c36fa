"""What the kit counts as waits for the device, and what it does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from orthrus.testing.doubles.host_syncs import HostReads


def counted(action: Callable[[Tensor], object]) -> list[str]:
    tensor = torch.tensor([0, 1, 1])
    with HostReads() as reads:
        action(tensor)
    return reads.found


@pytest.mark.parametrize(
    "read",
    [
        lambda t: t[0].item(),
        lambda t: bool(t[0]),
        lambda t: int(t[0]),
        lambda t: "abc"[t[0]],
        lambda t: t.tolist(),
        lambda t: 1 in t,
        lambda t: t[t > 0],
        lambda t: t[:, None][t > 0, 0],
        lambda t: t.nonzero(),
        lambda t: torch.equal(t, t),
        lambda t: max(t[0], 1),
    ],
)
def test_a_read_is_counted(read: Callable[[Tensor], object]) -> None:
    assert len(counted(read)) == 1


@pytest.mark.parametrize(
    "work",
    [
        lambda t: t[1:].argmax(),
        lambda t: t[torch.tensor([2, 0])],
        lambda t: torch.where(t > 0, t, 0),
        list,
        lambda t: t.shape[0] > 2,
    ],
)
def test_what_the_device_does_by_itself_is_not(work: Callable[[Tensor], object]) -> None:
    assert counted(work) == []


def test_what_is_paused_is_left_out() -> None:
    with HostReads() as reads:
        with reads.paused():
            torch.ones(2).tolist()
        torch.ones(1).item()
    assert reads.found == ["item"]
