"""A GGUF file's model without transformers, from the second start on: the bits of transformers' model in blocks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from support.gguf_blocks import write_block_model
from support.native import hold_kernels, needs_kernels
from support.thorough import thorough_but
from support.views import block_positions, committed, random_view
from torch import Tensor
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

import orthrus
from orthrus import BuildError, Draft
from orthrus_transformers.loading import model as loading
from orthrus_transformers.model.block_decoder import BlockConfig, BlockDescription, BlockRotary
from orthrus_transformers.native.angles import AngleTable

pytestmark = needs_kernels
PARTS = {"cache": {"name": "dynamic"}, "attention": {"name": "sdpa"}, "drafter": {"name": "none"}}
FAMILIES = {"llama": Kind.Q4_1, "qwen2": Kind.Q8_0, "qwen3": Kind.F16}
PROMPTS = [[1, 2, 3, 4, 5, 6, 7], [4, 2]]


def load(file: Path, **target: Any) -> Any:
    """Return the target of a file in blocks."""
    return orthrus.load({**PARTS, "target": {**_source(file), **target}}).target


def _source(file: Path) -> dict[str, str]:
    return {"name": "transformers", "source": str(file), "dtype": "gguf"}


def hide_transformers(patch: pytest.MonkeyPatch) -> None:
    """Let every import of transformers fail, of what is imported already, too."""
    for name in {"transformers", *(name for name in sys.modules if name.startswith("transformers."))}:
        patch.setitem(sys.modules, name, None)


@pytest.fixture
def file(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    hold_kernels()
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path / "cache"))
    family = getattr(request, "param", "llama")
    return write_block_model(tmp_path / "model.gguf", family, FAMILIES[family])


@pytest.fixture
def wholes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the list of transformers' models that are made from now on."""
    models: list[Any] = []
    real = loading.load_in_blocks
    monkeypatch.setattr(loading, "load_in_blocks", lambda *given: models.append(real(*given)) or models[-1])
    return models


def scored(target: Any, view: bool = False) -> Iterator[Tensor]:
    """Yield the logits of a scored draft, and of a block through a view."""
    block = torch.randint(target.vocabulary_size, (2, 4), generator=torch.Generator().manual_seed(1))
    yield target.score(committed(target, PROMPTS), Draft(block, torch.full((2,), 4)))
    if view:
        random_view(target, "noisy", seed=1)
        context = committed(target, PROMPTS)
        yield target.forward(context, block, block_positions(context, 4), view="noisy")


@pytest.mark.parametrize("file", thorough_but(["llama"], FAMILIES), indirect=True)
def test_the_second_start_gives_the_first_ones_bits(file: Path, wholes: list[Any]) -> None:
    first, second = load(file), load(file)
    assert len(wholes) == 1
    for own, other in zip(scored(first, view=True), scored(second, view=True), strict=True):
        assert torch.equal(own, other)
    for said in ("fingerprint", "pass_identity", "report"):
        assert getattr(first, said)() == getattr(second, said)()
    facts = ("vocabulary_size", "max_length", "stop_token_ids", "capabilities", "hidden_size", "layer_count", "dtype")
    assert [getattr(first, name) for name in facts] == [getattr(second, name) for name in facts]
    assert first.pass_bytes([3, 9]) == second.pass_bytes([3, 9])
    tokens = torch.tensor([[5, 1, 5]])
    assert torch.equal(first.embed(tokens), second.embed(tokens))
    assert torch.equal(first.head(first.embed(tokens)), second.head(second.embed(tokens)))


def test_the_second_start_decodes_without_transformers(file: Path) -> None:
    source = _source(file)
    wanted = orthrus.load({**PARTS, "target": source}).generate(["in the 1"], batch=1)
    with pytest.MonkeyPatch.context() as patch:
        hide_transformers(patch)
        with pytest.raises(ImportError):
            import transformers  # noqa: F401  # the fixture of this test
        results = orthrus.load({**PARTS, "target": source}).generate(["in the 1"], batch=1)
    assert [result.token_ids for result in results] == [result.token_ids for result in wanted]
    assert results[0].text == wanted[0].text


@pytest.mark.thorough
def test_a_process_of_the_second_start_never_imports_transformers(file: Path) -> None:
    load(file, engine="native")
    config = {**PARTS, "target": _source(file)}
    program = (
        "import sys, orthrus\n"
        f"decoder = orthrus.load({config!r})\n"
        "[result] = decoder.generate(['in the 1'])\n"
        "assert decoder.target.report()['layers'] == 'native'\n"
        "print(*(name for name in ('torch', 'transformers', 'gguf', 'torch._dynamo') if name in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=dict(os.environ), timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("torch\n", "")


def test_what_needs_transformers_has_its_model_over_the_same_file(file: Path, wholes: list[Any]) -> None:
    first, second = load(file), load(file)
    assert second.take_back() and len(wholes) == 1
    assert torch.equal(first.logits([1, 2, 3], 2), second.logits([1, 2, 3], 2))
    double = second.widened(torch.float64)([1, 2, 3], 2)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), second.logits([1, 2, 3], 2), rtol=0, atol=1e-3)
    [chunk] = second.text_logits([1, 2, 3], 8)
    torch.testing.assert_close(chunk[-2:], second.logits([1, 2, 3], 2))
    assert second.take_back() and len(wholes) == 2


def test_other_parts_and_engines_have_transformers_model(file: Path, wholes: list[Any]) -> None:
    def made_by(**parts: Any) -> int:
        before = len(wholes)
        orthrus.load({**PARTS, "target": _source(file), **parts})
        return len(wholes) - before

    assert [made_by(), made_by()] == [1, 0]
    assert [made_by(cache={"name": "static"}), made_by(cache={"name": "static"})] == [1, 0]
    assert made_by(target={**_source(file), "engine": "eager"}) == 1


def test_blocks_are_neither_trained_nor_computed_with_on_other_devices(file: Path) -> None:
    assert "training" not in load(file).capabilities
    with pytest.raises(BuildError, match=r"'gguf' computes on a CPU, not on target.device 'meta'; set device=cpu"):
        load(file, device="meta")


ROPES: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default", "rope_theta": 1e5},
    "linear": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
    "llama3": {
        "rope_type": "llama3",
        "rope_theta": 5e5,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 256,
    },
    "yarn": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 256},
}


@pytest.mark.parametrize("rope", ROPES)
def test_angles_have_the_bits_of_transformers(rope: str) -> None:
    config = LlamaConfig(
        hidden_size=128, num_attention_heads=2, max_position_embeddings=1024, rope_parameters=ROPES[rope]
    )
    theirs = LlamaRotaryEmbedding(config)
    description = BlockDescription({}, {}, frozenset(), [], theirs.inv_freq.tolist(), float(theirs.attention_scaling))
    tables = [AngleTable(module, 1024) for module in (theirs, BlockRotary(description))]
    for table in tables:
        table.hold(1000)
    assert torch.equal(tables[0].cosines, tables[1].cosines) and torch.equal(tables[0].sines, tables[1].sines)


def test_a_config_says_what_it_was_told() -> None:
    config: Any = BlockConfig({"model_type": "llama", "vocab_size": 3})
    assert config.get_text_config().vocab_size == 3
    assert config.to_dict() == {"model_type": "llama", "vocab_size": 3}
