"""Where `drafter.view` finds a view: a path, the hub, a shipped one, a released checkpoint, or nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.hub import cached_on_the_hub, cut_off
from support.program import ROOT, InProcess
from support.released import RELEASED, drafts, load, plain_base, released_copy
from support.thorough import thorough_but
from support.wheels import INSTALL, build_wheel

from orthrus import OrthrusError
from orthrus_diffusion.view_files import shipped
from orthrus_diffusion.view_files.convert import to_view


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a released checkpoint, its plain base, another base, and a view alone."""
    folder = tmp_path_factory.mktemp("sources")
    plain_base(folder / "base")
    plain_base(folder / "other")
    weights = load_file(folder / "other" / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] += 1e-6
    save_file(weights, folder / "other" / "model.safetensors", metadata={"format": "pt"})
    released_copy(folder / "released")
    to_view(folder / "released", folder / "view", "float", "tiny")
    return folder


@pytest.fixture
def ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the package a folder of shipped views, empty."""
    monkeypatch.setattr(shipped, "VIEWS", tmp_path / "views")
    (tmp_path / "views").mkdir()
    (tmp_path / "views" / "README.md").write_text("# Views")
    return tmp_path / "views"


@pytest.mark.thorough
def test_a_path_may_be_relative_or_have_a_scheme(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)
    wanted = drafts(load(RELEASED))
    for view in ("view", "./view", f"path:{models / 'view'}"):
        assert drafts(load("base", view=view)) == wanted


@pytest.mark.thorough
def test_a_view_on_the_hub(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached_on_the_hub(models / "view", cut_off(monkeypatch, tmp_path / "hub"))
    for view in ("owner/name", "owner/name@main", "hub:owner/name"):
        assert drafts(load(models / "base", view=view)) == drafts(load(RELEASED))
    with pytest.raises(OrthrusError) as caught:
        load(models / "base", view="owner/gone")
    assert str(caught.value).startswith("drafter.view: 'owner/gone' is no local path, it is not in the hub's cache")


def test_a_released_checkpoint_on_the_hub_brings_its_view(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached_on_the_hub(models / "released", cut_off(monkeypatch, tmp_path / "hub"))
    assert drafts(load("owner/name")) == drafts(load(RELEASED))
    assert drafts(load(models / "base", view="owner/name")) == drafts(load(RELEASED))


def test_a_released_checkpoint_is_a_view_of_its_plain_base(models: Path) -> None:
    assert drafts(load(models / "base", view=str(models / "released"))) == drafts(load(RELEASED))
    with pytest.raises(OrthrusError, match=r"whose weights are not those of '.*other'; make it the target\.source"):
        load(models / "other", view=str(models / "released"))


@pytest.mark.thorough
def test_a_tied_head_may_be_stored_twice(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "base", tmp_path / "base")
    weights = load_file(tmp_path / "base" / "model.safetensors")
    assert "lm_head.weight" not in weights
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    assert drafts(load(tmp_path / "base", view=str(models / "view"))) == drafts(load(RELEASED))
    weights["lm_head.weight"] += 1e-3  # another head is another model
    save_file(weights, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(OrthrusError, match="their weights differ"):
        load(tmp_path / "base", view=str(models / "view"))


def test_other_files_beside_a_model_are_not_its_weights(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "base", tmp_path / "base")
    shutil.copyfile(RELEASED / "expected.safetensors", tmp_path / "base" / "expected.safetensors")
    assert drafts(load(tmp_path / "base", view=str(models / "view"))) == drafts(load(RELEASED))


def test_a_shipped_view_is_taken_by_name_or_by_its_base(models: Path, ships: Path) -> None:
    for name in ("aaa", "tiny"):
        shutil.copytree(models / "view", ships / name)
    config = json.loads((ships / "aaa" / "config.json").read_text(encoding="utf-8"))
    config["base"] = {"name": "another", "fingerprint": "0"}
    (ships / "aaa" / "config.json").write_text(json.dumps(config))
    assert drafts(load(models / "base")) == drafts(load(RELEASED))
    assert drafts(load(models / "base", view="tiny")) == drafts(load(RELEASED))
    with pytest.raises(OrthrusError, match="is a view of the model 'another', not of"):
        load(models / "base", view="aaa")
    with pytest.raises(OrthrusError) as caught:
        load(models / "other")
    assert str(caught.value).endswith(
        "other' brings no view and none is made for it here (shipped: 'aaa' for 'another', 'tiny' for 'tiny'); name a"
        " directory or a hub id with one"
    )
    with pytest.raises(OrthrusError) as caught:
        load(models / "base", view="tinny")
    assert str(caught.value) == (
        "drafter.view: there is no file or directory 'tinny'; shipped: 'aaa' for 'another', 'tiny' for 'tiny'"
    )


def test_a_target_that_brings_its_view_uses_that(models: Path, ships: Path) -> None:
    shutil.copytree(models / "view", ships / "tiny")
    (ships / "tiny" / "view.safetensors").write_bytes(b"")  # were it opened, it would be refused
    assert drafts(load(models / "released")) == drafts(load(RELEASED))
    with pytest.raises(OrthrusError, match="is damaged or cannot be read"):
        load(models / "base")


@pytest.mark.thorough
def test_copies_need_no_files_and_cost_time_alone(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = load(models / "base", view="copies")
    wanted = load(models / "base", name="none").generate([[5, 6, 7]])[0]
    result = decoder.generate([[5, 6, 7]])[0]
    assert result.token_ids == wanted.token_ids and result.measures.passes > result.measures.cycles + 1
    own = decoder.target.view_weights("copies")
    model = dict(load_file(models / "base" / "model.safetensors"))
    assert own and all(torch.equal(weight, model[name].to(weight)) for name, weight in own.items())
    monkeypatch.chdir(models)
    shutil.copytree("view", "copies")
    assert drafts(load("base", view="copies")) == drafts(load("base", view="view"))


def test_a_path_comes_before_a_shipped_view(
    models: Path, ships: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(models / "view", ships / "tiny")
    monkeypatch.chdir(tmp_path)
    Path("tiny").mkdir()
    with pytest.raises(OrthrusError, match=r"drafter\.view: the directory '.*tiny' holds no config\.json"):
        load(models / "base", view="tiny")


def test_what_is_no_directory_is_refused(models: Path, ships: Path) -> None:
    with pytest.raises(OrthrusError, match=r"drafter\.view: '.*config\.json' is no directory .*; none is shipped"):
        load(models / "base", view=str(models / "view" / "config.json"))
    with pytest.raises(OrthrusError, match=r"drafter\.view: there is no file or directory '~nobody_of_this_name/x'"):
        load(models / "base", view="~nobody_of_this_name/x")


@pytest.mark.parametrize("as_view", thorough_but([True], [True, False]))
def test_a_missing_shard_is_one_sentence(as_view: bool, models: Path, tmp_path: Path, orthrus: InProcess) -> None:
    released, run = tmp_path / "released", tmp_path / "run.yaml"
    shutil.copytree(models / "released", released)
    weights = list(load_file(released / "model.safetensors").items())
    (released / "model.safetensors").unlink()
    shards = {"model-00001-of-00002.safetensors": weights[::2], "model-00002-of-00002.safetensors": weights[1::2]}
    for file, held in shards.items():
        save_file(dict(held), released / file, metadata={"format": "pt"})
    places = {name: file for file, held in shards.items() for name, _ in held}
    (released / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    source = models / "base" if as_view else released
    drafter = f"{{name: diffusion, view: '{released}'}}" if as_view else "{name: diffusion}"
    run.write_text(
        f"target: {{name: transformers, source: '{source}', device: cpu}}\nattention: {{name: sdpa}}\n"
        f"cache: {{name: dynamic}}\nverifier: {{name: consensus}}\ndrafter: {drafter}\n"
    )
    assert drafts(load(source, **({"view": str(released)} if as_view else {}))) == drafts(load(RELEASED))
    (released / "model-00002-of-00002.safetensors").unlink()
    error = orthrus("run", "--config", run, "--prompt", "abc", "--json").error()
    assert "model-00002-of-00002.safetensors" in error
    if as_view:
        assert error == (
            f"drafter.view: the shard 'model-00002-of-00002.safetensors' of '{released}' is missing; its"
            " model.safetensors.index.json names it"
        )


def test_what_is_in_the_folder_of_shipped_views_is_in_the_wheel(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    project = tmp_path / "project"
    shutil.copytree(ROOT / "plugins", project / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copyfile(ROOT / name, project / name)
    (project / "orthrus").mkdir()
    directory = project / "plugins" / "orthrus_diffusion" / "views" / "mine"
    directory.mkdir()
    for name in ("config.json", "view.safetensors", "README.md"):
        (directory / name).write_text("{}")
    included = {file.distribution_path for file in WheelBuilder(str(project)).recurse_included_files()}
    wanted = {f"orthrus_diffusion/views/mine/{name}" for name in ("config.json", "view.safetensors", "README.md")}
    assert wanted <= included


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and install it into a folder of its own, without what it depends on."""
    folder = tmp_path_factory.mktemp("wheel")
    install = [sys.executable, "-m", "pip", *INSTALL, "--target", str(folder / "installed")]
    subprocess.run([*install, str(build_wheel(ROOT, folder))], check=True, capture_output=True)
    return folder / "installed"


@pytest.mark.thorough
def test_the_wheel_has_the_shipped_views_files(installed: Path) -> None:
    for name in shipped.shipped_views():
        directory = Path("orthrus_diffusion", "views", name)
        for file in ("config.json", "view.safetensors", "README.md"):
            assert (installed / directory / file).read_bytes() == (ROOT / "plugins" / directory / file).read_bytes()


READ = """
import orthrus_diffusion
from orthrus_diffusion.view_files.formats import read_view

from orthrus_diffusion.view_files.shipped import VIEWS, shipped_for, shipped_views

for name, config in shipped_views().items():
    assert shipped_for(config.fingerprint) == VIEWS / name
    print(orthrus_diffusion.__file__, name, len(read_view(VIEWS / name)))
"""
ANSWER = """
import orthrus, orthrus_diffusion, sys
decoder = orthrus.load(sys.argv[1], stop={"max_new_tokens": 12}, target={"device": "cpu"}, drafter={"block": 16})
[answer] = decoder.generate(["Why is the sky blue?"])
print(orthrus_diffusion.__file__, len(answer.token_ids), answer.measures.cycles)
"""


def told_by(installed: Path, *words: str) -> list[str]:
    """Return the words that a program prints which imports what is installed in the folder."""
    from_there = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", *words]
    done = subprocess.run(command, env=from_there, cwd=installed.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.thorough
def test_the_wheels_view_can_be_read(installed: Path) -> None:
    file, name, weights = told_by(installed, READ)
    assert Path(file).is_relative_to(installed)
    assert name == "smollm2-135m-instruct" and int(weights) == 30 * 4 + 3  # layers, projections; the head's


@pytest.mark.nightly  # the thorough part has the program of the wheel draft with it
@pytest.mark.model
def test_the_wheels_view_drafts(installed: Path) -> None:
    file, tokens, cycles = told_by(installed, ANSWER, str(ROOT / "configs" / "recipes" / "smollm2-diffusion.yaml"))
    assert Path(file).is_relative_to(installed)
    assert int(tokens) == 12 and int(cycles) <= 8  # plain decoding takes 11


def incomplete() -> list[str]:
    """Complain about shipped views without weights or a model card."""
    return [
        f"{name}: {file}"
        for name in shipped.shipped_views()
        for file in ("view.safetensors", "README.md")
        if not (shipped.VIEWS / name / file).is_file()
    ]


def test_every_shipped_view_is_whole() -> None:
    assert incomplete() == []


def test_a_shipped_view_without_a_model_card_is_noticed(models: Path, ships: Path) -> None:
    shutil.copytree(models / "view", ships / "tiny")
    assert incomplete() == ["tiny: README.md"]
