"""On a CUDA device: what is NaN or infinite behind the mask, or in a refused draft, changes no output and no text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from lossless.test_not_finite import NUMBERS, PROMPTS, STOP, Poisoning, with_a_token_of_nan
from support.building import assert_lossless, decode_with, target_oracle
from support.families import tiny_model

from orthrus.testing.checks.attention_cases import AttentionCase, attend, unseen_spoilt
from orthrus_attention.eager import EagerAttention
from orthrus_attention.flex import FlexAttention
from orthrus_attention.sdpa import SdpaAttention
from orthrus_attention.split_kv import SplitAttention
from orthrus_caches.static import StaticCache
from orthrus_transformers.target import TransformersTarget

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the compiler's own imports
    pytest.mark.filterwarnings("ignore:TensorFloat32"),  # its advice
]
BACKENDS: dict[str, Callable[[], Any]] = {
    "eager": EagerAttention,
    "sdpa": SdpaAttention,
    "split": SplitAttention,
    "flex": FlexAttention,
}
SCORE = AttentionCase(lengths=(2, 7), width=4, groups=2, device="cuda", seed=1)
CASES = [SCORE, AttentionCase("prefill", (2, 7), 7, device="cuda", seed=1), replace(SCORE, kind="block", seed=4)]


def given_to(name: str) -> Iterator[AttentionCase]:
    """Yield passes; few for `flex`, which is compiled for each shape and dtype."""
    for dtype in ("bfloat16",) if name == "flex" else ("float32", "float16", "bfloat16"):
        for case in CASES:
            for window in (None,) if name == "flex" else (None, 4):
                yield replace(case, dtype=dtype, window=window)


@pytest.mark.parametrize("name", BACKENDS)
def test_what_a_query_does_not_see_may_be_anything(name: str) -> None:
    backend, complaints = BACKENDS[name](), []
    for case in given_to(name):
        tensors = case.tensors()
        clean = attend(backend, tensors)
        for number in NUMBERS:
            for column in range(tensors.query.shape[2]):
                spoilt = attend(backend, unseen_spoilt(tensors, column, number))
                apart = ~torch.isclose(clean[:, :, column], spoilt[:, :, column], 1e-2, 1e-2)  # [B, H, D]
                if (apart & tensors.read[:, None, column, None]).any():
                    complaints.append(f"{case}, column {column}, {number}")
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("spoilt", ["key", "value"])
def test_what_a_query_sees_itself_is_told_by_sdpa(spoilt: str, dtype: str) -> None:
    backend = SdpaAttention()
    for number in NUMBERS:
        tensors = replace(SCORE, dtype=dtype, window=4).tensors()
        getattr(tensors, spoilt)[:, -1, 5] = number  # which some queries of the second row see
        seen = backend.prepare(tensors.mask, 4, tensors.query.dtype)[:, 0, :, 5]  # [B, n]
        assert seen.any()
        assert not seen.all()
        out = attend(backend, tensors)  # [B, H, n, D]
        assert torch.equal(~out.isfinite().all(-1).all(1), seen), number


CELLS = [(name, engine) for name in ("eager", "sdpa", "split") for engine in ("eager", "graphed")]


@pytest.mark.parametrize(("name", "engine"), [*CELLS, ("flex", "eager"), ("sdpa", "compiled"), ("split", "compiled")])
def test_text_is_the_oracles(name: str, engine: str) -> None:
    cache = StaticCache(slots=16)
    model = tiny_model("llama", dtype=torch.float32, head_dim=16).cuda()
    target = TransformersTarget(model, None, cache, BACKENDS[name](), engine=engine)
    target = with_a_token_of_nan(target, 11)
    answers = [target_oracle(target)(prompt, STOP) for prompt in PROMPTS]
    assert all(11 not in answer.token_ids for answer in answers)
    for number in NUMBERS:
        assert_lossless(decode_with(target, Poisoning(cache, number, token=11), PROMPTS, STOP), answers)
