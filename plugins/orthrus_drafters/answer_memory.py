"""Bounded memory of earlier answers, in which the end of a text is looked up; the oldest are dropped."""

from __future__ import annotations

from collections.abc import Sequence

from orthrus_drafters.suffix_automaton import SuffixAutomaton


class AnswerMemory:
    """Hold up to `most` tokens of earlier answers in two automata: when the newer one is full, the older one goes."""

    def __init__(self, most: int, longest: int) -> None:
        """Hold `most` tokens at most; matches have `longest` tokens at most."""
        self.changes = 0  # counts what was added: matches made before are void
        self._half = most // 2
        self._longest = longest
        self._newer, self._older = SuffixAutomaton(longest), SuffixAutomaton(longest)

    @property
    def size(self) -> int:
        """The tokens held; an answer that came before in the same words is held once."""
        return self._newer.size + self._older.size

    def automata(self) -> tuple[SuffixAutomaton, SuffixAutomaton]:
        """Return both, the newer one first."""
        return self._newer, self._older

    def add(self, tokens: Sequence[int]) -> None:
        """Hold a text; of one that is too long for the memory, its end."""
        self.changes += 1
        self._newer.begin_text()
        for token in tokens if self._half else ():
            if self._newer.size == self._half:
                self._newer, self._older = SuffixAutomaton(self._longest), self._newer
            self._newer.append(token)
