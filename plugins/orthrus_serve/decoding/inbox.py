"""The decoding process's inbox: a thread that reads messages, and turns texts into tokens while others are decoded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue

from orthrus import Decoder, InputError, Prompt
from orthrus_serve.decoding.messages import Cancel, Detokenize, Finish, Generate, Refused, Reply, Tokenize


@dataclass(frozen=True)
class Encoded:
    """A request whose prompt has become tokens; arrived: when it came, in seconds of `time.perf_counter`."""

    request: Generate
    token_ids: tuple[int, ...]
    arrived: float


Taken = Encoded | Cancel | Finish


class Inbox:
    """Take messages from a pipe; what the loop must know of waits until it asks."""

    def __init__(self, connection: Connection, decoder: Decoder, send: Callable[[object], None]) -> None:
        self._connection, self._decoder, self._send = connection, decoder, send
        self._queue: SimpleQueue[Taken] = SimpleQueue()
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
        message: object = None
        while not isinstance(message, Finish):
            try:
                message = self._connection.recv()
            except (EOFError, OSError):  # the web process has ended
                message = Finish()
            self._handle(message)

    def _handle(self, message: object) -> None:
        if isinstance(message, Cancel | Finish):
            self._queue.put(message)
        elif isinstance(message, Generate | Tokenize | Detokenize):
            try:
                self._answer(message)
            except InputError as error:
                self._send(Refused(message.id, plainly(error, message.id)))
            except Exception as error:  # of a tokenizer, which is a model's own: the others must not wait for nothing
                self._send(Refused(message.id, f"the prompt cannot be read: {type(error).__name__}", internal=True))

    def _answer(self, message: Generate | Tokenize | Detokenize) -> None:
        if isinstance(message, Generate):
            arrived = time.perf_counter()
            tokens = self._decoder.encode(message.prompt, message.id, message.chat)
            self._queue.put(Encoded(message, tuple(tokens), arrived))
        elif isinstance(message, Tokenize):
            self._send(Reply(message.id, self._tokens(message.prompt, message.chat, message.special)))
        else:
            self._send(Reply(message.id, self._text(message.token_ids)))

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
