"""The last norm has a fused form, as layers do; and passes over prompts are told from those of a cycle."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.families import tiny_model
from torch import Tensor

from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.static import StaticCache
from orthrus_transformers.engines.forward_pass import ForwardPass
from orthrus_transformers.model import fused_layer, fused_layers
from orthrus_transformers.model.patching import PatchedForward
from orthrus_transformers.target import TransformersTarget


def target_of(model: Any) -> TransformersTarget:
    target = TransformersTarget(model, None, StaticCache(slots=16), SdpaAttention(), engine="fused")
    target.cache.start(1, torch.device("cpu"))
    return target


def run(target: TransformersTarget, prefill: bool) -> Tensor:
    slots = torch.arange(3)[None] if prefill else None
    with torch.no_grad():
        return target.engine.run(
            ForwardPass(torch.tensor([[1, 2, 3]]), torch.zeros(1, dtype=torch.int64), 3, 3, slots=slots)
        )


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_it_is_fused_in_passes_that_ask_and_the_models_own_elsewhere(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(family)
    wanted = model(torch.tensor([[1, 2, 3]])).logits
    target, seen = target_of(model), []
    real = fused_layers.rms_norm
    for module in (fused_layer, fused_layers):  # the layers', and the last one's
        monkeypatch.setattr(module, "rms_norm", lambda hidden, *rest: seen.append(hidden) or real(hidden, *rest))
    torch.testing.assert_close(run(target, prefill=False), wanted, rtol=0, atol=1e-5)
    assert len(seen) == 2 * model.config.num_hidden_layers + 1
    with target.own_model() as own:
        assert torch.equal(own(torch.tensor([[1, 2, 3]])).logits, wanted)
    assert len(seen) == 2 * model.config.num_hidden_layers + 1


def test_one_that_somebody_watches_is_left_alone() -> None:
    model = tiny_model("llama")
    model.model.norm.register_forward_hook(lambda *given: None)
    target_of(model)
    assert not isinstance(model.model.norm.forward, PatchedForward)
    assert isinstance(model.model.layers[0].forward, PatchedForward)


@pytest.mark.parametrize("prefill", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_layers_know_a_prefill_while_it_runs(prefill: bool, fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    target, seen = target_of(model), []
    state = model.orthrus_attention
    attend = state.backend.attend

    def noted(*given: Any, **more: Any) -> Tensor:
        seen.append(state.prefill)
        if fails:
            raise RuntimeError("planted")
        return attend(*given, **more)

    monkeypatch.setattr(state.backend, "attend", noted)
    if fails:
        with pytest.raises(RuntimeError, match="planted"):
            run(target, prefill)
    else:
        run(target, prefill)
    assert set(seen) == {prefill}
    assert state.prefill is False
