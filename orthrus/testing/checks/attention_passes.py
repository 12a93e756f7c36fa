"""Holds what an attention backend computes against attention written out, in passes as it declares that they can be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from orthrus.interfaces import AttentionBackend
from orthrus.testing.check import BrokenRuleError, Factory, NotApplicableError
from orthrus.testing.checks.attention_cases import TOLERANCE, AttentionCase, attend, one_by_one


def hold_output(make: Factory, attention_case: AttentionCase) -> None:
    """Raise BrokenRuleError if an output is further off than its dtype explains."""
    backend, attention_case = fitting(make, attention_case)
    tensors, more = attention_case.tensors(), attention_case.more()
    actual, expected = attend(backend, tensors, **more), one_by_one(tensors, **more)
    if actual.shape != expected.shape or actual.dtype != tensors.query.dtype:
        value = f"{list(actual.shape)}, {actual.dtype}; wanted {list(expected.shape)}, {tensors.query.dtype}"
        raise BrokenRuleError(value, "the output")
    off = (actual.double() - expected).abs().masked_fill(~tensors.read[:, None, :, None], 0)
    bound = TOLERANCE[tensors.query.dtype] * max(1.0, float(expected.abs().max()))
    if not float(off.nan_to_num(torch.inf).max()) <= bound:
        row, head, column, _ = (off.nan_to_num(torch.inf) == off.nan_to_num(torch.inf).max()).nonzero()[0].tolist()
        value = (
            f"it is off by {float(off[row, head, column].max()):.3g}, allowed in {attention_case.dtype} is {bound:.3g}"
        )
        raise BrokenRuleError(value, f"row {row}, head {head}, query {column}")


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
