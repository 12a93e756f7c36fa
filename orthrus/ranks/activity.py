"""The activity of the thread that decodes, as the watch of its process sees it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Activity:
    """Whether a thread works on a step, whether it waits for other ranks, and when it last did something new."""

    def __init__(self) -> None:
        self._steps = 0  # that are under way, one within another
        self._waits = 0
        self._since = time.monotonic()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Work on a step meanwhile: what takes long without a word to other ranks counts as a hang."""
        self._steps += 1
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._steps -= 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait for other ranks meanwhile, however long it takes: they are watched themselves."""
        self._waits += 1
        try:
            yield
        finally:
            self._waits -= 1
            self._since = time.monotonic()

    def silent_seconds(self) -> float:
        """Return for how long the thread has worked on a step without a word to other ranks."""
        return time.monotonic() - self._since if self._steps and not self._waits else 0.0

    def waited_seconds(self) -> float:
        """Return for how long the thread has waited for other ranks within a step."""
        return time.monotonic() - self._since if self._steps and self._waits else 0.0
