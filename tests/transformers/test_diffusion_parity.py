"""A tiny model in the format of the released Orthrus-Qwen3 checkpoints computes what the original implementation did.

`tests/data/tiny-orthrus-qwen3` has the model, trained for a minute on arithmetic sequences, and the outputs.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.program import ROOT
from support.thorough import thorough_but
from support.views import committed
from torch import Tensor

import orthrus
from orthrus import Decoder, RowState
from orthrus_diffusion import drafter
from orthrus_diffusion.block import MaskedBlock
from orthrus_diffusion.drafter import VIEW, Diffusion
from orthrus_transformers.target import TransformersTarget

FOLDER = ROOT / "tests" / "data" / "tiny-orthrus-qwen3"
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
CASES = sorted(EXPECTED["cases"])
BLOCK = EXPECTED["block_size"]


@functools.cache
def decoder(attention: str = "sdpa", engine: str = "auto", cache: str = "dynamic") -> Decoder:
    target = {"name": "transformers", "source": str(FOLDER), "dtype": "float32", "device": "cpu", "engine": engine}
    parts = {"attention": {"name": attention}, "cache": {"name": cache}, "drafter": {"name": "diffusion"}}
    stop = {"max_new_tokens": EXPECTED["max_new_tokens"]}
    return orthrus.load({"target": target, **parts, "verifier": {"name": "consensus"}, "stop": stop})


@functools.cache
def logits() -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(FOLDER / "expected.safetensors")


def accepted(made_decoder: Decoder, batch: int) -> list[list[int]]:
    results = made_decoder.generate([EXPECTED["cases"][case]["prompt"] for case in CASES], batch=batch)
    return [list(result.measures.accepted_per_cycle) for result in results]


@pytest.mark.parametrize("case", CASES)
def test_autoregressive_logits(case: str) -> None:
    prompt = EXPECTED["cases"][case]["prompt"]
    logits_found = decoder().target.logits(prompt, len(prompt))
    torch.testing.assert_close(logits_found, logits()[f"ar_logits_{case}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("engine", ["eager", "fused"])
@pytest.mark.parametrize("case", CASES)
def test_diffusion_logits(case: str, engine: str) -> None:
    made_decoder, wanted = decoder(engine=engine), EXPECTED["cases"][case]
    target: Any = made_decoder.target
    assert isinstance(target, TransformersTarget) and isinstance(made_decoder.drafter, Diffusion)
    context = committed(target, [wanted["prompt"]])
    assert context.anchors.tolist() == [wanted["greedy"][len(wanted["prompt"])]]
    rows = RowState(context.lengths, context.anchors, context.room)
    block = MaskedBlock(BLOCK, made_decoder.drafter.mask_token_id, spare=True, choose=True)
    tokens, positions = block.tokens(rows), block.positions(rows)
    logits_found = target.forward(context, tokens, positions, view=VIEW, kind="block")[0]
    torch.testing.assert_close(logits_found, logits()[f"diffusion_logits_{case}"], rtol=0, atol=1e-5)


PARTS = [("sdpa", "auto", "dynamic"), ("eager", "fused", "static")]
EVERY_TIME = [(*PARTS[0], 4), (*PARTS[1], 3)]


@pytest.mark.parametrize(
    ("attention", "engine", "cache", "batch"),
    thorough_but(EVERY_TIME, [(*parts, batch) for parts in PARTS for batch in (1, 3, 4)]),
)
def test_tokens_and_accepted_drafts(attention: str, engine: str, cache: str, batch: int) -> None:
    # In a batch too: what a row drafts does not depend on the rows beside it, even where it is about to end.
    prompts = [EXPECTED["cases"][case]["prompt"] for case in CASES]
    results = decoder(attention, engine, cache).generate(prompts, batch=batch)
    for case, prompt, result in zip(CASES, prompts, results, strict=True):
        assert list(result.token_ids) == EXPECTED["cases"][case]["greedy"][len(prompt) :]
        assert list(result.measures.accepted_per_cycle) == EXPECTED["cases"][case]["accepted_per_cycle"]
        assert result.measures.passes == 1 + 2 * result.measures.cycles


def _moved(tokens: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    return tokens, positions + 1


def _masked_anchor(tokens: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    return tokens[:, -1:].expand_as(tokens), positions


def _other_mask(tokens: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([tokens[:, :1], tokens[:, 1:] - 1], 1), positions


@pytest.mark.parametrize("bug", thorough_but([_moved], [_moved, _masked_anchor, _other_mask]))
def test_a_wrong_block_is_noticed(
    bug: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Planted(MaskedBlock):
        spare = property(lambda self: True, lambda self, value: None)  # type: ignore[assignment]  # positions are asked

        def tokens(self, rows: RowState) -> Tensor:
            return bug(super().tokens(rows), super().positions(rows))[0]

        def positions(self, rows: RowState) -> Tensor:
            return bug(super().tokens(rows), super().positions(rows))[1]

    monkeypatch.setattr(drafter, "MaskedBlock", Planted)
    assert accepted(decoder(), 4) != [EXPECTED["cases"][case]["accepted_per_cycle"] for case in CASES]


def test_a_causal_block_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    own = TransformersTarget.draft
    monkeypatch.setattr(TransformersTarget, "draft", lambda *args, **kwargs: own(*args, **{**kwargs, "kind": "causal"}))
    assert accepted(decoder(), 4) != [EXPECTED["cases"][case]["accepted_per_cycle"] for case in CASES]
