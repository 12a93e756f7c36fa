"""On a CUDA device: taps are what a plain forward gives, captured passes included; drafters agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lossless.test_published_drafters import FIXTURES, Watching, config
from lossless.test_taps import TapRecorder, check_texts
from support.building import assert_lossless, decode_with, target_oracle
from support.families import tiny_model
from support.published import published
from support.syncs import syncs

import orthrus
from orthrus import Stop
from orthrus_attention.split_kv import SplitAttention
from orthrus_caches.static import StaticCache
from orthrus_drafters.none import NoDrafter
from orthrus_transformers.target import TransformersTarget

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
COMPILED = pytest.param("compiled", marks=pytest.mark.filterwarnings("ignore::DeprecationWarning"))  # of its imports
PROMPTS = [[1, 2, 3], [4] * 19, [5], [6, 7] * 4, [8, 9, 10]]


@pytest.mark.parametrize("engine", ["eager", "fused", "graphed", COMPILED])
def test_taps_are_those_of_a_plain_forward(engine: str) -> None:
    model = tiny_model("llama", dtype=torch.float32).cuda()
    cache = StaticCache(slots=32)
    target = TransformersTarget(model, None, cache, SplitAttention(), engine=engine, prefill_chunk=16)
    for drafts in (3, 0, 3):  # other passes are recorded between
        recorder = TapRecorder(drafts=drafts)
        results = decode_with(target, recorder, PROMPTS, Stop(40), batch=2)
        assert_lossless(results, [target_oracle(target)(prompt, Stop(40)) for prompt in PROMPTS])
        check_texts(target, recorder)
        decode_with(target, NoDrafter(), PROMPTS, Stop(4), batch=4)


@pytest.mark.parametrize(("kind", "checkpoint"), [("dflash", "drafter-sliding"), ("eagle3", "head-reduced")])
def test_drafts_are_those_of_the_cpu(kind: str, checkpoint: str, tmp_path: Path) -> None:
    source = published(FIXTURES[kind][0]).checkpoint(checkpoint, tmp_path)
    plain = config(kind, source)
    drafts = []
    for device, parts in (
        ("cpu", {}),
        ("cuda", {"cache": {"name": "static"}, "attention": {"name": "split"}}),
    ):
        settings: dict[str, Any] = {**plain, **parts, "target": {**plain["target"], "device": device}}
        decoder, watching = orthrus.load(settings), Watching()
        prompts = [prompt["prompt"] for prompt in published(FIXTURES[kind][0]).expected["prompts"]]
        for batch in (1, 3):
            orthrus.Decoder.of(decoder.target, decoder.drafter, watching, Stop(40)).generate(prompts, batch=batch)
        drafts.append(watching.drafts)
    assert drafts[0] == drafts[1]


@pytest.mark.parametrize(("kind", "checkpoint"), [("dflash", "drafter-full"), ("eagle3", "head-full")])
def test_a_cycle_with_taps_waits_for_no_more_than_its_step(kind: str, checkpoint: str, tmp_path: Path) -> None:
    source = published(FIXTURES[kind][0]).checkpoint(checkpoint, tmp_path)
    settings = {**config(kind, source), "cache": {"name": "static"}, "attention": {"name": "split"}}
    settings["target"] = {**settings["target"], "device": "cuda"}
    decoder = orthrus.load(settings)
    decoder.generate([[1, 2, 3]])  # all is recorded
    drafter = decoder.drafter
    read_taps, propose = drafter.read_taps, drafter.propose  # type: ignore[attr-defined]

    def without_syncs(work: Any) -> Any:
        def inner(*given: Any) -> Any:
            with syncs("error"):
                return work(*given)

        return inner

    drafter.read_taps, drafter.propose = without_syncs(read_taps), without_syncs(propose)  # type: ignore[attr-defined]
    decoder.generate([[1, 2, 3]])
