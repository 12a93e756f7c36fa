"""A directory is read whole: keys of config.json and weights that the model has no place for are refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.families import tiny_model
from support.program import ROOT
from support.thorough import thorough_but
from transformers import AutoConfig, AutoModelForCausalLM

import orthrus
from orthrus import BuildError, Decoder
from orthrus_transformers.loading.config_keys import check_config_keys, check_windows, windows_by_other_names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_model("llama", dtype=torch.float32).save_pretrained(tmp_path)
    return tmp_path


def edit(folder: Path, **entries: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **entries}))


def load(folder: Path, ignore: tuple[str, ...] = (), said: list[str] | None = None) -> Decoder:
    target = {"name": "transformers", "source": f"path:{folder}", "device": "cpu", "ignore": list(ignore)}
    parts = {"attention": {"name": "sdpa"}, "cache": {"name": "dynamic"}, "drafter": {"name": "none"}}
    notify = (said if said is not None else []).append
    return orthrus.load({"target": target, **parts, "stop": {"max_new_tokens": 4}}, notify=notify)


UNREAD = [
    ("sliding_window", 64),
    ("extra", {"a": 1}),
    ("partial_rotary_factor", 0.5),
    ("attention_biases", True),
    ("scaling", 2.0),
    ("bias", True),
    ("norm_type", "x"),
    ("mask_token_id", 3),
]


@pytest.mark.parametrize(("key", "value"), thorough_but(UNREAD[:3], UNREAD))
def test_a_key_that_nothing_reads_is_refused_unless_it_is_left_out(folder: Path, key: str, value: Any) -> None:
    edit(folder, **{key: value})
    with pytest.raises(
        BuildError, match=rf"config.json' says {key}=.* which model type 'llama' does not read"
    ) as raised:
        load(folder)
    assert f"target.ignore: [{key}]" in str(raised.value)
    load(folder, ignore=(key,))
    load(folder, ignore=(key[:5] + "*",))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention_biases", False),
        ("extra", None),
        ("transformers.js_config", {"dtype": "q4"}),
        ("torch_dtype", "float32"),
        ("_name_or_path", "somewhere"),
        ("rope_theta", 10000.0),
        ("pretraining_tp", 2),
        ("head_dim", 8),
    ],
)
def test_a_key_that_says_nothing_or_is_known_is_fine(folder: Path, key: str, value: Any) -> None:
    edit(folder, **{key: value})
    load(folder)


@pytest.mark.parametrize(
    "name", ["model.layers.0.self_attn.q_proj.bias", "model.layers.4.mlp.up_proj.weight", "vision.patch.weight"]
)
def test_a_weight_that_has_no_place_is_refused_unless_it_is_left_out(folder: Path, name: str) -> None:
    weights = {**load_file(folder / "model.safetensors"), name: torch.ones(32)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BuildError, match="holds weights that its config has no place for") as raised:
        load(folder)
    assert f"target.ignore: [{name}]" in str(raised.value)
    load(folder, ignore=(name,))


def test_buffers_of_old_checkpoints_are_fine(folder: Path) -> None:
    old = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    weights = {**load_file(folder / "model.safetensors"), **old}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    load(folder)


PUBLISHED = json.loads((ROOT / "tests" / "data" / "published-configs.json").read_text())


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_keys_of_published_models_are_known(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED[name]))
    config = AutoConfig.from_pretrained(tmp_path)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    check_config_keys(tmp_path, model, ())
    check_windows(model.config.get_text_config(), ())
    with pytest.raises(BuildError, match="says strange_key=1"):
        (tmp_path / "config.json").write_text(json.dumps({**PUBLISHED[name], "strange_key": 1}))
        check_config_keys(tmp_path, model, ())


@pytest.mark.parametrize(
    ("family", "key", "value"),
    [
        ("gpt2", "n_ctx", 7),
        ("gemma2", "hidden_act", "relu"),
        ("phi3", "full_attn_mod", 2),
        ("starcoder2", "mlp_type", "x"),
    ],
)
def test_a_known_key_with_another_value_is_refused(family: str, key: str, value: Any, tmp_path: Path) -> None:
    model = tiny_model(family)
    (tmp_path / "config.json").write_text(json.dumps({key: value}))
    with pytest.raises(BuildError, match=f"says {key}="):
        check_config_keys(tmp_path, model, ())


@pytest.mark.parametrize(
    "settings",
    [
        {"rope_scaling": {"rope_type": "default", "factor": 4.0}},
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "extrapolation": 3}},
        {"rope_theta": 500.0, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    ],
)
def test_positions_that_no_angle_is_made_of_are_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(BuildError, match="says rope_"):
        check_config_keys(tmp_path, tiny_model("llama"), ())


def test_a_broken_generation_config_and_an_adapter_are_refused(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": 3,')
    with pytest.raises(BuildError, match=r"generation_config\.json"):
        load(folder)
    (folder / "generation_config.json").unlink()
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(BuildError, match=r"holds an adapter \(adapter_config\.json\)"):
        load(folder)


def test_weights_that_are_not_read_are_in_the_certificate(folder: Path) -> None:
    assert "not read" not in load(folder).target.provenance()
    save_file({"x": torch.ones(1)}, folder / "more.safetensors", metadata={"format": "pt"})
    assert load(folder).target.provenance().endswith("; not of the model, and not read: more.safetensors")


@pytest.mark.parametrize("ends", [([1], None, {1}), (None, 7, {7}), ([1, 2], [2, 3], {1, 2, 3}), (None, None, set())])
def test_end_tokens_are_those_of_both_files_and_no_class(folder: Path, ends: tuple[Any, Any, set[int]]) -> None:
    ours, generations, wanted = ends
    config = json.loads((folder / "config.json").read_text())
    del config["eos_token_id"]  # of which the class has a default, 2
    (folder / "config.json").write_text(json.dumps({**config, **({"eos_token_id": ours} if ours else {})}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": generations} if generations else {}))
    said: list[str] = []
    assert load(folder, said=said).target.stop_token_ids == wanted
    told = ["config.json names the end tokens [1, 2], generation_config.json [2, 3]; answers end at any of them"]
    assert said == (told if ours == [1, 2] else [])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, None),
        ({"repetition_penalty": 1.0, "do_sample": True, "temperature": 0.7, "top_k": 20}, None),
        (
            {"repetition_penalty": 1.05},
            "the model's files ask for repetition_penalty=1.05, which is not applied; to have it, set"
            " sampling.repetition_penalty: 1.05",
        ),
        (
            {"suppress_tokens": [3, 4], "no_repeat_ngram_size": 3},
            "the model's files ask for suppress_tokens=[3, 4], no_repeat_ngram_size=3, which is not applied; to have"
            " them, set sampling.logit_bias: {3: -.inf, 4: -.inf} and no option stands for no_repeat_ngram_size",
        ),
    ],
)
def test_what_is_asked_of_generate_is_told(folder: Path, settings: dict[str, Any], sentence: str | None) -> None:
    (folder / "generation_config.json").write_text(json.dumps(settings))
    said: list[str] = []
    load(folder, said=said)
    assert said == ([] if sentence is None else [sentence])


def test_windows_under_other_names_are_found() -> None:
    config = tiny_model("llama").config
    assert windows_by_other_names(config, ()) == []
    config.keep_window_size = 64
    assert windows_by_other_names(config, ()) == ["keep_window_size=64"]
    assert windows_by_other_names(config, ("keep_*",)) == []
    with pytest.raises(BuildError, match="has keep_window_size=64, and its layers may see less than all keys"):
        check_windows(config, ())
    check_windows(config, ("keep_window_size",))
