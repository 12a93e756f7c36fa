"""`orthrus predict`: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.program import CONFIGS, TABLE, InProcess
from support.site import Site

PREDICT = ["predict", "--config", TABLE]
TEXTS = ("abc", "h", "gfe dcb", "aab", "abc")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orthrus.prediction.costs.WARM_UP", 0)
    monkeypatch.setattr("orthrus.prediction.costs.ROUNDS", 1)
    monkeypatch.setattr("orthrus.prediction.timing.REPEATS", 1)


@pytest.fixture
def prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = Path("prompts.jsonl")
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in TEXTS), encoding="utf-8")
    return file


def test_the_table_has_what_is_expected_beside_what_was_measured(orthrus: InProcess, prompts: Path) -> None:
    chosen = ["--drafters", "prompt_lookup,suffix", "--blocks", "4", "--batch", "1,2", "--rounds", "2"]
    done = orthrus(*PREDICT, "--prompts", prompts, *chosen, "stop.max_new_tokens=9")
    assert done.code == 0, done
    assert "prompts left out, because the file has them before: 1\n" in done.out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.out.splitlines() if line.startswith("│")]
    named = [(drafter, batch) for batch in "12" for drafter in ("none", "prompt_lookup", "suffix")]
    assert [(row[0], row[2]) for row in rows[:6]] == named
    assert [row[0] for row in rows[6:]] == ["1", "2"]  # what cycles cost, for each number of rows
    assert done.out.splitlines()[-2].startswith("batch 1: ") and done.out.splitlines()[-1].startswith("batch 2: ")
    assert done.out.splitlines()[-1].endswith("tokens/s, measured)")


def test_json_is_what_is_written_and_nothing_else_is_printed(orthrus: InProcess, prompts: Path) -> None:
    out = Path("new") / "predicted.json"
    done = orthrus(*PREDICT, "--prompts", prompts, "--rounds", "0", "--title", "T", "--out", out, "--json")
    assert done.code == 0, done
    assert done.out == out.read_text(encoding="utf-8")
    written = done.json()
    assert written["format"] == "orthrus-predict 1"
    assert written["command"].startswith("orthrus predict --config ")
    assert written["settings"] == {
        "title": "T",
        "model": "table",
        "prompts": "prompts.jsonl",
        "learned_from": 2,
        "measured_on": 2,
        "repeated": 1,
        "max_new_tokens": 64,
        "warm_up": 1,
        "rounds": 0,
    }
    assert [each["measured"] for each in written["predictions"]] == [None, None]
    assert [each["error"] for each in written["predictions"]] == [None, None]
    assert written["environment"]["threads"] >= 1


def test_without_measuring_it_says_what_is_expected(orthrus: InProcess, prompts: Path) -> None:
    done = orthrus(*PREDICT, "--prompts", prompts, "--drafters", "none", "--rounds", "0", "stop.max_new_tokens=5")
    assert done.out.splitlines()[-1].startswith("batch 1: plain decoding (")
    assert done.out.splitlines()[-1].endswith("tokens/s, expected); no other drafter was asked about")
    assert "ratio off" not in done.out


REFUSED: dict[str, tuple[list[object], str]] = {
    "no prompts": ([], "Missing option '--prompts' (see orthrus predict --help)"),
    "no such prompts": (["--prompts", "x.jsonl"], "the prompt file 'x.jsonl' does not exist"),
    "one prompt": (["--prompts", "one.jsonl"], "--prompts must hold two prompts at least that differ: one half says"),
    "one after the limit": (["--prompts", "prompts.jsonl", "--limit", "1"], "--prompts must hold two prompts"),
    "batch of none": (["--prompts", "prompts.jsonl", "--batch", "0"], "--batch must be whole numbers from 1 to"),
    "batch too large": (["--prompts", "prompts.jsonl", "--batch", "3"], "--batch 3 needs as many prompts in each half"),
    "block of an anchor": (["--prompts", "prompts.jsonl", "--blocks", "1"], "--blocks counts the anchor, too: a block"),
    "a drafter that cannot choose": (
        ["--prompts", "prompts.jsonl", "--drafters", "transformers", "--blocks", "auto"],
        "--blocks auto: drafter 'transformers' has no 'auto'; give numbers, or leave it out",
    ),
    "unknown drafter": (
        ["--prompts", "prompts.jsonl", "--drafters", "sufix"],
        "--drafters: drafter.name: unknown drafter 'sufix' (did you mean 'suffix'?); known: ",
    ),
    "a drafter that the target has no place for": (
        ["--prompts", "prompts.jsonl", "--drafters", "diffusion"],
        "drafter 'diffusion' cannot run here: drafter 'diffusion' needs views, which target 'TableTarget' does not",
    ),
    "a foreign prompt": (["--prompts", "foreign.jsonl"], "prompt '1': 'X' is not in the alphabet"),
    "negative rounds": (["--prompts", "prompts.jsonl", "--rounds", "-1"], "Invalid value for '--rounds': "),
    "nowhere to write": (["--prompts", "prompts.jsonl", "--out", "."], "--out: '.' is a directory"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_sentence(case: str, orthrus: InProcess, prompts: Path) -> None:
    Path("one.jsonl").write_text('{"prompt": "abc"}\n{"prompt": "abc"}\n', encoding="utf-8")
    Path("foreign.jsonl").write_text('{"prompt": "X"}\n{"prompt": "abc"}\n', encoding="utf-8")
    arguments, sentence = REFUSED[case]
    assert sentence in orthrus(*PREDICT, *arguments).error()


def test_a_drafter_that_breaks_off_is_named(orthrus: InProcess, prompts: Path, site: Site) -> None:
    code = """
from orthrus import InputError, hookimpl

class Odd:
    name, needs, learns = "odd", frozenset(), False
    def start(self, context, rows): pass
    def observe(self, step): pass
    def propose(self, context, chance):
        raise InputError("it lost its thread")

@hookimpl
def register_drafters(register):
    register("odd", lambda options, parts: Odd())
"""
    site.install("odd", code)
    said = orthrus(*PREDICT, "--prompts", prompts, "--drafters", "odd").error()
    assert said == "drafter 'odd' cannot run here: it lost its thread"


def test_a_target_that_cannot_be_built_is_said_so(orthrus: InProcess, prompts: Path) -> None:
    config = CONFIGS / "recipes" / "smollm2-plain.yaml"
    arguments = ["predict", "--config", config, "--prompts", prompts, "target.source=no/such/folder"]
    assert "no/such/folder" in orthrus(*arguments).error()
