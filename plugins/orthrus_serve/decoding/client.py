"""The web process's end of the pipe to the decoding process: sends requests, and hands each its news."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

from orthrus import InputError
from orthrus_serve.decoding.messages import (
    Cancel,
    Detokenize,
    Failed,
    Generate,
    GenerateAll,
    Messages,
    Model,
    News,
    Notice,
    Refused,
    Reply,
    Statistics,
    Tokenize,
    Update,
)
from orthrus_serve.decoding.pipe import MessageWriter
from orthrus_serve.decoding.piped_answers import ENDED, PipedAnswers
from orthrus_serve.decoding.service import DecodingEndedError, QuestionFailedError


class DecodingClient:
    """Decoding behind a pipe. Everything happens in one event loop, which is told by the pipe's file when to read."""

    def __init__(
        self,
        connection: Connection,
        model: Model,
        *,
        count: Callable[[Statistics], None] = lambda statistics: None,
        notify: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Begin in a running event loop; count, notify: called with what the decoding process says beside answers."""
        self._connection, self._model = connection, model
        self._count, self._notify = count, notify
        self._writer = MessageWriter(connection)
        self._unsent: list[object] = []  # of this turn of the event loop
        self._answers: dict[str, PipedAnswers] = {}
        self._questions: dict[str, asyncio.Future[object]] = {}
        self._loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        self._loop.add_reader(connection.fileno(), self._read)
        # The loop of uvloop makes the file one that never waits; then a message that comes in parts, or that the pipe
        # has no room for, would be an error, in whichever direction it goes.
        os.set_blocking(connection.fileno(), True)

    @property
    def model(self) -> Model:
        """The decoder that is served."""
        return self._model

    @property
    def alive(self) -> bool:
        """Whether the decoding process is there."""
        return not self.ended.is_set()

    def submit(self, requests: Sequence[Generate]) -> PipedAnswers:
        """Ask for answers; raise DecodingEndedError if nobody decodes."""
        self._check_alive()
        streams = any(request.streams for request in requests)
        answers = PipedAnswers([request.id for request in requests], self._forget, streams=streams)
        for request in requests:
            self._answers[request.id] = answers
        self._send(GenerateAll(tuple(requests)))
        return answers

    async def ask(self, question: Tokenize | Detokenize) -> object:
        """Return the tokens or the text; raise InputError, QuestionFailedError or DecodingEndedError."""
        self._check_alive()
        self._questions[question.id] = reply = self._loop.create_future()
        self._send(question)
        try:
            return await reply
        finally:
            del self._questions[question.id]

    def close(self) -> None:
        """Let the decoding process end, and everyone know who still waits."""
        if self.alive:
            self._flush()
            self._writer.close()
            self._end()

    def _send(self, message: object) -> None:
        """Send a message with all others of this turn of the event loop: to write takes longer than to make one."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(message)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent:
            self._writer.send(unsent[0] if len(unsent) == 1 else Messages(tuple(unsent)))

    def _check_alive(self) -> None:
        if not self.alive:
            raise DecodingEndedError(ENDED)

    def _forget(self, ids: set[str]) -> None:
        for id in ids:
            if self._answers.pop(id, None) is not None and self.alive:
                self._send(Cancel(id))

    def _read(self) -> None:
        """Hand out the next message: one at a time, so that other things of the event loop come between them."""
        try:
            message = self._connection.recv()
        except (EOFError, OSError):  # the decoding process has ended, or is being killed
            self._end()
        else:
            self._handle(message)

    def _handle(self, message: object) -> None:
        if isinstance(message, News):
            updates: tuple[Update, ...] = (*message.begun, *message.pieces)
            for update in updates:
                self._hand_out(update)
            if message.statistics is not None:
                self._count(message.statistics)
        elif isinstance(message, Reply):
            self._reply(message.id, message.value)
        elif isinstance(message, Refused) and message.id in self._questions:
            error = QuestionFailedError if message.internal else InputError
            self._reply(message.id, error(message.sentence))
        elif isinstance(message, Notice):
            self._notify(message.text)
        elif isinstance(message, Failed):  # the last message of a decoding that ends by itself
            self._notify(message.text)
            self._end()
        elif isinstance(message, Update):
            self._hand_out(message)

    def _hand_out(self, update: Update) -> None:
        answers = self._answers.get(update.id)  # None: the client has left
        if answers is not None and answers.put(update):
            del self._answers[update.id]

    def _reply(self, id: str, value: object) -> None:
        reply = self._questions.get(id)
        if reply is None or reply.done():
            return
        if isinstance(value, Exception):
            reply.set_exception(value)
        else:
            reply.set_result(value)

    def _end(self) -> None:
        self._loop.remove_reader(self._connection.fileno())
        self.ended.set()
        for answers in set(self._answers.values()):
            answers.lose()
        self._answers.clear()
        for id in list(self._questions):
            self._reply(id, DecodingEndedError(ENDED))
