"""An answer under way: its requests are submitted, its choices come in pieces, and leaving it cancels them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from orthrus_serve.answers.choice import Choice
from orthrus_serve.answers.plan import Plan
from orthrus_serve.decoding.messages import Begun, Piece, Refused, Update
from orthrus_serve.decoding.service import Answers, DecodingEndedError
from orthrus_serve.errors import ApiError, refused, unavailable


class AnswerRun:
    """The choices of one answer, as they come."""

    def __init__(self, plan: Plan, answers: Answers, on_end: Callable[[Sequence[Choice]], None]) -> None:
        """Follow answers that were asked for; on_end: called once, with what the choices have come to."""
        self.plan = plan
        self.choices = [Choice(index) for index in range(len(plan.requests))]
        self._by_id = {request.id: choice for request, choice in zip(plan.requests, self.choices, strict=True)}
        self._answers, self._on_end = answers, on_end
        self._early: list[Piece] = []  # that came before all choices had begun
        self._closed = False

    async def begin(self) -> None:
        """Wait until every choice was taken; raise ApiError if one is refused."""
        while any(choice.begun is None for choice in self.choices):
            self._early += self._pieces(await self._updates())

    async def pieces(self) -> AsyncIterator[list[tuple[Choice, Piece]]]:
        """Yield the pieces that come, all that are there at a time, until every choice has ended."""
        pieces, self._early = self._early, []
        while True:
            for piece in pieces:
                self._by_id[piece.id].count(piece)
            if pieces:
                yield [(self._by_id[piece.id], piece) for piece in pieces]
            if all(choice.ending is not None for choice in self.choices):
                return
            pieces = self._pieces(await self._updates())

    def close(self) -> None:
        """Cancel what goes on; call it whatever happens."""
        if not self._closed:
            self._closed = True
            self._answers.close()
            self._on_end(self.choices)

    async def _updates(self) -> Sequence[Update]:
        try:
            return await self._answers.updates()
        except DecodingEndedError as error:
            raise unavailable(str(error)) from error

    def _pieces(self, updates: Sequence[Update]) -> list[Piece]:
        """Note which choices have begun; return the pieces among updates, and raise ApiError for a refusal."""
        pieces: list[Piece] = []
        for update in updates:
            if isinstance(update, Refused):
                raise ApiError(500, update.sentence) if update.internal else refused(update.sentence)
            if isinstance(update, Begun):
                self._by_id[update.id].begun = update
            else:
                pieces.append(update)
        return pieces
