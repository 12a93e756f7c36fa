"""The factory of the target `transformers`: from options to a model that is loaded and attached."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from orthrus import BuildError, Parts
from orthrus.ranks.group import RankGroup
from orthrus_transformers.engines.graph_limits import GraphLimits
from orthrus_transformers.engines.native import BLOCKS, native_report, parts_misfit
from orthrus_transformers.loading import model as loading
from orthrus_transformers.loading.file_tokenizer import load_file_tokenizer
from orthrus_transformers.loading.gguf.blocks import load_block_decoder
from orthrus_transformers.loading.loaded_model import LoadedModel
from orthrus_transformers.loading.shared_start import check_alone, check_same_model, choose_rank_device, joined_group
from orthrus_transformers.loading.tokenizer import TextTokenizer
from orthrus_transformers.model.kept_check import KeptChecks, passing_parts
from orthrus_transformers.native.library import load_library
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
            steady_prefills=options.steady_prefills,
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
    if options.dtype == "gguf":
        check_alone(group, "a model in the blocks of its GGUF file (target.dtype=gguf)")
        return _in_blocks(path, options, parts)
    if group is None:
        device = loading.choose_device(options.device)
    else:
        device = choose_rank_device(options.device, group, options.sums)
    convert = partial(loading.local_directory, path, parts, options.ignore)
    directory = convert() if group is None else group.lead_first(convert)
    tokenizer = loading.load_tokenizer(loading.tokenizer_directory(directory, options, parts), options)
    if group is not None:
        check_same_model(group, directory, options)
        return directory, tokenizer, loading.load_model_shards(directory, options, device, group)
    return directory, tokenizer, loading.load_model(directory, options, device)


def _in_blocks(path: Path, options: TransformersOptions, parts: Parts) -> tuple[Path, Any, Any]:
    """Return the same of a GGUF file whose weights stay in it; without transformers where that has been seen to fit."""
    loading.check_device_of_blocks(options.device)
    directory = loading.local_directory(path, parts, options.ignore, in_blocks=True)
    tokenizer: TextTokenizer | None
    if options.tokenizer is None:
        tokenizer = load_file_tokenizer(directory, options.chat)
    else:
        tokenizer = loading.load_tokenizer(loading.tokenizer_directory(directory, options, parts), options)
    whole = partial(loading.load_in_blocks, path, directory, options)
    if _is_checked(directory, options, parts):
        return directory, tokenizer, load_block_decoder(path, directory, whole)
    return directory, tokenizer, whole()


def _is_checked(directory: Path, options: TransformersOptions, parts: Parts) -> bool:
    """Tell whether the engine native would be taken, and has passed the self-check with this file and these parts."""
    if options.engine not in ("auto", "native") or parts_misfit(parts.cache, parts.attention) is not None:
        return False
    try:
        library = load_library(parts.notify)
    except BuildError:
        return False  # the target says why when it comes to choose its engine
    report = native_report(library.key, 0, BLOCKS)
    return KeptChecks(directory, *passing_parts(report, parts.cache, parts.attention)).passed() is not None
