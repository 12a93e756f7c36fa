"""The rows' state: tokens, lengths, room; what a cycle commits. B: rows, n: width of a draft, T: room for tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from orthrus.batch.detokenizer import Detokenizer, TokenDecoder
from orthrus.errors import InputError
from orthrus.settings import Sampling, Stop
from orthrus.values import Draft, FinishReason

MOVED = {  # from Context, and where to
    "refill": "orthrus.Scheduler(context).refill",
    "admit": "orthrus.Scheduler(context, name_of_the_drafter).check",
    "commit": "orthrus.Scheduler(context).commit",
    "processor": "orthrus.sampling.logits_processor.LogitsProcessor.of(context)",
}


@dataclass(eq=False)
class Row:
    """One request's state on the host, as of the last step; request: its place among the prompts.

    key: what its noise is keyed by.
    """

    request: int
    key: int
    prompt: tuple[int, ...]
    room: int
    length: int  # of prompt and output
    output: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    text: Detokenizer | None = None  # only where stop strings are looked for


class Context:
    """A batch's state: rows of different lengths, on the device for the passes and on the host as of the last step.

    requests: one for each prompt. rows: the B of them that are being decoded; when one ends, the next takes its place.
    tokens [B, T] and lengths [B]: prompt and committed tokens of each row; the last one is the anchor, once the
    prefill has committed it. room [B]: how many new tokens a row may still produce; 0 once it has ended. keys [B]: what
    each row's noise is keyed by (see `Chance.gumbel`). sampling: the settings, for drafters that draw as targets do.
    """

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        stop: Stop,
        *,
        vocabulary_size: int,
        batch: int | None = None,
        max_length: int | None = None,
        device: torch.device | str = "cpu",
        tokenizer: TokenDecoder | None = None,
        sampling: Sampling | None = None,
        keys: Sequence[int] | None = None,
    ) -> None:
        self.stop = stop
        self.sampling = sampling or Sampling()
        self.device = torch.device(device)
        self.vocabulary_size = vocabulary_size
        self.cycle = 0  # cycles so far; a prefill is none
        self.unread = 0  # the most tokens that a row has committed beyond what the host knows
        self.requests = [
            Row(request, key, tuple(prompt), _room(len(prompt), stop, max_length), len(prompt))
            for request, (key, prompt) in enumerate(zip(keys or range(len(prompts)), prompts, strict=True))
        ]
        for row in self.requests:
            row.text = Detokenizer(tokenizer.decode, stop.strings) if tokenizer and stop.strings else None
            row.finish_reason = None if row.room else "length"
        self.queue = deque(row for row in self.requests if row.room)
        self.rows: list[Row] = list(islice(self.queue, batch))  # a scheduler takes them
        # One extra column swallows the writes of rows that have no room left.
        width = max((len(row.prompt) + row.room for row in self.requests), default=0) + 1
        self.tokens = torch.zeros(len(self.rows), width, dtype=torch.int64, device=self.device)
        self.prompt_lengths = self.lengths = self.room = self.keys = upload([0] * len(self.rows), self.device)
        self.anchors = torch.zeros_like(self.lengths)
        self.stop_ids = upload(sorted(stop.token_ids), self.device)
        self._nothing = Draft(self.tokens[:, :0], torch.zeros_like(self.lengths))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Raise AttributeError; of what a context had once, it says where that is now."""
            if name in MOVED:
                raise AttributeError(f"Context.{name} has moved: it is {MOVED[name]} now")
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    @property
    def live(self) -> bool:
        """Whether any row goes on or any prompt waits; a host flag, as of the last step."""
        return bool(self.queue) or any(row.finish_reason is None for row in self.rows)

    @property
    def waiting(self) -> bool:
        """Whether any prompt waits for a row."""
        return bool(self.queue)

    @property
    def max_room(self) -> int:
        """The largest room of any row, as of the last step; before the host has read it, an upper bound."""
        return max(row.room for row in self.rows) - (self.unread > 0)  # a row that goes on commits one at least

    @property
    def min_room(self) -> int:
        """The least room of the rows that go on, as of the last step; before it was read, a lower bound."""
        return min((row.room for row in self.rows if row.room), default=0) - self.unread

    @property
    def longest(self) -> int:
        """The most committed tokens of any row, as of the last step; before it was read, an upper bound."""
        return max(row.length for row in self.rows) + self.unread

    def empty_draft(self) -> Draft:
        """Return the draft that proposes nothing: plain decoding, and the prefill. It is always the same object."""
        return self._nothing


def upload(values: list[int], device: torch.device) -> Tensor:
    """Return numbers of the host on a device, without a host sync."""
    return torch.tensor(values, dtype=torch.int64).to(device, non_blocking=True)


def check_turn(begun: Context | None, context: Context) -> None:
    """Raise InputError if a target that has begun one context is asked for another: its cache holds the newer one's."""
    if begun is not context:
        raise InputError(
            "another decoding was begun on this target; finish one before the next, or load a second decoder"
        )


def _room(prompt_length: int, stop: Stop, max_length: int | None) -> int:
    return stop.max_new_tokens if max_length is None else min(stop.max_new_tokens, max_length - prompt_length)
