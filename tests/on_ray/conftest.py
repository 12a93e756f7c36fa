"""The cluster that the tests with the mark `ray` share: it takes seconds to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of a cluster of Ray on this machine."""
    from support.ray_cluster import cluster

    with cluster(tmp_path_factory.mktemp("ray")) as address:
        yield address
