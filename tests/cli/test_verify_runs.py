"""`orthrus verify` over several configs and batches: its table, its record, its plot, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.parts import LENIENT
from support.program import CONFIGS, TABLE, InProcess
from support.site import Site

from orthrus.cli.verify_table import COLUMNS
from orthrus.verification.gap_plot import draw_gaps

COUPLED = "warm: verifier.name=coupled sampling.temperature=0.8"
ALWAYS_FIRST = """
import torch
from orthrus import Draft, hookimpl


class First:
    name, needs, learns = "first", frozenset(), False

    def start(self, context, rows):
        pass

    def propose(self, context, chance):
        return Draft(torch.zeros_like(context.lengths)[:, None], context.room.clamp(max=1))

    def observe(self, step):
        pass


@hookimpl
def register_drafters(register):
    register("first", lambda options, parts: First())
"""


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"id": text, "prompt": text}) + "\n" for text in ("abc", "dddd", "a")))
    return file


@pytest.fixture(autouse=True)
def precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def rows(text: str) -> list[dict[str, str]]:
    cells = [re.split(r"\s*│\s*", line.strip("│ \n")) for line in text.splitlines() if line.startswith("│")]
    return [dict(zip(COLUMNS, row, strict=True)) for row in cells]


def test_a_row_for_each_config_and_batch(prompts: Path, orthrus: InProcess) -> None:
    other = CONFIGS / "recipes" / "table-prompt-lookup.yaml"
    arguments = ["--config", other, "--variant", "none: drafter.name=none", "--variant", COUPLED, "--batch", "1,3"]
    done = orthrus("verify", *arguments, "--prompts", prompts, "stop.max_new_tokens=9")
    assert (done.code, done.err) == (0, "")
    listed = rows(done.out)
    labels = ["table-prompt-lookup", "none", "warm"]
    assert [(row["config"], row["batch"]) for row in listed] == [(label, batch) for label in labels for batch in "13"]
    assert {row["result"] for row in listed} == {"certified"}
    assert {row["tokens"] for row in listed} == {"27"}
    assert {row["identical"] for row in listed} == {row["certified"] for row in listed} == {"3/3"}


def test_one_bad_run_fails_the_command_and_is_named(prompts: Path, orthrus: InProcess, site: Site) -> None:
    site.install("lenient_verifier", LENIENT)
    site.install("first_drafter", ALWAYS_FIRST)
    bad = "bad: verifier.name=lenient drafter.name=first"
    done = orthrus("verify", "--config", TABLE, "--variant", bad, "--prompts", prompts, "stop.max_new_tokens=5")
    assert done.code == 1
    assert "bad, batch 1" in done.out and "own_logits" in done.out
    table = done.out[: done.out.index("└")]
    assert [row["result"] for row in rows(table)] == ["certified", "NOT CERTIFIED"]


def test_the_record_holds_what_was_run_on_what_without_tf32(tmp_path: Path, prompts: Path, orthrus: InProcess) -> None:
    torch.set_float32_matmul_precision("high")
    out = tmp_path / "new" / "record.json"
    arguments = ["--config", TABLE, "--prompts", prompts, "--prompts", prompts, "--limit", 2, "--out", out, "--json"]
    done = orthrus("verify", *arguments)
    assert done.code == 0
    assert json.loads(out.read_text()) == done.json()
    record = done.json()
    assert record["environment"]["float32_products"] == "highest" == torch.get_float32_matmul_precision()
    assert record["settings"]["prompts"] == 4 and record["settings"]["prompt_files"] == ["prompts.jsonl"] * 2
    assert "--prompts prompts.jsonl" in record["command"] and str(tmp_path) not in record["command"]
    assert "--out record.json" in record["command"]


def test_where_there_are_no_gaps_the_plot_says_so(tmp_path: Path, prompts: Path, orthrus: InProcess) -> None:
    plot = tmp_path / "gaps.svg"
    done = orthrus("verify", "--config", TABLE, "--prompts", prompts, "--plot", plot, "stop.max_new_tokens=8")
    assert done.code == 0
    assert "every token is the argmax" in plot.read_text()


def test_gaps_of_runs_are_lines_and_their_bound_is_one() -> None:
    run = {"label": "half", "batch": 1, "dtype": "bfloat16", "gaps": [0.25, 0.0625], "bound": 0.5}
    svg = draw_gaps([run, {**run, "label": "$other"}, {**run, "label": "none", "gaps": []}])
    for text in ("half, batch 1, bfloat16", "$other, batch 1, bfloat16", "bound 0.5", "gap of the logits"):
        assert f">{text}<" in svg
    assert ">none, batch 1" not in svg


def test_what_cannot_be_written_is_refused_first(tmp_path: Path, prompts: Path, orthrus: InProcess) -> None:
    for flag in ("--out", "--plot"):
        error = orthrus("verify", "--config", TABLE, "--prompts", prompts, flag, tmp_path).error()
        assert error == f"{flag}: '{tmp_path}' is a directory"


def test_without_matplotlib_no_plot_is_begun(
    tmp_path: Path, prompts: Path, orthrus: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orthrus.cli.verify.importlib.util.find_spec", lambda name: None)
    error = orthrus("verify", "--config", TABLE, "--prompts", prompts, "--plot", tmp_path / "a.svg").error()
    assert error == "--plot needs matplotlib: pip install 'orthrus-decoding[bench]'"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--variant", "none: drafter.name=none", "--variant", "none: seed=1"], "two subjects are called 'none'"),
        (["--variant", "drafter.name=none"], "--variant 'drafter.name=none' must be written \"LABEL: KEY=VALUE ...\""),
        (["--variant", "odd: drafter.nam=none"], "drafter.nam: unknown option 'nam'"),
        (["--batch", "1,1"], "--batch names 1 twice"),
        (["--config", "nowhere.yaml"], "there is no config file 'nowhere.yaml'"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], said: str, prompts: Path, orthrus: InProcess) -> None:
    assert said in orthrus("verify", "--config", TABLE, "--prompts", prompts, *arguments).error()
