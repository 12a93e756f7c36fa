"""Lossy caches and attentions are called lossy, by name, where rounding in 16 bits would hide them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.building import BACKENDS
from support.certified import certify
from support.thorough import nightly_but
from support.toy import MODEL, prompts
from torch import Tensor

from orthrus import Plugins, Register, hookimpl
from orthrus.cli.verify_table import print_runs
from orthrus.config.schema import load_config
from orthrus.verification.lossy_parts import LossyPart, lossy_parts
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache

PROMPTS = [(f"{index}", prompt) for index, prompt in enumerate(prompts(4, seed=4))]
CPU = torch.device("cpu")


class Quantized(DynamicCache):
    """Hold numbers of a head in so many steps, as caches of few bits do; the newest, if `behind`, as they are."""

    def __init__(self, levels: int = 127, behind: int = 0) -> None:
        super().__init__()
        self._levels, self._behind = levels, behind

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        if not self._behind:
            return super().update(self._coarse(keys), self._coarse(values), layer)
        held = super().update(keys, values, layer)
        old = max(0, held[0].shape[2] - self._behind)
        return tuple(torch.cat([self._coarse(states[:, :, :old]), states[:, :, old:]], 2) for states in held)  # type: ignore[return-value]

    def _coarse(self, states: Tensor) -> Tensor:
        step = states.abs().amax(-1, keepdim=True).clamp(min=1e-9) / self._levels
        return (states / step).round() * step


class Coarse(SdpaAttention):
    """Round the output to so many steps for each 1."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, prepared: Any, **how: Any) -> Tensor:
        return (super().attend(query, key, value, prepared, **how) * 64).round() / 64


class LossyParts:
    @hookimpl
    def register_caches(self, register: Register) -> None:
        register("rounding", lambda options, parts: Quantized())
        register("rounding_behind", lambda options, parts: Quantized(behind=128))

    @hookimpl
    def register_attention_backends(self, register: Register) -> None:
        register("coarse", lambda options, parts: Coarse())


def config(dtype: str = "bfloat16", cache: str = "dynamic", attention: str = "sdpa") -> dict[str, Any]:
    target = {"name": "transformers", "source": str(MODEL), "dtype": dtype, "device": "cpu", "engine": "eager"}
    parts = {"attention": attention, "cache": cache, "drafter": "prompt_lookup", "verifier": "coupled"}
    named = {part: {"name": name} for part, name in parts.items()}
    return {"target": target, **named, "stop": {"max_new_tokens": 24}}


def named(dtype: torch.dtype, **parts: str) -> list[tuple[str, str]]:
    checked = load_config(config(**parts), [], Plugins.load([LossyParts()]))
    return [(part.kind, part.name) for part in lossy_parts(checked, CPU, dtype)]


def test_a_quantising_cache_is_called_lossy_though_its_tokens_pass(capsys: pytest.CaptureFixture[str]) -> None:
    (certificate,) = certify(config(cache="rounding"), LossyParts(), prompts=PROMPTS)  # type: ignore[arg-type]
    assert certificate.certified == certificate.prompts  # no token is more off than rounding explains
    assert not certificate.passed
    assert [(part.kind, part.name) for part in certificate.lossy] == [("cache", "rounding")]
    print_runs([certificate])
    assert "cache 'rounding' is lossy: of keys and values about 1 it returns some" in capsys.readouterr().out
    assert certificate.to_dict()["lossy"][0]["name"] == "rounding"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_part_that_is_to_blame_is_named(dtype: torch.dtype) -> None:
    assert named(dtype, cache="rounding") == [("cache", "rounding")]
    assert named(dtype, cache="rounding_behind") == [("cache", "rounding_behind")]
    assert named(dtype, attention="coarse") == [("attention", "coarse")]
    assert named(dtype, cache="rounding", attention="coarse") == [("cache", "rounding"), ("attention", "coarse")]


PARTS = [(cache, attention) for cache in ("dynamic", "paged", "static") for attention in (*BACKENDS, "flex")]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("cache", "attention"), nightly_but([("static", "sdpa"), ("dynamic", "eager")], PARTS, thorough=[PARTS[-1]])
)
def test_honest_parts_are_not(cache: str, attention: str, dtype: torch.dtype) -> None:
    if (attention, dtype) != ("flex", torch.float64):  # which it does not compute in
        assert named(dtype, cache=cache, attention=attention) == []


def test_a_part_says_what_is_wrong_with_it() -> None:
    assert str(LossyPart("cache", "small", "it forgets")) == "cache 'small' is lossy: it forgets"
