"""Options of the caches; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orthrus import option


@dataclass(frozen=True)
class StaticOptions:
    """Options of the cache `static`: the slots that a row has at first."""

    slots: int = option(
        512, minimum=16, maximum=2**40, help="slots a row has from the start; doubled when a text outgrows them"
    )
    max_slots: int | None = option(
        None,
        minimum=16,
        help="most tokens of a prompt and its answer; more are refused. null: what memory holds",
    )


@dataclass(frozen=True)
class PagedOptions:
    """Options of the cache `paged`: the size of its blocks, and how many there may be."""

    block: int = option(16, minimum=1, maximum=2**20, help="slots of a block")
    blocks: int | None = option(
        None,
        minimum=1,
        maximum=2**40,
        help="most blocks that all rows hold together; requests wait for them. null: what memory holds",
    )
    prefixes: int = option(
        0,
        minimum=0,
        maximum=2**40,
        help="most blocks kept of texts that were decoded, for prompts that begin alike; 0: none",
    )


@dataclass(frozen=True)
class QuantizedOptions:
    """Options of the cache `quantized`: what keys and values are rounded to."""

    codes: Literal["int8", "fp8"] = option(
        "int8",
        help="what a number is held as: int8, or fp8, a float with 4 bits of exponent and 3 of mantissa",
    )
    group: int = option(32, minimum=1, maximum=2**20, help="numbers of a token's head that share a scale, at most")


@dataclass(frozen=True)
class OffloadedOptions:
    """Options of the cache `offloaded`: how memory of the host is taken."""

    pinned: bool = option(
        True,
        help="whether memory of the host is page-locked, so that copies to a GPU go on beside passes",
    )
