"""On a CUDA device: drafters' layers for few tokens give what torch's operations give, up to rounding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from orthrus.drafter_models.key_values import KeyValues
from orthrus.drafter_models.narrow import NarrowLayer
from orthrus.drafter_models.rotary import Rotary
from orthrus.kernels import skinny_linear
from orthrus_dflash import weights as dflash_weights
from orthrus_dflash.config import DFlashConfig, LayerKind
from orthrus_dflash.model import DFlashModel
from orthrus_eagle3 import weights as eagle3_weights
from orthrus_eagle3.config import Eagle3Config
from orthrus_eagle3.model import Eagle3Model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
SIZES: Mapping[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "heads": 4,
    "key_heads": 2,
    "head_size": 64,
    "epsilon": 1e-6,
    "rotary": Rotary(10_000.0),
    "vocabulary_size": 512,
    "taps": (0, 1, "final"),
}
ROWS, BLOCK, CONTEXT = 2, 8, 5


def tensors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    generator = torch.Generator("cuda").manual_seed(3)

    def draw(shape: tuple[int, ...]) -> Tensor:
        weight = torch.randn(shape, generator=generator, device="cuda", dtype=torch.bfloat16)
        return 1 + weight / 10 if len(shape) == 1 else weight / shape[-1] ** 0.5

    drawn = {name: draw(shape) for name, shape in shapes.items()}
    if "d2t" in drawn:
        drawn["d2t"] = torch.zeros_like(drawn["d2t"], dtype=torch.int64)
    return drawn


def states(width: int, last: int) -> Tensor:
    return torch.randn(ROWS, width, last, generator=torch.Generator("cuda").manual_seed(4), device="cuda").bfloat16()


def kept(store: KeyValues) -> list[Tensor]:
    """Return keys and values without the slot that takes what is not to be kept."""
    return [buffer[:, :, : store.slots] for buffer in (*store.keys, *store.values)]


def dflash(spoilt: bool) -> list[Tensor]:
    """Return the states of a block, and all keys and values."""
    config = DFlashConfig("z-lab", layers=(LayerKind(),) * 2, block=BLOCK, mask_token_id=1, **SIZES)
    model = DFlashModel(config, tensors(dflash_weights.expected_shapes(config)))
    store = model.new_store(ROWS, 32)
    taps = states(CONTEXT, 3 * config.hidden_size)
    if spoilt:
        taps[0, -1] = float("nan")
    lengths = torch.tensor([CONTEXT, CONTEXT - 2], device="cuda")
    model.feed(store, taps, torch.zeros_like(lengths), lengths)
    block = model.block_states(store, states(BLOCK, config.hidden_size), lengths, torch.full_like(lengths, BLOCK), 32)
    return [block, *kept(store)]


def eagle3(spoilt: bool, **flags: bool) -> list[Tensor]:
    """Return the logits of a chain whose tokens are given, the newest features, and all keys and values."""
    config = Eagle3Config("SafeAILab", target_hidden_size=256, draft_vocabulary_size=512, **SIZES, **flags)
    model = Eagle3Model(config, tensors(eagle3_weights.expected_shapes(config)))
    store = model.new_store(ROWS, 32)
    table = states(SIZES["vocabulary_size"], 256)[0]
    taps, lengths = states(CONTEXT, 3 * 256), torch.tensor([CONTEXT, CONTEXT - 2], device="cuda")
    if spoilt:
        taps[0, -1] = float("nan")
    tokens = torch.arange(ROWS * CONTEXT, device="cuda").view(ROWS, CONTEXT)
    model.feed(store, taps, tokens, torch.zeros_like(lengths), lengths, lambda ids: table[ids])
    # the same tokens whatever the logits: the likeliest of them would part the chains where two are nearly alike
    forced = tokens.flip(1)
    logits = model.draft(store, lengths, lambda ids: table[ids], 4, choose=lambda logits, step: forced[:, step])[1]
    return [*logits.unbind(1), store.features, *kept(store)]


FLAGS = ("head_norms", "norm_before_residual", "norm_output")
CHAINS = [partial(eagle3, **{flag: flag in chosen for flag in FLAGS}) for chosen in ((), *((flag,) for flag in FLAGS))]
NAMES = ["dflash", "eagle3", *FLAGS]


@pytest.mark.parametrize("outputs", [dflash, *CHAINS], ids=NAMES)
def test_few_tokens_are_what_they_are_among_many(
    outputs: Callable[[bool], list[Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    own = NarrowLayer.write
    monkeypatch.setattr(NarrowLayer, "write", lambda *given: (written.append(1), own(*given))[1])
    narrow = outputs(False)
    assert written
    monkeypatch.setattr(skinny_linear, "fits", lambda *given, **named: False)
    count = len(written)
    wide = outputs(False)
    assert len(written) == count
    for given, expected in zip(narrow, wide, strict=True):
        assert (given - expected).float().norm() <= 0.02 * expected.float().norm()


@pytest.mark.parametrize("outputs", [dflash, eagle3])
def test_what_is_not_finite_is_not_kept(outputs: Callable[[bool], list[Tensor]]) -> None:
    held = [tensor for tensor in outputs(True) if tensor.dim() == 4]  # keys and values
    assert all(tensor.isfinite().all() for tensor in held)
    assert any((tensor[0, :, CONTEXT - 1] == 0).all() for tensor in held)
