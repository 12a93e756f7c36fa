"""What is distributed: the wheel and the sdist hold all that a clone runs with, and the wheel alone does."""

from __future__ import annotations

import re
import tarfile
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.sdist import SdistBuilder
from support.program import CONFIGS, ROOT
from support.wheels import Environment, build_wheel

ORTHRUS = ("-c", "from orthrus.cli import main; main()")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = [ROOT / path for path in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]


def expected_files() -> set[str]:
    """Return the name in a wheel of every file of the packages, and of the configs."""
    folders = {path: path.name for path in PACKAGES} | {CONFIGS: "orthrus/configs"}
    return {
        f"{name}/{file.relative_to(folder).as_posix()}"
        for folder, name in folders.items()
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def contents(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.mark.thorough  # builds a wheel of 20 MiB
def test_the_wheel_holds_every_file(wheel: Path) -> None:
    names = contents(wheel)
    assert names == expected_files()
    assert "orthrus/configs/recipes/smollm2-diffusion.yaml" in names
    assert any(name.startswith("orthrus_diffusion/views/") and name.endswith(".safetensors") for name in names)


@pytest.mark.thorough  # packs the whole repository
def test_the_sdist_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    [sdist] = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [folder] = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert contents(build_wheel(folder, tmp_path)) == contents(wheel)


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("installed") / "environment", wheel)


@pytest.mark.thorough
def test_the_wheel_alone_runs_shipped_recipes(environment: Environment, tmp_path: Path) -> None:
    listed = environment.run(*ORTHRUS, "recipes", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    assert len(names) == len(list(CONFIGS.rglob("*.yaml")))
    done = environment.run(*ORTHRUS, "run", "--config", "table-prompt-lookup", "--prompt", "abc", cwd=tmp_path)
    assert (done.returncode, done.stdout[:8]) == (0, "aadccbhg"), done.stderr
    unknown = environment.run(*ORTHRUS, "run", "--config", "table-lookup", "--prompt", "abc", cwd=tmp_path)
    assert unknown.returncode == 2
    assert "did you mean 'table-prompt-lookup'?" in unknown.stderr


@pytest.mark.model
@pytest.mark.thorough
def test_the_wheel_alone_drafts_with_the_shipped_view(environment: Environment, tmp_path: Path) -> None:
    asked = ("--config", "smollm2-diffusion", "--prompt", "Count from one to ten.", "stop.max_new_tokens=16")
    done = environment.run(*ORTHRUS, "run", *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [drafted] = re.findall(r"tokens_per_cycle (\d+\.\d+)", done.stderr)
    assert float(drafted) > 1  # the view was there


def test_version_and_changelog_agree() -> None:
    changelog = (ROOT / "docs" / "changelog.md").read_text(encoding="utf-8")
    newest = next(re.finditer(r"^## (\S+)", changelog, flags=re.MULTILINE))[1]
    assert newest == PROJECT["project"]["version"]
    assert version("orthrus-decoding") == newest  # what `orthrus --version` prints


def test_every_extra_is_explained() -> None:
    page = (ROOT / "docs" / "guide" / "installing.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    assert sorted(explained) == sorted(PROJECT["project"]["optional-dependencies"])
