"""Launches that cannot be: one sentence from one rank, exit 2 from all; and ranks that die or hang end all."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from support.ranks import RankOutcome, Ranks, orthrus_ranks
from support.shared_models import saved_model
from support.small_model import save_config, save_model

WITHIN = 30  # seconds


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run file for a tiny model."""
    folder = tmp_path_factory.mktemp("run")
    source = saved_model(folder / "model", "llama")
    target = {"name": "transformers", "source": source, "dtype": "float32", "device": "cpu", "chat": False}
    parts = {"attention": {"name": "sdpa"}, "cache": {"name": "dynamic"}, "drafter": {"name": "prompt_lookup"}}
    file = folder / "run.yaml"
    file.write_text(json.dumps({"target": target, **parts, "stop": {"max_new_tokens": 8}}), encoding="utf-8")
    return file


def sentence_of(outcomes: list[RankOutcome]) -> str:
    """Return the one sentence that one rank said, all having ended as bad input does."""
    assert [outcome.code for outcome in outcomes] == [2] * len(outcomes), [outcome.err for outcome in outcomes]
    said = [outcome.err for outcome in outcomes if outcome.err]
    assert len(said) == 1 and said[0].startswith("orthrus: error: ") and said[0].count("\n") == 1, said
    return said[0]


@pytest.mark.thorough
def test_ranks_with_different_options_end_with_one_sentence(config: Path) -> None:
    command = ["-m", "orthrus", "run", "--config", str(config), "--prompt", "a", "target.parallel=2"]
    outcomes = Ranks(2, command, [[], ["seed=7"]]).wait()
    assert "the ranks differ in their seed: rank 0 has 0, rank 1 7" in sentence_of(outcomes)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("count", "overrides", "said"),
    [
        (3, ["target.parallel=3"], "4 heads of keys, 64 inner size, which 3 does not divide; 2, 4 would work"),
        (2, ["target.parallel=4"], "target.parallel=4, but torchrun started 2 processes"),
        (2, [], "torchrun started 2 processes, and each would decode all prompts by itself"),
        (2, ["target.parallel=2", "target.device=cuda:0"], "each process has a device of its own"),
        (2, ["target.parallel=2", "target.engine=native"], "runs no model that several processes share"),
        (2, ["target.parallel=2", "drafter.name=nobody"], "unknown drafter 'nobody'"),
    ],
)
def test_a_launch_that_cannot_be_is_one_sentence(config: Path, count: int, overrides: list[str], said: str) -> None:
    outcomes = orthrus_ranks(count, "run", "--config", str(config), "--prompt", "a", *overrides)
    assert said in sentence_of(outcomes)


@pytest.mark.nightly
def test_a_command_for_one_process_says_so(config: Path) -> None:
    assert "orthrus validate runs in one process" in sentence_of(orthrus_ranks(2, "validate", str(config)))


PROGRAM = """
import os, sys, time
os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # as the program does before torch is imported
from orthrus.cli import main
from orthrus_drafters.none import NoDrafter

what, propose = sys.argv.pop(), NoDrafter.propose

def slow(self, context, chance):
    if context.cycle == 3:
        os.write(1, b"ready")
    while what == "hangs" and os.environ["RANK"] == "1" and context.cycle > 3:
        pass
    time.sleep(0.05)
    return propose(self, context, chance)

NoDrafter.propose = slow
main()
"""


@pytest.mark.nightly
@pytest.mark.parametrize(("what", "rank"), [("dies", 0), ("dies", 1), ("stops", 0), ("stops", 1), ("hangs", 1)])
def test_a_rank_that_dies_or_hangs_ends_all(tmp_path: Path, what: str, rank: int) -> None:
    save_model(tmp_path / "model")
    save_config(tmp_path / "run.yaml", tmp_path / "model")
    more = ["--prompt", "the cat", "target.parallel=2", "drafter.name=none", "stop.max_new_tokens=1500"]
    ranks = Ranks(2, ["-c", PROGRAM, "run", "--config", str(tmp_path / "run.yaml"), *more, what])
    ranks.wait_for("ready")
    if what != "hangs":
        time.sleep(1)
        ranks.signal(rank, signal.SIGKILL if what == "dies" else signal.SIGSTOP)
    began = time.monotonic()
    outcomes = ranks.wait(WITHIN + 10)
    assert time.monotonic() - began < WITHIN
    killed = set() if what == "hangs" else {rank}
    for number, outcome in enumerate(outcomes):
        assert outcome.code == (-signal.SIGKILL if number in killed else 2), outcomes
    said = "".join(outcome.err for outcome in outcomes)
    assert said.count("orthrus: error: ") == 1 and said.strip().count("\n") == 0, said
