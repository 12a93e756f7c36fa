"""A second attention beside each layer's own: what it computes, and that nothing else of the model notices it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from support.building import buffers_of, decode_with, model_of, transformers_target, unattached_model
from support.families import FAMILIES, FEW, VOCABULARY, WINDOW, attention_for, tiny_model
from support.thorough import thorough_but
from support.views import block_positions, committed, random_view
from torch import Tensor

from orthrus import AttentionCapabilities, BuildError, Draft, KVCache, Stop
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.static import StaticCache
from orthrus_drafters.none import NoDrafter
from orthrus_transformers.target import TransformersTarget

WIDTH = 6
FUSED = ["llama", "mistral", "qwen2", "qwen3"]


def prompts_of(family: str) -> list[list[int]]:
    chooser = random.Random(family)
    return [[chooser.randrange(VOCABULARY) for _ in range(length)] for length in (3, 2 * WINDOW + 3, 1)]


def block_of(rows: int) -> Tensor:
    return torch.randint(VOCABULARY, (rows, WIDTH), generator=torch.Generator().manual_seed(1))


def expected(family: str, windows: Sequence[int | None], prompt: Sequence[int], block: Sequence[int]) -> Tensor:
    """Return the logits of a block [n, V] from the unmodified model, without a cache: masks written out by hand."""
    model, length = unattached_model(family), len(prompt) + len(block)
    query, key = torch.arange(length)[:, None], torch.arange(length)
    seen = (key <= query) | (query >= len(prompt))

    def mask(window: int | None) -> Tensor:
        visible = seen if window is None else seen & (key > query - window)
        least = torch.finfo(model.dtype).min
        return torch.zeros(1, 1, length, length, dtype=model.dtype).masked_fill(~visible, least)

    masks: Any = mask(windows[0])
    if len(set(windows)) > 1:
        masks = dict(zip(model.config.layer_types, [mask(window) for window in windows], strict=True))
    own = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        ids, places = torch.tensor([[*prompt, *block]]), torch.arange(length)[None]
        with torch.no_grad():
            logits: Tensor = model(ids, attention_mask=masks, position_ids=places, use_cache=False).logits
    finally:
        model.set_attn_implementation(own)
    return logits[0, len(prompt) :]


@pytest.mark.parametrize("family", thorough_but(FEW, FAMILIES))
def test_a_view_of_copies_computes_what_the_model_would_with_a_blocks_mask(family: str) -> None:
    # Rows shorter and longer than the window, in one batch: the window hides keys of the view as of the model.
    prompts, target = prompts_of(family), transformers_target(family, chunk=4)
    target.attach_view("copy")
    context, block = committed(target, prompts), block_of(len(prompts))
    with model_of(target).orthrus_attention.windows_seen() as windows:
        logits = target.forward(context, block, block_positions(context, WIDTH), view="copy", kind="block")
    for row, prompt in enumerate(prompts):
        wanted = expected(family, windows, prompt, block[row].tolist())
        torch.testing.assert_close(logits[row], wanted, rtol=0, atol=2e-4 * float(wanted.std()))


@pytest.mark.parametrize("family", thorough_but(FEW, FAMILIES))
def test_the_model_does_not_notice_a_view(family: str) -> None:
    prompts, plain, target = prompts_of(family), transformers_target(family), transformers_target(family)
    before = {name: value.clone() for name, value in model_of(target).state_dict().items()}
    random_view(target, "noisy")
    context, other = committed(target, prompts), committed(plain, prompts)
    block = block_of(len(prompts))
    held = committed_slots(target, context.lengths - 1)
    noisy = target.forward(context, block, block_positions(context, WIDTH), view="noisy")
    assert same(held, committed_slots(target, context.lengths - 1))
    draft = Draft(block[:, 1:], torch.full((len(prompts),), WIDTH - 1))
    scored = target.score(context, draft)
    assert torch.equal(scored, plain.score(other, draft))
    assert not torch.allclose(noisy[:, 1:], scored[:, 1:])
    assert torch.equal(target.logits(prompts[1], 3), plain.logits(prompts[1], 3))
    after = model_of(target).state_dict()
    assert after.keys() == before.keys() and all(torch.equal(value, before[name]) for name, value in after.items())


def committed_slots(target: TransformersTarget, lengths: Tensor) -> list[Tensor]:
    """Return copies of every committed key and value."""
    return [
        buffer[row, :, :length].clone()
        for buffers in buffers_of(target.cache)
        for buffer in buffers
        for row, length in enumerate(lengths.tolist())
    ]


def same(ones: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(buffer, other) for buffer, other in zip(ones, others, strict=True))


def test_a_block_that_is_written_over_committed_slots_is_noticed() -> None:
    target = transformers_target()
    target.attach_view("copy")
    context = committed(target, [[1, 2, 3]])
    held = committed_slots(target, context.lengths - 1)
    target.cache.keep(target.cache.lengths - 1)  # the planted bug: one slot too early
    target.forward(context, block_of(1), block_positions(context, WIDTH), view="copy")
    assert not same(held, committed_slots(target, context.lengths - 1))


def test_a_causal_pass_through_a_view_of_copies_is_the_models_own() -> None:
    target = transformers_target("qwen3")
    target.attach_view("copy")
    context, block = committed(target, [[1, 2, 3], [4]]), block_of(2)
    block[:, 0] = context.anchors
    positions = block_positions(context, WIDTH)
    through_view = target.forward(context, block, positions, view="copy", kind="causal")
    scored = target.score(context, Draft(block[:, 1:], torch.full((2,), WIDTH - 1)))
    assert torch.equal(through_view, scored)
    assert torch.equal(target.forward(context, block, positions, view=None, kind="causal"), scored)


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3_text", "gpt2"])
def test_columns_that_a_row_does_not_use_are_not_seen(family: str) -> None:
    target = transformers_target(family)
    random_view(target, "noisy")
    prompts, used = [[1, 2, 3], list(range(20)), [5]], [2, 6, 1]
    block = block_of(3)
    context = committed(target, prompts)
    together = target.forward(context, block, block_positions(context, WIDTH, used), view="noisy")
    for row, width in enumerate(used):
        alone = committed(target, [prompts[row]])
        logits_alone = target.forward(alone, block[row : row + 1, -width:], block_positions(alone, width), view="noisy")
        torch.testing.assert_close(together[row, -width:], logits_alone[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("cache", [DynamicCache, lambda: StaticCache(slots=8)], ids=["dynamic", "static"])
@pytest.mark.parametrize("family", thorough_but(["llama", "mistral"], FUSED))
def test_engines_and_caches_agree(family: str, cache: type[KVCache]) -> None:
    prompts, block, logits = prompts_of(family), block_of(3), []
    for engine, held in (("eager", DynamicCache()), ("fused", cache()), ("eager", cache())):
        target = TransformersTarget(tiny_model(family), None, held, SdpaAttention(), engine=engine)
        random_view(target, "other", seed=1)
        random_view(target, "noisy")
        context = committed(target, prompts)
        logits.append(target.forward(context, block, block_positions(context, WIDTH), view="noisy"))
    for others_logits in logits[1:]:
        torch.testing.assert_close(others_logits, logits[0], rtol=0, atol=1e-4 * float(logits[0].std()))


def test_a_detached_view_is_gone_and_another_takes_its_name() -> None:
    target = transformers_target(attention=attention_for("llama"))
    random_view(target, "one")
    context, block = committed(target, [[1, 2]]), block_of(1)
    first = target.forward(context, block, block_positions(context, WIDTH), view="one")
    target.detach_view("one")
    with pytest.raises(BuildError, match="no view 'one' is attached to 'llama'"):
        target.forward(context, block, block_positions(context, WIDTH), view="one")
    random_view(target, "one", seed=1)
    assert not torch.allclose(first, target.forward(context, block, block_positions(context, WIDTH), view="one"))
    with pytest.raises(BuildError, match="a view 'one' is attached to 'llama' already"):
        target.attach_view("one")


def test_views_travel_by_the_models_own_names() -> None:
    first, two = transformers_target("qwen3"), transformers_target("qwen3")
    random_view(first, "noisy")
    weights = first.view_weights("noisy")
    assert weights.keys() <= dict(model_of(first).named_parameters()).keys()
    two.attach_view("noisy", weights)
    outputs = []
    for target in (first, two):
        context = committed(target, [[1, 2]])
        outputs.append(target.forward(context, block_of(1), block_positions(context, WIDTH), view="noisy"))
    assert torch.equal(*outputs)


def test_weights_that_do_not_fit_are_refused() -> None:
    target = transformers_target("qwen3")
    target.attach_view("copy")
    weights = target.view_weights("copy")
    name = "model.layers.1.self_attn.q_proj.weight"
    for broken, complaint in (
        ({key: value for key, value in weights.items() if key != name}, f"{name} is missing"),
        ({**weights, "model.norm.weight": torch.ones(32)}, "model.norm.weight is none of its attention"),
        ({**weights, name: torch.ones(2, 2)}, rf"{name} has the shape \[2, 2\], not \[32, 32\]"),
        ({}, r"model.layers.0.self_attn.k_norm.weight is missing \(and 23 more such\)"),
    ):
        with pytest.raises(BuildError, match=complaint):
            target.attach_view("broken", broken)


def test_a_model_without_one_attention_a_layer_takes_no_view() -> None:
    model = tiny_model("llama")
    target = TransformersTarget(model, None, DynamicCache(), SdpaAttention())
    del model.model.layers[1].self_attn.layer_idx
    with pytest.raises(BuildError, match="'llama' takes no view: 1 attention modules are found for its 2 layers"):
        target.attach_view("copy")


def test_an_attention_without_block_masks_takes_no_view() -> None:
    class CausalOnly(SdpaAttention):
        capabilities = AttentionCapabilities(kinds=frozenset({"causal"}))

    target = TransformersTarget(tiny_model("llama"), None, DynamicCache(), CausalOnly())
    with pytest.raises(BuildError, match="attention CausalOnly has no block masks, which a view needs"):
        target.attach_view("copy")


def test_fingerprints_tell_models_apart_and_not_views() -> None:
    target = transformers_target("llama")
    assert target.fingerprint() == transformers_target("llama").fingerprint()
    before = target.fingerprint()
    random_view(target, "noisy")
    assert target.fingerprint() == before
    other = TransformersTarget(tiny_model("llama", seed=1), None, DynamicCache(), SdpaAttention())
    assert other.fingerprint() != before


def test_decoding_goes_on_after_a_pass_through_a_view() -> None:
    target, plain = transformers_target("gemma3_text"), transformers_target("gemma3_text")
    random_view(target, "noisy")
    context = committed(target, [[1, 2]])
    target.forward(context, block_of(1), block_positions(context, WIDTH), view="noisy")
    wanted = decode_with(plain, NoDrafter(), [[3] * 20, [1]], Stop(10))
    results = decode_with(target, NoDrafter(), [[3] * 20, [1]], Stop(10))
    assert [result.token_ids for result in results] == [buffer.token_ids for buffer in wanted]
