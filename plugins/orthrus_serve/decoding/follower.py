"""The decoding of a process that shares its model with the one that serves: it hears what that one is asked for."""

from __future__ import annotations

import signal

import orthrus
from orthrus.ranks.together import check_shared
from orthrus_serve.decoding.inbox import Taken
from orthrus_serve.decoding.loop import DecodingLoop
from orthrus_serve.decoding.start import DecodingSettings


class NoMessages:
    """An inbox that nobody writes to: what the lead takes is told to all."""

    def take(self, *, wait: bool) -> list[Taken]:
        """Return nothing."""
        return []


class NoReader:
    """What takes messages that nobody reads."""

    busy = False

    def send(self, message: object) -> None:
        """Drop a message."""


def follow(settings: DecodingSettings) -> None:
    """Decode what the lead is asked for until it ends; signals to the whole launch are the lead's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    decoder = orthrus.load(settings.config, dotted=settings.overrides)
    check_shared(decoder.target)
    DecodingLoop(decoder, NoMessages(), NoReader(), settings.batch).run()
