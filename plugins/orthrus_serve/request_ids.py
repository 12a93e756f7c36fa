"""Ids of requests: a number behind letters that are drawn once, as to draw each takes longer than all else of it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from itertools import count


def request_ids() -> Iterator[str]:
    """Return ids without end, that no other server has."""
    drawn = secrets.token_hex(10)
    return (f"{drawn}{number:012x}" for number in count())
