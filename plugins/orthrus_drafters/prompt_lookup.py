"""Prompt lookup: what followed the last few tokens when they occurred before, in the prompt or in the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orthrus import AutoBlock, Chance, Context, Draft, Parts, Step
from orthrus_drafters.options import PromptLookupOptions
from orthrus_drafters.padding import LONGEST, chosen_width, padded


class PromptLookup:
    """Propose the continuation of the newest earlier occurrence of the longest n-gram that ends a row.

    It works on the host, where the tokens are after each step anyway: a dictionary lookup a cycle, no device work.
    """

    name = "prompt_lookup"
    needs: frozenset[str] = frozenset()
    learns = False  # with `auto`, how much of its drafts was accepted
    moves_rows = True

    def __init__(
        self, max_ngram: int = 3, min_ngram: int = 2, length: int = 10, *, auto: AutoBlock | None = None
    ) -> None:
        """Draft up to `length` tokens, or as many of them as `auto` chooses."""
        self._sizes = range(max_ngram, min_ngram - 1, -1)  # longest first
        self._length = length
        self._auto = auto
        self.learns = auto is not None
        self.prefix_consistent = auto is None
        self._histories: dict[int, NgramIndex] = {}  # by row

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Index the new rows' prompts and first tokens."""
        for index in rows:
            row = context.rows[index]
            self._histories[index] = NgramIndex([*row.prompt, *row.output], self._sizes)
        if self._auto:
            self._auto.start(rows)

    def note_choices(self, chooses: bool) -> None:
        """Tell who chooses which passes to measure."""
        if self._auto:
            self._auto.note_choices(chooses)

    def move_rows(self, sources: Sequence[int]) -> None:
        """Take the histories of the rows along."""
        self._histories = {row: self._histories[source] for row, source in enumerate(sources) if source >= 0}
        if self._auto:
            self._auto.move_rows(sources)

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return each row's continuation, cut to its room; rows without a match get an empty draft."""
        drafts = [
            self._histories[index].continuation(min(self._length, row.room)) if row.room else []
            for index, row in enumerate(context.rows)
        ]
        return padded(context, drafts, chosen_width(context, drafts, self._auto))

    def observe(self, step: Step) -> None:
        """Add what was committed to the rows' histories."""
        for index, tokens in enumerate(step.committed):
            if tokens:
                self._histories[index].extend(tokens)
        if self._auto:
            self._auto.observe(step)

    def report(self) -> Mapping[str, Any]:
        """Return what `auto` chose."""
        return self._auto.report() if self._auto else {}


class NgramIndex:
    """Index a growing list of tokens by its n-grams: where each one ended last."""

    def __init__(self, tokens: Sequence[int], sizes: Sequence[int]) -> None:
        self._tokens: list[int] = []
        self._sizes = sizes
        self._ends: dict[tuple[int, ...], int] = {}
        self.extend(tokens)

    def extend(self, tokens: Sequence[int]) -> None:
        """Add tokens. An n-gram is indexed once a token follows it, so that the row's end never finds itself."""
        for token in tokens:
            end = len(self._tokens)
            for size in self._sizes:
                if size <= end:
                    self._ends[tuple(self._tokens[end - size :])] = end
            self._tokens.append(token)

    def continuation(self, length: int) -> list[int]:
        """Return up to `length` tokens that followed the longest known n-gram at the end, when it last occurred."""
        for size in self._sizes:
            if size <= len(self._tokens):
                end = self._ends.get(tuple(self._tokens[-size:]))
                if end is not None:
                    return self._tokens[end : end + length]
        return []


def make(options: PromptLookupOptions, parts: Parts) -> PromptLookup:
    """Return the drafter."""
    if options.length == "auto":
        auto = AutoBlock(parts.target, LONGEST, notify=parts.notify)
        return PromptLookup(options.max_ngram, options.min_ngram, LONGEST, auto=auto)
    return PromptLookup(options.max_ngram, options.min_ngram, options.length)
