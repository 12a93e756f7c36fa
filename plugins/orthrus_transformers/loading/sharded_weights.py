"""Loads a model of which each rank holds a part: no process ever holds all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orthrus import BuildError
from orthrus.errors import first_of, reason
from orthrus.files import weight_files
from orthrus.ranks.group import RankGroup
from orthrus_transformers.loading.quiet import quiet
from orthrus_transformers.loading.weights import check_unexpected
from orthrus_transformers.model.shards import Part, Shards, shard, shards_of

Read = Callable[[str, Part], Tensor]  # a rank's part of the parameter of a name


def load_shards(
    directory: Path,
    ignored: Sequence[str],
    dtype: torch.dtype | None,
    device: torch.device,
    group: RankGroup,
    *,
    trust_remote_code: bool = False,
) -> Any:
    """Return the model in a directory with this rank's parts of its weights; dtype None: the config's.

    Raises BuildError if ranks cannot share it, or if its files do not hold what its config describes.
    """
    try:
        model = empty_shards(directory, dtype, device, group, trust_remote_code=trust_remote_code)
        with _opened(directory) as held:
            slices = _renamed(model, held)
            _check_names(directory, model, slices, ignored)
            fill(model, device, lambda name, part: part.of(slices[name]))
    except BuildError:
        raise
    except Exception as error:  # damaged files and unknown models fail in many ways; the cause is chained
        raise BuildError(f"no model can be loaded from '{directory}' ({reason(error)})") from error
    return model


def empty_shards(
    directory: Path,
    dtype: torch.dtype | None,
    device: torch.device,
    group: RankGroup,
    *,
    trust_remote_code: bool = False,
) -> Any:
    """Return the model that a config describes, sharded, its parameters without memory and its buffers in place."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with quiet():
        config = AutoConfig.from_pretrained(directory, trust_remote_code=trust_remote_code)
        wanted = dtype or config.dtype or torch.float32
        with parameters_on_meta():
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code, dtype=wanted)
    shard(model, group)
    for module in model.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, buffer.to(device))
    return model


def fill(model: Any, device: torch.device, read: Read) -> None:
    """Give every parameter its values, one after the other."""
    shards = shards_of(model)
    assert shards is not None, "the model is sharded"
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head.weight is table.weight
    for name, empty in list(model.named_parameters()):
        parent, _, leaf = name.rpartition(".")
        values = _padded(read(name, shards.parts[name]).to(device, empty.dtype), empty)
        setattr(model.get_submodule(parent), leaf, torch.nn.Parameter(values, requires_grad=False))
    if tied:
        head.weight = table.weight


def _padded(values: Tensor, like: Tensor) -> Tensor:
    """Return the values with zeros behind them, where a rank has fewer of a vocabulary than others, and contiguous."""
    if values.shape[0] == like.shape[0]:
        return values.clone() if values._base is not None else values.contiguous()
    return torch.cat([values, values.new_zeros(like.shape[0] - values.shape[0], *values.shape[1:])])


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Let modules that are made meanwhile have parameters without memory; what they compute as buffers is real."""
    own = torch.nn.Module.register_parameter

    def register(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:  # a tied one stays the one that it is
            parameter = torch.nn.Parameter(parameter.to("meta"), requires_grad=False)
        own(module, name, parameter)

    torch.nn.Module.register_parameter = register  # type: ignore[method-assign, assignment]  # as accelerate does it
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = own  # type: ignore[method-assign]


@contextmanager
def _opened(directory: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the slices of all weights of a directory by name: nothing is read before it is asked for."""
    from safetensors import safe_open

    files = [safe_open(file, "pt") for file in weight_files(directory)]
    slices = {}
    for file in files:
        for name in file.keys():  # type: ignore[no-untyped-call]  # noqa: SIM118  # it is no dict
            slices[name] = file.get_slice(name)  # type: ignore[no-untyped-call]
    yield slices


def _renamed(model: Any, slices: Mapping[str, Any]) -> dict[str, Any]:
    """Return slices by the names that the model's parameters have: the library has given some of them new ones.

    So it has with the output head of GPT-NeoX, which its files call `embed_out`.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming

    known, renamed = model.state_dict().keys(), {}
    renamings = [each for each in get_model_conversion_mapping(model) if type(each) is WeightRenaming]
    for name, values in slices.items():
        new = name
        for renaming in renamings if name not in known else ():
            new, _ = renaming.rename_source_key(new)
        # A file that has both names keeps both, and the old one is refused as unexpected.
        renamed[new if new in known and new not in slices else name] = values
    return renamed


def _check_names(directory: Path, model: Any, slices: Mapping[str, Any], ignored: Sequence[str]) -> None:
    shards: Shards | None = shards_of(model)
    assert shards is not None, "the model is sharded"
    needed = [name for name, _ in model.named_parameters()]
    wrong = [f"{name} is missing" for name in sorted(needed) if name not in slices]
    for name in needed:
        shape, needs = list(slices[name].get_shape()) if name in slices else None, list(shards.parts[name].shape)
        if shape is not None and shape != needs:
            wrong.append(f"{name} has the shape {shape}, not {needs}")
    if wrong:
        raise BuildError(
            f"the weights in '{directory}' do not make the model that its config describes: {first_of(wrong)}"
        )
    check_unexpected(directory, sorted(slices.keys() - model.state_dict().keys()), ignored)
