"""Ctrl-C and readers that go away: the terminal stays whole, and what was printed is kept."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.parts import drafter
from support.program import PROGRAM, TABLE, Outcome, outcome
from support.site import Site
from support.thorough import nightly_but

from orthrus import load
from orthrus.cli.render import GREEN, RESET

PATIENCE = 60.0  # seconds until a test gives up waiting
ERASED = "\x1b[2K"  # what a terminal is told to clear a line
SLOW = drafter("time.sleep(0.05)\nreturn Draft(context.anchors[:, None], torch.minimum(torch.tensor(1), context.room))")
ASK = ["run", "--config", str(TABLE), "--prompt", "abc", "drafter.name=odd", "stop.max_new_tokens=2000"]


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Give a function that starts the program; whatever is still running at the end is stopped."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        options = options or {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen([*PROGRAM, *arguments], **options))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


@pytest.fixture(autouse=True)
def slow_drafter(site: Site) -> None:
    site.install("slow_drafter", SLOW)


def read_until(file: int, enough: Callable[[str], bool] = lambda text: False) -> str:
    """Return what comes out of a file descriptor, once it is enough or the other end has gone."""
    text, until = b"", time.monotonic() + PATIENCE
    while not enough(text.decode(errors="replace")) and time.monotonic() < until:
        if not select.select([file], [], [], 0.2)[0]:
            continue
        try:
            more = os.read(file, 4096)
        except OSError:  # what a terminal says when the last program has left it
            more = b""
        if not more:
            break
        text += more
    return text.decode(errors="replace")


def without_spinner(screen: str) -> str:
    """Return what came after the spinner of loading, which is green, too; its line is erased at the end."""
    return screen.rpartition(ERASED)[2]


def beginning(length: int) -> str:
    return load(TABLE, stop={"max_new_tokens": length}).generate(["abc"])[0].text


@pytest.mark.parametrize("arguments", nightly_but([[]], [[], ["--debug"]]))
def test_an_interrupted_stream_keeps_what_was_printed(arguments: list[str], start: Start) -> None:
    process = start(*ASK, *arguments)
    assert process.stdout is not None and process.stderr is not None
    before = read_until(process.stdout.fileno(), lambda text: len(text) >= 12)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    printed = before + out.decode()
    assert process.returncode == 130
    assert printed.endswith("\n")
    assert 12 <= len(printed) < 2000
    assert printed[:-1] == beginning(len(printed) - 1)
    assert re.fullmatch(r"\[\d+ tokens in .*; ended by Ctrl-C\]\n", err.decode())


@pytest.mark.thorough
def test_an_interrupted_terminal_is_left_whole(start: Start) -> None:
    main, other = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {"TERM": "xterm-256color"}
    process = start(*ASK, stdin=other, stdout=other, stderr=other, env=environment, start_new_session=True)
    os.close(other)
    before = read_until(main, lambda text: without_spinner(text).count(GREEN) >= 3)
    process.send_signal(signal.SIGINT)
    screen = before + read_until(main)
    os.close(main)
    assert process.wait(timeout=PATIENCE) == 130
    text, _, rest = without_spinner(screen).partition("tokens in ")
    assert text.count(GREEN) >= 3  # accepted drafts
    assert text.rfind(RESET) > text.rfind(GREEN)
    assert "ended by Ctrl-C]" in rest
    assert rest.endswith("\n")
    assert screen.count("\x1b[?25h") >= screen.count("\x1b[?25l")  # a hidden cursor is shown again
    assert screen.rfind("\x1b[?25h") >= screen.rfind("\x1b[?25l")
    assert "Traceback" not in screen


@pytest.mark.parametrize("command", nightly_but([], ["run", "verify"], thorough=["run"]))
def test_an_interrupted_batch_ends_quietly(command: str, tmp_path: Path, start: Start) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": "abc"}) + "\n" for _ in range(100)), encoding="utf-8")
    mark = tmp_path / "started"
    marking = SLOW.replace("time.sleep(0.05)", f"open({str(mark)!r}, 'w').close(); time.sleep(0.05)")
    (tmp_path / "site" / "slow_drafter.py").write_text(marking, encoding="utf-8")
    arguments = [command, "--config", str(TABLE), "--prompts", str(prompts), "drafter.name=odd", "--json"]
    process = start(*arguments)
    until = time.monotonic() + PATIENCE
    while not mark.exists() and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert err == b""
    assert all(json.loads(line)["finish_reason"] for line in out.splitlines())


def test_an_interrupt_before_any_command_runs_is_quiet_too(site: Site) -> None:
    site.install("impatient", "import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    assert outcome("plugins") == Outcome(130, "", "")


LONG = [
    ["run", "--config", str(TABLE), "--prompt", "abc", "stop.max_new_tokens=100000"],
    ["run", "--config", str(TABLE), "--prompts", "PROMPTS", "--json"],
    ["plugins"],
]


@pytest.mark.parametrize("arguments", nightly_but([], LONG, thorough=[LONG[1]]))
def test_a_reader_that_goes_away_is_no_error(arguments: list[str], tmp_path: Path, start: Start) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "abc"}\n' * 400, encoding="utf-8")
    given = [str(prompts) if argument == "PROMPTS" else argument for argument in arguments]
    process = start(*given)
    assert process.stdout is not None and process.stderr is not None
    assert len(process.stdout.read(10)) == 10
    process.stdout.close()
    err = process.stderr.read().decode()
    assert process.wait(timeout=PATIENCE) in (0, 1)  # 0 where everything had been written before
    assert "Traceback" not in err and "BrokenPipe" not in err and "Exception ignored" not in err
