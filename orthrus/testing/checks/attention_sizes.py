"""Checks of attention backends where small passes show nothing: many rows, keys and queries, wide heads, no numbers."""

from __future__ import annotations

from dataclasses import replace

import torch

from orthrus.testing.check import BrokenRuleError, Factory, NotApplicableError, check
from orthrus.testing.checks.attention_cases import AttentionCase, attend, unseen_spoilt
from orthrus.testing.checks.attention_passes import fitting, hold_output

ROWS = AttentionCase(lengths=tuple(row * 7 % 11 for row in range(130)), width=2, seed=20)
KEYS = AttentionCase(lengths=(300, 17), width=3, groups=2, seed=21)
QUERIES = AttentionCase(lengths=(9, 2), width=40, seed=22)
WIDE = AttentionCase(lengths=(5, 2), width=4, heads=2, size=128, seed=23)
CASES = [
    AttentionCase(lengths=(2, 7), width=4, groups=2, seed=1),
    AttentionCase("prefill", (2, 7), 7, seed=1),
    AttentionCase("block", (2, 7), 4, heads=2, seed=4),
]
NOT_FINITE = ("nan", "inf", "-inf")


@check("attention", [ROWS, replace(ROWS, kind="block", seed=24)])
def many_rows_are_attended(make: Factory, attention_case: AttentionCase) -> None:
    """A pass over 130 rows gives each its own output, though kernels work in groups of 32 or 128."""
    hold_output(make, attention_case)


@check("attention", [KEYS, replace(KEYS, window=260), AttentionCase("prefill", (300, 2), 300, seed=25)])
def many_keys_are_attended(make: Factory, attention_case: AttentionCase) -> None:
    """Queries see more than 256 keys: a softmax that is computed in parts puts them together."""
    hold_output(make, attention_case)


@check("attention", [QUERIES, replace(QUERIES, kind="block", groups=2, seed=26)])
def many_queries_are_attended(make: Factory, attention_case: AttentionCase) -> None:
    """A pass of 40 queries a row gives each its own output, to the last of a draft or block."""
    hold_output(make, attention_case)


@check("attention", [WIDE, replace(WIDE, size=256), replace(WIDE, size=96, groups=2)])
def wide_heads_are_attended(make: Factory, attention_case: AttentionCase) -> None:
    """Heads of 96, 128 and 256 numbers are multiplied whole."""
    if fitting(make, attention_case)[1].size != attention_case.size:
        raise NotApplicableError(f"the backend declares no heads of {attention_case.size}")
    hold_output(make, attention_case)


@check("attention", [replace(case, window=window) for window in (None, 4) for case in CASES])
def values_that_are_not_finite_are_not_seen(make: Factory, attention_case: AttentionCase) -> None:
    """What a query may not see may be NaN or infinite, in scratch slots and in other tokens of a draft."""
    backend, attention_case = fitting(make, attention_case)
    if not backend.capabilities.hides_any_value:
        raise NotApplicableError("the backend declares that values which are not finite are not hidden")
    tensors = attention_case.tensors()
    clean = attend(backend, tensors)
    for number in NOT_FINITE:
        for column in range(tensors.query.shape[2]):
            spoilt = attend(backend, unseen_spoilt(tensors, column, float(number)))
            apart = ~torch.isclose(clean[:, :, column], spoilt[:, :, column], 1e-2, 1e-2)
            apart &= tensors.read[:, None, column, None]
            if apart.any():
                row, head, _ = apart.nonzero()[0].tolist()
                value = f"its output is {float(spoilt[row, head, column][apart[row, head]][0])} with {number} where it"
                raise BrokenRuleError(f"{value} sees nothing", f"row {row}, head {head}, query {column}")


ATTENTION_SIZES = (
    many_rows_are_attended,
    many_keys_are_attended,
    many_queries_are_attended,
    wide_heads_are_attended,
    values_that_are_not_finite_are_not_seen,
)
