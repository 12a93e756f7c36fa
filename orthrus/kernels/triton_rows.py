"""Triton kernels that do on a GPU, in one launch each, what a cycle does to its rows besides the passes.

Torch launches some forty operations for it, which shows beside the passes of small models. Elsewhere
`admission.bounded`, `sampling.accept_greedy` and `Context` do the same in torch; tests/gpu/test_row_kernels_cuda.py
holds one against the other. A program has one row. Triton launches on the current device, so the rows' own is made
that. n: width of the draft, T: of the text.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from orthrus.errors import InterfaceError
from orthrus.kernels.launch import current


@triton.jit(do_not_specialize=["width", "vocabulary", "stride"])
def _bound(
    tokens, lengths, room, bounded, short, broken, width, vocabulary, stride,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    mask = column < width
    token = tl.load(tokens + row * stride + column, mask=mask, other=0)
    inside = tl.minimum(tl.maximum(token, 0), vocabulary - 1)
    length = tl.load(lengths + row)
    least = tl.minimum(tl.minimum(tl.maximum(length, 0), width), tl.load(room + row))
    wrong = tl.sum(((inside != token) & (column < least)).to(tl.int32), 0) > 0
    tl.store(bounded + row * width + column, inside, mask=mask)
    tl.store(short + row, least)
    tl.store(broken + row, (wrong | (least != length)).to(tl.int64))


def bound(tokens: Tensor, lengths: Tensor, room: Tensor, vocabulary_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return draft tokens [B, n] and lengths [B] forced into their bounds, and [B] not 0 where any was not."""
    rows, width = tokens.shape
    tokens = tokens if tokens.stride(1) == 1 else tokens.contiguous()
    bounded = tokens.new_empty(rows, width)
    short, broken = torch.empty_like(room), torch.empty_like(room)
    with current(tokens.device):
        _bound[(rows,)](
            tokens, lengths.contiguous(), room, bounded, short, broken, width, vocabulary_size, tokens.stride(0),
            BLOCK=triton.next_power_of_2(width), num_warps=1,
        )  # fmt: skip
    return bounded, short, broken


@triton.jit(do_not_specialize=["width", "stride_choices", "stride_tokens"])
def _accept(choices, tokens, lengths, accepted, width, stride_choices, stride_tokens, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    mask = column < width
    choice = tl.load(choices + row * stride_choices + column, mask=mask, other=0)
    token = tl.load(tokens + row * stride_tokens + column, mask=mask, other=0)
    first = tl.min(tl.where(mask & (choice != token), column, width), 0)  # that differs
    tl.store(accepted + row, tl.minimum(first.to(tl.int64), tl.load(lengths + row)))


def accept(choices: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Return how many leading draft tokens [B, n] equal the choices [B, n + 1] at the same places: [B]."""
    rows, width = tokens.shape
    if choices.shape != (rows, width + 1) or lengths.shape != (rows,):
        shapes = f"choices {list(choices.shape)} and lengths {list(lengths.shape)}"
        raise InterfaceError(f"{shapes} do not fit draft tokens {list(tokens.shape)}")
    choices = choices if choices.stride(1) == 1 else choices.contiguous()
    tokens = tokens if tokens.stride(1) == 1 else tokens.contiguous()
    accepted = torch.empty_like(lengths, memory_format=torch.contiguous_format)
    with current(tokens.device):
        _accept[(rows,)](
            choices, tokens, lengths.contiguous(), accepted, width, choices.stride(0), tokens.stride(0),
            BLOCK=triton.next_power_of_2(width), num_warps=1,
        )  # fmt: skip
    return accepted


@triton.jit(do_not_specialize=["width", "stops", "text_width", "stride_text", "stride_draft", "stride_stops"])
def _commit(
    text, lengths, room, limits, draft, accepted, following, stop_ids, broken,
    new_lengths, new_room, anchors, facts,
    width, stops, text_width, stride_text, stride_draft, stride_stops,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    mask = column <= width
    claimed, bonus = tl.load(accepted + row).to(tl.int64), tl.load(following + row).to(tl.int64)
    accepted_count = tl.minimum(tl.maximum(claimed, 0), width)  # what is not there is reported with the step
    drafted = tl.load(draft + row * stride_draft + column, mask=column < width, other=0)
    token = tl.where((column == accepted_count) | (column == width), bonus, drafted)
    is_stop = column < 0
    for each in range(stops):
        is_stop = is_stop | (token == tl.load(stop_ids + row * stride_stops + each))
    until_stop = tl.min(tl.where(is_stop & mask, column + 1, width + 1), 0)
    count = tl.minimum(tl.minimum(accepted_count + 1, tl.load(limits + row)), until_stop)
    length, left = tl.load(lengths + row), tl.load(room + row) - count
    line = text + row.to(tl.int64) * stride_text
    before = tl.load(line + tl.maximum(length - 1, 0))
    last = tl.sum(tl.where(column == count - 1, token, 0), 0)
    anchor = tl.where(count > 0, last, before)
    for each in range(stops):
        left = tl.where(anchor == tl.load(stop_ids + row * stride_stops + each), 0, left)
    tl.store(line + tl.minimum(length + column, text_width - 1), token, mask=mask)
    tl.store(new_lengths + row, length + count)
    tl.store(new_room + row, left)
    tl.store(anchors + row, anchor)
    fact = facts + row * (width + 4)
    tl.store(fact, tl.load(broken + row))
    tl.store(fact + 1, claimed)
    tl.store(fact + 2, count)
    tl.store(fact + 3 + column, token, mask=mask)


def commit(
    text: Tensor,
    lengths: Tensor,
    room: Tensor,
    limits: Tensor,
    draft: Tensor,
    accepted: Tensor,
    following: Tensor,
    stop_ids: Tensor,
    broken: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Write drafts [B, n] up to accepted [B] and the following tokens [B] into the text [B, T], in place.

    limits [B]: the most tokens that a row commits; its room, or 0. stop_ids [B, S]: each row's, filled up with -1.
    Return the new lengths, room and anchors [B], and for each row whether its draft was broken, the accepted, how many
    were committed, and the candidates [B, 3 + n + 1].
    """
    rows, width = draft.shape
    draft = draft if width == 0 or draft.stride(1) == 1 else draft.contiguous()
    new_lengths, new_room, anchors = (torch.empty_like(lengths) for _ in range(3))
    facts = lengths.new_empty(rows, width + 4)
    with current(text.device):
        _commit[(rows,)](
            text, lengths, room, limits, draft, accepted.contiguous(), following.contiguous(), stop_ids, broken,
            new_lengths, new_room, anchors, facts,
            width, stop_ids.shape[1], text.shape[1], text.stride(0), draft.stride(0), stop_ids.stride(0),
            BLOCK=triton.next_power_of_2(width + 1), num_warps=1,
        )  # fmt: skip
    return new_lengths, new_room, anchors, facts
