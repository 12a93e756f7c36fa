"""On a CUDA device: choices that a pass finds itself are the argmax of the logits that it gives; copies to the host."""

from __future__ import annotations

import pytest
import torch
from support.views import committed
from transformers import AutoConfig, AutoModelForCausalLM

from orthrus import Draft
from orthrus.batch.host_copy import FEWEST, HostCopy
from orthrus_attention.split_kv import SplitAttention
from orthrus_caches.static import StaticCache
from orthrus_transformers.loading.sources import SHAPES
from orthrus_transformers.target import TransformersTarget

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
PROMPTS = [[*range(1, 40)], [5, 9, 2]]


def target_of(engine: str) -> TransformersTarget:
    config = AutoConfig.from_pretrained(SHAPES / "smollm2-135m")
    config.num_hidden_layers = 2
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    return TransformersTarget(model, None, StaticCache(), SplitAttention(), engine=engine)


@pytest.mark.parametrize("engine", ["eager", "fused", "graphed"])
@pytest.mark.parametrize("tree", [False, True])
def test_choices_are_the_argmax_of_logits(engine: str, tree: bool) -> None:
    """Passes of both kinds and of two widths in turns: none takes what another left."""
    target = target_of(engine)
    rows = committed(target, PROMPTS, room=30, device="cuda")
    generator = torch.Generator().manual_seed(1)
    for width in (7, 15, 7):
        tokens = torch.randint(1000, (2, width), generator=generator).cuda()
        parents = torch.tensor([[(index - 1) // 2 for index in range(width)]] * 2).cuda() if tree else None
        draft = Draft(tokens, torch.full_like(rows.lengths, width), parents=parents)
        logits = target.score(rows, draft).clone()
        choices = target.score_choices(rows, draft).clone()
        assert torch.equal(choices, logits.argmax(-1))
        assert torch.equal(target.score(rows, draft), logits)
        assert torch.equal(target.score_choices(rows, draft), choices)


def test_what_was_launched_ahead_is_taken_by_whom_it_is_for() -> None:
    target = target_of("graphed")
    rows = committed(target, PROMPTS, room=30, device="cuda")
    logits = target.score(rows, rows.empty_draft()).clone()
    for choices in (False, True):
        target.score_ahead(rows, choices=choices)
        assert torch.equal(target.score(rows, rows.empty_draft()), logits)
        target.score_ahead(rows, choices=choices)
        assert torch.equal(target.score_choices(rows, rows.empty_draft()), logits.argmax(-1))


def test_a_copy_is_what_the_device_had_when_it_was_begun() -> None:
    copy, busy = HostCopy(), torch.randn(4096, 4096, device="cuda")
    for count, dtype in ((3, torch.int64), (2 * FEWEST, torch.int64), (5, torch.int64), (7, torch.float64)):
        numbers = torch.arange(count, device="cuda").to(dtype).view(1, count)
        for _ in range(20):
            busy = busy @ busy / 64  # what is launched before it is not done when the host goes on
        copy.begin(numbers)
        numbers += 1000
        assert copy.take().tolist() == [list(range(count))]
