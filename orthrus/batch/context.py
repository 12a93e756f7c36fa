"""The rows' state: tokens, lengths, room; what a cycle commits. B: rows, n: width of a draft, T: room for tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from orthrus.batch.detokenizer import Detokenizer, TokenDecoder, byte_tokens
from orthrus.batch.request import Request, Row
from orthrus.batch.row_settings import RowSettings
from orthrus.errors import InputError
from orthrus.paths import Paths, chain_positions
from orthrus.settings import Sampling, Stop
from orthrus.values import Draft

MOVED = {  # from Context, and where to
    "refill": "orthrus.Scheduler(context).refill",
    "admit": "orthrus.Scheduler(context, name_of_the_drafter).check",
    "commit": "orthrus.Scheduler(context).commit",
    "processor": "orthrus.sampling.logits_processor.LogitsProcessor.of(context)",
}


S = TypeVar("S", Stop, Sampling)


class Context:
    """A batch's state: rows of different lengths, on the device for the passes and on the host as of the last step.

    requests: those that are not done with. rows: the B of them that are being decoded; when one ends, the next takes
    its place, and B follows how many go on. tokens [B, T] and lengths [B]: prompt and committed tokens of each row; the
    last one is the anchor, once the prefill has committed it. room [B]: how many new tokens a row may still produce; 0
    once it has ended. keys [B]: what each row's noise is keyed by (see `Chance.gumbel`). settings: of each row, for
    verifiers and for drafters that draw as targets do.
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
        self.max_length = max_length
        self.tokenizer = tokenizer
        self.device = torch.device(device)
        self.vocabulary_size = vocabulary_size
        self.cycle = 0  # cycles so far; a prefill is none
        self.unread = 0  # the most tokens that a row has committed beyond what the host knows
        self.arrivals = 0  # requests so far
        self.width = 1  # T that they need; one column swallows the writes of rows that have no room left
        self.requests: list[Row] = []
        self.queue: deque[Row] = deque()
        for key, prompt in zip(keys or range(len(prompts)), prompts, strict=True):
            self.enqueue(Request(tuple(prompt), stop, sampling or Sampling(), key))
        self.rows: list[Row] = list(islice(self.queue, batch))  # a scheduler takes them
        self._stop, self._sampling = stop, sampling or Sampling()
        self.settings = RowSettings.of(self.rows or [Row.vacant()], vocabulary_size, self.device)
        self.tokens = torch.zeros(len(self.rows), self.width, dtype=torch.int64, device=self.device)
        self.prompt_lengths = self.lengths = self.room = self.keys = upload([0] * len(self.rows), self.device)
        self.anchors = torch.zeros_like(self.lengths)
        self._nothing = Draft(self.tokens[:, :0], torch.zeros_like(self.lengths))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Raise AttributeError; of what a context had once, it says where that is now."""
            if name in MOVED:
                raise AttributeError(f"Context.{name} has moved: it is {MOVED[name]} now")
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def enqueue(self, request: Request) -> Row:
        """Let a request wait for a row, if it has room to answer; a scheduler's to call."""
        decode = None if self.tokenizer is None else self.tokenizer.decode
        reads = decode is not None and (request.stop.strings or request.shows)
        text = Detokenizer(decode, request.stop.strings, byte_tokens(self.tokenizer)) if decode and reads else None
        row = Row.of(self.arrivals, request, self.max_length, text)
        self.arrivals += 1
        self.width = max(self.width, len(row.prompt) + row.room + 1)
        self.requests.append(row)
        if row.live:
            self.queue.append(row)
        return row

    @property
    def live(self) -> bool:
        """Whether any row goes on or any prompt waits; a host flag, as of the last step."""
        return bool(self.queue) or any(row.finish_reason is None for row in self.rows)

    @property
    def waiting(self) -> bool:
        """Whether any prompt waits for a row."""
        return bool(self.queue)

    @property
    def stop(self) -> Stop:
        """The limits of all rows; raises InputError if they differ: each of `rows` has its own."""
        return _common([row.stop for row in self.rows if row.live], self._stop, "stop")

    @property
    def sampling(self) -> Sampling:
        """The sampling settings of all rows; raises InputError if they differ: then `settings` has them."""
        return _common([row.sampling for row in self.rows if row.live], self._sampling, "sampling")

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
        return max(row.length + min(self.unread, row.room) for row in self.rows)

    def positions(self, count: int, paths: Paths | None = None) -> Tensor:
        """Return the positions [B, count] of the tokens that would follow each row's anchor and what comes after it.

        paths: of a tree, whose places are as deep as their paths are long; None: of a chain.
        """
        return self.lengths[:, None] + chain_positions(paths, count, self.device)

    def empty_draft(self) -> Draft:
        """Return the draft that proposes nothing: plain decoding, and the prefill; the same object while B stays."""
        return self._nothing


def upload(values: list[int], device: torch.device) -> Tensor:
    """Return numbers of the host on a device, without a host sync."""
    return torch.tensor(values, dtype=torch.int64).to(device, non_blocking=True)


def _common(values: list[S], default: S, name: str) -> S:
    if not values:
        return default
    if any(value is not values[0] and value != values[0] for value in values):
        raise InputError(
            f"context.{name} is asked for, but the rows' settings differ; a part that works in sessions reads"
            f" context.settings, or the {name} of each of context.rows"
        )
    return values[0]
