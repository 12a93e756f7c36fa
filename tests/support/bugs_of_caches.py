"""KV caches, each broken in one way that was seen in the field, or that the design warns of."""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus.testing import PlainCache
from support.bug import Bug


class KeepsRejected(PlainCache):
    """Write a slot once: what was rejected stays in it."""

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        before = dict(self._held)
        super().update(keys, values, layer)
        self._held.update(before)
        return super().update(*self._now(keys, layer), layer)

    def _now(self, keys: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        held = [
            [self._held[layer, row, slot] for slot in slots] for row, slots in zip(self._rows, self._slots, strict=True)
        ]
        return tuple(torch.stack([torch.stack([pair[side] for pair in row], 1) for row in held]) for side in (0, 1))  # type: ignore[return-value]

    def keep(self, lengths: Tensor) -> None:
        self.lengths = lengths


class CropsByTheLongest(PlainCache):
    """Keep of every row as much as of the one that kept least: batch 1 only."""

    def keep(self, lengths: Tensor) -> None:
        super().keep(torch.full_like(lengths, int(lengths.min())))
        self.lengths = lengths


class LikeTheFirst(PlainCache):
    """Size what is returned by the first layer's keys."""

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        if layer == 0:
            self._first = keys.shape
        states = super().update(keys, values, layer)
        heads, size = self._first[1], self._first[3]
        return states[0][:, :heads, :, :size], states[1][:, :heads, :, :size]


class SwapsRows(PlainCache):
    """Mix rows up after they kept other numbers of tokens."""

    def keep(self, lengths: Tensor) -> None:
        ragged = len(set((lengths - self.lengths).tolist())) > 1
        super().keep(lengths)
        if ragged:
            last = len(lengths) - 1
            self._held = {(layer, last - row, slot): pair for (layer, row, slot), pair in self._held.items()}


class Forgetting(PlainCache):
    """Keep the newest 100 keys only, as for a sliding window."""

    def keep(self, lengths: Tensor) -> None:
        super().keep(lengths)
        kept = lengths.tolist()
        self._held = {slot_key: pair for slot_key, pair in self._held.items() if slot_key[2] >= kept[slot_key[1]] - 100}


class IgnoresRows(PlainCache):
    """Write the pass over some rows into the first ones."""

    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        return super().place(slots, extent, None if rows is None else torch.arange(len(rows)))


class NeverStartsAgain(PlainCache):
    def start(self, rows: int, device: torch.device) -> None:
        held = self._held
        super().start(rows, device)
        self._held = held
        self.lengths = self.lengths + max((slot + 1 for _, _, slot in held), default=0)


class Halves(PlainCache):
    """Hold everything in bfloat16."""

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        states = super().update(keys.bfloat16(), values.bfloat16(), layer)
        return states[0].to(keys.dtype), states[1].to(values.dtype)


class RoundsToFifths(PlainCache):
    """Hold fifths of the largest number of a head, and say so: that is hardly a key any more."""

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        return super().update(self.rounded(keys), self.rounded(values), layer)

    def rounded(self, states: Tensor) -> Tensor:
        step = self._step(states)
        return (states / step).round() * step

    def _step(self, states: Tensor) -> Tensor:
        return (states.abs().amax(-1, keepdim=True) / 5).clamp(min=1e-30)


class RoundsByThePass(RoundsToFifths):
    """Hold thousandths of the largest number of a pass, and speak of those of a token."""

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        whole = [(states / self._of_pass(states)).round() * self._of_pass(states) for states in (keys, values)]
        return PlainCache.update(self, whole[0], whole[1], layer)

    def _of_pass(self, states: Tensor) -> Tensor:
        return self._step(states).amax()

    def _step(self, states: Tensor) -> Tensor:
        return (states.abs().amax(-1, keepdim=True) / 1000).clamp(min=1e-30)


class OneLayer(PlainCache):
    """Hold all layers in one."""

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        super().update(keys, values, 0)
        return super().update(values, keys, 0)


class WritesThrough(PlainCache):
    """Scale what it is handed."""

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        states = super().update(keys, values, layer)
        keys.zero_()
        return states


class SpoilsNeighbours(PlainCache):
    """Lose the first slot in a pass whose columns are not in order."""

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        for row, slots in zip(self._rows, self._slots, strict=True):
            if slots != sorted(slots):
                self._held.pop((layer, row, 0), None)
        return super().update(keys, values, layer)


class AddsUp(PlainCache):
    """Write by adding, so that a row which comes twice is written twice."""

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        copies = torch.tensor([self._rows.count(row) for row in self._rows])[:, None, None, None]
        return super().update(keys * copies, values * copies, layer)


class NeverEmpties(PlainCache):
    """Take a length of 0 for none given."""

    def keep(self, lengths: Tensor) -> None:
        super().keep(torch.where(lengths == 0, self.lengths, lengths))


class CountsNothing(PlainCache):
    def bytes_in_use(self) -> int:
        return 0


class RunsOn(PlainCache):
    """Take the slots of a pass for a run from the first on."""

    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        run = slots[:, :1] + torch.arange(slots.shape[1])
        return super().place(run, max(extent, int(run.max()) + 1), rows)


class OnePassAtATime(PlainCache):
    """Forget with each pass what the one before wrote and nobody kept."""

    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        kept = self.lengths.tolist()
        self._held = {slot_key: pair for slot_key, pair in self._held.items() if slot_key[2] < kept[slot_key[1]]}
        return super().place(slots, extent, rows)


class TwoLayers(PlainCache):
    """Hold every second layer in the same place."""

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        return super().update(keys, values, layer % 2)


class ManyHeads(PlainCache):
    """Turn heads around where there are more than two."""

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        states = super().update(keys, values, layer)
        return (states[0].flip(1), states[1].flip(1)) if keys.shape[1] > 2 else states


class EmptiesLengths(PlainCache):
    def keep(self, lengths: Tensor) -> None:
        super().keep(lengths.clone())
        lengths.zero_()


class EmptiesSlots(PlainCache):
    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        returned = super().place(slots, extent, rows)
        slots.zero_()
        return returned


BUGS = [
    Bug("cache", "gives all layers the heads of the first", "layers_may_differ", LikeTheFirst),
    Bug("cache", "takes the slots of a pass for a run", "prefills_may_come_in_chunks", RunsOn),
    Bug("cache", "forgets with each pass what was not kept", "slots_stand_until_kept", OnePassAtATime),
    Bug("cache", "holds two layers at most", "returns_what_was_written", TwoLayers),
    Bug("cache", "turns around more than two heads", "returns_what_was_written", ManyHeads),
    Bug("cache", "changes the lengths that it keeps", "returns_what_was_written", EmptiesLengths),
    Bug("cache", "changes the slots that it is handed", "returns_what_was_written", EmptiesSlots),
    Bug("cache", "takes a length of 0 for none given", "a_row_can_begin_again", NeverEmpties),
    Bug("cache", "counts no bytes", "declares_itself", CountsNothing),
    Bug("cache", "keeps a rejected key", "rollback_forgets_what_was_rejected", KeepsRejected),
    Bug("cache", "cuts all rows to the shortest", "rollback_forgets_what_was_rejected", CropsByTheLongest),
    Bug("cache", "swaps rows after ragged acceptance", "rollback_forgets_what_was_rejected", SwapsRows),
    Bug("cache", "forgets keys that a window hides", "growth_keeps_everything", Forgetting),
    Bug("cache", "writes a new prompt into another row", "passes_over_some_rows_leave_others_alone", IgnoresRows),
    Bug("cache", "adds up what a row's copies write", "a_row_may_come_more_than_once", AddsUp),
    Bug("cache", "starts again with its old lengths", "start_forgets_everything", NeverStartsAgain),
    Bug("cache", "holds float32 in bfloat16", "keys_keep_their_dtype", Halves),
    Bug("cache", "rounds to fifths of the largest number", "rounding_is_small", RoundsToFifths),
    Bug("cache", "rounds by the largest number of a pass", "returns_what_was_written", RoundsByThePass),
    Bug("cache", "returns values as keys", "returns_what_was_written", OneLayer),
    Bug("cache", "changes what it is handed", "returns_what_was_written", WritesThrough),
    Bug("cache", "loses a committed slot in a drafter's pass", "scratch_slots_do_not_matter", SpoilsNeighbours),
]
