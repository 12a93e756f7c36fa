"""docs/tools/held_codes.py counts what two runs of a text hold otherwise, and says how it came."""

from __future__ import annotations

import runpy
from typing import Any

import torch
from docs_pages import ROOT
from torch import Tensor

TOOL: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "tools" / "held_codes.py"))
SHAPE = (4, 2, 5, 64)  # keys and values of two layers, heads, slots, numbers of a head: two groups


def difference(came: Tensor, held: Tensor, other_came: Tensor, other_held: Tensor, length: int = 5) -> Any:
    texts = (TOOL["Text"](came, held), TOOL["Text"](other_came, other_held))
    return TOOL["difference"](*texts, length)


def test_what_is_alike_and_what_lies_behind_the_text_is_not_counted() -> None:
    came, other = torch.ones(SHAPE), torch.ones(4, 2, 3, 64)
    came[:, :, 3:] = 7
    counted = difference(came, came, other, other)
    assert (counted.numbers, counted.otherwise, counted.apart) == (4 * 2 * 3 * 64, 0, None)


def test_numbers_held_otherwise_are_counted_and_told_from_those_that_came_equal() -> None:
    came = torch.ones(SHAPE)
    came[1, 0, 2, 40] = 4
    other_came, other_held = came.clone(), came.clone()
    other_came[1, 0, 2, 33] += 0.5  # in the group of the 4
    other_held[1, 0, 2, 33:35] += 1
    other_held[0, 1, 3, 2] += 1  # of a later token, and it came equal
    counted = difference(came, came, other_came, other_held)
    assert (counted.otherwise, counted.though_equal, counted.apart) == (3, 1, 0.5 / 4)
    assert difference(came, came, other_came, other_held, length=3).though_equal == 0
