"""The program `orthrus serve`: what it says, where it listens, how it ends, and what it does when decoding ends."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import Pipe
from pathlib import Path

import httpx2
import pytest
from support.program import TABLE, InProcess, outcome
from support.served_program import started
from support.serving import SECONDS, serving, wait_for

from orthrus import BuildError, Decoder
from orthrus_serve import command
from orthrus_serve.decoding.process import run
from orthrus_serve.decoding.start import wait_until_ready

LONG = {"model": "table-prompt-lookup", "prompt": "abc", "max_tokens": 4_000, "stream": True}


def streamed(url: str, first: threading.Event, said: list[str]) -> None:
    """Follow a long answer to its end."""
    with httpx2.stream("POST", f"{url}/v1/completions", json=LONG, timeout=SECONDS) as response:
        for line in response.iter_lines():
            said.append(line)
            first.set()


@contextmanager
def followed(url: str) -> Iterator[list[str]]:
    """Follow a long answer in a thread; afterwards its lines are all there."""
    first, said = threading.Event(), list[str]()
    follower = threading.Thread(target=streamed, args=(url, first, said), daemon=True)
    follower.start()
    first.wait(SECONDS)
    yield said
    follower.join(SECONDS)
    assert not follower.is_alive()


@pytest.mark.thorough
def test_a_signal_lets_what_runs_end() -> None:
    with started(TABLE) as program:
        with followed(program.url) as said:
            os.kill(program.process.pid, signal.SIGTERM)
        out, err = program.process.communicate(timeout=SECONDS)
        assert (program.process.returncode, out, err) == (0, "", "")
        assert said[-2:] == ["data: [DONE]", ""] and '"finish_reason":"length"' in said[-4]
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{program.url}/health")


@pytest.mark.thorough
def test_when_decoding_dies_requests_get_an_error_and_the_program_ends() -> None:
    with started(TABLE) as program:
        with followed(program.url) as said:
            [decoding] = program.children()
            os.kill(decoding, signal.SIGKILL)
        _, err = program.process.communicate(timeout=SECONDS)
        assert said[-2:] == ["data: [DONE]", ""] and "the decoding process has ended" in said[-4]
        assert program.process.returncode == 2
        assert err == "orthrus: error: the decoding process ended unexpectedly; requests under way were refused\n"


@pytest.mark.thorough
def test_a_second_model_has_a_process_of_its_own_which_ends_with_the_program(tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(f"use: [{TABLE}]\ndrafter: {{name: none}}\n", encoding="utf-8")
    with started(TABLE, "--compare", str(other)) as program:
        texts = []
        for model in (TABLE.stem, "other"):
            body = {"model": model, "prompt": "abc", "max_tokens": 9}
            texts.append(httpx2.post(f"{program.url}/v1/completions", json=body).json()["choices"][0]["text"])
        assert texts[0] == texts[1]
        decoding = program.children()
        assert len(decoding) == 2
        os.kill(decoding[1], signal.SIGKILL)
        _, err = program.process.communicate(timeout=SECONDS)
        assert (program.process.returncode, err.count("\n")) == (2, 1)
        wait_for(lambda: not Path(f"/proc/{decoding[0]}").exists())


@pytest.mark.nightly
def test_a_second_config_that_does_not_fit_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(f"use: [{TABLE}]\ndrafter: {{name: diffusion}}\n", encoding="utf-8")
    arguments = ["serve", "--config", str(TABLE), "--compare", str(other), "--port", "0"]
    assert "diffusion" in outcome(*arguments).error()


@pytest.mark.thorough
def test_decoding_ends_with_a_program_that_is_killed() -> None:
    with started(TABLE) as program:
        [decoding] = program.children()
        program.process.kill()
        wait_for(lambda: not Path(f"/proc/{decoding}").exists())


@pytest.mark.thorough
def test_the_web_process_imports_no_torch() -> None:
    with started(TABLE) as program:
        maps = Path(f"/proc/{program.process.pid}/maps").read_text(encoding="utf-8")
        assert "libtorch" not in maps and "python" in maps
        [decoding] = program.children()
        assert "libtorch" in Path(f"/proc/{decoding}/maps").read_text(encoding="utf-8")


@pytest.mark.thorough
def test_a_config_that_does_not_fit_is_one_sentence(orthrus: InProcess) -> None:
    assert "drafter.name" in orthrus("serve", "--config", TABLE, "--port", 0, "drafter.name=nothing").error()


def test_a_decoding_that_ends_is_no_hang() -> None:
    with serving() as served:
        served.completion("abc")
        served.end_decoding()
        wait_for(lambda: served.client.get("/health").status_code == 503)
        assert served.error("/v1/completions", 503, prompt="abc")["code"] == "decoding_ended"
        assert served.error("/tokenize", 503, prompt="abc")["type"] == "server_error"


def test_a_decoder_that_cannot_be_loaded_is_said() -> None:
    ours, theirs = Pipe()

    def load(*, notify: object) -> Decoder:
        raise BuildError("there is no such model")

    run(theirs, 1, load)
    with pytest.raises(BuildError, match="no such model"):
        wait_until_ready(ours, print)


def test_an_address_that_cannot_be_had_is_said_before_anything_is_loaded(orthrus: InProcess) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = orthrus("serve", "--config", TABLE, "--port", port).error()
    assert f"port {port}" in said and "--port" in said
    assert "--host" in orthrus("serve", "--config", TABLE, "--host", "no.such.host.invalid").error()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--api-key-file", "absent"], "cannot be read"),
        (["--api-key-file", os.devnull], "has no key"),
        (["--port", "70000"], "--port"),
        (["--batch", "0"], "--batch"),
    ],
)
def test_arguments_that_are_wrong_are_said(arguments: Sequence[str], said: str, orthrus: InProcess) -> None:
    assert said in orthrus("serve", "--config", TABLE, *arguments).error()


def test_without_the_extra_it_says_what_to_install(orthrus: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PACKAGES", ("fastapi", "no_such_package"))
    said = orthrus("serve", "--config", TABLE).error()
    assert said == "orthrus serve needs no_such_package: pip install 'orthrus-decoding[serve]'"
