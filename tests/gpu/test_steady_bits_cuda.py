"""In bfloat16 a token has the same bits among the others of a draft, and of a batch, as in a pass of its own."""

from __future__ import annotations

import functools
import random

import pytest
import torch
from support.building import buffers_of
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from orthrus import MaskDescription
from orthrus.kernels import skinny_linear
from orthrus.paths import Paths
from orthrus_attention.split_kv import FEW_QUERIES, FEW_SLOTS, MANY_QUERIES, MANY_SLOTS, SplitAttention
from orthrus_caches.static import StaticCache
from orthrus_transformers.engines.forward_pass import ForwardPass
from orthrus_transformers.loading.sources import SHAPES
from orthrus_transformers.target import TransformersTarget

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
SMALL = ["smollm2-135m", "qwen3-0.6b"]  # larger ones are laid out alike for up to 16 tokens of all rows


@functools.cache
def target_of(shape: str, layers: int = 4) -> TransformersTarget:
    """Return a target of a published shape, but with few layers, whose weights are drawn as for training."""
    config = AutoConfig.from_pretrained(SHAPES / shape)
    config.num_hidden_layers = layers
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    return TransformersTarget(model, None, StaticCache(), SplitAttention(), engine="fused")


def run(target: TransformersTarget, tokens: Tensor, committed: Tensor, prefill: bool = False) -> Tensor:
    """Return the logits [B, n, V] of a pass over tokens [B, n] after so many committed [B]."""
    width = tokens.shape[1]
    slots = torch.arange(width, device="cuda").expand(tokens.shape) if prefill else None
    extent = int(committed.max()) + width
    with torch.no_grad():
        return target.engine.run(ForwardPass(tokens, committed, extent, width, slots=slots)).clone()


def held(target: TransformersTarget, rows: slice = slice(None)) -> list[Tensor]:
    """Return copies of the keys and values that some rows have in all layers."""
    keys, values = buffers_of(target.cache)
    return [buffer[rows].clone() for buffer in [*keys, *values]]


def one_by_one(target: TransformersTarget, tokens: Tensor, committed: Tensor) -> Tensor:
    columns = range(tokens.shape[1])
    return torch.cat([run(target, tokens[:, n : n + 1], committed + n) for n in columns], dim=1)


@pytest.mark.parametrize(("shape", "batch"), [(name, rows) for name in SMALL for rows in (1, 8)] + [("qwen3-1.7b", 1)])
@pytest.mark.parametrize("context", [5, 300, 500, FEW_SLOTS - FEW_QUERIES])
def test_a_draft_is_scored_as_if_its_tokens_came_one_by_one(shape: str, batch: int, context: int) -> None:
    target = target_of(shape)
    target.cache.start(batch, torch.device("cuda"))
    torch.manual_seed(context)
    prompt = torch.randint(1000, (batch, context), device="cuda")
    tokens = torch.randint(1000, (batch, FEW_QUERIES), device="cuda")
    committed = context - torch.arange(batch, device="cuda") % 5  # ragged rows
    run(target, prompt, torch.zeros_like(committed), prefill=True)
    wanted, keys = one_by_one(target, tokens, committed), held(target)
    for width in (1, 2, 5, 6, 11, FEW_QUERIES):
        assert torch.equal(run(target, tokens[:, :width], committed), wanted[:, :width]), width
        assert all(map(torch.equal, held(target), keys)), width


@pytest.mark.parametrize("shape", SMALL)
@pytest.mark.parametrize("width", [1, FEW_QUERIES])
def test_a_row_of_a_batch_is_scored_as_if_it_were_alone(shape: str, width: int) -> None:
    target = target_of(shape)
    torch.manual_seed(width)
    batch, context = 8, 300
    prompt = torch.randint(1000, (batch, context), device="cuda")
    tokens = torch.randint(1000, (batch, width), device="cuda")
    committed = torch.full((batch,), context, device="cuda")
    target.cache.start(batch, torch.device("cuda"))
    run(target, prompt, torch.zeros_like(committed), prefill=True)
    before = held(target)
    together = run(target, tokens, committed)
    for row in range(batch):
        target.cache.start(1, torch.device("cuda"))
        run(target, prompt[:1], committed[:1] * 0, prefill=True)  # makes the buffers
        keys, values = buffers_of(target.cache)
        for buffer, kept in zip([*keys, *values], before, strict=True):
            slots = min(buffer.shape[2], kept.shape[2])  # prefills of one row and of eight may differ in their bits
            buffer[:, :, :slots] = kept[row : row + 1, :, :slots]
        assert torch.equal(run(target, tokens[row : row + 1], committed[:1]), together[row : row + 1])


@pytest.mark.parametrize("context", [5, 300, 1000, 2100, MANY_SLOTS - MANY_QUERIES])
def test_a_wide_draft_of_a_small_model_is_scored_as_if_its_tokens_came_one_by_one(context: int) -> None:
    target = target_of("smollm2-135m", layers=2)
    target.cache.start(1, torch.device("cuda"))
    torch.manual_seed(context)
    prompt = torch.randint(1000, (1, context), device="cuda")
    tokens = torch.randint(1000, (1, MANY_QUERIES), device="cuda")
    committed = torch.tensor([context], device="cuda")
    run(target, prompt, torch.zeros_like(committed), prefill=True)
    wanted = one_by_one(target, tokens, committed)
    for width in (17, 33, 65, MANY_QUERIES):
        assert torch.equal(run(target, tokens[:, :width], committed), wanted[:, :width]), width


def grown_tree(size: int, seed: int) -> list[int]:
    """Return the parents of a tree that is deep and bushy."""
    chooser = random.Random(seed)
    return [index - 1 if chooser.random() < 0.5 else chooser.randrange(-1, index) for index in range(size)]


@pytest.mark.parametrize("size", [8, 32, 64])
@pytest.mark.parametrize("context", [7, 60, 300, 1000, 2100])
def test_a_token_of_a_tree_has_the_bits_that_it_has_in_a_chain(context: int, size: int) -> None:
    # Its keys lie among those of other branches, and are taken in the order of its own text.
    target = target_of("smollm2-135m", layers=2)
    target.cache.start(1, torch.device("cuda"))
    torch.manual_seed(context)
    prompt, committed = torch.randint(1000, (1, context), device="cuda"), torch.tensor([context], device="cuda")
    run(target, prompt, torch.zeros_like(committed), prefill=True)
    tokens = torch.randint(1000, (1, size + 1), device="cuda")  # the anchor first
    paths = Paths(torch.tensor([grown_tree(size, context)], device="cuda"))
    with torch.no_grad():
        forward_pass = ForwardPass(tokens, committed, context + size + 1, size + 1, kind="tree", tree=paths)
        together = target.engine.run(forward_pass).clone()
    seen = paths.seen[0].cpu()
    for leaf in range(size + 1):
        if not seen[leaf + 1 :, leaf].any():  # no other path leads through it
            path = seen[leaf].nonzero()[:, 0].tolist()
            wanted = one_by_one(target, tokens[:, path], committed)
            assert torch.equal(together[:, path], wanted), (leaf, path)


def test_wide_passes_round_otherwise() -> None:
    """The tests above can fail: over more tokens than the narrow kernels take, other bits come out."""
    target = target_of("smollm2-135m")
    target.cache.start(1, torch.device("cuda"))
    torch.manual_seed(0)
    tokens = torch.randint(1000, (1, skinny_linear.MOST_INVARIANT_TOKENS + 1), device="cuda")
    nothing = torch.zeros(1, dtype=torch.int64, device="cuda")
    wanted = one_by_one(target, tokens, nothing)
    assert not torch.equal(run(target, tokens, nothing), wanted)


@pytest.mark.parametrize("size", [64, 128, 160, 256])
def test_a_larger_bucket_changes_no_bit_of_attention(size: int) -> None:
    torch.manual_seed(size)
    backend, committed, drafts = SplitAttention(), FEW_SLOTS // 2 - 12, FEW_QUERIES
    query = torch.randn(1, 4, drafts, size, device="cuda").bfloat16()
    key, value = torch.randn(2, 1, 2, FEW_SLOTS, size, device="cuda").bfloat16()

    def attend(first: int, count: int, slots: int) -> Tensor:
        positions = committed + first + torch.arange(count, device="cuda")[None]
        mask = MaskDescription("causal", positions, positions[:, 0], slots)
        queries, prepared = query[:, :, first : first + count], backend.prepare(mask, None, query.dtype)
        return backend.attend(queries, key[:, :, :slots], value[:, :, :slots], prepared, scale=size**-0.5)

    among = attend(0, drafts, FEW_SLOTS)
    for index in range(12):  # as if it came alone, before the text needs the larger bucket
        assert torch.equal(attend(index, 1, FEW_SLOTS // 2)[:, :, 0], among[:, :, index])
