"""CUDA graphs: a whole pass recorded once and replayed, without Python between its kernels."""

from __future__ import annotations

import gc
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from orthrus import BuildError, DraftPass, InputError
from orthrus_transformers.engines.eager import EagerEngine
from orthrus_transformers.engines.forward_pass import ForwardPass
from orthrus_transformers.engines.graph_reuse import Repeats
from orthrus_transformers.engines.prefill_padding import with_few_shapes
from orthrus_transformers.model.views import View
from orthrus_transformers.options import GraphLimits


class Shape(NamedTuple):
    """Tell apart passes of which one's recording cannot be replayed for the other."""

    rows: int
    columns: int
    bucket: int  # slots of the cache that are attended to
    projected: int  # columns
    kind: str
    view: View | None
    told_positions: bool
    prefill: bool
    some_rows: bool
    around: DraftPass | None


@dataclass(frozen=True, eq=False)
class Recording:
    """Hold a captured pass, what it reads, as `packed` made it, and what it leaves: logits, or what is made of them."""

    graph: torch.cuda.CUDAGraph
    inputs: Tensor
    output: Tensor
    size: int  # bytes that it added to the pool


class GraphedEngine:
    """Replay passes of the same shape; capture a shape when it first comes, or that of a prefill when it comes again.

    What is returned is the recording's own tensor, which the next replay overwrites: it lives for one cycle.
    """

    def __init__(self, eager: EagerEngine, cache: Any, limits: GraphLimits) -> None:
        self._eager = eager
        self._cache = cache
        self._limits = limits
        self._recordings: OrderedDict[Shape, Recording] = OrderedDict()
        self._pool: Any = None
        self._generation = -1
        self._bytes = 0  # that the recordings' pool has reserved
        self._given_up = False
        self._most_slots: int | None = getattr(cache, "max_slots", None)
        self._prefills_given_up = False
        self._pads = True
        self._came: set[Shape] = set()  # those of prefills: to capture one takes as long as to run it several times
        self._uncaptured: set[DraftPass | None] = set()  # what drafters made of passes that cannot be captured
        self._repeats = Repeats()  # whether drafters' passes ever are what they were
        self._told = False  # that passes over the limit run uncaptured

    def run(self, one: ForwardPass) -> Tensor:
        """Return the logits, or what is made of them, replaying a recording where there is one of this shape."""
        if one.slots is not None:
            return self._prefill(one)
        never = self._given_up or one.around in self._uncaptured or self._repeats.given_up(one.around)
        if never or not self._allows(len(one.lengths) * one.width):
            return self._eager.run(one)
        found = self._replayed(one)
        return self._eager.run(one) if found is None else found

    def _prefill(self, one: ForwardPass) -> Tensor:
        """Run a prefill padded, captured or not, so that what it gives does not depend on what came before.

        Unless it, or one before, was too large for that: then it runs as it is.
        """
        more = with_few_shapes(one, self._limits.tokens, self._most_slots) if self._pads else None
        if more is None:
            return self._eager.run(one)
        # A growth that fails loses what other rows hold, so it is not tried again: it must not fail within the `try`.
        self._cache.place(more.lengths[:, None], more.extent, more.rows)
        try:
            found = None if self._given_up or self._prefills_given_up else self._replayed(more)
            found = self._eager.run(more) if found is None else found
        except torch.OutOfMemoryError as error:  # padded it is larger, and may be too large
            self._give_up(error, one)
            self._pads = False
            found = self._eager.run(one)
        return found[: len(one.lengths)]  # without the rows that were added

    def _replayed(self, one: ForwardPass) -> Tensor | None:
        """Return what a recording leaves, made now if there is none; None if the pass is not captured, or not yet."""
        bucket = self._cache.place(one.lengths[:, None], one.extent, one.rows)  # may move buffers; nothing is written
        if self._generation != self._cache.generation:  # the buffers moved: no recording may be replayed again
            self._forget()
            self._generation = self._cache.generation
        told = one.positions is not None, one.slots is not None, one.rows is not None
        shape = Shape(len(one.lengths), one.width, bucket, one.last, one.kind, one.view, *told, one.around)
        recording = self._recordings.pop(shape, None)
        if recording is not None and one.around is not None:
            self._repeats.came_again(one.around)
        recording = recording or self._recorded(one, shape)
        if recording is None:
            return None
        self._recordings[shape] = recording  # the newest last; the oldest goes first
        while len(self._recordings) > self._limits.graphs:
            self._recordings.popitem(last=False)
        packed(one, recording.inputs)
        recording.graph.replay()
        return recording.output

    def report(self) -> Mapping[str, Any]:
        """Return how many recordings are held, how much memory their pool has, and what is captured."""
        held = {
            "graphs": len(self._recordings),
            "graph_MiB": round(self._bytes / 2**20),
            "captured": not self._given_up,
            "prefills": "as they come" if self._given_up or self._prefills_given_up else "captured",
        }
        return {**self._eager.report(), **held}

    def _allows(self, tokens: int) -> bool:
        if tokens <= self._limits.tokens:
            return True
        what = f"a pass over {tokens} tokens (rows times the width of a draft) is over target.graph_tokens, "
        if self._limits.strict:
            raise InputError(
                f"{what}{self._limits.tokens}; set target.graph_tokens={tokens}, or target.engine=auto to run such"
                " passes uncaptured"
            )
        if not self._told:
            warnings.warn(f"{what}{self._limits.tokens}; such passes run uncaptured", stacklevel=2)
            self._told = True
        return False

    def _forget(self) -> None:
        self._recordings.clear()
        self._came.clear()
        self._pool = None  # it went with the last recording
        self._bytes = 0

    def _recorded(self, one: ForwardPass, shape: Shape) -> Recording | None:
        """Return a new recording; None if the pass cannot be captured, or has not come as often as is worth one."""
        if shape.prefill and shape not in self._came:
            self._came.add(shape)
            return None
        if one.around is not None and self._repeats.gives_up(one.around):
            kept = [(key, held) for key, held in self._recordings.items() if type(key.around) is not type(one.around)]
            self._recordings = OrderedDict(kept)
            if not kept:
                self._forget()
            return None
        if self._bytes > self._limits.megabytes << 20:
            self._forget()
        recording = self._record(one)
        size = recording.size if recording else 0
        self._bytes += size
        if shape.prefill and size > self._limits.megabytes << 19:
            del recording  # or its memory would not be given back
            takes = f"one takes {size >> 20} MiB, over half of target.graph_megabytes"
            self._give_up(MemoryError(takes), one)
            return None
        return recording

    def _record(self, one: ForwardPass) -> Recording | None:
        inputs = packed(one)
        graph = torch.cuda.CUDAGraph()
        stream = capture_stream(inputs.device)
        capture = torch.cuda.graph(graph, pool=self._pool, stream=stream)
        found = warm_up(lambda: self._eager.run(unpacked(one, inputs)), stream)
        # Recordings share a pool, so the output of one may lie where another works. Logits are done with by then; what
        # is made of them has a place of its own.
        own = torch.empty_like(found) if one.around else None
        try:
            # A capture gives back what is reserved and unused, so it is looked at from here on.
            with no_collection(), capture:
                before = torch.cuda.memory_reserved()
                output = self._eager.run(unpacked(one, inputs))
                output = output if own is None else own.copy_(output)
        except Exception as error:  # whatever a model does that a capture does not allow
            self._give_up(error, one)
            return None
        self._pool = self._pool or graph.pool()
        return Recording(graph, inputs, output, torch.cuda.memory_reserved() - before)

    def _give_up(self, error: Exception, one: ForwardPass) -> None:
        reason = str(error.__context__ or error).split("\n")[0]
        kind = "prefills" if one.slots is not None else "passes"
        of = f"this model's {kind}" if one.around is None else f"the draft pass '{type(one.around).__name__}'"
        what = f"{of} cannot be captured as CUDA graphs ({reason})"
        if self._limits.strict and one.slots is None:  # what is insisted on are the passes of a cycle
            raise BuildError(f"target.engine: {what}; set engine=auto") from error
        warnings.warn(f"{what}; they run uncaptured", stacklevel=2)
        self._forget()
        torch.cuda.empty_cache()
        if one.slots is not None:
            self._prefills_given_up = True
        elif one.around is None:
            self._given_up = True
        else:  # a drafter's own doing, which says nothing of the model
            self._uncaptured.add(one.around)


@contextmanager
def no_collection() -> Iterator[None]:
    """Keep Python's garbage collector away: it may free a CUDA graph that nobody holds, which breaks a capture.

    It is the whole process's, in which CUDA allows one capture at a time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def packed(one: ForwardPass, out: Tensor | None = None) -> Tensor:
    """Return all that a pass reads and that changes from cycle to cycle, in one tensor, or write it there, at one go.

    [R, 1 + n]: the committed length and the tokens of each row; n more for the positions and n for the slots, if the
    pass is told them, and one for the rows or the room. With `around` [R, 3]: the length, the anchor and the room.
    """
    more = [columns for columns in (one.positions, one.slots) if columns is not None]
    more += [column[:, None] for column in (one.rows, one.room) if column is not None]
    return torch.cat([one.lengths[:, None], *one.parts, *more], dim=1, out=out)


def unpacked(like: ForwardPass, inputs: Tensor) -> ForwardPass:
    """Return a pass of the same shape that reads what was packed into inputs, whenever it runs."""
    width = sum(part.shape[1] for part in like.parts)
    sizes = [1, width, *(0 if one is None else one.shape[1] for one in (like.positions, like.slots))]
    sizes += [int(one is not None) for one in (like.rows, like.room)]
    # The parts of rows side by side lie apart, and a kernel may want them together: copied in the recording itself.
    lengths, tokens, positions, slots, rows, room = (part.contiguous() for part in torch.split(inputs, sizes, dim=1))
    return replace(
        like,
        lengths=lengths[:, 0],
        token_ids=tokens,
        drafted=None,
        positions=None if like.positions is None else positions,
        slots=None if like.slots is None else slots,
        rows=None if like.rows is None else rows[:, 0],
        room=None if like.room is None else room[:, 0],
    )


@cache
def capture_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream of all captures on a device: cuBLAS keeps memory for every stream that it has seen."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no type for it


def warm_up(action: Callable[[], Tensor], stream: torch.cuda.Stream) -> Tensor:
    """Run an action twice on the stream of a capture: libraries allocate and choose kernels in their first calls."""
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        action()
        found = action()
    torch.cuda.current_stream().wait_stream(stream)
    return found
