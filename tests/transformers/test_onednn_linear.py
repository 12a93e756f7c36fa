"""On a CPU linear layers multiply by oneDNN's kernels: the same to rounding in every family, never by old weights."""

from __future__ import annotations

import copy
import platform
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.building import assert_lossless, decode_with, model_of
from support.drafters import ScriptedDrafter
from support.families import FAMILIES, FEW, VOCABULARY, attention_for, tiny_model
from support.thorough import thorough_but
from support.views import block_positions, committed, random_view
from torch import Tensor

from orthrus import Context, Draft, Stop
from orthrus.testing import greedy
from orthrus_attention.eager import EagerAttention
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_transformers.engines import ENGINES, choice
from orthrus_transformers.kernels import onednn_linear
from orthrus_transformers.kernels.onednn_linear import PackedLinear
from orthrus_transformers.target import TransformersTarget

WIDTH = 5
PROMPTS = [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [4, 2]]
THERE = torch.backends.mkldnn.is_available() and platform.machine() in ("x86_64", "AMD64")
NARROW = [torch.bfloat16] if THERE and torch.ops.mkldnn._is_mkldnn_bf16_supported() else []
DTYPES = [torch.float32, *NARROW]
needs_onednn = pytest.mark.skipif(not THERE, reason="no x86 CPU, or torch.backends.mkldnn.is_available() is false")


@pytest.fixture(autouse=True)
def _without_native(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `auto` choose among the engines that multiply through torch."""
    monkeypatch.setattr(choice, "ENGINES", {name: entry for name, entry in ENGINES.items() if name != "native"})


def target_of(
    family: str, engine: str = "auto", dtype: torch.dtype = torch.float32, model: Any = None
) -> TransformersTarget:
    backend = EagerAttention() if attention_for(family) == "eager" else SdpaAttention()
    model = tiny_model(family, dtype=dtype) if model is None else model
    return TransformersTarget(model, None, DynamicCache(), backend, engine=engine)


def scored(target: TransformersTarget, context: Context | None = None) -> Tensor:
    """Return the logits of a pass over a block after two ragged prompts."""
    context = context or committed(target, PROMPTS)
    return target.score(context, Draft(block_of()[:, 1:], torch.full((2,), WIDTH - 1)))


def block_of() -> Tensor:
    return torch.randint(40, (2, WIDTH), generator=torch.Generator().manual_seed(1))


def viewed(target: TransformersTarget) -> Tensor:
    context = committed(target, PROMPTS)
    return target.forward(context, block_of(), block_positions(context, WIDTH), view="noisy")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[PackedLinear]:
    products, real = [], PackedLinear.__call__
    monkeypatch.setattr(PackedLinear, "__call__", lambda self, inputs: products.append(self) or real(self, inputs))
    return products


@needs_onednn
@given(st.data())
def test_a_product_is_the_linear_layers(data: st.DataObject) -> None:
    dtype, copies = data.draw(st.sampled_from(DTYPES)), data.draw(st.booleans())
    rows, tokens, inputs, outputs = (data.draw(st.integers(1, most)) for most in (3, 40, 70, 70))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    weight, given_, residual, bias = (
        torch.randn(shape, generator=generator).to(dtype)
        for shape in ((outputs, inputs), (rows, tokens, inputs), (rows, tokens, outputs), (outputs,))
    )
    biased = bias if data.draw(st.booleans()) else None
    wanted = given_.double() @ weight.double().t() + (0 if biased is None else biased.double())
    added = residual.double() + wanted
    product = PackedLinear(weight, biased, copies=copies)
    near = {"rtol": 0, "atol": 4 * inputs**0.5 * torch.finfo(dtype).eps * float(1 + added.abs().max())}
    torch.testing.assert_close(product(given_).double(), wanted, **near)
    torch.testing.assert_close(product.add_to(residual.clone(), given_).double(), added, **near)


@pytest.mark.parametrize("copies", [False, True])
def test_a_weight_that_is_changed_is_seen(copies: bool) -> None:
    joined, inputs = torch.randn(6, 8), torch.randn(1, 2, 8)
    part = torch.nn.Parameter(joined[:3], requires_grad=False)  # as an attention's projections are
    product = PackedLinear(joined, copies=copies)
    before = product(inputs)
    part.copy_(part + 1)
    after = product(inputs)
    torch.testing.assert_close(
        after,
        before
        + torch.cat([inputs.sum(-1, keepdim=True).expand(1, 2, 3)] * 2, -1) * torch.tensor([1.0] * 3 + [0.0] * 3),
    )


@needs_onednn
@pytest.mark.parametrize("family", thorough_but(FEW, FAMILIES))
def test_passes_of_every_family_are_the_models_own_to_rounding(family: str, counted: list[PackedLinear]) -> None:
    own = target_of(family, "eager")
    assert own.report() == {"layers": "own"}
    wanted = scored(own)
    assert not counted
    target = target_of(family)
    counted.clear()  # of the probe at loading
    logits = scored(target)
    assert counted
    torch.testing.assert_close(logits, wanted, rtol=0, atol=2e-4 * float(wanted.std()))
    assert torch.equal(target.logits(PROMPTS[0], 3), own.logits(PROMPTS[0], 3))


@needs_onednn
@pytest.mark.parametrize("family", thorough_but(["gemma3_text", "phi3"], ["llama", "gemma3_text", "phi3", "qwen3"]))
def test_weights_of_a_view_that_change_are_seen(family: str, counted: list[PackedLinear]) -> None:
    target = target_of(family)
    random_view(target, "noisy", seed=1)
    plain = scored(target)
    before = viewed(target)
    counted.clear()
    for weight in target.view_weights("noisy").values():
        weight.mul_(1.5)
    after = viewed(target)
    assert counted and not torch.allclose(before, after)
    fresh = target_of(family)
    fresh.attach_view("noisy", target.view_weights("noisy"))
    assert torch.equal(after, viewed(fresh))
    assert torch.equal(plain, scored(target))
    own = target_of(family, "eager")
    own.attach_view("noisy", target.view_weights("noisy"))
    wanted = viewed(own)
    torch.testing.assert_close(after, wanted, rtol=0, atol=1e-3 * float(wanted.std()))


@needs_onednn
def test_a_model_in_a_second_target_is_multiplied_by_once(counted: list[PackedLinear]) -> None:
    model = tiny_model("gemma2", dtype=torch.float32)
    first = target_of("gemma2", model=model)
    scored(first)
    once = len(counted)
    counted.clear()
    second = target_of("gemma2", model=model)
    counted.clear()
    scored(second)
    assert 0 < len(counted) <= once


@needs_onednn
def test_a_large_models_weights_are_not_held_twice(
    monkeypatch: pytest.MonkeyPatch, counted: list[PackedLinear]
) -> None:
    most = onednn_linear.MOST_BYTES
    monkeypatch.setattr(onednn_linear, "MOST_BYTES", 1000)
    target = target_of("llama")
    scored(target)
    assert counted and not any(layer.holds_copy for layer in counted)
    wanted = scored(target)
    monkeypatch.setattr(onednn_linear, "MOST_BYTES", most)
    other = target_of("llama")
    assert other.report() == {"layers": "fused"}
    counted.clear()
    torch.testing.assert_close(scored(other), wanted, rtol=0, atol=1e-4)
    assert counted and all(layer.holds_copy for layer in counted)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_models_stay_their_own_where_onednn_has_nothing_for_them(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert target_of(family, dtype=torch.float64).report() == {"layers": "own"}
    monkeypatch.setattr(torch._C, "_has_mkldnn", False)
    assert target_of(family).report() == {"layers": "own"}


@needs_onednn
@pytest.mark.parametrize("family", thorough_but(["lfm2"], ["llama", "gemma2", "lfm2"]))
def test_text_in_float32_is_the_models_own(family: str, counted: list[PackedLinear]) -> None:
    # As wide as products of oneDNN round otherwise than those of the model itself.
    model = tiny_model(family, dtype=torch.float32, hidden_size=256, intermediate_size=512, num_hidden_layers=4)
    own, chooser, stop = copy.deepcopy(model), random.Random(family), Stop(12)

    def next_logits(tokens: list[int]) -> Tensor:
        with torch.no_grad():
            logits: Tensor = own(torch.tensor([tokens]), use_cache=False).logits
        return logits[0, -1]

    prompts = [[chooser.randrange(VOCABULARY) for _ in range(length)] for length in (3, 17, 1, 8)]
    answers = [greedy(next_logits, prompt, stop) for prompt in prompts]
    drafter = ScriptedDrafter([answer.token_ids for answer in answers], VOCABULARY, 0.7, [0, 3, 7])
    assert_lossless(decode_with(target_of(family, model=model), drafter, prompts, stop, batch=2), answers)
    assert counted


@needs_onednn
@pytest.mark.parametrize("change", ["in place", "another tensor"])
def test_changes_are_told_by_versions_and_places(change: str) -> None:
    weight, inputs = torch.nn.Parameter(torch.randn(4, 8), requires_grad=False), torch.randn(2, 8)
    product = PackedLinear(weight, copies=True)
    before = product(inputs)
    if change == "in place":
        weight.mul_(2)
    else:
        weight.data = 2 * weight.data
    torch.testing.assert_close(product(inputs), 2 * before)


@needs_onednn
@pytest.mark.parametrize("engine", ["auto", "eager"])
@pytest.mark.parametrize("family", ["llama", "gemma2", "lfm2"])
def test_a_deep_copy_computes_with_its_own_weights(family: str, engine: str) -> None:
    target = target_of(family, engine)
    random_view(target, "noisy")
    model = copy.deepcopy(model_of(target))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.1)
    fresh = tiny_model(family, dtype=torch.float32)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(scored(target_of(family, engine, model=model)), scored(target_of(family, engine, model=fresh)))


@needs_onednn
def test_a_layer_that_was_given_another_weight_multiplies_by_it() -> None:
    target = target_of("gemma2")
    before = scored(target)
    head = model_of(target).lm_head
    head.weight = torch.nn.Parameter(head.weight.detach().flip(0), requires_grad=False)
    assert not torch.allclose(scored(target), before)


@needs_onednn
def test_a_foreign_forward_outlasts_targets() -> None:
    calls: list[int] = []
    model = tiny_model("llama", dtype=torch.float32)
    layer = model.model.layers[1]
    vars(layer)["forward"] = noted(layer.forward, calls)
    for _ in range(2):  # a second target on the same model, too
        target = target_of("llama", model=model)
        calls.clear()
        scored(target)
        assert len(calls) == 2


@needs_onednn
@pytest.mark.parametrize("module_name", ["model.layers.1.self_attn.o_proj", "model.layers.1.mlp", "lm_head"])
@pytest.mark.parametrize("foreign", ["hook", "forward"])
def test_hooks_of_others_are_called(foreign: str, module_name: str) -> None:
    calls: list[int] = []
    model = tiny_model("llama", dtype=torch.float32)
    module = model.get_submodule(module_name)
    if foreign == "hook":
        module.register_forward_hook(lambda *given: calls.append(1))
    else:
        vars(module)["forward"] = noted(module.forward, calls)
    target = target_of("llama", model=model)
    calls.clear()
    scored(target)
    assert len(calls) == 2  # the prefill, and the pass


def noted(own: Callable[..., Any], calls: list[int]) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return own(*args, **kwargs)

    return forward


@needs_onednn
def test_where_memory_is_short_nothing_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> Tensor:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory")

    weight, inputs = torch.randn(4, 8), torch.randn(2, 8)
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", full)
    product = PackedLinear(weight, copies=True)
    with pytest.warns(UserWarning, match="memory does not hold the weights twice"):
        multiplied = product(inputs)
    torch.testing.assert_close(multiplied, inputs @ weight.t())
    torch.testing.assert_close(product(inputs), multiplied)
