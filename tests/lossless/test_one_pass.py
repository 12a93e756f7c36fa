"""One pass a cycle: the draft's logits have the bits that they have without blocks, and the text is the oracle's."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.building import assert_held, decode_with, family_oracle, table_target, transformers_target
from support.families import FEW, VOCABULARY, WINDOW, tiny_model
from support.joined_blocks import JoinedEngine
from support.native import hold_kernels, needs_kernels
from support.recordings import Recorded, recording_target
from support.successors import random_head
from support.thorough import thorough_but
from support.view_targets import ENGINES, view_target
from support.views import committed, random_view

import orthrus
from orthrus import (
    AttentionCapabilities,
    BuildError,
    ConfigError,
    Context,
    Draft,
    InputError,
    KVCache,
    RowState,
    Sampling,
    Stop,
    Target,
)
from orthrus.one_pass import AcceptableBlocks, check_one_pass
from orthrus.testing.profiles import fewer
from orthrus.testing.strategies import batches, stops
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.offloaded import OffloadedCache
from orthrus_caches.paged import PagedCache
from orthrus_caches.quantized import QuantizedCache
from orthrus_caches.static import StaticCache
from orthrus_diffusion.block import MaskedBlock
from orthrus_diffusion.drafter import Diffusion
from orthrus_diffusion.one_pass import OnePassDiffusion
from orthrus_drafters.none import NoDrafter
from orthrus_transformers.engines.graph_limits import GraphLimits
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.coupled import Coupled
from orthrus_verifiers.rejection import Rejection

MASK = VOCABULARY - 1
WITHOUT_MEMORY = [family for family in FEW if family != "lfm2"]  # whose layers convolve tokens


def some_draft(context: Context, width: int, seed: int = 0) -> Draft:
    """Return a draft of so many tokens of each row."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(VOCABULARY, (len(context.rows), width), generator=generator)
    return Draft(tokens, torch.full_like(context.lengths, width))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("drafts", [0, 1, 4])
def test_a_drafts_logits_have_the_same_bits(engine: str, drafts: int) -> None:
    target = view_target(engine)
    prompts = [[1, 2, 3], [7] * 20]
    context = committed(target, prompts)
    draft = some_draft(context, drafts)
    alone = target.score(context, draft).clone()
    logits, _ = target.score_with_blocks(context, draft, AcceptableBlocks("noisy", MASK, drafts, 6))
    assert torch.equal(logits, alone)
    assert torch.equal(target.score(context, draft), alone)  # the blocks leave nothing behind


@pytest.mark.parametrize("family", thorough_but(["llama", "gemma3_text"], WITHOUT_MEMORY))
def test_each_block_says_what_it_says_when_its_length_is_accepted(family: str) -> None:
    target = transformers_target(family, chunk=4)
    random_view(target, "noisy")
    chooser, drafts, size = random.Random(family), 3, 5
    prompts = [[chooser.randrange(VOCABULARY) for _ in range(length)] for length in (3, WINDOW + 7, 1)]
    context = committed(target, prompts, room=16)
    draft = some_draft(context, drafts)
    _, predictions = target.score_with_blocks(context, draft, AcceptableBlocks("noisy", MASK, drafts, size))
    drafted = draft.tokens.tolist()
    texts = [[*row.prompt, *row.output, *tokens] for row, tokens in zip(context.rows, drafted, strict=True)]
    for accepted in range(drafts + 1):
        ends = [text[: len(text) - drafts + accepted] for text in texts]
        later = after(target, ends)
        block = MaskedBlock(size, MASK, spare=False, choose=False)
        rows = RowState(later.lengths, later.anchors, later.room)
        tokens, positions = block.tokens(rows), later.lengths[:, None] - 1 + torch.arange(size)
        alone = target.forward(later, tokens, positions, view="noisy", kind="block")[:, 1:-1]
        torch.testing.assert_close(predictions.logits[:, accepted], alone)


def after(target: TransformersTarget, texts: list[list[int]]) -> Context:
    """Return a context whose rows have these texts, the last token of each being the anchor."""
    context = committed(target, [text[:-1] for text in texts], room=16)
    context.anchors = torch.tensor([text[-1] for text in texts])
    return context


@fewer(6)  # a model's passes, and its oracle's for every token
@given(
    prompts=batches(VOCABULARY, longest=14, rows=4),
    stop=stops(VOCABULARY),
    engine=st.sampled_from(ENGINES),
    block=st.integers(2, 9),
    head=st.sampled_from([None, 0.0, 2.0]),
    temperature=st.sampled_from([0.0, 0.7]),
    batch=st.integers(1, 4),
)
def test_the_text_is_the_oracles(
    prompts: list[list[int]],
    stop: Stop,
    engine: str,
    block: int,
    head: float | None,
    temperature: float,
    batch: int,
) -> None:
    target, sampling = view_target(engine), Sampling(temperature)
    successor = None if head is None else random_head(target, "noisy", head)
    drafter = OnePassDiffusion(target, block, MASK, "noisy", successor=successor)
    results = decode_with(target, drafter, prompts, stop, 1, batch, Coupled(), sampling)
    if temperature == 0:
        assert_held(results, family_oracle("llama"), prompts, stop)
        return
    plain = Diffusion(target, 4, MASK, "noisy")
    again = decode_with(target, plain, prompts, stop, 1, len(prompts), Coupled(), sampling)
    assert [result.token_ids for result in results] == [result.token_ids for result in again]


CACHES: dict[str, Callable[[], KVCache]] = {
    "dynamic": DynamicCache,
    "static": lambda: StaticCache(slots=16),
    "paged": lambda: PagedCache(block=4),
    "scarce": lambda: PagedCache(block=4, blocks=40),  # what blocks write behind an answer finds no room
    "quantized": QuantizedCache,
    "offloaded": OffloadedCache,
}


@pytest.mark.parametrize(
    "cache",
    [name if name in ("static", "scarce") else pytest.param(name, marks=pytest.mark.thorough) for name in CACHES],
)
def test_every_cache(cache: str) -> None:
    """The text is that of plain decoding over the same cache, and the cache cares for the blocks' slots."""
    chooser, stop = random.Random(cache), Stop(30)
    prompts = [[chooser.randrange(VOCABULARY) for _ in range(length)] for length in (3, 15, 1, 40, 7)]
    target = transformers_target("llama", CACHES[cache](), chunk=5)
    random_view(target, "noisy", noise=0.02)
    plain = decode_with(target, NoDrafter(), prompts, stop, batch=2)
    results = decode_with(target, OnePassDiffusion(target, 6, MASK, "noisy"), prompts, stop, batch=2)
    assert [result.token_ids for result in results] == [result.token_ids for result in plain]
    assert sum(sum(result.measures.accepted_per_cycle) for result in results) > 0


def test_a_cycle_is_one_pass() -> None:
    """But for the first draft of an answer, which the view makes alone; where rows are filled, it does so again."""
    target = view_target("static")
    [result] = decode_with(target, OnePassDiffusion(target, 6, MASK, "noisy"), [[1, 2, 3]], Stop(40))
    assert result.measures.passes == 1 + 1 + result.measures.cycles


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_drawn_drafts_come_from_what_they_say(temperature: float) -> None:
    """Whatever `rejection` makes of them: a token without a probability of its own would end decoding."""
    target, sampling = view_target("static"), Sampling(temperature)
    for head in (None, 2.0):
        successor = None if head is None else random_head(target, "noisy", head)
        drafter = OnePassDiffusion(target, 5, MASK, "noisy", successor=successor)
        results = decode_with(target, drafter, [[1, 2, 3], [4]], Stop(20), 1, 2, Rejection(), sampling)
        assert all(len(result.token_ids) == 20 for result in results)


def test_rows_of_a_session_come_and_go() -> None:
    target, stop = view_target("dynamic"), Stop(12)
    prompts = [[index + 1] * (1 + 3 * index) for index in range(6)]
    results = decode_with(target, OnePassDiffusion(target, 5, MASK, "noisy"), prompts, stop, batch=3)
    assert_held(results, family_oracle("llama"), prompts, stop)


def test_blocks_that_slots_do_not_suffice_for_are_left_out() -> None:
    target = transformers_target("llama", StaticCache(slots=16, max_slots=32))
    random_view(target, "noisy", noise=0.02)
    [result] = decode_with(target, OnePassDiffusion(target, 5, MASK, "noisy"), [[1, 2]], Stop(30))
    assert result.measures.passes > 1 + 1 + result.measures.cycles  # the view drafts alone where they would not fit
    assert_held([result], family_oracle("llama"), [[1, 2]], Stop(30))


def test_what_is_not_there_or_too_large_is_told() -> None:
    target = recording_target(limits=GraphLimits(tokens=20, strict=True))
    context = committed(target, [[1, 2, 3]])
    draft, blocks = some_draft(context, 3), AcceptableBlocks("noisy", MASK, 3, 5)
    with pytest.raises(BuildError, match=r"^no view 'noisy' is attached to"):
        target.score_with_blocks(context, draft, blocks)
    random_view(target, "noisy")
    with pytest.raises(InputError, match=r"over 24 tokens \(.* and the blocks beside it\).* drafter\.cycle=two_passes"):
        target.score_with_blocks(context, draft, blocks)


class NoBlocks(SdpaAttention):
    capabilities = AttentionCapabilities(kinds=frozenset({"causal", "block", "tree"}), plain=True)


def refused(target: Target) -> str:
    drafter = OnePassDiffusion(view_target("static"), 6, MASK, "noisy")
    with pytest.raises(BuildError) as error:
        check_one_pass(target, drafter)
    return str(error.value)


def test_parts_that_cannot_are_refused_with_what_would_work() -> None:
    drafting = "drafter 'diffusion' drafts in the pass that scores (cycle: one_pass), and"
    assert refused(table_target()) == (
        f"{drafting} target 'TableTarget' runs no blocks beside a draft; set drafter.cycle=two_passes"
    )
    target = TransformersTarget(tiny_model("llama"), None, DynamicCache(), NoBlocks(), engine="eager")
    assert refused(target) == (
        f"{drafting} attention 'NoBlocks' has no masks of blocks beside a draft; set attention.name=sdpa or eager, or"
        " drafter.cycle=two_passes"
    )
    assert refused(transformers_target("lfm2")) == (
        f"{drafting} target 'transformers' has recurrent or convolutional layers, whose states follow one path; take"
        " another model, or drafter.cycle=two_passes"
    )
    check_one_pass(table_target(), NoDrafter())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tree": 8}, "drafter.cycle: one_pass drafts chains: leave tree out, or set cycle=two_passes"),
        ({"block": "auto"}, "drafter.cycle: one_pass drafts as many tokens in each cycle: set block to a number"),
        ({"cycle": "no_pass"}, "cycle"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, object], sentence: str) -> None:
    config = {
        "target": {"name": "table"},
        "attention": {"name": "eager"},
        "cache": {"name": "dynamic"},
        "drafter": {"name": "diffusion", "cycle": "one_pass", **options},
        "verifier": {"name": "consensus"},
    }
    with pytest.raises(ConfigError, match=sentence):
        orthrus.load(config)


@pytest.mark.parametrize("family", thorough_but(["qwen3"], ["llama", "mistral", "qwen2", "qwen3"]))
@pytest.mark.parametrize("recorded", [False, True])
def test_both_kinds_of_rows_in_one_walk_through_the_layers(family: str, recorded: bool) -> None:
    """It is what two walks give, as a draft grows into further slots, and what comes after blocks is as ever."""
    engine: Any = Recorded(JoinedEngine) if recorded else JoinedEngine
    targets = [
        TransformersTarget(tiny_model(family), None, StaticCache(slots=16), SdpaAttention(), engine=chosen)
        for chosen in (engine, "fused")
    ]
    for target in targets:
        random_view(target, "noisy", noise=0.02)
    for length in (3, 12, 40):
        said = []
        for target in targets:
            context = committed(target, [list(range(1, length))])
            draft, blocks = some_draft(context, 3), AcceptableBlocks("noisy", MASK, 3, 5, states=True)
            for _ in range(2):  # recorded, then replayed
                logits, predictions = target.score_with_blocks(context, draft, blocks)
            assert predictions.states is not None
            kept = [logits, predictions.logits, predictions.states]
            said.append([*(made.clone() for made in kept), target.score(context, draft).clone()])
        for mine, wanted in zip(*said, strict=True):
            torch.testing.assert_close(mine, wanted)


@pytest.mark.parametrize("head", [pytest.param(None, marks=pytest.mark.thorough), 2.0])
def test_texts_of_joined_passes_are_the_oracles(head: float | None) -> None:
    model = tiny_model("llama")
    target = TransformersTarget(
        model, None, StaticCache(slots=16), SdpaAttention(), engine=Recorded(JoinedEngine), prefill_chunk=5
    )
    random_view(target, "noisy", noise=0.02)
    successor = None if head is None else random_head(target, "noisy", head)
    prompts, stop = [[1, 2, 3], [7] * 9], Stop(40)
    drafter = OnePassDiffusion(target, 5, MASK, "noisy", successor=successor)
    assert_held(decode_with(target, drafter, prompts, stop, batch=1), family_oracle("llama"), prompts, stop)


@needs_kernels
@pytest.mark.parametrize("family", thorough_but(["llama"], ["llama", "mistral", "qwen3"]))
def test_the_engine_native_says_what_the_models_own_modules_say(family: str) -> None:
    hold_kernels()
    said = []
    for engine in ("eager", "native"):
        model = tiny_model(family, dtype=torch.float32)
        target = TransformersTarget(model, None, DynamicCache(), SdpaAttention(), engine=engine, prefill_chunk=5)
        random_view(target, "noisy", noise=0.02)
        context = committed(target, [[1, 2, 3], [7] * (WINDOW + 5)])
        draft = some_draft(context, 3)
        alone = target.score(context, draft).clone()
        logits, predictions = target.score_with_blocks(context, draft, AcceptableBlocks("noisy", MASK, 3, 5, True))
        assert torch.equal(logits, alone)
        assert predictions.states is not None
        said.append((predictions.logits, predictions.states))
    for mine, wanted in zip(said[1], said[0], strict=True):
        torch.testing.assert_close(mine, wanted, rtol=0, atol=1e-4 * float(wanted.std()))
