"""States of recurrent layers forget rejected drafts: ragged rows in batches have the unmodified model's own text."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
import torch
from support.building import assert_held, decode_with, family_oracle, transformers_target
from support.drafters import ScriptedDrafter
from support.families import RECURRENT, VOCABULARY, tiny_model
from support.recordings import recording_target
from support.thorough import nightly_but
from torch import Tensor

from orthrus import BuildError, Drafter, KVCache, Result, Stop
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.paged import PagedCache
from orthrus_caches.static import StaticCache
from orthrus_draft_model.drafter import DraftModel
from orthrus_drafters.none import NoDrafter
from orthrus_transformers.model import recurrent_layers
from orthrus_transformers.recurrent.scored_pass import ScoredPass
from orthrus_transformers.target import TransformersTarget

PROMPTS = [
    [chooser.randrange(1, VOCABULARY) for _ in range(length)]
    for chooser in [random.Random(1)]
    for length in (4, 11, 1, 4)
]
STOP = Stop(12)


def plain(family: str, target: TransformersTarget) -> list[Result]:
    """Return what the target decodes without drafts, held to the unmodified model's own text."""
    results = decode_with(target, NoDrafter(), PROMPTS, STOP)
    assert_held(results, family_oracle(family), PROMPTS, STOP)
    return results


def scripted(results: Sequence[Result], right: float) -> Drafter:
    """Return a drafter that proposes these texts, of whose tokens such a share is right."""
    return ScriptedDrafter([result.token_ids for result in results], VOCABULARY, right, [0, 2, 5])


def assert_same(results: Sequence[Result], expected: Sequence[Result]) -> None:
    assert [result.token_ids for result in results] == [result.token_ids for result in expected]


@pytest.mark.parametrize("family", nightly_but(["qwen3_next"], RECURRENT, thorough=["mamba", "mamba2"]))
def test_drafts_that_are_rejected_leave_nothing_behind(family: str) -> None:
    target = transformers_target(family, chunk=4)
    expected = plain(family, target)
    for batch in (None, 2):
        assert_same(decode_with(target, scripted(expected, 0.6), PROMPTS, STOP, batch=batch), expected)


@pytest.mark.parametrize("family", nightly_but(["mamba"], ["falcon_mamba", "mamba", "mamba2"]))
def test_models_of_16_bits_round_as_such_though_their_logits_are_wider(family: str) -> None:
    model = tiny_model(family, dtype=torch.bfloat16)
    with torch.no_grad():
        assert model(torch.tensor([[1, 2]]), use_cache=False).logits.dtype == torch.float32
    target = TransformersTarget(model, None, StaticCache(slots=8), SdpaAttention())  # the self-check lets it pass
    assert all(len(result.token_ids) == 12 for result in decode_with(target, NoDrafter(), PROMPTS, STOP))


@pytest.mark.thorough
@pytest.mark.parametrize("cache", [lambda: StaticCache(slots=8), lambda: PagedCache(block=4)], ids=["static", "paged"])
def test_any_cache_does_for_the_layers_that_attend(cache: Callable[[], KVCache]) -> None:
    target = transformers_target("qwen3_next", cache(), chunk=3)
    expected = plain("qwen3_next", target)
    assert_same(decode_with(target, scripted(expected, 0.6), PROMPTS, STOP, batch=2), expected)


@pytest.mark.thorough
def test_layers_that_take_the_tokens_of_a_draft_one_by_one_keep_the_state_after_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recurrent_layers, "SCANS", {})
    target = transformers_target("qwen3_next", chunk=3)
    assert target.report()["recurrent"] == "token by token"
    expected = plain("qwen3_next", target)
    assert_same(decode_with(target, scripted(expected, 0.6), PROMPTS, STOP, batch=3), expected)


@pytest.mark.thorough
@pytest.mark.parametrize("family", ["qwen3_next", "mamba"])
def test_recorded_passes_leave_what_passes_leave_that_are_run(family: str) -> None:
    target = recording_target(family=family, slots=8)
    expected = plain(family, target)
    assert_same(decode_with(target, scripted(expected, 0.6), PROMPTS, STOP, batch=3), expected)
    recordings = target.engine.report()["graphs"]
    assert recordings > 2


@pytest.mark.thorough
@pytest.mark.parametrize("own", ["mamba2", "qwen3_next"])
def test_a_draft_model_with_recurrent_layers_forgets_what_it_drafted(own: str) -> None:
    target = transformers_target("qwen3_next", chunk=4)
    expected = plain("qwen3_next", target)
    drafter = DraftModel(target, transformers_target(own), 4, None)
    results = decode_with(target, drafter, PROMPTS, STOP, batch=2)
    assert_same(results, expected)
    if own == "qwen3_next":  # the same model, which is right as long as it knows where it is
        assert all(result.measures.accepted_per_cycle[:2] == (4, 4) for result in results)


def state_of_all_tokens(pending: ScoredPass, lengths: Tensor) -> Tensor:
    """Return that all tokens of a pass are kept, whatever was accepted: the planted bug."""
    return torch.full_like(lengths, pending.columns)


def test_a_state_that_remembers_rejected_drafts_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    target = transformers_target("qwen3_next")
    expected = plain("qwen3_next", target)
    monkeypatch.setattr(ScoredPass, "counts", state_of_all_tokens)
    assert decode_with(target, scripted(expected, 1.0), PROMPTS, STOP)[1].token_ids == expected[1].token_ids
    wrong = decode_with(target, scripted(expected, 0.5), PROMPTS, STOP)
    assert [result.token_ids for result in wrong] != [result.token_ids for result in expected]
    with pytest.raises(BuildError, match="qwen3_next' does not give its own logits"):  # at load, too
        transformers_target("qwen3_next")


def test_what_recurrent_layers_cannot_do_is_refused_with_a_sentence() -> None:
    with pytest.raises(BuildError, match=r"model type 'mamba' has recurrent layers, .*set cache.prefixes=0"):
        transformers_target("mamba", PagedCache(block=4, prefixes=4))
    target = transformers_target("mamba")
    with pytest.raises(BuildError, match="model type 'mamba' takes no view: 0 attention modules are found"):
        target.attach_view("view")
    with pytest.raises(BuildError, match="'compiled' has no form for recurrent layers; set engine=eager"):
        transformers_target("mamba", engine="compiled")
