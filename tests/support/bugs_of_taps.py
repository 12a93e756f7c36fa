"""Drafters that read hidden states, each broken in one way, and the loop while it hands them over too late."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

import orthrus.decode as decode_module
from orthrus import Chance, Context, Draft, Step, TappedStates
from orthrus.abilities import in_order
from support.bug import Bug, replaced

WIDTH = 3
KEPT = 2  # states of each row: with the anchor those of three tokens, which is what tables of order 3 look at


class Tapping:
    """Honest: the output head of the newest states and the anchor's embedding gives token after token.

    A state before the first layer knows its own token alone, so the newest are put together. For a table of order 3 or
    less every draft is right. What is broken below begins here.
    """

    needs = frozenset({"hidden_states", "embeddings"})
    learns, moves_rows = False, True
    taps = (0,)

    def __init__(self, target: Any) -> None:
        self.target = target
        self.held = torch.zeros(0, KEPT)  # [B, KEPT] of each row, the newest last; 0 before the text

    def read_taps(self, context: Context, tapped: TappedStates) -> None:
        rows = torch.arange(len(tapped.states)) if tapped.rows is None else tapped.rows
        self.make_room(len(context.rows))
        before = self.before(self.held[rows], tapped)  # [R, KEPT]
        joined = torch.cat([before, tapped.states[..., -1].to(before.dtype)], 1)  # [R, KEPT + n]
        self.held[rows] = joined.gather(1, self.counts(tapped)[:, None] + torch.arange(KEPT))

    def before(self, held: Tensor, tapped: TappedStates) -> Tensor:
        """Return what the rows [R, KEPT] had; nothing, where a text begins."""
        return held.masked_fill(tapped.starts[:, None] == 0, 0)

    def counts(self, tapped: TappedStates) -> Tensor:
        """Return how many states of each row count [R]."""
        return tapped.counts

    def make_room(self, rows: int) -> None:
        more = max(0, rows - len(self.held))
        self.held = torch.cat([self.held.double(), torch.zeros(more, KEPT, dtype=torch.float64)])

    def move_rows(self, sources: Sequence[int]) -> None:
        self.make_room(1)
        self.held = self.held[torch.tensor(sources).clamp(min=0)]

    def start(self, context: Context, rows: Sequence[int]) -> None: ...

    def observe(self, step: Step) -> None: ...

    def propose(self, context: Context, chance: Chance) -> Draft:
        width = min(WIDTH, context.max_room)
        return Draft(self.draft(context)[:, :width], context.room.clamp(max=width))

    def draft(self, context: Context) -> Tensor:
        """Return [B, WIDTH]."""
        size, tokens = self.target.hidden_size, [context.anchors]
        known = self.held[: len(context.rows)]  # [B, KEPT]
        for _ in range(WIDTH):
            newest = self.target.embed(tokens[-1][:, None])[:, 0, -1]
            known = torch.cat([known, newest[:, None]], 1)
            tokens.append(self.target.head(known[:, None, -size:]).argmax(-1)[:, 0])
        return torch.stack(tokens[1:], 1)


class TappingAhead(Tapping):
    """Honest: launch the next draft while the host waits."""

    launched: Tensor | None = None

    def ahead(self, context: Context, chance: Chance) -> None:
        self.launched = self.draft(context)

    def start(self, context: Context, rows: Sequence[int]) -> None:
        self.launched = None

    def move_rows(self, sources: Sequence[int]) -> None:
        super().move_rows(sources)
        self.launched = None

    def propose(self, context: Context, chance: Chance) -> Draft:
        tokens, width = self.draft(context) if self.launched is None else self.launched, min(WIDTH, context.max_room)
        return Draft(tokens[:, :width], context.room.clamp(max=width))


class OffByOne(Tapping):
    """Take the state before it for each, after any history."""

    def draft(self, context: Context) -> Tensor:
        held, self.held = self.held, self.held.roll(1, 1).index_fill(1, torch.tensor([0]), 0)
        tokens = super().draft(context)
        self.held = held
        return tokens


class CountsThePadding(Tapping):
    """Take the last columns of prompts, whether they count or not."""

    def counts(self, tapped: TappedStates) -> Tensor:
        return tapped.counts if tapped.rows is None else torch.full_like(tapped.counts, tapped.states.shape[1])


class KeepsTheBuffer(Tapping):
    """Keep what it is handed as it is, and look at all of it only when it drafts."""

    def __init__(self, target: Any) -> None:
        super().__init__(target)
        self.handed: list[tuple[Context, TappedStates]] = []

    def read_taps(self, context: Context, tapped: TappedStates) -> None:
        self.make_room(len(context.rows))  # it may have fewer when they are read
        self.handed.append((context, tapped))

    def draft(self, context: Context) -> Tensor:
        before = self.held
        self.read_all()
        tokens = super().draft(context)
        self.held = before
        return tokens

    def move_rows(self, sources: Sequence[int]) -> None:
        self.read_all()
        self.handed.clear()
        super().move_rows(sources)

    def read_all(self) -> None:
        for given in self.handed:
            super().read_taps(*given)


class TakesTheRejected(Tapping):
    """Take the states of a whole draft, as if all of it were accepted."""

    def counts(self, tapped: TappedStates) -> Tensor:
        scored = tapped.rows is None
        return torch.full_like(tapped.counts, tapped.states.shape[1]) if scored else tapped.counts


class BeginsWithEveryChunk(Tapping):
    """Begin a row anew with each chunk of its prompt."""

    def before(self, held: Tensor, tapped: TappedStates) -> Tensor:
        return super().before(held, tapped) if tapped.rows is None else torch.zeros_like(held)


class KeepsTheFormer(Tapping):
    """Leave a row's states where they are when another request begins in it."""

    def before(self, held: Tensor, tapped: TappedStates) -> Tensor:
        return held


class ReadsThemRowByRow(Tapping):
    """Look at the last state of each row on the host."""

    def read_taps(self, context: Context, tapped: TappedStates) -> None:
        super().read_taps(context, tapped)
        for count, states in zip(tapped.counts, tapped.states, strict=True):
            states[: int(count)].sum().item()


class CountsInTheContext(Tapping):
    """Count in the context how many tokens' states are there."""

    def read_taps(self, context: Context, tapped: TappedStates) -> None:
        super().read_taps(context, tapped)
        context.prompt_lengths.add_(1)


class LeavesThemBehind(Tapping):
    """Move no states with the rows."""

    def move_rows(self, sources: Sequence[int]) -> None:
        self.make_room(len(sources))


def too_late(first: Callable[[], None] | None, then: Callable[[], None] | None) -> Callable[[], None] | None:
    """Hand the states over once the next draft is launched."""
    return in_order(then, first)


BUGS = [
    Bug("drafter", "takes the hidden state before the newest", "taps_are_at_their_positions", OffByOne),
    Bug("drafter", "takes hidden states after those that count", "taps_are_at_their_positions", CountsThePadding),
    Bug("drafter", "keeps hidden states that the next pass writes over", "taps_are_copied", KeepsTheBuffer),
    Bug(
        "drafter",
        "takes the hidden states of rejected tokens",
        "taps_of_rejected_tokens_are_forgotten",
        TakesTheRejected,
    ),
    Bug(
        "drafter",
        "loses hidden states at the edge of a prompt's chunk",
        "taps_of_every_chunk_are_read",
        BeginsWithEveryChunk,
    ),
    Bug(
        "drafter",
        "keeps hidden states of the request that had the row before",
        "taps_of_a_refilled_row_are_its_own",
        KeepsTheFormer,
    ),
    Bug("drafter", "leaves hidden states behind when rows move", "taps_move_with_their_rows", LeavesThemBehind),
    Bug("drafter", "looks at hidden states row by row", "drafting_waits_seldom", ReadsThemRowByRow),
    Bug("drafter", "writes into the context as it takes hidden states", "inputs_are_left_alone", CountsInTheContext),
]
BUGS_OF_THE_LOOP = [
    Bug(
        "drafter",
        "the loop hands hidden states over after an early draft was launched",
        "taps_of_rejected_tokens_are_forgotten",
        TappingAhead,
        replaced(decode_module, "in_order", too_late),
    ),
]
