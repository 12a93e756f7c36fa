"""Results, whole and as they come: pieces of text, events, drafts that are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orthrus.metrics import Measures
    from orthrus.values.steps import FinishReason, Step, TokenScores


@dataclass(frozen=True)
class Piece:
    """A piece of streamed text, whether its last token was an accepted draft, and the step that committed it."""

    text: str
    accepted: bool
    step: Step


@dataclass(frozen=True)
class ShownDraft:
    """A draft as a request's event shows it: all tokens that were proposed, and whose; None: there are none.

    Of a tree they are those of all branches.
    """

    token_ids: tuple[int, ...] = ()
    drafter: str | None = None

    def rejected(self, accepted: Sequence[int]) -> list[int]:
        """Return the tokens that are not among these, which were accepted."""
        left = list(self.token_ids)
        for token in accepted:
            left.remove(token)  # of a chain the first one each time; of equal ones in a tree any will do
        return left


@dataclass(frozen=True, eq=False)
class Event:
    """The news of one request of a session in one step: what it committed, and its result if it has ended.

    token_ids: the tokens committed, of which the first `accepted` were drafts. texts: for each of them the text that
    became safe to show. rest: text that was held back until the end. scores: of each token, if asked for. step: None
    for a request that ended outside of a step, by its cancellation or because it has no room. drafted: how many drafts
    were proposed, in a session that counts them; else 0. draft: the drafts and whose they are, for a request that shows
    them. error: what the tokenizer raised at this request's tokens, which ended it without a result.
    """

    id: str
    token_ids: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()
    rest: str = ""
    accepted: int = 0
    scores: tuple[TokenScores, ...] | None = None
    step: Step | None = None
    result: Result | None = None
    drafted: int = 0
    draft: ShownDraft | None = None
    error: Exception | None = None

    @property
    def text(self) -> str:
        """The text that became safe to show; that of all events of a request is its result's text."""
        return "".join(self.texts) + self.rest


@dataclass(frozen=True)
class Result:
    """One answer: its text and tokens, why it ended, and its measures.

    A stop token is among the tokens; the text is without special tokens. finish_reason is None for a stream that was
    left before its end. scores: of each token, if they were asked for. restored_tokens: leading ones of the prompt that
    were not passed over, as the cache held their keys from earlier texts.
    """

    id: str
    text: str
    token_ids: tuple[int, ...]
    prompt_token_ids: tuple[int, ...]
    finish_reason: FinishReason | None
    measures: Measures
    scores: tuple[TokenScores, ...] | None = None
    restored_tokens: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `orthrus run --json` prints."""
        return {
            "id": self.id,
            "text": self.text,
            "token_ids": list(self.token_ids),
            "prompt_tokens": len(self.prompt_token_ids),
            "new_tokens": len(self.token_ids),
            "finish_reason": self.finish_reason,
            **self.measures.to_dict(),
        }


@dataclass(frozen=True)
class BaselineAnswer:
    """A baseline's answer: each prompt's new tokens, up to and with a stop token, and no more than the limit.

    ttft_seconds: from the call to the first token. cycles: passes of the model after the first. None: it cannot tell.
    """

    token_ids: tuple[tuple[int, ...], ...]
    ttft_seconds: float | None = None
    cycles: int | None = None
