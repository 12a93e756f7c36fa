"""The engine `native` gives the text of the model's own modules, in any company, over caches, views and taps."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from hypothesis import given
from hypothesis import strategies as st
from support.building import assert_held, decode_with, target_oracle
from support.drafters import ScriptedDrafter
from support.families import VOCABULARY, tiny_model
from support.gguf_blocks import write_block_model
from support.native import hold_kernels, needs_kernels
from support.thorough import thorough_but
from support.views import block_positions, committed, random_view
from torch import Tensor

import orthrus
from orthrus import Draft, KVCache, Stop
from orthrus_attention.eager import EagerAttention
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.static import StaticCache
from orthrus_drafters.none import NoDrafter
from orthrus_transformers.target import TransformersTarget

pytestmark = needs_kernels
LIKE_LLAMA = ["llama", "mistral", "qwen2", "qwen3"]
CACHES: dict[str, Callable[[], KVCache]] = {"dynamic": DynamicCache, "static": lambda: StaticCache(slots=16)}
PROMPTS = [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [4, 2]]
WIDTH = 5


def target_of(
    family: str = "llama",
    engine: str = "native",
    cache: KVCache | None = None,
    dtype: torch.dtype = torch.float32,
    **more: Any,
) -> TransformersTarget:
    model = tiny_model(family, dtype=dtype)
    return TransformersTarget(model, None, cache or DynamicCache(), SdpaAttention(), engine=engine, **more)


def scored(target: TransformersTarget) -> Tensor:
    """Return the logits of a pass over a block after two ragged prompts."""
    drafted = torch.randint(VOCABULARY, (2, WIDTH - 1), generator=torch.Generator().manual_seed(1))
    return target.score(committed(target, PROMPTS), Draft(drafted, torch.full((2,), WIDTH - 1)))


def assert_near(logits: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-4 * float(wanted.std()))


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("family", LIKE_LLAMA)
def test_texts_are_those_of_the_models_own_modules(family: str, cache: str) -> None:
    chooser, stop = random.Random(family), Stop(30)
    prompts = [[chooser.randrange(VOCABULARY) for _ in range(length)] for length in (3, 15, 1, 40, 7)]
    plain = decode_with(target_of(family, "eager"), NoDrafter(), prompts, stop)
    target = target_of(family, cache=CACHES[cache](), prefill_chunk=16, threads=2)
    truths = [result.token_ids for result in plain]
    for batch in (5, 2, 1):
        results = decode_with(target, ScriptedDrafter(truths, VOCABULARY, 0.7, [0, 3, 6]), prompts, stop, batch=batch)
        assert [result.token_ids for result in results] == truths
    assert_held(results, target_oracle(target), prompts, stop)


HALVES = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", thorough_but([torch.float16], HALVES))
@pytest.mark.parametrize("family", thorough_but(["qwen2"], LIKE_LLAMA))
def test_halves_are_widened_to_the_same_model_in_float32(family: str, dtype: torch.dtype) -> None:
    target = target_of(family, dtype=dtype)
    widened = target.widened(torch.float32)
    context = committed(target, PROMPTS)
    drafted = torch.randint(VOCABULARY, (2, WIDTH - 1), generator=torch.Generator().manual_seed(1))
    logits = target.score(context, Draft(drafted, torch.full((2,), WIDTH - 1)))
    assert logits.dtype == torch.float32 and target.report()["weights"] == str(dtype).removeprefix("torch.")
    for row, prompt in enumerate(PROMPTS):
        text = [*prompt, int(context.anchors[row]), *drafted[row].tolist()]
        assert_near(logits[row], widened(text, WIDTH))
    assert target.pass_bytes([9]) - target.pass_bytes([8]) == target_of(family).pass_bytes([9]) - target_of(
        family
    ).pass_bytes([8])  # keys are in float32 as ever


@pytest.mark.parametrize("dtype", thorough_but([torch.float32], [torch.float32, *HALVES]))
@given(data=st.data())
def test_no_bit_of_a_row_depends_on_its_company(dtype: torch.dtype, data: st.DataObject) -> None:
    target = _invariant_target(dtype)
    lengths = data.draw(st.lists(st.integers(1, 20), min_size=1, max_size=5))
    chooser = random.Random(data.draw(st.integers(0, 99)))
    texts = [[chooser.randrange(VOCABULARY) for _ in range(length + WIDTH)] for length in lengths]
    together = _along(target, texts, lengths, WIDTH)
    for row, (text, length) in enumerate(zip(texts, lengths, strict=True)):
        for width in (1, data.draw(st.integers(2, WIDTH))):
            assert torch.equal(_along(target, [text], [length], width)[0], together[row])


@functools.cache
def _invariant_target(dtype: torch.dtype) -> TransformersTarget:
    return target_of("qwen3", dtype=dtype)


def _along(target: TransformersTarget, texts: list[list[int]], lengths: list[int], width: int) -> Tensor:
    """Return the logits [B, WIDTH, V] after each token behind the prompts, from passes over up to `width` of them."""
    prompts = [text[:length] for text, length in zip(texts, lengths, strict=True)]
    context = orthrus.Context(prompts, Stop(WIDTH + 1), vocabulary_size=VOCABULARY, device="cpu")
    target.start(context)
    rows = list(range(len(texts)))
    target.prefill(context, rows)
    passes = []
    committed_ = torch.tensor(lengths)
    for first in range(0, WIDTH, width):
        last = min(first + width, WIDTH)
        target.cache.keep(committed_ + first)
        tokens = torch.tensor([text[length:][first:last] for text, length in zip(texts, lengths, strict=True)])
        positions = committed_[:, None] + torch.arange(first, last)
        passes.append(target.forward(context, tokens, positions, kind="causal"))
    return torch.cat(passes, dim=1)


@pytest.mark.parametrize("family", thorough_but(["llama", "mistral"], LIKE_LLAMA))
@pytest.mark.parametrize("used", [None, [WIDTH, 2]])
def test_a_views_passes_are_those_of_the_models_modules(family: str, used: list[int] | None) -> None:
    block = torch.randint(VOCABULARY, (2, WIDTH), generator=torch.Generator().manual_seed(1))
    passes = []
    for engine in ("eager", "native"):
        target = target_of(family, engine)
        random_view(target, "noisy", seed=1)
        context = committed(target, PROMPTS)
        positions = block_positions(context, WIDTH, used)
        passes.append(target.forward(context, block, positions, view="noisy"))
        assert not torch.allclose(passes[-1], target.forward(context, block, positions))
    first = [0, 0] if used is None else [WIDTH - count for count in used]
    for row, column in enumerate(first):
        assert_near(passes[1][row, column:], passes[0][row, column:])


def test_weights_of_a_view_that_change_are_seen() -> None:
    target = target_of()
    random_view(target, "noisy", seed=1)
    block, context = torch.ones(2, WIDTH, dtype=torch.int64), committed(target, PROMPTS)
    positions = block_positions(context, WIDTH)
    before = target.forward(context, block, positions, view="noisy")
    for weight in target.view_weights("noisy").values():
        weight.mul_(1.5)
    assert not torch.allclose(before, target.forward(context, block, positions, view="noisy"))


@pytest.mark.parametrize("dtype", thorough_but([torch.float32], [torch.float32, *HALVES]))
def test_hidden_states_are_those_of_the_models_modules(dtype: torch.dtype) -> None:
    heard: dict[str, list[Tensor]] = {"eager": [], "native": []}

    class Reader:
        def __init__(self, engine: str) -> None:
            self._states = heard[engine]

        def prompt(self, tapped: Any, last: bool) -> None:
            self._states.append(tapped.states.clone())

        def scored(self, states: Tensor, starts: Tensor) -> None:
            self._states.append(states.clone())

    for engine in heard:
        target = target_of("mistral", engine, dtype=dtype if engine == "native" else torch.float32)
        if engine == "eager":
            _take_weights(target, tiny_model("mistral", dtype=dtype))
        target.tap([0, 2, 4, "final"], Reader(engine))
        scored(target)
    for own, other in zip(heard["native"], heard["eager"], strict=True):
        assert own.dtype == dtype
        torch.testing.assert_close(own, other.to(dtype), rtol=0, atol=max(1e-4, torch.finfo(dtype).eps) * 8)


@torch.no_grad()
def _take_weights(target: TransformersTarget, model: Any) -> None:
    """Let a target have the weights and the rotary frequencies of a model in another dtype, widened."""
    with target.own_model() as own:
        own.load_state_dict(model.state_dict())
        for mine, other in zip(own.buffers(), model.buffers(), strict=True):
            mine.copy_(other)


def test_auto_takes_it_for_float32_on_a_cpu_and_for_nothing_else() -> None:
    report = target_of(engine="auto").report()
    assert (report["layers"], report["threads"], report["weights"]) == ("native", torch.get_num_threads(), "float32")
    doubled = TransformersTarget(tiny_model("llama"), None, DynamicCache(), SdpaAttention())
    assert doubled.report()["layers"] == "own"
    assert target_of("gemma3_text", "auto").report()["layers"] != "native"


class Doubling(DynamicCache):
    """A cache that keeps something else than it is given."""

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        return super().update(keys * 2 / 2, values, layer)


class Wider(EagerAttention):
    """Attention of its own, with what another one says of itself."""

    def attend(self, *args: Any, **kwargs: Any) -> Tensor:
        return super().attend(*args, **kwargs)


@pytest.mark.parametrize(
    ("cache", "attention", "said"),
    [(Doubling, SdpaAttention, "writes no cache Doubling"), (DynamicCache, Wider, "Wider may compute another")],
)
def test_parts_that_do_more_are_not_passed_over(cache: Any, attention: Any, said: str) -> None:
    def made(engine: str) -> TransformersTarget:
        return TransformersTarget(tiny_model("llama", dtype=torch.float32), None, cache(), attention(), engine=engine)

    assert made("auto").report()["layers"] != "native"
    with pytest.raises(orthrus.BuildError, match=f"'native' .*{said}.*; set engine=eager"):
        made("native")


CONFIG = {"cache": {"name": "dynamic"}, "attention": {"name": "sdpa"}, "drafter": {"name": "prompt_lookup"}}
IN_FLOATS = {"dtype": "float32", "engine": "eager"}
BLOCKS = [
    ("native", "llama", Kind.Q4_1),
    ("native", "qwen2", Kind.Q4_0),
    ("native", "qwen3", Kind.F16),
    ("eager", "llama", Kind.Q4_1),
    ("eager", "llama, biases", Kind.Q8_0),  # one of them where `native` knows none
]


@pytest.mark.parametrize(("engine", "family", "kind"), thorough_but([BLOCKS[0], BLOCKS[3]], BLOCKS))
def test_blocks_decode_to_the_text_of_their_widened_weights(
    engine: str, family: str, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_kernels()
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path / "cache"))
    file = write_block_model(tmp_path / "model.gguf", family, kind)
    stop = {"max_new_tokens": 24}
    prompts = [[1, 2, 3, 1, 2], [9, 8, 7, 6, 5, 4, 3, 2, 1, 9, 8], [7]]

    def loaded(**target: Any) -> orthrus.Decoder:
        source = {"name": "transformers", "source": str(file), "device": "cpu"}
        return orthrus.load({**CONFIG, "target": {**source, **target}}, stop=stop)

    wanted = loaded(**IN_FLOATS).generate(prompts, batch=3)
    decoder = loaded(dtype="gguf", engine=engine)
    assert decoder.target.report()["layers"] == ("native" if engine == "native" else "own")
    for batch in (1, 3):
        found = decoder.generate(prompts, batch=batch)
        assert [result.token_ids for result in found] == [result.token_ids for result in wanted]
    assert decoder.target.fingerprint() == loaded(**IN_FLOATS).target.fingerprint()
    assert not list((tmp_path / "cache").rglob("*-blocks/*.safetensors"))


def test_layers_that_the_kernels_do_not_know_are_left_to_the_next_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_kernels()
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path / "cache"))
    target = {"name": "transformers", "dtype": "gguf", "device": "cpu"}
    heard: list[str] = []
    file = write_block_model(tmp_path / "model.gguf", "llama, biases", Kind.Q8_0)
    decoder = orthrus.load({**CONFIG, "target": {**target, "source": str(file)}}, notify=heard.append)
    assert decoder.target.report()["layers"] == "own"
    assert [sentence for sentence in heard if "'auto' goes on without engine native, which computes no" in sentence]


def test_a_block_format_that_is_not_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path / "cache"))
    file = write_block_model(tmp_path / "model.gguf", "llama", Kind.Q5_0)
    target = {"name": "transformers", "source": str(file), "dtype": "gguf"}
    with pytest.raises(
        orthrus.BuildError, match=r"is of type Q5_0.*it reads F32, .*Q6_K, BF16: set target.dtype=float32"
    ):
        orthrus.load({**CONFIG, "target": target})
    assert gguf.GGUFReader(file).tensors
