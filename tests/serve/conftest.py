"""One server for all tests of a file that leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.serving import Served, serving


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """Give a server of letters."""
    with serving() as server:
        yield server
