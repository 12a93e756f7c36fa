"""Spies on a decoded scene: every proposal of a drafter, by the text that it was made for.

B: rows, n: width of a draft, V: size of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from orthrus.batch.context import Context
from orthrus.batch.validation import check_draft, check_verdict
from orthrus.chance import Chance
from orthrus.decode import decode
from orthrus.interfaces import Drafter, Target, Verifier
from orthrus.optional import DraftsAhead, MovesRows, ReadsTaps, name_of
from orthrus.reference.oracle import OracleAnswer
from orthrus.testing.check import BrokenRuleError
from orthrus.testing.scenes import Scene
from orthrus.trees import drafts_trees, reads_trees
from orthrus.values import Draft, Step, Verdict

Look = Callable[[Context, Draft], None]
CLOSE = 1e-4  # between probabilities of the same place in batches of other shapes


@dataclass(frozen=True, eq=False)
class Proposed:
    """The proposal for one row: tokens, what they were drawn from [n, V], or None, and a tree's parents, or None."""

    tokens: tuple[int, ...]
    probabilities: Tensor | None
    parents: tuple[int, ...] | None = None

    def differs(self, proposal: Proposed) -> bool:
        """Tell whether another proposal has other tokens, or comes from other probabilities."""
        if self.tokens != proposal.tokens or self.parents != proposal.parents:
            return True
        if self.probabilities is None or proposal.probabilities is None:
            return not (self._is_certain() and proposal._is_certain())  # what was chosen has a probability of one
        return bool(((self.probabilities - proposal.probabilities).abs() > CLOSE).any())

    def _is_certain(self) -> bool:
        if self.probabilities is None:
            return True
        given = [float(row[token]) for row, token in zip(self.probabilities, self.tokens, strict=True)]
        return all(abs(probability - 1) <= CLOSE for probability in given)


Proposals = dict[tuple[int, tuple[int, ...]], Proposed]  # by key of the request, and its output so far


class FixedChance(Chance):
    """Choose the token in the middle of each distribution: what is drawn is a function of the distribution alone."""

    def categorical(self, probabilities: Tensor) -> Tensor:
        """Return the first index [...] up to which a distribution [..., V] has half of its weight."""
        summed = probabilities.double().cumsum(-1)
        return (summed < summed[..., -1:] / 2).sum(-1)


class WatchedDrafter:
    """A drafter that shows each proposal with its context to `look`; unadmitted: even one that the loop refuses."""

    needs: frozenset[str] = frozenset()

    def __init__(self, drafter: Drafter, look: Look, *, unadmitted: bool = False) -> None:
        self._drafter = drafter
        self._look = look
        self._unadmitted = unadmitted
        self.name = name_of(drafter)
        self.learns = drafter.learns
        if isinstance(drafter, DraftsAhead):
            self.ahead = drafter.ahead  # the loop looks whether there is one
        if isinstance(drafter, MovesRows):
            self.moves_rows, self.move_rows = drafter.moves_rows, drafter.move_rows
        self.drafts_trees, self.reads_trees = drafts_trees(drafter), reads_trees(drafter)
        if isinstance(drafter, ReadsTaps):
            self.taps, self.read_taps = drafter.taps, drafter.read_taps

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Pass it on."""
        self._drafter.start(context, rows)

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Pass it on, and show what was proposed."""
        draft = self._drafter.propose(context, chance)
        if not self._unadmitted:
            check_draft(draft, context, self.name, drafts_trees(self))  # what is no draft is said in the loop's words
        self._look(context, draft)
        return draft

    def observe(self, step: Step) -> None:
        """Pass it on."""
        self._drafter.observe(step)


def decoded(
    scene: Scene, target: Target, drafter: Drafter, verifier: Verifier, chance: Chance | None = None
) -> list[OracleAnswer]:
    """Return the answers to a scene's prompts."""
    context = scene.context(target)
    for _ in ending_in_time(context, decode(target, drafter, verifier, context, chance or Chance(scene.seed))):
        pass
    return [OracleAnswer(tuple(row.output), row.finish_reason or "length") for row in context.requests]


def recorded(
    scene: Scene, target: Target, drafter: Drafter, verifier: Verifier, chance: Chance | None = None
) -> Proposals:
    """Return every proposal for a row that goes on, by the text that it was made for."""
    record: Proposals = {}
    for _ in recording(scene, target, drafter, verifier, record, chance):
        pass
    return record


def recording(
    scene: Scene,
    target: Target,
    drafter: Drafter,
    verifier: Verifier,
    record: Proposals,
    chance: Chance | None = None,
) -> Iterator[Step]:
    """Yield the steps of decoding a scene, adding its proposals to the record."""
    context, drawn = scene.context(target), chance or FixedChance(scene.seed)
    watched = WatchedDrafter(drafter, proposals_into(record))
    yield from ending_in_time(context, decode(target, watched, verifier, context, drawn))


def proposals_into(record: Proposals) -> Look:
    """Return what adds the proposals for the rows that go on to a record."""

    def look(context: Context, draft: Draft) -> None:
        for index, row in enumerate(context.rows):
            if row.finish_reason is None:
                record[row.key, tuple(row.output)] = proposed(draft, index)

    return look


def ending_in_time(context: Context, steps: Iterator[Step]) -> Iterator[Step]:
    """Yield the steps; raise BrokenRuleError for more than answers of one token a step would take."""
    most = sum(row.room + 1 for row in context.requests)
    for count, step in enumerate(steps):
        if count >= most:
            raise BrokenRuleError(f"decoding goes on after {most} steps, which were enough for every token", "the loop")
        yield step


def proposed(draft: Draft, row: int) -> Proposed:
    """Return the proposal for a row."""
    length = int(draft.lengths[row])
    probabilities = None if draft.probabilities is None else draft.probabilities[row, :length].double().clone()
    parents = None if draft.parents is None else tuple(draft.parents[row, :length].tolist())
    return Proposed(tuple(draft.tokens[row, :length].tolist()), probabilities, parents)


def compare(scene: Scene, actual: Proposals, expected: Proposals, because: str) -> None:
    """Raise BrokenRuleError for the first proposal that differs from the one wanted for the same text."""
    numbers = {key: index for index, key in enumerate(scene.keys())}
    for (key, output), proposed in actual.items():
        expected_proposal = expected.get((key, output))
        if expected_proposal is not None and proposed.differs(expected_proposal):
            location = f"prompt {numbers[key]}, after the answer {list(output)}"
            raise BrokenRuleError(
                f"it proposed {_shown(proposed)}, and {_shown(expected_proposal)} {because}", location
            )


def compare_texts(actual: Sequence[OracleAnswer], expected: Sequence[OracleAnswer]) -> None:
    """Raise BrokenRuleError for the first token that is not the oracle's."""
    for prompt, (given, oracle_answer) in enumerate(zip(actual, expected, strict=True)):
        if given == oracle_answer:
            continue
        pairs = zip(given.token_ids, oracle_answer.token_ids, strict=False)
        index = next((at for at, (got, asked) in enumerate(pairs) if got != asked), None)
        if index is not None:
            where = f"token {index} of the answer to prompt {prompt}"
            raise BrokenRuleError(f"token {given.token_ids[index]} instead of {oracle_answer.token_ids[index]}", where)
        ends = [f"{len(answer.token_ids)} tokens ({answer.finish_reason})" for answer in (given, oracle_answer)]
        raise BrokenRuleError(
            f"the answer has {ends[0]}, it should have {ends[1]}", f"the end of the answer to prompt {prompt}"
        )


def _shown(proposed: Proposed) -> str:
    drawn = proposed.probabilities
    given = "" if drawn is None or not len(drawn) else f" with probabilities {_rounded(drawn)}"
    tree = "" if proposed.parents is None else f" with parents {list(proposed.parents)}"
    return f"{list(proposed.tokens)}{tree}{given}"


def _rounded(probabilities: Tensor) -> list[list[float]]:
    rounded: list[list[float]] = probabilities.round(decimals=4).tolist()
    return rounded


class WatchedVerifier:
    """A verifier that shows each verdict with its context, draft and logits."""

    greedy = False
    verifies_trees = True

    def __init__(self, verifier: Verifier, look: Callable[[Context, Draft, Tensor, Verdict], None]) -> None:
        self._verifier = verifier
        self._look = look

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        """Pass it on, and show the verdict."""
        verdict = self._verifier.verify(context, draft, logits, chance)
        check_verdict(verdict)
        self._look(context, draft, logits, verdict)
        return verdict
