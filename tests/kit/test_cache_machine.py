"""The published state machine for caches: the honest ones pass, and each planted bug is found and named."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from support.thorough import thorough_but
from torch import Tensor

from orthrus.reference.cache import PlainCache
from orthrus.testing.cache_machine import cache_machine
from orthrus.testing.profiles import fewer
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.offloaded import OffloadedCache
from orthrus_caches.paged import PagedCache
from orthrus_caches.quantized import QuantizedCache
from orthrus_caches.static import StaticCache

QUICK = settings(
    max_examples=100,
    phases=[Phase.generate],  # no shrinking
    report_multiple_bugs=False,  # it ends with the first
    deadline=None,
    database=None,
)


def case(factory: Any, how: settings) -> Any:
    machine = cache_machine(factory).TestCase
    machine.settings = how
    return machine


TestDynamicCache = case(DynamicCache, fewer(5, stateful_step_count=25))
TestStaticCache = case(partial(StaticCache, slots=4), fewer(4, stateful_step_count=25))  # 4 slots: it has to grow
TestPagedCache = case(partial(PagedCache, block=2), fewer(5, stateful_step_count=25))
TestQuantizedCache = case(QuantizedCache, fewer(10, stateful_step_count=25))  # two of the first
TestOffloadedCache = case(OffloadedCache, fewer(5, stateful_step_count=25))
TestPlainCache = case(PlainCache, fewer(10, stateful_step_count=25))  # it is slow


class ForgetsACommittedSlot(DynamicCache):
    def keep(self, lengths: Tensor) -> None:
        super().keep(lengths)
        for keys in self._keys:
            keys[:, :, 1:2] = 0.0


class KeepsARejectedKey(DynamicCache):
    """Write no slot twice."""

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        before = self._keys[layer].clone() if layer < len(self._keys) else None
        seen = super().update(keys, values, layer)
        if before is not None:
            held = self._keys[layer][:, :, : before.shape[2]]
            held.copy_(torch.where((before != 0).any(-1, keepdim=True), before, held))
        return seen


class SwapsRowsAfterRaggedAcceptance(DynamicCache):
    def keep(self, lengths: Tensor) -> None:
        steps = lengths - self.lengths
        super().keep(lengths)
        if len(set(steps.tolist())) > 1:
            self._values = [values.flip(0) for values in self._values]


class KeepsTooMuch(DynamicCache):
    def keep(self, lengths: Tensor) -> None:
        super().keep(torch.maximum(lengths, self.lengths) if len(lengths) == len(self.lengths) else lengths)


class RefillsTheWrongRow(DynamicCache):
    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        return super().place(slots, extent, rows if rows is None else (rows + 1) % len(self.lengths))


class IgnoresTheOrderOfSlots(DynamicCache):
    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        return super().place(slots.sort(dim=1).values, extent, rows)


class LosesWhatItHeldWhenItGrows(StaticCache):
    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        before = self.generation
        bucket = super().place(slots, extent, rows)
        for values in self.buffers[1] if self.generation != before else ():
            values.zero_()
        return bucket


class ReturnsTooLittle(DynamicCache):
    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        return super().place(slots, extent, rows) - 1


class ReturnsRowsThatWereNotAskedFor(DynamicCache):
    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        extent = super().update(keys, values, layer)[0].shape[2]
        all_keys, all_values = self.buffers
        return all_keys[layer][:, :, :extent], all_values[layer][:, :, :extent]


class ScalesWhatItIsGiven(DynamicCache):
    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        seen = super().update(keys, values, layer)
        keys.mul_(0.5)
        return seen


class MixesItsLayers(DynamicCache):
    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        return super().update(keys, values, 0)


class CountsNoBytes(DynamicCache):
    def bytes_in_use(self) -> int:
        return 0


BUGS: dict[Any, str] = {
    ForgetsACommittedSlot: r"keys of layer 0, row \d: slot 1 begins with 0; .* was written there last",
    KeepsARejectedKey: r"keys of layer 0, row \d: slot \d+ begins with .*; .* was written there last",
    SwapsRowsAfterRaggedAcceptance: r"values of layer \d, row \d: slot \d+ begins with .*",
    KeepsTooMuch: r"lengths are \[.*\], not \[.*\]",
    RefillsTheWrongRow: r"keys of layer 0, row \d: slot \d+ begins with .*",
    IgnoresTheOrderOfSlots: r"keys of layer 0, row \d: slot \d+ begins with .*",
    partial(LosesWhatItHeldWhenItGrows, slots=4): r"values of layer \d, row \d: slot 0 begins with 0; .*",
    ReturnsTooLittle: r"place returned \d+ slots; the pass needs \d+",
    ReturnsRowsThatWereNotAskedFor: r"update returned keys \[.*\], not \[.*\]",
    ScalesWhatItIsGiven: "update changed what it was given",
    MixesItsLayers: r"keys of layer \d, row \d: slot \d+ begins with .*",
    CountsNoBytes: "bytes_in_use is 0 after a pass",
}


SLOW = {ForgetsACommittedSlot, LosesWhatItHeldWhenItGrows, RefillsTheWrongRow, SwapsRowsAfterRaggedAcceptance}
SLOWER = [bug for bug in BUGS if getattr(bug, "func", bug) in SLOW]


@pytest.mark.parametrize(
    "bug",
    thorough_but([bug for bug in BUGS if bug not in SLOWER], BUGS),
    ids=lambda bug: getattr(bug, "func", bug).__name__,
)
def test_a_planted_bug_is_found(bug: Any) -> None:
    with pytest.raises(AssertionError, match=f"^{BUGS[bug]}"):
        run_state_machine_as_test(cache_machine(bug), settings=QUICK)
