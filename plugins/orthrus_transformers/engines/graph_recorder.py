"""The recorder of CUDA graphs: captures a pass, with all that it reads in one tensor."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from orthrus.paths import Paths
from orthrus_transformers.engines.forward_pass import ForwardPass

Run = Callable[[ForwardPass], Tensor]
Output = TypeVar("Output")


class UncapturableError(Exception):
    """A pass does something that a capture does not allow; reason: what was raised then."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Graph(Protocol):
    """What was recorded of a pass."""

    def replay(self) -> None:
        """Run it again over the tensors that it was recorded with."""


@dataclass(frozen=True, eq=False)
class Recording:
    """A captured pass, what it reads, as `packed` made it, and what it leaves: logits, or what is made of them."""

    graph: Graph
    inputs: Tensor
    output: Tensor
    size: int  # bytes that it added to what recordings hold


@dataclass(frozen=True, eq=False)
class RecordedAction:
    """A captured action that is no pass, and the bytes that it added to what recordings hold."""

    graph: Graph
    size: int

    def replay(self) -> None:
        """Run it again."""
        self.graph.replay()


class Recorder(Protocol):
    """Records passes, so that they can be replayed."""

    def record(self, run: Run, forward_pass: ForwardPass) -> Recording:
        """Return a recording of what `run` does with the pass; raise UncapturableError if it cannot be recorded."""

    def record_action(self, action: Callable[[], None], written: Sequence[Tensor]) -> RecordedAction:
        """Return a recording of an action that belongs to a recorded pass; what it writes over is as it was.

        Raises UncapturableError if it cannot be recorded.
        """

    def forget(self) -> None:
        """Take note that no recording is held any more."""


class CudaRecorder:
    """Records passes as CUDA graphs, which share a memory pool."""

    def __init__(self, shared: bool = False) -> None:
        """shared: whether passes hold collectives, whose library has threads that look at events meanwhile."""
        self._pool: Any = None
        self._mode = "thread_local" if shared else "global"  # whose calls must not disturb a capture

    def forget(self) -> None:
        """Forget the pool, which went with the last recording."""
        self._pool = None

    def record(self, run: Run, forward_pass: ForwardPass) -> Recording:
        """Return the captured pass, which was run twice before."""
        inputs = packed(forward_pass)
        graph = torch.cuda.CUDAGraph()
        stream = capture_stream(inputs.device)
        capture = torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode=self._mode)
        warm = warm_up(lambda: run(unpacked(forward_pass, inputs)), stream)
        # Graphs share a memory pool, so a replay may overwrite another graph's output. Logits are consumed before that;
        # drafts are not, so they get a buffer of their own.
        own = torch.empty_like(warm) if forward_pass.draft_pass else None
        try:
            # A capture gives back what is reserved and unused, so it is looked at from here on.
            with no_collection(), capture:
                before = torch.cuda.memory_reserved()
                output = run(unpacked(forward_pass, inputs))
                output = output if own is None else own.copy_(output)
        except Exception as error:  # whatever a model does that a capture does not allow
            raise UncapturableError(error) from error
        self._pool = self._pool or graph.pool()
        return Recording(graph, inputs, output, torch.cuda.memory_reserved() - before)

    def record_action(self, action: Callable[[], None], written: Sequence[Tensor]) -> RecordedAction:
        """Return the captured action, which was run twice before, over whatever the pass's capture left unwritten."""
        stream = capture_stream(written[0].device)
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.memory_reserved()
        capture = torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode=self._mode)
        try:
            kept = [tensor.clone() for tensor in written]
            try:
                warm_up(action, stream)
            finally:
                for tensor, values in zip(written, kept, strict=True):
                    tensor.copy_(values)
            del kept, values
            with no_collection(), capture:
                before = torch.cuda.memory_reserved()
                action()
        except Exception as error:  # whatever a capture does not allow, and memory that is short
            raise UncapturableError(error) from error
        return RecordedAction(graph, torch.cuda.memory_reserved() - before)


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


def packed(forward_pass: ForwardPass, out: Tensor | None = None) -> Tensor:
    """Return all that a pass reads and that changes from cycle to cycle, in one tensor, or write it there, at one go.

    [R, 1 + n]: the committed length and the tokens of each row; n more for the positions and n for the slots, if the
    pass is told them, and one for the rows or the room. With a draft pass [R, 3]: the length, the anchor and the room.
    Of a tree also each token's parent and which columns see which, n - 1 and n n more.
    """
    more = [columns for columns in (forward_pass.positions, forward_pass.slots) if columns is not None]
    more += [column[:, None] for column in (forward_pass.rows, forward_pass.room) if column is not None]
    if forward_pass.tree is not None:
        more += [forward_pass.tree.parents, forward_pass.tree.seen.flatten(1).long()]
    return torch.cat([forward_pass.lengths[:, None], *forward_pass.parts, *more], dim=1, out=out)


def unpacked(like: ForwardPass, inputs: Tensor) -> ForwardPass:
    """Return a pass of the same shape that reads what was packed into inputs, whenever it runs."""
    width = sum(part.shape[1] for part in like.parts)
    sizes = [1, width, *(0 if columns is None else columns.shape[1] for columns in (like.positions, like.slots))]
    sizes += [int(column is not None) for column in (like.rows, like.room)]
    sizes += [0, 0] if like.tree is None else [width - 1, width * width]
    # The parts of rows side by side lie apart, and a kernel may want them together: copied in the recording itself.
    parts = (part.contiguous() for part in torch.split(inputs, sizes, dim=1))
    lengths, tokens, positions, slots, rows, room, parents, seen = parts
    tree = None if like.tree is None else Paths.known(parents, seen.view(-1, width, width).bool())
    return replace(
        like,
        lengths=lengths[:, 0],
        token_ids=tokens,
        drafted=None,
        positions=None if like.positions is None else positions,
        slots=None if like.slots is None else slots,
        rows=None if like.rows is None else rows[:, 0],
        room=None if like.room is None else room[:, 0],
        tree=tree,
    )


@cache
def capture_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream of all captures on a device: cuBLAS keeps memory for every stream that it has seen."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no type for it


def warm_up(action: Callable[[], Output], stream: torch.cuda.Stream) -> Output:
    """Run an action twice on the stream of a capture: libraries allocate and choose kernels in their first calls."""
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        action()
        output = action()
    torch.cuda.current_stream().wait_stream(stream)
    return output
