"""`orthrus run`: what it prints where, with text and JSON, one prompt and many."""

from __future__ import annotations

import json
import re
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from support.program import TABLE, InProcess

from orthrus import Decoder, Piece, load
from orthrus.cli.render import print_piece
from orthrus.registry.plugins import GROUP
from orthrus.terminal import harmless
from orthrus.testing import drafter_checks

KEYS = [
    "id", "text", "token_ids", "prompt_tokens", "new_tokens", "finish_reason", "cycles", "passes",
    "accepted_per_cycle", "accepted_length", "tokens_per_cycle", "tpf", "seconds", "ttft_seconds", "tokens_per_second",
]  # fmt: skip
PROMPTS = {"first": "abc", "second": "h", "third": "gfe dcb", "fourth": "aab aab"}
TIMES = {"seconds", "ttft_seconds", "tokens_per_second"}


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return load(TABLE)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(json.dumps({"id": id, "prompt": text}) for id, text in PROMPTS.items()) + "\n\n")
    return file


def lines(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_a_prompt_is_streamed_and_summed_up(orthrus: InProcess, decoder: Decoder) -> None:
    done = orthrus("run", "--config", TABLE, "--prompt", "abc")
    [result] = decoder.generate(["abc"])
    assert (done.code, done.out) == (0, result.text + "\n")
    numbers = r"\[64 tokens in \d+\.\d\d s, \d+\.\d tokens/s, tokens_per_cycle 3\.15, tpf 3\.05; ended by length\]\n"
    assert re.fullmatch(numbers, done.err)


def test_the_summary_is_one_line_in_a_narrow_terminal(orthrus: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert orthrus("run", "--config", TABLE, "--prompt", "abc").err.count("\n") == 1


def test_json_has_exactly_the_promised_keys_and_nothing_else(orthrus: InProcess, decoder: Decoder) -> None:
    done = orthrus("run", "--config", TABLE, "--prompt", "abc", "--json")
    assert (done.code, done.err) == (0, "")
    [printed] = lines(done.out)
    assert list(printed) == KEYS
    [result] = decoder.generate(["abc"])
    expected = json.loads(json.dumps(result.to_dict()))
    assert {key: printed[key] for key in KEYS if key not in TIMES} == {
        key: expected[key] for key in KEYS if key not in TIMES
    }
    assert 0 < printed["ttft_seconds"] <= printed["seconds"]


@pytest.mark.parametrize("batch", [1, 2, 3, 50])
def test_a_file_of_prompts_is_answered_in_order_whatever_the_batch(
    batch: int, prompts: Path, orthrus: InProcess, decoder: Decoder
) -> None:
    done = orthrus("run", "--config", TABLE, "--prompts", prompts, "--batch", batch, "--json")
    assert (done.code, done.err) == (0, "")
    results = decoder.generate(list(PROMPTS.values()), batch=1)
    assert [(line["id"], line["text"]) for line in lines(done.out)] == [
        (id, result.text) for id, result in zip(PROMPTS, results, strict=True)
    ]
    assert all(list(line) == KEYS for line in lines(done.out))


def test_a_file_of_prompts_as_text(prompts: Path, orthrus: InProcess, decoder: Decoder) -> None:
    done = orthrus("run", "--config", TABLE, "--prompts", prompts, "--limit", 2)
    assert done.code == 0
    first, first_text, second, two = done.out.splitlines()
    results = decoder.generate(["abc", "h"])
    assert first.startswith("--- first [64 tokens in ") and second.startswith("--- second [64 tokens in ")
    assert [first_text, two] == [result.text for result in results]
    assert done.err.startswith("[2 prompts, 128 tokens; tokens_per_cycle ") and "per prompt; tpf " in done.err


def test_a_prompt_without_an_id_has_its_line_number(tmp_path: Path, orthrus: InProcess) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('\n{"prompt": "a"}\n{"prompt": "b", "id": 7}\n{"prompt": "c", "id": "x", "more": null}\n')
    done = orthrus("run", "--config", TABLE, "--prompts", file, "--json")
    assert [line["id"] for line in lines(done.out)] == ["2", "7", "x"]


def test_overrides_are_laid_over_the_config(orthrus: InProcess, decoder: Decoder) -> None:
    arguments = ["run", "--config", TABLE, "--prompt", "abc", "--json"]
    [printed] = lines(orthrus(*arguments, "drafter.name=none", "stop.max_new_tokens=7").out)
    [result] = decoder.generate(["abc"])
    assert printed["token_ids"] == list(result.token_ids[:7])
    assert (printed["cycles"], printed["passes"], printed["accepted_length"]) == (6, 7, 0.0)


def test_no_new_tokens_is_legal_and_gives_nothing(orthrus: InProcess) -> None:
    arguments = ["run", "--config", TABLE, "--prompt", "abc", "stop.max_new_tokens=0"]
    assert orthrus(*arguments).out == "\n"
    [printed] = lines(orthrus(*arguments, "--json").out)
    assert list(printed) == KEYS
    assert (printed["text"], printed["token_ids"], printed["finish_reason"]) == ("", [], "length")
    assert {printed[key] for key in ("accepted_length", "tokens_per_cycle", "tpf", "ttft_seconds")} == {None}


def test_raw_reaches_the_tokenizer(orthrus: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool | None] = []
    encode = Decoder.encode

    def spy(self: Decoder, prompt: Any, id: str = "0", chat: bool | None = None) -> list[int]:
        asked.append(chat)
        return encode(self, prompt, id, chat)

    monkeypatch.setattr(Decoder, "encode", spy)
    for arguments in ([], ["--raw"], ["--json"], ["--json", "--raw"]):
        assert orthrus("run", "--config", TABLE, "--prompt", "abc", *arguments).code == 0
    assert asked == [None, False, None, False]


class Terminal:
    """A file that is a terminal, and what was written to it."""

    def __init__(self, is_terminal: bool) -> None:
        self.console = Console(
            file=self, force_terminal=is_terminal, color_system="standard" if is_terminal else None, width=20
        )
        self.written = ""

    def write(self, text: str) -> int:
        self.written += text
        return len(text)

    def flush(self) -> None: ...


STEP: Any = None  # what is printed does not depend on it


@given(st.lists(st.tuples(st.text(), st.booleans())))
def test_text_for_a_file_is_the_text_to_the_last_character(pieces: list[tuple[str, bool]]) -> None:
    screen = Terminal(is_terminal=False)
    for text, accepted in pieces:
        print_piece(screen.console, Piece(text, accepted, STEP))
    assert screen.written == "".join(text for text, _ in pieces)


@given(st.lists(st.tuples(st.text(), st.booleans())))
def test_text_for_a_terminal_is_the_text_without_what_could_steer_it(pieces: list[tuple[str, bool]]) -> None:
    screen = Terminal(is_terminal=True)
    for text, accepted in pieces:
        print_piece(screen.console, Piece(text, accepted, STEP))
    shown = screen.written.replace("\x1b[32m", "").replace("\x1b[0m", "")
    assert shown == "".join(harmless(text) for text, _ in pieces)
    assert "\x1b" not in shown
    assert not screen.written or screen.written.rfind("\x1b[0m") >= screen.written.rfind("\x1b[32m")


def test_accepted_drafts_are_green_and_the_own_tokens_plain() -> None:
    screen = Terminal(is_terminal=True)
    for text, accepted in [("own", False), ("draft\tx\n y", True), ("\x1b[31mred", False), ("[bold]", True)]:
        print_piece(screen.console, Piece(text, accepted, STEP))
    assert screen.written == "own\x1b[32mdraft\tx\n y\x1b[0m[31mred\x1b[32m[bold]\x1b[0m"


def test_harmless_keeps_what_is_text() -> None:
    assert harmless("a\tb\né👩\u200d🚀\u2028") == "a\tb\né👩\u200d🚀\u2028"
    assert harmless("\x00\x07\x08\x1b[2J\r\x7f\x9b1m") == "[2J1m"


COMMANDS = [["run", "--prompt", "abc", "--config", TABLE], ["validate", TABLE], ["check", "prompt_lookup"], ["plugins"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_plugins_are_loaded_once_a_command(
    command: list[Any], orthrus: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    own = EntryPoint.load

    def counted(point: EntryPoint) -> Any:
        if point.group == GROUP:
            loaded.append(point.name)
        return own(point)

    monkeypatch.setattr(EntryPoint, "load", counted)
    monkeypatch.setattr("orthrus.testing.checks.EVERY_CHECK", {"drafter": lambda: drafter_checks()[:1]})
    assert orthrus(*command).code == 0
    assert sorted(loaded) == sorted(set(loaded)) and "orthrus_drafters" in loaded
