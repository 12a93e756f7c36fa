"""The source `shape:`: the published sizes, and a text that rounding does not change."""

from __future__ import annotations

import itertools
import json
import random
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hatchling.builders.wheel import WheelBuilder
from support.program import ROOT, InProcess
from support.shapes import tiny
from support.thorough import nightly_but
from transformers import AutoConfig, AutoModelForCausalLM

import orthrus
from orthrus import BuildError, Decoder
from orthrus_transformers.loading import random_weights
from orthrus_transformers.loading.sources import SHAPES, shape_names

PARAMETERS = {  # as their model cards count them; a tied head once
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.2-1b": 1_235_814_400,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
}
PROMPTS = [[random.Random(seed).randrange(500) for _ in range(length)] for seed, length in enumerate((40, 3, 17))]
NEW = 60


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Keep to one thread: on a busy machine tiny bfloat16 passes wait for a second one longer than they take."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def load(folder: Path, drafter: dict[str, Any], dtype: str = "bfloat16", engine: str = "eager") -> Decoder:
    target = {"name": "transformers", "source": f"path:{folder}", "dtype": dtype, "device": "cpu", "engine": engine}
    parts = {"attention": {"name": "sdpa"}, "cache": {"name": "static"}, "verifier": {"name": "consensus"}}
    return orthrus.load({"target": target, "drafter": drafter, **parts, "stop": {"max_new_tokens": NEW}})


def test_the_shapes_are_those_with_a_known_size() -> None:
    assert shape_names() == list(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_shape_has_the_published_number_of_parameters_and_room_for_a_long_context(name: str) -> None:
    config = AutoConfig.from_pretrained(SHAPES / name)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]
    assert model.dtype == torch.bfloat16
    assert config.max_position_embeddings >= 65_536
    assert random_weights.wants_random_weights(SHAPES / name)


CASES = list(itertools.product(["qwen3-8b", "smollm2-135m", "llama-3.2-1b", "llama-3.1-8b"], ["eager", "fused"]))
WHOLE = [("qwen3-8b", "eager"), ("smollm2-135m", "fused")]  # own norms of queries; a head that is tied


@pytest.mark.parametrize(("shape", "engine"), nightly_but([("qwen3-8b", "fused")], CASES, thorough=WHOLE))
def test_wide_and_narrow_passes_give_the_same_text_in_bfloat16(shape: str, engine: str, tmp_path: Path) -> None:
    folder = tiny(tmp_path, shape)
    plain = load(folder, {"name": "none"}, engine=engine).generate(PROMPTS, batch=1)
    replay = load(folder, {"name": "replay", "block": 16, "acceptance": 0.8}, engine=engine)
    for batch in (3, 3, 1):
        results = replay.generate(PROMPTS, batch=batch)
        assert [result.token_ids for result in results] == [result.token_ids for result in plain]
    assert all(result.measures.cycles < NEW / 3 for result in results)
    step = 0 if json.loads((folder / "config.json").read_text())["tie_word_embeddings"] else 1
    for prompt, result in zip(PROMPTS, plain, strict=True):  # it repeats, or counts
        assert list(result.token_ids) == [(prompt[-1] + step * (1 + index)) % 500 for index in range(NEW)]


def gaps(decoder: Decoder) -> float:
    """Return the least distance of the best two logits over some texts, in deviations of all logits."""
    least = []
    for prompt, result in zip(PROMPTS, decoder.generate(PROMPTS), strict=True):
        logits = decoder.target.logits([*prompt, *result.token_ids], NEW).float()
        best = logits.topk(2).values
        least.append(((best[:, 0] - best[:, 1]) / logits.std(-1)).min())
    return float(min(least))


@pytest.mark.thorough
def test_the_next_token_stands_far_above_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny(tmp_path, "qwen3-8b")
    assert gaps(load(folder, {"name": "none"})) > 2.5  # with 64 dimensions; with 576 it is 10
    monkeypatch.setattr(random_weights, "SMALL", 10.0)  # layers that add much
    assert gaps(load(folder, {"name": "none"})) < 0.1


def test_the_weights_are_those_of_the_seed(tmp_path: Path) -> None:
    def logits(**changes: Any) -> torch.Tensor:
        target = load(tiny(tmp_path / "one", "qwen3-8b", **changes), {"name": "none"}, "float32").target
        return target.logits([1, 2, 3], 3)

    first = logits()
    assert torch.equal(first, logits())
    assert not torch.equal(first, logits(random_weights_seed=1))


def test_a_shape_has_no_tokenizer_and_no_end_token(tmp_path: Path) -> None:
    target = load(tiny(tmp_path, "llama-3.2-1b"), {"name": "none"}).target
    assert target.tokenizer is None
    assert target.stop_token_ids == frozenset()
    assert (target.vocabulary_size, target.max_length) == (500, 131_072)


def test_dtype_auto_is_the_shapes_own(tmp_path: Path) -> None:
    folder = tiny(tmp_path, "qwen3-8b")
    assert load(folder, {"name": "none"}, dtype="auto").target.logits([1], 1).dtype == torch.bfloat16


def test_weights_that_are_there_are_loaded(tmp_path: Path) -> None:
    folder = tiny(tmp_path, "qwen3-8b", random_weights_seed=3)
    model = random_weights.make_random_model(folder, torch.float32, torch.device("cpu"))
    model.model.norm.weight.data.mul_(2)
    model.save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["random_weights_seed"] == 3
    with torch.no_grad():
        wanted = model(torch.tensor([[1, 2]])).logits[0]
    torch.testing.assert_close(load(folder, {"name": "none"}, "float32").target.logits([1, 2], 2), wanted)


def test_a_config_that_makes_no_model_is_refused(tmp_path: Path) -> None:
    folder = tiny(tmp_path, "qwen3-8b", model_type="nonsense")
    with pytest.raises(BuildError, match=r"no model can be made from '.+config\.json' \(ValueError: "):
        load(folder, {"name": "none"})


def test_an_unknown_shape_is_one_sentence(orthrus: InProcess) -> None:
    error = orthrus("fetch", "shape:qwen3-8c").error()
    known = ", ".join(PARAMETERS)
    assert error == f"target.source: unknown shape 'qwen3-8c' (did you mean 'qwen3-8b'?); known: {known}"
    assert "did you mean" not in orthrus("fetch", "shape:").error()


def test_the_documentation_names_them_all() -> None:
    section = (
        (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8").partition("### Shapes\n")[2]
    )
    named = re.findall(r"`([a-z]+[\d.]*-[\d.a-z-]+)`", section.partition("\n#")[0])
    assert sorted(named) == shape_names()


def test_fetch_shows_where_a_shape_is(orthrus: InProcess) -> None:
    assert orthrus("fetch", "shape:qwen3-8b").out.strip() == str(SHAPES / "qwen3-8b")


@pytest.mark.thorough
def test_the_wheel_has_the_shapes(tmp_path: Path) -> None:
    [wheel] = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"orthrus_transformers/loading/shapes/{name}/config.json" for name in PARAMETERS} <= set(names)
