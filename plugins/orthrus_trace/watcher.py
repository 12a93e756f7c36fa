"""The watcher `trace`: a line of JSON for each step, with its drafts, what was accepted of them, and its times."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from orthrus import InputError, Parts, hookimpl
from orthrus.optional import name_of
from orthrus_trace.line_file import LineFile
from orthrus_trace.options import TraceOptions
from orthrus_trace.token_texts import TokenTexts
from orthrus_trace.trace_file import VERSION

if TYPE_CHECKING:
    from orthrus import Tokenizer, WatchedGeneration, WatchedRow, WatchedStep


class TraceWatcher:
    """Write a decoder's steps to a file, line by line; where that fails, decoding goes on without a trace."""

    def __init__(self, lines: LineFile, header: dict[str, Any], tokenizer: Tokenizer | None) -> None:
        self._lines = lines
        self._header = header
        self._tokenizer = tokenizer
        self._texts: dict[int, TokenTexts] = {}  # by number of the request
        self._begun = False

    @hookimpl
    def after_step(self, step: WatchedStep) -> None:
        """Write a line for the step, and before the first one what is decoded with."""
        if not self._begun:
            self._begun = True
            self._lines.write(self._header)
        seconds = {name: round(value, 7) for name, value in vars(step.seconds).items()}
        self._lines.write({"prefill": step.prefill, "seconds": seconds, "rows": [self._row(row) for row in step.rows]})
        for row in step.rows:
            if row.finish_reason == "failed":  # it has no result, so nothing more is said of it
                self._texts.pop(row.number, None)

    @hookimpl
    def after_generation(self, generation: WatchedGeneration) -> None:
        """Write a line for a request that has ended."""
        result = generation.result
        texts = self._texts.pop(generation.number, None)
        if texts is None:  # it had no room for an answer
            return
        self._lines.write(
            {
                "request": generation.number,
                "id": result.id,
                "finish_reason": result.finish_reason,
                "prompt_tokens": len(result.prompt_token_ids),
                "new_tokens": len(result.token_ids),
                "text_error": texts.error,
                **result.measures.to_dict(),
            }
        )

    def _row(self, row: WatchedRow) -> dict[str, Any]:
        if row.number not in self._texts:
            self._texts[row.number] = TokenTexts(self._tokenizer)
        texts = self._texts[row.number]
        tree = {} if row.tree is None else {"parents": row.tree.parents, "kept": row.tree.kept}
        return {
            "request": row.number,
            "id": row.id,
            "position": row.position,
            "drafted": row.drafted,
            "accepted": row.accepted,
            **tree,
            "committed": row.committed,
            "finish_reason": row.finish_reason,
            "texts": texts.committed(row.committed, last=row.finish_reason is not None),
            "drafted_texts": texts.drafted(row.drafted),
        }


def make(options: TraceOptions, parts: Parts) -> TraceWatcher:
    """Return the watcher; raise InputError if its file exists and may not be replaced, or can be none."""
    path = Path(options.file)
    _check_file(path, options.overwrite)
    header = {"orthrus_trace": VERSION, "target": name_of(parts.target), "drafter": name_of(parts.drafter)}
    return TraceWatcher(LineFile(path, options.overwrite), header, parts.target.tokenizer)


def _check_file(path: Path, overwrite: bool) -> None:
    try:
        exists, folder, above = path.exists(), path.is_dir(), path.absolute().parent.is_dir()
    except OSError as error:
        raise InputError(f"trace.file: '{path}' can be no file: {error.strerror}") from error
    if folder:
        raise InputError(f"trace.file: '{path}' is a directory")
    if not above:
        raise InputError(f"trace.file: there is no folder '{path.parent}' to write '{path.name}' to")
    if exists and not overwrite:
        raise InputError(f"trace.file: '{path}' exists; name another file, or set trace.overwrite=true")
