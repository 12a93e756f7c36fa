"""The rows' state: tokens, lengths, room; what a cycle commits. B: rows, n: width of a draft, T: room for tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from orthrus.admission import Admitted, admit
from orthrus.interfaces import Drafter, Tokenizer
from orthrus.sampling import append_bonus, cut_at_stop
from orthrus.text import TextStream
from orthrus.types import Draft, FinishReason, Step, Stop, Verdict


@dataclass
class Row:
    """Hold one row's state on the host, as of the last step."""

    prompt: tuple[int, ...]
    room: int
    output: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    text: TextStream | None = None  # only where stop strings are looked for


class Context:
    """Hold rows of different lengths, on the device for the passes and on the host as of the last step.

    tokens [B, T] and lengths [B]: prompt and committed tokens of each row; the last one is the anchor, once the
    prefill has committed it. room [B]: how many new tokens a row may still produce; 0 once it has ended.
    """

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        stop: Stop,
        *,
        vocabulary_size: int,
        max_length: int | None = None,
        device: torch.device | str = "cpu",
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self.stop = stop
        self.device = torch.device(device)
        self.vocabulary_size = vocabulary_size
        self.cycle = -1  # the cycle committed last; 0 is the prefill
        self.rows = [Row(tuple(prompt), _room(len(prompt), stop, max_length)) for prompt in prompts]
        for row in self.rows:
            row.text = TextStream(tokenizer, stop.strings) if tokenizer and stop.strings else None
            row.finish_reason = None if row.room else "length"
        self.tokens = _pad(self.rows, self.device)
        self.prompt_lengths = self._upload([len(row.prompt) for row in self.rows])
        self.lengths = self.prompt_lengths.clone()
        self.room = self._upload([row.room for row in self.rows])
        self.stop_ids = self._upload(sorted(stop.token_ids))
        self._admitted = Admitted.of(Draft(self.tokens[:, :0], torch.zeros_like(self.lengths)))

    @property
    def live(self) -> bool:
        """Tell whether any row goes on; a host flag, as of the last step."""
        return any(row.finish_reason is None for row in self.rows)

    @property
    def max_room(self) -> int:
        """Return the largest room of any row, as of the last step (on the host)."""
        return max(row.room for row in self.rows)

    @property
    def longest(self) -> int:
        """Return the largest number of committed tokens of any row, as of the last step (on the host)."""
        return max(len(row.prompt) + len(row.output) for row in self.rows)

    @property
    def anchors(self) -> Tensor:
        """Return the newest committed token of each row [B]."""
        return self.tokens.gather(1, self.lengths[:, None] - 1)[:, 0]

    def empty_draft(self) -> Draft:
        """Return the draft that proposes nothing: plain decoding, and the prefill."""
        return Draft(self.tokens[:, :0], torch.zeros_like(self.lengths))

    def admit(self, draft: Draft, drafter: Drafter) -> Draft:
        """Return the draft with its values forced into their bounds; `commit` raises DraftError if any was not.

        What the host can see, it refuses here; values are checked on the device and reported with the step, because
        reading them now would cost a second host sync.
        """
        self._admitted = admit(draft, self, drafter)
        return self._admitted.draft

    def commit(self, draft: Draft, verdict: Verdict) -> Step:
        """Add each row's accepted drafts and bonus token, up to a stop or the limit; the cycle's one host sync."""
        candidates = append_bonus(draft.tokens, verdict.accepted, verdict.next_tokens)  # [B, n + 1]
        counts = torch.minimum(verdict.accepted + 1, self.room)  # [B]; 0 where a row has ended
        counts = cut_at_stop(candidates, counts, self.stop_ids)
        self._write(candidates, counts)
        facts = torch.stack([self._admitted.broken, verdict.accepted, counts], dim=1)  # [B, 3]
        return self._record(torch.cat([facts, candidates], dim=1).tolist(), draft.passes + 1)

    def _write(self, candidates: Tensor, counts: Tensor) -> None:
        index = self.lengths[:, None] + torch.arange(candidates.shape[1], device=self.device)
        self.tokens.scatter_(1, index.clamp(max=self.tokens.shape[1] - 1), candidates)
        self.lengths = self.lengths + counts
        last = candidates.gather(1, (counts - 1).clamp(min=0)[:, None])  # [B, 1]
        stopped = (last == self.stop_ids).any(1)
        self.room = torch.where(stopped, 0, self.room - counts)

    def _record(self, seen: list[list[int]], passes: int) -> Step:
        self.cycle += 1
        self._admitted.report([values[0] for values in seen])
        committed = [self._extend(row, values[3 : 3 + values[2]]) for row, values in zip(self.rows, seen, strict=True)]
        if any(len(tokens) < values[2] for tokens, values in zip(committed, seen, strict=True)):
            self._correct()
        return Step(
            cycle=self.cycle,
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

    def _correct(self) -> None:
        # Only the host can see stop strings: where one cut a row, the device learns of it by an upload (no sync).
        self.lengths = self._upload([len(row.prompt) + len(row.output) for row in self.rows])
        self.room = self._upload([row.room for row in self.rows])

    def _upload(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64).to(self.device, non_blocking=True)


def _room(prompt_length: int, stop: Stop, max_length: int | None) -> int:
    return stop.max_new_tokens if max_length is None else min(stop.max_new_tokens, max_length - prompt_length)


def _pad(rows: Sequence[Row], device: torch.device) -> Tensor:
    # The last column is nobody's: writes beyond a row's room end there.
    width = max(len(row.prompt) + row.room for row in rows) + 1
    padded = [list(row.prompt) + [0] * (width - len(row.prompt)) for row in rows]
    return torch.tensor(padded, dtype=torch.int64).to(device, non_blocking=True)
