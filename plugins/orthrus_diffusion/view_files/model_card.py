"""Writes a view's model card: its figures come from files that programs wrote, never from hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orthrus import InputError
from orthrus_diffusion.view_files.config import parse_config, read_config
from orthrus_diffusion.view_files.formats import WEIGHTS

CARD = """---
license: {licence}
base_model: {model}
library_name: orthrus-decoding
tags: [orthrus, diffusion, speculative-decoding]
---

# {title}

A diffusion view of {model}: a second attention with which the drafter `diffusion` of
Orthrus proposes a block of {block} tokens in one pass. The text that comes out is the model's own, whatever the view
proposes.

| | |
|---|---|
| base model | {base} |
| fingerprint of its weights | `{fingerprint}` |
| block | {block} |
| mask token | {mask} |
| storage | {storage}, {megabytes:.1f} MB |
| licence | {licence} |

## Training data

{data}

## Recipe

{recipe}
"""


def model_card(
    view: Path, *, licence: str, data: str, recipe: str, base_model: str | None = None, figures: Sequence[Path] = ()
) -> str:
    """Return the README.md of a view in our own format, with a table for each JSON file of figures.

    licence, base_model: as the hub names them; None: as the view names its base. data, recipe: paragraphs of Markdown.
    Of a file every number, text and truth value is shown, by its dotted name; lists are left out. `title` is the
    table's. Raises InputError if a file cannot be read.
    """
    values = read_config(view)
    config = parse_config(values, view)
    head = CARD.format(
        title=view.name,
        licence=licence,
        model=base_model or config.base,
        base=config.base,
        fingerprint=config.fingerprint,
        block=config.block,
        mask=config.mask_token_id,
        storage=values.get("storage", "float"),
        megabytes=(view / WEIGHTS).stat().st_size / 1e6,
        data=data.strip(),
        recipe=recipe.strip(),
    )
    return "\n".join([head, *(_table(file) for file in figures)])


def _table(file: Path) -> str:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"the figures in '{file}' cannot be read as JSON") from error
    if not isinstance(values, dict):
        raise InputError(f"'{file}' must hold a mapping of figures, not a {type(values).__name__}")
    title = values.pop("title", file.stem)
    rows = [f"| `{name}` | {_spelled(value)} |" for name, value in _figures(values)]
    return "\n".join([f"## {title}", "", "| figure | value |", "|---|---|", *rows, ""])


def _figures(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _figures(value, f"{before}{name}.")
        elif isinstance(value, (str, int, float)):
            yield f"{before}{name}", value


def _spelled(value: str | float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")
