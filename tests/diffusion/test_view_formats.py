"""Views on disk: written and read back, refused on another base, and every way in which a directory may be no view."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.building import table_target
from support.families import tiny_model
from support.program import ROOT
from support.views import random_view

import orthrus
from orthrus import Decoder, InputError, OrthrusError, Parts
from orthrus_diffusion.drafter import Diffusion
from orthrus_diffusion.factory import make
from orthrus_diffusion.options import DiffusionOptions
from orthrus_diffusion.view_files.formats import attach, save_view
from orthrus_transformers.target import TransformersTarget

RELEASED = ROOT / "tests" / "data" / "tiny-orthrus-qwen3"


def load(model: Path, dtype: str = "float32", **drafter: Any) -> Decoder:
    target = {"name": "transformers", "source": str(model), "dtype": dtype, "device": "cpu"}
    parts = {"attention": {"name": "sdpa"}, "cache": {"name": "dynamic"}, "verifier": {"name": "consensus"}}
    return orthrus.load({"target": target, **parts, "drafter": {"name": "diffusion", **drafter}})


def target_at(model: Path) -> TransformersTarget:
    target = load(model, name="none").target
    assert isinstance(target, TransformersTarget)
    return target


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return two models of the same shape, and a view of the first."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("base", "other")):
        tiny_model("qwen3", seed, torch.float32).save_pretrained(folder / name)
    target = target_at(folder / "base")
    random_view(target, "noisy")
    save_view(target, "noisy", folder / "view", block=6, mask_token_id=3)
    return {name: folder / name for name in ("base", "other", "view")}


def test_a_view_comes_back_as_it_was_written(models: dict[str, Path]) -> None:
    decoder, target = load(models["base"], view=str(models["view"])), target_at(models["base"])
    random_view(target, "noisy")
    read: Any = decoder.target
    [name] = read.view_names
    weights, written = read.view_weights(name), target.view_weights("noisy")
    assert weights.keys() == written.keys() and all(torch.equal(weights[key], written[key]) for key in weights)
    assert isinstance(decoder.drafter, Diffusion) and (decoder.drafter.block, decoder.drafter.mask_token_id) == (6, 3)
    assert (
        decoder.generate([[1, 2, 3]])[0].token_ids
        == load(models["base"], name="none").generate([[1, 2, 3]])[0].token_ids
    )


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_the_dtype_makes_no_other_base(models: dict[str, Path], dtype: str) -> None:
    assert load(models["base"], dtype, view=str(models["view"])).drafter.needs == {"views"}


def test_another_base_is_refused_with_both_names(models: dict[str, Path]) -> None:
    with pytest.raises(OrthrusError) as caught:
        load(models["other"], view=str(models["view"]))
    assert f"is a view of the model '{models['base']}', not of '{models['other']}'" in str(caught.value)


def test_a_base_trained_further_is_another_base(models: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(models["base"], tmp_path / "tuned")
    weights = load_file(tmp_path / "tuned" / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] += 1e-6
    save_file(weights, tmp_path / "tuned" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(OrthrusError, match="their weights differ"):
        load(tmp_path / "tuned", view=str(models["view"]))


def test_the_block_is_an_option(models: dict[str, Path]) -> None:
    drafter: Any = load(models["base"], view=str(models["view"]), block=4).drafter
    assert drafter.block == 4


def test_decoders_that_share_a_target_share_its_views(models: dict[str, Path]) -> None:
    parts = Parts(target=target_at(models["base"]))
    for _ in range(2):
        make(DiffusionOptions(str(models["view"])), parts)
    assert len(parts.target.view_names) == 1


def test_a_view_that_was_replaced_on_disk_is_loaded_anew(models: dict[str, Path], tmp_path: Path) -> None:
    directory, target = tmp_path / "view", target_at(models["base"])
    shutil.copytree(models["view"], directory)
    first = make(DiffusionOptions(str(directory)), Parts(target=target))
    weights = {name: weight.contiguous() + 1 for name, weight in load_file(directory / "view.safetensors").items()}
    save_file(weights, directory / "new")
    (directory / "new").replace(directory / "view.safetensors")
    second = make(DiffusionOptions(str(directory)), Parts(target=target))
    again = make(DiffusionOptions(str(directory)), Parts(target=target))
    assert first.view != second.view == again.view
    for name, weight in target.view_weights(second.view).items():
        torch.testing.assert_close(weight, target.view_weights(first.view)[name] + 1)  # which is in use still


def test_a_target_without_views_is_refused(models: dict[str, Path]) -> None:
    with pytest.raises(
        OrthrusError, match="drafter 'diffusion' needs views, which target 'TableTarget' does not offer"
    ):
        make(DiffusionOptions(str(models["view"])), Parts(target=table_target()))


def test_a_view_is_never_written_over_nor_left_unfinished(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = target_at(models["base"])
    target.attach_view("copy")
    with pytest.raises(InputError, match="exists already"):
        save_view(target, "copy", tmp_path, 4, 0)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(InputError, match=r"'.*new' cannot be written: No space left on device"):
        save_view(target, "copy", tmp_path / "new", 4, 0)
    assert not list(tmp_path.iterdir())


def _config(**changes: Any) -> Callable[[Path], None]:
    def change(view: Path) -> None:
        values = json.loads((view / "config.json").read_text(encoding="utf-8"))
        (view / "config.json").write_text(json.dumps({**values, **changes}), encoding="utf-8")

    return change


def _text(text: str) -> Callable[[Path], None]:
    return lambda view: (view / "config.json").write_text(text, encoding="utf-8") and None


def _less_weights(view: Path) -> None:
    weights = load_file(view / "view.safetensors")
    del weights["model.layers.0.self_attn.q_proj.weight"]
    save_file(weights, view / "view.safetensors")


def _cut(view: Path) -> None:
    data = (view / "view.safetensors").read_bytes()
    (view / "view.safetensors").write_bytes(data[: len(data) // 2])


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (shutil.rmtree, "there is no directory '.*'"),
    "no config": (lambda view: (view / "config.json").unlink(), "holds no config.json"),
    "no JSON": (_text("{"), "cannot be read as JSON"),
    "a list": (_text("[]"), "must hold a mapping, not a list"),
    "a model": (_config(format=None), "has neither the format 'orthrus-view' nor the architecture 'OrthrusLM'"),
    "of tomorrow": (_config(version=2), "is of version 2 of its format; known: 1"),
    "no base": (_config(base={"name": "x"}), "does not say its base's name and fingerprint"),
    "no block": (
        _config(block_size=1),
        "block_size in the config.json of '.*' must be an integer of at least 2, not 1",
    ),
    "odd mask": (_config(mask_token_id=True), "mask_token_id .* must be an integer of at least 0, not True"),
    "foreign mask": (_config(mask_token_id=40), "the mask token 40 is not in the vocabulary of '.*', which has 40"),
    "no weights": (lambda view: (view / "view.safetensors").unlink(), "holds no view.safetensors"),
    "cut": (_cut, "view.safetensors' is damaged or cannot be read"),
    "a weight less": (_less_weights, "the view's weights do not fit the model: .*q_proj.weight is missing"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_view_is_refused(name: str, models: dict[str, Path], tmp_path: Path) -> None:
    view = tmp_path / "view"
    shutil.copytree(models["view"], view)
    target = target_at(models["base"])
    attach(target, "whole", view)
    damage, complaint = BROKEN[name]
    damage(view)
    with pytest.raises(OrthrusError, match=complaint):
        attach(target, "broken", view)
    assert target.view_names == {"whole"}


def test_a_model_that_brings_no_view_needs_one(models: dict[str, Path]) -> None:
    with pytest.raises(OrthrusError, match=r"drafter\.view: the model '.*base' brings no view and none is made"):
        load(models["base"])


def test_a_released_checkpoint_is_no_view_of_another_target(models: dict[str, Path]) -> None:
    with pytest.raises(OrthrusError, match=r"whose weights are not those of '.*base'; make it the target\.source"):
        load(models["base"], view=str(RELEASED))
    assert load(RELEASED, view=str(RELEASED)).drafter.needs == {"views"}


def test_a_released_checkpoint_that_lacks_a_weight_is_refused(tmp_path: Path) -> None:
    shutil.copytree(RELEASED, tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    del weights["model.layers.2.self_attn.k_norm_diff.weight"]
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(OrthrusError, match=r"the view's weights do not fit .* model.layers.2.self_attn.k_norm.weight"):
        load(tmp_path / "model")
