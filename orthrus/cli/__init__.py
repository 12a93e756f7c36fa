"""The program `orthrus`. Nothing here imports torch before a command needs it."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from types import TracebackType

from orthrus.errors import OrthrusError

BAD_INPUT = 2


def main() -> None:
    """Run the program: exit 0, 1 for a failed check, 2 for bad input (one sentence, no traceback unless --debug)."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    warnings.showwarning = _show_warning
    try:
        from orthrus.cli.app import make_app

        make_app()(arguments, prog_name="orthrus")
    except BrokenPipeError:  # the reader of a pipe has gone; what it wanted, it has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except OrthrusError as error:
        _fail(debug, str(error))
    except Exception as error:  # a plugin may raise anything; say what and where, in one sentence
        _fail(debug, f"{type(error).__name__}: {error} ({_place(error.__traceback__)}; --debug shows the traceback)")


def _fail(debug: bool, message: str) -> None:
    if debug:
        traceback.print_exc()
    lines = message.splitlines() or ["unknown"]
    for line in lines:
        sys.stderr.write(f"orthrus: error: {line}\n")
    sys.exit(BAD_INPUT)


def _place(trace: TracebackType | None) -> str:
    last = traceback.extract_tb(trace)[-1]
    return f"in {last.name}, {last.filename}, line {last.lineno}"


def _show_warning(message: object, category: type[Warning], *rest: object, **more: object) -> None:
    if issubclass(category, UserWarning):
        sys.stderr.write(f"orthrus: warning: {message}\n")
