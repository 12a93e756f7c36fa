"""Files that weights are read from: safetensors inside the model's directory, whatever an index or a config names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.families import tiny_model

import orthrus
from orthrus import InputError, fingerprint_files, weight_files
from orthrus.files import INDEX, WEIGHTS
from orthrus_diffusion.view_files.safetensors_files import open_checkpoint

NAMES = [
    "pytorch_model.bin",
    "model.safetensors.bin",
    "model.SAFETENSORS.pkl",
    "../model.safetensors",
    "inner/../../model.safetensors",
    "/tmp/model.safetensors",
    "..\\model.safetensors",
    "C:model.safetensors",
]
RECIPE = {"attention": {"name": "sdpa"}, "cache": {"name": "dynamic"}, "drafter": {"name": "none"}}


def decoder(folder: Path) -> object:
    return orthrus.load({"target": {"name": "transformers", "source": str(folder), "device": "cpu"}, **RECIPE})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Make a model whose weights lie in a file beside the directory and, pickled, in the directory, too."""
    folder = tmp_path / "model"
    tiny = tiny_model(dtype=torch.float32)
    tiny.save_pretrained(folder)
    torch.save(tiny.state_dict(), folder / "pytorch_model.bin")
    (folder / WEIGHTS).rename(tmp_path / WEIGHTS)
    (folder / "decoy.safetensors").write_bytes(b"")
    return folder


def name_in_index(folder: Path, name: object) -> None:
    names = dict.fromkeys(tiny_model().state_dict(), name)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": names}), encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("read", [decoder, fingerprint_files, open_checkpoint], ids=["load", "fingerprint", "view"])
def test_an_index_names_only_safetensors_of_its_directory(
    read: Callable[[Path], object], name: str, model: Path
) -> None:
    name_in_index(model, name)
    with pytest.raises(InputError, match=r"no \.safetensors file|outside its directory"):
        read(model)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"weight_map": []}', "{}", "\udcff"])
def test_a_damaged_index_is_one_sentence(text: str, model: Path) -> None:
    (model / INDEX).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match="is damaged"):
        weight_files(model)


def test_shards_in_a_folder_below_are_read(model: Path, tmp_path: Path) -> None:
    (model / "inner").mkdir()
    (tmp_path / WEIGHTS).rename(model / "inner" / "a.safetensors")
    name_in_index(model, "inner/a.safetensors")
    assert weight_files(model) == [model / "inner/a.safetensors"]
    decoder(model)


def test_a_config_names_no_weights_of_its_own(model: Path, tmp_path: Path) -> None:
    (tmp_path / WEIGHTS).rename(model / WEIGHTS)
    decoder(model)
    (model / "hidden.safetensors.index.json").write_text("{}", encoding="utf-8")
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config["transformers_weights"] = "hidden.safetensors.index.json"
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(orthrus.BuildError, match="transformers_weights"):
        decoder(model)


@pytest.mark.parametrize("name", [name for name in dir(torch) if name.startswith(("float4_", "float8_"))])
def test_weights_of_few_bits_have_a_fingerprint(name: str, tmp_path: Path) -> None:
    prints = []
    for value in (1, 2):
        weight = torch.full((4, 8), value, dtype=torch.uint8).view(getattr(torch, name))
        save_file({"lm_head.weight": weight, "embedding": weight.clone()}, tmp_path / WEIGHTS)
        prints.append(fingerprint_files(tmp_path))
    assert prints[0] != prints[1]


def test_a_file_that_torch_cannot_read_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / WEIGHTS)

    def refuse(*given: object, **more: object) -> object:
        raise RuntimeError("shape '[4, 8]' is invalid for input of size 16")

    monkeypatch.setattr("safetensors.safe_open", refuse)
    with pytest.raises(InputError, match=r"cannot be read \(RuntimeError: shape"):
        fingerprint_files(tmp_path)
