"""The published state machine for drafters: honest ones pass; each that remembers too much, or too little, is found."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from support.building import transformers_target
from support.families import VOCABULARY
from support.sampled import DrawingDrafter, NoisyDrafter, random_q
from support.thorough import thorough_but
from support.views import random_view

from orthrus import Chance, Context, Draft, Drafter, InputError, Step
from orthrus.testing.profiles import fewer
from orthrus.testing.rollback_machine import rollback_machine
from orthrus_diffusion.drafter import Diffusion
from orthrus_drafters.prompt_lookup import LONGEST, PromptLookup
from orthrus_transformers.target import TransformersTarget

QUICK = settings(
    max_examples=60,
    phases=[Phase.generate],  # no shrinking
    report_multiple_bugs=False,  # it ends with the first
    deadline=None,
    database=None,
)
SOME = fewer(16, stateful_step_count=15)
FEW = fewer(20, stateful_step_count=8)  # a model's passes


def lookup(target: Any) -> PromptLookup:
    return PromptLookup(2, 1, 4)


def viewed_target() -> TransformersTarget:
    target = transformers_target()
    random_view(target, "noisy", noise=0.3)
    return target


class OneLess(PromptLookup):
    """Draft one token less after each cycle in which nothing was accepted."""

    _less = 0

    def observe(self, step: Step) -> None:
        super().observe(step)
        self._less += not any(step.accepted)

    def propose(self, context: Context, chance: Chance) -> Draft:
        draft = super().propose(context, chance)
        return Draft(draft.tokens, (draft.lengths - self._less).clamp(min=0))


class PromptOnly(PromptLookup):
    """Copy what stands in the prompt, place by place."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        tokens = [list(row.prompt[len(row.output) :][: row.room]) for row in context.rows]
        width = max(len(one) for one in tokens)
        padded = [one + [0] * (width - len(one)) for one in tokens]
        lengths = torch.tensor([len(one) for one in tokens])
        return Draft(torch.tensor(padded, dtype=torch.int64).reshape(len(tokens), width), lengths)


def case(factory: Callable[[Any], Drafter], *target: Any, how: settings = SOME, **excuses: bool) -> Any:
    machine = rollback_machine(factory, *target, **excuses).TestCase
    machine.settings = how
    return machine


TestPromptLookup = case(lookup)
TestDrawing = case(lambda target: DrawingDrafter(random_q(1, 4), 3))
TestNoisy = case(lambda target: NoisyDrafter(random_q(1, 4), 3))
TestAdaptive = case(lambda target: OneLess(2, 1, 4), lengths=False)
TestPromptOnly = case(lambda target: PromptOnly(2, 1, 4), same_prompt=True)
TestDiffusion = pytest.mark.thorough(
    case(lambda target: Diffusion(target, 4, VOCABULARY - 1, "noisy"), viewed_target, how=FEW)
)


class RemembersItsDrafts(PromptLookup):
    """Index what it proposed as if it had been committed."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        draft = super().propose(context, chance)
        for index, length in enumerate(draft.lengths.tolist()):
            self._histories[index].extend(draft.tokens[index, :length].tolist())
        return draft


class MissesTheBonusToken(PromptLookup):
    def observe(self, step: Step) -> None:
        for index, tokens in enumerate(step.committed):
            self._histories[index].extend(tokens[: step.accepted[index]])


class KeepsThePromptBefore(PromptLookup):
    def start(self, context: Context, rows: Sequence[int]) -> None:
        known = dict(self._histories)
        super().start(context, rows)
        for index in rows:
            if index in known:
                known[index].extend(context.rows[index].prompt)
                self._histories[index] = known[index]


class StartsAllRowsAgain(PromptLookup):
    """Take a refill for a new beginning of every row, at its prompt."""

    def start(self, context: Context, rows: Sequence[int]) -> None:
        super().start(context, range(len(context.rows)))
        for index, row in enumerate(context.rows):
            if index not in rows:
                self._histories[index] = type(self._histories[index])([*row.prompt], self._sizes)


class MixesRowsAfterRaggedAcceptance(PromptLookup):
    def observe(self, step: Step) -> None:
        super().observe(step)
        if len(set(step.accepted)) > 1:
            rows = sorted(self._histories)
            self._histories = {row: self._histories[other] for row, other in zip(rows, rows[::-1], strict=True)}


class CountsItsCycles(NoisyDrafter):
    """Draw at positions that assume that every draft was refused."""

    def start(self, context: Context, rows: Sequence[int]) -> None:
        self._cycles = 0

    def observe(self, step: Step) -> None:
        self._cycles += 1

    def propose(self, context: Context, chance: Chance) -> Draft:
        positions = context.prompt_lengths[:, None] + 1 + self._cycles + torch.arange(2)
        noise = chance.gumbel(context.keys, positions, context.vocabulary_size)
        return Draft((self._q.log()[context.anchors][:, None] + noise).argmax(-1), context.room.clamp(max=2))


class DrawsFromAnotherRow(DrawingDrafter):
    """Report what each row's neighbour was drawn from."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        draft = super().propose(context, chance)
        assert draft.probabilities is not None
        blurred = 0.5 * draft.probabilities + 0.5 * draft.probabilities.roll(1, 0)
        return Draft(draft.tokens, draft.lengths, blurred)


def of(kind: type[PromptLookup]) -> Any:
    return lambda target: kind(2, 1, 4)


PROPOSES = r"row \d, prompt \[.*\] and answer \[.*\]: the drafter proposes \[.*\], and a fresh one \[.*\]"
BUGS: dict[str, tuple[Any, str]] = {
    "remembers its drafts": (of(RemembersItsDrafts), PROPOSES),
    "misses the bonus token": (of(MissesTheBonusToken), PROPOSES),
    "keeps the prompt before": (of(KeepsThePromptBefore), PROPOSES),
    "starts all rows again": (of(StartsAllRowsAgain), PROPOSES),
    "mixes rows after ragged acceptance": (of(MixesRowsAfterRaggedAcceptance), PROPOSES),
    "counts its cycles": (lambda target: CountsItsCycles(random_q(1, 4), 2), PROPOSES),
    "reports another row's probabilities": (
        lambda target: DrawsFromAnotherRow(random_q(1, 4), 2),
        r"row \d, .*: its draft's probabilities differ by .* from a fresh drafter's",
    ),
    "drafts less after a refusal": (of(OneLess), PROPOSES),
    "knows the prompt only": (of(PromptOnly), PROPOSES),
}


EVERY_TIME = ["remembers its drafts", "keeps the prompt before", "reports another row's probabilities"]


@pytest.mark.parametrize("bug", thorough_but(EVERY_TIME, BUGS))
def test_a_planted_bug_is_found(bug: str) -> None:
    factory, said = BUGS[bug]
    with pytest.raises(AssertionError, match=f"^{said}"):
        run_state_machine_as_test(rollback_machine(factory), settings=QUICK)


EXCUSED = [RemembersItsDrafts, MissesTheBonusToken, KeepsThePromptBefore]


@pytest.mark.parametrize("kind", thorough_but([], EXCUSED))
def test_what_is_excused_excuses_no_more(kind: type[PromptLookup]) -> None:
    for excuses in ({"lengths": False}, {"same_prompt": True}):
        with pytest.raises(AssertionError, match="the drafter proposes"):
            run_state_machine_as_test(rollback_machine(of(kind), **excuses), settings=QUICK)


def test_a_drafter_that_learns_is_refused() -> None:
    def learning(target: Any) -> Drafter:
        return PromptLookup(2, 1, LONGEST, auto=functools.cached_property)  # type: ignore[arg-type]  # any object

    with pytest.raises(InputError, match=r"^drafter 'PromptLookup' learns across prompts: "):
        run_state_machine_as_test(rollback_machine(learning), settings=QUICK)
