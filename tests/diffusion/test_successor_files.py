"""Successor heads in view files: written and read, converted, refused where damaged; views without one as before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.families import tiny_model
from support.native import needs_kernels
from support.released import load, plain_base, target_at
from support.successors import random_head
from support.thorough import thorough_but
from support.views import random_view
from torch import Tensor

from orthrus import Decoder, OrthrusError
from orthrus_diffusion.drafter import Diffusion
from orthrus_diffusion.successor import SuccessorHead
from orthrus_diffusion.view_files.convert import to_released, to_view
from orthrus_diffusion.view_files.formats import read_view, save_view
from orthrus_diffusion.view_files.quantization import dequantized, quantized

FILE = "view.safetensors"


def saved(base: Path, directory: Path, *, head: bool, storage: str = "float") -> dict[str, Tensor]:
    """Write a random view of a model, with a successor head if asked for; return the head's weights."""
    target = target_at(base)
    random_view(target, "noisy", noise=0.02)
    weights = random_head(target, "noisy", 0.5).weights() if head else {}
    save_view(target, "noisy", directory, 6, 3, storage=storage, successor=weights or None)
    return weights


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where a model, a view of it with a head, and the same view without one are."""
    folder = tmp_path_factory.mktemp("models")
    tiny_model("qwen3", 0, torch.float32).save_pretrained(folder / "base")
    saved(folder / "base", folder / "with", head=True)
    saved(folder / "base", folder / "without", head=False)
    return folder


def head_of(decoder: Decoder) -> SuccessorHead | None:
    assert isinstance(decoder.drafter, Diffusion)
    return decoder.drafter.successor


def settings(view: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((view / "config.json").read_text(encoding="utf-8"))
    return values


def same(some: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


@pytest.mark.parametrize("storage", thorough_but(["int8"], ["float", "int8"]))
def test_a_head_comes_back_as_it_was_written(storage: str, models: Path, tmp_path: Path) -> None:
    weights = saved(models / "base", tmp_path / "view", head=True, storage=storage)
    coded = quantized(weights)
    wanted = dequantized(coded, coded, "here") if storage == "int8" else weights
    head = head_of(load(models / "base", view=str(tmp_path / "view"), successor=True))
    assert head is not None and same(head.weights(), wanted)


def test_a_view_without_a_head_and_one_whose_head_is_left_alone_draft_alike(models: Path) -> None:
    prompts = [[1, 2, 3], [9, 8]]
    decoders = (
        load(models / "base", view=str(models / "without")),
        load(models / "base", view=str(models / "with"), successor=False),
        load(models / "base", view=str(models / "with"), successor=True),
    )
    assert head_of(load(models / "base", view=str(models / "with"))) is None  # on a CPU, if not asked for
    assert [head_of(decoder) is None for decoder in decoders] == [True, True, False]
    without, left_alone, used = (decoder.generate(prompts) for decoder in decoders)
    for row, result in enumerate(without):
        assert result.token_ids == left_alone[row].token_ids == used[row].token_ids
        assert result.measures.accepted_per_cycle == left_alone[row].measures.accepted_per_cycle
    assert "successor_rank" not in settings(models / "without")


def _weights(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    def damage(view: Path) -> None:
        weights = load_file(view / FILE)
        change(weights)
        save_file(weights, view / FILE)

    return damage


def _rank(rank: object) -> Callable[[Path], None]:
    def damage(view: Path) -> None:
        values = settings(view) | {"successor_rank": rank}
        (view / "config.json").write_text(json.dumps({key: each for key, each in values.items() if each is not None}))

    return damage


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "another rank": (_rank(5), r"the view's successor head does not fit the model: .*token has the shape \[12, \d+\]"),
    "no number": (_rank("6"), "successor_rank in the config.json of '.*' must be an integer of at least 1, not '6'"),
    "of no rank": (_rank(0), "successor_rank in the config.json of '.*' must be an integer of at least 1, not 0"),
    "no rank told": (_rank(None), "the view's weights do not fit the model: .*successor"),
    "a weight less": (_weights(lambda weights: weights.pop("successor.out")), "successor.out is missing"),
    "a weight more": (
        _weights(lambda weights: weights.update({"successor.more": torch.ones(2)})),
        "successor.more is no weight of it",
    ),
    "of another model": (
        _weights(lambda weights: weights.update({"successor.out": torch.ones(5, 6)})),
        r"successor.out has the shape \[5, 6\], not \[\d+, 6\]",
    ),
}


@pytest.mark.parametrize("name", thorough_but(["another rank", "a weight less"], BROKEN))
def test_a_damaged_head_is_refused_in_a_sentence(name: str, models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "with", tmp_path / "view")
    damage, complaint = BROKEN[name]
    damage(tmp_path / "view")
    with pytest.raises(OrthrusError, match=complaint) as caught:
        load(models / "base", view=str(tmp_path / "view"), successor=True)
    assert str(caught.value).startswith("drafter.view: ") and "\n" not in str(caught.value)


def test_conversion_keeps_a_head_in_our_format_and_leaves_it_out_of_the_released_one(tmp_path: Path) -> None:
    base = plain_base(tmp_path / "base")
    weights = saved(base, tmp_path / "view", head=True)
    to_view(tmp_path / "view", tmp_path / "int8", "int8", "tiny")
    coded = quantized(weights)
    read = read_view(tmp_path / "int8")
    assert same({name: read[name] for name in weights}, dequantized(coded, coded, "here"))
    assert settings(tmp_path / "int8")["successor_rank"] == 6
    to_released(tmp_path / "view", base, tmp_path / "back", "tiny")
    assert head_of(load(tmp_path / "back", successor=True)) is None
    assert same(
        read_view(tmp_path / "back"), {name: read_view(tmp_path / "view")[name] for name in read if name not in weights}
    )


@needs_kernels
@pytest.mark.parametrize("nodes", thorough_but([None], [None, 9]))
def test_the_engine_native_drafts_with_a_head_what_modules_do(nodes: int | None, models: Path) -> None:
    from orthrus import load as load_parts

    drafter = {"name": "diffusion", "view": str(models / "with"), "tree": nodes, "successor": True}
    answers = []
    for engine in ("eager", "native"):
        target = {"name": "transformers", "source": str(models / "base"), "dtype": "float32", "device": "cpu"}
        decoder = load_parts(
            {
                "target": {**target, "engine": engine},
                "attention": {"name": "sdpa"},
                "cache": {"name": "static"},
                "verifier": {"name": "consensus"},
                "drafter": drafter,
                "stop": {"max_new_tokens": 20},
            }
        )
        results = decoder.generate([[1, 2, 3], [4, 5]])
        answers.append([(result.token_ids, result.measures.accepted_per_cycle) for result in results])
    assert answers[0] == answers[1]
