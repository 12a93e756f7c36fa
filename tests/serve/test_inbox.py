"""The inbox: a prompt becomes tokens once, whatever its choices, and not at all if nobody waits for it any more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import pytest
from support.serving import SECONDS, decoder_of, letters_target, wait_for

from orthrus import Prompt
from orthrus_serve.decoding.inbox import Encoded, Inbox, Taken
from orthrus_serve.decoding.messages import Cancel, Finish, Generate, GenerateAll, Refused, Tokenize


class Slow:
    """A tokenizer of letters that waits for leave, and notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Prompt] = []
        self.leave = threading.Event()

    def encode(self, prompt: Prompt, chat: bool | None = None) -> list[int]:
        """Return the tokens, once there is leave."""
        self.asked.append(prompt)
        assert self.leave.wait(SECONDS)
        if prompt == "d":
            raise ZeroDivisionError
        return [ord(letter) - ord("a") for letter in str(prompt)]

    def decode(self, token_ids: list[int]) -> str:
        """Return no text."""
        return ""


@pytest.fixture
def slow() -> Slow:
    """Give a tokenizer that has no leave yet."""
    return Slow()


@pytest.fixture
def pipe(slow: Slow) -> Iterator[tuple[Connection, Inbox]]:
    """Give the way to an inbox, and the inbox."""
    target = letters_target()
    target.tokenizer = slow  # type: ignore[assignment]
    ours, theirs = Pipe()
    inbox = Inbox(theirs, decoder_of(target), theirs.send)
    yield ours, inbox
    slow.leave.set()
    ours.close()


def taken_until_the_end(inbox: Inbox) -> list[Taken]:
    taken: list[Taken] = []
    while Finish() not in taken:
        taken += inbox.take(wait=True)
    return taken


def ask(connection: Connection, *prompts: str) -> None:
    """Ask for two choices of each prompt, in one message."""
    requests = [Generate(f"{prompt}{choice}", prompt) for prompt in prompts for choice in range(2)]
    connection.send(GenerateAll(tuple(requests)))


def encoded(taken: list[Taken]) -> list[tuple[str, tuple[int, ...]]]:
    return [(entry.request.id, entry.token_ids) for entry in taken if isinstance(entry, Encoded)]


def test_choices_of_a_prompt_share_its_tokens(slow: Slow, pipe: tuple[Connection, Inbox]) -> None:
    connection, inbox = pipe
    slow.leave.set()
    ask(connection, "ab", "c")
    taken: list[Taken] = []
    while len(taken) < 4:
        taken += inbox.take(wait=True)
    assert encoded(taken) == [("ab0", (0, 1)), ("ab1", (0, 1)), ("c0", (2,)), ("c1", (2,))]
    assert slow.asked == ["ab", "c"]


def test_who_has_left_has_no_prompt_encoded(slow: Slow, pipe: tuple[Connection, Inbox]) -> None:
    connection, inbox = pipe
    ask(connection, "ab", "c")
    ask(connection, "d")
    connection.send(Tokenize("question", "e"))
    wait_for(lambda: slow.asked == ["ab"])
    for id in ("ab0", "ab1", "c0", "c1"):
        connection.send(Cancel(id))
    slow.leave.set()
    refusals = [connection.recv() for _ in range(2)]
    assert [refusal.id for refusal in refusals if isinstance(refusal, Refused)] == ["d0", "d1"]
    assert connection.recv().value == [4]
    connection.send(Finish())
    taken = taken_until_the_end(inbox)
    assert encoded(taken) == [("ab0", (0, 1))]
    assert [entry.id for entry in taken if isinstance(entry, Cancel)] == ["ab0", "ab1", "c0", "c1"]
    assert slow.asked == ["ab", "d", "d", "e"]


def test_who_asks_for_little_does_not_wait_for_who_asks_for_much(slow: Slow, pipe: tuple[Connection, Inbox]) -> None:
    connection, inbox = pipe
    ask(connection, "ab", "c", "e", "f")
    ask(connection, "ba", "bc")
    connection.send(Tokenize("question", "h"))
    wait_for(lambda: slow.asked == ["ab"])
    connection.send(Cancel("bc1"))
    slow.leave.set()
    assert connection.recv().value == [7]
    asked = ["ab", "ba", "h", "c", "bc", "e", "f"]
    wait_for(lambda: len(slow.asked) == len(asked))
    assert slow.asked == asked
    connection.send(Finish())
    taken = [id for id, _ in encoded(taken_until_the_end(inbox))]
    assert taken == [
        f"{prompt}{choice}" for prompt in asked if prompt != "h" for choice in "01" if prompt + choice != "bc1"
    ]
