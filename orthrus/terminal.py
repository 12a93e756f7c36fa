"""The one way to a terminal: what models, files and plugins wrote gets there without control characters.

An escape sequence in a prompt's id, a template's error or a file's name must not be able to steer the terminal of who
reads it. Files and pipes get every text as it is.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_AS_THEY_ARE = re.compile("[\x7f-\x9f]")  # control characters that JSON may hold, and terminals obey


def harmless(text: str) -> str:
    """Return the text without control characters, line ends and tabs excepted."""
    if text.isprintable():
        return text
    return "".join(letter for letter in text if letter in "\n\t" or unicodedata.category(letter) != "Cc")


def echo(text: object, *, err: bool = False, end: str = "\n", to: TextIO | None = None) -> None:
    """Write a text to standard output, or with err to standard error, or to a stream; a terminal gets it `harmless`."""
    stream = to or (sys.stderr if err else sys.stdout)
    said = str(text)
    stream.write((harmless(said) if stream.isatty() else said) + end)
    stream.flush()


def to_json(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON whose letters are as they are and whose control characters are all escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _AS_THEY_ARE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def console(*, err: bool = False, width: int | None = None) -> Console:
    """Return a console of rich on standard output, or with err on standard error, for tables and bars."""
    return _HarmlessConsole(stderr=err, width=width, highlight=False)


class _HarmlessConsole(Console):
    """Leave control characters out of whatever is shown on a terminal; rich's own sequences are no text."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            foreign = self.is_terminal and not segment.control and not segment.text.isprintable()
            yield segment._replace(text=harmless(segment.text)) if foreign else segment
