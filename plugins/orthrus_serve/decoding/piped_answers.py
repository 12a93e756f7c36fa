"""The answers to some requests, as they come through the pipe."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from orthrus_serve.decoding.messages import Piece, Refused, Update
from orthrus_serve.decoding.service import DecodingEndedError

ENDED = "the decoding process has ended"


class PipedAnswers:
    """Updates of requests, kept until they are asked for; forget: called with those that are left before their end.

    streams: whether they are asked for as they come; else all of them once the last one is there, or one is a refusal.
    """

    def __init__(self, ids: Sequence[str], forget: Callable[[set[str]], None], *, streams: bool = True) -> None:
        self._open = set(ids)
        self._forget, self._streams = forget, streams
        self._updates: list[Update] = []
        self._changed = asyncio.Event()
        self._lost = False

    async def updates(self) -> Sequence[Update]:
        """Return what is new, at least one update; raise DecodingEndedError if nothing comes any more."""
        await self._changed.wait()
        if not self._updates and self._lost:
            raise DecodingEndedError(ENDED)
        taken, self._updates = self._updates, []
        if not self._lost:
            self._changed.clear()
        return taken

    def close(self) -> None:
        """Cancel the requests whose answers have not ended."""
        self._forget(self._open)
        self._open = set()

    def put(self, update: Update) -> bool:
        """Take an update; return whether it is the last one of its request."""
        self._updates.append(update)
        refused = isinstance(update, Refused)
        ended = refused or (isinstance(update, Piece) and update.ending is not None)
        if ended:
            self._open.discard(update.id)
        if self._streams or refused or not self._open:
            self._changed.set()
        return ended

    def lose(self) -> None:
        """Let whoever waits know that nothing comes any more."""
        self._lost = True
        self._changed.set()
