"""The engine `compiled`: the model's own layers through torch.compile, one compilation for all of them.

Two things would make it one compilation a layer. The layer's number is an integer on its modules, which torch guards;
so it is compiled as a variable. The mask's shape changes from pass to pass; but attention is told by positions what is
visible, so the layers are handed one stand-in that never changes. The cache's update and the attention itself are
called as they are, between the compiled parts.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from orthrus_transformers.engines.cuda_graphs import captured_where_possible
from orthrus_transformers.engines.eager import EagerEngine
from orthrus_transformers.engines.engine import Engine, EngineSetup, Obstacle
from orthrus_transformers.engines.forward_pass import ForwardPass
from orthrus_transformers.model.attention_hook import attention_forward
from orthrus_transformers.model.decoder_layers import find_layers
from orthrus_transformers.model.pass_state import Form
from orthrus_transformers.model.past_key_values import PastKeyValues
from orthrus_transformers.model.patching import Forward, own_forward, patch
from orthrus_transformers.model.shards import group_of

CLOSED = "orthrus_closed"  # the attention, into which the compiler does not look


class CompiledEngine(EagerEngine):
    """The engine whose layers are compiled, in the narrow passes of a cycle."""

    @staticmethod
    def obstacle(setup: EngineSetup) -> Obstacle | None:
        """Return why torch cannot compile: no compiler for the device, or no layers to be found."""
        if group_of(setup.model) is not None:
            return Obstacle("compiles no model that several processes share", "set engine=auto")
        if setup.model.device.type == "cpu" and not _finds_compiler():
            return Obstacle("needs a C++ compiler, and none is found", "install one or set engine=eager")
        if setup.recurrent is not None:
            return Obstacle("has no form for recurrent layers", "set engine=eager")
        if not find_layers(setup.model):
            return Obstacle(f"finds no layers in model type '{setup.model.config.model_type}'", "set engine=eager")
        return None

    @classmethod
    def make(cls, setup: EngineSetup) -> Engine:  # type: ignore[override]  # around it there may be another engine
        """Return the engine, its passes captured where they can be."""
        compile_layers(setup.model)
        engine = cls(setup.model, setup.cache, setup.state, setup.max_length, "compiled")
        opaque(engine.past)
        return captured_where_possible("compiled", engine, setup)

    @property
    def eager(self) -> Engine:
        """The engine that calls the layers as they came: a self-check that compiles would take long."""
        return EagerEngine(self._model, self._cache, self._state, self._max_length)

    def _form_of(self, forward_pass: ForwardPass) -> Form:
        # Prefills come in too many shapes, and a view is not the model's own.
        return "own" if forward_pass.slots is not None or forward_pass.view is not None else self.form


def compile_layers(model: Any) -> None:
    """Give every layer a compiled form for passes that ask for it."""
    from transformers import AttentionInterface

    # Under a name of its own: what is registered is the whole process's, and other models' attention stays as it is.
    closed = torch.compiler.disable(attention_forward)  # type: ignore[no-untyped-call]  # torch has no type for it
    AttentionInterface.register(CLOSED, closed)
    model.set_attn_implementation(CLOSED)
    for layer in find_layers(model):
        patch(layer, _compiled(own_forward(layer)), lambda state: state.form == "compiled")


def opaque(past: PastKeyValues) -> None:
    """Keep the compiler from looking into the update of what a model calls its past."""
    closed = torch.compiler.disable(past.update)  # type: ignore[no-untyped-call]  # torch has no type for it
    setattr(past, "update", closed)  # noqa: B010  # an assignment to a method is an error to mypy


def _compiled(own: Forward) -> Forward:
    stand_in: Tensor | None = None
    with _silent():
        compiled = torch.compile(own, dynamic=True)

    def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        nonlocal stand_in
        if stand_in is None:
            stand_in = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=hidden_states.device)
        if isinstance(kwargs.get("attention_mask"), Tensor):
            kwargs["attention_mask"] = stand_in
        with torch._dynamo.config.patch(allow_unspec_int_on_nn_module=True), _silent():
            return compiled(hidden_states, *args, **kwargs)

    return forward


@contextmanager
def _silent() -> Iterator[None]:
    """Keep back the compiler's advice on precision and the deprecations of its own imports."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _finds_compiler() -> bool:
    try:
        with _silent():
            from torch._inductor.cpp_builder import get_cpp_compiler

            get_cpp_compiler()
    except Exception:  # torch's own class for it has moved between versions
        return False
    return True
