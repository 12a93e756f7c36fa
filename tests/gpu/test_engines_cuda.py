"""On a CUDA device: what the engines are bounded by, what they say, and what they leave behind."""

from __future__ import annotations

import gc
import random
import warnings
from typing import Any

import pytest
import torch
from support.building import assert_lossless, decode_with, model_of, target_oracle
from support.families import VOCABULARY, tiny_model

from orthrus import BuildError, InputError, MaskDescription, Stop
from orthrus.kernels import skinny_linear
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.static import StaticCache
from orthrus_drafters.none import NoDrafter
from orthrus_transformers.engines.cuda_graphs import GraphedEngine
from orthrus_transformers.engines.forward_pass import ForwardPass
from orthrus_transformers.engines.graph_limits import GraphLimits
from orthrus_transformers.target import TransformersTarget

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
PROMPTS = [[5, 6, 7], [8]]


def target_of(family: str, engine: str, limits: GraphLimits | None = None, **sizes: Any) -> TransformersTarget:
    model = tiny_model(family, dtype=sizes.pop("dtype", torch.float32), **sizes).cuda()
    return TransformersTarget(model, None, StaticCache(slots=64), SdpaAttention(), engine=engine, limits=limits)


def wide_model(family: str) -> Any:
    """Return a model in the sizes that the narrow kernels take."""
    sizes = {"hidden_size": 192, "intermediate_size": 256, "head_dim": 32}
    return tiny_model(family, dtype=torch.float32, **sizes).cuda()


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral"])
@pytest.mark.parametrize("tokens", [1, 7, 16, 17, 32, 33, 48, 90])
def test_narrow_layers_equal_the_models_own_up_to_rounding(family: str, tokens: int) -> None:
    exact = wide_model(family).double()
    rounded = wide_model(family).bfloat16()
    ids = torch.arange(tokens, device="cuda")[None] % VOCABULARY
    wanted = exact(ids).logits[0]
    own = rounded(ids).logits[0]  # bfloat16, as transformers computes it
    target = TransformersTarget(rounded, None, StaticCache(slots=64), SdpaAttention(), engine="fused")
    assert skinny_linear.fits(
        torch.empty(1, tokens, 192, device="cuda", dtype=torch.bfloat16),
        (rounded.model.layers[0].mlp.up_proj.weight,),
        32,
    )
    target.cache.start(1, torch.device("cuda"))
    with torch.no_grad():
        got = target.engine.run(ForwardPass(ids, torch.zeros(1, dtype=torch.int64, device="cuda"), tokens, tokens))[0]
    error, usual = ((logits.double() - wanted.double()).abs().max() for logits in (got, own))
    assert float(error) < 3 * float(usual) + 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_angles_that_are_looked_up_are_the_models_to_the_bit(family: str, dtype: torch.dtype) -> None:
    rotary = tiny_model(family, dtype=dtype).cuda().model.rotary_emb
    target = target_of(family, "fused", dtype=dtype)
    hidden = torch.zeros(2, 3, 32, device="cuda", dtype=dtype)
    for first in range(0, 96, 3):
        positions = torch.tensor([[first, first + 1, first + 2], [0, 95 - first, 95]], device="cuda")
        with model_of(target).orthrus_attention.run(
            MaskDescription("causal", positions, positions[:, 0], 96), form="fused"
        ):
            looked_up = model_of(target).model.rotary_emb(hidden, position_ids=positions)
        assert all(map(torch.equal, looked_up, rotary(hidden, position_ids=positions)))
        assert looked_up[0].data_ptr() != looked_up[1].data_ptr()


@pytest.mark.parametrize("tokens", [1, 16, 17, 32, 33, 100, 160])
def test_the_narrow_head_equals_a_product_up_to_rounding(tokens: int) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(1, tokens, 96, device="cuda", dtype=torch.bfloat16)
    weight = torch.randn(256, 96, device="cuda", dtype=torch.bfloat16)
    assert skinny_linear.fits_head(hidden, weight)
    wanted = hidden.double() @ weight.double().t()
    torch.testing.assert_close(skinny_linear.project(hidden, weight).double(), wanted, rtol=1e-2, atol=1e-2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own imports
@pytest.mark.parametrize("family", ["gemma2", "gpt2", "phi3", "llama"])
def test_compiled_layers_give_the_oracles_tokens(family: str) -> None:
    target = target_of(family, "compiled") if family != "gemma2" else None
    if target is None:
        from orthrus_attention.eager import EagerAttention

        model = tiny_model(family, dtype=torch.float32).cuda()
        target = TransformersTarget(model, None, StaticCache(slots=64), EagerAttention(), engine="compiled")
    chooser, stop = random.Random(family), Stop(20)
    prompts = [[chooser.randrange(VOCABULARY) for _ in range(length)] for length in (3, 15, 1)]
    answers = [target_oracle(target)(prompt, stop) for prompt in prompts]
    assert_lossless(decode_with(target, NoDrafter(), prompts, stop, batch=3), answers)


def test_auto_runs_uncaptured_what_cannot_be_captured_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    target = target_of("llama", "auto")
    forward = model_of(target).lm_head.forward

    def reading(hidden: torch.Tensor) -> torch.Tensor:
        float(hidden.sum())  # a host sync, which a capture does not allow
        return forward(hidden)  # type: ignore[no-any-return]

    monkeypatch.setattr(model_of(target).lm_head, "forward", reading)
    answers = [target_oracle(target)(prompt, Stop(8)) for prompt in PROMPTS]
    with pytest.warns(UserWarning, match="cannot be captured as CUDA graphs") as said:
        assert_lossless(decode_with(target, NoDrafter(), PROMPTS, Stop(8)), answers)
        assert_lossless(decode_with(target, NoDrafter(), PROMPTS, Stop(8)), answers)
    assert len(said) == 1
    assert target.engine.report()["captured"] is False
    strict = target_of("llama", "graphed")
    monkeypatch.setattr(model_of(strict).lm_head, "forward", reading)
    with pytest.raises(BuildError, match="set engine=auto"):
        decode_with(strict, NoDrafter(), PROMPTS, Stop(8))


def test_a_pass_over_the_limit() -> None:
    strict = target_of("llama", "graphed", GraphLimits(tokens=1, strict=True))
    with pytest.raises(InputError, match=r"over target\.graph_tokens, 1; set target\.graph_tokens=2"):
        decode_with(strict, NoDrafter(), PROMPTS, Stop(8))
    relaxed = target_of("llama", "auto", GraphLimits(tokens=1))
    with pytest.warns(UserWarning, match="such passes run uncaptured") as said:
        decode_with(relaxed, NoDrafter(), PROMPTS, Stop(8))
    assert len(said) == 1


def test_recordings_are_bounded_in_number_and_memory() -> None:
    target = target_of("llama", "graphed", GraphLimits(graphs=2))
    engine = target.engine
    assert isinstance(engine, GraphedEngine)
    target.cache.start(1, target.device)
    lengths = torch.zeros(1, dtype=torch.int64, device="cuda")
    for width in (1, 2, 3, 2):
        with torch.no_grad():
            engine.run(ForwardPass(torch.ones(1, width, dtype=torch.int64, device="cuda"), lengths, width, width))
    assert [shape[1] for shape in engine.recordings] == [3, 2]
    assert engine.report()["graph_MiB"] > 0
    for megabytes, kept in ((0, 1), (2048, 3)):
        small = target_of("llama", "graphed", GraphLimits(megabytes=megabytes))
        small.cache.start(1, small.device)
        for width in (1, 2, 3):
            with torch.no_grad():
                small.engine.run(
                    ForwardPass(torch.ones(1, width, dtype=torch.int64, device="cuda"), lengths, width, width)
                )
        assert small.engine.report()["graphs"] == kept


def test_everything_is_freed_with_the_decoder() -> None:
    def once() -> None:
        target = target_of("llama", "graphed", hidden_size=256)
        decode_with(target, NoDrafter(), PROMPTS, Stop(8))

    def settled() -> tuple[int, int]:
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        return torch.cuda.memory_allocated(), torch.cuda.memory_reserved()

    once()
    before = settled()
    for _ in range(3):
        once()
    assert settled() == before


def test_what_is_collected_does_not_break_a_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    thresholds = gc.get_threshold()
    gc.set_threshold(10**9)  # so that what follows stays in the youngest generation, which is looked at first
    try:
        target, old = target_of("llama", "graphed"), target_of("llama", "graphed")
        decode_with(old, NoDrafter(), PROMPTS, Stop(8))
        held: list[Any] = [old]
        held.append(held)  # only the collector frees it, and the recordings of `old` with it
        del old
        forward = model_of(target).lm_head.forward

        def letting_go(hidden: torch.Tensor) -> torch.Tensor:
            nonlocal held
            if held and torch.cuda.is_current_stream_capturing():
                held = []
                gc.set_threshold(1)
                assert [[] for _ in range(100)]
            logits: torch.Tensor = forward(hidden)
            return logits

        monkeypatch.setattr(model_of(target).lm_head, "forward", letting_go)
        answers = [target_oracle(target)(prompt, Stop(8)) for prompt in PROMPTS]
        assert_lossless(decode_with(target, NoDrafter(), PROMPTS, Stop(8)), answers)
    finally:
        gc.set_threshold(*thresholds)
    assert not held


def test_too_little_memory_is_one_sentence() -> None:
    target = target_of("llama", "auto")
    held = torch.cuda.memory_reserved() / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(held + 0.001)
    try:
        with pytest.raises(InputError, match=r"the GPU's memory does not hold this decoding .* set a smaller batch"):
            decode_with(target, NoDrafter(), [[1, 2, 3]] * 20000, Stop(500), batch=20000)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_the_engine_chosen_is_silent_where_all_is_well() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        target = target_of("qwen3_moe", "auto")
        answers = [target_oracle(target)(prompt, Stop(8)) for prompt in PROMPTS]
        try:
            assert_lossless(decode_with(target, NoDrafter(), PROMPTS, Stop(8)), answers)
        except UserWarning as said:
            assert "cannot be captured" in str(said)  # experts that are chosen on the host; it is said
