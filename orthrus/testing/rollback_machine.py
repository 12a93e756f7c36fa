"""A state machine for drafters: after any history of accepting and refusing, one drafts what a fresh one would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from orthrus.batch.context import Context
from orthrus.batch.request import Row
from orthrus.batch.scheduler import Scheduler
from orthrus.errors import InputError
from orthrus.interfaces import Drafter, Target
from orthrus.optional import name_of
from orthrus.settings import Sampling, Stop
from orthrus.testing.doubles.spies import FixedChance
from orthrus.testing.scenes import Scene
from orthrus.testing.strategies import batches
from orthrus.testing.with_hypothesis import stateful
from orthrus.testing.with_hypothesis import strategies as st
from orthrus.trees import drafts_trees
from orthrus.values import Draft, Step, Verdict

VOCABULARY, ROWS, LIMIT, WIDTH = 4, 3, 12, 8  # of what is drawn; a target may know more tokens
CLOSE = 1e-6  # probabilities of a row alone and in a batch may round differently
EACH = st.lists(st.integers(0, VOCABULARY - 1), min_size=ROWS, max_size=ROWS)  # a token for each row


def rollback_machine(
    factory: Callable[[Any], Drafter],
    target: Callable[[], Target] = lambda: Scene().target(),
    *,
    lengths: bool = True,
    same_prompt: bool = False,
) -> type[stateful.RuleBasedStateMachine]:
    """Return the state machine that tries the drafters of a factory; its `TestCase` is what pytest collects.

    In each cycle each row's draft is held against that of a fresh drafter, alone with the row's text as its prompt.
    target: makes what the drafter drafts for. lengths False: for drafters that draft less after a refusal; tokens are
    compared as far as both go. same_prompt True: for drafters that tell prompt and answer apart; the fresh one gets the
    same prompt, and the answer token by token, every draft refused. Raises InputError for a drafter that learns.
    """
    options = {"factory": staticmethod(factory), "targets": _Pair(target), "whole": lengths, "same_prompt": same_prompt}
    return type("RollbackMachine", (_RollbackMachine,), options)


class Session:
    """Decode as the loop does, but with verdicts that are told. B: rows."""

    def __init__(self, target: Target, drafter: Drafter, context: Context) -> None:
        self.context = context
        self._target, self._drafter = target, drafter
        self._scheduler = Scheduler(context, name_of(drafter), trees=drafts_trees(drafter))
        target.start(context)

    @torch.no_grad()
    def fill(self, first_tokens: Sequence[int]) -> None:
        """Prefill rows that are free while prompts wait; first_tokens [B] is what such a row's answer begins with."""
        while rows := self._scheduler.refill():
            self._target.prefill(self.context, rows)
            self._commit(self.context.empty_draft(), [0] * len(first_tokens), first_tokens)
            self._drafter.start(self.context, rows)

    @torch.no_grad()
    def propose(self) -> Draft:
        """Return what the drafter proposes; what it draws does not depend on the other rows."""
        proposed = self._drafter.propose(self.context, FixedChance(0))
        return self._scheduler.check(proposed)

    @torch.no_grad()
    def verify(self, draft: Draft, accepted: Sequence[int], next_tokens: Sequence[int]) -> None:
        """Accept at most so many tokens of each row's draft, and commit the next token after them."""
        self._target.score(self.context, draft)
        self._drafter.observe(self._commit(draft, accepted, next_tokens))

    def _commit(self, draft: Draft, accepted: Sequence[int], next_tokens: Sequence[int]) -> Step:
        device = self.context.device
        most = torch.tensor(accepted, device=device)
        step = self._scheduler.commit(
            draft, Verdict(torch.minimum(draft.lengths, most), torch.tensor(next_tokens, device=device))
        )
        self._target.keep(step)
        return step


class _Pair:
    """Make two targets when they are first asked for: one for the history, one for the fresh drafters."""

    def __init__(self, make: Callable[[], Target]) -> None:
        self._make = make
        self._targets: tuple[Target, Target] | None = None

    def __call__(self) -> tuple[Target, Target]:
        self._targets = self._targets or (self._make(), self._make())
        return self._targets


class _RollbackMachine(stateful.RuleBasedStateMachine):
    """Decide what a drafter's drafts come to, cycle by cycle, in one decoding after the other."""

    factory: Callable[[Any], Drafter]
    targets: _Pair
    whole: bool
    same_prompt: bool

    def __init__(self) -> None:
        super().__init__()
        self.used, self.other = self.targets()
        self.drafter = self.factory(self.used)
        self.session: Session | None = None
        if self.drafter.learns:
            raise InputError(
                f"drafter '{type(self.drafter).__name__}' learns across prompts: what it drafts may depend on more than"
                " a row's text, so that no fresh drafter tells what is right"
            )

    @stateful.precondition(lambda self: not (self.session and self.session.context.live))
    @stateful.rule(
        prompts=batches(VOCABULARY, rows=2 * ROWS),
        batch=st.integers(1, ROWS),
        limit=st.integers(1, LIMIT),
        first_tokens=EACH,
        temperature=st.sampled_from([0.0, 1.0]),
    )
    def start(
        self, prompts: list[list[int]], batch: int, limit: int, first_tokens: list[int], temperature: float
    ) -> None:
        """Begin to decode some prompts, so many at a time."""
        self.sampling = Sampling(temperature)
        self.session = Session(self.used, self.drafter, self._context(self.used, prompts, limit, batch))
        self.session.fill(first_tokens[: len(self.session.context.rows)])

    @stateful.precondition(lambda self: self.session and self.session.context.live)
    @stateful.rule(
        accepted=st.lists(st.integers(0, WIDTH), min_size=ROWS, max_size=ROWS),
        next_tokens=EACH,
    )
    def cycle(self, accepted: list[int], next_tokens: list[int]) -> None:
        """Compare what is drafted with what a fresh drafter drafts; accept so much of it; refill rows that end."""
        assert self.session is not None
        rows = self.session.context.rows
        draft = self.session.propose()
        for index, row in enumerate(rows):
            if row.room:
                self._compare(index, row, draft)
        self.session.verify(draft, accepted[: len(rows)], next_tokens[: len(rows)])
        self.session.fill(next_tokens[: len(rows)])

    def _compare(self, index: int, row: Row, draft: Draft) -> None:
        fresh = self._fresh(row)
        actual, expected = _tokens(draft, index), _tokens(fresh, 0)
        count = min(len(actual), len(expected))
        same = actual == expected if self.whole else actual[:count] == expected[:count]
        text = f"row {index}, prompt {list(row.prompt)} and answer {row.output}"
        assert same, f"{text}: the drafter proposes {actual}, and a fresh one {expected}"
        if draft.probabilities is not None and fresh.probabilities is not None:
            apart = (draft.probabilities[index, :count] - fresh.probabilities[0, :count]).abs()
            worst = float(apart.max()) if apart.numel() else 0.0
            assert worst <= CLOSE, f"{text}: its draft's probabilities differ by {worst:g} from a fresh drafter's"

    def _fresh(self, row: Row) -> Draft:
        text = [*row.prompt, *row.output]
        known = len(row.prompt) if self.same_prompt else len(text) - 1
        context = self._context(self.other, [text[:known]], len(text) - known + row.room, keys=[row.key])
        session = Session(self.other, self.factory(self.other), context)
        session.fill([text[known]])
        for token in text[known + 1 :]:
            session.verify(session.propose(), [0], [token])
        return session.propose()

    def _context(
        self, target: Target, prompts: list[list[int]], limit: int, batch: int = 1, keys: Sequence[int] | None = None
    ) -> Context:
        return Context(
            prompts,
            Stop(limit),
            vocabulary_size=target.vocabulary_size,
            batch=batch,
            max_length=target.max_length,
            device=target.device,
            tokenizer=target.tokenizer,
            sampling=self.sampling,
            keys=keys,
        )


def _tokens(draft: Draft, row: int) -> list[int]:
    tokens: list[int] = draft.tokens[row, : int(draft.lengths[row])].tolist()
    return tokens
