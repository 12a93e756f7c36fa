"""Decodes a dataset on actors of Ray Data, going on where an earlier decoding of it ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import ray.data
from ray.exceptions import RayError

from orthrus import BuildError
from orthrus.progress import bar
from orthrus_ray.cluster import connected
from orthrus_ray.dataset.chunk_decoder import ChunkDecoder, Task
from orthrus_ray.dataset.chunks import Chunk
from orthrus_ray.dataset.input_files import Dataset, open_dataset
from orthrus_ray.dataset.manifest import claim
from orthrus_ray.dataset.output import is_done
from orthrus_ray.dataset.settings import DatasetSettings, DatasetSummary
from orthrus_ray.failure import sentence_in

MOST_BLOCKS = 10_000  # of Ray Data, which has work with each; beyond, a block has several chunks


def decode_dataset(
    settings: DatasetSettings, *, address: str | None = None, notify: Callable[[str], None] = lambda text: None
) -> DatasetSummary:
    """Decode all rows of an input that were not decoded before; return what became of them.

    Each chunk of rows becomes one file of the output, written whole or not at all, so that a decoding that was ended
    goes on where it was, whichever way it ended. The output can be read as soon as this returns; columns beside those
    of the input are `settings.ANSWER_COLUMNS`. A row's text depends on its prompt, its id and the config alone.

    address: of the cluster, as `orthrus ray` takes it. notify: called with a sentence before something slow. Raises
    InputError, before anything is decoded, for an input that cannot be read, a column that is not there, or an output
    from other settings; BuildError if the decoder cannot be loaded.
    """
    dataset = open_dataset(settings)
    manifest = claim(settings, dataset.rows.identity, dataset.id_column)
    chunks = list(dataset.rows.chunks(manifest.part_rows))
    todo = [chunk for chunk in chunks if not is_done(settings.output, chunk)]
    rows, left = (sum(chunk.rows for chunk in some) for some in (chunks, todo))
    if left < rows:
        notify(f"{rows - left} of {rows} rows are done; the others follow")
    errors = tokens = 0
    if todo:
        with connected(address) as cluster, bar("decoding", len(chunks), done=len(chunks) - len(todo)) as advance:
            gpus = cluster.gpus_a_worker(settings.gpus)
            if waiting := cluster.check(settings.workers, settings.cpus, gpus):
                notify(waiting)
            for done in _decode(settings, dataset, todo, gpus):
                advance(done)
                errors, tokens = errors + done["errors"], tokens + done["tokens"]
    return DatasetSummary(rows, rows - left, errors, tokens)


def _decode(settings: DatasetSettings, dataset: Dataset, chunks: Sequence[Chunk], gpus: float) -> Iterator[Any]:
    """Yield what became of each chunk, in any order; raise BuildError or InputError with the sentence of an actor."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it would write the tracebacks of what is raised here
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    task = Task(
        settings.config,
        settings.folder,
        settings.output.absolute(),
        dataset.reader,
        settings.column,
        dataset.id_column,
        settings.chat,
        settings.batch,
    )
    blocks = min(len(chunks), MOST_BLOCKS)
    decoded = ray.data.from_items([asdict(chunk) for chunk in chunks], override_num_blocks=blocks).map_batches(
        ChunkDecoder,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=settings.workers),
        fn_constructor_args=[task],
        num_cpus=settings.cpus,
        num_gpus=gpus or None,
    )
    try:
        yield from decoded.iter_rows()
    except RayError as error:
        raise BuildError(sentence_in(str(error))) from error
