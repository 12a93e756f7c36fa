"""The drafter `cascade`: of several drafters the one that pays drafts. B: rows, n: width of a draft."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeGuard

import torch

from orthrus import BuildError, Chance, ConfigError, Context, Draft, Drafter, Parts, Step, TappedStates, TapPoint
from orthrus.choices import MeasuresPasses
from orthrus.one_pass import DraftsWhileScoring
from orthrus.optional import DraftsAhead, HasFingerprint, MovesRows, ReadsLikeliest, ReadsTaps, Reports, name_of
from orthrus.ranks.together import together_of
from orthrus.trees import drafts_trees, reads_trees
from orthrus_cascade.choice import NOBODY, Choice
from orthrus_cascade.evidence import CycleState
from orthrus_cascade.options import CascadeOptions


@dataclass(frozen=True, eq=False)
class Proposal:
    """The draft that was proposed: by whom, in which state, for which rows, how wide, passes of all, when it began."""

    number: int
    state: CycleState
    rows: Sequence[int]
    width: int
    passes: float
    began: float


class Cascade:
    """Let in each cycle that drafter draft whose draft is expected to bring most tokens for what it costs.

    Drafters are asked in that order until one has something. All of them observe every step, with no draft accepted of
    those that did not draft. What was accepted of whom fades, so that others are tried again.
    """

    name = "cascade"
    learns = True  # what was accepted of whom
    ahead: Callable[[Context, Chance], None]  # if any of the drafters has it
    fingerprint: Callable[[], str]  # likewise, as all that follows
    taps: Sequence[TapPoint]
    read_taps: Callable[[Context, TappedStates], None]
    likeliest: int

    def __init__(
        self,
        drafters: Sequence[Drafter],
        cost: Literal["seconds", "passes"] = "seconds",
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Choose among these drafters, of equals the first; cost: what is held against the tokens of a cycle.

        Raises BuildError if one of them drafts in the pass that scores: another one's draft may be scored in it.
        """
        for number, drafter in enumerate(drafters):
            if isinstance(drafter, DraftsWhileScoring):
                raise BuildError(
                    f"drafter '{name_of(drafter)}' drafts in the pass that scores (cycle: one_pass or auto), which"
                    f" drafter 'cascade' does not let it do; set drafter.drafters[{number}].cycle=two_passes"
                )
        self._drafters = drafters
        self._choice = Choice(len(drafters), cost)
        self._clock = clock
        self._proposal: Proposal | None = None  # of this cycle
        self._launched: int | None = None  # whose next draft was launched ahead: it must be asked for it
        self._chosen: Counter[int] = Counter()
        self.needs: frozenset[str] = frozenset().union(*(drafter.needs for drafter in drafters))
        self.moves_rows = all(isinstance(drafter, MovesRows) and drafter.moves_rows for drafter in drafters)
        self.drafts_trees, self.reads_trees = any(map(drafts_trees, drafters)), any(map(reads_trees, drafters))
        self._early = {number: drafter for number, drafter in enumerate(drafters) if _drafts_ahead(drafter)}
        if self._early:
            self.ahead = self._ahead
        if any(isinstance(drafter, HasFingerprint) for drafter in drafters):
            self.fingerprint = self._fingerprint
        self._readers = [drafter for drafter in drafters if isinstance(drafter, ReadsTaps) and drafter.taps]
        if self._readers:
            self.taps = tuple(dict.fromkeys(point for reader in self._readers for point in reader.taps))
            self.read_taps = self._read_taps
        if counts := [drafter.likeliest for drafter in drafters if isinstance(drafter, ReadsLikeliest)]:
            self.likeliest = max(counts)

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Tell all drafters, who forget what they launched, and forget what was known of these rows."""
        self._launched = None
        self._choice.start(rows)
        for drafter in self._drafters:
            drafter.start(context, rows)

    def note_choices(self, chooses: bool) -> None:
        """Tell the drafters that measure passes."""
        for drafter in self._drafters:
            if isinstance(drafter, MeasuresPasses):
                drafter.note_choices(chooses)

    def move_rows(self, sources: Sequence[int]) -> None:
        """Tell all drafters, who forget what they launched, and take what is known of the rows along."""
        self._launched = None
        self._choice.move_rows(sources)
        for drafter in self._drafters:
            assert isinstance(drafter, MovesRows), "it moves rows if all of them do"
            drafter.move_rows(sources)

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return the draft that is worth most, of those that were asked for one; they are asked one by one."""
        began = self._clock()
        live = [index for index, row in enumerate(context.rows) if row.room]
        drafts = {NOBODY: context.empty_draft()}
        drafted: dict[int, Sequence[int]] = {}
        number, self._launched = self._launched, None
        state = CycleState(len(context.rows), number is not None)
        while number is None or number not in drafts:
            if number is not None:
                drafts[number] = draft = self._drafters[number].propose(context, chance)
                drafted[number] = _rows_drafted(draft, live)
            number = self._choice.best(live, state, drafted)
        passes = sum(draft.passes for draft in drafts.values())
        self._chosen[number] += 1
        draft = drafts[number]
        self._proposal = Proposal(number, state, drafted.get(number, ()), draft.tokens.shape[1], passes, began)
        if number == NOBODY:
            return draft if draft.passes == passes else replace(draft, passes=passes)
        return replace(draft, passes=passes, drafter=draft.drafter or name_of(self._drafters[number]))

    def observe(self, step: Step) -> None:
        """Tell all drafters what was committed, and note what was accepted of whose draft and what it took."""
        proposal, self._proposal = self._proposal, None
        number = NOBODY if proposal is None else proposal.number
        others = step.without_acceptance()
        for index, drafter in enumerate(self._drafters):
            drafter.observe(_likeliest_for(drafter, step if index == number else others))
        if proposal is not None:
            seconds = self._clock() - proposal.began
            accepted = [(row, step.accepted[row]) for row in proposal.rows]
            passes = 1 + proposal.passes
            self._choice.observe(number, accepted, proposal.state, proposal.width, passes, seconds)

    def report(self) -> Mapping[str, Any]:
        """Return the share of cycles in which each drafted, and what they report."""
        cycles = sum(self._chosen.values())
        names = {number: name_of(drafter) for number, drafter in enumerate(self._drafters)} | {NOBODY: "none"}
        shares = [f"{name}:{self._chosen[number] / cycles:.0%}" for number, name in names.items() if cycles]
        more = {
            f"{name_of(drafter)} {key}": value
            for drafter in self._drafters
            if isinstance(drafter, Reports)
            for key, value in drafter.report().items()
        }
        return {"drafters": " ".join(shares), **more} if shares else more

    def _ahead(self, context: Context, chance: Chance) -> None:
        """Let the drafter of this cycle launch its next draft, if it does such a thing."""
        number = NOBODY if self._proposal is None else self._proposal.number
        if number in self._early and self._early[number].ahead(context, chance) is not False:
            self._launched = number

    def _read_taps(self, context: Context, tapped: TappedStates) -> None:
        """Hand each drafter that reads hidden states those of its points."""
        size = tapped.states.shape[-1] // len(self.taps)
        chunks = {point: tapped.states.narrow(-1, index * size, size) for index, point in enumerate(self.taps)}
        for reader in self._readers:
            same = tuple(reader.taps) == self.taps
            states = tapped.states if same else torch.cat([chunks[point] for point in reader.taps], dim=-1)
            reader.read_taps(context, replace(tapped, states=states))

    def _fingerprint(self) -> str:
        return " ".join(drafter.fingerprint() for drafter in self._drafters if isinstance(drafter, HasFingerprint))


def _drafts_ahead(drafter: Drafter) -> TypeGuard[DraftsAhead]:
    return isinstance(drafter, DraftsAhead) and callable(drafter.ahead)


def _likeliest_for(drafter: Drafter, step: Step) -> Step:
    """Return the step with as many of the likeliest tokens as a drafter wants, if it wants any."""
    if step.likeliest is None or not isinstance(drafter, ReadsLikeliest):
        return step
    count, best = drafter.likeliest, step.likeliest
    return replace(step, likeliest=replace(best, tokens=best.tokens[..., :count], logits=best.logits[..., :count]))


def _rows_drafted(draft: Draft, live: Sequence[int]) -> Sequence[int]:
    """Return the rows that a draft has something for; one that took a pass is not waited for: it has for all."""
    if draft.tokens.shape[1] == 0:
        return ()
    if draft.passes:
        return live
    lengths = draft.lengths.tolist() if draft.host_lengths is None else draft.host_lengths
    return [row for row, length in enumerate(lengths) if length]


def make(options: CascadeOptions, parts: Parts) -> Cascade:
    """Return the drafter with its drafters made; raise what making one of them raises."""
    drafters = [_made(number, drafter, parts) for number, drafter in enumerate(options.drafters)]
    return Cascade(drafters, options.cost, clock=together_of(parts.target).clock(time.perf_counter))


def _made(number: int, options: Mapping[str, Any], parts: Parts) -> Drafter:
    """Return one of the drafters; what is wrong with its options is told by the cascade's keys."""
    try:
        drafter: Drafter = parts.make("drafter", options)
    except ConfigError as error:
        keys = [
            replace(problem, key=f"drafter.drafters[{number}]{problem.key.removeprefix('drafter')}")
            for problem in error.problems
        ]
        raise ConfigError(keys) from error
    return drafter
