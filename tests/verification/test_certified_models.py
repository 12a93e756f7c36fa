"""Certificates of a tiny trained model on the CPU: honest runs in bfloat16 pass, a broken cache does not; copies."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.building import BACKENDS
from support.certified import COUPLED, Given, Lenient, certify
from support.families import FAMILIES, attention_for, tiny_model
from support.thorough import thorough_but
from support.toy import MODEL, prompts
from torch import Tensor

from orthrus_caches.dynamic import DynamicCache
from orthrus_transformers.model.reference import copied, plain_logits
from orthrus_transformers.target import TransformersTarget

PROMPTS = [(f"{index}", prompt) for index, prompt in enumerate(prompts(4, seed=4))]


def config(dtype: str, drafter: str = "diffusion", engine: str = "eager", cache: str = "dynamic", **more: Any) -> Any:
    target = {"name": "transformers", "source": str(MODEL), "dtype": dtype, "device": "cpu", "engine": engine}
    parts = {"attention": "sdpa", "cache": cache, "drafter": drafter, "verifier": "coupled"}
    named = {part: {"name": name} for part, name in parts.items()}
    return {"target": target, **named, "stop": {"max_new_tokens": 24}, **more}


@pytest.mark.parametrize(
    "sampling", thorough_but([{"sampling": COUPLED}], [{}, {"sampling": COUPLED}]), ids=["greedy", "coupled"]
)
@pytest.mark.parametrize(
    ("engine", "cache"), thorough_but([("fused", "static")], [("eager", "dynamic"), ("fused", "static")])
)
@pytest.mark.parametrize("drafter", thorough_but(["diffusion"], ["none", "prompt_lookup", "diffusion"]))
def test_honest_runs_in_bfloat16_are_certified(drafter: str, engine: str, cache: str, sampling: dict[str, Any]) -> None:
    for certified in certify(config("bfloat16", drafter, engine, cache, **sampling), batches=(1, 3), prompts=PROMPTS):
        assert certified.passed, certified.divergences
        assert certified.certified == len(PROMPTS) and certified.control is not None
        assert 0 <= certified.largest_gap <= certified.bound
        assert 0 < certified.bound < 2 and certified.roundoffs < 20


@pytest.mark.parametrize("sampling", thorough_but([], [{}, {"sampling": COUPLED}]), ids=["greedy", "coupled"])
def test_runs_in_float32_are_identical(sampling: dict[str, Any]) -> None:
    for certified in certify(config("float32", **sampling), batches=(1, 4), prompts=PROMPTS):
        assert certified.passed and certified.identical == len(PROMPTS)
        assert certified.gaps == () or certified.ties > 0


@pytest.mark.parametrize("dtype", thorough_but(["float32"], ["bfloat16", "float32"]))
def test_a_cache_that_loses_the_values_of_anchors_fails(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    update = DynamicCache.update

    def stale(self: DynamicCache, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        if keys.shape[2] > 1 and int(self.lengths.max()) > 20:  # a draft's pass, later than those of the probe
            values = values.clone()
            values[:, :, 0] = 0
        return update(self, keys, values, layer)

    drafted = config(dtype)
    assert all(certificate.passed for certificate in certify(drafted, prompts=PROMPTS))
    monkeypatch.setattr(DynamicCache, "update", stale)
    [certified] = certify(drafted, prompts=PROMPTS)
    assert not certified.passed
    assert {certificate.check for certificate in certified.divergences} <= {"teacher_forced", "logit"}


@pytest.mark.thorough
def test_a_lenient_verifier_fails_on_a_model() -> None:
    plugin = Given(None, verifier=Lenient(4.0))
    lenient = {**config("bfloat16"), "verifier": {"name": "given"}, "drafter": {"name": "given"}}
    [certified] = certify(lenient, plugin, prompts=PROMPTS)
    assert not certified.passed and "own_logits" in {certificate.check for certificate in certified.divergences}
    strict = Given(None, verifier=Lenient(0.0))
    [certified] = certify(lenient, strict, prompts=PROMPTS)
    assert certified.passed


@pytest.mark.parametrize(
    "family", thorough_but(["gemma2", "qwen3_moe"], ["llama", "gpt2", "gemma2", "qwen3_moe", "opt"])
)
def test_a_copy_in_its_own_dtype_is_the_model_to_the_bit_and_leaves_it_alone(family: str) -> None:
    assert family in FAMILIES
    model = tiny_model(family, dtype=torch.float32)
    backend = BACKENDS[attention_for(family)]()
    target = TransformersTarget(model, None, DynamicCache(), backend)
    tokens = list(range(20))
    before = target.logits(tokens, 20)
    assert torch.equal(target.widened(torch.float32)(tokens, 20), before)
    exact = target.widened(torch.float64)(tokens, 20)
    assert exact.dtype == torch.float64
    assert 0 < float((exact - before).abs().max()) < 1e-3
    assert torch.equal(target.logits(tokens, 20), before)


def test_a_copy_has_the_weights_of_the_narrow_model_not_those_it_was_rounded_from() -> None:
    model = tiny_model("llama", dtype=torch.bfloat16)
    wide = copied(model, "sdpa", torch.float32)
    for name, weight in model.state_dict().items():
        assert torch.equal(wide.state_dict()[name], weight.float())
    assert plain_logits(wide, [1, 2, 3], 2).dtype == torch.float32
