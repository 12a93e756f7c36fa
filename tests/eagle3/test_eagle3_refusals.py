"""Checkpoints of EAGLE-3 that cannot be used: one sentence each, with the key, the tensor or the size that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.published import DATA, edit, installed

from orthrus import BuildError, InputError
from orthrus.drafter_models.fit import TargetSizes
from orthrus_eagle3.model import load_model
from orthrus_eagle3.options import Eagle3Options

FOLDER = DATA / "tiny-eagle3-llama"
SAFE_AI_LAB, SPECULATORS, NARROW, FULL = "head-reduced", "head-reduced-speculators", "head-narrow", "head-full"
IDS = "eagle_aux_hidden_state_layer_ids"


def refusal(directory: Path, sizes: tuple[int, int, int] = (64, 96, 7), **options: Any) -> str:
    """Return the one line with which a checkpoint is refused."""
    with pytest.raises((InputError, BuildError)) as caught:
        load_model(directory, TargetSizes(*sizes), Eagle3Options(source="", **options), torch.float32, "cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


CONFIGS: list[tuple[str, dict[str, Any], str]] = [
    (SAFE_AI_LAB, {"brand_new": 7}, "brand_new in '{}' is 7: it is a key that is not known here"),
    (SAFE_AI_LAB, {"model_type": "mamba"}, "model_type in '{}' is 'mamba': it must be 'llama'"),
    (SAFE_AI_LAB, {"draft_vocab_size": ...}, "draft_vocab_size is missing in '{}'"),
    (SAFE_AI_LAB, {"attention_bias": True}, "attention_bias in '{}' is true"),
    (SAFE_AI_LAB, {"mlp_bias": True}, "mlp_bias in '{}' is true"),
    (SAFE_AI_LAB, {"rope_scaling": {"type": "dynamic", "factor": 2}}, "rope_scaling.type in '{}' is 'dynamic'"),
    (SAFE_AI_LAB, {"rope_scaling": {"type": "linear"}}, "rope_scaling.factor is missing in '{}'"),
    (SAFE_AI_LAB, {IDS: [2, 3, 4]}, IDS + " in '{}' is [2, 3, 4]: it is read as outputs of layers by some"),
    (SAFE_AI_LAB, {"eagle_config__" + IDS: [1, 2, 3]}, "eagle_config." + IDS + " in '{}' is [1, 2, 3]"),
    (SAFE_AI_LAB, {"eagle_config__use_aux_hidden_state": False}, "eagle_config.use_aux_hidden_state in '{}' is false"),
    (SAFE_AI_LAB, {"target_hidden_size": 96}, "whose hidden size is 96; this one's is 64"),
    (SAFE_AI_LAB, {"head_dim": 32}, "has the shape"),
    (SPECULATORS, {"norm_before_residual": None}, "norm_before_residual in '{}' is null: it is read as true by some"),
    (SPECULATORS, {"norm_before_residual": ...}, "norm_before_residual in '{}' is absent: it is read as true by some"),
    (SPECULATORS, {"norm_before_fc": True, "fc_norm": True}, "fc_norm in '{}' is true: it excludes norm_before_fc"),
    (SPECULATORS, {"norm_before_fc": True}, "input_norm.weight is missing"),
    (SPECULATORS, {"fc_norm": True}, "fc_norm.0.weight is missing (and 2 more such)"),
    (SPECULATORS, {"speculators_model_type": "peagle"}, "speculators_model_type in '{}' is 'peagle'"),
    (SPECULATORS, {"mask_token_id": 5}, "mask_token_id in '{}' is 5: it is a key that is not known here"),
    (SPECULATORS, {"transformer_layer_config__num_hidden_layers": 2}, "num_hidden_layers in '{}' is 2: it is not 1"),
    (SPECULATORS, {"transformer_layer_config__layer_types": ["sliding_attention"]}, "layer_types in '{}' is ['sliding"),
    (SPECULATORS, {"transformer_layer_config__model_type": "gemma3"}, "model_type in '{}' is 'gemma3'"),
    (SPECULATORS, {IDS: [1, 2, 7]}, "taps the boundary 7 between layers, which is beyond the target"),
    (SPECULATORS, {IDS: [1, 2]}, "fc.weight has the shape [64, 192], not [64, 128]"),
    (SPECULATORS, {"target_hidden_size": 48}, "target_hidden_size in '{}' is 48"),
]


@pytest.mark.parametrize(("name", "changes", "words"), CONFIGS, ids=lambda value: str(value)[:40])
def test_a_config(name: str, changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Every key is used, known to change nothing, or refused by name and value."""
    directory = edit(installed(FOLDER, name, tmp_path), **changes)
    assert words.format(directory / "config.json") in refusal(directory)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((32, 96, 7), "whose hidden size is 64; this one's is 32"),
        ((64, 97, 7), "whose vocabulary is 96; this one's is 97"),
        ((64, 96, 6), "are 2, 3, 3 for a target of 6 layers, not three in order: give the option boundaries"),
        ((64, 96, 3), "are 2, 1, 0 for a target of 3 layers"),
    ],
)
def test_another_target(sizes: tuple[int, int, int], words: str, tmp_path: Path) -> None:
    """The size that differs, with both values; layers too few for the usual taps."""
    assert words in refusal(installed(FOLDER, SAFE_AI_LAB, tmp_path), sizes)


def test_options(tmp_path: Path) -> None:
    """Boundaries of another number."""
    directory = installed(FOLDER, SAFE_AI_LAB, tmp_path)
    assert "reads 3 of them, not 2" in refusal(directory, boundaries=(1, 2))


Tensors = dict[str, torch.Tensor]
TENSORS: list[tuple[str, Callable[[Tensors], object], str]] = [
    (SAFE_AI_LAB, lambda held: held.pop("midlayer.mlp.up_proj.weight"), "mlp.up_proj.weight is missing"),
    (SAFE_AI_LAB, lambda held: held.update({"fc.bias": torch.zeros(64)}), "fc.bias is not known"),
    (NARROW, lambda held: held.pop("embed_tokens.weight"), "embed_tokens.weight is missing"),
    (SAFE_AI_LAB, lambda held: held.pop("d2t"), "d2t is missing"),
    (SAFE_AI_LAB, lambda held: held.update(d2t=held["d2t"] + 90), "contradict each other"),
    (SAFE_AI_LAB, lambda held: held.update(t2d=held["t2d"].roll(1)), "contradict each other"),
    (SAFE_AI_LAB, lambda held: (held.pop("t2d"), held.update(d2t=held["d2t"] + 90)), "outside the target's vocabulary"),
    (
        SAFE_AI_LAB,
        lambda held: (held.pop("t2d"), held["d2t"][1:2].copy_(held["d2t"][:1] - 1)),
        "gives two ids of the drafter the same token",
    ),
    (FULL, lambda held: held.update(d2t=torch.ones(96, dtype=torch.int64)), "which leaves nothing to map"),
]


@pytest.mark.parametrize(("name", "change", "words"), TENSORS, ids=[words for *_, words in TENSORS])
def test_tensors(name: str, change: Callable[[Tensors], object], words: str, tmp_path: Path) -> None:
    """The tensor that is missing, extra, of another shape, or contradicts another one."""
    directory = installed(FOLDER, name, tmp_path)
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors")
    assert words in refusal(directory)


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    """As SafeAILab publishes them."""
    directory = installed(FOLDER, SAFE_AI_LAB, tmp_path)
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    assert "'pytorch_model.bin', which can run code" in refusal(directory)
