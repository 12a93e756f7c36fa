"""Checks of attention backends that attend for a scored draft and the blocks beside it at once (`AttendsBeside`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from orthrus.one_pass import Attending, AttendsBeside
from orthrus.testing.check import BrokenRuleError, Factory, NotApplicableError, check
from orthrus.testing.checks.attention_cases import SCALE, AttentionCase, AttentionTensors, attend
from orthrus.testing.checks.attention_passes import fitting, hold_attended, hold_form, hold_left_alone
from orthrus.values import MaskDescription

ONE_BUFFER = AttentionCase("blocks", (3,), 3, layout="static")
CASES = [
    ONE_BUFFER,
    replace(ONE_BUFFER, lengths=(0,), width=4, heads=2, groups=2, seed=1),
    AttentionCase("blocks", (7,), 5, window=3, seed=2),  # each kind has keys that were gathered for it
    replace(ONE_BUFFER, lengths=(300,), width=4, window=20, groups=3, seed=3),
    # as fused layers of 16 bits have them, on a GPU
    replace(ONE_BUFFER, lengths=(200,), width=7, heads=3, groups=3, size=64, dtype="bfloat16", seed=4),
    replace(ONE_BUFFER, lengths=(500,), width=5, heads=2, groups=2, size=128, window=300, dtype="bfloat16", seed=5),
]


@dataclass(frozen=True, eq=False)
class TwoKinds:
    """What a scored draft's queries, and those of the blocks beside it, attend with: one layer of a pass over a row."""

    draft: AttentionTensors
    blocks: AttentionTensors

    @classmethod
    def of(cls, attention_case: AttentionCase) -> TwoKinds:
        """Return a pass with blocks of a case; its queries are one tensor, and a static cache's keys one buffer."""
        blocks = attention_case.tensors()
        _, heads, columns, size = blocks.query.shape
        count = attention_case.width - 1  # the anchor, and the draft of a token less
        lengths, device = blocks.mask.lengths, blocks.query.device
        generator = torch.Generator().manual_seed(attention_case.seed + 1)
        drawn = torch.randn(1, heads, count, size, generator=generator).to(blocks.query.dtype).to(device)
        query = torch.cat([drawn, blocks.query], dim=2)
        extent = blocks.mask.extent - columns * (attention_case.seed % 2)  # the blocks' slots, too, or not
        own = lengths[:, None] + torch.arange(count, device=device)
        shared = attention_case.layout == "static"
        key, value = (states[:, :, :extent] for states in (blocks.key, blocks.value))
        draft = AttentionTensors(
            query[:, :, :count],
            key if shared else key.clone(),
            value if shared else value.clone(),
            MaskDescription("causal", own, lengths, extent),
            blocks.window,
            torch.ones_like(own, dtype=torch.bool),
        )
        return cls(draft, replace(blocks, query=query[:, :, count:]))


@check("attention", CASES)
def drafts_keep_their_bits_beside_blocks(make: Factory, attention_case: AttentionCase) -> None:
    """What `attend_beside` says of a scored draft is, to the bit, what `attend` says of it without the blocks."""
    backend, attention_case = _offering(make, attention_case)
    alone = attend(backend, TwoKinds.of(attention_case).draft)
    given, _ = _attended(backend, TwoKinds.of(attention_case))
    hold_form(given, alone, "the draft's output")
    if not torch.equal(given, alone):
        _, head, column, _ = (given != alone).nonzero()[0].tolist()
        raise BrokenRuleError("its bits are others than `attend` gives", f"head {head}, query {column} of the draft")


@check("attention", CASES)
def blocks_are_attended_beside_drafts(make: Factory, attention_case: AttentionCase) -> None:
    """By `attend_beside` the blocks see what they see by `attend`, and what they get is as close to float64's."""
    backend, attention_case = _offering(make, attention_case)
    _, given = _attended(backend, TwoKinds.of(attention_case))
    hold_attended(given, TwoKinds.of(attention_case).blocks)


@check("attention", CASES)
def attending_beside_leaves_inputs_alone(make: Factory, attention_case: AttentionCase) -> None:
    """Whether it attends or returns None, `attend_beside` changes nothing that it is handed, nor prepared masks."""
    backend, attention_case = _offering(make, attention_case)
    kinds, before = TwoKinds.of(attention_case), TwoKinds.of(attention_case)
    handed = _attending(backend, kinds)
    alone = [_attend(backend, kind) for kind in handed]
    backend.attend_beside(*handed, scale=SCALE)
    for name, kind, output in zip(("draft", "blocks"), handed, alone, strict=True):
        hold_left_alone(getattr(kinds, name), getattr(before, name), f"attend_beside, of the {name}")
        if not torch.equal(_attend(backend, kind), output):
            raise BrokenRuleError(f"with what was prepared `attend` gives the {name} another output", "attend_beside")


def _offering(make: Factory, attention_case: AttentionCase) -> tuple[Any, AttentionCase]:
    """Return the backend, and the pass as it declares it can be; raise NotApplicableError if it does not offer this."""
    backend, attention_case = fitting(make, attention_case)
    if not isinstance(backend, AttendsBeside):
        raise NotApplicableError("the backend does not offer `attend_beside`")
    return backend, attention_case


def _attending(backend: Any, kinds: TwoKinds) -> tuple[Attending, Attending]:
    return _prepared(backend, kinds.draft), _prepared(backend, kinds.blocks)


def _prepared(backend: Any, tensors: AttentionTensors) -> Attending:
    prepared = backend.prepare(tensors.mask, tensors.window, tensors.query.dtype)
    return Attending(tensors.query, tensors.key, tensors.value, prepared)


def _attend(backend: Any, kind: Attending) -> Tensor:
    """Return what one kind attends to [1, H, n, D], with what was prepared for it before."""
    out: Tensor = backend.attend(kind.query, kind.key, kind.value, kind.prepared, scale=SCALE)
    return out


def _attended(backend: AttendsBeside, kinds: TwoKinds) -> tuple[Tensor, Tensor]:
    """Return what both attend to; raise NotApplicableError if each is to be attended for alone."""
    given = backend.attend_beside(*_attending(backend, kinds), scale=SCALE)
    if given is None:
        raise NotApplicableError("the backend returned None for each of these passes: `attend` is called")
    draft, blocks = given
    return draft, blocks


ATTENTION_BESIDE = (
    drafts_keep_their_bits_beside_blocks,
    blocks_are_attended_beside_drafts,
    attending_beside_leaves_inputs_alone,
)
