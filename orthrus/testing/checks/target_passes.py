"""Compares every pass of a target with its own logits from scratch, in dictated histories."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.interfaces import Target
from orthrus.optional import HasDtype
from orthrus.rounding import HasStateDtype
from orthrus.testing.check import BrokenRuleError
from orthrus.testing.doubles.drafters import Scripted
from orthrus.testing.doubles.spies import WatchedDrafter, WatchedVerifier, decoded
from orthrus.testing.doubles.verifiers import Dictated
from orthrus.testing.scenes import Scene
from orthrus.values import Draft, Verdict

TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-3, torch.bfloat16: 1e-1, torch.float16: 5e-2}  # of the spread
EVERY_ROW = range(1 << 20)
LENGTHS = (0, 1, 2, 3, 5)  # of drafts
Look = Callable[[Context, Draft], None]
LookAtVerdict = Callable[[Context, Draft, Tensor, Verdict], None]


def hold_scores(
    target: Target,
    scene: Scene,
    cycles: int | None = None,
    look: Look = lambda context, draft: None,
    *,
    rows: Collection[int] = EVERY_ROW,
    lengths: Sequence[int] = LENGTHS,
) -> None:
    """Hold every pass of a dictated history against `logits`.

    cycles: how many of them, None: all. look: is shown every draft. rows: that are compared. lengths: of drafts.
    """
    scene = spread_over(scene, target)
    watched = WatchedVerifier(Dictated(scene.seed), compared(target, cycles, rows))
    decoded(scene, target, WatchedDrafter(scripted(scene, target, lengths), look), watched)


def compared(target: Target, cycles: int | None, rows: Collection[int]) -> LookAtVerdict:
    """Return what raises BrokenRuleError where a pass gave other logits than `logits` gives for the row's text."""

    def compare(context: Context, draft: Draft, logits: Tensor, verdict: Verdict) -> None:
        if cycles is not None and context.cycle >= cycles:
            return
        for row in _taking_part(context):
            if row not in rows:
                continue
            text = [*context.rows[row].prompt, *context.rows[row].output]
            drafted = draft.tokens[row, : int(draft.lengths[row])].tolist()
            own = target.logits([*text, *drafted], len(drafted) + 1)
            where = f"row {row} in cycle {context.cycle + 1}" if context.rows[row].output else f"prefill of row {row}"
            for index in range(len(drafted) + 1):
                hold_close(target, logits[row, index], own[index], f"{where}, place {index} after {text[-8:]}")

    return compare


def scripted(scene: Scene, target: Target, lengths: Sequence[int] = LENGTHS) -> Scripted:
    """Return a drafter of drafts of these lengths, whose tokens are spread over the vocabulary."""
    texts = dict.fromkeys(scene.keys(), tokens_of(range(max(40, 2 * max(lengths))), target.vocabulary_size))
    return Scripted(texts, target.vocabulary_size, scene.seed, lengths=lengths)


def _taking_part(context: Context) -> list[int]:
    live = [row for row, state in enumerate(context.rows) if state.finish_reason is None]
    return [row for row in live if not context.rows[row].output] or live


def hold_close(target: Target, actual: Tensor, expected: Tensor, location: str) -> None:
    """Raise BrokenRuleError if logits [V] are further apart than the dtype explains that they are computed in."""
    spread = float(expected.double().max() - expected.double().min())
    off = (actual.double() - expected.double()).abs()
    if not float(off.max()) <= tolerance(target, actual.dtype) * max(spread, 1e-6):
        token = int(off.nan_to_num(torch.inf).argmax())
        raise BrokenRuleError(
            f"a logit of {float(actual[token]):.6g} for token {token}, its own is {float(expected[token]):.6g}",
            location,
        )


def tolerance(target: Target, dtype: torch.dtype) -> float:
    """Return how far apart logits of this dtype may be, as a share of their spread.

    Where a target computes in a narrower dtype, or its states, logits are as far apart as this one rounds, whatever
    their own is: a model in bfloat16 may keep the float32 sums of its head, and a scan in chunks begins its sums of
    log decays where the chunk begins.
    """
    states = target.state_dtype if isinstance(target, HasStateDtype) else None
    own = target.dtype if isinstance(target, HasDtype) else dtype
    return max(TOLERANCE.get(computed, 1e-3) for computed in (dtype, own, states or dtype))


def spread_over(scene: Scene, target: Target) -> Scene:
    """Return the scene with its tokens spread over the target's vocabulary."""
    prompts = tuple(tokens_of(prompt, target.vocabulary_size) for prompt in scene.prompts)
    return replace(scene, prompts=prompts)


def tokens_of(numbers: Sequence[int], vocabulary: int) -> tuple[int, ...]:
    """Return tokens that are spread over a vocabulary."""
    return tuple(number * 7919 % vocabulary for number in numbers)
