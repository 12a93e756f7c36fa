"""The command `orthrus report`."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from orthrus.bench.markdown_report import Report, make_report
from orthrus.bench.results import Results
from orthrus.bench.results_file import read_results
from orthrus.errors import InputError
from orthrus.files import read_text, short_path
from orthrus.terminal import echo


def report(
    results: Annotated[list[Path], typer.Argument(help="Files that `orthrus bench --out` wrote.")],
    out: Annotated[Path, typer.Option("--out", help="The Markdown file to write.")],
    figures: Annotated[
        Path | None, typer.Option("--figures", help="The folder for the plots; FILE-figures beside FILE.md.")
    ] = None,
    introduction: Annotated[
        Path | None, typer.Option("--introduction", help="A Markdown file to begin with, heading included.")
    ] = None,
) -> None:
    """Write a Markdown report of benchmarks, with plots as SVG files beside it."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of its font cache
    if not out.name:
        raise InputError("--out must name a file")
    folder = figures or out.with_name(f"{out.stem}-figures")
    _check(out, folder, [*results, *([introduction] if introduction else [])])
    relative = quote(Path(os.path.relpath(folder, out.parent)).as_posix())
    written_report = make_report(_read(results), _introduction(introduction), relative)
    try:
        _write(written_report, out, folder)
    except OSError as error:
        raise InputError(f"'{error.filename}' cannot be written: {error.strerror}") from error
    echo(f"{out}: benchmarks: {len(results)}, figures in {folder}: {len(written_report.figures)}")


def _check(out: Path, folder: Path, given: Sequence[Path]) -> None:
    if out.resolve() in [path.resolve() for path in given]:
        raise InputError(f"--out: '{out}' is one of the files that the report is made from")
    if out.is_dir():
        raise InputError(f"--out: '{out}' is a directory")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--figures: '{folder}' is no directory")


def _read(paths: Sequence[Path]) -> dict[str, Results]:
    results: dict[str, Results] = {}
    for path in paths:
        if path.stem in results:
            raise InputError(f"two files are called '{path.stem}'; the figures of one would replace the other's")
        results[path.stem] = read_results(path)
    return results


def _introduction(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return read_text(path)
    except InputError as error:
        raise InputError(f"the file '{short_path(path)}' {error}") from error


def _write(report: Report, out: Path, folder: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    if report.figures:
        folder.mkdir(parents=True, exist_ok=True)
    for figure in report.figures:
        (folder / figure.name).write_text(figure.svg, encoding="utf-8")
    out.write_text(report.markdown, encoding="utf-8")
