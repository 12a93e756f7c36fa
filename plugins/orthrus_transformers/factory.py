"""The factory of the target `transformers`: from options to a model that is loaded and attached."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from orthrus import Parts
from orthrus.ranks.group import RankGroup
from orthrus_transformers.engines.graph_limits import GraphLimits
from orthrus_transformers.loading import model as loading
from orthrus_transformers.loading.loaded_model import LoadedModel
from orthrus_transformers.loading.shared_start import check_alone, check_same_model, choose_rank_device, joined_group
from orthrus_transformers.options import TransformersOptions
from orthrus_transformers.target import TransformersTarget
from orthrus_transformers.transformers_api import raise_if_transformers_changed


def make(options: TransformersOptions, parts: Parts) -> TransformersTarget:
    """Return the target that the options describe, loading its weights unless the source holds the model itself."""
    directory: Path | None
    path: Path | None = None
    group = joined_group(options)
    if isinstance(parts.source, LoadedModel):
        check_alone(group, "a model that is in memory already")
        directory, tokenizer, model = parts.source.directory, None, parts.source.model
    else:
        path = parts.source.fetch() if group is None else group.lead_first(parts.source.fetch)
        directory, tokenizer, model = _loaded(path, options, parts, group)
    limits = GraphLimits(options.graphs, options.graph_tokens, options.graph_megabytes)
    try:
        return TransformersTarget(
            model,
            tokenizer,
            parts.cache,
            parts.attention,
            engine=options.engine,
            prefill_chunk=options.prefill_chunk,
            name=options.source,
            directory=directory,
            model_path=path,
            ignored=options.ignore,
            limits=limits,
            threads=options.threads,
            notify=parts.notify,
        )
    except (AttributeError, ImportError, KeyError, TypeError) as error:
        raise_if_transformers_changed(error)
        raise


def _loaded(path: Path, options: TransformersOptions, parts: Parts, group: RankGroup | None) -> tuple[Path, Any, Any]:
    """Return the directory that holds what the path does, its tokenizer, and the model."""
    in_blocks = options.dtype == "gguf"
    if in_blocks:
        check_alone(group, "a model in the blocks of its GGUF file (target.dtype=gguf)")
    name = "cpu" if in_blocks and options.device == "auto" else options.device
    device = loading.choose_device(name) if group is None else choose_rank_device(name, group, options.sums)
    convert = partial(loading.local_directory, path, parts, options.ignore, in_blocks=in_blocks)
    directory = convert() if group is None else group.lead_first(convert)
    tokenizer = loading.load_tokenizer(loading.tokenizer_directory(directory, options, parts), options)
    if in_blocks:
        return directory, tokenizer, loading.load_in_blocks(path, directory, options)
    if group is not None:
        check_same_model(group, directory, options)
        return directory, tokenizer, loading.load_model_shards(directory, options, device, group)
    return directory, tokenizer, loading.load_model(directory, options, device)
