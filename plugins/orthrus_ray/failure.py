"""The sentence of an error that crossed Ray, which wraps what it carries into tracebacks."""

from __future__ import annotations

import re

_BEFORE, _AFTER = "orthrus-error<", ">orthrus-error"


def marked(sentence: str) -> str:
    """Return a sentence so that `sentence_in` finds it again."""
    return f"{_BEFORE}{sentence}{_AFTER}"


def sentence_in(text: str) -> str:
    """Return the marked sentence of a text, or of one without the text's last line, which says the most."""
    found = re.search(f"{_BEFORE}(.*?){_AFTER}", text, flags=re.DOTALL)
    if found:
        return found[1]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "Ray says no more about it"
