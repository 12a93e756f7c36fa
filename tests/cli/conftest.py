"""What the tests of `orthrus train` share: a folder with a config, a model, and perhaps prompts and answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.program import InProcess, Outcome
from support.trainable import lay_out, tiny_model

from orthrus_diffusion.training.stages import run_stages


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a tiny model with a tokenizer of letters, a special token and a chat template."""
    return tiny_model(tmp_path_factory.mktemp("train") / "base")


@pytest.fixture(scope="module")
def finished(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make prompts and answers once; return their directory."""
    folder = tmp_path_factory.mktemp("finished")
    config = lay_out(base, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in ("prompts", "answers"):
            run_stages(config, [], stage, lambda message: None)
    return folder / "out"


@pytest.fixture
def config(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with a training config, prompts and a model of its own."""
    monkeypatch.chdir(tmp_path)
    return lay_out(base, tmp_path)


@pytest.fixture
def answered(config: Path, finished: Path) -> Path:
    """Let prompts and answers be there already; return the shard."""
    shutil.copytree(finished, "out")
    [shard] = Path("out/answers").glob("shard-*")
    return shard


@pytest.fixture
def train(config: Path, orthrus: InProcess) -> Callable[..., Outcome]:
    """Give `orthrus train --stage`, with overrides."""
    return lambda stage, *overrides: orthrus("train", "--config", config, "--stage", stage, *overrides)
