"""Python code that lies in a model's folder: without `trust_remote_code` it never runs, and nobody is asked."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from support.families import tiny_model

import orthrus

MARK = "the code ran"
CODE = """open({mark!r}, "w").close()
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class C(LlamaConfig):
    model_type = "theirs"
class M(LlamaForCausalLM):
    config_class = C
class T(PreTrainedTokenizerFast):
    pass
"""
PARTS = {"attention": {"name": "sdpa"}, "cache": {"name": "dynamic"}, "drafter": {"name": "none"}}
MODEL = {"AutoConfig": "theirs.C", "AutoModelForCausalLM": "theirs.M"}
SIZES = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}


def theirs(folder: Path, **config: Any) -> None:
    settings = {**SIZES, "model_type": "theirs", "auto_map": MODEL, **config}
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")


def random_weights(folder: Path) -> None:
    theirs(folder, random_weights_seed=1)


def stored_weights(folder: Path) -> None:
    theirs(folder)
    save_file({"lm_head.weight": tiny_model().lm_head.weight.detach().clone()}, folder / "model.safetensors")


def tokenizer_only(folder: Path) -> None:
    tiny_model().save_pretrained(folder)
    names = {"tokenizer_class": "Theirs", "auto_map": {"AutoTokenizer": ["theirs.T", "theirs.T"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")


@pytest.mark.parametrize("lay_out", [random_weights, stored_weights, tokenizer_only])
def test_code_of_a_folder_is_refused_whatever_stdin_says(lay_out: Any, tmp_path: Path, monkeypatch: Any) -> None:
    mark = tmp_path / MARK
    lay_out(tmp_path)
    (tmp_path / "theirs.py").write_text(CODE.format(mark=str(mark)), encoding="utf-8")
    said = io.StringIO("y\n" * 5)
    monkeypatch.setattr(sys, "stdin", said)
    with pytest.raises(orthrus.OrthrusError):
        orthrus.load({"target": {"name": "transformers", "source": str(tmp_path), "device": "cpu"}, **PARTS})
    assert not mark.exists()
    assert said.tell() == 0  # not a letter was read


def test_random_weights_run_the_folders_code_where_it_is_trusted(tmp_path: Path, monkeypatch: Any) -> None:
    mark = tmp_path / MARK
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    random_weights(tmp_path)
    (tmp_path / "theirs.py").write_text(CODE.format(mark=str(mark)), encoding="utf-8")
    target = {"name": "transformers", "source": str(tmp_path), "device": "cpu", "trust_remote_code": True}
    decoder = orthrus.load({"target": target, **PARTS, "stop": {"max_new_tokens": 2}})
    assert mark.exists()
    assert len(decoder.generate([[1, 2]])[0].token_ids) == 2
