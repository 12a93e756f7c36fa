"""The rows' state: tokens, lengths, room; what a cycle commits. B: rows, n: width of a draft, T: room for tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from orthrus.batch.detokenizer import TextStream
from orthrus.batch.validation import Admitted, Seal, admit, check_accepted, check_numbers, check_verdict
from orthrus.errors import InputError
from orthrus.interfaces import Drafter, Tokenizer
from orthrus.kernels.available import row_kernels
from orthrus.sampling import append_bonus, cut_at_stop
from orthrus.sampling.logits_processor import Processor
from orthrus.settings import Sampling, Stop
from orthrus.values import Draft, FinishReason, Step, Verdict

REFILL_SHARE = 16  # a refill waits until one row in so many is free


@dataclass(eq=False)
class Row:
    """Hold one request's state on the host, as of the last step; request: its place among the prompts.

    key: what its noise is keyed by.
    """

    request: int
    key: int
    prompt: tuple[int, ...]
    room: int
    length: int  # of prompt and output
    output: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    text: TextStream | None = None  # only where stop strings are looked for


class Context:
    """Hold rows of different lengths, on the device for the passes and on the host as of the last step.

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
        tokenizer: Tokenizer | None = None,
        sampling: Sampling | None = None,
        keys: Sequence[int] | None = None,
    ) -> None:
        self.stop = stop
        self.sampling = sampling or Sampling()
        self.device = torch.device(device)
        self.vocabulary_size = vocabulary_size
        self.cycle = 0  # cycles so far; a prefill is none
        self._unread = 0  # the most tokens that a row has committed beyond what the host knows
        self.requests = [
            Row(request, key, tuple(prompt), _room(len(prompt), stop, max_length), len(prompt))
            for request, (key, prompt) in enumerate(zip(keys or range(len(prompts)), prompts, strict=True))
        ]
        for row in self.requests:
            row.text = TextStream(tokenizer, stop.strings) if tokenizer and stop.strings else None
            row.finish_reason = None if row.room else "length"
        self._waiting = deque(row for row in self.requests if row.room)
        self.rows: list[Row] = list(islice(self._waiting, batch))  # `refill` takes them
        # The last column is nobody's: writes beyond a row's room end there.
        width = max((len(row.prompt) + row.room for row in self.requests), default=0) + 1
        self.tokens = torch.zeros(len(self.rows), width, dtype=torch.int64, device=self.device)
        self.prompt_lengths = self.lengths = self.room = self.keys = self._upload([0] * len(self.rows))
        self._anchors = torch.zeros_like(self.lengths)
        self.stop_ids = self._upload(sorted(stop.token_ids))
        self.processor = Processor.of(self.sampling, vocabulary_size, self.device)
        self._fresh = list(range(len(self.rows)))
        self._nothing = Draft(self.tokens[:, :0], torch.zeros_like(self.lengths))
        self._admitted = self._nothing_admitted = Admitted.of(self._nothing)
        self._seal = Seal.of(self)
        self._drafter = ""  # its name, for errors

    @property
    def live(self) -> bool:
        """Tell whether any row goes on or any prompt waits; a host flag, as of the last step."""
        return bool(self._waiting) or any(row.finish_reason is None for row in self.rows)

    @property
    def waiting(self) -> bool:
        """Tell whether any prompt waits for a row."""
        return bool(self._waiting)

    @property
    def max_room(self) -> int:
        """Return the largest room of any row, as of the last step; before the host has read it, an upper bound."""
        return max(row.room for row in self.rows) - (self._unread > 0)  # a row that goes on commits one at least

    @property
    def min_room(self) -> int:
        """Return the least room of the rows that go on, as of the last step; before it was read, a lower bound."""
        return min((row.room for row in self.rows if row.room), default=0) - self._unread

    @property
    def longest(self) -> int:
        """Return the most committed tokens of any row, as of the last step; before it was read, an upper bound."""
        return max(row.length for row in self.rows) + self._unread

    @property
    def anchors(self) -> Tensor:
        """Return the newest committed token of each row [B]."""
        return self._anchors

    def empty_draft(self) -> Draft:
        """Return the draft that proposes nothing: plain decoding, and the prefill. It is always the same object."""
        return self._nothing

    def refill(self) -> list[int]:
        """Give rows that have ended, and at first all rows, to waiting prompts; return them: they want a prefill.

        A prefill holds up the rows that go on, so with many rows it waits until a share of them is free.
        """
        if not self._waiting:
            return []
        fresh = set(self._fresh)
        free = [index for index, row in enumerate(self.rows) if index in fresh or row.finish_reason is not None]
        if len(free) < min(len(self._waiting), len(self.rows) // REFILL_SHARE):
            return []
        self._fresh = free[: len(self._waiting)]
        for index in self._fresh:
            self.rows[index] = row = self._waiting.popleft()
            self.tokens[index, : len(row.prompt)] = self._upload(list(row.prompt))
        if self._fresh:
            self._upload_state()
            self.prompt_lengths = self._upload([len(row.prompt) for row in self.rows])
            self.keys = self._upload([row.key for row in self.rows])
        return self._fresh

    def admit(self, draft: Draft, drafter: Drafter) -> Draft:
        """Return the draft with its values forced into their bounds; `commit` raises DraftError if any was not.

        What the host can see, it refuses here; values are checked on the device and reported with the step, because
        reading them now would cost a second host sync.
        """
        self._drafter = getattr(drafter, "name", type(drafter).__name__)
        self._seal.check(self, self._drafter)
        self._admitted = self._nothing_admitted if draft is self._nothing else admit(draft, self, self._drafter)
        return self._admitted.draft

    def commit(self, draft: Draft, verdict: Verdict, ahead: Callable[[], None] | None = None) -> Step:
        """Add each row's accepted drafts and bonus token, up to a stop or the limit; the cycle's one host sync.

        After a prefill (a `refill` that found prompts), only the rows that it filled take part. ahead: called when the
        device's state is the new one and the host has not read it yet; what it launches runs while the host does.
        """
        check_verdict(verdict)
        check_numbers(verdict, self.lengths)
        limits = self.room  # [B] tokens that a row may commit; 0 where it has ended
        if self._fresh and len(self._fresh) < len(self.rows):
            limits = limits * self._upload([int(index in self._fresh) for index in range(len(self.rows))])
        kernels = row_kernels(self.lengths.device)
        given = draft, verdict, limits
        facts = self._add(*given) if kernels is None else self._add_at_once(kernels, *given)
        seen = self._read(facts, ahead, draft.tokens.shape[1] + 1)  # [B, 3 + n + 1]
        return self._record(seen, draft.passes + 1)

    def _add(self, draft: Draft, verdict: Verdict, limits: Tensor) -> Tensor:
        """Add each row's tokens; return what the host is to know of them [B, 3 + n + 1]."""
        accepted = verdict.accepted.clamp(0, draft.tokens.shape[1])  # [B]; what is not there is reported with the step
        candidates = append_bonus(draft.tokens, accepted, verdict.next_tokens)  # [B, n + 1]
        counts = cut_at_stop(candidates, torch.minimum(accepted + 1, limits), self.stop_ids)  # [B]
        self._write(candidates, counts)
        facts = [one[:, None] for one in (self._admitted.broken, verdict.accepted, counts)]
        return torch.cat([*facts, candidates], dim=1)

    def _add_at_once(self, kernels: Any, draft: Draft, verdict: Verdict, limits: Tensor) -> Tensor:
        """Do the same by a kernel: what is launched here runs behind the pass and holds up the next one."""
        rows = self.tokens, self.lengths, self.room, limits
        found = draft.tokens, verdict.accepted, verdict.next_tokens
        facts: Tensor
        self.lengths, self.room, self._anchors, facts = kernels.commit(
            *rows, *found, self.stop_ids, self._admitted.broken
        )
        return facts

    def _read(self, facts: Tensor, ahead: Callable[[], None] | None, most: int) -> list[list[int]]:
        """Return what the device found; most: how many tokens a row may have committed."""
        if ahead is None:
            return facts.tolist()
        # To pinned memory, so that the copy holds up nothing. Elsewhere `tolist` waits for all that was launched.
        on_host = facts.to("cpu", non_blocking=True) if facts.is_cuda else facts
        copied = torch.cuda.current_stream(facts.device).record_event() if facts.is_cuda else None
        self._unread = most
        seal = Seal.of(self)
        try:
            ahead()
        finally:
            self._unread = 0
        seal.check(self, self._drafter)
        if copied is not None:
            copied.synchronize()
        return on_host.tolist()

    def _write(self, candidates: Tensor, counts: Tensor) -> None:
        index = self.lengths[:, None] + torch.arange(candidates.shape[1], device=self.device)
        self.tokens.scatter_(1, index.clamp(max=self.tokens.shape[1] - 1), candidates)
        self.lengths = self.lengths + counts
        self.room = self.room - counts
        self._find_anchors()  # not later: what is launched now runs behind the pass, and later would hold up the next
        if self.stop_ids.numel():  # a row that goes on does not have a stop for its newest token
            self.room = self.room.masked_fill((self._anchors[:, None] == self.stop_ids).any(1), 0)

    def _find_anchors(self) -> None:
        self._anchors = self.tokens.gather(1, self.lengths[:, None] - 1)[:, 0]

    def _record(self, seen: list[list[int]], passes: int) -> Step:
        fresh, self._fresh = tuple(self._fresh), []
        self.cycle += not fresh
        self._admitted.report([values[0] for values in seen])
        # What is said of rows that take no part is not read.
        check_accepted([values[1] if values[2] else 0 for values in seen], len(seen[0]) - 4)
        committed = [self._extend(row, values[3 : 3 + values[2]]) for row, values in zip(self.rows, seen, strict=True)]
        if any(tokens and row.finish_reason == "stop_string" for row, tokens in zip(self.rows, committed, strict=True)):
            self._upload_state()  # only the host can see stop strings; the device learns by an upload (no sync)
        self._seal = Seal.of(self)
        return Step(
            cycle=self.cycle,
            prefilled=fresh,
            lengths=self.lengths,
            committed=tuple(committed),
            accepted=tuple(values[1] if tokens else 0 for tokens, values in zip(committed, seen, strict=True)),
            finished=tuple(
                row.finish_reason if tokens else None for row, tokens in zip(self.rows, committed, strict=True)
            ),
            passes=passes,
        )

    def _extend(self, row: Row, tokens: list[int]) -> tuple[int, ...]:
        """Add a row's tokens, up to one that completes a stop string; return those added."""
        if not tokens:
            return ()
        if row.text is not None:
            tokens = self._until_string(row, row.text, tokens)
        row.output += tokens
        row.length += len(tokens)
        row.room -= len(tokens)
        row.finish_reason = self._why_finished(row)
        if row.finish_reason:
            row.room = 0
        return tuple(tokens)

    def _until_string(self, row: Row, text: TextStream, tokens: list[int]) -> list[int]:
        for count, token in enumerate(tokens, start=1):
            text.feed(token, armed=len(row.output) + count >= self.stop.min_new_tokens)
            if text.matched:
                return tokens[:count]
        return tokens

    def _why_finished(self, row: Row) -> FinishReason | None:
        if row.text is not None and row.text.matched:
            return "stop_string"
        if row.output[-1] in self.stop.token_ids:
            return "stop_token"
        return "length" if row.room == 0 else None

    def _upload_state(self) -> None:
        self.lengths = self._upload([row.length for row in self.rows])
        self.room = self._upload([row.room for row in self.rows])
        self._find_anchors()

    def _upload(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64).to(self.device, non_blocking=True)


def check_turn(begun: Context | None, context: Context) -> None:
    """Raise InputError if a target that has begun one context is asked for another: its cache holds the newer one's."""
    if begun is not context:
        raise InputError(
            "another decoding was begun on this target; finish one before the next, or load a second decoder"
        )


def _room(prompt_length: int, stop: Stop, max_length: int | None) -> int:
    return stop.max_new_tokens if max_length is None else min(stop.max_new_tokens, max_length - prompt_length)
