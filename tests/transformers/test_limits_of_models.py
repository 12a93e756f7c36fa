"""Limits of what a model's files may do: a template that never ends, packages that would run, JSON without end."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.site import Site
from support.trainable import put_tokenizer, tiny_model

import orthrus
from orthrus import InputError, Location, OrthrusError, Parts
from orthrus_diffusion.training.checkpoints import Checkpoint, Checkpoints
from orthrus_diffusion.view_files.config import read_config
from orthrus_transformers.loading import tokenizer as tokenizer_module
from orthrus_transformers.loading.config_keys import read_json
from orthrus_transformers.loading.sources import package_source
from orthrus_transformers.loading.time_limit import time_limit

PARTS = {"attention": {"name": "sdpa"}, "cache": {"name": "dynamic"}, "drafter": {"name": "none"}}
LOOP = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
DEEP = "[" * 100_000


def test_a_template_that_never_ends_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(tmp_path / "model")
    put_tokenizer(model, template=LOOP)
    target = {"name": "transformers", "source": str(model), "device": "cpu"}
    decoder = orthrus.load({"target": target, **PARTS, "stop": {"max_new_tokens": 1}})
    monkeypatch.setattr(tokenizer_module, "TEMPLATE_SECONDS", 0.2)
    with pytest.raises(InputError, match=r"did not end in 0.2 s and was stopped"):
        decoder.encode("abc")
    assert decoder.encode("abc", chat=False)


def test_what_ends_in_time_is_not_broken() -> None:
    with time_limit(0.05):
        pass
    time.sleep(0.1)


def test_a_package_is_not_imported_and_not_left(site: Site) -> None:
    for folder in ("outer", "outer/inner"):
        (site.folder / folder).mkdir()
        (site.folder / folder / "__init__.py").write_text("raise RuntimeError('it ran')")
    (site.folder / "outer" / "inner" / "model.gguf").write_bytes(b"")
    (site.folder / "beside.gguf").write_bytes(b"")
    fetched = package_source(Location("outer.inner/model.gguf"), Parts()).fetch()
    assert fetched == site.folder / "outer" / "inner" / "model.gguf"
    assert "outer" not in sys.modules
    for location in ("outer/../beside.gguf", "outer//etc/passwd", "outer.missing/model.gguf", "json/x", "outer./x"):
        with pytest.raises(InputError, match=r"package"):
            package_source(Location(location), Parts()).fetch()


@pytest.mark.parametrize("read", [read_json, lambda file: read_config(file.parent)])
def test_json_that_is_nested_too_deep_is_one_sentence(read: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(DEEP)
    with pytest.raises(OrthrusError, match="cannot be read as JSON"):
        read(tmp_path / "config.json")


@pytest.mark.parametrize("manifest", [{"step": 9}, {"step": "2"}, {"step": 2.5}, None])
def test_a_checkpoint_whose_step_was_changed_is_damaged(manifest: Any, tmp_path: Path) -> None:
    told: list[str] = []
    checkpoints = Checkpoints(tmp_path, told.append)
    for step in (1, 2):
        checkpoints.save(Checkpoint(step, {}, {}))
    file = tmp_path / "step-00000002" / "checkpoint.json"
    text = DEEP if manifest is None else json.dumps({**json.loads(file.read_text()), **manifest})
    file.write_text(text)
    last = checkpoints.last()
    assert last is not None
    assert last.step == 1
    assert "is damaged" in told[0]


def test_a_dotted_key_is_an_override_from_python() -> None:
    config = {"target": {"name": "table"}, "cache": {"name": "dynamic"}, "drafter": {"name": "none"}}
    decoder = orthrus.load(config, stop={"min_new_tokens": 2}, **{"stop.max_new_tokens": 5, "seed": 7})
    assert (decoder.stop.max_new_tokens, decoder.stop.min_new_tokens, decoder.seed) == (5, 2, 7)
    with pytest.raises(orthrus.ConfigError, match="unknown option 'most'"):
        orthrus.load(config, **{"stop.most": 5})
