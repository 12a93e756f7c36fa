"""The caches `offloaded` and `quantized` on a CUDA device: exact, texts of other caches, memory of the host."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.building import decode_with
from support.families import tiny_model

from orthrus import BuildError, KVCache, Stop
from orthrus.rounding import as_held
from orthrus_attention.eager import EagerAttention
from orthrus_attention.flash import FlashAttention
from orthrus_attention.sdpa import SdpaAttention
from orthrus_attention.split_kv import SplitAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.offloaded import OffloadedCache
from orthrus_caches.quantized import QuantizedCache
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_transformers.target import TransformersTarget

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CUDA = torch.device("cuda")
PROMPTS = [[*range(1, 20), last] for last in range(5)]
CACHES: dict[str, Callable[[], Any]] = {
    "offloaded": OffloadedCache,
    "not locked": lambda: OffloadedCache(pinned=False),
    "int8": QuantizedCache,
    "fp8": lambda: QuantizedCache(32, "fp8"),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CACHES)
def test_every_slot_is_what_was_written_last_whatever_the_device_is_busy_with(name: str, seed: int) -> None:
    cache, chooser = CACHES[name](), random.Random(seed)
    rows, layers = 3, 5
    cache.start(rows, CUDA)
    held = torch.zeros(layers, 2, rows, 2, 700, 64, device=CUDA)
    lengths = [0] * rows
    busy = torch.randn(2048, 2048, device=CUDA)
    for _ in range(40):
        some = sorted(chooser.sample(range(rows), chooser.randint(1, rows))) if chooser.random() < 0.4 else None
        over = list(range(rows)) if some is None else some
        width = chooser.choice([1, 4, 16])
        slots = torch.tensor([[lengths[row] + column for column in range(width)] for row in over], device=CUDA)
        extent = max(lengths[row] for row in over) + width
        if extent > 690:
            break
        cache.place(slots, extent, None if some is None else torch.tensor(some, device=CUDA))
        for layer in range(layers):
            states = torch.randn(2, len(over), 2, width, 64, device=CUDA)
            for index, row in enumerate(over):
                held[layer, :, row, :, lengths[row] : lengths[row] + width] = states[:, index]
            keys, values = cache.update(states[0], states[1], layer)
            busy @ busy  # so that copies and the device's work overlap
            for index, row in enumerate(over):
                seen = lengths[row] + width
                wanted = as_held(cache, held[layer, :, row, :, :seen])
                assert torch.equal(keys[index, :, :seen], wanted[0]) and torch.equal(values[index, :, :seen], wanted[1])
        for row in over:
            lengths[row] += chooser.randint(0, width)
        cache.keep(torch.tensor(lengths, device=CUDA))
        if chooser.random() < 0.2:
            order = chooser.sample(range(rows), rows)
            moved = [order.index(row) for row in range(rows)]
            cache.move_rows(moved)
            held = held[:, :, torch.tensor(moved, device=CUDA)]
            lengths = [lengths[source] for source in moved]


def target_of(cache: KVCache, attention: type, engine: str, dtype: torch.dtype = torch.float32) -> TransformersTarget:
    model = tiny_model("llama", dtype=dtype).cuda()
    return TransformersTarget(model, None, cache, attention(), engine=engine)


def texts(target: TransformersTarget, drafter: Any, batch: int = 2) -> list[tuple[int, ...]]:
    return [result.token_ids for result in decode_with(target, drafter, PROMPTS, Stop(20), batch=batch)]


@pytest.mark.parametrize("engine", ["eager", "fused"])
@pytest.mark.parametrize("attention", [SdpaAttention, SplitAttention, EagerAttention])
def test_texts_are_those_of_other_caches(attention: type, engine: str) -> None:
    wanted = texts(target_of(DynamicCache(), attention, engine), NoDrafter())
    for pinned in (True, False):
        assert texts(target_of(OffloadedCache(pinned), attention, engine), PromptLookup(3, 1, 4)) == wanted
    for codes in ("int8", "fp8"):
        plain = texts(target_of(QuantizedCache(32, codes), attention, engine), NoDrafter(), batch=1)
        assert texts(target_of(QuantizedCache(32, codes), attention, engine), PromptLookup(3, 1, 4)) == plain


def test_flash_attention_reads_them_in_16_bits() -> None:
    for cache in (OffloadedCache(), QuantizedCache()):
        assert texts(target_of(cache, FlashAttention, "fused", torch.bfloat16), PromptLookup(3, 1, 4))


def test_the_device_holds_two_layers_whatever_the_number_of_layers() -> None:
    sizes = []
    for layers in (4, 12):
        cache = OffloadedCache()
        cache.start(1, CUDA)
        for first in range(0, 1024, 256):
            cache.place(torch.arange(first, first + 256, device=CUDA)[None], first + 256)
            for layer in range(layers):
                states = torch.randn(1, 4, 256, 64, device=CUDA)
                cache.update(states, states, layer)
        sizes.append(cache.bytes_on_device)
        layer_bytes = 2 * 4 * 1024 * 64 * 4
        assert cache.bytes_in_use() - cache.bytes_on_device >= layers * layer_bytes
        assert 2 * layer_bytes <= cache.bytes_on_device <= 2.3 * layer_bytes
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("cache", [QuantizedCache, OffloadedCache])
def test_an_engine_that_captures_addresses_is_refused(cache: Any) -> None:
    with pytest.raises(
        BuildError, match=rf"'graphed' needs another cache than {cache.__name__}, .*; set cache.name=static"
    ):
        target_of(cache(), SdpaAttention, "graphed")
