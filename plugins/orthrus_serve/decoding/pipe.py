"""A thread that writes messages to a pipe, so that whoever sends one never waits for its reader."""

from __future__ import annotations

import threading
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Protocol

from orthrus_serve.decoding.messages import Finish


class SendsMessages(Protocol):
    """Whoever sends messages, as the loop sees it."""

    def send(self, message: object) -> None:
        """Send a message; return at once."""

    @property
    def busy(self) -> bool:
        """Whether a message waits for those before it to be read."""


class MessageWriter:
    """Send messages in order; those that nobody reads any more are dropped."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._queue: SimpleQueue[object] = SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="message writer", daemon=True)
        self._thread.start()

    def send(self, message: object) -> None:
        """Send a message; return at once."""
        self._queue.put(message)

    @property
    def busy(self) -> bool:
        """Whether a message waits for those before it to be read."""
        return not self._queue.empty()

    def close(self, seconds: float = 5.0) -> None:
        """Send `Finish` as the last message, and wait until all are written."""
        self.send(Finish())
        self._thread.join(seconds)

    def _write(self) -> None:
        try:
            while True:
                message = self._queue.get()
                self._connection.send(message)
                if isinstance(message, Finish):
                    return
        except OSError:  # the other process has ended; whoever reads from it is told so by the pipe's end
            return
