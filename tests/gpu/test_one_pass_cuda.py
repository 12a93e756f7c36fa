"""On a CUDA device: one pass a cycle, captured, in which both kinds of rows walk through the layers together."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from support.building import assert_lossless, decode_with, target_oracle
from support.families import VOCABULARY, tiny_model
from support.views import committed, random_view
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

import orthrus_transformers.model.fused_beside as fused_beside
from orthrus import Draft, Plugins, Stop
from orthrus.kernels import skinny_linear
from orthrus.kernels.normed import Normed, room_for_norm
from orthrus.one_pass import AcceptableBlocks
from orthrus_attention.split_kv import SplitAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.static import StaticCache
from orthrus_diffusion.auto_cycle import AutoCycleDiffusion
from orthrus_diffusion.drafter import Diffusion
from orthrus_diffusion.one_pass import OnePassDiffusion
from orthrus_drafters.none import NoDrafter
from orthrus_transformers.loading.sources import SHAPES
from orthrus_transformers.target import TransformersTarget

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the compiler's own imports, for `flex`
    pytest.mark.filterwarnings("ignore:TensorFloat32"),  # its advice
]
CHOOSER = random.Random(0)
PROMPTS = [[CHOOSER.randrange(VOCABULARY) for _ in range(length)] for length in (3, 15, 1, 40, 7)]
STOP = Stop(30)


@pytest.mark.parametrize("engine", ["eager", "fused", "graphed"])
@pytest.mark.parametrize("attention", ["eager", "sdpa", "flex", "split"])
@pytest.mark.parametrize("family", ["llama", "mistral"])  # mistral has a window
def test_texts_in_float32_are_the_oracles(engine: str, attention: str, family: str) -> None:
    backend = Plugins.load().get("attention", attention).load_factory()(None, None)
    model = tiny_model(family, dtype=torch.float32, head_dim=16).cuda()
    cache = StaticCache(slots=16) if engine == "graphed" else DynamicCache()
    target = TransformersTarget(model, None, cache, backend, engine=engine)
    random_view(target, "noisy", noise=0.02)
    answers = [target_oracle(target)(prompt, STOP) for prompt in PROMPTS]
    for batch in (5, 2, 1):
        drafter = OnePassDiffusion(target, 6, VOCABULARY - 1, "noisy")
        assert_lossless(decode_with(target, drafter, PROMPTS, STOP, batch=batch), answers)


def shaped(shape: str, engine: str, layers: int = 4) -> TransformersTarget:
    """Return a target of a published shape with few layers, and a view of random weights."""
    config = AutoConfig.from_pretrained(SHAPES / shape)
    config.num_hidden_layers = layers
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    target = TransformersTarget(model, None, StaticCache(), SplitAttention(), engine=engine)
    random_view(target, "noisy", noise=0.002)
    return target


@pytest.mark.parametrize("shape", ["smollm2-135m", "qwen3-1.7b"])  # the second has norms of heads, and large layers
@pytest.mark.parametrize("engine", ["fused", "graphed"])
@pytest.mark.parametrize("drafts", [5, 7, 8])  # 8: 99 columns, for which blocks are run apart in large layers
@pytest.mark.parametrize("context", [5, 300, 470, 900])  # 470: the blocks alone reach into a larger bucket
def test_in_bfloat16_a_draft_has_the_bits_that_it_has_alone(shape: str, engine: str, drafts: int, context: int) -> None:
    target = shaped(shape, engine)
    generator = torch.Generator().manual_seed(context)
    prompt = torch.randint(1000, (context,), generator=generator).tolist()
    rows = committed(target, [prompt], room=16, device="cuda")
    tokens = torch.randint(1000, (1, drafts), generator=generator).cuda()
    draft = Draft(tokens, torch.full_like(rows.lengths, drafts))
    alone = target.score(rows, draft).clone()
    blocks = AcceptableBlocks("noisy", 3, drafts, drafts + 2, states=True)
    for _ in range(2):  # captured, then replayed
        logits, predictions = target.score_with_blocks(rows, draft, blocks)
        assert torch.equal(logits, alone)
    assert predictions.states is not None and predictions.states.shape[:3] == (1, drafts + 1, drafts)
    assert torch.equal(target.score(rows, draft), alone)


@pytest.mark.parametrize("shape", ["smollm2-135m", "qwen3-1.7b"])  # the second has norms of heads, and large layers
def test_blocks_say_what_they_say_where_they_are_run_apart(shape: str) -> None:
    target = shaped(shape, "fused")
    rows = committed(target, [[*range(1, 40)]], room=16, device="cuda")
    draft = Draft(torch.tensor([[7, 8, 9, 10, 11]], device="cuda"), torch.full_like(rows.lengths, 5))
    blocks = AcceptableBlocks("noisy", 3, 5, 7)
    logits, together = target.score_with_blocks(rows, draft, blocks)
    logits, together_logits = logits.clone(), together.logits.clone()
    twice = committed(target, [[*range(1, 40)]] * 2, room=16, device="cuda")  # two rows are run apart
    pair = Draft(draft.tokens.repeat(2, 1), draft.lengths.repeat(2))
    apart_logits, apart = target.score_with_blocks(twice, pair, blocks)
    for mine, other in ((logits, apart_logits[:1]), (together_logits, apart.logits[:1])):
        assert float((mine - other).abs().max()) <= 0.1 * float(other.std())


class LaunchesApart:
    """What `two_weights` has, by a launch for each kind of rows."""

    def __init__(self) -> None:
        self.taken: set[str] = set()

    def linear(self, normed: Normed, first: int, weights: Any, biases: Any, epsilon: float) -> Tensor:
        self.taken.add("linear")
        kinds = zip(self.kinds(first), weights, biases, strict=True)
        return torch.cat([skinny_linear.linear(normed.of(columns), *weight, epsilon) for columns, *weight in kinds], 1)

    def linear_rotated(
        self, normed: Any, first: int, weights: Any, biases: Any, epsilon: float, heads: Any, *given: Any
    ) -> Tensor:
        self.taken.add("linear_rotated")
        cosine, sine, (key, value, slots) = given
        queries = []
        for columns, *weight in zip(self.kinds(first), weights, biases, strict=True):
            angles, placed = (cosine[:, columns], sine[:, columns]), (key, value, slots[:, columns])
            queries.append(skinny_linear.linear_rotated(normed.of(columns), *weight, epsilon, heads, *angles, placed))
        return torch.cat(queries, 2)

    def linear_added(self, hidden: Any, weights: Any, residual: Tensor, norm: Tensor) -> Normed:
        self.taken.add("linear_added")
        room = room_for_norm(residual, len(weights[0]))
        for columns, seen, weight in zip(self.kinds(hidden[0].shape[1]), hidden, weights, strict=True):
            skinny_linear.linear_added(seen, weight, residual[:, columns], norm, room.of(columns))
        return room

    @staticmethod
    def kinds(first: int) -> tuple[slice, slice]:
        return slice(0, first), slice(first, None)


@pytest.mark.parametrize(("shape", "drafts"), [("smollm2-135m", 5), ("qwen3-1.7b", 7)])
def test_both_kinds_have_the_bits_that_launches_for_each_leave(
    shape: str, drafts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = shaped(shape, "fused")
    rows = committed(target, [[*range(1, 200)]], room=16, device="cuda")
    draft = Draft(torch.arange(7, 7 + drafts, device="cuda")[None], torch.full_like(rows.lengths, drafts))
    blocks = AcceptableBlocks("noisy", 3, drafts, drafts + 2)
    logits, predictions = target.score_with_blocks(rows, draft, blocks)
    logits, predicted = logits.clone(), predictions.logits.clone()
    apart = LaunchesApart()
    monkeypatch.setattr(fused_beside, "two_weights", apart)
    monkeypatch.setattr(SplitAttention, "attend_beside", lambda *given, **named: None)
    apart_logits, apart_predictions = target.score_with_blocks(rows, draft, blocks)
    assert len(apart.taken & {"linear", "linear_rotated"}) == 1 and "linear_added" in apart.taken
    assert torch.equal(logits, apart_logits) and torch.equal(predicted, apart_predictions.logits)


@pytest.mark.parametrize("shape", ["smollm2-135m", "qwen3-1.7b"])
@pytest.mark.parametrize("drafting", [{}, {"auto": True}, {"auto": True, "tree": 63}])
def test_auto_tries_both_ways_and_texts_in_bfloat16_stay_the_same(
    shape: str, drafting: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path))
    target, prompts, notes = shaped(shape, "graphed"), [[*range(1, 20)], [7, 8, 9], [*range(300, 340)]], []
    plain = {batch: decode_with(target, NoDrafter(), prompts, Stop(200), batch=batch) for batch in (1, 3)}
    two, one = Diffusion(target, 16, 3, "noisy", **drafting), OnePassDiffusion(target, 6, 3, "noisy")
    drafter = AutoCycleDiffusion(target, two, one, notify=notes.append)
    for batch, texts in plain.items():  # prompts that are prefilled together get other bits than alone
        results = decode_with(target, drafter, prompts, Stop(200), batch=batch)
        assert [result.token_ids for result in results] == [result.token_ids for result in texts]
    shares = dict(part.split(":") for part in drafter.report()["cycles"].split())
    assert set(shares) == {"one_pass", "two_passes"}
    assert any("cycle of one pass" in note for note in notes)
