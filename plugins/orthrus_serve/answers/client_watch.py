"""A watch over a client: what is done for it ends when it leaves."""

from __future__ import annotations

import asyncio
from types import TracebackType

from starlette.types import Receive


class ClientLeftError(Exception):
    """Report that nobody waits for a response any more."""


class ClientWatch:
    """Cancel the block within it, and raise ClientLeftError, when the client leaves; as `asyncio.timeout` does by time.

    The block runs in the task that it is in, as one more for each request is what costs most of all.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left = self._over = False

    async def __aenter__(self) -> None:
        """Begin to watch."""
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        self._task, self._cancelling = task, task.cancelling()
        self._watching = asyncio.ensure_future(self._wait())
        self._watching.add_done_callback(self._leave)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Watch no more; raise ClientLeftError if that is why the block has ended."""
        self._over = True
        self._watching.cancel()
        if self._left and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise ClientLeftError from error

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _leave(self, watching: asyncio.Future[None]) -> None:
        if not self._over and not watching.cancelled():
            self._left = True
            self._task.cancel()
