"""A model's own forward, and a copy of the model that computes in another dtype."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orthrus import fingerprint_files, fingerprint_weights
from orthrus_transformers.guards import does_not_fit
from orthrus_transformers.model.block_weights import block_beginnings
from orthrus_transformers.model.experts import choose_experts
from orthrus_transformers.model.shards import group_of, shard, shards_of
from orthrus_transformers.transformers_api import cache_argument


@torch.no_grad()
def plain_logits(model: Any, token_ids: Sequence[int], last: int) -> Tensor:
    """Return the logits [last, V] after the last tokens of one sequence, without a cache."""
    ids = torch.tensor([list(token_ids)], device=model.device)
    output: Tensor = model(input_ids=ids, use_cache=False, logits_to_keep=last).logits
    return output[0]


@torch.no_grad()
def chunk_logits(model: Any, token_ids: Sequence[int], past: Any) -> tuple[Tensor, Any]:
    """Return the logits [n, V] after the tokens of a chunk, and the model's own cache for the next one.

    past: that cache after the chunks before; None for the first.
    """
    ids = torch.tensor([list(token_ids)], device=model.device)
    name = cache_argument(model)
    output = model(input_ids=ids, use_cache=True, **{name: past})
    return output.logits[0], getattr(output, name)


def logits_from_scratch(
    logits: Callable[[Sequence[int], int], Tensor], token_ids: Sequence[int], chunk: int
) -> Iterator[Tensor]:
    """Yield the logits [n, V] along a text, n <= chunk at a time, of a pass over all that comes before each time.

    For models some of whose layers begin anew where a text goes on by several tokens, whatever their cache holds.
    """
    for start in range(0, len(token_ids), chunk):
        part = token_ids[start : start + chunk]
        yield logits(token_ids[: start + len(part)], len(part))


def copied(model: Any, attention: str, dtype: torch.dtype) -> Any:
    """Return a new model of the same class with the same weights in another dtype, and transformers' own attention.

    It is made from the config and filled, not copied: engines and views put things of their own into a model. Raises
    BuildError if the device's memory does not hold it.
    """
    config = copy.deepcopy(model.config)
    config._attn_implementation = attention
    choose_experts(config, dtype)
    before = torch.get_default_dtype()
    if group_of(model) is not None:
        return _copied_shards(model, config, dtype)
    try:
        torch.set_default_dtype(dtype)
        with torch.device(model.device):
            converted = type(model)(config)
    except torch.OutOfMemoryError as error:
        raise does_not_fit(error) from error
    finally:
        torch.set_default_dtype(before)
    converted.load_state_dict(model.state_dict())
    buffers = dict(converted.named_buffers())
    for name, values in model.named_buffers():  # those of rotary embeddings are in no state_dict
        buffers[name].copy_(values)
    return converted.to(dtype).eval().requires_grad_(False)


def _copied_shards(model: Any, config: Any, dtype: torch.dtype) -> Any:
    """Return what `copied` does of a model of which this rank holds a part."""
    shards = shards_of(model)
    assert shards is not None, "the model is sharded"
    try:
        with torch.device("meta"):
            converted = type(model)(config)
        shard(converted, shards.group)
        converted = converted.to_empty(device=model.device).to(dtype)
    except torch.OutOfMemoryError as error:
        raise does_not_fit(error) from error
    return _filled(converted, model)


def _filled(converted: Any, model: Any) -> Any:
    """Give a model the values of another one, and end its training."""
    converted.load_state_dict(model.state_dict())
    if model.get_output_embeddings().weight is model.get_input_embeddings().weight:
        converted.get_output_embeddings().weight = converted.get_input_embeddings().weight
    buffers = dict(converted.named_buffers())
    for name, values in model.named_buffers():  # those of rotary embeddings are in no state_dict
        buffers[name].copy_(values)
    return converted.eval().requires_grad_(False)


def fingerprint(directory: Path | None, model: Any) -> str:
    """Return the fingerprint of the weights in a directory's files, or of the model's if there are none."""
    if directory is not None and any(directory.glob("*.safetensors")):
        return fingerprint_files(directory)
    return fingerprint_weights(weight_samples(model))


def weight_samples(model: Any) -> list[tuple[str, Tensor]]:
    """Return each weight's name with its values, or with its first ones if it is in a file's blocks."""
    return [*model.named_parameters(), *block_beginnings(model)]
