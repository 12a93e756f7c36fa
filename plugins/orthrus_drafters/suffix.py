"""Suffix decoding: what most often followed the last tokens, in the prompt, in the answer, or in earlier answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orthrus import AutoBlock, Chance, Context, Draft, Parts, Step
from orthrus_drafters.answer_memory import AnswerMemory
from orthrus_drafters.options import SuffixOptions
from orthrus_drafters.padding import LONGEST, chosen_width, padded, padded_trees
from orthrus_drafters.suffix_automaton import ROOT, SuffixAutomaton

ELSEWHERE = 0.5  # what a match in another answer is believed to be worth of one in the row's own text


class Suffix:
    """Propose the most frequent continuation of the longest suffix of a row that occurred before.

    A draft is as long as the match is convincing: in proportion to its length, and up to where too few of its
    occurrences went on so. All of it is done on the host, in automata, at a cost that does not grow with the text. With
    branches it is a tree: where occurrences went on in several ways, the most frequent of them.
    """

    name = "suffix"
    needs: frozenset[str] = frozenset()
    moves_rows = True

    def __init__(self, options: SuffixOptions | None = None, *, auto: AutoBlock | None = None) -> None:
        """Draft up to the options' length, or as many tokens as `auto` chooses."""
        self._options = options or SuffixOptions()
        self._most = LONGEST if self._options.length == "auto" else self._options.length
        self._auto = auto
        self._memory = AnswerMemory(self._options.memory, self._options.max_match)
        self.learns = auto is not None or self._options.memory > 0
        self.drafts_trees = self._options.branches > 1
        self.prefix_consistent = auto is None and not self.drafts_trees
        self._texts: dict[int, RowText] = {}  # by row

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Read the new rows' prompts and first tokens."""
        for index in rows:
            row = context.rows[index]
            self._texts[index] = RowText(row.prompt, row.output, self._options, self._memory)
        if self._auto:
            self._auto.start(rows)

    def note_choices(self, chooses: bool) -> None:
        """Tell who chooses which passes to measure."""
        if self._auto:
            self._auto.note_choices(chooses)

    def move_rows(self, sources: Sequence[int]) -> None:
        """Take the texts of the rows along."""
        self._texts = {row: self._texts[source] for row, source in enumerate(sources) if source >= 0}
        if self._auto:
            self._auto.move_rows(sources)

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return each row's continuation, cut to its room; rows without a match get an empty draft."""
        if self.drafts_trees:
            trees = [
                self._texts[index].tree(min(self._most, row.room)) if row.room else ([], [])
                for index, row in enumerate(context.rows)
            ]
            return padded_trees(context, trees)
        if self._auto and self._auto.keeps(context):
            return self._sure_drafts(context, self._auto)
        drafts = [
            self._texts[index].continuation(min(self._most, row.room)) if row.room else []
            for index, row in enumerate(context.rows)
        ]
        return padded(context, drafts, chosen_width(context, drafts, self._auto))

    def _sure_drafts(self, context: Context, auto: AutoBlock) -> Draft:
        """Return what is worth scoring of each row's continuation: a long match is hardly ever wrong."""
        pairs = [
            self._texts[index].likely(min(self._most, row.room)) if row.room else ([], [])
            for index, row in enumerate(context.rows)
        ]
        width = auto.keep(context, [probabilities for _, probabilities in pairs])
        return padded(context, [tokens for tokens, _ in pairs], width)

    def observe(self, step: Step) -> None:
        """Add what was committed to the rows' texts, and remember the answers that have ended."""
        for index, tokens in enumerate(step.committed):
            if tokens:
                self._texts[index].extend(tokens)
        for index, finished in enumerate(step.finished):
            if finished:
                self._memory.add(self._texts[index].answer())
        if self._auto:
            self._auto.observe(step)

    def report(self) -> Mapping[str, Any]:
        """Return how much is remembered, and what `auto` chose."""
        return {"remembered": f"{self._memory.size:,} tokens", **(self._auto.report() if self._auto else {})}


class RowText:
    """One row's tokens, and where their end was seen before: in themselves, and in the answers remembered."""

    def __init__(
        self, prompt: Sequence[int], output: Sequence[int], options: SuffixOptions, memory: AnswerMemory
    ) -> None:
        self._options = options
        self._memory = memory
        self._tokens: list[int] = []
        self._lead = max(0, len(prompt) - options.max_match)  # an answer is remembered with what led to it
        self._own = SuffixAutomaton(options.max_match)
        self._matches: list[tuple[int, int]] = []  # in each automaton of the memory, up to `_read` tokens
        self._read = 0
        self._changes = -1
        self.extend([*prompt, *output])

    def extend(self, tokens: Sequence[int]) -> None:
        """Add tokens."""
        self._tokens += tokens
        self._own.extend(tokens)

    def answer(self) -> list[int]:
        """Return what is to be remembered: the answer, and the end of the prompt, which leads to it."""
        return self._tokens[self._lead :]

    def continuation(self, most: int) -> list[int]:
        """Return up to `most` tokens that followed the longest match: of equals the row's own, then the newest."""
        best, state, longest = self._longest_match()
        if longest < self._options.min_match:
            return []
        return best.continuation(state, longest, self._convincing(most, longest), self._options.min_share)

    def likely(self, most: int) -> tuple[list[int], list[float]]:
        """Return `continuation`, and a guess at how likely each token is to come once all before it have.

        It goes by how long the match is by then, by the share of the places that went on so, and by whether the match
        is in the row's own text: what other answers went on with is right less often.
        """
        best, state, longest = self._longest_match()
        if longest < self._options.min_match:
            return [], []
        most = self._convincing(most, longest)
        tokens, shares = best.shares(state, longest, most, self._options.min_share)
        trust = 1.0 if best is self._own else ELSEWHERE
        return tokens, [trust * share * match_chance(longest + place) for place, share in enumerate(shares)]

    def tree(self, most: int) -> tuple[list[int], list[int]]:
        """Return up to `most` tokens that followed the longest match in several ways, and their parents."""
        best, state, longest = self._longest_match()
        if longest < self._options.min_match:
            return [], []
        most, options = self._convincing(most, longest), self._options
        return best.tree(state, longest, most, options.min_share, options.branches)

    def _convincing(self, most: int, longest: int) -> int:
        """Return how many tokens a match of such a length is good for."""
        return min(most, max(1, int(longest * self._options.per_match)))

    def _longest_match(self) -> tuple[SuffixAutomaton, int, int]:
        """Return the automaton with the longest match that something followed, its state there, and its length."""
        self._read_on()
        places = [(self._own, self._own.matched_end()), *zip(self._memory.automata(), self._matches, strict=True)]
        best, state, longest = self._own, ROOT, 0
        for automaton, match in places:
            followed, length = automaton.followed(*match)
            if length > longest:
                best, state, longest = automaton, followed, length
        return best, state, longest

    def _read_on(self) -> None:
        """Bring the matches in the memory up to the row's last token; anew, if the memory has changed."""
        if self._changes != self._memory.changes:
            self._changes = self._memory.changes
            self._matches = [(ROOT, 0), (ROOT, 0)]
            self._read = max(0, len(self._tokens) - self._options.max_match)
        unread = self._tokens[self._read :]
        self._read = len(self._tokens)
        for index, automaton in enumerate(self._memory.automata()):
            for token in unread:
                self._matches[index] = automaton.advance(*self._matches[index], token)


def match_chance(length: int) -> float:
    """Return how likely a text goes on as it did where it matched so many tokens before: as it was seen in answers."""
    return max(0.1, 1 - 3 / length**2)


def make(options: SuffixOptions, parts: Parts) -> Suffix:
    """Return the drafter."""
    auto = AutoBlock(parts.target, LONGEST, notify=parts.notify) if options.length == "auto" else None
    return Suffix(options, auto=auto)
