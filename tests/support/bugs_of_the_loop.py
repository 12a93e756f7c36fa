"""Bugs of the runtime around the parts: honest parts, checked while the loop is broken, must not pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import orthrus.batch.commit as commit_module
from orthrus import Chance, Context, Draft, Step
from orthrus.chance import Chance as TheChance
from orthrus.sampling import append_bonus, cut_at_stop
from orthrus.sampling.logits_processor import LogitsProcessor
from orthrus.testing import PlainCoupled, PlainRejection, ViewTableTarget
from support.bug import Bug, replaced

VIEW = "perfect"
process, gumbel, commit = LogitsProcessor.__call__, TheChance.gumbel, commit_module.commit


class Knowing:
    """Honest: draft through a view that is a copy of the target; of four tokens about one is wrong."""

    needs = frozenset({"views"})
    learns = False

    def __init__(self, target: ViewTableTarget) -> None:
        self.target = target
        target.attach_view(VIEW)

    def start(self, context: Context, rows: Any) -> None: ...

    def observe(self, step: Step) -> None: ...

    def propose(self, context: Context, chance: Chance) -> Draft:
        width = min(4, context.max_room)
        places = context.lengths[:, None] - 1 + torch.arange(width)
        logits = self.target.forward(context, context.anchors[:, None].expand(-1, width), places, view=VIEW)
        wrong = ((places + context.keys[:, None]) % 4 == 0).long()
        tokens = (logits.argmax(-1) + wrong) % context.vocabulary_size
        return Draft(tokens, context.room.clamp(max=width), passes=1)


def past_the_first(candidates: Tensor, counts: Tensor, stop_ids: Tensor) -> Tensor:
    """Look for a stop in the last token only."""
    last = candidates.gather(1, (counts - 1).clamp(min=0)[:, None])
    return torch.where((last == stop_ids).any(1), counts, counts) if stop_ids.numel() else counts


def without_zero(candidates: Tensor, counts: Tensor, stop_ids: Tensor) -> Tensor:
    """Take a stop id of 0 for none."""
    return cut_at_stop(candidates, counts, stop_ids.masked_fill(stop_ids == 0, -1))


def only_one(candidates: Tensor, counts: Tensor, stop_ids: Tensor) -> Tensor:
    """Know a single end-of-text token."""
    return cut_at_stop(candidates, counts, stop_ids[:, :1])


def bonus_at_the_end(tokens: Tensor, accepted: Tensor, bonus: Tensor) -> Tensor:
    """Put the bonus token after the whole draft."""
    candidates = append_bonus(tokens, accepted, bonus)
    return torch.cat([tokens, bonus[:, None]], 1) if tokens.shape[1] else candidates


def blind(self: LogitsProcessor, context: Context, draft: Draft, logits: Tensor) -> Tensor:
    """Let penalties see the text, and not the draft's tokens before a place."""
    empty = context.empty_draft()
    return torch.cat([process(self, context, empty, logits[:, at : at + 1]) for at in range(logits.shape[1])], 1)


def nothing(self: LogitsProcessor, context: Context, draft: Draft, logits: Tensor) -> Tensor:
    """Leave the settings out."""
    return logits


def swapped(tokens: Tensor, lengths: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
    """Write rows that committed other numbers of tokens into one another."""
    longer, room, anchors, facts = commit(tokens, lengths, *rest)
    counts, candidates = longer - lengths, facts[:, 3:]
    if len(counts) == 2 and int(counts[0]) != int(counts[1]) and int(counts.min()) > 0:
        commit_module.write(tokens, lengths, candidates.flip(0))
        anchors = commit_module.find_anchors(tokens, longer)
    return longer, room, anchors, facts


def by_row(self: TheChance, keys: Tensor, positions: Tensor, vocabulary_size: int) -> Tensor:
    """Key noise by the row of the batch."""
    return gumbel(self, torch.arange(len(keys)), positions, vocabulary_size)


BUGS = [
    Bug(
        "drafter",
        "the loop passes over a stop token inside a draft",
        "greedy_text",
        Knowing,
        replaced(commit_module, "cut_at_stop", past_the_first),
    ),
    Bug(
        "drafter",
        "the loop knows one end-of-text token only",
        "greedy_text",
        Knowing,
        replaced(commit_module, "cut_at_stop", only_one),
    ),
    Bug(
        "drafter",
        "the loop takes a stop token's id of 0 for none",
        "greedy_text",
        Knowing,
        replaced(commit_module, "cut_at_stop", without_zero),
    ),
    Bug(
        "drafter",
        "the loop puts the bonus token after the whole draft",
        "greedy_text",
        Knowing,
        replaced(commit_module, "append_bonus", bonus_at_the_end),
    ),
    Bug(
        "drafter",
        "the loop swaps rows after ragged acceptance",
        "greedy_text",
        Knowing,
        replaced(commit_module, "commit", swapped),
    ),
    Bug(
        "verifier",
        "the loop's penalties do not see the draft",
        "exact_with_drawn_drafts",
        PlainRejection,
        replaced(LogitsProcessor, "__call__", blind),
    ),
    Bug(
        "verifier",
        "the loop ignores logits processors",
        "exact_with_chosen_drafts",
        PlainRejection,
        replaced(LogitsProcessor, "__call__", nothing),
    ),
    Bug(
        "verifier",
        "the loop keys noise by the row of the batch",
        "coupled_text",
        PlainCoupled,
        replaced(TheChance, "gumbel", by_row),
    ),
]
