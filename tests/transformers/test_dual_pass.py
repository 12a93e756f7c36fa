"""The passes of training compute what decoding computes, of the model itself and of a block through a view."""

from __future__ import annotations

import pytest
import torch
from support.building import model_of, transformers_target
from support.families import FAMILIES, FEW, WINDOW
from support.longrope import longrope_target
from support.thorough import thorough_but
from support.views import block_positions, committed, random_view
from torch import Tensor

from orthrus import MaskedBlocks, PackedRows
from orthrus_transformers.target import TransformersTarget
from orthrus_transformers.training import dual_pass

MASK, SIZE = 3, 5
LONG = 2 * WINDOW + 5
TEXTS = ([(7 * index + 5) % 11 for index in range(LONG)], [(5 * index + 1) % 13 for index in range(LONG - 3)])


def target_of(family: str) -> TransformersTarget:
    target = transformers_target(family)
    random_view(target, "view")
    return target


def packed() -> PackedRows:
    """Return a row that holds the texts one after the other, and one with them the other way round."""
    rows = [TEXTS, TEXTS[::-1]]
    starts = [[0] * len(first) + [len(first)] * len(second) for first, second in rows]
    return PackedRows(torch.tensor([first + second for first, second in rows]), torch.tensor(starts))


def blocks() -> MaskedBlocks:
    """Return blocks in both texts of each row, some past the window, one that goes on behind its text."""
    places = [[2, LONG - 2, LONG + 1, 2 * LONG - 6], [WINDOW, LONG - 5, LONG + 3, 2 * LONG - 4]]
    return MaskedBlocks(torch.tensor(places), SIZE, MASK)


def drafted_logits(target: TransformersTarget) -> Tensor:
    passes = target.dual_pass("view")
    passes.committed(packed())
    with torch.no_grad():
        return passes.project(passes.drafted(packed(), blocks()))


@pytest.mark.parametrize("family", thorough_but(FEW, FAMILIES))
def test_packed_rows_are_what_the_model_says_of_each_text(family: str) -> None:
    target = target_of(family)
    passes = target.dual_pass("view")
    logits = passes.project(passes.committed(packed()))
    for row, texts in enumerate([TEXTS, TEXTS[::-1]]):
        wanted = torch.cat([target.logits(text, len(text)) for text in texts])
        torch.testing.assert_close(logits[row], wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", thorough_but(FEW, FAMILIES))
def test_a_block_is_what_the_drafter_will_see(family: str) -> None:
    hold_blocks(target_of(family))


@pytest.mark.parametrize("family", ["llama", "phi3"])  # layers as functions, and modules
def test_a_block_that_goes_on_beyond_the_first_set_of_angles_changes_no_other(family: str) -> None:
    target = longrope_target(family, original=LONG)
    random_view(target, "view")
    hold_blocks(target)


def hold_blocks(target: TransformersTarget) -> None:
    """Assert that the logits of each block are those of the same pass in decoding."""
    logits = drafted_logits(target)
    for row, texts in enumerate([TEXTS, TEXTS[::-1]]):
        for index, column in enumerate(blocks().anchors[row].tolist()):
            text, anchor = (texts[0], column) if column < len(texts[0]) else (texts[1], column - len(texts[0]))
            context = committed(target, [text[:anchor]])
            tokens = torch.tensor([[text[anchor], *[MASK] * (SIZE - 1)]])
            wanted = target.forward(context, tokens, block_positions(context, SIZE), view="view", kind="block")[0]
            torch.testing.assert_close(logits[row, index], wanted, rtol=0, atol=1e-5)


def gradients(target: TransformersTarget) -> dict[str, Tensor]:
    passes = target.dual_pass("view")
    passes.committed(packed())
    logits = passes.project(passes.drafted(packed(), blocks()))
    (logits * torch.sin(torch.arange(logits.numel(), dtype=logits.dtype)).view_as(logits)).sum().backward()
    gradients = {name: weight.grad for name, weight in target.view_weights("view").items() if weight.grad is not None}
    passes.close()
    return gradients


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_layers_as_functions_have_the_gradients_of_the_modules(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    functions = gradients(target_of(family))
    monkeypatch.setattr(dual_pass, "KNOWN_MODELS", set())
    modules = gradients(target_of(family))
    assert functions.keys() == modules.keys() == target_of(family).view_weights("view").keys()
    for name, gradient in functions.items():
        assert gradient.abs().max() > 0
        apart = (gradient - modules[name]).abs().max() / gradient.abs().max()
        assert apart < 1e-5  # the modules' norms compute in float32 whatever the model's dtype


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_training_leaves_the_model_as_it_was(family: str) -> None:
    target = target_of(family)
    before = target.logits(TEXTS[0], 3)
    gradients(target)
    assert torch.equal(target.logits(TEXTS[0], 3), before)
    own = [
        name for name, weight in model_of(target).named_parameters() if weight.requires_grad or weight.grad is not None
    ]
    assert own == []
    assert not any(weight.requires_grad for weight in target.view_weights("view").values())
