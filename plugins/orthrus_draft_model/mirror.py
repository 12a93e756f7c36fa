"""The rows of a decoding as a draft model holds them: in a context and a cache of its own. B: rows, V: vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import torch
from torch import Tensor

from orthrus import Context, Draft, Row, Step, Stop, Target
from orthrus.optional import BoundsRows, BoundsSlots, FreesRows, MovesRows
from orthrus.state_marks import MarksStates
from orthrus_draft_model.vocabulary import known

FURTHEST = 64  # tokens that a row is behind and catches up; one that is further behind is prefilled anew


class Mirror:
    """Keep a draft model's cache behind the rows of a decoding, and pass over what it has not seen.

    Of each row the host knows how many of its tokens the cache holds. What was drafted counts as far as it was
    committed, whoever drafted it; the rest is cropped. Where it cannot be, all that was drafted is taken back, and what
    was committed of it is passed over again, with what came behind it.
    """

    def __init__(self, target: Target, context: Context) -> None:
        self.passes = 0  # of the draft model
        self._target = target
        self._of = context
        self._narrower = target.vocabulary_size < context.vocabulary_size
        self._context = Context([], Stop(), vocabulary_size=target.vocabulary_size, device=target.device)
        self._context.rows = [Row.vacant() for _ in context.rows]
        self._known = [0] * len(context.rows)  # leading tokens of each row that the cache holds; 0: nothing of it
        self._drafted: list[Tensor] = []  # tokens [B] that were passed over behind them
        self._on_host: tuple[Tensor, torch.cuda.Event | None] | None = None  # these [B, n], once they are copied
        self._nothing = self._context.lengths  # [B] zeros
        self._marks = target if isinstance(target, MarksStates) and target.marks_states else None
        target.start(self._context)
        self._free(range(len(self._known)))

    def fits(self, context: Context) -> bool:
        """Return whether it holds rows of this context, and as many as there are."""
        return self._of is context and len(context.rows) == len(self._known)

    def rooms(self) -> list[int]:
        """Return how many tokens can be drafted for each row: 0 where its cache has no room beside others."""
        rooms = [self._room(row) for row in self._of.rows]
        if not isinstance(self._target, BoundsRows):
            return rooms
        held: list[int] = []
        for index, row in enumerate(self._of.rows):
            if rooms[index] and self._target.refusal([*held, row.slots or 0]) is not None:
                rooms[index] = 0
            elif rooms[index]:
                held.append(row.slots or 0)
        return rooms

    def _room(self, row: Row) -> int:
        """Return how many tokens can be drafted for a row: the draft model's own context may end before."""
        slots = self._target.max_slots if isinstance(self._target, BoundsSlots) else None
        limits = [limit - row.length for limit in (self._target.max_length, slots) if limit is not None]
        return max(0, min([row.room, *limits]))

    def forget(self, rows: Sequence[int]) -> None:
        """Forget what was in these rows: they have new prompts."""
        self._drafted, self._on_host = [], None  # it is settled, if its step was observed
        for row in rows:
            self._known[row] = 0
        self._free(rows)

    def move_rows(self, sources: Sequence[int]) -> None:
        """Hold as many rows as there are sources (see `MovesRows`)."""
        assert isinstance(self._target, MovesRows)
        self._drafted, self._on_host = [], None
        self._settle_states()
        self._target.move_rows(sources)
        self._known = [self._known[source] if source >= 0 else 0 for source in sources]
        self._context.rows = [Row.vacant() for _ in sources]
        self._free([row for row, source in enumerate(sources) if source < 0])

    def _settle_states(self) -> None:
        """Let states that are not cropped be those of what is known: what was scored last is of the rows of now."""
        if self._marks is not None:
            lengths = torch.tensor([count + 1 for count in self._known])
            self._target.keep(_step(lengths.to(self._context.device, non_blocking=True)))

    def _free(self, rows: Sequence[int]) -> None:
        """Let the draft model hold nothing of rows, which are prefilled before they are drafted for."""
        if rows and isinstance(self._target, FreesRows):
            self._target.free_rows(self._context, rows)

    def catch_up(self, taking_part: Sequence[bool]) -> Tensor:
        """Pass over what each row that takes part has and the cache lacks; return the logits [B, V] after its anchor.

        Those of other rows are of no use, and they are forgotten.
        """
        self.settle()
        self._free([row for row, part in enumerate(taking_part) if not part])
        texts = [
            [*row.prompt, *row.output] if part else [0] for row, part in zip(self._of.rows, taking_part, strict=True)
        ]
        self._known = [min(count, len(text) - 1) for count, text in zip(self._known, texts, strict=True)]
        behind = [len(text) - count for text, count in zip(texts, self._known, strict=True)]
        if new := [row for row, count in enumerate(behind) if count > 1 and (count > FURTHEST or not self._known[row])]:
            self._settle_states()  # before rows hold the states of other texts
            self._prefill(new, texts)
        missing = [text[count:] for text, count in zip(texts, self._known, strict=True)]
        width = _width(max(map(len, missing)))
        padded = [
            [count + 1, len(tokens), *tokens, *[0] * (width - len(tokens))]
            for count, tokens in zip(self._known, missing, strict=True)
        ]
        uploaded = torch.tensor(padded).to(self._context.device, non_blocking=True)  # [B, 2 + width], all at one go
        lengths, counts, tokens = uploaded[:, 0], uploaded[:, 1], uploaded[:, 2:]
        logits = self._pass(tokens, counts - 1, lengths, max(self._known) + 1)  # [B, width, V]
        self._context.lengths = lengths + counts - 1
        self._nothing = torch.zeros_like(lengths)
        self._known = [len(text) if part else 0 for text, part in zip(texts, taking_part, strict=True)]
        return logits.gather(1, (counts - 1)[:, None, None].expand(-1, 1, logits.shape[-1]))[:, 0]

    def advance(self, tokens: Tensor) -> Tensor:
        """Pass over the tokens [B] that were drafted last; return the logits [B, V] after them."""
        self._drafted.append(tokens)
        longest = max(self._known) + len(self._drafted)
        logits = self._pass(tokens[:, None], self._nothing, self._context.lengths + 1, longest)[:, 0]
        if self._marks is not None and len(self._drafted) == 1:  # what is kept now is the text, and no draft yet
            self._marks.mark()
        return logits

    def copy_drafted(self) -> None:
        """Begin to copy to the host what was drafted: by the next cycle it is there, without a further sync."""
        if not self._drafted or self._marks is not None:
            self._drafted = []
            return
        tokens = torch.stack(self._drafted, dim=1)  # [B, n]
        if tokens.is_cuda:
            on_host = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True)
            on_host.copy_(tokens, non_blocking=True)
            self._on_host = on_host, torch.cuda.current_stream(tokens.device).record_event()
        else:
            self._on_host = tokens, None
        self._drafted = []

    def settle(self) -> None:
        """Count what was drafted and has been committed since as known, while the rows are those that it was for."""
        self.copy_drafted()
        if self._on_host is None:
            return
        (tokens, copied), self._on_host = self._on_host, None
        if copied is not None:
            copied.synchronize()
        for index, (row, drafted) in enumerate(zip(self._of.rows, tokens.tolist(), strict=True)):
            text = row.output[self._known[index] - len(row.prompt) :] if self._known[index] > len(row.prompt) else []
            self._known[index] += _agreeing(drafted, text)

    def _prefill(self, rows: Sequence[int], texts: Sequence[Sequence[int]]) -> None:
        """Pass over all of some rows but their anchors."""
        context, mine = self._context, frozenset(rows)
        context.tokens = self._known_tokens(self._of.tokens)
        for index, text in enumerate(texts):
            prompt = tuple(text[:-1]) if index in mine else (0,)
            context.rows[index] = Row(index, 0, prompt, 0, len(prompt), slots=self._of.rows[index].slots)
            self._known[index] = len(prompt) if index in mine else self._known[index]
        lengths = torch.tensor([len(row.prompt) for row in context.rows])
        context.lengths = context.prompt_lengths = lengths.to(context.device, non_blocking=True)
        self._target.prefill(context, rows)
        self.passes += 1

    def _pass(self, tokens: Tensor, further: Tensor, lengths: Tensor, longest: int) -> Tensor:
        """Pass over tokens [B, n] of which the first stands at lengths - 1 [B]; return the logits [B, n, V].

        further [B]: how many of the n count behind the first one. longest: the largest of the lengths.
        """
        context, tokens = self._context, self._known_tokens(tokens)
        context.lengths, context.anchors = lengths, tokens[:, 0]
        for row in context.rows:
            row.length = longest
        self._target.keep(_step(lengths))
        self.passes += 1
        return self._target.score(context, Draft(tokens[:, 1:], further))

    def _known_tokens(self, tokens: Tensor) -> Tensor:
        return known(tokens, self._target.vocabulary_size) if self._narrower else tokens


def _width(count: int) -> int:
    """Return how many columns a pass over so many tokens has: few widths, as shapes cost."""
    return 1 << (count - 1).bit_length()


def _agreeing(tokens: Sequence[int], text: Sequence[int]) -> int:
    """Return how many leading tokens are those of a text."""
    agree = (token == other for token, other in zip(tokens, text, strict=False))
    return sum(takewhile(bool, agree))


def _step(lengths: Tensor) -> Step:
    """Return a step that commits so many tokens [B] and says nothing else: what a target keeps it reads from them."""
    rows = len(lengths)
    return Step(0, (), lengths, ((),) * rows, (0,) * rows, (None,) * rows, 1)
