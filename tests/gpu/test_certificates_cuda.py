"""On a CUDA device: captured and fused runs are certified in every dtype, greedy and coupled; a lenient one is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.certified import COUPLED, certify
from support.toy import MODEL, prompts

from orthrus_verifiers.coupled import Coupled

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
PROMPTS = [(f"{index}", tokens) for index, tokens in enumerate(prompts(40, seed=4))]


def config(dtype: str, drafter: str, **more: Any) -> dict[str, Any]:
    target = {"name": "transformers", "source": str(MODEL), "dtype": dtype, "device": "cuda", "engine": "auto"}
    parts = {"attention": "split", "cache": "static", "drafter": drafter, "verifier": "coupled"}
    named = {part: {"name": name} for part, name in parts.items()}
    return {"target": target, **named, "stop": {"max_new_tokens": 48}, **more}


@pytest.mark.parametrize("sampling", [{}, {"sampling": COUPLED}], ids=["greedy", "coupled"])
@pytest.mark.parametrize("drafter", ["none", "prompt_lookup", "diffusion"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_honest_runs_are_certified(dtype: str, drafter: str, sampling: dict[str, Any]) -> None:
    for certificate in certify(config(dtype, drafter, **sampling), batches=(1, 8), prompts=PROMPTS):
        assert certificate.passed, (certificate.divergences, certificate.bound)
        assert certificate.narrow or certificate.identical + certificate.ties >= 40


def test_a_verifier_that_keeps_whatever_is_drafted_is_not_certified(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Coupled.verify

    def lenient(self: Coupled, context: Any, draft: Any, logits: Any, chance: Any) -> Any:
        verdict = honest(self, context, draft, logits, chance)
        return type(verdict)(draft.lengths, verdict.next_tokens)

    monkeypatch.setattr(Coupled, "verify", lenient)
    [certificate] = certify(config("bfloat16", "diffusion"), prompts=PROMPTS)
    assert not certificate.passed and "own_logits" in {divergence.check for divergence in certificate.divergences}
