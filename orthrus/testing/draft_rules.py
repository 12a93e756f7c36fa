"""What a single draft must be: its form, its room, its probabilities."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from orthrus.chance import Chance
from orthrus.context import Context
from orthrus.testing.check import BrokenRuleError, Factory, check
from orthrus.testing.drafter_made import made
from orthrus.testing.plain_verifiers import Dictated
from orthrus.testing.scenes import Scene, ladder
from orthrus.testing.watching import Watched, decoded
from orthrus.types import Draft

TOLERANCE = 0.01  # of the sum of probabilities: those in bfloat16 are coarse
SCENES = [*ladder(7), *ladder(7, temperature=0.8)]
TIGHT = [Scene(prompts=((0, 1, 0, 1, 0), (2, 0, 2)), max_new_tokens=room, seed=room) for room in (1, 2, 3, 4, 5, 8, 9)]
LIMITED = [Scene(prompts=((0, 1, 0, 1), (1, 1)), max_new_tokens=20, max_length=length) for length in (5, 6, 7, 16, 17)]


@check("drafter", SCENES)
def draft_has_its_form(make: Factory, scene: Scene) -> None:
    """A draft is a Draft: tokens [B, n], lengths [B] int64, probabilities [B, n, V] or None, passes 0 or more."""
    _looking(make, scene, _form)


@check("drafter", [*SCENES, *TIGHT, *LIMITED])
def draft_fits_the_room(make: Factory, scene: Scene) -> None:
    """No row gets more tokens than it has room for, nor more than the draft holds; a row that ended gets none."""
    _looking(make, scene, _room)


@check("drafter", SCENES)
def tokens_are_in_the_vocabulary(make: Factory, scene: Scene) -> None:
    """Every drafted token is one of the target's: from 0 up to the vocabulary's size."""
    _looking(make, scene, _vocabulary)


@check("drafter", SCENES)
def probabilities_sum_to_one(make: Factory, scene: Scene) -> None:
    """The probabilities of every place are not negative and sum to one."""
    _looking(make, scene, _sums)


@check("drafter", SCENES)
def drawn_tokens_have_mass(make: Factory, scene: Scene) -> None:
    """A token that was drawn has a probability above zero among those that the draft reports."""
    _looking(make, scene, _mass)


def _looking(make: Factory, scene: Scene, rule: Callable[[Context, Draft], None]) -> None:
    """Hold every draft of a scene, in a dictated history, to a rule; the loop's own checks come after it."""
    target = scene.target()
    decoded(scene, target, Watched(made(make, target), rule), Dictated(scene.seed), Chance(scene.seed))


def _form(context: Context, draft: Draft) -> None:
    place, rows = _cycle(context), len(context.rows)
    if not isinstance(draft, Draft):
        raise BrokenRuleError(f"it returned a {type(draft).__name__}", place)
    wanted: list[tuple[str, Tensor | None, tuple[int, ...]]] = [
        ("lengths", draft.lengths, (rows,)),
        ("tokens", draft.tokens, (rows, draft.tokens.shape[-1])),
        ("probabilities", draft.probabilities, (rows, draft.tokens.shape[-1], context.vocabulary_size)),
    ]
    if not isinstance(draft.passes, int) or draft.passes < 0:
        raise BrokenRuleError(f"passes are {draft.passes!r}, wanted 0 or more", place)
    for name, tensor, shape in wanted:
        if tensor is None:
            continue
        if tensor.shape != shape:
            raise BrokenRuleError(f"{name} are {list(tensor.shape)}, wanted {list(shape)}", place)
        if tensor.device != context.device:
            raise BrokenRuleError(f"{name} are on {tensor.device}, the rows on {context.device}", place)
        if name != "probabilities" and tensor.dtype != torch.int64:
            raise BrokenRuleError(f"{name} are {tensor.dtype}, wanted torch.int64", place)


def _room(context: Context, draft: Draft) -> None:
    width = draft.tokens.shape[1]
    for row, (length, room) in enumerate(zip(draft.lengths.tolist(), context.room.tolist(), strict=True)):
        if not 0 <= length <= room:
            raise BrokenRuleError(f"{length} tokens for a row with room for {room}", f"row {row}, {_cycle(context)}")
        if length > width:
            raise BrokenRuleError(f"a length of {length}, but {width} tokens", f"row {row}, {_cycle(context)}")


def _vocabulary(context: Context, draft: Draft) -> None:
    for row, place, token in _tokens(draft):
        if not 0 <= token < context.vocabulary_size:
            raise BrokenRuleError(
                f"token {token}; the vocabulary has {context.vocabulary_size}", _at(context, row, place)
            )


def _sums(context: Context, draft: Draft) -> None:
    if draft.probabilities is None:
        return
    for row, place, _ in _tokens(draft):
        given = draft.probabilities[row, place].double()
        if not abs(float(given.sum()) - 1) <= TOLERANCE:  # true of nan, too
            raise BrokenRuleError(f"probabilities that sum to {float(given.sum()):g}", _at(context, row, place))
        if float(given.min()) < 0:
            raise BrokenRuleError(f"a probability of {float(given.min()):g}", _at(context, row, place))


def _mass(context: Context, draft: Draft) -> None:
    if draft.probabilities is None:
        return
    for row, place, token in _tokens(draft):
        if float(draft.probabilities[row, place, token]) == 0:
            raise BrokenRuleError(f"token {token}, to which it gives a probability of 0", _at(context, row, place))


def _tokens(draft: Draft) -> list[tuple[int, int, int]]:
    """Return row, place and token of all that counts of a draft."""
    lengths = draft.lengths.tolist()
    return [
        (row, place, token)
        for row, tokens in enumerate(draft.tokens.tolist())
        for place, token in enumerate(tokens[: lengths[row]])
    ]


def _at(context: Context, row: int, place: int) -> str:
    return f"place {place} of the draft of row {row}, {_cycle(context)}"


def _cycle(context: Context) -> str:
    return f"cycle {context.cycle + 1}"


DRAFT_RULES = (
    draft_has_its_form,
    draft_fits_the_room,
    tokens_are_in_the_vocabulary,
    probabilities_sum_to_one,
    drawn_tokens_have_mass,
)
