"""Starts the decoding process, and waits until its decoder is loaded."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from orthrus import BuildError
from orthrus_serve.decoding.messages import Failed, Model, Notice, Ready

SWITCH_SECONDS = 0.0005  # in which the threads of the pipe have their turn while a step is prepared
PATIENCE_SECONDS = 10.0  # for a process that was told to end


@dataclass(frozen=True)
class DecodingSettings:
    """The decoder to load, of a config's file or of its values, and how many rows it has at most."""

    config: Path | Mapping[str, Any]
    overrides: tuple[str, ...]
    batch: int


@dataclass(frozen=True)
class DecodingProcess:
    """A decoding process whose decoder is loaded, and the pipe to it."""

    process: BaseProcess
    connection: Connection
    model: Model

    def end(self) -> None:
        """Wait until the process has ended, which was told to; kill one that does not."""
        self.process.join(PATIENCE_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def start_decoding(settings: DecodingSettings, notify: Callable[[str], None]) -> DecodingProcess:
    """Return a new decoding process; raise BuildError with its sentence if the decoder cannot be loaded."""
    context = multiprocessing.get_context("spawn")  # a fork would share the web process's threads and files
    connection, other = context.Pipe()
    process = context.Process(target=run_decoding, args=(other, settings), name="orthrus decoding", daemon=True)
    process.start()
    other.close()  # so that the pipe ends with the process
    try:
        return DecodingProcess(process, connection, wait_until_ready(connection, notify))
    except BaseException:
        process.kill()
        process.join()
        raise


def run_decoding(connection: Connection, settings: DecodingSettings) -> None:
    """Run a decoding process. Signals to the whole group are the web process's, which says when to end."""
    import orthrus
    from orthrus_serve.decoding.process import run  # which imports torch: here alone, and not where it was started

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.setswitchinterval(SWITCH_SECONDS)
    run(connection, settings.batch, partial(orthrus.load, settings.config, dotted=settings.overrides))


def wait_until_ready(connection: Connection, notify: Callable[[str], None]) -> Model:
    """Return what is served once it is loaded, passing on what is said meanwhile."""
    while True:
        try:
            message = connection.recv()
        except EOFError:
            raise BuildError("the decoding process ended while it loaded the model; is there enough memory?") from None
        if isinstance(message, Ready):
            return message.model
        if isinstance(message, Failed):
            raise BuildError(message.text)
        if isinstance(message, Notice):
            notify(message.text)
