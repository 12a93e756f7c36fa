"""Questions that wait to become tokens or text: those who ask take turns, a prompt each."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from orthrus_serve.decoding.messages import Detokenize, Generate, Tokenize

Question = Generate | Tokenize | Detokenize


class WaitingQuestions:
    """Hold questions, each with the time at which it came.

    What one client asks for at a time is a group. Groups take turns, so that one of many prompts holds up the others by
    one prompt at most; the choices of a prompt are one turn, since they share its tokens.
    """

    def __init__(self) -> None:
        self._groups: deque[deque[tuple[Question, float]]] = deque()  # none is empty

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._groups)

    def add(self, questions: Sequence[Question], arrived: float) -> None:
        """Let a group wait; arrived: when it came."""
        self._groups.append(deque((question, arrived) for question in questions))

    def forget(self, id: str) -> None:
        """Take a question out; one that is not here has been taken."""
        kept = (deque(entry for entry in group if entry[0].id != id) for group in self._groups)
        self._groups = deque(group for group in kept if group)

    def take(self) -> tuple[Question, float]:
        """Take the next question out."""
        group = self._groups[0]
        question, arrived = group.popleft()
        if not group:
            self._groups.popleft()
        elif not _same_prompt(question, group[0][0]):
            self._groups.rotate(-1)
        return question, arrived


def _same_prompt(question: Question, other: Question) -> bool:
    return isinstance(question, Generate) and isinstance(other, Generate) and question.prompt is other.prompt
