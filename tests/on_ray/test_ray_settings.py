"""Settings of deployments, what is missing or wrong in them, and sentences that crossed Ray."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from support.program import ROOT, TABLE, InProcess

from orthrus import ConfigError, InputError
from orthrus_ray import command
from orthrus_ray.dataset.settings import ANSWER_COLUMNS
from orthrus_ray.failure import marked, sentence_in
from orthrus_ray.serving.arguments import NOT_WRITTEN, settings_of
from orthrus_ray.serving.settings import DeploymentSettings

PAGE = (ROOT / "docs" / "guide" / "ray.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["serve", "decode"])
def test_without_the_extra_it_says_what_to_install(
    name: str, orthrus: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "SERVING", ("typer", "no_such_package"))
    monkeypatch.setattr(command, "DATASETS", ("typer", "no_such_package"))
    files = ["--input", "absent.jsonl", "--output", "absent"] if name == "decode" else []
    said = orthrus("ray", name, "--config", TABLE, *files).error()
    assert said == f"orthrus ray {name} needs no_such_package: pip install 'orthrus-decoding[ray]'"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--config", TABLE, "--replicas", 0], "--replicas"),
        (["serve", "--config", TABLE, "--port", 0], "--port"),
        (["decode", "--config", TABLE, "--output", "out"], "--input"),
        (["decode", "--config", TABLE, "--input", "in", "--output", "out", "--workers", 0], "--workers"),
    ],
)
def test_arguments_that_are_wrong_are_said(arguments: list[object], said: str, orthrus: InProcess) -> None:
    assert said in orthrus("ray", *arguments).error()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"replicas": 0}, "replicas must be at least 1, not 0"),
        ({"replicas": 4, "most_replicas": 3}, "at most 3 replicas and at least 4"),
        ({"batch": 0}, "batch"),
        ({"queue": -1}, "queue"),
        ({"cpus": float("nan")}, "cpus"),
        ({"batch": "8"}, "batch must be an integer, not '8'"),
        ({"batch": None}, "batch must be an integer"),
        ({"replicas": 2.5}, "replicas must be an integer, not 2.5"),
        ({"cpus": None}, "cpus must be a number"),
        ({"vllm_metrics": "yes"}, "vllm_metrics must be true or false, not 'yes'"),
        ({"page": 1}, "page must be true or false, not 1"),
    ],
)
def test_numbers_that_make_no_deployment_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        DeploymentSettings({}, "model", **wrong)


def test_ingresses_together_let_in_what_replicas_take() -> None:
    settings = DeploymentSettings({}, "model", replicas=2, most_replicas=5, ingresses=3, batch=4, queue=3)
    assert settings.ingress.page and not dataclasses.replace(settings, page=False).ingress.page
    assert settings.taken_a_replica == 7 and settings.ingress.most == 12  # 35 over 3, rounded up
    assert settings.most_slack == 1
    assert DeploymentSettings({}, "model", slack=0).most_slack == 0


def test_arguments_of_a_config_file_are_settings() -> None:
    settings = settings_of({"config": str(TABLE), "overrides": ["stop.max_new_tokens=3"], "replicas": 2})
    assert settings.replicas == 2 and settings.model == "table-prompt-lookup"
    assert settings.config["stop"]["max_new_tokens"] == 3 and "use" not in settings.config


@pytest.mark.parametrize(
    ("args", "error", "said"),
    [
        ({}, InputError, "'config' is missing"),
        ({"config": str(TABLE), "replica": 2}, InputError, "did you mean 'replicas'"),
        ({"config": "no-such-recipe"}, InputError, "no-such-recipe"),
        ({"config": str(TABLE), "overrides": "seed=1"}, InputError, "overrides must be a list of texts"),
        ({"config": str(TABLE), "overrides": ["drafter.name=nothing"]}, ConfigError, "drafter.name"),
        ({"config": str(TABLE), "api_key_file": "absent"}, InputError, "cannot be read"),
    ],
)
def test_arguments_that_make_no_deployment_are_refused(args: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        settings_of(args)


def first_cells(mark: str) -> list[str]:
    """Return the names in the first column of the page's table behind a mark."""
    rows = PAGE.partition(f"<!-- {mark} -->\n")[2].partition("\n\n")[0].splitlines()[2:]
    return [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]


def test_the_page_lists_fields_of_a_deployment_and_columns_of_answers() -> None:
    fields = [field.name for field in dataclasses.fields(DeploymentSettings) if field.name not in NOT_WRITTEN]
    assert sorted(first_cells("fields of a deployment")) == sorted(fields)
    assert first_cells("answer columns") == list(ANSWER_COLUMNS)


def test_a_marked_sentence_is_found_among_tracebacks() -> None:
    wrapped = f"RayTaskError(BuildError)\n  File x\nBuildError: {marked('there is no such model')}\n more"
    assert sentence_in(wrapped) == "there is no such model"
    assert sentence_in("Traceback\n  File x\nMemoryError: no room\n") == "MemoryError: no room"
    assert sentence_in("") == "Ray says no more about it"
