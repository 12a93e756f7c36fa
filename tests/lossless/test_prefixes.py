"""Prompts that begin alike are not passed over again, and every text stays what it is without that."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.building import assert_held, decode_with, family_oracle, model_of, target_oracle, transformers_target
from support.thorough import thorough_but

import orthrus
from orthrus import Decoder, Drafter, Stop
from orthrus_caches.paged import PagedCache
from orthrus_diffusion.drafter import Diffusion
from orthrus_draft_model.drafter import DraftModel
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.options import SuffixOptions
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_drafters.suffix import Suffix
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.consensus import Consensus

BLOCK, BLOCKS, STOP = 4, 11, Stop(9)  # a text may be of 10 blocks


def dialogues(seed: int = 0) -> list[list[int]]:
    """Return prompts that begin alike, for the length of whole blocks and not."""
    chooser = random.Random(seed)

    def drawn(count: int) -> list[int]:
        return [chooser.randrange(40) for _ in range(count)]

    system, other = drawn(4 * BLOCK + 1), drawn(2 * BLOCK)
    return [system + drawn(5), other + drawn(1), system + drawn(11), system, other + drawn(9), drawn(3), system + other]


def passed(target: TransformersTarget) -> list[int]:
    """Return a list that the columns of every pass of the target's model are added to."""
    columns: list[int] = []

    def note(module: Any, arguments: Any, named: Any) -> None:
        columns.append(named["input_ids"].shape[1])

    model_of(target).register_forward_pre_hook(note, with_kwargs=True)
    return columns


def with_view(target: TransformersTarget) -> Drafter:
    target.attach_view("copy")
    return Diffusion(target, 4, 0, "copy")


def with_model(target: TransformersTarget) -> Drafter:
    return DraftModel(target, transformers_target("llama", PagedCache(BLOCK, BLOCKS, prefixes=8)), 3)


DRAFTERS: dict[str, Callable[[TransformersTarget], Drafter]] = {
    "none": lambda target: NoDrafter(),
    "prompt_lookup": lambda target: PromptLookup(4, 1, 3),
    "suffix": lambda target: Suffix(SuffixOptions(length=4, min_match=1)),
    "diffusion": with_view,
    "draft_model": with_model,  # whose pool has no room for all rows
}
CELLS = [
    (engine, attention, drafter)
    for engine in ("eager", "fused")
    for attention in ("eager", "sdpa")
    for drafter in DRAFTERS
]
FEW = [
    ("eager", "sdpa", "none"),
    ("fused", "eager", "diffusion"),
    ("fused", "sdpa", "draft_model"),
    ("eager", "eager", "suffix"),
]


@pytest.mark.parametrize(("engine", "attention", "drafter"), thorough_but(FEW, CELLS))
@pytest.mark.parametrize(("prefixes", "blocks"), [(64, None), (5, None), (8, BLOCKS)])
def test_texts_are_those_of_whole_prompts(
    engine: str, attention: str, drafter: str, prefixes: int, blocks: int | None
) -> None:
    cache = PagedCache(BLOCK, blocks, prefixes)
    target = transformers_target("llama", cache, 7, attention, engine)
    chosen = DRAFTERS[drafter](target)
    prompts = dialogues()
    for _ in range(2):  # what an earlier decoding left is there for the next
        results = decode_with(target, chosen, prompts, STOP, batch=3)
        assert_held(results, family_oracle("llama"), prompts, STOP)
        assert cache.blocks_in_use <= prefixes
    assert sum(result.restored_tokens for result in results) > 0


def test_only_the_rest_of_a_prompt_is_passed_over() -> None:
    target = transformers_target("llama", PagedCache(BLOCK, prefixes=64))
    columns = passed(target)
    decoder = Decoder.of(target, NoDrafter(), Consensus(), STOP)
    prompt = dialogues()[0]
    [first] = decoder.generate([prompt])
    assert columns == [len(prompt), *[1] * 8] and first.restored_tokens == 0
    columns.clear()
    turn = [*prompt, *first.token_ids, 5, 6, 7]
    [second] = decoder.generate([turn])  # all but the newest token of the answer is held, in whole blocks
    held = (len(prompt) + len(first.token_ids) - 1) // BLOCK * BLOCK
    assert second.restored_tokens == held and columns[0] == len(turn) - held
    columns.clear()
    decoder.generate([turn[: 2 * BLOCK]])
    assert columns[0] == BLOCK  # never a whole prompt: its last token has to say what follows


def test_prefixes_are_shared_between_chunks_of_sessions_and_cancelled_prompts_leave_none() -> None:
    cache = PagedCache(BLOCK, prefixes=64)
    target = transformers_target("llama", cache, 3)
    session = Decoder.of(target, PromptLookup(3, 1, 3), Consensus(), STOP).session(4)
    prompts = dialogues(1)
    session.add(prompts[5], id="5")
    results = [next(iter(session)).result]
    session.add(prompts[2], id="gone")
    results += [event.result for event in [next(iter(session))]]
    session.cancel("gone")  # its prompt of 28 tokens is passed over in chunks of 3
    known = cache.held_prefix(prompts[2])
    for number in (0, 1, 2, 3, 4, 6):
        session.add(prompts[number], id=str(number))
    results += [event.result for event in session]
    answers = {result.id: result for result in results if result is not None and result.id != "gone"}
    ordered = [answers[str(number)] for number in range(len(prompts))]
    assert known == 0
    assert_held(ordered, family_oracle("llama"), prompts, STOP)


def test_convolved_inputs_are_restored_too() -> None:
    target = transformers_target("lfm2", PagedCache(BLOCK, prefixes=64))
    for _ in range(2):
        results = decode_with(target, PromptLookup(4, 1, 3), dialogues(), STOP, batch=2)
        assert_held(results, family_oracle("lfm2"), dialogues(), STOP)
    assert all(result.restored_tokens for result in results if len(result.prompt_token_ids) > BLOCK)


def write_in_place(weight: torch.nn.Parameter) -> None:
    with torch.no_grad():
        weight.mul_(1.5)


def replace_tensor(weight: torch.nn.Parameter) -> None:
    weight.data = weight.data * 1.5


@pytest.mark.parametrize("change", [write_in_place, replace_tensor])
def test_prefixes_go_with_the_weights_that_computed_them(change: Callable[[torch.nn.Parameter], None]) -> None:
    target = transformers_target("llama", PagedCache(BLOCK, prefixes=64))
    decoder = Decoder.of(target, NoDrafter(), Consensus(), STOP)
    prompts = dialogues()[:1]
    before = [decoder.generate(prompts)[0] for _ in range(2)]
    for weight in model_of(target).model.layers[0].parameters():
        change(weight)
    after = [decoder.generate(prompts)[0] for _ in range(2)]
    assert [bool(result.restored_tokens) for result in (*before, *after)] == [False, True, False, True]
    assert_held(after, target_oracle(target), prompts * 2, STOP)


PUBLISHED = Path(__file__).parents[1] / "data" / "tiny-dflash-qwen3"


def with_dflash(cache: dict[str, Any]) -> Decoder:
    """Return a decoder with a drafter that reads hidden states."""
    return orthrus.load(
        {
            "target": {"name": "transformers", "source": str(PUBLISHED / "target"), "dtype": "float32"},
            "attention": {"name": "eager"},
            "cache": cache,
            "drafter": {"name": "dflash", "source": str(PUBLISHED / "drafter-full")},
            "stop": {"max_new_tokens": 8},
        }
    )


def test_a_drafter_that_reads_hidden_states_drafts_the_same_behind_prefixes() -> None:
    sharing, alone = with_dflash({"name": "paged", "block": 4, "prefixes": 64}), with_dflash({"name": "dynamic"})
    prompts = [[3, 1, 4, 1, 5, 9, 2, 6, 5, 3], [7] * 9]
    for _ in range(2):
        given, wanted = sharing.generate(prompts, batch=2), alone.generate(prompts, batch=2)
        assert [result.token_ids for result in given] == [result.token_ids for result in wanted]
        drafts = [[result.measures.accepted_per_cycle for result in results] for results in (given, wanted)]
        assert drafts[0] == drafts[1]
        prompts = [[*prompt, *result.token_ids, 5, 8] for prompt, result in zip(prompts, given, strict=True)]
    assert all(result.restored_tokens >= 8 for result in given)
