"""Checks of host syncs a call: neither rows nor the tokens that a verifier is given multiply them.

A CPU waits for nothing, so what is counted is how often values of tensors reach Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor

from orthrus.batch.context import Context
from orthrus.chance import Chance
from orthrus.interfaces import Drafter, Verifier
from orthrus.optional import DraftsAhead, ReadsTaps, name_of
from orthrus.reference.cache import PlainCache
from orthrus.reference.view_table import ViewTableTarget
from orthrus.testing.check import BrokenRuleError, Factory, check
from orthrus.testing.checks.contracts import make_drafter
from orthrus.testing.doubles.drafters import Scripted
from orthrus.testing.doubles.host_syncs import HostReads
from orthrus.testing.doubles.spies import decoded
from orthrus.testing.doubles.verifiers import Dictated
from orthrus.testing.scenes import Scene
from orthrus.trees import drafts_trees, reads_trees
from orthrus.values import Draft, Step, TappedStates, Verdict

MOST_READS = 8  # in one call; fewer than there are rows, and than tokens in a draft that a verifier sees
ROWS = tuple((row % 4, row % 3, 1) for row in range(12))
MANY = [Scene(seed=1, prompts=ROWS, max_new_tokens=24, temperature=temperature) for temperature in (0.0, 0.8)]


@check("verifier", MANY)
def verifying_waits_seldom(make: Factory, scene: Scene) -> None:
    """However many rows and tokens it verifies, a call reads tensors at most 8 times: each is a wait for the device."""
    verifier: Verifier = make()
    if scene.temperature > 0 and verifier.greedy:
        return  # such a scene is never decoded with it
    target = scene.target()
    truths = scene.truths(scene.target(), Chance(scene.seed) if scene.temperature > 0 else None)
    texts = {key: answer.token_ids for key, answer in zip(scene.keys(), truths, strict=True)}
    drafter = Scripted(texts, scene.vocabulary, scene.seed, 1.0, (20,))  # all of it right: none is left out early
    decoded(scene, target, drafter, _CountedVerifier(verifier))


@check("drafter", [replace(scene, max_new_tokens=5) for scene in MANY])
def drafting_waits_seldom(make: Factory, scene: Scene) -> None:
    """However many rows it drafts for, a call reads tensors at most 8 times: each is a wait for the device."""
    reads = HostReads()
    target = _Uncounted(scene.table(), PlainCache(), max_length=scene.max_length)
    target.reads = reads
    decoded(scene, target, _CountedDrafter(make_drafter(make, target), reads), Dictated(scene.seed))


@contextmanager
def _limited(reads: HostReads, location: str) -> Iterator[None]:
    """Raise BrokenRuleError for more than 8 reads inside."""
    reads.found.clear()
    with reads:
        yield
    if len(reads.found) > MOST_READS:
        kinds = ", ".join(sorted(set(reads.found)))
        raise BrokenRuleError(f"tensors are read {len(reads.found)} times ({kinds}) for {len(ROWS)} rows", location)


class _Uncounted(ViewTableTarget):
    """Read tensors in passes as a table does, and a model does not."""

    reads: HostReads

    def forward(self, *given: Any, **how: Any) -> Tensor:
        with self.reads.paused():
            return super().forward(*given, **how)


class _CountedVerifier:
    """Limit the reads of a verifier's calls."""

    greedy = False
    verifies_trees = True

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        with _limited(HostReads(), f"verify, cycle {context.cycle + 1}"):
            return self._verifier.verify(context, draft, logits, chance)


class _CountedDrafter:
    """Limit the reads of a drafter's calls."""

    needs: frozenset[str] = frozenset()

    def __init__(self, drafter: Drafter, reads: HostReads) -> None:
        self._drafter = drafter
        self._reads = reads
        self.name = name_of(drafter)
        self.learns = drafter.learns
        if isinstance(drafter, DraftsAhead):
            self.ahead = self._ahead  # the loop looks whether there is one
        self.drafts_trees, self.reads_trees = drafts_trees(drafter), reads_trees(drafter)
        if isinstance(drafter, ReadsTaps):
            self.taps, self.read_taps = drafter.taps, self._read_taps

    def start(self, context: Context, rows: Sequence[int]) -> None:
        self._drafter.start(context, rows)  # once a prompt, which may be read as a whole

    def propose(self, context: Context, chance: Chance) -> Draft:
        with _limited(self._reads, f"propose, cycle {context.cycle + 1}"):
            return self._drafter.propose(context, chance)

    def _ahead(self, context: Context, chance: Chance) -> None:
        with _limited(self._reads, f"ahead, cycle {context.cycle + 1}"):
            self._drafter.ahead(context, chance)  # type: ignore[attr-defined]  # optional: this is for those that have it

    def _read_taps(self, context: Context, tapped: TappedStates) -> None:
        read: Callable[[Context, TappedStates], None] = self._drafter.read_taps  # type: ignore[attr-defined]  # as above
        if tapped.rows is not None:  # of prompts, once each
            read(context, tapped)
            return
        with _limited(self._reads, f"read_taps, cycle {context.cycle + 1}"):
            read(context, tapped)

    def observe(self, step: Step) -> None:
        with _limited(self._reads, "observe"):
            self._drafter.observe(step)
