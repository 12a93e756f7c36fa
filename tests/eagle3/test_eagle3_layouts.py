"""The two layouts of an EAGLE-3 checkpoint, and what their configs may leave open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.published import DATA, edit, installed, renamed
from torch import Tensor

from orthrus_eagle3.config import Eagle3Config, TargetSizes
from orthrus_eagle3.layouts import read_config
from orthrus_eagle3.model import Eagle3Model, load_model
from orthrus_eagle3.options import Eagle3Options

FOLDER = DATA / "tiny-eagle3-llama"
SIZES = TargetSizes(64, 96, 7)
TABLE = torch.randn(96, 64, generator=torch.Generator().manual_seed(1))


def loaded(directory: Path, **options: Any) -> Eagle3Model:
    """Return a checkpoint's model."""
    return load_model(directory, SIZES, Eagle3Options(source="", **options), torch.float32, "cpu")


def config_of(directory: Path, layers: int = 7, **options: Any) -> Eagle3Config:
    """Return a checkpoint's config for a target of so many layers."""
    return read_config(directory, TargetSizes(64, 96, layers), Eagle3Options(source="", **options))


def logits_of(model: Eagle3Model) -> Tensor:
    """Return what a drafter makes of a text of random taps."""
    store, lengths = model.new_store(1, 40), torch.tensor([20])
    generator = torch.Generator().manual_seed(2)
    taps = torch.randn(1, 20, 64 * len(model.config.taps), generator=generator)
    tokens = torch.randint(96, (1, 20), generator=generator)
    model.feed(store, taps, tokens, torch.tensor([0]), lengths, lambda ids: TABLE[ids])
    return model.draft(store, lengths, lambda ids: TABLE[ids], 4, wide=False)[1]


def as_speculators(origin: Path, into: Path, **others: Any) -> Path:
    """Write a checkpoint of SafeAILab's layout in that of speculators."""
    values = json.loads((origin / "config.json").read_text(encoding="utf-8"))
    drafted = values.pop("draft_vocab_size")
    layer = {key: value for key, value in values.items() if key not in ("architectures", "bias", "torch_dtype")}
    written = {
        "speculators_model_type": "eagle3",
        "speculators_version": "0.9.0",
        "draft_vocab_size": drafted,
        "norm_before_residual": False,
        "transformer_layer_config": layer,
        **others,
    }
    into.mkdir()
    (into / "config.json").write_text(json.dumps(written), encoding="utf-8")
    save_file(renamed(load_file(origin / "model.safetensors"), True), into / "model.safetensors")
    return into


@pytest.mark.parametrize("name", ["head-reduced", "head-full"])
def test_both_layouts_draft_the_same(name: str, tmp_path: Path) -> None:
    """SafeAILab's residual stream begins with what is not normed, which the other layout has to say."""
    origin = installed(FOLDER, name, tmp_path)
    other = as_speculators(origin, tmp_path / "other")
    right = logits_of(loaded(origin))
    assert torch.equal(logits_of(loaded(other)), right)
    normed = logits_of(loaded(edit(other, norm_before_residual=True)))
    assert (normed - right).abs().max() > 0.01
    assert torch.equal(logits_of(loaded(origin, norm_before_residual=True)), normed)  # in either, by the option
    assert torch.equal(logits_of(loaded(edit(other, norm_before_residual=...), norm_before_residual=False)), right)


def test_whose_embeddings(tmp_path: Path) -> None:
    """Those in the checkpoint win, whatever else is said; without them the target's are used."""
    origin = installed(FOLDER, "head-full", tmp_path)
    assert loaded(origin).embeds_itself
    own = logits_of(loaded(origin))
    assert torch.equal(logits_of(loaded(edit(origin, target_hidden_size=64))), own)
    tensors = load_file(origin / "model.safetensors")
    del tensors["embed_tokens.weight"]
    save_file(tensors, origin / "model.safetensors")
    assert not loaded(origin).embeds_itself
    assert (logits_of(loaded(origin)) - own).abs().max() > 0.1


def test_all_taps_are_normed_as_one(tmp_path: Path) -> None:
    """`norm_before_fc`, which no recorded checkpoint has: by its formula."""
    origin = installed(FOLDER, "head-reduced-speculators", tmp_path)
    tensors = load_file(origin / "model.safetensors")
    tensors["input_norm.weight"] = torch.rand(192, generator=torch.Generator().manual_seed(3))
    save_file(tensors, origin / "model.safetensors")
    taps = torch.randn(1, 5, 192, generator=torch.Generator().manual_seed(4)) * 30
    scaled = taps / (taps.square().mean(-1, keepdim=True) + 1e-6).sqrt() * tensors["input_norm.weight"]
    features = loaded(edit(origin, norm_before_fc=True)).project(taps)
    torch.testing.assert_close(features, scaled @ tensors["fc.weight"].T, rtol=0, atol=1e-4)


def test_taps(tmp_path: Path) -> None:
    """The usual ones, the config's by each convention, and those of the options."""
    origin = installed(FOLDER, "head-reduced", tmp_path)
    assert config_of(origin).taps == (2, 3, 4)
    assert config_of(origin, layers=32).taps == (2, 16, 29)
    assert config_of(origin, layers=6, boundaries=(2, 3, 3)).taps == (2, 3, 3)
    assert config_of(origin, boundaries=(0, 1, 7)).taps == (0, 1, "final")
    named = edit(origin, eagle_config__eagle_aux_hidden_state_layer_ids=[1, 3, 6])
    assert config_of(named, layer_ids="boundaries").taps == (1, 3, 6)
    assert config_of(named, layer_ids="outputs").taps == (2, 4, "final")
    other = installed(FOLDER, "head-3.1-speculators", tmp_path)
    assert config_of(other).taps == (1, 3, 5)
    assert config_of(other, layer_ids="outputs").taps == (2, 4, 6)


def test_what_a_config_leaves_out(tmp_path: Path) -> None:
    """The reference's defaults, and one layer whatever the config counts."""
    config = config_of(installed(FOLDER, "head-narrow", tmp_path))
    assert (config.rotary.theta, config.head_size, config.hidden_size, config.target_hidden_size) == (1e4, 16, 48, 64)
    assert config.norm_before_residual is False


def test_a_published_config(tmp_path: Path) -> None:
    """The one that SafeAILab trains Llama 3.1 8B's drafter with."""
    values = {
        "architectures": ["LlamaForCausalLM"],
        "bos_token_id": 128000,
        "draft_vocab_size": 32000,
        "eos_token_id": 128001,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "initializer_range": 0.02,
        "intermediate_size": 14336,
        "max_position_embeddings": 2048,
        "model_type": "llama",
        "num_attention_heads": 32,
        "num_hidden_layers": 1,
        "num_key_value_heads": 8,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-05,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "transformers_version": "4.28.1",
        "use_cache": True,
        "vocab_size": 128256,
    }
    (tmp_path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    config = read_config(tmp_path, TargetSizes(4096, 128256, 32), Eagle3Options(source=""))
    assert config.taps == (2, 16, 29)
    assert (config.head_size, config.rotary.theta, config.reduced) == (128, 1e4, True)
