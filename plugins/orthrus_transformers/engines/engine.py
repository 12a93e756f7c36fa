"""The interface of engines: what an engine is made of, what may keep it from a target, and what it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from orthrus import KVCache
from orthrus_transformers.engines.forward_pass import BlocksBeside, ForwardPass
from orthrus_transformers.engines.graph_limits import GraphLimits
from orthrus_transformers.model.pass_state import Form, PassState
from orthrus_transformers.recurrent.recurrent_states import RecurrentStates


@dataclass(frozen=True, eq=False)
class EngineSetup:
    """What an engine is made of."""

    model: Any
    cache: KVCache
    state: PassState  # with the attention backend
    max_length: int | None  # positions that the model can take
    limits: GraphLimits
    recurrent: RecurrentStates | None = None  # of recurrent layers; None: the model has none
    threads: int | None = None  # of the engine native; None: as many as torch takes
    by_name: bool = False  # whether this engine is asked for, rather than the fastest
    notify: Callable[[str], None] = lambda text: None  # told of what could be faster, and what to set
    announce: Callable[[str], None] = lambda text: None  # told before something slow


@dataclass(frozen=True)
class Obstacle:
    """What keeps an engine from a target: a sentence about the engine in two parts, which follows its name."""

    reason: str  # "needs a CUDA device, not cpu"
    remedy: str  # "set engine=eager"
    notice: str | None = None  # follows `auto`'s name when it goes on without the engine; None: there is nothing to set


class Engine(Protocol):
    """An engine: runs passes of one model over one cache."""

    @property
    def form(self) -> Form:
        """The form of layers that its passes ask for; views that are attached get it, too."""

    @property
    def eager(self) -> Engine:
        """What runs the same passes with nothing compiled or captured, for the self-check at load."""

    def run(self, forward_pass: ForwardPass) -> Tensor:
        """Return the logits [R, last, V], or what the draft pass makes of them; leave keys and values in the cache."""

    def joins(self, rows: int, beside: BlocksBeside) -> bool:
        """Tell whether blocks beside a scored draft go through the layers with it, rather than in a pass apart."""

    def report(self) -> Mapping[str, Any]:
        """Return what the engine is and what it holds, for those who measure; `layers`: the form of its layers."""


class EngineType(Protocol):
    """The class of an engine, as the table names it."""

    def obstacle(self, setup: EngineSetup) -> Obstacle | None:
        """Return what keeps the engine from this target, changing nothing; None if it can be made."""

    def make(self, setup: EngineSetup) -> Engine:
        """Return the engine; called where there is no obstacle."""
