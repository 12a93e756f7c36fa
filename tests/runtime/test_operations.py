"""How many operations a steady cycle launches besides its pass: between the host sync and the replay, and after it.

Those before the replay hold it up, for the device has nothing else to do; those after it are launched while it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.building import decode_with
from support.recordings import Recorder, recording_target
from torch.utils._python_dispatch import TorchDispatchMode

from orthrus import Chance, Context, Draft, Drafter, Step, Stop
from orthrus_lookup.prompt_lookup import PromptLookup
from orthrus_plain.none import NoDrafter
from orthrus_replay.replay import Replay


class Operations(TorchDispatchMode):
    """Note the operations of each cycle, views aside: first those before its pass, then those until the host sync."""

    def __init__(self) -> None:
        super().__init__()
        self.cycles: list[tuple[list[str], list[str]]] = []
        self._noted: list[str] = []
        self._before: list[str] | None = None
        self._replaying = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self._replaying and not _is_view(func._schema):
            self._noted.append(func._schema.name.removeprefix("aten::"))
        return func(*args, **(kwargs or {}))

    def replay(self, action: Callable[[], None]) -> None:
        self._before, self._noted, self._replaying = self._noted, [], True
        action()
        self._replaying = False

    def sync(self) -> None:
        if self._before is not None:
            self.cycles.append((self._before, self._noted))
        self._noted, self._before = [], None


def _is_view(schema: Any) -> bool:
    aliases = [one.alias_info for one in schema.returns]
    return any(one is not None and not one.is_write for one in aliases)


def busiest(drafter: Drafter, batch: int, stop: Stop) -> tuple[list[str], list[str]]:
    """Return the operations of the cycle that has most, in the midst of an answer whose passes were all recorded."""
    target, operations = recording_target(slots=64), Operations()
    prompts = [[1, 2, 1, 2, 1], [2, 3]][:batch]
    for _ in range(2):
        decode_with(target, drafter, prompts, stop)
    own = torch.Tensor.tolist
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "around", staticmethod(operations.replay))
        patch.setattr(torch.Tensor, "tolist", lambda tensor: (operations.sync(), own(tensor))[1])
        with operations:
            decode_with(target, drafter, prompts, stop)
    return max(operations.cycles[1:], key=lambda cycle: len(cycle[0] + cycle[1]))


DRAFTERS: dict[str, Callable[[], Drafter]] = {
    "none": NoDrafter,
    "lookup": lambda: PromptLookup(1, 1, 4),
    "replay": lambda: Replay(4, 0.7),
}


@pytest.mark.parametrize("stops", [0, 1])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    ("drafter", "before", "after", "for_stops"), [("none", 2, 14, 10), ("lookup", 5, 28, 10), ("replay", 10, 28, 10)]
)
def test_a_steady_cycle_launches_no_more_than_it_did(
    drafter: str, before: int, after: int, for_stops: int, batch: int, stops: int
) -> None:
    stop = Stop(24, token_ids=frozenset({39} if stops else {}))
    first, second = busiest(DRAFTERS[drafter](), batch, stop)
    assert len(first) == before, first
    assert len(second) == after + stops * for_stops, second


def test_everything_a_replay_reads_is_written_at_one_go() -> None:
    for make in DRAFTERS.values():
        before, _ = busiest(make(), 2, Stop(24))
        assert before[-1] == "cat" and before.count("cat") == 1 and "copy_" not in before


def test_one_operation_more_is_noticed() -> None:
    class Wasteful(NoDrafter):
        def propose(self, context: Context, chance: Chance) -> Draft:
            _ = context.lengths + 1
            return super().propose(context, chance)

        def observe(self, step: Step) -> None:
            _ = step.lengths[:1]  # a view launches nothing

    assert busiest(Wasteful(), 1, Stop(24))[0] == ["sub", "add", "cat"]
