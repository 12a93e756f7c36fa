"""Recurrent layers of a model: which they are, and what they call while a pass has states of its own.

A layer's forward runs as it is, but for the functions that scan tokens: while tokens are scored these are recorded, and
one that begins at a zero state begins at the row's. No module of the library is changed: the forward is run with names
of its own beside those of its module.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from orthrus import Context
from orthrus_transformers.model.patching import Forward, own_forward, patch
from orthrus_transformers.model.short_convolutions import KNOWN as SHORT_CONVOLUTIONS
from orthrus_transformers.recurrent.layer_states import LayerStates
from orthrus_transformers.recurrent.limited_steps import NO_LIMITS, STATE_UPDATE, limited, limits_of
from orthrus_transformers.recurrent.recorded_scans import SCANS, KnownScan, arguments
from orthrus_transformers.recurrent.recurrent_states import RecurrentStates

WITHOUT_MEMORY = {"mlp", "moe"}  # kinds of layers that need no cache
ASKS = ("update_conv_state", "update_recurrent_state")  # of a cache
SCAN_DTYPE = torch.float32  # in which the library's scans compute, or round what they take, in models of float64, too


def find_recurrent(model: Any) -> list[Any]:
    """Return the modules of a model that leave states in a cache, but for short convolutions over slots."""
    kinds = {type(module) for module in model.modules()}
    recurrent = {kind for kind in kinds if kind.__name__ not in SHORT_CONVOLUTIONS and _asks(kind)}
    return [module for module in model.modules() if type(module) in recurrent]


def asks_for_states(module: Any) -> bool:
    """Tell whether a module leaves states in a cache: some that do are called attention."""
    return _asks(type(module))


def make_states(model: Any) -> RecurrentStates | None:
    """Return the states of a model's recurrent layers, which find them from now on; None: it has none."""
    modules = find_recurrent(model)
    if not modules:
        return None
    route_recurrent(modules)
    scan = any(_scan_names(type(module)) for module in modules)
    return RecurrentStates(by_token=not scans_known(modules), scan_dtype=SCAN_DTYPE if scan else None)


def follow(states: RecurrentStates | None, context: Context) -> None:
    """Let states be those of what is committed, of which a target may not have been told yet; None: there are none."""
    if states is not None:
        states.keep(context.lengths - 1)


def scans_known(modules: list[Any]) -> bool:
    """Return whether what all these modules leave behind can be had after any number of a pass's tokens."""
    return all(_scan_names(type(module)) or not _leaves_recurrent(type(module)) for module in modules)


def route_recurrent(modules: list[Any]) -> None:
    """Let the modules find the states of a pass while there is one; else they stay as they are."""
    for module in modules:
        patch(module, _forward(module), lambda state: state.layer_states is not None)


def _asks(kind: type) -> bool:
    return any(name in _names(kind) for name in ASKS)


def _leaves_recurrent(kind: type) -> bool:
    return "update_recurrent_state" in _names(kind)


def _scan_names(kind: type) -> list[str]:
    return [name for name in SCANS if name in _names(kind)]


def _names(kind: type) -> tuple[str, ...]:
    """Return what a module's forward speaks of; of one that is not Python nothing is known."""
    code = getattr(inspect.unwrap(getattr(kind, "forward", kind)), "__code__", None)
    return () if code is None else code.co_names


def _forward(module: Any) -> Forward:
    own, names = _one_token(module), _scan_names(type(module))
    scanning: Forward | None = None

    def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        nonlocal scanning
        states: LayerStates = module.orthrus_attention.layer_states
        if "attention_mask" in kwargs:
            kwargs["attention_mask"] = None  # of padding, which no pass has
        hidden = states.ordered(hidden_states)
        if states.by_token:
            output = _by_token(own, states, module.layer_idx, hidden, *args, **kwargs)
        elif states.columns == 1 or not names:
            output = own(hidden, *args, **kwargs)
        else:
            scanning = scanning or _with_scans(module, names)
            output = scanning(hidden, *args, **kwargs)
        if isinstance(output, tuple):
            return tuple(states.as_they_came(part) for part in output)
        return states.as_they_came(output)

    return forward


def _by_token(own: Forward, states: LayerStates, layer: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Return a layer's output over tokens [R, n, h], each of them with a forward of its own."""
    outputs = []
    for place in range(hidden.shape[1]):
        outputs.append(own(hidden[:, place : place + 1], *args, **kwargs))
        states.end_token(layer)
    if isinstance(outputs[0], tuple):
        return tuple(torch.cat(parts, dim=1) for parts in zip(*outputs, strict=True))
    return torch.cat(outputs, dim=1)


def _one_token(module: Any) -> Forward:
    """Return the module's forward over one token a row, and over what has no scan: its own, within its limits."""
    limits = limits_of(module)
    if limits == NO_LIMITS or STATE_UPDATE not in _names(type(module)):
        return own_forward(module)
    return _calling(module, {STATE_UPDATE: limited(_function_of(module, STATE_UPDATE), limits)})


def _with_scans(module: Any, names: list[str]) -> Forward:
    """Return the module's forward with the functions that scan replaced by those that know the pass."""
    return _calling(module, {name: _scan(module, _function_of(module, name), SCANS[name]) for name in names})


def _function_of(module: Any, name: str) -> Callable[..., Any]:
    """Return what a module's forward calls by a name."""
    function: Callable[..., Any] = inspect.unwrap(type(module).forward).__globals__[name]
    return function


def _calling(module: Any, functions: Mapping[str, Callable[..., Any]]) -> Forward:
    """Return the module's forward with these functions in place of those of the same names."""
    function = inspect.unwrap(type(module).forward)
    scope = {**function.__globals__, **functions}
    copied = FunctionType(function.__code__, scope, function.__name__, function.__defaults__, function.__closure__)
    copied.__kwdefaults__ = function.__kwdefaults__
    return copied.__get__(module)


def _scan(module: Any, own: Callable[..., Any], known: KnownScan) -> Callable[..., Any]:
    signature = inspect.signature(own)

    def scan(*args: Any, **kwargs: Any) -> Any:
        states: LayerStates = module.orthrus_attention.layer_states
        given = arguments(signature, args, kwargs)
        held = None if known.from_state is None else states.held(module.layer_idx, "recurrent", 0)
        number = states.scan_number(module.layer_idx)
        if states.records:
            states.take_scan(module.layer_idx, known.record(given))
        if known.from_state is None or held is None:
            return own(*args, **kwargs)
        return known.from_state(given, held if held.dim() == 3 else held[:, number])

    return scan
