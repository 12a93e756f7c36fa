"""Checks of attention backends that project what they attend to and add it to the residual (`ProjectsAttention`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from orthrus.kernels import skinny_linear
from orthrus.kernels.available import row_kernels
from orthrus.kernels.normed import Normed
from orthrus.kernels.skinny_linear import ProjectsAttention
from orthrus.testing.check import BrokenRuleError, Factory, NotApplicableError, check
from orthrus.testing.checks.attention_cases import SCALE, AttentionCase, AttentionTensors, attend, one_by_one
from orthrus.testing.checks.attention_passes import fitting, hold_close, hold_form, hold_left_alone

CASES = [
    AttentionCase(),
    AttentionCase(lengths=(2, 7), width=4, groups=2, seed=1),
    AttentionCase("block", (5,), 4, window=3, heads=2, seed=2),
    AttentionCase("tree", (0, 7), 6, seed=3),
    # as fused layers of 16 bits have them, on a GPU
    AttentionCase(lengths=(200,), heads=3, groups=3, size=64, layout="static", dtype="bfloat16", seed=4),
    AttentionCase(lengths=(63,), heads=2, groups=7, size=64, window=20, layout="static", dtype="bfloat16", seed=5),
    AttentionCase(lengths=(511,), width=6, heads=3, groups=3, size=64, layout="static", dtype="bfloat16", seed=6),
]
OUTPUTS = 32  # of the projection, for each head of queries: what the kernels for few tokens take


@dataclass(frozen=True, eq=False)
class Behind:
    """What stands behind attention: a projection by weight [E, H D], the residual [B, n, E], a norm's weight [E]."""

    weight: Tensor
    residual: Tensor
    norm: Tensor

    @classmethod
    def of(cls, tensors: AttentionTensors, seed: int) -> Behind:
        """Return it for a pass, drawn."""
        rows, heads, queries, size = tensors.query.shape
        generator = torch.Generator().manual_seed(seed)

        def drawn(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(tensors.query.dtype).to(tensors.query.device)

        weight = drawn(OUTPUTS * heads, heads * size) / (heads * size) ** 0.5
        return cls(weight, drawn(rows, queries, len(weight)), drawn(len(weight)))

    def kernels_run(self, size: int) -> bool:
        """Tell whether the kernels for few tokens take it, whose bits a backend must have; size: of a head."""
        able = skinny_linear.fits(self.residual, (self.weight,), size)
        return able and row_kernels(self.residual.device) is not None


@dataclass(frozen=True, eq=False)
class Added:
    """What a backend made of a pass: the residual after it, and that made ready for a norm. tensors, behind: before."""

    tensors: AttentionTensors
    behind: Behind
    residual: Tensor
    normed: Normed
    wanted: Normed | None  # what `attend` and `linear_added` make of the same; None: these kernels do not run here

    @property
    def read(self) -> Tensor:
        """The tokens [B, n] that somebody reads."""
        return self.tensors.read


@check("attention", CASES)
def attention_is_added_to_the_residual(make: Factory, attention_case: AttentionCase) -> None:
    """By `attend_added` the residual becomes, in place, its sum with attention's output times the weight.

    It has the bits that `attend` and `linear_added` give it where the latter's kernels run.
    """
    added = _added(make, attention_case)
    residual, wanted = added.residual, added.wanted
    hold_form(added.normed.hidden, residual, "the residual that it returns")
    seen = one_by_one(added.tensors).transpose(1, 2).flatten(2)  # [B, n, H D]
    expected = added.behind.residual.double() + seen @ added.behind.weight.double().T
    for place, sums in (("the residual", residual), ("the residual that it returns", added.normed.hidden)):
        hold_close(sums[added.read], expected[added.read], residual.dtype, place)
        if wanted is not None and not torch.equal(sums[added.read], wanted.hidden[added.read]):
            raise BrokenRuleError("its bits are others than `attend` and `linear_added` give", place)


@check("attention", CASES)
def the_residual_is_ready_for_a_norm(make: Factory, attention_case: AttentionCase) -> None:
    """What `attend_added` returns is its residual times the norm's weight, and the sums of its squares in parts.

    It has the bits that `attend` and `linear_added` give it where the latter's kernels run.
    """
    added = _added(make, attention_case)
    normed, residual, wanted = added.normed, added.normed.hidden, added.wanted
    gained, read = normed.gained.view(residual.shape), added.read
    hold_form(gained, residual, "what is gained")
    hold_close(gained[read], (residual.double() * added.behind.norm.double())[read], residual.dtype, "what is gained")
    parts = _parts(normed, read)
    squares = residual.double().square().sum(-1)[read]
    hold_close(parts.sum(0), squares, residual.dtype, "the sums of squares")
    if wanted is None:
        return
    gained_apart, parts_apart = wanted.gained.view(residual.shape), _parts(wanted, read)
    for place, given, other in (("gained", gained[read], gained_apart[read]), ("squares", parts, parts_apart)):
        if not torch.equal(given, other):
            raise BrokenRuleError("its bits are others than `attend` and `linear_added` give", place)


@check("attention", CASES)
def adding_leaves_inputs_alone(make: Factory, attention_case: AttentionCase) -> None:
    """`attend_added` changes nothing that it is handed but the residual, and where it returns None not that either."""
    backend, attention_case = _offering(make, attention_case)
    tensors, before = attention_case.tensors(), attention_case.tensors()
    behind, wanted = (Behind.of(tensors, attention_case.seed) for _ in range(2))
    prepared = backend.prepare(tensors.mask, tensors.window, tensors.query.dtype)
    alone = backend.attend(tensors.query, tensors.key, tensors.value, prepared, scale=SCALE)
    normed = _call(backend, tensors, prepared, behind)
    hold_left_alone(tensors, before, "attend_added")
    for name in ("weight", "norm", *(["residual"] if normed is None else [])):
        if not torch.equal(getattr(behind, name), getattr(wanted, name)):
            raise BrokenRuleError(f"it changed the {name}", f"attend_added{', which returned None' * (normed is None)}")
    again = backend.attend(tensors.query, tensors.key, tensors.value, prepared, scale=SCALE)
    if not torch.equal(again, alone):
        raise BrokenRuleError("with what was prepared `attend` gives another output", "attend_added")


def _offering(make: Factory, attention_case: AttentionCase) -> tuple[Any, AttentionCase]:
    """Return the backend, and the pass as it declares it can be; raise NotApplicableError if it does not offer this."""
    backend, attention_case = fitting(make, attention_case)
    if not isinstance(backend, ProjectsAttention):
        raise NotApplicableError("the backend does not offer `attend_added`")
    return backend, attention_case


def _call(backend: ProjectsAttention, tensors: AttentionTensors, prepared: Any, behind: Behind) -> Normed | None:
    handed = {"weight": behind.weight, "residual": behind.residual, "norm": behind.norm}
    return backend.attend_added(tensors.query, tensors.key, tensors.value, prepared, scale=SCALE, **handed)


def _added(make: Factory, attention_case: AttentionCase) -> Added:
    """Return what a backend makes of a pass; raise NotApplicableError if it returns None."""
    backend, attention_case = _offering(make, attention_case)
    handed, tensors = attention_case.tensors(), attention_case.tensors()
    together, behind = (Behind.of(tensors, attention_case.seed) for _ in range(2))
    prepared = backend.prepare(handed.mask, handed.window, handed.query.dtype)
    normed = _call(backend, handed, prepared, together)
    if normed is None:
        raise NotApplicableError("the backend returned None for each of these passes: `attend` is called")
    if not isinstance(normed, Normed):
        raise BrokenRuleError(f"it is a {type(normed).__name__}; wanted a Normed, or None", "what attend_added returns")
    return Added(tensors, behind, together.residual, normed, _apart(backend, tensors, behind))


def _apart(backend: Any, tensors: AttentionTensors, behind: Behind) -> Normed | None:
    """Return what `attend` and `linear_added` make of a pass; None: these kernels do not run here."""
    if not behind.kernels_run(tensors.query.shape[3]):
        return None
    seen = attend(backend, tensors).transpose(1, 2).flatten(2)
    return skinny_linear.linear_added(seen, behind.weight, behind.residual.clone(), behind.norm)


def _parts(normed: Normed, read: Tensor) -> Tensor:
    """Return the parts of the sums of squares [P, M], of tokens that are read [B, n] alone.

    Raises BrokenRuleError if there are none, or too few numbers.
    """
    tokens, numbers = read.numel(), normed.parts.flatten()
    needed = (normed.count - 1) * normed.stride + tokens
    if normed.count < 1 or len(numbers) < needed or numbers.dtype != torch.float32:
        value = f"{normed.count} parts in {len(numbers)} numbers, {numbers.dtype}"
        wanted = f"wanted at least 1 part, and {needed} numbers of float32"
        raise BrokenRuleError(f"{value}; {wanted}", "the sums of squares")
    of_all = numbers.as_strided((normed.count, tokens), (normed.stride, 1), numbers.storage_offset())
    return of_all[:, read.flatten()]


ATTENTION_ADDED = (
    attention_is_added_to_the_residual,
    the_residual_is_ready_for_a_norm,
    adding_leaves_inputs_alone,
)
