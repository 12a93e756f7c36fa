"""Validates drafts and verdicts without adding a host sync: shapes on the host, values on the device, with the step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from orthrus.errors import DraftError, InterfaceError
from orthrus.kernels.available import row_kernels, small_trees
from orthrus.paths import Paths
from orthrus.values import Draft, Verdict

if TYPE_CHECKING:
    from orthrus.batch.context import Context

SEALED = ("tokens", "lengths", "room", "keys", "anchors")  # of a context
INTEGERS = (torch.int64, torch.int32)
TOLERANCE = 0.01  # of the sum of a draft's probabilities: those in bfloat16 are coarse


@dataclass(frozen=True, eq=False)
class CheckedDraft:
    """A draft with its values forced into their bounds, and what was proposed."""

    draft: Draft
    proposed: Draft
    room: Tensor
    vocabulary_size: int
    drafter: str
    astray: Tensor | None = None  # [B], not 0 where tokens or length were out of bounds, if a kernel has looked

    @classmethod
    def of(cls, draft: Draft) -> CheckedDraft:
        """Return a draft that needs no check as admitted."""
        return cls(draft, draft, draft.lengths, 0, "")

    @cached_property
    def broken(self) -> Tensor:
        """[B], not 0 where a row had a value out of bounds; computed behind the pass, not to hold it up."""
        bounded, probabilities = self.draft, self.draft.probabilities
        if self.astray is not None and probabilities is None:
            return self.astray
        wrong = bounded.lengths != self.proposed.lengths
        if bounded.tokens.shape[1]:
            inside = torch.arange(bounded.tokens.shape[1], device=wrong.device) < bounded.lengths[:, None]  # [B, n]
            wrong = wrong | ((bounded.tokens != self.proposed.tokens) & inside).any(1)
            if bounded.parents is not None:
                wrong = wrong | ((bounded.parents != self.proposed.parents) & inside).any(1)
            if probabilities is not None:
                wrong = wrong | (_undrawable(probabilities, bounded.tokens) & inside).any(1)
        return wrong.long()

    def report(self, broken: list[int]) -> None:
        """Raise DraftError for the first broken row; broken [B] is what the device found, read with the step."""
        if not any(broken):
            return
        for row, code in enumerate(broken):
            if code:
                raise DraftError(f"drafter '{self.drafter}' {self._sentence(row)}")

    def _sentence(self, row: int) -> str:
        length, room = int(self.proposed.lengths[row]), int(self.room[row])
        if not 0 <= length <= room:
            return f"proposed {length} tokens for row {row}, which has room for {room}"
        if length > self.proposed.tokens.shape[1]:
            return f"gave row {row} a draft of length {length}, but only {self.proposed.tokens.shape[1]} tokens"
        tokens = self.proposed.tokens[row, :length].tolist()
        index = next((i for i, token in enumerate(tokens) if not 0 <= token < self.vocabulary_size), None)
        if index is not None:
            return (
                f"proposed token {tokens[index]} at place {index} of row {row}; "
                f"the vocabulary has {self.vocabulary_size} tokens"
            )
        if self.proposed.parents is not None and (sentence := _wrong_parent(self.proposed.parents[row, :length], row)):
            return sentence
        if (
            self.proposed.probabilities is None
            or not _undrawable(self.proposed.probabilities[row, :length], self.proposed.tokens[row, :length]).any()
        ):
            return f"proposed something wrong for row {row}, and has written over it since"
        return _wrong_probabilities(self.proposed.probabilities[row], tokens, row)


@dataclass(frozen=True, eq=False)
class WriteGuard:
    """A guard of tensors that a drafter may only read. Torch counts writes on the host, so that looking is free."""

    tensors: Mapping[str, tuple[Tensor, int]]

    @classmethod
    def of(cls, context: Context) -> WriteGuard:
        """Return the tensors of a context, and how often each has been written."""
        return cls({name: (tensor := getattr(context, name), _writes(tensor)) for name in SEALED})

    def check(self, context: Context, drafter: str) -> None:
        """Raise DraftError, which names the drafter, if any was written or replaced since."""
        for name, (tensor, writes) in self.tensors.items():
            value = getattr(context, name)
            if value is not tensor or _writes(value) != writes:
                cycle = f"in cycle {context.cycle + 1}, or in observing the one before"
                raise DraftError(f"drafter '{drafter}' changed context.{name} {cycle}; it may only read it")


def _writes(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version  # tensors of torch.inference_mode are not counted


def check_draft(draft: Draft, context: Context, name: str, trees: bool) -> CheckedDraft:
    """Return a drafter's draft with its values in bounds and the rows that were not; DraftError for a wrong shape.

    trees: whether it may be a tree.
    """
    problem = _shape_problem(draft, context, trees)
    if problem:
        raise DraftError(f"drafter '{name}' {problem}")
    if draft.tokens.shape[1] > context.max_room:  # a drafter of fixed width; its lengths say what counts
        draft = replace(
            draft,
            tokens=draft.tokens[:, : context.max_room],
            probabilities=None if draft.probabilities is None else draft.probabilities[:, : context.max_room],
            parents=None if draft.parents is None else draft.parents[:, : context.max_room],
        )
    if draft.tokens.shape[1] == 0:
        empty = replace(context.empty_draft(), passes=draft.passes)
        return CheckedDraft(empty, draft, context.room, context.vocabulary_size, name)
    tokens, lengths, astray = bounded(draft.tokens, draft.lengths, context.room, context.vocabulary_size)
    inside = replace(draft, tokens=tokens, lengths=lengths)
    if draft.parents is not None:
        inside, astray = _with_bounded_parents(inside, draft.parents, astray)
    return CheckedDraft(inside, draft, context.room, context.vocabulary_size, name, astray)


def bounded(
    tokens: Tensor, lengths: Tensor, room: Tensor, vocabulary_size: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return draft tokens [B, n] and lengths [B] forced into their bounds and, by a kernel, [B] not 0 where they were.

    Without one they are compared later, behind the pass.
    """
    if kernels := row_kernels(tokens.device):
        checked: tuple[Tensor, Tensor, Tensor] = kernels.bound(tokens, lengths, room, vocabulary_size)
        return checked
    return tokens.clamp(0, vocabulary_size - 1), torch.minimum(lengths.clamp(0, tokens.shape[1]), room), None


def _with_bounded_parents(draft: Draft, parents: Tensor, astray: Tensor | None) -> tuple[Draft, Tensor | None]:
    """Return the draft with parents [B, n] forced to be earlier tokens, or the anchor (-1), and what was astray [B].

    By a kernel where there is one, which finds the paths, too.
    """
    if astray is not None and (kernels := small_trees(parents)):
        inside, wrong, seen, depths = kernels.look(parents, draft.lengths)
        draft = replace(draft, parents=inside)
        vars(draft)["paths"] = Paths.known(inside, seen, depths)
        return draft, astray | wrong
    earlier = torch.arange(-1, parents.shape[1] - 1, device=parents.device)
    return replace(draft, parents=torch.minimum(parents.clamp(min=-1), earlier)), None


def check_verdict(verdict: Verdict) -> None:
    """Raise InterfaceError for what no verifier may return: nothing, a pair, lists."""
    if not isinstance(verdict, Verdict):
        raise InterfaceError(f"the verifier returned a {type(verdict).__name__}, not a Verdict")
    for name, numbers in _numbers(verdict):
        if not isinstance(numbers, Tensor):
            raise InterfaceError(
                f"the verifier returned a Verdict whose {name} is a {type(numbers).__name__}, not a tensor"
            )


def check_numbers(verdict: Verdict, rows: Tensor) -> None:
    """Raise InterfaceError unless a verdict has an integer for each of the rows [B], where those are."""
    for name, numbers in _numbers(verdict):
        what = f"the verifier returned a Verdict whose {name}"
        if numbers.shape != rows.shape:
            raise InterfaceError(
                f"{what} has the shape {list(numbers.shape)}; wanted {list(rows.shape)}, one for each row"
            )
        if numbers.dtype not in INTEGERS:
            raise InterfaceError(f"{what} is of {numbers.dtype}; wanted torch.int64")
        if numbers.device != rows.device:
            raise InterfaceError(f"{what} is on {numbers.device}; the rows are on {rows.device}")


def _numbers(verdict: Verdict) -> Iterator[tuple[str, Tensor]]:
    yield "accepted", verdict.accepted
    yield "next_tokens", verdict.next_tokens
    if verdict.last is not None:
        yield "last", verdict.last


def check_accepted(accepted: Sequence[int], most: int) -> None:
    """Raise InterfaceError for a row of which the verifier accepted fewer tokens than none, or more than there are."""
    if accepted and min(accepted) >= 0 and max(accepted) <= most:
        return
    for row, count in enumerate(accepted):
        if not 0 <= count <= most:
            raise InterfaceError(f"the verifier accepted {count} of the {most} draft tokens of row {row}")


def check_depth(accepted: Sequence[int], draft: Draft, drafter: str) -> None:
    """Raise DraftError where more tokens of a tree were accepted than it is said to be deep."""
    if draft.depth is not None and max(accepted, default=0) > draft.depth:
        raise DraftError(
            f"drafter '{drafter}' said that its tree is {draft.depth} tokens deep, and of row"
            f" {accepted.index(max(accepted))} {max(accepted)} were accepted"
        )


def _undrawable(probabilities: Tensor, tokens: Tensor) -> Tensor:
    """Return where [B, n] a token cannot have been drawn from the probabilities [B, n, V] beside it."""
    given = probabilities.gather(-1, tokens[..., None])[..., 0]
    total = probabilities.sum(-1, dtype=_summed(probabilities))
    astray = ~((total - 1).abs() <= TOLERANCE)  # true of nan, too
    return astray | (given <= 0) | (probabilities.amin(-1) < 0)


def _wrong_probabilities(probabilities: Tensor, tokens: list[int], row: int) -> str:
    wrong = _undrawable(probabilities[: len(tokens)], torch.tensor(tokens, device=probabilities.device)).tolist()
    index = wrong.index(True)
    at = probabilities[index]
    where = f"at place {index} of row {row}"
    if float(at.min()) < 0:
        return f"gave token {int(at.argmin())} a probability of {float(at.min()):g} {where}"
    if float(at[tokens[index]]) == 0:
        return f"proposed token {tokens[index]} {where}, which cannot be drawn: it gave it a probability of 0"
    return f"gave probabilities that sum to {float(at.sum(dtype=_summed(at))):g}, not 1, {where}"


def _wrong_parent(parents: Tensor, row: int) -> str | None:
    """Return what is wrong with a row's parents [length]; None: nothing."""
    for index, parent in enumerate(parents.tolist()):
        if not -1 <= parent < index:
            return (
                f"gave token {index} of row {row} the parent {parent}; it must be -1, the anchor, or an earlier token"
            )
    return None


def _summed(probabilities: Tensor) -> torch.dtype:
    return torch.float64 if probabilities.dtype == torch.float64 else torch.float32


def _shape_problem(draft: Draft, context: Context, trees: bool) -> str | None:
    if not isinstance(draft, Draft):
        return f"returned a {type(draft).__name__}, not a Draft"
    rows = len(context.rows)
    if not isinstance(draft.tokens, Tensor) or not isinstance(draft.lengths, Tensor):
        return "returned a Draft whose tokens and lengths are not tensors"
    if draft.tokens.dim() != 2 or draft.tokens.shape[0] != rows or draft.lengths.shape != (rows,):
        shapes = f"tokens {list(draft.tokens.shape)} and lengths {list(draft.lengths.shape)}"
        return f"returned {shapes} for {rows} rows; wanted [{rows}, n] and [{rows}]"
    if draft.tokens.dtype != torch.int64 or draft.lengths.dtype != torch.int64:
        return f"returned {draft.tokens.dtype} tokens and {draft.lengths.dtype} lengths; both must be int64"
    if draft.tokens.device != context.device or draft.lengths.device != context.device:
        return f"returned tensors on {draft.tokens.device}; the rows are on {context.device}"
    expected = (*draft.tokens.shape, context.vocabulary_size)
    if draft.probabilities is not None and draft.probabilities.shape != expected:
        return f"returned probabilities {list(draft.probabilities.shape)} for its tokens; wanted {list(expected)}"
    if draft.probabilities is not None and draft.probabilities.device != context.device:
        return f"returned probabilities on {draft.probabilities.device}; the rows are on {context.device}"
    return None if draft.parents is None else _tree_problem(draft, draft.parents, trees)


def _tree_problem(draft: Draft, parents: object, trees: bool) -> str | None:
    if not trees:
        return "proposed a tree of tokens, and does not say so beforehand: its attribute drafts_trees must be True"
    if not isinstance(parents, Tensor):
        return f"returned parents that are a {type(parents).__name__}, not a tensor"
    if parents.shape != draft.tokens.shape or parents.dtype != torch.int64 or parents.device != draft.tokens.device:
        given = f"{list(parents.shape)}, {parents.dtype}, on {parents.device}"
        return f"returned parents of {given}; wanted {list(draft.tokens.shape)}, torch.int64, on {draft.tokens.device}"
    return None
