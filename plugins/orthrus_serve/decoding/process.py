"""The decoding process: loads the decoder, says so, and decodes until the web process ends."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Protocol

import orthrus
from orthrus.errors import OrthrusError, reason
from orthrus.optional import BoundsSlots, DescribesTokens, is_coupled, name_of
from orthrus.ranks.together import check_shared, end_all
from orthrus_serve.decoding.inbox import Inbox
from orthrus_serve.decoding.loop import DecodingLoop
from orthrus_serve.decoding.messages import Failed, Model, Notice, Ready
from orthrus_serve.decoding.pipe import MessageWriter


class Load(Protocol):
    """What returns the decoder."""

    def __call__(self, *, notify: Callable[[str], None]) -> orthrus.Decoder:
        """Return it; notify: called with a sentence before something slow."""


def run(connection: Connection, batch: int, load: Load) -> None:
    """Load a decoder and decode what comes through a pipe; tests run it in a thread."""
    writer = MessageWriter(connection)
    try:
        decoder = load(notify=lambda text: writer.send(Notice(text)))
        check_shared(decoder.target)
        writer.send(Ready(model_of(decoder)))
        DecodingLoop(decoder, Inbox(connection, decoder, writer.send), writer, batch).run()
    except OrthrusError as error:
        end_all(str(error))
        writer.send(Failed(str(error)))
    except Exception as error:  # a plugin may raise anything
        end_all(reason(error))
        writer.send(Failed(reason(error)))
    finally:
        writer.close()
        connection.close()


def model_of(decoder: orthrus.Decoder) -> Model:
    """Return what requests are checked against."""
    target, tokenizer = decoder.target, decoder.target.tokenizer
    return Model(
        vocabulary_size=target.vocabulary_size,
        max_length=target.max_length,
        row_slots=(target.max_slots if isinstance(target, BoundsSlots) else None) or target.max_length,
        greedy=decoder.verifier.greedy,
        seeded=decoder.verifier.greedy or is_coupled(decoder.verifier),
        has_text=tokenizer is not None,
        tokens=dict(tokenizer.description()) if isinstance(tokenizer, DescribesTokens) else {},
        drafter=name_of(decoder.drafter),
    )
