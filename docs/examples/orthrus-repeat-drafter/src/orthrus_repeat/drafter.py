"""The drafter `repeat`: each token is followed by what followed it when it last stood in the row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orthrus import Chance, Context, Draft, Parts, Step
from orthrus_repeat import RepeatOptions


class Followers:
    """Remember what followed each token of one row last."""

    def __init__(self, tokens: Iterable[int]) -> None:
        self._next: dict[int, int] = {}
        self._newest: int | None = None
        self.add(tokens)

    def add(self, tokens: Iterable[int]) -> None:
        """Append tokens to the row."""
        for token in tokens:
            if self._newest is not None:
                self._next[self._newest] = token
            self._newest = token

    def guess(self, most: int) -> list[int]:
        """Return up to `most` tokens, each what followed the one before it."""
        matches: list[int] = []
        token = self._newest
        while len(matches) < most and token in self._next:
            token = self._next[token]
            matches.append(token)
        return matches


class Repeat:
    """Propose that the row goes on as it went on before."""

    name = "repeat"
    needs: frozenset[str] = frozenset()
    learns = False

    def __init__(self, length: int = 4) -> None:
        self._length = length
        self._rows: dict[int, Followers] = {}

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Read the new rows' prompts and first tokens."""
        for index in rows:
            row = context.rows[index]
            self._rows[index] = Followers([*row.prompt, *row.output])

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return each row's guess, no longer than its room; a row that has ended gets none."""
        guesses = [self._rows[index].guess(min(self._length, row.room)) for index, row in enumerate(context.rows)]
        lengths = [len(guess) for guess in guesses]
        width = max(lengths)
        padded = [guess + [0] * (width - len(guess)) for guess in guesses]
        return Draft(context.tokens.new_tensor(padded), context.tokens.new_tensor(lengths))

    def observe(self, step: Step) -> None:
        """Add what was committed to each row."""
        for index, tokens in enumerate(step.committed):
            self._rows[index].add(tokens)


def make(options: RepeatOptions, parts: Parts) -> Repeat:
    """Return the drafter."""
    return Repeat(options.length)
