"""The documented command with two processes: the files of one, a share for each, and one process can go on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.program import ROOT
from support.site import Site
from support.trainable import end_answers_with, lay_out, tiny_model

from orthrus_diffusion.training.prompts import PART
from orthrus_diffusion.training.stages import run_stages

MORE = 100  # prompts of the second part
ENDS = "KLWX"
PROMPTS = (f"prompts.sampled={PART + MORE}", "prompts.openings=[GI,FH,RU,ACE]", "prompts.max_new_tokens=2")
FIT = ("fit.steps=4", "fit.rows=4", "fit.save_every=2", "fit.log_every=1")
SETTINGS = (
    *PROMPTS,
    "prompts.batch=1024",
    "answers.shard=5",
    *FIT,
    "training.storage=float",
    "eval.files=[]",
    "eval.max_new_tokens=16",
)
NOTES = """
import os
from orthrus import Decoder

def generate(self, prompts, *more, **named):
    with open(f"rank-{os.environ.get('RANK')}", "a") as noted:
        noted.write(f"{len(prompts)}\\n")
    return own(self, prompts, *more, **named)

own, Decoder.generate = Decoder.generate, generate
"""


def by_two(folder: Path) -> str:
    """Train in a folder with two processes, which note what they decode; return what they print."""
    site = Site(folder.parent / "site")
    site.install("noting", NOTES)
    paths = os.pathsep.join(str(path) for path in (ROOT, ROOT / "plugins", site.folder))
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": programs, "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""}
    launch = ["torchrun", "--standalone", "--nproc-per-node", "2", "--no-python", "orthrus", "train"]
    done = subprocess.run(
        [*launch, "--config", "train.yaml", *SETTINGS],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def contents(out: Path) -> dict[str, bytes]:
    """Return the files of prompts and answers that hold no times."""
    files = [file for file in out.rglob("*") if file.suffix in {".jsonl", ".safetensors", ".json"}]
    stages = [file for file in files if file.parent in {out, out / "prompts", out / "answers"}]
    return {str(file.relative_to(out)): file.read_bytes() for file in stages if file.stem not in {"metrics", "eval"}}


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def timeless(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return records in order of what they count, without speeds."""
    kept = [{key: value for key, value in record.items() if not key.endswith("_per_second")} for record in records]
    return sorted(kept, key=lambda record: float(next(iter(record.values()))))


def train(folder: Path, *stages: str) -> None:
    """Train in a folder with this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in stages:
            run_stages(Path("train.yaml"), SETTINGS, stage, print)


def assert_the_same_files(one_process: Path, two: Path) -> None:
    files = contents(one_process)
    assert {"held-out.jsonl", "prompts/part-00001.jsonl", "answers/shard-00001.safetensors"} <= files.keys()
    assert contents(two) == files
    for stage in ("prompts", "answers"):
        records = [timeless(lines(out / stage / "metrics.jsonl")) for out in (one_process, two)]
        assert records[0] == records[1]
        assert (two / stage / "metrics.svg").stat().st_size > 0


def assert_shares(two: Path) -> None:
    """The first process has the first part, every other shard and all measurements."""
    shards = [record["answers"] for record in sorted(lines(two / "answers" / "metrics.jsonl"), key=str)]
    noted = [(two.parent / f"rank-{rank}").read_text(encoding="utf-8").split() for rank in (0, 1)]
    assert [[int(size) for size in sizes] for sizes in noted] == [[PART, *shards[::2], 2, 2], [MORE, *shards[1::2]]]


def assert_the_same_fit(one_process: Path, two: Path) -> None:
    weights = load_file(two / "view" / "view.safetensors")
    for name, weight in load_file(one_process / "view" / "view.safetensors").items():
        torch.testing.assert_close(weight, weights[name], rtol=0, atol=2e-5)
    pairs = zip(*(lines(out / "fit" / "metrics.jsonl") for out in (one_process, two)), strict=True)
    for alone, together in pairs:
        assert alone.keys() == together.keys()
        for key in alone.keys() & {"step", "divergence", "right_drafts", "gradient_norm", "tokens_per_cycle"}:
            assert alone[key] == pytest.approx(together[key], rel=1e-4)


def assert_measured_once(two: Path, printed: str) -> None:
    """What two processes measured is what one measures of the same view."""
    report = json.loads(printed)
    assert report["tokens_per_cycle"] > 1
    assert lines(two / "eval" / "metrics.jsonl") == [{"measurement": 1, **report}]
    train(two.parent, "eval")
    assert lines(two / "eval" / "metrics.jsonl")[1] == {"measurement": 2, **report}


def assert_one_goes_on(one_process: Path, two: Path) -> None:
    """A fit of two that was interrupted after a checkpoint ends with one as it would have with two."""
    before = lines(two / "fit" / "metrics.jsonl")
    shutil.rmtree(two / "view")
    shutil.rmtree(two / "checkpoints" / "step-00000004")
    train(two.parent, "fit")
    assert lines(two / "fit" / "metrics.jsonl")[:2] == before[:2]  # with their times: not done again
    assert_the_same_fit(one_process, two)


@pytest.mark.thorough
@pytest.mark.usefixtures("plots")
def test_two_processes_make_what_one_makes(tmp_path: Path) -> None:
    """In one test, for starting them takes long."""
    base, folders = tiny_model(tmp_path / "base"), [tmp_path / "one", tmp_path / "two"]
    end_answers_with(base, ENDS)
    for folder in folders:
        folder.mkdir()
        lay_out(base, folder)
    printed = by_two(folders[1])
    train(folders[0], "prompts", "answers", "fit")
    one_process, two = (folder / "out" for folder in folders)
    assert_the_same_files(one_process, two)
    assert_shares(two)
    assert_the_same_fit(one_process, two)
    assert_measured_once(two, printed)
    assert_one_goes_on(one_process, two)
