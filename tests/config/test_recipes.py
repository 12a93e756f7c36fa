"""Shipped configs by name: all there are, from any folder; what hides one and what does not; names that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.program import CONFIGS, InProcess

import orthrus
from orthrus import InputError
from orthrus.config.recipes import describe_config, find_config, shipped_configs


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_config_has_a_name() -> None:
    assert sorted(shipped_configs().values()) == sorted(CONFIGS.rglob("*.yaml"))
    assert shipped_configs()["smollm2-diffusion"] == CONFIGS / "recipes" / "smollm2-diffusion.yaml"
    assert shipped_configs()["parts/greedy"] == CONFIGS / "parts" / "greedy.yaml"


def test_a_recipe_runs_by_its_name_from_any_folder(orthrus: InProcess) -> None:
    done = orthrus("run", "--config", "table-prompt-lookup", "--prompt", "abc", "stop.max_new_tokens=8")
    assert (done.code, done.out) == (0, "aadccbhg\n")


def test_a_config_of_ones_own_may_use_a_shipped_one(elsewhere: Path) -> None:
    (elsewhere / "mine.yaml").write_text("use: [table-prompt-lookup]\nstop: {max_new_tokens: 3}\n", encoding="utf-8")
    [result] = orthrus.load("mine.yaml").generate(["abc"])
    assert result.text == "aad"


def test_a_file_hides_a_recipe_and_a_folder_does_not(elsewhere: Path) -> None:
    (elsewhere / "smollm2-plain").mkdir()
    assert find_config("smollm2-plain") == CONFIGS / "recipes" / "smollm2-plain.yaml"
    (elsewhere / "smollm2-gpu").write_text("seed: 0", encoding="utf-8")
    assert find_config("smollm2-gpu") == Path("smollm2-gpu")


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(InputError) as raised:
        find_config("smollm2-difusion")
    said = str(raised.value)
    assert said.startswith(
        "there is no config file 'smollm2-difusion'; unknown recipe 'smollm2-difusion' (did you mean"
    )
    assert all(name in said for name in shipped_configs())


@pytest.mark.parametrize("source", ["gone.yaml", "smollm2-plain.yml", "a text " * 50])
def test_what_can_be_no_name_is_a_file_that_is_not_there(source: str) -> None:
    with pytest.raises(InputError, match=r"^there is no config file '[^']*'$"):
        find_config(source)


def test_they_are_listed_with_what_their_heads_say(orthrus: InProcess) -> None:
    listed = json.loads(orthrus("recipes", "--json").out)
    assert [entry["name"] for entry in listed] == list(shipped_configs())
    lines = orthrus("recipes").out.splitlines()
    assert lines == [line for line in lines if line.strip()]
    for line, entry in zip(lines, listed, strict=True):
        assert line.split(maxsplit=1) == [entry["name"], entry["description"]]
        assert entry["description"][-1] not in ":,"
        assert "--config" not in entry["description"]


def test_a_head_of_several_lines_is_one_description(elsewhere: Path) -> None:
    (elsewhere / "x.yaml").write_text("# One line\n# and another:\n#   orthrus run\nseed: 0\n", encoding="utf-8")
    assert describe_config(elsewhere / "x.yaml") == "One line and another"
