"""Holds what an attention backend computes against attention written out, in passes as it declares that they can be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from orthrus.interfaces import AttentionBackend
from orthrus.testing.check import BrokenRuleError, Factory, NotApplicableError
from orthrus.testing.checks.attention_cases import TOLERANCE, AttentionCase, AttentionTensors, attend, one_by_one


def hold_output(make: Factory, attention_case: AttentionCase) -> None:
    """Raise BrokenRuleError if an output is further off than its dtype explains."""
    backend, attention_case = fitting(make, attention_case)
    tensors, more = attention_case.tensors(), attention_case.more()
    hold_attended(attend(backend, tensors, **more), tensors, **more)


def hold_attended(actual: Tensor, tensors: AttentionTensors, **more: Any) -> None:
    """Raise BrokenRuleError if what queries are said to attend to [B, H, n, D] is further off than its dtype explains.

    more: what `one_by_one` is told.
    """
    expected = one_by_one(tensors, **more)
    hold_form(actual, expected.to(tensors.query.dtype), "the output")
    off = (actual.double() - expected).abs().masked_fill(~tensors.read[:, None, :, None], 0)
    bound = bound_of(expected, tensors.query.dtype)
    if not float(off.nan_to_num(torch.inf).max()) <= bound:
        row, head, column, _ = (off.nan_to_num(torch.inf) == off.nan_to_num(torch.inf).max()).nonzero()[0].tolist()
        value = f"it is off by {float(off[row, head, column].max()):.3g}, {_allowed(bound, tensors.query.dtype)}"
        raise BrokenRuleError(value, f"row {row}, head {head}, query {column}")


def hold_form(actual: Tensor, wanted: Tensor, place: str) -> None:
    """Raise BrokenRuleError if a tensor has not the shape and dtype of another one; place: what messages call it."""
    if actual.shape != wanted.shape or actual.dtype != wanted.dtype:
        value = f"{list(actual.shape)}, {actual.dtype}; wanted {list(wanted.shape)}, {wanted.dtype}"
        raise BrokenRuleError(value, place)


def hold_close(actual: Tensor, expected: Tensor, dtype: torch.dtype, place: str) -> None:
    """Raise BrokenRuleError if numbers are further off those of float64 than the dtype they were computed in explains.

    place: what messages call them.
    """
    off, bound = (actual.double() - expected).abs().nan_to_num(torch.inf), bound_of(expected, dtype)
    if not float(off.max()) <= bound:
        raise BrokenRuleError(f"it is off by {float(off.max()):.3g}, {_allowed(bound, dtype)}", place)


def hold_left_alone(tensors: AttentionTensors, before: AttentionTensors, place: str) -> None:
    """Raise BrokenRuleError if a pass's tensors are others than before; place: who had them, as messages say it."""
    for name in ("query", "key", "value"):
        if not torch.equal(getattr(tensors, name), getattr(before, name)):
            raise BrokenRuleError(f"it changed the {name}", place)
    for name in ("positions", "lengths", "paths"):
        held, wanted = getattr(tensors.mask, name), getattr(before.mask, name)
        if held is not None and not torch.equal(held, wanted):
            raise BrokenRuleError(f"it changed the mask's {name}", place)


def bound_of(expected: Tensor, dtype: torch.dtype) -> float:
    """Return how far from numbers of float64 those of a dtype may be."""
    return TOLERANCE[dtype] * max(1.0, float(expected.abs().max()))


def _allowed(bound: float, dtype: torch.dtype) -> str:
    return f"allowed in {str(dtype).removeprefix('torch.')} is {bound:.3g}"


def fitting(make: Factory, attention_case: AttentionCase) -> tuple[AttentionBackend, AttentionCase]:
    """Return the backend, and the pass as it declares it can be; raise NotApplicableError if it cannot."""
    backend: Any = make()
    able = backend.capabilities
    kind = attention_case.kind if attention_case.kind in ("block", "tree", "blocks") else "causal"
    if kind not in able.kinds:
        raise NotApplicableError(f"the backend declares no {kind} attention")
    if attention_case.window is not None and not able.windows:
        raise NotApplicableError("the backend declares no windows")
    device = "cpu" if not able.devices or "cpu" in able.devices else sorted(able.devices)[0]
    if device == "cuda" and not torch.cuda.is_available():
        raise NotApplicableError("the backend works on cuda, and there is no GPU here")
    dtype, size = attention_case.dtype, attention_case.size
    dtype = dtype if not able.dtypes or dtype in able.dtypes else sorted(able.dtypes)[0]
    size = size if not able.head_sizes or size in able.head_sizes else min(able.head_sizes)
    return backend, replace(attention_case, device=device, dtype=dtype, size=size)
