"""Triton kernels for the likeliest tokens of each place of a block, and the logarithm of its sum of exponentials.

The first kernel reads a piece of a place's logits once, and keeps its few largest and its sum; the second joins the
pieces. torch sorts, and reads the logits several times. M: places of all rows, V: vocabulary, k: tokens of each.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

PIECE = 4096  # logits of a program
MOST_CANDIDATES = 64


@triton.jit
def _largest(values, tokens):
    """Return the largest of some values and its token, the least of those that are equal; and the others."""
    best = tl.max(values, 0)
    token = tl.min(tl.where(values == best, tokens, 2147483647), 0)
    return best, token, tl.where((values == best) & (tokens == token), -float("inf"), values)


@triton.jit(do_not_specialize=["vocabulary", "stride", "pieces"])
def _of_piece(
    logits, values, tokens, tops, sums, vocabulary, stride, pieces,
    COUNT: tl.constexpr, LANES: tl.constexpr, PIECE: tl.constexpr,
):  # fmt: skip
    place, piece = tl.program_id(0).to(tl.int64), tl.program_id(1)
    token = piece * PIECE + tl.arange(0, PIECE)
    given = tl.load(logits + place * stride + token, mask=token < vocabulary, other=-float("inf")).to(tl.float32)
    unknown = tl.sum((given != given).to(tl.int32), 0) > 0
    rest = tl.where(given != given, -float("inf"), given)
    top = tl.max(rest, 0)
    level = tl.where(top == -float("inf"), 0.0, top)  # a piece of nothing else has the sum 0
    total = tl.sum(tl.exp(rest - level), 0)
    lane = tl.arange(0, LANES)
    kept, names = tl.full([LANES], -float("inf"), tl.float32), tl.zeros([LANES], tl.int32)
    for number in tl.static_range(COUNT):
        best, name, rest = _largest(rest, token)
        kept, names = tl.where(lane == number, best, kept), tl.where(lane == number, name, names)
    at = place * pieces + piece
    tl.store(values + at * COUNT + lane, kept, mask=lane < COUNT)
    tl.store(tokens + at * COUNT + lane, names, mask=lane < COUNT)
    tl.store(tops + at, level)
    tl.store(sums + at, tl.where(unknown, float("nan"), total))


@triton.jit(do_not_specialize=["pieces"])
def _join(
    values, tokens, tops, sums, out_values, out_tokens, normalizers, pieces,
    COUNT: tl.constexpr, LANES: tl.constexpr, PIECES: tl.constexpr, CELLS: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0).to(tl.int64)
    piece, cell, lane = tl.arange(0, PIECES), tl.arange(0, CELLS), tl.arange(0, LANES)
    level = tl.load(tops + place * pieces + piece, mask=piece < pieces, other=-float("inf"))
    total = tl.load(sums + place * pieces + piece, mask=piece < pieces, other=0.0)
    top = tl.max(level, 0)
    tl.store(normalizers + place, top + tl.log(tl.sum(total * tl.exp(level - top), 0)))
    there = cell < pieces * COUNT
    rest = tl.load(values + place * pieces * COUNT + cell, mask=there, other=-float("inf"))
    names = tl.load(tokens + place * pieces * COUNT + cell, mask=there, other=2147483647)
    kept, chosen = tl.full([LANES], -float("inf"), tl.float32), tl.zeros([LANES], tl.int32)
    for number in tl.static_range(COUNT):
        best, name, rest = _largest(rest, names)
        kept, chosen = tl.where(lane == number, best, kept), tl.where(lane == number, name, chosen)
    tl.store(out_values + place * COUNT + lane, kept, mask=lane < COUNT)
    tl.store(out_tokens + place * COUNT + lane, chosen.to(tl.int64), mask=lane < COUNT)


def likeliest(logits: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest logits [B, D, k] in float32, their tokens, and the normalizers [B, D].

    logits [B, D, V]; count: k, at most V and `MOST_CANDIDATES`. Of equal logits the lowest token comes first. A
    normalizer is the logarithm of the sum of all exponentials: NaN for a place that has a logit that is no number.
    """
    rows, depth, vocabulary = logits.shape
    assert count <= min(vocabulary, MOST_CANDIDATES), "more tokens than there are, or than the kernel keeps"
    flat = logits.reshape(rows * depth, vocabulary)
    flat = flat if flat.stride(1) == 1 else flat.contiguous()
    places, pieces = len(flat), triton.cdiv(vocabulary, PIECE)
    parts = flat.new_empty(places, pieces, count, dtype=torch.float32)
    names = flat.new_empty(places, pieces, count, dtype=torch.int32)
    tops = flat.new_empty(places, pieces, dtype=torch.float32)
    sums = torch.empty_like(tops)
    values = flat.new_empty(rows, depth, count, dtype=torch.float32)
    tokens = flat.new_empty(rows, depth, count, dtype=torch.int64)
    normalizers = flat.new_empty(rows, depth, dtype=torch.float32)
    lanes = triton.next_power_of_2(count)
    if not places:
        return values, tokens, normalizers
    with torch.cuda.device(logits.device):
        _of_piece[(places, pieces)](
            flat, parts, names, tops, sums, vocabulary, flat.stride(0), pieces,
            COUNT=count, LANES=lanes, PIECE=PIECE, num_warps=8,
        )  # fmt: skip
        _join[(places,)](
            parts, names, tops, sums, values, tokens, normalizers, pieces,
            COUNT=count, LANES=lanes, PIECES=triton.next_power_of_2(pieces),
            CELLS=triton.next_power_of_2(pieces * count), num_warps=4,
        )  # fmt: skip
    return values, tokens, normalizers
