"""Drafts as a stream shows them: what a step committed of an answer, and what was rejected, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orthrus import Event, ShownDraft
from orthrus_serve.decoding.messages import Cycle
from orthrus_serve.decoding.token_texts import TokenTexts


class GrowingText(Protocol):
    """What turns tokens into text as they come; a `Detokenizer` is."""

    def extend(self, token_ids: Sequence[int]) -> str:
        """Return the text that becomes safe to show with these tokens."""

    def finish(self) -> str:
        """Return what was held back."""


def committed_texts(event: Event, text: GrowingText | None) -> list[str]:
    """Return for each token of an event the text that became safe to show with it; the last one's has what was held.

    text: what makes it; None: the session did.
    """
    ended = event.result is not None
    if text is None:
        texts, rest = [*event.texts, *[""] * (len(event.token_ids) - len(event.texts))], event.rest
    else:
        texts = [text.extend([token]) for token in event.token_ids]
        rest = text.finish() if ended else ""
    return [*texts[:-1], texts[-1] + rest]


def shown_cycle(event: Event, draft: ShownDraft, texts: Sequence[str], token_texts: TokenTexts) -> Cycle:
    """Return the cycle of an event whose tokens have these texts; rejected tokens have those that they have alone."""
    accepted, own = tuple(texts[: event.accepted]), texts[event.accepted :]
    rejected = map(token_texts.of, draft.rejected(event.token_ids[: event.accepted]))
    return Cycle(accepted, own[0] if own else None, tuple(rejected), draft.drafter)
