"""`orthrus verify`: exit 0 for what is greedy decoding, exit 1 for what is not, and what it says of it."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.parts import FORGETFUL, LENIENT, drafter
from support.program import TABLE, InProcess, Outcome
from support.site import Site
from support.thorough import nightly_but

KEYS = ["format", "command", "date", "environment", "settings", "passed", "runs"]
COUNTS = {"prompts": 2, "tokens": 128, "identical": 2, "ties": 0, "certified": 2, "oracle_checked": 2}
PARTS = ["drafter.name=none", "drafter.name=prompt_lookup"]
EVERY_TIME = [(PARTS[0], 1), (PARTS[1], 8)]
WRONG = drafter(  # two tokens that the target would not have said, and not more than there is room for
    """
    wrong = (context.anchors[:, None] + torch.tensor([[1, 2]])) % context.vocabulary_size
    if context.max_room < 2:
        return context.empty_draft()
    return Draft(wrong, torch.minimum(torch.tensor(2), context.room))
    """
)


def only_run(done: Outcome) -> dict[str, Any]:
    [run] = done.json()["runs"]
    assert isinstance(run, dict)
    return run


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    texts = ["abc", "dddd", "a", "hgfedcba", "cab"]
    file.write_text("".join(json.dumps({"id": f"id-{text}", "prompt": text}) + "\n" for text in texts))
    return file


@pytest.mark.parametrize(("part", "batch"), nightly_but(EVERY_TIME, itertools.product(PARTS, (1, 8))))
def test_what_is_greedy_decoding_is_told_so(batch: int, part: str, prompts: Path, orthrus: InProcess) -> None:
    done = orthrus("verify", "--config", TABLE, "--prompts", prompts, "--batch", batch, "--oracle", 3, part)
    assert (done.code, done.err) == (0, "")
    counts = "(320 tokens, every one checked; 3 prompts decoded again by the naive oracle)"
    assert done.out == f"5/5 identical to greedy decoding {counts}\n"


def test_json_is_the_same_in_one_object(prompts: Path, orthrus: InProcess) -> None:
    done = orthrus("verify", "--config", TABLE, "--prompts", prompts, "--limit", 2, "--json")
    assert (done.code, done.err) == (0, "")
    assert list(done.json()) == KEYS
    run = only_run(done)
    assert {key: run[key] for key in COUNTS} == COUNTS
    assert (run["passed"], run["divergences"], run["gaps"], run["bound"]) == (True, [], [], 0.0)
    assert (run["label"], run["batch"], run["dtype"]) == ("table-prompt-lookup", 1, "float64")


def test_no_new_tokens_are_identical(prompts: Path, orthrus: InProcess) -> None:
    done = orthrus("verify", "--config", TABLE, "--prompts", prompts, "stop.max_new_tokens=0")
    assert (done.code, done.out.split(" (")[0]) == (0, "5/5 identical to greedy decoding")


SAMPLED = ["sampling={temperature: 0.7, top_p: 0.9, repetition_penalty: 1.2, bad_words: [ab]}", "verifier.name=coupled"]


@pytest.mark.parametrize(("part", "batch"), nightly_but(EVERY_TIME, itertools.product(PARTS, (1, 8))))
def test_coupled_sampling_is_checked_token_by_token(batch: int, part: str, prompts: Path, orthrus: InProcess) -> None:
    done = orthrus("verify", "--config", TABLE, "--prompts", prompts, "--batch", batch, part, *SAMPLED)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("5/5 identical to coupled sampling (320 tokens, every one checked; 2 prompts decoded")


def test_penalties_are_part_of_greedy_decoding(prompts: Path, orthrus: InProcess) -> None:
    done = orthrus("verify", "--config", TABLE, "--prompts", prompts, SAMPLED[0], "sampling.temperature=0")
    assert (done.code, done.out.split(" (")[0]) == (0, "5/5 identical to greedy decoding")


def test_a_sample_that_nothing_decides_is_not_verified(prompts: Path, orthrus: InProcess) -> None:
    arguments = [
        "verify",
        "--config",
        TABLE,
        "--prompts",
        prompts,
        "sampling.temperature=0.7",
        "verifier.name=rejection",
    ]
    assert orthrus(*arguments).error().startswith("only greedy decoding and coupled sampling can be verified: sampling")


def test_noise_of_another_key_is_found(prompts: Path, orthrus: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orthrus.decoder.request_key", lambda id: 0)
    done = orthrus("verify", "--config", TABLE, "--prompts", prompts, *SAMPLED, "--json")
    assert done.code == 1
    assert only_run(done)["identical"] == 0


def lenient(site: Site) -> list[str]:
    site.install("odd_drafter", WRONG)
    site.install("lenient_verifier", LENIENT)
    return ["drafter.name=odd", "verifier.name=lenient"]


def test_a_lenient_verifier_is_caught_with_position_tokens_and_gap(
    prompts: Path, orthrus: InProcess, site: Site
) -> None:
    arguments = ["verify", "--config", TABLE, "--prompts", prompts, *lenient(site), "stop.max_new_tokens=8"]
    done = orthrus(*arguments, "--json")
    assert (done.code, done.err) == (1, "")
    run = only_run(done)
    assert (run["prompts"], run["identical"], run["tokens"]) == (5, 0, 40)
    by_prompt: dict[str, list[int]] = {}
    for divergence in run["divergences"]:
        assert list(divergence) == ["id", "position", "token", "expected", "gap", "check"]
        assert divergence["gap"] > 0
        assert divergence["token"] != divergence["expected"]
        assert divergence["check"] == "own_logits"  # whatever the target says elsewhere: the run saw better ones
        by_prompt.setdefault(divergence["id"], []).append(divergence["position"])
    assert len(by_prompt) == 5
    assert all(positions[0] in (1, 2) for positions in by_prompt.values())  # the first cycle's drafts are kept


def test_divergences_as_text(prompts: Path, orthrus: InProcess, site: Site) -> None:
    arguments = ["verify", "--config", TABLE, "--prompts", prompts, *lenient(site), "stop.max_new_tokens=8"]
    run = only_run(orthrus(*arguments, "--json"))
    done = orthrus(*arguments)
    assert done.code == 1
    assert done.out.startswith("0/5 identical to greedy decoding (40 tokens, every one checked; ")
    rows = [re.split(r"\s*│\s*", line.strip("│ \n")) for line in done.out.splitlines() if line.startswith("│")]
    expected = [
        [
            divergence["id"],
            str(divergence["position"]),
            str(divergence["token"]),
            str(divergence["expected"]),
            f"{divergence['gap']:.3g}",
            divergence["check"],
        ]
        for divergence in run["divergences"]
    ]
    assert rows == expected
    assert all(word in done.out for word in ("position", "token", "target's token", "logit gap"))


def test_an_id_is_shown_as_it_is(tmp_path: Path, orthrus: InProcess, site: Site) -> None:
    file = tmp_path / "odd.jsonl"
    file.write_text(json.dumps({"id": "[/x] [red]", "prompt": "abc"}))
    done = orthrus("verify", "--config", TABLE, "--prompts", file, *lenient(site), "stop.max_new_tokens=4")
    assert done.code == 1
    assert "[/x] [red]" in done.out


def test_a_target_whose_passes_are_wrong_is_caught(tmp_path: Path, orthrus: InProcess, site: Site) -> None:
    site.install("forgetful_target", FORGETFUL)
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "abcd"}\n')
    done = orthrus(
        "verify", "--config", TABLE, "--prompts", file, "--json", "target.name=forgetful", "stop.max_new_tokens=12"
    )
    assert done.code == 1
    assert only_run(done)["identical"] == 0
    assert {divergence["check"] for divergence in only_run(done)["divergences"]} == {"teacher_forced"}


TWO_FACED = """
from orthrus import hookimpl
from orthrus.testing import Letters, TableTarget
import torch


class TwoFaced(TableTarget):
    def logits(self, token_ids, last):
        found = super().logits(token_ids, last)
        return found if last > 1 else found.roll(1, dims=-1)  # one place at a time, it says something else


def make(options, parts):
    table = torch.randn((4, 4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return TwoFaced(table, parts.cache, tokenizer=Letters("abcd"))


@hookimpl
def register_targets(register):
    register("two_faced", make)
"""


def test_the_oracle_catches_what_one_pass_cannot(tmp_path: Path, orthrus: InProcess, site: Site) -> None:
    site.install("two_faced_target", TWO_FACED)
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "abcd"}\n{"prompt": "dd"}\n')
    arguments = ["verify", "--config", TABLE, "--prompts", file, "--json", "target.name=two_faced"]
    assert orthrus(*arguments, "--oracle", 0).code == 0
    done = orthrus(*arguments, "--oracle", 1)
    assert done.code == 1
    [divergence] = only_run(done)["divergences"]
    assert (divergence["check"], divergence["position"], divergence["gap"]) == ("oracle", 0, None)
    assert (only_run(done)["certified"], only_run(done)["oracle_checked"]) == (1, 1)
    assert "oracle" in orthrus(*[argument for argument in arguments if argument != "--json"], "--oracle", 1).out


@pytest.mark.parametrize("arguments", [["--batch", "0"], ["--limit", "0"], ["--oracle", "-1"], ["--batch", "x"]])
def test_numbers_out_of_bounds_are_one_sentence(arguments: list[str], prompts: Path, orthrus: InProcess) -> None:
    error = orthrus("verify", "--config", TABLE, "--prompts", prompts, *arguments).error()
    assert arguments[0] in error
