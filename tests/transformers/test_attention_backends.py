"""Attention backends by name: where each is found, what is said where it is not, and what does not go together."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers.utils
from support import flash_kernels
from support.building import assert_lossless, decode_with, target_oracle
from support.drafters import ScriptedDrafter
from support.families import VOCABULARY, tiny_model
from support.program import CONFIGS, InProcess

from orthrus import AttentionCapabilities, BuildError, MaskDescription, Parts, Plugins, Stop
from orthrus_attention import flash_packages
from orthrus_attention.flash_packages import FOUR, THREE, TWO, Package
from orthrus_attention.flex import FlexAttention
from orthrus_attention.sdpa import SdpaAttention
from orthrus_attention.split_kv import SplitAttention, split_count
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.static import StaticCache
from orthrus_transformers.target import TransformersTarget

RUN = ["run", "--config", CONFIGS / "recipes" / "smollm2-plain.yaml", "--prompt", "a"]


def made(name: str) -> Any:
    return Plugins.load().get("attention", name).load_factory()(None, Parts())


@pytest.mark.parametrize("package", [TWO, THREE, FOUR], ids=lambda package: package.name)
def test_a_package_that_is_not_there_is_named(package: Package, orthrus: InProcess) -> None:
    if getattr(transformers.utils, package.check)():
        pytest.skip(f"{package.package} is installed")
    sentence = orthrus(*RUN, f"attention.name={package.name}").error()
    assert sentence.startswith(f"attention '{package.name}' needs the package {package.package} ({package.install})")
    assert sentence.endswith("set attention.name=split or sdpa")


@pytest.mark.skipif(torch.backends.cuda.is_flash_attention_available(), reason="torch has the kernels")
def test_torch_without_the_kernels_is_told(orthrus: InProcess) -> None:
    assert "its FlashAttention kernels; set attention.name=sdpa" in orthrus(*RUN, "attention.name=flash").error()


@pytest.mark.parametrize("package", [TWO, THREE, FOUR], ids=lambda package: package.name)
def test_a_package_is_found_as_transformers_finds_it(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(package.module)
    setattr(module, package.function, flash_kernels.with_lengths)
    for name in {package.module, package.module.partition(".")[0]}:
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(transformers.utils, package.check, lambda: True)
    assert made(package.name).function is flash_kernels.with_lengths
    delattr(module, package.function)  # an older package than the one that this was written for
    with pytest.raises(BuildError, match=f"needs the package {package.package} "):
        made(package.name)


def test_without_transformers_the_package_is_still_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers.utils", None)
    with pytest.raises(BuildError, match="needs the package flash-attn "):
        flash_packages.make_2(None, Parts())


@pytest.mark.thorough
def test_flex_gives_the_oracles_tokens() -> None:
    model, stop = tiny_model("mistral", dtype=torch.float32, head_dim=16), Stop(9)  # it has a window
    target = TransformersTarget(model, None, StaticCache(slots=16), FlexAttention())
    prompts = [[1, 2, 3], [4] * 11]
    answers = [target_oracle(target)(prompt, stop) for prompt in prompts]
    drafter = ScriptedDrafter([answer.token_ids for answer in answers], VOCABULARY, 0.7, [0, 3])
    assert_lossless(decode_with(target, drafter, prompts, stop), answers)


class Lacking(SdpaAttention):
    """Attention that declares less than it can."""

    def __init__(self, **lacks: Any) -> None:
        self.capabilities = replace(AttentionCapabilities(), **lacks)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("lacks", "family", "sentence"),
    [
        ({"windows": False}, "mistral", "the model has layers with a window of 8 keys, which attention Lacking cannot"),
        ({"devices": frozenset({"cuda"})}, "llama", "attention Lacking runs on cuda, not on cpu"),
        ({"dtypes": frozenset({"float16"})}, "llama", "attention Lacking computes in float16, not in float64"),
        ({"head_sizes": frozenset({16, 64})}, "llama", "attention Lacking takes heads of 16, 64, not of 8"),
        ({"kinds": frozenset({"block"})}, "llama", "attention Lacking has no causal masks"),
    ],
)
def test_a_model_that_needs_more_is_refused(lacks: dict[str, Any], family: str, sentence: str) -> None:
    with pytest.raises(BuildError, match=sentence):
        TransformersTarget(tiny_model(family), None, DynamicCache(), Lacking(**lacks))


def test_a_model_without_windows_needs_none() -> None:
    TransformersTarget(tiny_model("llama"), None, DynamicCache(), Lacking(windows=False))


@pytest.mark.parametrize(
    ("heads", "tiles", "slots", "rows", "splits"),
    [
        (96, 1, 1024, 64, 1),
        (48, 2, 300, 128, 1),
        (95, 1, 1024, 64, 5),
        (96, 1, 1025, 64, 5),
        (1, 1, 1024, 64, 16),
        (1, 1, 9000, 64, 64),
        (300, 2, 9000, 128, 1),
        (1, 1, 40, 64, 1),
        (8, 5, 1024, 288, 6),
        (8, 5, 16_384, 288, 6),
        (8, 4, 16_384, 129, 8),
        (8, 4, 16_384, 128, 16),
    ],
)
def test_split_splits_unless_the_programs_are_enough(
    heads: int, tiles: int, slots: int, rows: int, splits: int
) -> None:
    assert split_count(heads, tiles, slots, rows) == splits


def test_split_reads_positions_one_row_after_the_other() -> None:
    # A chunk of a prefill is a part of wider rows; the kernel counts places in whole rows.
    positions = torch.arange(20).view(2, 10)[:, 4:8]
    assert not positions.is_contiguous()
    prepared = SplitAttention().prepare(MaskDescription("causal", positions, torch.zeros(2), 10), None, torch.float32)
    assert prepared.positions.is_contiguous()
    assert torch.equal(prepared.positions, positions)
