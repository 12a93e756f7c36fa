"""In bfloat16 a token has the same bits among the others of a draft, and of a batch, as in a pass of its own."""

from __future__ import annotations

import functools
import random
from itertools import product

import pytest
import torch
from support.building import buffers_of
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from orthrus import MaskDescription
from orthrus.kernels import skinny_linear
from orthrus.paths import Paths
from orthrus_attention import split_kv, steady_kv
from orthrus_attention.split_kv import SplitAttention
from orthrus_attention.steady_kv import Layout
from orthrus_caches.static import StaticCache
from orthrus_transformers.engines.forward_pass import ForwardPass
from orthrus_transformers.loading.sources import SHAPES
from orthrus_transformers.target import TransformersTarget

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
SMALL = ["smollm2-135m", "qwen3-0.6b"]  # so many tokens of all rows that eight rows may have drafts of 15
EVERY = [*SMALL, "qwen3-1.7b", "qwen3-8b"]
STEADY = EVERY[1:]  # whose sizes are multiples of 128: of a width of 576, chunks of 100 and 512 gave unlike bits
VOCABULARY = 32_000
CHUNK = 512


@functools.cache
def target_of(shape: str, layers: int = 2, steady_prefills: bool = False) -> TransformersTarget:
    """Return a target of a published shape, but with few layers and words, whose weights are drawn as for training."""
    config = AutoConfig.from_pretrained(SHAPES / shape)
    config.num_hidden_layers, config.vocab_size = layers, VOCABULARY
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    attention = SplitAttention()
    return TransformersTarget(
        model, None, StaticCache(), attention, engine="fused", steady_prefills=steady_prefills, prefill_chunk=CHUNK
    )


def run(target: TransformersTarget, tokens: Tensor, committed: Tensor) -> Tensor:
    """Return the logits [B, n, V] of a pass over tokens [B, n] after so many committed [B]."""
    width = tokens.shape[1]
    with torch.no_grad():
        return target.engine.run(ForwardPass(tokens, committed, int(committed.max()) + width, width)).clone()


def prefill(target: TransformersTarget, prompt: Tensor, chunk: int = CHUNK) -> Tensor:
    """Return the logits [B, 1, V] after prompts [B, n], passed over in chunks."""
    nothing = torch.zeros(len(prompt), dtype=torch.int64, device="cuda")
    for start in range(0, prompt.shape[1], chunk):
        tokens = prompt[:, start : start + chunk]
        end = start + tokens.shape[1]
        slots = torch.arange(start, end, device="cuda").expand(tokens.shape)
        with torch.no_grad():
            logits = target.engine.run(ForwardPass(tokens, nothing, end, 1, slots=slots))
    return logits.clone()


def held(target: TransformersTarget, slots: int | None = None) -> list[Tensor]:
    """Return copies of the keys and values that rows have in all layers, in so many slots; None: in all."""
    keys, values = buffers_of(target.cache)
    return [buffer[:, :, :slots].clone() for buffer in [*keys, *values]]


def one_by_one(target: TransformersTarget, tokens: Tensor, committed: Tensor) -> Tensor:
    columns = range(tokens.shape[1])
    return torch.cat([run(target, tokens[:, n : n + 1], committed + n) for n in columns], dim=1)


def drawn(batch: int, count: int, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return torch.randint(1000, (batch, count), device="cuda")


@pytest.mark.parametrize(("shape", "batch"), [(name, 1) for name in EVERY] + [(name, 8) for name in SMALL])
@pytest.mark.parametrize("context", [5, 100, 500, 1000, 4000, 8192])
def test_a_draft_is_scored_as_if_its_tokens_came_one_by_one(shape: str, batch: int, context: int) -> None:
    target, most = target_of(shape), 65 if batch == 1 else 20
    target.cache.start(batch, torch.device("cuda"))
    prompt, tokens = drawn(batch, context, context), drawn(batch, most, context + 1)
    committed = context - torch.arange(batch, device="cuda") % 5  # ragged rows
    prefill(target, prompt)
    wanted, keys = one_by_one(target, tokens, committed), held(target)
    for width in (1, 2, 5, 16, 17, 20, 32, 33, 64, 65):
        if width <= most:
            assert torch.equal(run(target, tokens[:, :width], committed), wanted[:, :width]), width
            assert all(map(torch.equal, held(target), keys)), width


@pytest.mark.parametrize("shape", SMALL)
@pytest.mark.parametrize("width", [1, 16])
def test_a_row_of_a_batch_is_scored_as_if_it_were_alone(shape: str, width: int) -> None:
    target, batch, context = target_of(shape), 8, 300
    prompt, tokens = drawn(batch, context, width), drawn(batch, width, width + 1)
    committed = torch.full((batch,), context, device="cuda")
    target.cache.start(batch, torch.device("cuda"))
    prefill(target, prompt)
    before = held(target)
    together = run(target, tokens, committed)
    for row in range(batch):
        target.cache.start(1, torch.device("cuda"))
        prefill(target, prompt[:1])  # makes the buffers
        keys, values = buffers_of(target.cache)
        for buffer, kept in zip([*keys, *values], before, strict=True):
            slots = min(buffer.shape[2], kept.shape[2])  # prefills of one row and of eight may differ in their bits
            buffer[:, :, :slots] = kept[row : row + 1, :, :slots]
        assert torch.equal(run(target, tokens[row : row + 1], committed[:1]), together[row : row + 1])


def grown_tree(size: int, seed: int) -> list[int]:
    """Return the parents of a tree that is deep and bushy."""
    chooser = random.Random(seed)
    return [index - 1 if chooser.random() < 0.5 else chooser.randrange(-1, index) for index in range(size)]


@pytest.mark.parametrize("shape", ["smollm2-135m", "qwen3-1.7b", "qwen3-8b"])
@pytest.mark.parametrize("size", [8, 32, 64])
@pytest.mark.parametrize("context", [7, 60, 1000, 4000, 8192])
def test_a_token_of_a_tree_has_the_bits_that_it_has_in_a_chain(shape: str, context: int, size: int) -> None:
    # Its keys lie among those of other branches, and are taken in the order of its own text.
    target = target_of(shape)
    target.cache.start(1, torch.device("cuda"))
    committed = torch.tensor([context], device="cuda")
    prefill(target, drawn(1, context, context))
    tokens = drawn(1, size + 1, size)  # the anchor first
    paths = Paths(torch.tensor([grown_tree(size, context)], device="cuda"))
    with torch.no_grad():
        forward_pass = ForwardPass(tokens, committed, context + size + 1, size + 1, kind="tree", tree=paths)
        together = target.engine.run(forward_pass).clone()
    seen = paths.seen[0].cpu()
    leaves = [leaf for leaf in range(size + 1) if not seen[leaf + 1 :, leaf].any()]  # no other path leads through it
    for leaf in leaves[:: max(1, len(leaves) // 6)]:
        path = seen[leaf].nonzero()[:, 0].tolist()
        assert torch.equal(together[:, path], run(target, tokens[:, path], committed)), (leaf, path)


@pytest.mark.parametrize("shape", STEADY)
@pytest.mark.parametrize("context", [33, 100, 511, 1000, 2100])
def test_a_steady_prefill_leaves_what_its_tokens_leave_one_by_one(shape: str, context: int) -> None:
    target, few = target_of(shape, steady_prefills=True), 12
    prompt = drawn(1, context, context)
    target.cache.start(1, torch.device("cuda"))
    logits, keys = prefill(target, prompt), held(target, context)
    for chunk in (1000, 100):
        target.cache.start(1, torch.device("cuda"))
        assert torch.equal(prefill(target, prompt, chunk), logits), chunk
        assert all(map(torch.equal, held(target, context), keys)), chunk
    before = context - few
    last = one_by_one(target, prompt[:, before:], torch.tensor([before], device="cuda"))
    assert torch.equal(last[:, -1:], logits)
    assert all(map(torch.equal, held(target, context), keys))


def test_prompts_of_a_batch_get_what_they_get_alone_if_prefills_are_steady() -> None:
    target, context = target_of("qwen3-1.7b", steady_prefills=True), 300
    prompts = drawn(3, context, 0)
    target.cache.start(3, torch.device("cuda"))
    together = prefill(target, prompts)
    for row in range(3):
        target.cache.start(1, torch.device("cuda"))
        assert torch.equal(prefill(target, prompts[row : row + 1]), together[row : row + 1])


@pytest.mark.parametrize("shape", ["smollm2-135m", "qwen3-8b"])
def test_passes_that_are_laid_out_for_speed_round_otherwise(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above can fail: with other products, or with other parts of keys, other bits come out."""
    target, context, width = target_of(shape), 4000, 33
    target.cache.start(1, torch.device("cuda"))
    prefill(target, drawn(1, context, 0))
    tokens, committed = drawn(1, width, 1), torch.tensor([context], device="cuda")
    wanted = one_by_one(target, tokens, committed)
    for module, name, value in (
        (skinny_linear, "_few", lambda hidden, *given: hidden.shape[1] <= 16),
        (split_kv, "is_steady", lambda *given: False),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            assert not torch.equal(run(target, tokens, committed), wanted), name
    assert torch.equal(run(target, tokens, committed), wanted)


def test_prefills_round_otherwise_unless_they_are_steady() -> None:
    target, context = target_of("qwen3-1.7b"), 1000
    prompt = drawn(1, context, 0)
    target.cache.start(1, torch.device("cuda"))
    logits = prefill(target, prompt)
    last = one_by_one(target, prompt[:, -4:], torch.tensor([context - 4], device="cuda"))
    assert not torch.equal(last[:, -1:], logits)


@pytest.mark.parametrize(
    ("size", "groups", "window"), [(64, 3, None), (80, 2, 700), (128, 4, None), (128, 2, 700), (256, 1, None)]
)
def test_no_layout_and_no_bucket_changes_a_bit_of_attention(
    size: int, groups: int, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(size)
    backend, heads, count, room = SplitAttention(), 2, 40, 16_384
    query = torch.randn(1, heads * groups, count, size, device="cuda").bfloat16()
    key, value = torch.randn(2, 1, heads, room, size, device="cuda").bfloat16()
    at_a_time = steady_kv.layout_of(1, size, 2, 1, 1, tree=False).slots

    def attend(before: int, slots: int) -> Tensor:
        positions = before + torch.arange(count, device="cuda")[None]
        prepared = backend.prepare(MaskDescription("causal", positions, positions[:, 0], slots), window, query.dtype)
        return backend.attend(query, key[:, :, :slots], value[:, :, :slots], prepared, scale=size**-0.5)

    for before, buckets in ((50, (512, 1024, 2048)), (1000, (2048, 16_384)), (8170, (16_384,))):
        wanted = attend(before, buckets[0])
        for slots in buckets:
            layouts = [(rows, 8 if size > 128 and rows == 64 else 4) for rows in (16, 32, 64)]
            layouts += [(16, 8), (32, 8)]  # beside blocks it may have their warps
            for (rows, warps), grouped in product(layouts, (False, True)):
                layout = Layout(rows, at_a_time, warps, grouped)
                with monkeypatch.context() as patch:
                    patch.setattr(steady_kv, "layout_of", lambda *given, layout=layout: layout)
                    assert torch.equal(attend(before, slots), wanted), (before, slots, layout)


@pytest.mark.parametrize(("size", "groups", "window"), [(64, 3, None), (80, 2, 700), (128, 4, None)])
def test_no_layout_changes_a_bit_of_a_tree(
    size: int, groups: int, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups of parts end before the one in which texts differ, wherever that is, in each row of a batch."""
    torch.manual_seed(size)
    backend, heads, count, room = SplitAttention(), 2, 41, 16_384
    query = torch.randn(3, heads * groups, count, size, device="cuda").bfloat16()
    key, value = torch.randn(2, 3, heads, room, size, device="cuda").bfloat16()
    seen = Paths(torch.tensor([grown_tree(count - 1, size + row) for row in range(3)], device="cuda")).seen
    at_a_time = steady_kv.layout_of(1, size, 2, 1, 1, tree=True).slots
    for before in ((50, 1000, 10_000), (1023, 2040, 8170), (0, 1024, 5000)):
        lengths = torch.tensor(before, device="cuda")
        positions = lengths[:, None] + seen.sum(-1) - 1
        prepared = backend.prepare(MaskDescription("tree", positions, lengths, room, seen), window, query.dtype)
        results = []
        for rows, grouped in product((16, 32, 64), (False, True)):
            layout = Layout(rows, at_a_time, 4, grouped)
            with monkeypatch.context() as patch:
                patch.setattr(steady_kv, "layout_of", lambda *given, layout=layout: layout)
                results.append(backend.attend(query, key, value, prepared, scale=size**-0.5))
        assert results[0].isfinite().all()
        assert all(torch.equal(results[0], other) for other in results[1:]), before
