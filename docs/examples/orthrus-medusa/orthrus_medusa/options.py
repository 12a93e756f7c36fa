"""Options of the drafter; imports no torch, for configs are checked with it."""

from dataclasses import dataclass

from orthrus import option


@dataclass(frozen=True)
class Options:
    """What a config may say of it."""

    source: str = option(help="the trained heads: a directory or a hub id")
