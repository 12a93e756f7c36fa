"""The actor that decodes chunks: it loads the decoder once, and writes each chunk's part when all of it is decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pyarrow

import orthrus
from orthrus import InputError, Prompt
from orthrus.errors import OrthrusError
from orthrus_ray.dataset.chunks import Chunk, RowReader
from orthrus_ray.dataset.output import Answer, write_part
from orthrus_ray.failure import marked
from orthrus_ray.worker import prepare_worker

FIELDS = ("number", "file", "start", "row", "rows")


@dataclass(frozen=True)
class Task:
    """What a decoder of chunks needs to know beside the chunks; as in `DatasetSettings`."""

    config: Mapping[str, Any]
    folder: str
    output: Path
    reader: RowReader
    column: str
    id_column: str | None
    chat: bool | None
    batch: int


class ChunkDecoder:
    """Decode chunks, one after the other; Ray Data makes one in each actor."""

    def __init__(self, task: Task) -> None:
        """Load the decoder; raise OrthrusError, marked so that the command finds its sentence, if that cannot be."""
        prepare_worker(task.folder)
        self._task = task
        try:
            self._decoder = orthrus.load(task.config)
        except OrthrusError as error:
            raise type(error)(marked(str(error))) from error

    def __call__(self, chunks: dict[str, numpy.ndarray[Any, Any]]) -> dict[str, list[int]]:
        """Decode the chunks of a batch of Ray Data; return what became of each, by column."""
        numbers, errors, tokens = [], [], []
        for values in zip(*(chunks[name].tolist() for name in FIELDS), strict=True):
            chunk = Chunk(*values)
            try:
                answers = self.decode(chunk)
            except OrthrusError as error:
                raise type(error)(marked(str(error))) from error
            numbers.append(chunk.number)
            errors.append(sum(answer.error is not None for answer in answers))
            tokens.append(sum(len(answer.result.token_ids) for answer in answers if answer.result))
        return {"number": numbers, "errors": errors, "tokens": tokens}

    def decode(self, chunk: Chunk) -> Sequence[Answer]:
        """Decode one chunk, write its part, and return the answers; raise InputError or WriteError."""
        rows = self._task.reader.read(chunk)
        prompts = self._task.reader.values(rows, self._task.column)
        answers = self._answers(prompts, self._ids(rows, chunk))
        write_part(self._task.output, chunk, rows, answers)
        return answers

    def _ids(self, rows: pyarrow.Table, chunk: Chunk) -> list[str]:
        """Return what keys the noise of each row: its id, else its number in the dataset, from 1."""
        numbers = [str(chunk.row + number) for number in range(1, chunk.rows + 1)]
        if self._task.id_column is None:
            return numbers
        ids = self._task.reader.values(rows, self._task.id_column)
        return [number if id is None else str(id) for number, id in zip(numbers, ids, strict=True)]

    def _answers(self, prompts: Sequence[Any], ids: Sequence[str]) -> list[Answer]:
        """Return the answer to each prompt; one that cannot be taken has a sentence, and the others are decoded."""
        answers: list[Answer] = [Answer()] * len(prompts)
        encoded: dict[int, list[int]] = {}
        for place, (prompt, id) in enumerate(zip(prompts, ids, strict=True)):
            try:
                encoded[place] = self._encode(prompt, id)
            except InputError as error:
                answers[place] = Answer(error=str(error))
        results = self._decoder.generate(
            list(encoded.values()), ids=[ids[place] for place in encoded], batch=self._task.batch
        )
        for place, result in zip(encoded, results, strict=True):
            answers[place] = Answer(result)
        return answers

    def _encode(self, prompt: Prompt | None, id: str) -> list[int]:
        if prompt is None:
            raise InputError(f"prompt '{id}' is null")
        return self._decoder.encode(prompt, id, self._task.chat)
