"""The decoder layers of a Hugging Face model, and the hidden states between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from orthrus import BuildError, TapPoint

Take = Callable[[int, Tensor], None]


def find_layers(model: Any) -> list[Any]:
    """Return the model's decoder layers: the first list of as many modules as its config counts layers."""
    count = model.config.get_text_config().num_hidden_layers
    lists = (list(module) for module in model.modules() if isinstance(module, torch.nn.ModuleList))
    return next((layers for layers in lists if len(layers) == count), [])


def check_points(model: Any, points: Sequence[TapPoint]) -> None:
    """Raise BuildError for a point that the model does not have."""
    count = len(find_layers(model))
    for point in points:
        if point != "final" and not (isinstance(point, int) and 0 <= point <= count):
            raise BuildError(
                f"the tap {point!r} is none of this model: it has {count} layers, so boundaries are 0 to {count}, and"
                " 'final' is the state after its final norm"
            )


def hook_points(model: Any, points: Sequence[TapPoint], take: Take) -> list[Any]:
    """Call `take` with each point's index and its states [R, n, h] in every pass; return the hooks' handles.

    A boundary k is what enters layer k, and after the last layer what leaves it. Where layers add to their input in
    place, what `take` is given changes as soon as it returns.
    """
    layers, handles = find_layers(model), []
    for index, point in enumerate(points):
        if point == "final":
            handles.append(model.base_model.register_forward_hook(_final_hook(index, take)))
        elif point == len(layers):
            handles.append(layers[-1].register_forward_hook(_output_hook(index, take)))
        else:
            handles.append(layers[point].register_forward_pre_hook(_input_hook(index, take), with_kwargs=True))
    return handles


def _input_hook(index: int, take: Take) -> Any:
    def hook(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        take(index, args[0] if args else kwargs["hidden_states"])

    return hook


def _output_hook(index: int, take: Take) -> Any:
    def hook(module: torch.nn.Module, args: Any, output: Any) -> None:
        take(index, output[0] if isinstance(output, tuple) else output)

    return hook


def _final_hook(index: int, take: Take) -> Any:
    def hook(module: torch.nn.Module, args: Any, output: Any) -> None:
        take(index, output.last_hidden_state)

    return hook
