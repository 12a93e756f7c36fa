"""Scans of recurrent layers, recorded in a scored pass so that a state can be moved on by the accepted tokens alone.

A layer's own code calls a function of its module, by a name that families share; `SCANS` has what stands in its place
while a pass is scored. B: rows, n: tokens.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, Self

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from orthrus_transformers.recurrent.scan_states import delta_rule_state, selective_state, state_space_state

Given = Mapping[str, Any]  # the arguments of a scan by their names


class RecordedScan(Protocol):
    """What a scan was given, by which a state can be moved on; those of equal layers can be joined."""

    def joined(self, others: Sequence[Self]) -> Self:
        """Return this scan and the others as one, with a dimension for layers before all others."""

    def state_after(self, state: Tensor, live: Tensor) -> Tensor:
        """Return the state [G, B, ...] of joined scans after the live tokens [B, n], from the one before."""


@dataclass(frozen=True, eq=False)
class Joinable:
    """A record of tensors that are joined field by field."""

    def joined(self, others: Sequence[Self]) -> Self:
        """Return all records as one, with a dimension for them before all others."""
        every = [self, *others]
        parts = {field.name: [getattr(record, field.name) for record in every] for field in fields(self)}
        return type(self)(
            **{
                name: torch.stack(values) if isinstance(values[0], Tensor) else values[0]
                for name, values in parts.items()
            }
        )


@dataclass(frozen=True, eq=False)
class DeltaRuleScan(Joinable):
    """A scan of the gated delta rule: keys [B, n, H_k, K], values [B, n, H, V]; normed: keys get length 1."""

    keys: Tensor
    values: Tensor
    decay: Tensor
    beta: Tensor
    normed: bool

    @classmethod
    def of(cls, given: Given) -> DeltaRuleScan:
        """Return the record of what a scan was given."""
        normed = bool(given.get("use_qk_l2norm_in_kernel", False))
        return cls(given["key"], given["value"], given["g"], given["beta"], normed)

    def state_after(self, state: Tensor, live: Tensor) -> Tensor:
        """Return the state [G, B, H, K, V] after the live tokens."""
        keys = self.keys.to(state.dtype)
        if self.normed:
            keys = keys * torch.rsqrt(keys.square().sum(-1, keepdim=True) + 1e-6)
        keys = keys.repeat_interleave(self.values.shape[-2] // keys.shape[-2], dim=-2)  # of grouped heads
        return delta_rule_state(state, keys, self.values, self.decay, self.beta, live)


@dataclass(frozen=True, eq=False)
class StateSpaceScan(Joinable):
    """A scan of scalar rates: inputs [B, n, H, D], steps [B, n, H], rates [H], writes [B, n, groups, N], bias [H]."""

    inputs: Tensor
    steps: Tensor
    rates: Tensor
    writes: Tensor
    bias: Tensor | None
    is_log: bool  # whether steps are what softplus is taken of
    limits: tuple[float, float]

    @classmethod
    def of(cls, given: Given) -> StateSpaceScan:
        """Return the record of what a scan was given."""
        limits = given.get("dt_limit") or (0.0, float("inf"))
        parts = given["hidden_states"], given["dt"], given["A"], given["B"], given.get("dt_bias")
        return cls(*parts, bool(given.get("dt_softplus", False)), (float(limits[0]), float(limits[1])))

    def state_after(self, state: Tensor, live: Tensor) -> Tensor:
        """Return the state [G, B, H, D, N] after the live tokens."""
        steps = self.steps if self.bias is None else self.steps + self.bias[:, None, None].to(self.steps.dtype)
        steps = (softplus(steps) if self.is_log else steps).clamp(*self.limits)
        steps = steps.to(state.dtype) * live[None, :, :, None]
        writes = self.writes.to(state.dtype)
        writes = writes.repeat_interleave(self.inputs.shape[-2] // writes.shape[-2], dim=-2)
        rates = self.rates.to(state.dtype)[:, None, None]
        return state_space_state(state, self.inputs.to(state.dtype), steps, rates, writes)


@dataclass(frozen=True, eq=False)
class SelectiveScan(Joinable):
    """A scan of rates by channel: inputs [B, D, n], steps [B, D, n], rates [D, N], writes [B, N, n], bias [D]."""

    inputs: Tensor
    steps: Tensor
    rates: Tensor
    writes: Tensor
    bias: Tensor | None
    is_log: bool

    @classmethod
    def of(cls, given: Given) -> SelectiveScan:
        """Return the record of what a scan was given."""
        parts = given["hidden_states"], given["dt"], given["A"], given["B"], given.get("delta_bias")
        return cls(*parts, bool(given.get("delta_softplus", False)))

    def state_after(self, state: Tensor, live: Tensor) -> Tensor:
        """Return the state [G, B, D, N] after the live tokens; of layers with several heads a scan each."""
        count, rows = len(self.inputs), state.shape[1]
        each = state if state.dim() == 4 else state.transpose(1, 2).reshape(count, rows, *state.shape[3:])
        steps = self.steps if self.bias is None else self.steps + self.bias[:, None, :, None].to(self.steps.dtype)
        steps = (softplus(steps) if self.is_log else steps).to(state.dtype) * live[None, :, None]
        parts = (part.to(state.dtype) for part in (self.inputs, steps, self.rates[:, None], self.writes))
        after = selective_state(each, *parts)
        return after if state.dim() == 4 else after.view(len(state), -1, rows, *after.shape[2:]).transpose(1, 2)


def selective_scan(given: Given, state: Tensor) -> tuple[Tensor, Tensor]:
    """Return a selective scan's output [B, D, n] and last state [B, D, N] from the state before, which may not be zero.

    The library's own begins at zero, whatever a cache holds.
    """
    inputs, steps, rates = given["hidden_states"], given["dt"], given["A"]
    writes, reads = given["B"], given["C"]  # [B, N, n] each
    if given.get("delta_bias") is not None:
        steps = steps + given["delta_bias"].to(steps.dtype)[..., None]
    if given.get("delta_softplus", False):
        steps = softplus(steps)
    outputs = []
    for place in range(inputs.shape[-1]):
        step = steps[..., place, None]  # [B, D, 1]
        written = step * writes[:, None, :, place].float() * inputs[..., place, None].float()
        state = torch.exp(rates * step) * state + written
        outputs.append((state.to(inputs.dtype) @ reads[..., place, None])[..., 0])
    output = torch.stack(outputs, dim=-1)
    if given.get("D") is not None:
        output = output + inputs * given["D"][None, :, None]
    if given.get("z") is not None:
        output = output * silu(given["z"])
    return output, state


@dataclass(frozen=True)
class KnownScan:
    """A function that scans tokens: what is recorded of it, and what computes it from a state, if it begins at zero."""

    record: Callable[[Given], Any]
    from_state: Callable[[Given, Tensor], tuple[Tensor, Tensor]] | None = None


DELTA_RULE = KnownScan(DeltaRuleScan.of)
SCANS: Mapping[str, KnownScan] = {
    "torch_chunk_gated_delta_rule": DELTA_RULE,
    "chunk_kimi_delta_attention": DELTA_RULE,
    "mamba2_chunk_scan": KnownScan(StateSpaceScan.of),
    "mamba_selective_scan": KnownScan(SelectiveScan.of, selective_scan),
}


def arguments(signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a function is called with by the names of its parameters, those of its defaults included."""
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments
