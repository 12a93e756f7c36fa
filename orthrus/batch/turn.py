"""Turns of a target: one decoding at a time, and one thread at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orthrus.errors import InputError

if TYPE_CHECKING:
    from orthrus.batch.context import Context

MOMENT = 0.001  # seconds in which a thread that waits takes a free lock


class Turn:
    """The turn of a target, whose cache holds the rows of the decoding that was begun last.

    A thread that takes the turn waits until no other has it. A thread may take it again while it has it.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()  # which a thread has while it has the turn
        self._begun: Context | None = None
        self._waiting: list[object] = []  # a mark for each thread that asks for the turn between two steps

    def begin(self, context: Context) -> None:
        """Note that a context's decoding begins: every other one is refused from here on."""
        self._begun = context

    def holds(self, context: Context) -> bool:
        """Return whether this context's decoding is the one that was begun last."""
        return self._begun is context

    def check(self, context: Context) -> None:
        """Raise InputError unless this context's decoding is the one that was begun last."""
        check_turn(self._begun, context)

    @contextmanager
    def taken(self, context: Context | None = None) -> Iterator[None]:
        """Keep other threads waiting meanwhile; raise InputError if another decoding than the context's was begun."""
        with self.lock:
            if context is not None:
                self.check(context)
            yield

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Take the turn between two steps of a thread that decodes on and on, and gives way to those who ask."""
        mark = object()
        self._waiting.append(mark)
        try:
            self.lock.acquire()
        finally:
            self._waiting.remove(mark)
        try:
            yield
        finally:
            self.lock.release()

    def give_way(self) -> None:
        """Let a thread that has asked take the turn, which this one has not: a lock is not fair by itself."""
        if self._waiting:
            time.sleep(MOMENT)


class FreeTurn(Turn):
    """The turn of a target that has none: no decoding on it is refused."""

    def check(self, context: Context) -> None:
        """Do nothing: the target does not say which decoding was begun."""


def check_turn(begun: Context | None, context: Context) -> None:
    """Raise InputError if a target that has begun one context is asked for another: its cache holds the newer one's."""
    if begun is not context:
        raise InputError(
            "another decoding was begun on this target; finish one before the next, or load a second decoder"
        )
