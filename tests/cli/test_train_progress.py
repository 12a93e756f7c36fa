"""The progress bars of `orthrus train`: in a terminal each stage has one, which comes to its end."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console
from support.program import Outcome
from support.trainable import STAGES

from orthrus import progress

BARS = {
    "prompts": ("prompts", "1/1"),
    "answers": ("answers, shard 0", "4/4"),
    "fit": ("fit", "2/2"),
    "eval": ("eval", "2/2"),
}


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Let standard error be a terminal for progress bars, and return what they write there."""

    def console(*, err: bool) -> Console:
        assert err
        return Console(file=shown, force_terminal=True, width=100, highlight=False)

    shown = io.StringIO()
    monkeypatch.setattr(progress, "console", console)
    return shown


def drawn(terminal: io.StringIO) -> list[str]:
    """Return what every bar looked like since the last call."""
    lines = terminal.getvalue().replace("\r", "\n").splitlines()
    terminal.seek(0)
    terminal.truncate()
    return [line for line in lines if "━" in line]


@pytest.mark.thorough
def test_every_stage_shows_a_bar_that_comes_to_its_end(train: Callable[..., Outcome], terminal: io.StringIO) -> None:
    for stage in STAGES:
        assert train(stage, "prompts.sampled=2", "prompts.max_new_tokens=2").code == 0
        name, end = BARS[stage]
        bars = drawn(terminal)
        assert all(name in bar for bar in bars)
        assert end in bars[-1]


def test_a_bar_begins_where_an_interrupted_stage_goes_on(terminal: io.StringIO) -> None:
    with progress.bar("fit", 10, 7) as advance:
        advance(None)
    bars = drawn(terminal)
    assert "7/10" in bars[0] and "8/10" in bars[-1]


def test_no_bar_without_a_terminal_or_for_other_processes(
    terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress.bar("fit", 10, shown=False) as advance:
        advance(None)
    monkeypatch.setattr(progress, "console", lambda err: Console(file=terminal, force_terminal=False))
    with progress.bar("fit", 10) as advance:
        advance(None)
    assert terminal.getvalue() == ""
