"""The latency model of a cycle by the size of its draft, measured once on a machine. B: rows, n: drafts."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from orthrus.accepted_path import AcceptedPath
from orthrus.batch.context import Context
from orthrus.batch.scheduler import Scheduler
from orthrus.batch.validation import check_draft
from orthrus.chance import Chance
from orthrus.choices import score_choices_of
from orthrus.draft_memory import chain_setting, is_short, too_large, tree_setting
from orthrus.drafting.cost_cache import read_costs, write_costs
from orthrus.drafting.scripted_widths import made_up_tokens, parents_in_pairs
from orthrus.errors import InputError
from orthrus.interfaces import Target
from orthrus.machine import pass_conditions, synchronize
from orthrus.optional import HasPassIdentity
from orthrus.ranks.together import together_of
from orthrus.sampling import add_noise, keep_agreed
from orthrus.settings import Stop
from orthrus.trees import ScoresTrees
from orthrus.values import Draft, Verdict

FEWEST_ROUNDS, MOST_ROUNDS = 3, 20
PATIENCE_SECONDS = 10.0  # after which no third round is begun, settled or not
SETTLED = 1.2  # how much longer the second of the quickest two rounds may have taken
LEAST_SECONDS = 1e-9  # floor, for clocks too coarse to measure a pass
FEWEST_SLOTS = 1024  # up to so many slots in use, passes count as equally costly; then up to four times as many ...

VERIFY = "verify"  # the kind of what every cycle does, whatever drafts: the target's pass, and committing
VERIFY_TREE = "verify tree"  # the same where a tree was drafted

RunPass = Callable[[Context, int], object]  # runs a pass of the size and leaves scratch slots only
Score = Callable[[Context, Draft], Tensor]  # returns the logits [B, n + 1, V] of a draft
Choose = Callable[[Context, Draft], Tensor]  # returns the target's choices [B, n + 1] behind its anchor and tokens
Bucket = tuple[int, int, bool, bool]  # of rows and slots, whether tokens are drawn, and whether passes score choices


class PassCosts:
    """The seconds of a cycle for each size: of the target's pass over anchor and drafts, committing, and drafting.

    What is not known is measured where it is asked for, in the decoding under way: its passes write scratch slots only,
    so what is committed stays. It is kept in the user's cache if the target says what its passes depend on
    (`pass_identity`).
    """

    def __init__(
        self,
        target: Target,
        drafting: tuple[str, RunPass] | None = None,
        notify: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.perf_counter,
        *,
        trees: bool = False,
    ) -> None:
        """trees: whether sizes are those of trees, 0 not among them.

        Until `note_choices` is called, decoding is taken to score choices where the target does.
        """
        self._target = target
        self._verify, self._trees = VERIFY_TREE if trees else VERIFY, trees
        self._together = together_of(target)
        self._drafting = dict([drafting] if drafting else [])
        self._notify = notify
        self._clock = clock
        self._score_choices = score_choices_of(target)  # None: decoding asks for logits always
        self._known: dict[tuple[str, Bucket], dict[int, float]] = {}  # by kind
        self._cycles: dict[tuple[Bucket, int], list[float]] = {}  # by number of sizes
        self._scoring: dict[tuple[Bucket, int], list[float]] = {}  # likewise

    def note_choices(self, chooses: bool) -> None:
        """Take note whether decoding scores choices where no row wants anything of logits (see `MeasuresPasses`)."""
        self._score_choices = score_choices_of(self._target) if chooses else None

    def cycles(self, context: Context, sizes: Sequence[int]) -> list[float]:
        """Return the seconds of a cycle with so many drafts, for each of the first sizes, 0 among those of chains.

        A smaller size is never told to cost more than a larger one: that is the noise of measuring.
        """
        bucket = self._bucket(context)
        key = bucket, len(sizes)
        if key not in self._cycles:
            curves = [self._curve(kind, context, sizes, bucket) for kind in (self._verify, *self._drafting)]
            whole = [sum(curve.get(size, 0.0) for curve in curves) for size in sizes]
            self._cycles[key] = list(itertools.accumulate(reversed(whole), min))[::-1]
        return self._cycles[key]

    def scoring(self, context: Context, sizes: Sequence[int]) -> list[float]:
        """Return the seconds of a cycle but for drafting, for each number of drafts from 0 to the last of the sizes.

        What lies between two sizes costs as much as lies between theirs.
        """
        bucket = self._bucket(context)
        key = bucket, len(sizes)
        if key not in self._scoring:
            curve = self._curve(VERIFY, context, sizes, bucket)
            known = list(itertools.accumulate(reversed([curve[size] for size in sizes]), min))[::-1]
            self._scoring[key] = np.interp(range(sizes[-1] + 1), sizes, known).tolist()
        return self._scoring[key]

    def knows(self, context: Context, sizes: Sequence[int]) -> bool:
        """Return whether `cycles` would answer without measuring and without a file."""
        return not any(sizes) or (self._bucket(context), len(sizes)) in self._cycles

    def _curve(self, kind: str, context: Context, sizes: Sequence[int], bucket: Bucket) -> Mapping[int, float]:
        missing_sizes = {size for size in sizes if size or kind == self._verify}  # no pass drafts nothing
        if kind != self._verify:
            bucket = (*bucket[:3], False)  # drafting is the same
        identity = self._identity(kind, bucket)
        known = self._known.setdefault((kind, bucket), {})
        if not missing_sizes <= known.keys() and identity is not None:
            known |= self._together.made_by_lead(lambda: read_costs(identity, self._notify))
        if not missing_sizes <= known.keys():
            measured, settled = self._measure(kind, context, sorted(missing_sizes))
            known |= measured
            if identity is not None and settled and self._together.leads:
                write_costs(identity, known, self._notify)
        return known

    def _measure(self, kind: str, context: Context, sizes: Sequence[int]) -> tuple[dict[int, float], bool]:
        rows = len(context.rows)
        self._notify(f"measuring what passes cost on this machine ({kind}, {rows} row{'s' * (rows > 1)}; once)")
        actions = self._actions(kind, context, sizes)
        wait = partial(synchronize, self._target.device)
        setting = tree_setting if self._trees and kind == self._verify else chain_setting
        measured, settled = measure(actions, wait, self._clock, self._together.agree, rows, setting)
        if not settled:
            self._notify("this machine is busy: what its passes cost could not be told exactly, and is not kept")
        return measured, settled

    def _actions(self, kind: str, context: Context, sizes: Sequence[int]) -> dict[int, Callable[[], object]]:
        if kind != self._verify:
            return {size: partial(self._drafting[kind], context, size) for size in sizes}
        scratch = scratch_context(context, len(sizes) * (MOST_ROUNDS + 1))
        choose = self._choosing(context) or choices_of(self._target.score)
        return {size: partial(self._cycle, context, scratch, choose, size) for size in sizes}

    def _cycle(
        self,
        context: Context,
        scratch: Scheduler,
        choose: Choose,
        size: int,
        ahead: Callable[[], object] | None = None,
    ) -> None:
        if self._trees:
            verify_tree(self._target, context, scratch, choose, size, ahead)
        else:
            verify(context, scratch, choose, size, ahead)

    def _choosing(self, context: Context) -> Choose | None:
        """Return what scores the choices of a context's rows without their logits; None: decoding asks for logits."""
        return self._score_choices if context.settings.plain else None

    def _bucket(self, context: Context) -> Bucket:
        """Return what costs are told apart by, beside kind and size."""
        chooses = self._choosing(context) is not None
        return _row_bucket(len(context.rows)), _slot_bucket(context.longest), context.settings.draws, chooses

    def _identity(self, kind: str, bucket: Bucket) -> dict[str, Any] | None:
        """Return what the costs depend on, as JSON has it, or None if the target does not say."""
        if not isinstance(self._target, HasPassIdentity):
            return None
        rows, slots, drawn, chooses = bucket
        target = dict(self._target.pass_identity())
        flags = [name for name, flag in (("drawn", drawn), ("choices", chooses)) if flag]
        passes = {"pass": kind, "rows": rows, "slots": slots, **dict.fromkeys(flags, True)}
        return {**passes, "target": target, **pass_conditions(self._target.device)}


def measure(
    actions: Mapping[int, Callable[[], object]],
    wait: Callable[[], None],
    clock: Callable[[], float],
    agree: Callable[[Any], Any] = lambda measured: measured,
    rows: int = 1,
    setting: Callable[[int], str] = chain_setting,
) -> tuple[dict[int, float], bool]:
    """Return the least seconds that each action took, and whether all settled: took about as long a second time.

    The least, because whatever disturbs a measurement makes it longer. Rounds over all actions follow one that does not
    count. agree: what several processes that run the actions together take as measured, and whether that is enough.
    rows: of a pass. Raises InputError if memory does not hold one, with the size of those that it holds; setting: what
    to set for these.
    """
    _prepare(actions, rows, setting)
    wait()
    taken: dict[int, list[float]] = {size: [] for size in actions}
    began = clock()
    for done in range(1, MOST_ROUNDS + 1):
        for size, action in actions.items():
            start = clock()
            action()
            wait()
            taken[size] = sorted([*taken[size], max(LEAST_SECONDS, clock() - start)])[:2]
        settled = done > 1 and all(second <= SETTLED * least for least, second in taken.values())
        enough = done > 1 and (clock() - began > PATIENCE_SECONDS or (settled and done >= FEWEST_ROUNDS))
        if agree(enough):
            break
    outcome: tuple[dict[int, float], bool] = agree(({size: least for size, (least, *_) in taken.items()}, settled))
    return outcome


def _prepare(actions: Mapping[int, Callable[[], object]], rows: int, setting: Callable[[int], str]) -> None:
    """Run each action once, which compiles, captures and grows buffers: smaller sizes first."""
    fitting = 0
    for size, action in actions.items():
        try:
            action()
        except (RuntimeError, InputError) as error:
            if not (size and is_short(error)):
                raise
            raise too_large(size, rows, fitting, setting(fitting)) from error
        fitting = size


def scratch_context(context: Context, cycles: int) -> Scheduler:
    """Return the scheduler of a context of as many rows, with room for so many cycles without an accepted draft."""
    stop = Stop(cycles + 1, token_ids=_stop_tokens(context))
    scratch = Context([[0]] * len(context.rows), stop, vocabulary_size=context.vocabulary_size, device=context.device)
    scheduler = Scheduler(scratch)
    scheduler.refill()
    return scheduler


def verify(
    context: Context, scratch: Scheduler, choose: Choose, size: int, ahead: Callable[[], object] | None = None
) -> None:
    """Pass over the anchors and so many drafts, choose tokens as a verifier does, and commit something to `scratch`.

    ahead: called while the host waits for what was committed.

    Committing, which waits for the device, is half as long as a small model's pass. Above temperature 0 so is noise for
    every token of the vocabulary. The tokens differ, so that a mixture of experts is as busy as it would be.
    """
    draft = _made_up(context, size)
    nothing = torch.zeros_like(choose(context, draft)[:, 0])
    scratch.commit(draft, Verdict(nothing, nothing + _no_stop(context)), ahead)


def verify_tree(
    target: Target,
    context: Context,
    scratch: Scheduler,
    choose: Choose,
    size: int,
    ahead: Callable[[], object] | None = None,
) -> None:
    """Do what a cycle does with a tree of so many tokens: also find its paths, and move the keys of one that is kept.

    Each token has two children, so that paths are short, which is no matter: what is computed is the same for all.
    """
    draft = _made_up(context, size)
    tree = replace(draft, parents=parents_in_pairs(draft.tokens))
    draft = check_draft(tree, context, "auto", trees=True).draft
    path = AcceptedPath.of(draft, keep_agreed(choose(context, draft), draft))
    assert isinstance(target, ScoresTrees), "it was asked before"
    target.keep_path(context, path.order)
    nothing = torch.zeros_like(context.lengths)
    chain = replace(draft, tokens=path.tokens, parents=None)
    scratch.commit(chain, Verdict(nothing, nothing + _no_stop(context)), ahead)


def choices_of(score: Score) -> Choose:
    """Return what chooses as decoding does where it scores logits."""

    def choose(context: Context, draft: Draft) -> Tensor:
        logits = score(context, draft)
        return add_noise(context, logits, Chance(0, context.device), paths=draft.paths).argmax(-1)

    return choose


def _made_up(context: Context, size: int) -> Draft:
    return Draft(made_up_tokens(context, size), torch.full_like(context.lengths, size))


def _no_stop(context: Context) -> int:
    """Return a token that ends no row."""
    stops = _stop_tokens(context)
    return next((token for token in range(context.vocabulary_size) if token not in stops), 0)


def _stop_tokens(context: Context) -> frozenset[int]:
    return frozenset().union(*(row.stop.token_ids for row in context.rows))


def _row_bucket(rows: int) -> int:
    """Return the power of two that covers the rows."""
    return 1 << (rows - 1).bit_length()


def _slot_bucket(slots: int) -> int:
    bucket = FEWEST_SLOTS
    while bucket < slots:
        bucket *= 4
    return bucket
