"""Prompts that must not be trained on, because a view is measured with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

WORDS = 13  # in a row; fewer are shared by chance, by what instructions have in common


class Contamination:
    """Prompts to avoid: others that repeat all words of one, or 13 of them in a row, whatever is between."""

    def __init__(self, prompts: Iterable[str]) -> None:
        self._known = {sequence for prompt in prompts for sequence in _sequences(prompt)}

    def __contains__(self, prompt: str) -> bool:
        return any(sequence in self._known for sequence in _sequences(prompt))


def _sequences(prompt: str) -> Iterator[tuple[str, ...]]:
    """Yield every 13 words in a row; all words of a shorter prompt."""
    words = re.findall(r"\w+", prompt.lower())
    for start in range(max(len(words) - WORDS, 0) + 1):
        yield tuple(words[start : start + WORDS])
