"""docs/tools/which_drafter.py: what it says of records that it is given. Its page is in test_generated_pages.py."""

from __future__ import annotations

import itertools
import json
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest
from docs_pages import ROOT

from orthrus.bench.results import Spread
from orthrus.config.compose import read_overrides
from orthrus.prediction.candidates import plan_candidates
from orthrus.prediction.results import Expected, Measured, Prediction, Predictions
from orthrus.prompts import read_prompts
from orthrus.registry.plugins import Plugins

FOLDER = ROOT / "docs" / "evidence" / "which-drafter"
SCRIPT = ROOT / "docs" / "tools" / "which_drafter.sh"


@pytest.fixture(scope="module")
def program() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "tools" / "which_drafter.py"))


def predicted(drafter: str, expected: float, *ratios: float) -> Prediction:
    """Return what a drafter's record says: plain decoding has 10 tokens a second."""
    figures = Expected(10 * expected, expected, (expected, expected + 1), 1.0, 0.0, 0.1, 0.0, 0.1)
    speeds = Spread(tuple(10 * ratio for ratio in ratios))
    measured = Measured(speeds, Spread(ratios), None, 2.5, 1.5, 64, 1.0)
    return Prediction(drafter, 4, 1, "every place", figures, measured)


def write(folder: Path, name: str, *predictions: Prediction) -> None:
    settings = {"dtype": "float32", "learned_from": 4, "measured_on": 3, "max_new_tokens": 64, "rounds": 2}
    record = Predictions("orthrus predict", "2026-11-30T00:00:00", {"device": "a CPU"}, settings, (), predictions)
    (folder / name).write_text(record.to_json(), encoding="utf-8")


PLAIN = predicted("none", 1.0, 1.0, 1.0)


def test_one_half_stands_without_the_other(program: dict[str, Any], tmp_path: Path) -> None:
    assert "Nothing was measured yet." in program["page"](tmp_path)
    write(tmp_path, "cpu-edit.json", PLAIN, predicted("suffix", 1.5, 2.0, 1.8))
    alone = program["page"](tmp_path)
    assert "| 1.90 (1.80 to 2.00) | 1.50 (1.50 to 2.50) | -21 % |" in alone
    assert "| prompts | Two CPU cores, batch 1 |" in alone
    assert "| edit | `suffix` 1.90 (1.80 to 2.00) |" in alone and "| code |  |" in alone
    assert alone.endswith("## One H200\n\nNot measured yet.\n")
    write(tmp_path, "gpu-edit.json", PLAIN, predicted("suffix", 0.9, 0.8, 0.8))
    both = program["page"](tmp_path)
    assert "| edit | `suffix` 1.90 (1.80 to 2.00) | `none` 1.00 |" in both
    assert "Not measured yet." not in both


def test_records_of_before_do_not_tell_how_much_depends_on_their_prompts(
    program: dict[str, Any], tmp_path: Path
) -> None:
    write(tmp_path, "cpu-edit.json", PLAIN, predicted("suffix", 1.5, 2.0, 1.8))
    record = json.loads((tmp_path / "cpu-edit.json").read_text(encoding="utf-8"))
    for each in record["predictions"]:
        del each["expected"]["ratio_range"]
    (tmp_path / "cpu-edit.json").write_text(json.dumps(record), encoding="utf-8")
    assert "| 1.90 (1.80 to 2.00) | 1.50 | -21 % |" in program["page"](tmp_path)


def test_how_good_the_predictions_were(program: dict[str, Any], tmp_path: Path) -> None:
    fine, wrong = predicted("suffix", 1.5, 2.0, 2.0), predicted("prompt_lookup", 0.9, 1.2, 1.2)
    unclear = predicted("diffusion", 3.0, 0.5, 1.3)
    write(tmp_path, "cpu-edit.json", PLAIN, fine, wrong, unclear)
    text = program["page"](tmp_path)
    assert "Expected ratios were off by 25.0 % in the median, and by 233.3 % at most." in text
    pairs = "Of 4 pairs of drafters that are apart in every round, 2 were expected in that order."
    assert pairs in text  # of suffix with none and prompt_lookup; not of the others


@pytest.mark.parametrize("name", ["tpu-edit.json", "cpu-poems.json", "cpu-edit.json"])
def test_what_is_no_record_is_refused(name: str, program: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / name).write_text(json.dumps({"format": "another"}), encoding="utf-8")
    with pytest.raises(ValueError, match=f"{name} is not what `orthrus predict` wrote"):
        program["page"](tmp_path)


def test_what_was_only_predicted_is_refused(program: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, "cpu-edit.json", Prediction("none", None, 1, "every place", PLAIN.expected))
    with pytest.raises(ValueError, match=r"cpu-edit\.json has nothing that was measured"):
        program["page"](tmp_path)


def test_the_committed_records_are_of_this_repositorys_prompts(program: dict[str, Any]) -> None:
    for machine, known in program["read"](FOLDER).items():
        for kind, record in known.items():
            assert record["settings"]["prompts"] == f"{kind}.jsonl"
            assert record["settings"]["dtype"] == {"cpu": "float32", "gpu": "bfloat16"}[machine]
            assert "which-drafter/prompts/" in record["command"] and "/root/" not in record["command"]


COMMANDS = {
    "cpu": ("smollm2-plain.yaml", "--limit 16 --batch 1 ", 48),
    "gpu": ("smollm2-gpu.yaml", "--limit 16 --batch 1,8 ", 128),
}


@pytest.mark.parametrize("machine", COMMANDS)
def test_the_script_asks_for_drafters_that_exist(machine: str, tmp_path: Path) -> None:
    """A program in the place of Python writes down what it is called with."""
    fake = tmp_path / "python"
    fake.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n', encoding="utf-8")
    fake.chmod(0o755)
    variables = {"PYTHON": str(fake), "OUT": str(tmp_path), "PATH": "/usr/bin:/bin"}
    subprocess.run(["bash", str(SCRIPT), machine], cwd=ROOT, env=variables, check=True)
    asked = (tmp_path / "asked").read_text(encoding="utf-8").splitlines()
    config, chosen, tokens = COMMANDS[machine]
    session = Plugins.load([])
    for kind, line in zip(("dialogue", "edit", "code", "question"), asked, strict=True):
        assert f"/{config} " in line and chosen in line
        assert line.endswith(f"--title {kind} --out {tmp_path}/{machine}-{kind}.json stop.max_new_tokens={tokens}")
        words = line.split()
        flags = dict(itertools.pairwise(words))
        assert len(read_prompts(ROOT / flags["--prompts"])) == 16
        drafters = ",".join(str(ROOT / each) if "/" in each else each for each in flags["--drafters"].split(","))
        assert len(plan_candidates(ROOT / flags["--config"], read_overrides([]), drafters, (), session)) == 7


def test_the_script_refuses_another_machine() -> None:
    done = subprocess.run(["bash", str(SCRIPT), "tpu"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "which_drafter.sh: 'tpu' is neither cpu nor gpu\n")
