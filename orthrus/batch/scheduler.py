"""Takes requests into the rows of a context, checks drafts, and commits steps: the only writer of a context.

B: rows, n: width of a draft.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from orthrus.batch import commit as arithmetic
from orthrus.batch.context import Context, Row, upload
from orthrus.batch.detokenizer import Detokenizer
from orthrus.batch.validation import CheckedDraft, WriteGuard, check_accepted, check_draft, check_numbers, check_verdict
from orthrus.kernels.available import row_kernels
from orthrus.values import Draft, FinishReason, Step, Verdict

REFILL_SHARE = 16  # a refill waits until one row in so many is free


class Scheduler:
    """Decide which requests a context's rows hold, and commit what was verified. drafter: its name, for errors."""

    def __init__(self, context: Context, drafter: str = "") -> None:
        self._context = context
        self._drafter = drafter
        self._fresh = list(range(len(context.rows)))  # that take part in the next step alone: they want a prefill
        self._checked = self._nothing_checked = CheckedDraft.of(context.empty_draft())
        self._guard = WriteGuard.of(context)

    @property
    def live(self) -> bool:
        """Whether any row goes on or any prompt waits."""
        return self._context.live

    def refill(self) -> list[int]:
        """Give rows that have ended, and at first all rows, to waiting prompts; return them: they want a prefill.

        A prefill holds up the rows that go on, so with many rows it waits until a share of them is free.
        """
        context = self._context
        if not context.queue:
            return []
        fresh = set(self._fresh)
        free = [index for index, row in enumerate(context.rows) if index in fresh or row.finish_reason is not None]
        if len(free) < min(len(context.queue), len(context.rows) // REFILL_SHARE):
            return []
        self._fresh = free[: len(context.queue)]
        for index in self._fresh:
            context.rows[index] = row = context.queue.popleft()
            context.tokens[index, : len(row.prompt)] = upload(list(row.prompt), context.device)
        if self._fresh:
            self._upload_state()
            context.prompt_lengths = upload([len(row.prompt) for row in context.rows], context.device)
            context.keys = upload([row.key for row in context.rows], context.device)
        return self._fresh

    def check(self, draft: Draft) -> Draft:
        """Return the draft with its values forced into their bounds; `commit` raises DraftError if any was not.

        What the host can see, it refuses here; values are checked on the device and reported with the step, because
        reading them now would cost a second host sync.
        """
        context = self._context
        self._guard.check(context, self._drafter)
        nothing = draft is context.empty_draft()
        self._checked = self._nothing_checked if nothing else check_draft(draft, context, self._drafter)
        return self._checked.draft

    def commit(self, draft: Draft, verdict: Verdict, ahead: Callable[[], None] | None = None) -> Step:
        """Add each row's accepted drafts and bonus token, up to a stop or the limit; the cycle's one host sync.

        After a prefill (a `refill` that found prompts), only the rows that it filled take part. ahead: called when the
        device's state is the new one and the host has not read it yet; what it launches runs while the host does.
        """
        context = self._context
        check_verdict(verdict)
        check_numbers(verdict, context.lengths)
        limits = context.room  # [B] tokens that a row may commit; 0 where it has ended
        if self._fresh and len(self._fresh) < len(context.rows):
            limits = limits * upload([int(index in self._fresh) for index in range(len(context.rows))], context.device)
        facts = self._add(draft, verdict, limits)
        seen = self._read(facts, ahead, draft.tokens.shape[1] + 1)  # [B, 3 + n + 1]
        return self._record(seen, draft.passes + 1)

    def _add(self, draft: Draft, verdict: Verdict, limits: Tensor) -> Tensor:
        """Add each row's tokens; return what the host is to know of them [B, 3 + n + 1].

        By a kernel where there is one: what is launched here runs behind the pass and holds up the next one.
        """
        context = self._context
        commit = (row_kernels(context.lengths.device) or arithmetic).commit
        rows = context.tokens, context.lengths, context.room, limits
        step_tensors = draft.tokens, verdict.accepted, verdict.next_tokens
        facts: Tensor
        context.lengths, context.room, context.anchors, facts = commit(
            *rows, *step_tensors, context.stop_ids, self._checked.broken
        )
        return facts

    def _read(self, facts: Tensor, ahead: Callable[[], None] | None, most: int) -> list[list[int]]:
        """Return what the device found; most: how many tokens a row may have committed."""
        if ahead is None:
            return facts.tolist()
        context = self._context
        # To pinned memory, so that the copy holds up nothing. Elsewhere `tolist` waits for all that was launched.
        on_host = facts.to("cpu", non_blocking=True) if facts.is_cuda else facts
        copied = torch.cuda.current_stream(facts.device).record_event() if facts.is_cuda else None
        context.unread = most
        guard = WriteGuard.of(context)
        try:
            ahead()
        finally:
            context.unread = 0
        guard.check(context, self._drafter)
        if copied is not None:
            copied.synchronize()
        return on_host.tolist()

    def _record(self, seen: list[list[int]], passes: int) -> Step:
        context = self._context
        fresh, self._fresh = tuple(self._fresh), []
        context.cycle += not fresh
        self._checked.report([values[0] for values in seen])
        # What is said of rows that take no part is not read.
        check_accepted([values[1] if values[2] else 0 for values in seen], len(seen[0]) - 4)
        rows = context.rows
        committed = [self._extend(row, values[3 : 3 + values[2]]) for row, values in zip(rows, seen, strict=True)]
        if any(tokens and row.finish_reason == "stop_string" for row, tokens in zip(rows, committed, strict=True)):
            self._upload_state()  # only the host can see stop strings; the device learns by an upload (no sync)
        self._guard = WriteGuard.of(context)
        return Step(
            cycle=context.cycle,
            prefilled=fresh,
            lengths=context.lengths,
            committed=tuple(committed),
            accepted=tuple(values[1] if tokens else 0 for tokens, values in zip(committed, seen, strict=True)),
            finished=tuple(row.finish_reason if tokens else None for row, tokens in zip(rows, committed, strict=True)),
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

    def _until_string(self, row: Row, text: Detokenizer, tokens: list[int]) -> list[int]:
        for count, token in enumerate(tokens, start=1):
            text.feed(token, armed=len(row.output) + count >= self._context.stop.min_new_tokens)
            if text.matched:
                return tokens[:count]
        return tokens

    def _why_finished(self, row: Row) -> FinishReason | None:
        if row.text is not None and row.text.matched:
            return "stop_string"
        if row.output[-1] in self._context.stop.token_ids:
            return "stop_token"
        return "length" if row.room == 0 else None

    def _upload_state(self) -> None:
        context = self._context
        context.lengths = upload([row.length for row in context.rows], context.device)
        context.room = upload([row.room for row in context.rows], context.device)
        context.anchors = arithmetic.find_anchors(context.tokens, context.lengths)
