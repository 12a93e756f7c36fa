"""The errors a user can cause, each one clear sentence; everything else is a bug and keeps its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class OrthrusError(Exception):
    """An error that a user can cause: one sentence with what happened, the value, its origin and what to do."""


class InputError(OrthrusError):
    """Report a prompt, file or argument that cannot be used."""


class PluginError(OrthrusError):
    """Report a plugin that is broken, misspelled, late or in conflict with another."""


class BuildError(OrthrusError):
    """Report parts that exist but do not fit together, or a model that cannot be loaded."""


class InterfaceError(BuildError):
    """Report an object that is no part of its kind: it lacks a member, or declares what no part may."""


class GroupError(OrthrusError):
    """Report processes that decode together and that differ, are too few or too many, or have ended."""


class DraftError(OrthrusError):
    """Report a drafter that broke its contract; names the rule, the value and the place."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a config: where it was written, under which key, and what."""

    origin: str
    key: str
    message: str

    def __str__(self) -> str:
        location = f"{self.origin}: {self.key}" if self.key else self.origin
        return f"{location}: {self.message}"


class ConfigError(OrthrusError):
    """Report every problem of a config at once, one line each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


def shown(value: object, most: int = 80) -> str:
    """Return a value as a message quotes it: words of YAML as YAML spells them, and not too much of anything."""
    words = {None: "null", True: "true", False: "false"}
    try:
        text = words[value] if value is None or isinstance(value, bool) else repr(value)
    except ValueError:  # Python spells no number of more than 4,300 digits
        text = "a number without end"
    return shortened(text, most)


def shortened(text: str, most: int = 80) -> str:
    """Return a text, and of a longer one so many letters."""
    return text if len(text) <= most else f"{text[:most]}..."


def reason(error: BaseException, most: int = 300) -> str:
    """Return an error of somebody else's code as one line: its class and what it says."""
    said = " ".join(str(error).split())
    return shortened(f"{type(error).__name__}: {said}", most) if said else type(error).__name__


def first_of(problems: Sequence[str]) -> str:
    """Return the first of several problems of a kind, and how many more there are."""
    return problems[0] + (f" (and {len(problems) - 1} more such)" if len(problems) > 1 else "")


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Return the sentence for a name that does not exist: what was probably meant, and what exists."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    listing = f"known: {', '.join(names)}" if names else "none is known"
    return f"unknown {what} {shown(name)}{hint}; {listing}"
