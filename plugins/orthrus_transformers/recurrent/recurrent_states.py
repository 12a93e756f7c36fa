"""States of recurrent layers by rows: checkpointed before a scored draft, and moved on by what is accepted of it.

What is committed is written between passes only, so that it is the checkpoint: a pass reads it, and what the pass
leaves is pending until `keep` says how many tokens of each row stay. B: rows, R: rows of a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from orthrus_transformers.recurrent.layer_states import LayerStates, Purpose, StateKey
from orthrus_transformers.recurrent.scored_pass import RecordedMove, ScoredPass, scored_pass
from orthrus_transformers.recurrent.state_groups import StateGroup, new_groups


class Replayable(Protocol):
    """What was recorded, and the bytes that it added to what recordings hold."""

    @property
    def size(self) -> int:
        """The bytes."""

    def replay(self) -> None:
        """Run it again over the tensors that it was recorded with."""


class RecordsActions(Protocol):
    """A recorder, as far as it takes actions that are no passes."""

    def record_action(self, action: Callable[[], None], written: Sequence[Tensor]) -> Replayable:
        """Return a recording of an action; what it writes over is as it was."""


class RecurrentStates:
    """The states of all rows.

    by_token: whether layers take the tokens of a pass one after the other. scan_dtype: in which they scan them,
    whatever the dtype of their inputs is; None: it is not known of any.
    """

    def __init__(self, by_token: bool, scan_dtype: torch.dtype | None = None) -> None:
        self.by_token = by_token
        self.scan_dtype = scan_dtype
        self.generation = 0  # how often the states had to move
        self.pending: ScoredPass | None = None
        self._rows = 0
        self._capacity = 0
        self._groups: list[StateGroup] = []
        self._marked: list[Tensor] | None = None  # as the groups', of the rows that there were

    def start(self, rows: int) -> None:
        """Hold rows of no tokens."""
        self.pending, self._marked = None, None
        if rows > self._capacity:
            self._groups, self._capacity = [], rows
            self.generation += 1
        self._rows = rows

    def move_rows(self, sources: Sequence[int]) -> None:
        """Hold as many rows as there are sources: each has what the row of that number had, -1 nothing."""
        assert self.pending is None, "rows move between passes, once it is known what is kept"
        if len(sources) > self._capacity:
            self._hold(len(sources))
        moves = [(row, source) for row, source in enumerate(sources) if source not in (row, -1)]
        if moves and self._groups:
            device = self._groups[0].states.device
            rows, origins = torch.tensor(moves).to(device, non_blocking=True).unbind(1)
            for states in [*(group.states for group in self._groups), *(self._marked or [])]:
                states[:, rows] = states[:, origins]
        self._rows = len(sources)

    def begin(self, rows: Tensor | None, columns: int, purpose: Purpose, fresh: bool) -> LayerStates:
        """Return the states that a pass over rows [R] begins with; None: over all rows; fresh: they have no tokens."""
        if purpose is Purpose.PROMPT and self.pending is not None:
            self.pending.replace(rows)
        held = None if fresh else self._held(rows, columns)
        return LayerStates(held, columns, purpose, self.by_token)

    def end(self, states: LayerStates, rows: Tensor | None, lengths: Tensor) -> None:
        """Take what a pass left of its rows [R], of which lengths [R] tokens were committed before it."""
        if states.purpose is Purpose.PROMPT:
            if not self._groups:
                self._groups = new_groups(states.states, self._capacity)
                self.generation += 1
            self._commit(states.states, rows)
        elif states.purpose is Purpose.SCORED:
            self.pending = scored_pass(states, self._groups, lengths)

    def keep(self, lengths: Tensor) -> None:
        """Let rows have the states after lengths [B] tokens, by the last scored pass or by the mark before it."""
        pending, self.pending = self.pending, None
        if pending is None:
            return
        if pending.move is not None and pending.replaced is None and self._marked is None:
            pending.move.lengths.copy_(lengths)
            pending.move.replay()
        else:
            self.move_on(pending, lengths, self._marked)

    def recorded_move(self, pending: ScoredPass, recorder: RecordsActions) -> RecordedMove:
        """Return a recording of what `keep` does after a recorded pass: some sixty launches for each group of states.

        It knows of no mark, whose tensors come and go. Raises UncapturableError if a recorder cannot take it.
        """
        lengths = pending.starts.clone()
        action = partial(self.move_on, pending, lengths, None)
        recorded = recorder.record_action(action, [group.states for group in self._groups])
        return RecordedMove(lengths, recorded.replay, recorded.size)

    def move_on(self, pending: ScoredPass, lengths: Tensor, marked: Sequence[Tensor] | None) -> None:
        """Let rows have the states after lengths [B] tokens, launch by launch; `keep` replays that where it can.

        marked: the states that rows go back to which are cut before the pass; None: those that they hold.
        """
        counts = pending.counts(lengths)
        accepted = counts.clamp(min=0)
        for index, (group, outcome) in enumerate(zip(self._groups, pending.outcomes, strict=True)):
            before = group.rows(self._rows)
            after = outcome.after(before, accepted)
            if marked is not None:
                cut = (counts < 0).view(1, -1, *[1] * (after.dim() - 2))
                after = torch.where(cut, marked[index][:, : self._rows], after)
            before.copy_(after)

    def mark(self) -> None:
        """Let later calls of `keep` go back to what rows hold now, also behind several scored passes."""
        self._marked = [group.states.clone() for group in self._groups]

    def bytes_in_use(self) -> int:
        """Return the bytes of all states."""
        return sum(states.nbytes for states in [*(group.states for group in self._groups), *(self._marked or [])])

    def bytes_of_row(self) -> int:
        """Return the bytes of one row's states."""
        return sum(group.states[:, 0].nbytes for group in self._groups)

    def report(self) -> Mapping[str, Any]:
        """Return how layers take the tokens of a draft, and how much memory the states have."""
        return {
            "recurrent": "token by token" if self.by_token else "in one scan",
            "state_MiB": round(self.bytes_in_use() / 2**20, 1),
        }

    def _held(self, rows: Tensor | None, columns: int) -> Mapping[StateKey, Tensor]:
        """Return the committed states of a pass's rows [R, ...]: copies where layers write over them."""
        writes = columns == 1 or self.by_token
        held: dict[StateKey, Tensor] = {}
        for group in self._groups:
            states = group.rows(self._rows) if rows is None else group.states[:, rows]
            states = states.clone() if writes and rows is None else states
            held |= dict(zip(group.keys, states.unbind(), strict=True))
        return held

    def _commit(self, states: Mapping[StateKey, Tensor], rows: Tensor | None) -> None:
        for group in self._groups:
            newest = torch.stack([states[key] for key in group.keys])
            if rows is None:
                group.rows(self._rows).copy_(newest)
            else:
                group.states[:, rows] = newest.to(group.states.dtype)

    def _hold(self, rows: int) -> None:
        """Make room for more rows."""
        more, self._capacity = rows - self._capacity, rows
        self.generation += 1
        for group in self._groups:
            group.states = _with_rows(group.states, more)
        self._marked = self._marked and [_with_rows(states, more) for states in self._marked]


def _with_rows(states: Tensor, count: int) -> Tensor:
    return torch.cat([states, states.new_zeros(len(states), count, *states.shape[2:])], dim=1)
