"""What pytest takes up before it collects; fixtures and everything else are in tests/support."""

from __future__ import annotations

import os

import pytest
from support.gpu_tests import GpuTests
from support.thorough import PROFILE, marks_of


def pytest_configure(config: pytest.Config) -> None:
    """Let the profile `nightly` have the thorough and nightly cases, too, unless other marks are asked for.

    A process that hands tests out to others, and runs none, has no use for fixtures: the others wait for its start.
    """
    config.option.markexpr = marks_of(os.environ.get(PROFILE), config.option.markexpr)
    config.pluginmanager.register(GpuTests())
    if not hands_out(config) or config.getoption("hypothesis_profile", None):
        config.pluginmanager.import_plugin("support.fixtures")


def hands_out(config: pytest.Config) -> bool:
    """Return whether a process has others run its tests."""
    return bool(config.getoption("tx", None)) and not hasattr(config, "workerinput")
