"""CUDA graphs: a whole pass recorded once and replayed, without Python between its kernels."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from orthrus import BuildError, DraftPass, InputError
from orthrus.one_pass import AcceptableBlocks
from orthrus.optional import StaticKVCache
from orthrus.ranks.group import RankGroup
from orthrus_transformers.engines.eager import EagerEngine
from orthrus_transformers.engines.engine import Engine, EngineSetup, Obstacle
from orthrus_transformers.engines.forward_pass import BlocksBeside, ForwardPass
from orthrus_transformers.engines.fused import FusedEngine
from orthrus_transformers.engines.graph_limits import GraphLimits
from orthrus_transformers.engines.graph_recorder import CudaRecorder, Recorder, Recording, UncapturableError, packed
from orthrus_transformers.engines.graph_reuse import Repeats
from orthrus_transformers.engines.prefill_padding import with_few_shapes
from orthrus_transformers.model.pass_state import Form
from orthrus_transformers.model.shards import group_of
from orthrus_transformers.model.taps import TapBuffer
from orthrus_transformers.model.views import View
from orthrus_transformers.recurrent.recurrent_states import RecurrentStates
from orthrus_transformers.recurrent.scored_pass import ScoredPass


class BesideShape(NamedTuple):
    """The part of the key that is of blocks beside a scored draft."""

    blocks: AcceptableBlocks
    view: View
    scored_bucket: int  # slots that the draft attends to, as it would alone
    taps: tuple[TapBuffer, int] | None


class Shape(NamedTuple):
    """The key of a recording: a pass of the same shape may replay it."""

    rows: int
    columns: int
    bucket: int  # slots of the cache that are attended to
    projected: int  # columns
    kind: str
    view: View | None
    given_positions: bool
    prefill: bool
    some_rows: bool
    draft_pass: DraftPass | None
    taps: tuple[TapBuffer, int] | None  # and its generation
    choices: bool
    beside: BesideShape | None


class GraphedEngine:
    """The engine `graphed`: replays passes of the same shape; captures a shape when it first comes.

    The shape of a prefill is captured when it comes again.
    What is returned is the recording's own tensor, which the next replay overwrites: it lives for one cycle.
    """

    @staticmethod
    def obstacle(setup: EngineSetup) -> Obstacle | None:
        """Return what is missing for captures: the device, or what can be set."""
        device = setup.model.device.type
        if device != "cuda":
            return Obstacle(f"needs a CUDA device, not {device}", "set engine=eager")
        backend = setup.state.backend
        lacking = (
            {}
            if isinstance(setup.cache, StaticKVCache)
            else {f"another cache than {type(setup.cache).__name__}, whose buffers move": "cache.name=static"}
        )
        if not backend.capabilities.graphs:
            lacking[f"another attention than {type(backend).__name__}"] = "attention.name=split"
        if not lacking:
            return None
        needs, remedy = " and ".join(lacking), f"set {' and '.join(lacking.values())}"
        return Obstacle(f"needs {needs}", remedy, f"runs passes without CUDA graphs, which need {needs}; {remedy}")

    @classmethod
    def make(cls, setup: EngineSetup) -> GraphedEngine:
        """Return the engine around the fastest one that it can capture; asked for by name, it insists on captures."""
        inner = FusedEngine.make(setup) if FusedEngine.obstacle(setup) is None else EagerEngine.make(setup)
        limits = replace(setup.limits, strict=setup.by_name or setup.limits.strict)
        return cls(inner, setup.cache, limits, group=group_of(setup.model))

    def __init__(
        self,
        eager: EagerEngine,
        cache: Any,
        limits: GraphLimits,
        recorder: Recorder | None = None,
        group: RankGroup | None = None,
    ) -> None:
        """Replay passes of an engine; recorder None: as CUDA graphs. group: of the ranks that run the same passes."""
        self._group = group
        self._eager = eager
        self._cache = cache
        self._limits = limits
        self._recordings: OrderedDict[Shape, Recording] = OrderedDict()
        self._recorder = recorder or CudaRecorder(shared=group is not None)
        self._generation = -1, -1  # of the cache's buffers, and of recurrent states
        self._bytes = 0  # that the recordings' pool has reserved
        self._given_up = False
        self._most_slots: int | None = cache.max_slots
        self._prefills_given_up = False
        self._pads = True
        self._came: set[Shape] = set()  # those of prefills: to capture one takes as long as to run it several times
        self._uncaptured: set[DraftPass | None] = set()  # what drafters made of passes that cannot be captured
        self._repeats = Repeats()  # whether drafters' passes ever are what they were
        self._recurrent = eager.recurrent
        self._pending = WeakKeyDictionary[Recording, ScoredPass]()  # what recorded passes leave of recurrent layers
        self._warned = False  # that passes over the limit run uncaptured

    @property
    def form(self) -> Form:
        """The form of the layers of what is captured."""
        return self._eager.form

    @property
    def eager(self) -> Engine:
        """What runs passes uncaptured."""
        return self._eager.eager

    @property
    def recordings(self) -> Mapping[Shape, Recording]:
        """What is recorded, by the shape of its pass; the one that was used last comes last."""
        return MappingProxyType(self._recordings)

    def run(self, forward_pass: ForwardPass) -> Tensor:
        """Return the logits, or what is made of them, replaying a recording where there is one of this shape."""
        if forward_pass.slots is not None:
            return self._prefill(forward_pass)
        draft_pass = forward_pass.draft_pass
        never = self._given_up or draft_pass in self._uncaptured or self._repeats.given_up(draft_pass)
        if never or not self._allows(forward_pass):
            return self._eager.run(forward_pass)
        output = self._replayed(forward_pass)
        return self._eager.run(forward_pass) if output is None else output

    def joins(self, rows: int, beside: BlocksBeside) -> bool:
        """Tell whether the engine that is captured joins them, in passes that are not too large to be captured."""
        columns = beside.blocks.count + beside.blocks.columns
        return rows * columns <= self._limits.tokens and self._eager.joins(rows, beside)

    def _prefill(self, forward_pass: ForwardPass) -> Tensor:
        """Run a prefill padded, captured or not, so that what it gives does not depend on what came before.

        Unless it, or one before, was too large for that: then it runs as it is.
        """
        if self._recurrent is not None:  # padding would change their states, and every length is a shape of its own
            return self._eager.run(forward_pass)
        padded = with_few_shapes(forward_pass, self._limits.tokens, self._most_slots) if self._pads else None
        if padded is None:
            return self._eager.run(forward_pass)
        # A growth that fails loses what other rows hold, so it is not tried again: it must not fail within the `try`.
        self._cache.place(padded.lengths[:, None], padded.extent, padded.rows)
        try:
            output = None if self._given_up or self._prefills_given_up else self._replayed(padded)
            output = self._eager.run(padded) if output is None else output
        except torch.OutOfMemoryError as error:  # padded it is larger, and may be too large
            if self._group is not None:
                raise  # the other ranks are in the midst of it
            self._give_up(error, forward_pass)
            self._pads = False
            output = self._eager.run(forward_pass)
        return output[: len(forward_pass.lengths)]  # without the rows that were added

    def _replayed(self, forward_pass: ForwardPass) -> Tensor | None:
        """Return what a recording leaves, made now if there is none; None if the pass is not captured, or not yet."""
        # May move buffers; nothing is written.
        bucket = self._cache.place(forward_pass.lengths[:, None], forward_pass.extent, forward_pass.rows)
        beside = self._beside(forward_pass)
        generation = self._cache.generation, 0 if self._recurrent is None else self._recurrent.generation
        if self._generation != generation:  # the buffers moved: no recording may be replayed again
            self._forget()
            self._generation = generation
        given = forward_pass.positions is not None, forward_pass.slots is not None, forward_pass.rows is not None
        rows, columns, projected = len(forward_pass.lengths), forward_pass.width, forward_pass.last
        draft_pass, view, choices = forward_pass.draft_pass, forward_pass.view, forward_pass.choices
        tapped = _held(forward_pass.taps, rows, columns)
        shape = Shape(
            rows, columns, bucket, projected, forward_pass.kind, view, *given, draft_pass, tapped, choices, beside
        )
        recording = self._recordings.pop(shape, None)
        if recording is not None and draft_pass is not None:
            self._repeats.came_again(draft_pass)
        recording = recording or self._recorded(forward_pass, shape)
        if recording is None:
            return None
        self._recordings[shape] = recording  # the newest last; the oldest goes first
        while len(self._recordings) > self._limits.graphs:
            self._recordings.popitem(last=False)
        packed(forward_pass, recording.inputs)
        self._replay(recording)
        return recording.output

    def _beside(self, forward_pass: ForwardPass) -> BesideShape | None:
        """Return what a recording of blocks beside a scored draft goes by; None: there are none."""
        beside = forward_pass.beside
        if beside is None:
            return None
        blocks, rows = beside.blocks, len(forward_pass.lengths)
        bucket = self._cache.place(forward_pass.lengths[:, None], forward_pass.extent - blocks.columns)
        _held(beside.taps, rows, forward_pass.columns)  # one walk through the layers writes those of the draft, too
        return BesideShape(blocks, beside.view, bucket, _held(beside.taps, rows, blocks.columns))

    def _replay(self, recording: Recording) -> None:
        """Replay a recording, and let what recurrent layers leave in it be pending, as after a pass that is run."""
        if self._recurrent is None:
            recording.graph.replay()
            return
        self._recurrent.pending = None
        recording.graph.replay()
        if self._recurrent.pending is None and recording in self._pending:
            self._recurrent.pending = replace(self._pending[recording], replaced=None)

    def report(self) -> Mapping[str, Any]:
        """Return how many recordings are held, how much memory their pool has, and what is captured."""
        recordings = {
            "graphs": len(self._recordings),
            "graph_MiB": round(self._bytes / 2**20),
            "captured": not self._given_up,
            "prefills": "as they come" if self._given_up or self._prefills_given_up else "captured",
        }
        return {**self._eager.report(), **recordings}

    def _allows(self, forward_pass: ForwardPass) -> bool:
        tokens = len(forward_pass.lengths) * forward_pass.columns
        if tokens <= self._limits.tokens:
            return True
        width, fewer = "the width of a draft", ""
        if forward_pass.beside is not None:
            width, fewer = f"{width} and the blocks beside it", " drafter.cycle=two_passes for fewer,"
        what = f"a pass over {tokens} tokens (rows times {width}) is over target.graph_tokens, "
        if self._limits.strict:
            raise InputError(
                f"{what}{self._limits.tokens}; set target.graph_tokens={tokens},{fewer} or target.engine=auto to run"
                " such passes uncaptured"
            )
        if not self._warned:
            warnings.warn(f"{what}{self._limits.tokens}; such passes run uncaptured", stacklevel=2)
            self._warned = True
        return False

    def _forget(self) -> None:
        self._recordings.clear()
        self._came.clear()
        self._recorder.forget()
        self._bytes = 0

    def _recorded(self, forward_pass: ForwardPass, shape: Shape) -> Recording | None:
        """Return a new recording; None if the pass cannot be captured, or has not come as often as is worth one."""
        if shape.prefill and shape not in self._came:
            self._came.add(shape)
            return None
        if forward_pass.draft_pass is not None and self._repeats.gives_up(forward_pass.draft_pass):
            given_up = type(forward_pass.draft_pass)
            others = [pair for pair in self._recordings.items() if type(pair[0].draft_pass) is not given_up]
            self._recordings = OrderedDict(others)
            if not others:
                self._forget()
            return None
        if self._bytes > self._limits.megabytes << 20:
            self._forget()
        try:
            recording = self._recorder.record(self._eager.run, forward_pass)
        except UncapturableError as error:
            self._give_up(error.reason, forward_pass)
            return None
        size = recording.size
        if self._recurrent is not None and self._recurrent.pending is not None:
            self._pending[recording] = pending = self._with_move(self._recurrent, self._recurrent.pending)
            size += 0 if pending.move is None else pending.move.size
        size = size if self._group is None else self._group.agree(size)  # all drop it, or none
        self._bytes += size
        if shape.prefill and size > self._limits.megabytes << 19:
            del recording  # or its memory would not be given back
            takes = f"one takes {size >> 20} MiB, over half of target.graph_megabytes"
            self._give_up(MemoryError(takes), forward_pass)
            return None
        return recording

    def _with_move(self, states: RecurrentStates, pending: ScoredPass) -> ScoredPass:
        """Return what a recorded pass left, with a recording of what takes its rejected tokens back."""
        try:
            return replace(pending, move=states.recorded_move(pending, self._recorder))
        except UncapturableError as error:
            reason = str(error.reason).split("\n")[0]
            warnings.warn(
                f"what takes tokens back from recurrent states cannot be captured ({reason}), and runs as it is",
                stacklevel=2,
            )
            return pending

    def _give_up(self, error: Exception, forward_pass: ForwardPass) -> None:
        reason = str(error.__context__ or error).split("\n")[0]
        draft_pass = forward_pass.draft_pass
        kind = "prefills" if forward_pass.slots is not None else "passes"
        of = f"this model's {kind}" if draft_pass is None else f"the draft pass '{type(draft_pass).__name__}'"
        what = f"{of} cannot be captured as CUDA graphs ({reason})"
        if self._group is not None and not isinstance(error, MemoryError):  # which the ranks have agreed on
            raise BuildError(f"target.engine: {what}; set engine=fused") from error  # others may have captured it
        if self._limits.strict and forward_pass.slots is None:  # what is insisted on are the passes of a cycle
            raise BuildError(f"target.engine: {what}; set engine=auto") from error
        warnings.warn(f"{what}; they run uncaptured", stacklevel=2)
        self._forget()
        torch.cuda.empty_cache()
        if forward_pass.slots is not None:
            self._prefills_given_up = True
        elif draft_pass is None:
            self._given_up = True
        else:  # a drafter's own doing, which says nothing of the model
            self._uncaptured.add(draft_pass)


def _held(taps: TapBuffer | None, rows: int, columns: int) -> tuple[TapBuffer, int] | None:
    """Return a buffer that has room for a pass's states, and how often it has grown."""
    if taps is None:
        return None
    taps.hold(rows, columns)
    return taps, taps.generation


def captured_where_possible(name: str, eager: EagerEngine, setup: EngineSetup) -> Engine:
    """Return the engine with its passes captured, if nothing keeps them from that; else itself, and say what does."""
    obstacle = GraphedEngine.obstacle(setup)
    if obstacle is None:
        return GraphedEngine(eager, setup.cache, setup.limits, group=group_of(setup.model))
    if obstacle.notice:
        setup.notify(f"target.engine: '{name}' {obstacle.notice}")
    return eager
