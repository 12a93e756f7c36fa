"""Checks of a single draft: its form, its room, its probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.chance import Chance
from orthrus.testing.check import BrokenRuleError, Check, Factory, check
from orthrus.testing.checks.contracts import make_drafter
from orthrus.testing.doubles.spies import WatchedDrafter, decoded
from orthrus.testing.doubles.verifiers import Dictated
from orthrus.testing.scenes import Scene, ladder
from orthrus.values import Draft

Rule = Callable[[Context, Draft], None]  # raises BrokenRuleError
TOLERANCE = 0.01  # of the sum of probabilities: those in bfloat16 are coarse
SCENES = [*ladder(7), *ladder(7, temperature=0.8)]
TIGHT = [Scene(prompts=((0, 1, 0, 1, 0), (2, 0, 2)), max_new_tokens=room, seed=room) for room in (1, 2, 3, 4, 5, 8, 9)]
LIMITED = [Scene(prompts=((0, 1, 0, 1), (1, 1)), max_new_tokens=20, max_length=length) for length in (5, 6, 7, 16, 17)]


def rule(scenes: Sequence[Scene], *, unadmitted: bool = False) -> Callable[[Rule], Check]:
    """Make a check of what every draft of the scenes must be, in a dictated history.

    unadmitted: look even at what the loop refuses for its form.
    """

    def made_of(rule: Rule) -> Check:
        @wraps(rule)
        def body(make: Factory, scene: Scene) -> None:
            target = scene.target()
            watched = WatchedDrafter(make_drafter(make, target), rule, unadmitted=unadmitted)
            decoded(scene, target, watched, Dictated(scene.seed), Chance(scene.seed))

        return check("drafter", scenes)(body)

    return made_of


@rule(SCENES, unadmitted=True)
def draft_has_its_form(context: Context, draft: Draft) -> None:
    """A draft is a Draft: tokens [B, n], lengths [B] int64, probabilities [B, n, V] or None, passes 0 or more.

    A tree has parents [B, n] int64.
    """
    location, rows = _cycle(context), len(context.rows)
    if not isinstance(draft, Draft):
        raise BrokenRuleError(f"it returned a {type(draft).__name__}", location)
    if not isinstance(draft.passes, (int, float)) or not 0 <= draft.passes < math.inf:  # nan is neither
        raise BrokenRuleError(f"passes are {draft.passes!r}, wanted a number, 0 or more", location)
    for name in ("tokens", "lengths"):
        if not isinstance(getattr(draft, name), Tensor):
            raise BrokenRuleError(f"{name} are a {type(getattr(draft, name)).__name__}, wanted a tensor", location)
    shape = (rows, *draft.tokens.shape[-1:])  # [B, n]
    _hold("tokens", draft.tokens, shape, context)
    _hold("lengths", draft.lengths, shape[:1], context)
    if draft.parents is not None:
        _hold("parents", draft.parents, shape, context)
    if draft.probabilities is not None:
        _hold("probabilities", draft.probabilities, (*shape, context.vocabulary_size), context)


def _hold(name: str, tensor: Tensor, shape: tuple[int, ...], context: Context) -> None:
    if tensor.shape != shape:
        raise BrokenRuleError(f"{name} are {list(tensor.shape)}, wanted {list(shape)}", _cycle(context))
    if tensor.device != context.device:
        raise BrokenRuleError(f"{name} are on {tensor.device}, the rows on {context.device}", _cycle(context))
    if name != "probabilities" and tensor.dtype != torch.int64:
        raise BrokenRuleError(f"{name} are {tensor.dtype}, wanted torch.int64", _cycle(context))


@rule([*SCENES, *TIGHT, *LIMITED])
def draft_fits_the_room(context: Context, draft: Draft) -> None:
    """No row gets more tokens than it has room for, nor more than the draft holds; a row that ended gets none."""
    width = draft.tokens.shape[1]
    for row, (length, room) in enumerate(zip(draft.lengths.tolist(), context.room.tolist(), strict=True)):
        if not 0 <= length <= room:
            raise BrokenRuleError(f"{length} tokens for a row with room for {room}", f"row {row}, {_cycle(context)}")
        if length > width:
            raise BrokenRuleError(f"a length of {length}, but {width} tokens", f"row {row}, {_cycle(context)}")
    if draft.host_lengths is not None and [*draft.host_lengths] != draft.lengths.tolist():
        problem = f"host_lengths are {[*draft.host_lengths]}, lengths {draft.lengths.tolist()}"
        raise BrokenRuleError(problem, _cycle(context))


@rule(SCENES)
def parents_come_first(context: Context, draft: Draft) -> None:
    """In a tree every token follows the anchor, -1, or an earlier token of its row."""
    if draft.parents is None:
        return
    for row, index, _ in _tokens(draft):
        parent = int(draft.parents[row, index])
        if not -1 <= parent < index:
            raise BrokenRuleError(f"a parent of {parent}", _at(context, row, index))


@rule(SCENES)
def tokens_are_in_the_vocabulary(context: Context, draft: Draft) -> None:
    """Every drafted token is one of the target's: from 0 up to the vocabulary's size."""
    for row, index, token in _tokens(draft):
        if not 0 <= token < context.vocabulary_size:
            raise BrokenRuleError(
                f"token {token}; the vocabulary has {context.vocabulary_size}", _at(context, row, index)
            )


@rule(SCENES)
def probabilities_sum_to_one(context: Context, draft: Draft) -> None:
    """The probabilities of every place are not negative and sum to one."""
    if draft.probabilities is None:
        return
    for row, index, _ in _tokens(draft):
        given = draft.probabilities[row, index].double()
        if not abs(float(given.sum()) - 1) <= TOLERANCE:  # true of nan, too
            raise BrokenRuleError(f"probabilities that sum to {float(given.sum()):g}", _at(context, row, index))
        if float(given.min()) < 0:
            raise BrokenRuleError(f"a probability of {float(given.min()):g}", _at(context, row, index))


@rule(SCENES)
def drawn_tokens_have_mass(context: Context, draft: Draft) -> None:
    """A token that was drawn has a probability above zero among those that the draft reports."""
    if draft.probabilities is None:
        return
    for row, index, token in _tokens(draft):
        if float(draft.probabilities[row, index, token]) == 0:
            raise BrokenRuleError(f"token {token}, to which it gives a probability of 0", _at(context, row, index))


def _tokens(draft: Draft) -> list[tuple[int, int, int]]:
    """Return row, place and token of all that counts of a draft."""
    lengths = draft.lengths.tolist()
    return [
        (row, index, token)
        for row, tokens in enumerate(draft.tokens.tolist())
        for index, token in enumerate(tokens[: lengths[row]])
    ]


def _at(context: Context, row: int, index: int) -> str:
    return f"place {index} of the draft of row {row}, {_cycle(context)}"


def _cycle(context: Context) -> str:
    return f"cycle {context.cycle + 1}"


DRAFT_RULES = (
    draft_has_its_form,
    draft_fits_the_room,
    parents_come_first,
    tokens_are_in_the_vocabulary,
    probabilities_sum_to_one,
    drawn_tokens_have_mass,
)
