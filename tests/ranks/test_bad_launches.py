"""Launches that cannot be: one sentence from one rank, exit 2 from all; and ranks that die or hang end all."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from support.ranks import RankOutcome, Ranks, orthrus_ranks
from support.shared_models import saved_model

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
import sys, time, orthrus
rank = __import__("os").environ["RANK"]

class Slow:
    needs = frozenset()
    name, learns = "slow", False
    def start(self, context, rows): pass
    def propose(self, context, chance):
        if sys.argv[2] == "hang" and rank == "1" and context.cycle > 3:
            while True: pass
        time.sleep(0.05)
        return context.empty_draft()
    def observe(self, step): pass

decoder = orthrus.load(sys.argv[1], drafter=Slow(), **{"target.parallel": 2, "stop.max_new_tokens": 200})
print("ready", flush=True)
while True: decoder.generate([[1, 2, 3]])
"""


@pytest.mark.nightly
@pytest.mark.parametrize("what", ["dies", "stops", "hang"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_dies_or_hangs_ends_all(config: Path, what: str, rank: int) -> None:
    if what == "hang" and rank == 0:
        pytest.skip("a hang is planted in rank 1")
    ranks = Ranks(2, ["-c", PROGRAM, str(config), what])
    ranks.wait_for("ready")
    if what != "hang":
        time.sleep(2)
        ranks.signal(rank, signal.SIGKILL if what == "dies" else signal.SIGSTOP)
    began = time.monotonic()
    outcomes = ranks.wait(WITHIN + 10)
    assert time.monotonic() - began < WITHIN
    killed = {} if what == "hang" else {rank}
    for number, outcome in enumerate(outcomes):
        assert outcome.code == (-signal.SIGKILL if number in killed else 2), outcomes
    said = [outcome.err for number, outcome in enumerate(outcomes) if outcome.err]
    assert len(said) == 1, said
