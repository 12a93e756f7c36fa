"""The two layouts of a DFlash checkpoint: the same weights draft the same, whichever they are written in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from support.published import DATA, edit, installed
from torch import Tensor

from orthrus_dflash.config import DFlashConfig, LayerKind, TargetSizes
from orthrus_dflash.layouts import default_layer_ids, read_config
from orthrus_dflash.model import load_model
from orthrus_dflash.options import DFlashOptions

FOLDER = DATA / "tiny-dflash-qwen3"
SIZES = TargetSizes(64, 96, 6)
TABLE = torch.randn(96, 64, generator=torch.Generator().manual_seed(1))
OUTSIDE = ("architectures", "block_size", "dflash_config", "is_causal", "num_target_layers")


def logits_of(directory: Path, **options: Any) -> Tensor:
    """Return what a drafter makes of a context that is longer than its windows."""
    model = load_model(directory, SIZES, DFlashOptions(source="", **options), torch.float32, "cpu")
    store, lengths = model.new_store(1, 40), torch.tensor([20])
    generator = torch.Generator().manual_seed(2)
    taps = torch.randn(1, 20, 64 * len(model.config.taps), generator=generator)
    model.feed(store, taps, torch.tensor([0]), lengths)
    return model.draft(store, torch.tensor([7]), lengths, lambda ids: TABLE[ids], lambda states: states @ TABLE.T)[1]


def config_of(directory: Path, **options: Any) -> DFlashConfig:
    """Return a checkpoint's config."""
    return read_config(directory, SIZES, DFlashOptions(source="", **options))


def as_speculators(origin: Path, into: Path, *, non_causal: bool = False) -> Path:
    """Write a checkpoint of z-lab's layout in that of speculators."""
    values = json.loads((origin / "config.json").read_text(encoding="utf-8"))
    inner = values["dflash_config"]
    written = {
        "architectures": ["DFlashDraftModel"],  # as the converter writes it: it tells nothing
        "speculators_model_type": "dflash",
        "speculators_version": "0.9.0",
        "speculators_config": {"algorithm": "dflash"},
        "aux_hidden_state_layer_ids": [number + 1 for number in inner["target_layer_ids"]],
        "block_size": inner.get("block_size", values.get("block_size")),
        "draft_vocab_size": values["vocab_size"],
        "mask_token_id": inner["mask_token_id"],
        "sample_from_anchor": False,
        "sliding_window_non_causal": non_causal,
        "transformer_layer_config": {key: value for key, value in values.items() if key not in OUTSIDE},
    }
    into.mkdir()
    (into / "config.json").write_text(json.dumps(written), encoding="utf-8")
    shutil.copy(origin / "model.safetensors", into)
    return into


@pytest.mark.parametrize("name", ["drafter-full", "drafter-sliding", "drafter-sliding-noncausal"])
def test_both_layouts_draft_the_same(name: str, tmp_path: Path) -> None:
    """Of sliding layers the layout of speculators does not say all."""
    origin = installed(FOLDER, name, tmp_path)
    other = as_speculators(origin, tmp_path / "other", non_causal="noncausal" in name)
    given = {} if name == "drafter-full" else {"window_from": "row"}
    assert torch.equal(logits_of(origin), logits_of(other, **given))


def test_a_row_that_drafts_after_itself_is_taken_by_option(tmp_path: Path) -> None:
    """The layout's own key says so, and the option with it; without the option it is refused, as others refuse it."""
    usual = as_speculators(installed(FOLDER, "drafter-full", tmp_path), tmp_path / "other", non_causal=False)
    logits = logits_of(usual)
    assert not torch.equal(logits_of(edit(usual, sample_from_anchor=True), sample_from_anchor=True), logits)


def test_a_converted_drafter_needs_the_options(tmp_path: Path) -> None:
    """speculators' converter loses `is_causal: false`; and its own training counts windows from the anchor."""
    origin = installed(FOLDER, "drafter-sliding-noncausal", tmp_path)
    other = as_speculators(origin, tmp_path / "other")
    right = logits_of(origin)
    assert torch.equal(logits_of(other, window_from="row", is_causal=False), right)
    assert (right - logits_of(other, window_from="row")).abs().max() > 0.1
    assert (right - logits_of(edit(other, sliding_window_non_causal=True), window_from="anchor")).abs().max() > 0.01


def test_names_of_transformers_assistants(tmp_path: Path) -> None:
    """The projection and its norm have other names there."""
    from safetensors.torch import load_file, save_file

    origin = installed(FOLDER, "drafter-full", tmp_path)
    before = logits_of(origin)
    tensors = load_file(origin / "model.safetensors")
    tensors["encoder.fc.weight"] = tensors.pop("fc.weight")
    tensors["encoder.output_norm_enc.weight"] = tensors.pop("hidden_norm.weight")
    save_file(tensors, origin / "model.safetensors")
    assert torch.equal(logits_of(origin), before)


def test_a_reduced_vocabulary(tmp_path: Path) -> None:
    """A drafter of speculators with a head of its own: what it does not know is impossible."""
    from safetensors.torch import load_file, save_file

    origin = as_speculators(installed(FOLDER, "drafter-full", tmp_path), tmp_path / "other")
    before = logits_of(origin)
    known = torch.arange(1, 96, 2)
    tensors = load_file(origin / "model.safetensors")
    tensors |= {"lm_head.weight": TABLE[known], "d2t": known - torch.arange(48)}
    save_file(tensors, origin / "model.safetensors")
    after = logits_of(edit(origin, draft_vocab_size=48))
    torch.testing.assert_close(after[..., known], before[..., known], rtol=0, atol=1e-5)
    assert bool((after[..., ::2] == float("-inf")).all())


def test_ids_by_each_convention(tmp_path: Path) -> None:
    """The output of layer k is boundary k + 1, and that of the last layer is read after the final norm."""
    origin = installed(FOLDER, "drafter-options", tmp_path)
    assert config_of(origin).taps == (1, "final")
    assert config_of(origin, layer_ids="boundaries").taps == (0, 5)
    assert config_of(origin, boundaries=(6, 2)).taps == ("final", 2)
    other = installed(FOLDER, "drafter-full-speculators", tmp_path)
    assert config_of(other).taps == (2, 3, 5)
    assert config_of(other, layer_ids="outputs").taps == (3, 4, "final")


def test_default_ids_are_the_reference_s() -> None:
    """Where a config has none; recorded from the reference."""
    recorded = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))["default_target_layer_ids"]
    for sizes, ids in recorded.items():
        layers, drafts = map(int, sizes.split(","))
        assert list(default_layer_ids(layers, drafts)) == ids


def test_where_keys_may_be(tmp_path: Path) -> None:
    """`dflash_config` wins over the top level, and defaults are the reference's."""
    origin = installed(FOLDER, "drafter-full", tmp_path)
    assert config_of(edit(origin, dflash_config__block_size=4)).block == 4
    assert config_of(edit(origin, block_size=..., dflash_config__block_size=...)).block == 16
    bare = edit(origin, dflash_config__target_layer_ids=..., mask_token_id=9, dflash_config__mask_token_id=...)
    assert config_of(bare).taps == (2, 4)
    assert config_of(bare).mask_token_id == 9
    assert config_of(edit(origin, dflash_config__final_logit_softcapping=0)).soft_cap is None


def test_what_layers_see(tmp_path: Path) -> None:
    """Causality and windows by the config, and by the options that stand in for what it leaves open."""
    origin = installed(FOLDER, "drafter-sliding", tmp_path)
    full = LayerKind()
    assert config_of(origin).layers == (LayerKind(causal=True, window=12), full)
    assert config_of(origin, is_causal=True).layers == (LayerKind(True, 12), LayerKind(causal=True))
    assert config_of(edit(origin, is_causal=False)).layers == (LayerKind(False, 12), full)
    edit(origin, is_causal=..., use_sliding_window=False)
    assert config_of(origin, use_sliding_window=False).layers == (LayerKind(causal=True), full)
    assert config_of(origin, use_sliding_window=True).layers == (LayerKind(causal=True, window=12), full)


def test_a_published_config(tmp_path: Path) -> None:
    """Of z-lab's drafter for Qwen3.6-27B: older spellings, a window in all layers but the last."""
    values = {
        "architectures": ["DFlashDraftModel"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "auto_map": {"AutoModel": "dflash.DFlashDraftModel"},
        "block_size": 16,
        "bos_token_id": None,
        "dflash_config": {"mask_token_id": 248070, "target_layer_ids": [1, 16, 31, 46, 61]},
        "draft_vocab_size": 248320,
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 5120,
        "initializer_range": 0.02,
        "intermediate_size": 17408,
        "layer_types": ["sliding_attention"] * 4 + ["full_attention"],
        "model_type": "qwen3",
        "num_attention_heads": 32,
        "num_hidden_layers": 5,
        "num_key_value_heads": 8,
        "num_target_layers": 64,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 10000000,
        "sliding_window": 2048,
        "something_unset": None,
        "use_sliding_window": True,
        "vocab_size": 248320,
    }
    (tmp_path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    config = read_config(tmp_path, TargetSizes(5120, 248320, 64), DFlashOptions(source=""))
    assert config.taps == (2, 17, 32, 47, 62)
    assert config.layers == (LayerKind(causal=True, window=2048),) * 4 + (LayerKind(),)
    assert (config.block, config.rotary.theta) == (16, 1e7)
