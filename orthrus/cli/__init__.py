"""The program `orthrus`. Nothing here imports torch before a command needs it.

May import: bench, build, config, decoder, doctor, errors, files, interfaces, machine, metrics, options, prediction,
progress, prompts, ranks, registry, scaffold, terminal, testing, values, verification.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
import warnings
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from orthrus.cli.exit_codes import BAD_INPUT, INTERRUPTED
from orthrus.cli.together import begin_together, check_together, shared_launch
from orthrus.errors import OrthrusError, reason

if TYPE_CHECKING:
    from orthrus.ranks.ending import Ending

OF_THE_SYSTEM = {errno.ENAMETOOLONG, errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES, errno.EPERM}


def main() -> None:
    """Run the program: exit 0, 1 for a failed check, 2 for bad input (one sentence, no traceback unless --debug)."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    warnings.showwarning = _WarnOnce()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: its waiting threads would keep cores busy
    ending: Ending | None = None
    try:
        if (launch := shared_launch(arguments)) is not None:
            ending = begin_together(launch, arguments)
            check_together(arguments)
        code = _run(arguments)
        if code == INTERRUPTED:  # the others may wait for this process
            _exit(code, ending)
        sys.exit(code)
    except BrokenPipeError:  # the reader closed the pipe (`orthrus ... | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _exit(1, ending)
    except KeyboardInterrupt:
        _exit(INTERRUPTED, ending)
    except OrthrusError as error:
        _fail(debug, str(error), ending)
    except OSError as error:
        _fail(debug, _of_the_system(error) or _unforeseen(error), ending)
    except Exception as error:  # a plugin may raise anything; say what and where, in one sentence
        _fail(debug, _usage(error) or _unforeseen(error), ending)


def _run(arguments: list[str]) -> int:
    from orthrus.cli.app import make_app

    code = make_app()(arguments or ["--help"], prog_name="orthrus", standalone_mode=False)
    return code if isinstance(code, int) else 0


def _exit(code: int, ending: Ending | None) -> NoReturn:
    """Exit, and with this process all that run the command with it."""
    if ending is not None:
        ending.end(code)
    sys.exit(code)


def _fail(debug: bool, message: str, ending: Ending | None) -> NoReturn:
    from orthrus.terminal import echo

    if ending is not None:
        ending.fail(message, traceback.format_exc() if debug else "")
    if debug:
        echo(traceback.format_exc(), err=True, end="")
    lines = message.splitlines() or ["unknown"]
    for line in lines:
        echo(f"orthrus: error: {line}", err=True)
    sys.exit(BAD_INPUT)


def _unforeseen(error: Exception) -> str:
    return f"{reason(error)} ({_place(error.__traceback__)}; --debug shows the traceback)"


def _of_the_system(error: OSError) -> str | None:
    """Return the sentence for a disk or a name that the system refuses; None for what may be anybody's mistake."""
    if error.errno not in OF_THE_SYSTEM:
        return None
    where = f"'{str(error.filename)[:200]}' cannot be used: " if error.filename else "a file cannot be written: "
    return f"{where}{error.strerror}"


def _usage(error: Exception) -> str | None:
    """Return what typer says of a command line that it cannot read, in one line; None for any other error."""
    if not hasattr(error, "format_message"):
        return None
    context = getattr(error, "ctx", None)
    hint = f" (see {context.command_path} --help)" if context else ""
    return " ".join(error.format_message().split()).removesuffix(".") + hint


def _place(trace: TracebackType | None) -> str:
    last = traceback.extract_tb(trace)[-1]
    return f"in {last.name}, {last.filename}, line {last.lineno}"


class _WarnOnce:
    """Show a warning that is meant for users in one line, and each text once, wherever in the program it comes from."""

    def __init__(self) -> None:
        self._shown: set[str] = set()

    def __call__(self, message: object, category: type[Warning], *rest: object, **more: object) -> None:
        text = " ".join(str(message).split())
        if issubclass(category, UserWarning) and text not in self._shown:
            from orthrus.terminal import echo

            self._shown.add(text)
            echo(f"orthrus: warning: {text}", err=True)
