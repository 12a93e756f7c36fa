"""The decoding process's inbox: a thread that reads messages, and turns texts into tokens while others are decoded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from typing import Protocol

from orthrus import Decoder, InputError, Prompt
from orthrus_serve.decoding.messages import (
    Cancel,
    Detokenize,
    Finish,
    Generate,
    GenerateAll,
    Messages,
    Refused,
    Reply,
    Tokenize,
)
from orthrus_serve.decoding.waiting_questions import Question, WaitingQuestions


@dataclass(frozen=True)
class Encoded:
    """A request whose prompt has become tokens; arrived: when it came, in seconds of `time.perf_counter`."""

    request: Generate
    token_ids: tuple[int, ...]
    arrived: float


Taken = Encoded | Cancel | Finish


class TakesMessages(Protocol):
    """An inbox, as the loop sees it."""

    def take(self, *, wait: bool) -> list[Taken]:
        """Return what has come, in order; wait: until there is something."""


class Inbox:
    """Take messages from a pipe; what the loop must know of waits until it asks.

    Whatever has come is read before the next text becomes tokens, so that a request that was cancelled costs nothing.
    """

    def __init__(self, connection: Connection, decoder: Decoder, send: Callable[[object], None]) -> None:
        self._connection, self._decoder, self._send = connection, decoder, send
        self._queue: SimpleQueue[Taken] = SimpleQueue()
        self._waiting = WaitingQuestions()
        self._last: Encoded | None = None  # whose tokens the next choice of the same prompt has, too
        self._finished = False
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def take(self, *, wait: bool) -> list[Taken]:
        """Return what has come, in order; wait: until there is something."""
        taken = [self._queue.get()] if wait else []
        while True:
            try:
                taken.append(self._queue.get_nowait())
            except Empty:
                return taken

    def _read(self) -> None:
        while not self._finished:
            message = self._receive()
            if message is None:
                self._handle(*self._waiting.take())
            else:
                self._sort(message)

    def _receive(self) -> object:
        """Return the next message; None if none has come and there is something to do."""
        try:
            return None if self._waiting and not self._connection.poll() else self._connection.recv()
        except (EOFError, OSError):  # the web process has ended
            return Finish()

    def _sort(self, message: object) -> None:
        """Pass on what the loop must know, and let wait what is to become tokens or text."""
        if isinstance(message, Messages):
            for each in message.messages:
                self._sort(each)
        elif isinstance(message, Finish):
            self._finished = True
            self._queue.put(message)
        elif isinstance(message, Cancel):
            self._waiting.forget(message.id)
            self._queue.put(message)
        elif isinstance(message, GenerateAll):
            self._waiting.add(message.requests, time.perf_counter())
        elif isinstance(message, Tokenize | Detokenize):
            self._waiting.add([message], time.perf_counter())

    def _handle(self, question: Question, arrived: float) -> None:
        try:
            self._answer(question, arrived)
        except InputError as error:
            self._send(Refused(question.id, plainly(error, question.id)))
        except Exception as error:  # of a tokenizer, which is a model's own: the others must not wait for nothing
            self._send(Refused(question.id, f"the prompt cannot be read: {type(error).__name__}", internal=True))

    def _answer(self, question: Question, arrived: float) -> None:
        if isinstance(question, Generate):
            self._last = Encoded(question, self._prompt_tokens(question), arrived)
            self._queue.put(self._last)
        elif isinstance(question, Tokenize):
            self._send(Reply(question.id, self._tokens(question.prompt, question.chat, question.special)))
        else:
            self._send(Reply(question.id, self._text(question.token_ids)))

    def _prompt_tokens(self, request: Generate) -> tuple[int, ...]:
        """Return a prompt's tokens; choices of one prompt, which come one after the other, share them."""
        last = self._last
        if last is not None and last.request.prompt is request.prompt and last.request.chat == request.chat:
            return last.token_ids
        return tuple(self._decoder.encode(request.prompt, request.id, request.chat))

    def _tokens(self, prompt: Prompt, chat: bool | None, special: bool) -> list[int]:
        tokenizer = self._decoder.target.tokenizer
        if tokenizer is None:
            raise InputError("the model has no tokenizer")
        tokens = tokenizer.encode(prompt, chat)
        return tokens if special else _inside(tokens, tokenizer.encode("", chat=False))

    def _text(self, token_ids: tuple[int, ...]) -> str:
        tokenizer, size = self._decoder.target.tokenizer, self._decoder.target.vocabulary_size
        if tokenizer is None:
            raise InputError("the model has no tokenizer")
        foreign = [token for token in token_ids if not 0 <= token < size]
        if foreign:
            raise InputError(f"{foreign[0]} is no token; there are {size}")
        return tokenizer.decode(token_ids)


def plainly(error: InputError, id: str) -> str:
    """Return what is wrong with a request, without the id that it was given here."""
    return str(error).replace(f"request '{id}': ", "").replace(f"prompt '{id}'", "the prompt")


def _inside(tokens: list[int], around: list[int]) -> list[int]:
    """Return a text's tokens without those that the tokenizer puts around every text."""
    pairs = list(zip(around, tokens, strict=False))
    before = next((index for index, (outer, token) in enumerate(pairs) if outer != token), len(pairs))
    return tokens[before : len(tokens) - (len(around) - before)]
