"""How many operations a steady cycle launches besides its passes: between the host sync and each replay, and after it.

Those before the first replay hold it up, for the device has nothing else to do; those after it are launched while it
runs.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.building import decode_with
from support.families import tiny_model
from support.recordings import PlainRecorder, recording_target
from support.thorough import nightly_but
from support.views import committed, random_view
from torch.utils._python_dispatch import TorchDispatchMode

from orthrus import Chance, Context, Draft, Drafter, DraftShape, RowState, Scheduler, Step, Stop
from orthrus.drafting.pass_costs import PassCosts
from orthrus.drafting.policy import DraftLengthPolicy
from orthrus.drafting.tree_policy import TreePolicy
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.static import StaticCache
from orthrus_diffusion.block import MaskedBlock
from orthrus_diffusion.drafter import Diffusion
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_drafters.replay import Replay
from orthrus_transformers.engines.forward_pass import ForwardPass
from orthrus_transformers.model.fused_layer import FusedLayer
from orthrus_transformers.target import TransformersTarget


class Operations(TorchDispatchMode):
    """Note the operations of each cycle, views aside: those before each of its passes, then those until the sync."""

    def __init__(self) -> None:
        super().__init__()
        self.cycles: list[list[list[str]]] = []
        self._noted: list[list[str]] = [[]]
        self._replaying = False
        self.moved = False  # whether rows were rearranged, as some have ended: no steady cycle's work

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self._replaying and not _is_view(func._schema):
            self._noted[-1].append(func._schema.name.removeprefix("aten::"))
        return func(*args, **(kwargs or {}))

    def replay(self, action: Callable[[], None]) -> None:
        self._noted.append([])
        self._replaying = True
        action()
        self._replaying = False

    def sync(self) -> None:
        if len(self._noted) > 1 and not self.moved:
            self.cycles.append(self._noted)
        self._noted, self.moved = [[]], False


def _is_view(schema: Any) -> bool:
    aliases = [alias.alias_info for alias in schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def view_target() -> TransformersTarget:
    target = recording_target(slots=64)
    random_view(target, "view")
    return target


@functools.cache
def busiest(make: Callable[[TransformersTarget], Drafter], batch: int, stop: Stop) -> list[list[str]]:
    """Return the operations of the cycle that has most, after the prefill and the first, where all was recorded."""
    target, operations = view_target(), Operations()
    drafter = make(target)
    prompts = [[1, 2, 1, 2, 1], [2, 3]][:batch]
    for _ in range(2):
        decode_with(target, drafter, prompts, stop)
    own, arrange = torch.Tensor.tolist, Scheduler.arrange

    def arranged(scheduler: Scheduler) -> list[int]:
        sources = arrange(scheduler)
        operations.moved |= bool(sources)
        return sources

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scheduler, "arrange", arranged)
        patch.setattr(PlainRecorder, "around", staticmethod(operations.replay))
        patch.setattr(torch.Tensor, "tolist", lambda tensor: (operations.sync(), own(tensor))[1])
        with operations:
            decode_with(target, drafter, prompts, stop)
    return max(operations.cycles[2:], key=lambda cycle: sum(map(len, cycle)))


DRAFTERS: dict[str, Callable[[TransformersTarget], Drafter]] = {
    "none": lambda target: NoDrafter(),
    "lookup": lambda target: PromptLookup(1, 1, 4),
    "replay": lambda target: Replay(4, 0.7),
    "diffusion": lambda target: Diffusion(target, 4, 3, "view"),
    "early": lambda target: Diffusion(target, 4, 3, "view", early=True),
}


COUNTS = {  # before each replay, and after the last
    "none": [2, 13],
    "lookup": [5, 29],
    "replay": [10, 29],
    "diffusion": [2, 5, 29],
    "early": [6, 30, 1],  # the second replay is the next cycle's draft
}
FOR_STOPS = 10
WITH_A_STOP = Stop(24, token_ids=frozenset({39}))
BATCHES_AND_STOPS = list(itertools.product((1, 2), (0, 1)))


@pytest.mark.parametrize(("batch", "stops"), nightly_but([(2, 1)], BATCHES_AND_STOPS, thorough=[(1, 0)]))
@pytest.mark.parametrize("drafter", sorted(COUNTS))
def test_a_steady_cycle_launches_no_more_than_it_did(drafter: str, batch: int, stops: int) -> None:
    stop, wanted = WITH_A_STOP if stops else Stop(24), list(COUNTS[drafter])
    wanted[1 if drafter == "early" else -1] += stops * FOR_STOPS
    cycle = busiest(DRAFTERS[drafter], batch, stop)
    assert [len(part) for part in cycle] == wanted, cycle


@pytest.mark.thorough
def test_a_chain_takes_no_more_where_trees_are_considered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PassCosts, "cycles", lambda costs, context, sizes: [1.0] * len(sizes))
    monkeypatch.setattr(PassCosts, "knows", lambda costs, context, sizes: True)
    monkeypatch.setattr(DraftLengthPolicy, "decide", lambda *given: 3)
    monkeypatch.setattr(TreePolicy, "decide", lambda *given: DraftShape(3))
    for tree in (None, 15):

        def make(target: TransformersTarget, tree: int | None = tree) -> Diffusion:
            return Diffusion(target, 4, 3, "view", auto=True, tree=tree, early=True)

        assert [len(part) for part in busiest(make, 2, Stop(24))] == COUNTS["early"], tree


def test_everything_a_replay_reads_is_written_at_one_go() -> None:
    for make in DRAFTERS.values():
        for before in busiest(make, 2, WITH_A_STOP)[:-1]:
            assert before[-1] == "cat" and "copy_" not in before


def test_one_operation_more_is_noticed() -> None:
    class Wasteful(NoDrafter):
        def propose(self, context: Context, chance: Chance) -> Draft:
            _ = context.lengths + 1
            return super().propose(context, chance)

        def observe(self, step: Step) -> None:
            _ = step.lengths[:1]  # a view launches nothing

    assert busiest(lambda target: Wasteful(), 1, Stop(24))[0] == ["sub", "add", "cat"]


class Inside(Operations):
    """Note the operations of a pass itself, those of its layers aside."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        super().__init__()
        own = FusedLayer.forward

        def layer(*args: Any, **kwargs: Any) -> Any:
            self._replaying = True
            try:
                return own(*args, **kwargs)
            finally:
                self._replaying = False

        patch.setattr(FusedLayer, "forward", layer)

    @property
    def noted(self) -> list[str]:
        return self._noted[-1]


def test_a_drafting_pass_does_little_more_than_one_that_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    # No matter how the block is told: two operations to make it, one to choose from its logits.
    model = tiny_model("llama", dtype=torch.float32)
    target = TransformersTarget(model, None, StaticCache(slots=64), SdpaAttention(), engine="fused")
    random_view(target, "view")
    context, noted = committed(target, [[1, 2, 3]], room=30), []
    rows = RowState(context.lengths, context.anchors, context.room)
    for draft_pass in (None, MaskedBlock(8, 3, spare=False, choose=True), MaskedBlock(8, 3, spare=True, choose=True)):
        tokens = torch.ones(1, 8, dtype=torch.int64) if draft_pass is None else rows.anchors[:, None]
        lengths = context.lengths - int(draft_pass is None)
        forward_pass = ForwardPass(
            tokens, lengths, 16, 7, unused=1, draft_pass=draft_pass, room=None if draft_pass is None else rows.room
        )
        with torch.no_grad(), Inside(monkeypatch) as inside:
            target.engine.run(forward_pass)
        noted.append(inside.noted)
    scored, plain, spare = noted
    assert sorted(plain) == sorted([*scored, "constant_pad_nd", "sub", "argmax"])
    assert len(spare) > len(plain)  # which is why rows that all have room are told apart
