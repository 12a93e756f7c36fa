"""Takes requests into the rows of a context, checks drafts, and commits steps: the only writer of a context.

B: rows, n: width of a draft, V: size of the vocabulary.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import islice

import torch
from torch import Tensor

from orthrus.batch import commit as arithmetic
from orthrus.batch import scores as token_scores
from orthrus.batch.arrangement import arranged, row_count
from orthrus.batch.context import Context, upload
from orthrus.batch.drafts import DraftReading, SeenDrafts
from orthrus.batch.host_copy import HostCopy
from orthrus.batch.request import Request, Row
from orthrus.batch.row_settings import RowSettings
from orthrus.batch.validation import (
    CheckedDraft,
    WriteGuard,
    check_accepted,
    check_depth,
    check_draft,
    check_numbers,
    check_verdict,
)
from orthrus.kernels.available import row_kernels
from orthrus.values import Draft, FinishReason, Step, TokenScores, Verdict

REFILL_SHARE = 16  # a refill waits until one row in so many is free
OVERLONG = 256  # slots by which a row that has ended may be longer than all that go on


class Scheduler:
    """Decide which requests a context's rows hold, and commit what was verified.

    drafter: its name, for errors. moves: whether rows may be added, moved and taken away while requests are decoded,
    which target and cache must be able to do; else B is the capacity. capacity: the most rows; None: the context's.
    interleaves: whether rows go on between the chunks of others' prompts. counts_drafts: whether steps say how many
    drafts were proposed, which takes one operation a cycle. fit: tells whether rows that come to so many slots each can
    go on together; None: any can. trees: whether drafts may be trees.
    """

    def __init__(
        self,
        context: Context,
        drafter: str = "",
        *,
        moves: bool = False,
        capacity: int | None = None,
        interleaves: bool = False,
        counts_drafts: bool = False,
        fit: Callable[[Sequence[int]], bool] | None = None,
        trees: bool = False,
        reads_trees: bool = False,
    ) -> None:
        self._context = context
        self._trees, self._reads_trees = trees, reads_trees
        self._drafter = drafter
        self._moves = moves
        self._fit = fit
        self._idle = set(range(len(context.rows)))  # rows that no request has, and that nobody was told of yet
        self.interleaves = interleaves
        self._counts_drafts = counts_drafts
        self._standing: dict[int, Row] = {}  # requests whose prompts are being passed over, by row
        self._changed = True  # whether a request came or ended since rows were last arranged and filled
        self._capacity = len(context.rows) if capacity is None else capacity
        self._fresh = list(range(len(context.rows)))  # that take part in the next step alone: they want a prefill
        self._settings_key: object = None  # what the context's settings were made of
        self._settings_rows: list[Row] = []
        self._checked = self._nothing_checked = CheckedDraft.of(context.empty_draft())
        self._guard = WriteGuard.of(context)
        self._host_copy = HostCopy()

    @property
    def context(self) -> Context:
        """The context that it writes."""
        return self._context

    @property
    def live(self) -> bool:
        """Whether any row goes on or any prompt waits."""
        return self._context.live or bool(self._standing)

    @property
    def standing(self) -> list[Row]:
        """The requests whose prompts are being passed over, while others go on."""
        return list(self._standing.values())

    @property
    def seated(self) -> bool:
        """Whether any row goes on that is not being prefilled."""
        return any(row.live for row in self._context.rows)

    def add(self, request: Request) -> Row:
        """Let a request wait for a row; return its state, which has ended if there is no room for an answer."""
        self._changed = True
        return self._context.enqueue(request)

    def cancel(self, row: Row) -> None:
        """End a request that waits or goes on, between two steps."""
        if not row.live:
            return
        row.finish_reason, row.room, self._changed = "cancelled", 0, True
        held = {**dict(enumerate(self._context.rows)), **self._standing}
        self._idle.update(index for index, other in held.items() if other is row)
        self._standing = {index: other for index, other in self._standing.items() if other is not row}
        if row in self._context.queue:
            self._context.queue.remove(row)
        else:
            self._upload_state()

    def forget(self, row: Row) -> None:
        """Take a request that has ended off the context's list; its row stays until another request takes it."""
        self._context.requests.remove(row)

    def arrange(self) -> list[int]:
        """Let B follow the requests that go on or can; return where each row comes from, [] if all stay.

        A row comes from the row of the number that is returned for it; -1: it is a new one, which nobody has yet.
        """
        context = self._context
        if not self._changed or self._standing:
            return []
        rows = context.rows
        live = [row.finish_reason is None and index not in self._fresh for index, row in enumerate(rows)]
        joining = self._joining([row for row, goes_on in zip(rows, live, strict=True) if goes_on], self._capacity)
        count = row_count(sum(live) + joining, self._capacity) if self._moves else self._capacity
        if count == len(rows) and (joining or not self._overlong(live)):
            return []
        sources = arranged(live, count)
        rows = [*rows, Row.vacant()]  # the last one is for those that come from nowhere
        context.rows = [rows[source] for source in sources]
        tokens = torch.nn.functional.pad(context.tokens, (0, 0, 0, 1))
        context.tokens = tokens[upload([source % len(rows) for source in sources], context.device)]
        self._fresh = [index for index, source in enumerate(sources) if source < 0 and self._fresh]
        self._idle = {index for index, source in enumerate(sources) if source < 0}
        self._upload_rows()
        context._nothing = Draft(context.tokens[:, :0], torch.zeros_like(context.lengths))
        self._checked = self._nothing_checked = CheckedDraft.of(context.empty_draft())
        return sources

    def _overlong(self, live: Sequence[bool]) -> bool:
        """Whether rows that have ended are so long that passes, which cover their slots, take longer for them."""
        if not self._moves or not any(live):
            return False
        longest = max(row.length for row, goes_on in zip(self._context.rows, live, strict=True) if goes_on)
        return self._context.longest > longest + OVERLONG

    def refill(self) -> list[int]:
        """Give rows that have ended, and at first all rows, to waiting prompts; return them: they want a prefill.

        A prefill holds up the rows that go on, so with many rows it waits until a share of them is free.
        """
        context = self._context
        changed, self._changed = self._changed, False
        if not changed or not context.queue:
            return []
        fresh = set(self._fresh)
        free = [index for index, row in enumerate(context.rows) if index in fresh or row.finish_reason is not None]
        if not free or len(free) < min(len(context.queue), len(context.rows) // REFILL_SHARE):
            return []
        unfilled, self._fresh = fresh, free[: self._admitted(free)]
        if not self._fresh:
            return []
        self._widen()
        for index in unfilled.difference(self._fresh):  # they stand for requests that wait
            context.rows[index] = Row.vacant()
        self._idle.difference_update(self._fresh)
        for index in self._fresh:
            context.rows[index] = row = context.queue.popleft()
            context.tokens[index, : len(row.prompt)] = upload(list(row.prompt), context.device)
        rows = list(self._fresh)
        if self.interleaves:
            self._stand()
        self._upload_rows()
        return rows

    def _admitted(self, free: Sequence[int]) -> int:
        """Return how many of the requests that wait are taken into free rows now, those that came first."""
        taken = frozenset(free)
        going_on = [row for index, row in enumerate(self._context.rows) if index not in taken and row.live]
        return self._joining(going_on, len(free) + len(going_on))

    def _joining(self, going_on: Sequence[Row], most: int) -> int:
        """Return how many of the requests that wait fit beside rows that go on, at most `most` with these."""
        waiting = list(islice(self._context.queue, max(0, most - len(going_on))))
        fit = self._fit
        if fit is None:
            return len(waiting)
        slots = [row.slots or 0 for row in (*going_on, *waiting)]
        counts = range(1, len(waiting) + 1)
        return bisect_left(counts, True, key=lambda count: not fit(slots[: len(going_on) + count]))

    def take_idle(self) -> list[int]:
        """Return the rows that have no request since this was asked last: it has ended, or none has come yet."""
        rows, self._idle = sorted(self._idle), set()
        return rows

    @property
    def abandoned(self) -> bool:
        """Whether all requests whose prompts are being passed over, chunk by chunk, were cancelled."""
        return self.interleaves and not self._standing

    def seat(self, rows: list[int]) -> list[int]:
        """Let rows take part whose prompts have been passed over; return them without those that were cancelled."""
        if not self.interleaves:
            return rows
        for index, row in self._standing.items():
            self._context.rows[index] = row
        self._fresh, self._standing = list(self._standing), {}
        self._upload_rows()
        return list(self._fresh)

    def _stand(self) -> None:
        """Keep the rows that were filled out of the cycles between the chunks of their prompts."""
        context = self._context
        self._standing = {index: context.rows[index] for index in self._fresh}
        for index, row in self._standing.items():
            context.rows[index] = Row.standing(row)
        self._fresh = []

    def check(self, draft: Draft) -> Draft:
        """Return the draft with its values forced into their bounds; `commit` raises DraftError if any was not.

        What the host can see, it refuses here; values are checked on the device and reported with the step, because
        reading them now would cost a second host sync.
        """
        context = self._context
        self._guard.check(context, self._drafter)
        nothing = draft is context.empty_draft()
        self._checked = self._nothing_checked if nothing else check_draft(draft, context, self._drafter, self._trees)
        return self._checked.draft

    def commit(
        self, draft: Draft, verdict: Verdict, ahead: Callable[[], object] | None = None, logits: Tensor | None = None
    ) -> Step:
        """Add each row's accepted drafts and bonus token, up to a stop or the limit; the cycle's one host sync.

        After a prefill (a `refill` that found prompts), only the rows that it filled take part. ahead: called when the
        device's state is the new one and the host has not read it yet; what it launches runs while the host does.
        logits [B, n + 1, V]: the target's own, for rows that want scores.
        """
        context = self._context
        check_verdict(verdict)
        check_numbers(verdict, context.lengths)
        limits = context.room  # [B] tokens that a row may commit; 0 where it has ended
        if self._fresh and len(self._fresh) < len(context.rows):
            limits = limits * upload([int(index in self._fresh) for index in range(len(context.rows))], context.device)
        facts = self._add(draft, verdict, limits)
        likeliest = context.settings.likeliest
        if likeliest is not None and logits is not None:
            facts = torch.cat([facts, token_scores.gathered(logits, facts[:, 3:], likeliest)], dim=1)
        width = draft.tokens.shape[1]
        scored = self._checked.draft if width else draft  # of a tree all branches
        reading = DraftReading(context.settings.drafts, self._counts_drafts, self._reads_trees)
        if columns := reading.columns(scored, verdict.last):
            facts = torch.cat([facts, *columns], dim=1)
        most = width if draft.depth is None else min(width, draft.depth)
        seen = self._read(facts, ahead, most + 1)  # [B, 3 + n + 1, and scores, and the draft]
        return self._record(seen, width, draft, lambda: reading.take(seen, scored))

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
            *rows, *step_tensors, context.settings.stop_ids, self._checked.broken
        )
        return facts

    def _read(self, facts: Tensor, ahead: Callable[[], object] | None, most: int) -> list[list[int]]:
        """Return what the device found; most: how many tokens a row may have committed."""
        if ahead is None:
            return facts.tolist()
        context = self._context
        self._host_copy.begin(facts)  # `tolist` of what is on the device would wait for all that is launched
        context.unread = most
        guard = WriteGuard.of(context)
        try:
            ahead()
        finally:
            context.unread = 0
        guard.check(context, self._drafter)
        return self._host_copy.take().tolist()

    def _record(self, seen: list[list[int]], width: int, draft: Draft, take: Callable[[], SeenDrafts]) -> Step:
        context = self._context
        fresh, self._fresh = tuple(self._fresh), []
        context.cycle += not fresh
        self._checked.report([values[0] for values in seen])
        # What is said of rows that take no part is not read.
        accepted = [values[1] if values[2] else 0 for values in seen]
        check_accepted(accepted, width)
        check_depth(accepted, draft, self._drafter)
        drafted = take()
        rows = context.rows
        committed = [
            self._extend(row, values[3 : 3 + values[2]]) if values[2] else ()
            for row, values in zip(rows, seen, strict=True)
        ]
        finished = [row.finish_reason if tokens else None for row, tokens in zip(rows, committed, strict=True)]
        self._changed = self._changed or bool(fresh) or any(finished)
        self._idle.update(index for index, reason in enumerate(finished) if reason is not None)
        if "stop_string" in finished or "failed" in finished:
            self._upload_state()  # only the host can see texts; the device learns by an upload (no sync)
        self._guard = WriteGuard.of(context)
        return Step(
            cycle=context.cycle,
            prefilled=fresh,
            lengths=context.lengths,
            committed=tuple(committed),
            accepted=tuple(accepted),
            finished=tuple(finished),
            passes=draft.passes + 1,
            scores=self._scores(seen, width + 4, committed),
            drafted=drafted.lengths,
            drafts=drafted.tokens,
            drafter=draft.drafter,
            trees=drafted.trees,
        )

    def _scores(
        self, seen: Sequence[Sequence[int]], first: int, committed: Sequence[Sequence[int]]
    ) -> tuple[tuple[TokenScores, ...], ...] | None:
        """Read the scores, which begin at column `first` of what was seen."""
        likeliest = self._context.settings.likeliest
        if likeliest is None or len(seen[0]) <= first:
            return None
        scores = []
        for row, values, tokens in zip(self._context.rows, seen, committed, strict=True):
            count = 0 if row.likeliest is None else len(tokens)
            scores.append(tuple(token_scores.read(values[first:], likeliest, row.likeliest or 0, count)))
            row.scores += scores[-1]
        return tuple(scores)

    def _extend(self, row: Row, tokens: list[int]) -> tuple[int, ...]:
        """Add a row's tokens, up to one that completes a stop string; return those added."""
        if row.text is not None:
            tokens = row.read(tokens)
        row.output += tokens
        row.length += len(tokens)
        row.room -= len(tokens)
        if not row.room or row.text is not None or tokens[-1] in row.stop.token_ids:
            row.finish_reason = why_finished(row)
            if row.finish_reason:
                row.room = 0
        return tuple(tokens)

    def _widen(self) -> None:
        """Make room for the tokens of requests that came later than the first."""
        context = self._context
        missing = context.width - context.tokens.shape[1]
        if missing > 0:
            context.tokens = torch.nn.functional.pad(context.tokens, (0, missing))

    def _upload_rows(self) -> None:
        """Upload all that depends on which requests the rows hold."""
        context = self._context
        self._upload_state()
        context.prompt_lengths = upload([len(row.prompt) for row in context.rows], context.device)
        context.keys = upload([row.key for row in context.rows], context.device)
        context.settings = self._settings_of(context.rows)
        self._guard = WriteGuard.of(context)

    def _settings_of(self, rows: Sequence[Row]) -> RowSettings:
        """Return the rows' settings: those that they had, if all have the same as before."""
        live = [row for row in rows if row.live]
        wanted = {(id(row.stop), id(row.sampling), row.likeliest, row.drafts) for row in live}
        key = len(rows), wanted
        if len(wanted) != 1 or key != self._settings_key:
            self._settings_key, self._settings_rows = key, live[:1]  # rows keep what the ids are of
            return RowSettings.of(rows, self._context.vocabulary_size, self._context.device)
        return self._context.settings

    def _upload_state(self) -> None:
        context = self._context
        context.lengths = upload([row.length for row in context.rows], context.device)
        context.room = upload([row.room for row in context.rows], context.device)
        context.anchors = arithmetic.find_anchors(context.tokens, context.lengths)
        self._guard = WriteGuard.of(context)


def why_finished(row: Row) -> FinishReason | None:
    """Return why a row ends with its last token; None if it goes on."""
    if row.error is not None:
        return "failed"
    if row.text is not None and row.text.matched:
        return "stop_string"
    if row.output[-1] in row.stop.token_ids:
        return "stop_token"
    return "length" if row.room == 0 else None
