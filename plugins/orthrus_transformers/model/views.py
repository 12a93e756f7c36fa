"""Views: a second attention beside each layer's own; everything else of the model is shared and stays as it is.

A view's attention modules are copies of the model's own (the paper's section 3). They stand outside the model's tree of
modules, so that its weights, its own forward and what it counts are what they were. A pass picks a view by
`state.view`; without one every module calls the forward that it came with.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from orthrus import BuildError
from orthrus_transformers.model.block_weights import widen_linears
from orthrus_transformers.model.pass_state import PassState
from orthrus_transformers.model.patching import Forward, patch
from orthrus_transformers.model.recurrent_layers import WITHOUT_MEMORY, asks_for_states, find_recurrent
from orthrus_transformers.model.shards import Shards, shards_of
from orthrus_transformers.model.short_convolutions import find_convolutions


@dataclass(frozen=True, eq=False)
class View:
    """A view's attention modules by the path that the module they stand beside has in the model."""

    twins: Mapping[str, Any]

    def weights(self) -> dict[str, Tensor]:
        """Return the view's parameters under the names that the model's own have: no copies."""
        return {
            f"{path}.{name}": weight for path, twin in self.twins.items() for name, weight in twin.named_parameters()
        }


def make_view(model: Any, state: PassState, weights: Mapping[str, Tensor] | None) -> View:
    """Return a view with these weights, or with copies of the model's own; raise BuildError if they do not fit.

    weights: by the names of the model's parameters that they stand beside, all of them and no others.
    """
    own = find_attention(model)
    if "block" not in state.backend.capabilities.kinds:
        raise BuildError(f"attention {type(state.backend).__name__} has no block masks, which a view needs")
    view = View({path: _twin(module) for path, module in own.items()})
    if weights is not None:
        _load(view, weights, shards_of(model))
    for path, module in own.items():
        patch(module, _forward(module, path), lambda state: state.view is not None)
    return view


def find_attention(model: Any) -> dict[str, Any]:
    """Return each layer's attention module by its path; raise BuildError for a model that has not one a layer."""
    modules = {
        path: module
        for path, module in model.named_modules()
        if type(module).__name__.endswith("Attention")
        and isinstance(getattr(module, "layer_idx", None), int)
        and not asks_for_states(module)
    }
    others = [*find_convolutions(model), *find_recurrent(model)]  # a view shares them, as it does MLPs
    attending = [module.layer_idx for module in modules.values()]
    layers = sorted(set(range(model.config.get_text_config().num_hidden_layers)) - _without_attention(model, others))
    if not attending or sorted(attending) != sorted({*layers, *attending}):
        raise BuildError(
            f"model type '{model.config.model_type}' takes no view: {len(modules)} attention modules are found for its"
            f" {len(layers)} layers, and each must have one"
        )
    return modules


def _without_attention(model: Any, others: Sequence[Any]) -> set[int]:
    """Return the layers that need not attend: those of other modules, and those that are none but an MLP."""
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or ()
    return {module.layer_idx for module in others} | {
        layer for layer, kind in enumerate(kinds) if kind in WITHOUT_MEMORY
    }


def _twin(module: Any) -> Any:
    # The config is shared: a copy of it a layer would not follow when the model's attention is exchanged.
    twin = copy.deepcopy(module, {id(module.config): module.config} if hasattr(module, "config") else {})
    widen_linears(twin)  # a view's weights are trained, and its own
    for submodule in twin.modules():
        vars(submodule).pop("forward", None)  # of the module beside it, which an engine or another view has replaced
    return twin.requires_grad_(False)


def _forward(module: Any, path: str) -> Forward:
    """Return a forward that is the view's, whichever the pass goes through, beside the module at this path."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        view: View = module.orthrus_attention.view
        return view.twins[path](*args, **kwargs)

    return forward


@torch.no_grad()
def _load(view: View, weights: Mapping[str, Tensor], shards: Shards | None) -> None:
    expected = view.weights()
    shapes = {
        name: tuple(weight.shape) if shards is None else shards.parts[name].shape for name, weight in expected.items()
    }
    wrong = [f"{name} is missing" for name in sorted(expected.keys() - weights.keys())]
    wrong += [f"{name} is none of its attention" for name in sorted(weights.keys() - expected.keys())]
    wrong += [
        f"{name} has the shape {list(weights[name].shape)}, not {list(shape)}"
        for name, shape in shapes.items()
        if name in weights and weights[name].shape != shape
    ]
    if wrong:
        more = f" (and {len(wrong) - 1} more such)" if len(wrong) > 1 else ""
        raise BuildError(f"the view's weights do not fit the model: {wrong[0]}{more}")
    for name, weight in expected.items():
        weight.copy_(weights[name] if shards is None else shards.of(name, weights[name]))
