"""The factory of the target `transformers`: from options to a model that is loaded and attached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orthrus import Parts
from orthrus_transformers.engines.graph_limits import GraphLimits
from orthrus_transformers.loading import model as loading
from orthrus_transformers.loading.loaded_model import LoadedModel
from orthrus_transformers.options import TransformersOptions
from orthrus_transformers.target import TransformersTarget
from orthrus_transformers.transformers_api import raise_if_transformers_changed


def make(options: TransformersOptions, parts: Parts) -> TransformersTarget:
    """Return the target that the options describe, loading its weights unless the source holds the model itself."""
    directory: Path | None
    path: Path | None = None
    if isinstance(parts.source, LoadedModel):
        directory, tokenizer, model = parts.source.directory, None, parts.source.model
    else:
        path = parts.source.fetch()
        directory, tokenizer, model = _loaded(path, options, parts)
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


def _loaded(path: Path, options: TransformersOptions, parts: Parts) -> tuple[Path, Any, Any]:
    """Return the directory that holds what the path does, its tokenizer, and the model."""
    in_blocks = options.dtype == "gguf"
    device = loading.choose_device("cpu" if in_blocks and options.device == "auto" else options.device)
    directory = loading.local_directory(path, parts, options.ignore, in_blocks=in_blocks)
    tokenizer = loading.load_tokenizer(loading.tokenizer_directory(directory, options, parts), options)
    if in_blocks:
        return directory, tokenizer, loading.load_in_blocks(path, directory, options)
    return directory, tokenizer, loading.load_model(directory, options, device)
