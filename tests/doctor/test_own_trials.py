"""Trials that are the command's own: template, tokenizer and dtype of the target; and those of a draft model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.trainable import put_tokenizer, tiny_model

from orthrus.config.compose import read_overrides
from orthrus.doctor.runner import TrialRunner
from orthrus.doctor.trials import PlannedTrial, plan_trials
from orthrus.prompts import PromptRecord
from orthrus.registry.plugins import Plugins
from orthrus.values import Prompt

TEXTS: list[Any] = ["abc", "bcd"]
DIALOGUES: list[Any] = [({"role": "user", "content": text},) for text in TEXTS]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a tiny model with a tokenizer of letters and a chat template."""
    return tiny_model(tmp_path_factory.mktemp("own") / "model")


def runner_of(model: Path, **target: Any) -> TrialRunner:
    config = {
        "target": {"name": "transformers", "source": str(model), "dtype": "float32", "device": "cpu", **target},
        "attention": {"name": "sdpa"},
        "cache": {"name": "dynamic"},
        "drafter": {"name": "draft_model", "source": str(model), "length": 3},
        "stop": {"max_new_tokens": 8},
    }
    return TrialRunner(config, read_overrides([]), Plugins.load(), [PromptRecord(text, text) for text in TEXTS])


def planned(model: Path, prompts: list[Prompt], **target: Any) -> dict[str, PlannedTrial]:
    runner = runner_of(model, **target)
    return {trial.name: trial for trial in plan_trials(runner.config, runner.decoder(), prompts)}


def test_the_template_is_tried_the_other_way(model: Path, tmp_path: Path) -> None:
    """Not where there is none, nor for dialogues, which have no other way."""
    assert planned(model, TEXTS)["without the chat template"].write == {"target": {"chat": False}}
    assert planned(model, TEXTS, chat=False)["with the chat template"].write == {"target": {"chat": True}}
    put_tokenizer(tmp_path, template="")
    for trials in (planned(model, DIALOGUES), planned(model, TEXTS, tokenizer=str(tmp_path))):
        assert [name for name in trials if "template" in name] == []


def test_what_needs_another_target_comes_last(model: Path) -> None:
    trials = planned(model, TEXTS)
    assert list(trials) == [
        "drafter in bfloat16",
        "without the chat template",
        "the drafter's tokenizer",
        "target in bfloat16",
    ]
    assert [trial.same_text for trial in trials.values()] == [True, False, False, False]
    assert trials["the drafter's tokenizer"].write == {"target": {"tokenizer": str(model)}}


def test_each_gives_what_the_config_gives(model: Path) -> None:
    """What a trial decodes is what a config with its change decodes, prompts and all."""
    runner = runner_of(model)
    for trial in plan_trials(runner.config, runner.decoder(), TEXTS):
        changed = runner_of(model, **trial.write.get("target", {}))
        wanted = changed.decode(changed.decoder())
        outcome = runner.attempt(trial)
        assert outcome.refused is None
        assert [result.token_ids for result in outcome.results] == [result.token_ids for result in wanted], trial.name
