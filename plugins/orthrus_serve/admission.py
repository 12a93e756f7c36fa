"""Admission: how many answers may be under way or wait, so that no queue grows without bound."""

from __future__ import annotations

from collections.abc import Callable

from orthrus_serve.errors import ApiError, refused

RETRY_SECONDS = 1  # after which a client may ask again


class Admission:
    """Let in as many answers as there are rows and places in the queue."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside = 0

    def enter(self, count: int) -> Callable[[], None]:
        """Let `count` answers in; return what lets them out again, once. Raise ApiError if there is no room."""
        if count > self._most:
            raise refused(f"the request asks for {count} answers at a time; the server has room for {self._most}", "n")
        if self._inside + count > self._most:
            raise ApiError(
                429,
                f"the server is full: {self._inside} answers are under way or wait; ask again later",
                code="queue_full",
                headers={"Retry-After": str(RETRY_SECONDS)},
            )
        self._inside += count
        left = False

        def leave() -> None:
            nonlocal left
            if not left:
                left, self._inside = True, self._inside - count

        return leave

    @property
    def inside(self) -> int:
        """The number of answers that are under way or wait."""
        return self._inside
