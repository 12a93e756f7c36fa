"""Checkpoints of DFlash that cannot be used: one sentence each, with the key, the tensor or the size that is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.published import DATA, edit, installed

from orthrus import BuildError, InputError
from orthrus.drafter_models.fit import TargetSizes
from orthrus_dflash.mask_token import check_mask_token
from orthrus_dflash.model import load_model
from orthrus_dflash.options import DFlashOptions

FOLDER = DATA / "tiny-dflash-qwen3"
Z_LAB, SPECULATORS = "drafter-full", "drafter-full-speculators"


def refusal(directory: Path, sizes: tuple[int, int, int] = (64, 96, 6), **options: Any) -> str:
    """Return the one line with which a checkpoint is refused."""
    with pytest.raises((InputError, BuildError)) as caught:
        load_model(directory, TargetSizes(*sizes), DFlashOptions(source="", **options), torch.float32, "cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


CONFIGS: list[tuple[str, dict[str, Any], str]] = [
    (Z_LAB, {"brand_new": 7}, "brand_new in '{}' is 7: it is a key that is not known here"),
    (Z_LAB, {"dflash_config__brand_new": [1]}, "dflash_config.brand_new in '{}' is [1]"),
    (
        Z_LAB,
        {"dflash_config__conv_kernel_size": 4},
        "dflash_config.conv_kernel_size in '{}' is 4: it belongs to DFlash2",
    ),
    (Z_LAB, {"selector_rank": 256}, "selector_rank in '{}' is 256: it belongs to DFlash2"),
    (SPECULATORS, {"markov_rank": 256}, "markov_rank in '{}' is 256: it belongs to DFlash2 or DSpark"),
    (Z_LAB, {"architectures": ["DFlash2DraftModel"]}, "architectures in '{}' is ['DFlash2DraftModel']"),
    (Z_LAB, {"model_type": "llama"}, "model_type in '{}' is 'llama': it must be 'qwen3'"),
    (Z_LAB, {"hidden_act": "gelu"}, "hidden_act in '{}' is 'gelu'"),
    (Z_LAB, {"attention_bias": True}, "attention_bias in '{}' is true"),
    (Z_LAB, {"dflash_config__mask_token_id": ...}, "mask_token_id is missing in '{}'"),
    (Z_LAB, {"dflash_config__mask_token_id": -1}, "mask_token_id in '{}' is -1: it must be an integer of at least 0"),
    (Z_LAB, {"dflash_config__mask_token_id": 96}, "the mask token 96"),
    (Z_LAB, {"dflash_config__target_layer_ids": "all"}, "target_layer_ids in '{}' is 'all': it must be a list"),
    (Z_LAB, {"dflash_config__target_layer_ids": [1, 2, 6]}, "taps the boundary 7 between layers, which is beyond"),
    (Z_LAB, {"dflash_config__causal": True}, "dflash_config.causal in '{}' is true: it is read by some programs"),
    (Z_LAB, {"dflash_config__attention_sink_bias": True}, "dflash_config.attention_sink_bias in '{}' is true"),
    (Z_LAB, {"dflash_config__projector_type": "mlp"}, "dflash_config.projector_type in '{}' is 'mlp'"),
    (Z_LAB, {"dflash_config": 3}, "dflash_config in '{}' is 3: it must be a mapping"),
    (Z_LAB, {"draft_vocab_size": 48}, "draft_vocab_size in '{}' is 48: it is not vocab_size"),
    (Z_LAB, {"head_dim": 15}, "head_dim in '{}' is 15: it is odd"),
    (Z_LAB, {"num_key_value_heads": 3}, "num_key_value_heads in '{}' is 3: it does not divide"),
    (Z_LAB, {"rms_norm_eps": "small"}, "rms_norm_eps in '{}' is 'small': it must be a number"),
    (Z_LAB, {"rope_parameters__rope_type": "dynamic"}, "rope_parameters.rope_type in '{}' is 'dynamic'"),
    (Z_LAB, {"rope_parameters__partial_rotary_factor": 0.5}, "rope_parameters.partial_rotary_factor in '{}' is 0.5"),
    (Z_LAB, {"rope_theta": 5.0}, "rope_theta in '{}' is 5.0: it contradicts rope_parameters.rope_theta, 10000"),
    (Z_LAB, {"rope_scaling": {"factor": 2}}, "rope_scaling in '{}' is {{'factor': 2}}: it stands beside"),
    (Z_LAB, {"layer_types": ["full_attention"]}, "layer_types in '{}' is ['full_attention']: it must name"),
    (
        "drafter-sliding",
        {"use_sliding_window": False},
        "use_sliding_window in '{}' is false: it contradicts layer_types",
    ),
    ("drafter-sliding", {"sliding_window": None}, "sliding_window in '{}' is null: it is needed by the sliding layers"),
    ("drafter-sliding", {"is_causal": 1}, "is_causal in '{}' is 1: it must be true or false"),
    (SPECULATORS, {"sample_from_anchor": True}, "sample_from_anchor in '{}' is true"),
    (SPECULATORS, {"speculators_model_type": "dspark"}, "speculators_model_type in '{}' is 'dspark'"),
    (SPECULATORS, {"aux_hidden_state_layer_ids": None}, "aux_hidden_state_layer_ids is missing in '{}'"),
    (SPECULATORS, {"aux_hidden_state_layer_ids": [2, 3, 6]}, "taps the boundary 6 between layers, which is beyond"),
    (SPECULATORS, {"target_hidden_size": 128}, "target_hidden_size in '{}' is 128"),
    (SPECULATORS, {"transformer_layer_config__is_causal": True}, "is_causal in '{}' is true: it is not read by"),
    (SPECULATORS, {"transformer_layer_config__new": 1}, "transformer_layer_config.new in '{}' is 1"),
    (SPECULATORS, {"draft_vocab_size": 48}, "d2t is missing (and 1 more such)"),
    (
        SPECULATORS,
        {
            "transformer_layer_config__layer_types": ["sliding_attention", "full_attention"],
            "transformer_layer_config__sliding_window": 12,
            "transformer_layer_config__use_sliding_window": True,
        },
        "window_from must be given for sliding layers",
    ),
]


@pytest.mark.parametrize(("name", "changes", "words"), CONFIGS, ids=lambda value: str(value)[:40])
def test_a_config(name: str, changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Every key is used, known to change nothing, or refused by name and value."""
    directory = edit(installed(FOLDER, name, tmp_path), **changes)
    assert words.format(directory / "config.json") in refusal(directory)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((32, 96, 6), "whose hidden size is 64; this one's is 32"),
        ((64, 97, 6), "whose vocabulary is 96; this one's is 97"),
        ((64, 96, 8), "whose number of layers is 6; this one's is 8"),
    ],
)
def test_another_target(sizes: tuple[int, int, int], words: str, tmp_path: Path) -> None:
    """The size that differs, with both values."""
    assert words in refusal(installed(FOLDER, Z_LAB, tmp_path), sizes)


def test_options(tmp_path: Path) -> None:
    """Boundaries of another number than the projection reads; a block that is longer than what was trained."""
    directory = installed(FOLDER, Z_LAB, tmp_path)
    assert "reads 3 of them, not 2" in refusal(directory, boundaries=(1, 2))
    assert "block=9 is more than" in refusal(directory, block=9)


TENSORS: list[tuple[Callable[[dict[str, torch.Tensor]], object], str]] = [
    (lambda held: held.pop("norm.weight"), "norm.weight is missing"),
    (lambda held: held.update(bias=torch.zeros(3)), "bias is not known"),
    (lambda held: held.update({"embed_tokens.weight": torch.zeros(96, 64)}), "embed_tokens.weight is not known"),
    (lambda held: held.update({"fc.weight": torch.zeros(64, 128)}), "fc.weight has the shape [64, 128], not [64, 192]"),
    (
        lambda held: held.update({"layers.0.attention_conv.base_kernel": torch.zeros(2, 4, 64)}),
        "holds layers.0.attention_conv.base_kernel, which belongs to DFlash2",
    ),
    (lambda held: held.update({"markov_head.markov_w1": torch.zeros(96, 4)}), "holds markov_head.markov_w1"),
]


@pytest.mark.parametrize(("change", "words"), TENSORS, ids=[words for _, words in TENSORS])
def test_tensors(change: Callable[[dict[str, torch.Tensor]], object], words: str, tmp_path: Path) -> None:
    """The tensor that is missing, extra or of another shape, by name."""
    directory = installed(FOLDER, Z_LAB, tmp_path)
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors")
    assert words in refusal(directory)


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    """The sentence holds a command that converts it; what it writes is read."""
    directory = installed(FOLDER, Z_LAB, tmp_path)
    torch.save(load_file(directory / "model.safetensors"), directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()
    said = refusal(directory)
    assert "'pytorch_model.bin', which can run code" in said
    code = said.partition('python -c "')[2].removesuffix('"')
    assert "weights_only=True" in code
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        exec(code, {})  # the command that users are told
    load_model(directory, TargetSizes(64, 96, 6), DFlashOptions(source=""), torch.float32, "cpu")


def test_files(tmp_path: Path) -> None:
    """No directory, no config, no JSON, no weights, damaged ones."""
    assert "there is no directory" in refusal(tmp_path / "nowhere")
    assert "holds no config.json" in refusal(tmp_path)
    directory = installed(FOLDER, Z_LAB, tmp_path)
    (directory / "model.safetensors").write_bytes(b"none")
    assert "is damaged or cannot be read" in refusal(directory)
    (directory / "model.safetensors").unlink()
    assert "holds no weights" in refusal(directory)
    (directory / "config.json").write_text(json.dumps([]), encoding="utf-8")
    assert "must hold a mapping" in refusal(directory)
    (directory / "config.json").write_text("{", encoding="utf-8")
    assert "cannot be read as JSON" in refusal(directory)


class Letters:
    """A tokenizer of letters; tokens from 26 on are special."""

    def encode(self, prompt: Any, chat: bool | None = None) -> list[int]:
        """Return the places of letters."""
        return [ord(letter) - ord("a") for letter in prompt]

    def decode(self, token_ids: Any) -> str:
        """Return the letters."""
        return "".join(chr(ord("a") + token) for token in token_ids if token < 26)


def test_a_mask_that_stands_for_text() -> None:
    """Where a tokenizer tells it; the option allows it."""
    check_mask_token(95, Letters(), "d", allow_ordinary=False)
    check_mask_token(3, None, "d", allow_ordinary=False)
    check_mask_token(3, Letters(), "d", allow_ordinary=True)
    with pytest.raises(
        InputError, match="the mask token 3 of 'd' is an ordinary token of the target: it stands for 'd'"
    ):
        check_mask_token(3, Letters(), "d", allow_ordinary=False)
