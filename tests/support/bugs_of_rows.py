"""Drafters that are right for few rows and short drafts, alone and in order, and wrong beyond; each in one way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from orthrus import Chance, Context, Draft, Step
from orthrus.sampling import row_probabilities, warp_rows
from support.bug import Bug
from support.bugs_of_drafters import Ahead, Cycling


class GroupsOf16(Cycling):
    """Work in groups of 16 rows, and give those of the second group the first one's drafts."""

    group = 16

    def after(self, context: Context, draft: Draft) -> Draft:
        rows = torch.arange(len(draft.tokens))
        tokens = draft.tokens[torch.where(rows < self.group, rows, rows % self.group)]
        return Draft(tokens, draft.lengths)


class GroupsOf128(GroupsOf16):
    group = 128


class OneEndACycle(Cycling):
    """Take note of one row that ends in a cycle, and give its new prompt to that one alone."""

    ended: int | None = None

    def observe(self, step: Step) -> None:
        super().observe(step)
        ends = [row for row, why in enumerate(step.finished) if why]
        self.ended = ends[0] if len(ends) > 1 else None

    def start(self, context: Context, rows: Sequence[int]) -> None:
        chosen = [row for row in rows if row != self.ended or row not in getattr(self, "texts", {})]
        super().start(context, chosen)


class ByPrompt(Cycling):
    """Keep the texts by their prompts."""

    def start(self, context: Context, rows: Sequence[int]) -> None:
        super().start(context, rows)
        self.prompts = [row.prompt for row in context.rows]

    def observe(self, step: Step) -> None:
        for row, tokens in enumerate(step.committed):
            for other, prompt in enumerate(self.prompts):
                if prompt == self.prompts[row]:
                    self.texts[other] = [*self.texts[other], *tokens]


class AheadOfTheStopped(Ahead):
    """Keep what was launched although the row it was launched for has ended, and another prompt is in its place."""

    def start(self, context: Context, rows: Sequence[int]) -> None:
        Cycling.start(self, context, rows)
        ended = getattr(self, "stopped", False)
        self.launched = getattr(self, "launched", None) if ended else None

    def observe(self, step: Step) -> None:
        super().observe(step)
        self.stopped = "stop_string" in step.finished


class MovesNothing(Cycling):
    """Say that its rows can be moved, and leave them where they are."""

    moves_rows = True

    def move_rows(self, sources: Sequence[int]) -> None:
        held = getattr(self, "texts", {})
        self.texts = {row: held.get(row, [0]) for row in range(len(sources))}


class OnlyPrompts(Cycling):
    """Begin with a row's prompt, and forget what is committed of its answer when rows are moved."""

    def text(self, context: Context, row: int) -> list[int]:
        return [*context.rows[row].prompt, *context.rows[row].output[:1]]


class Noisy(Cycling):
    """Honest: draw from the last token's logits with each place's noise, and report what was drawn from."""

    width = 3

    def propose(self, context: Context, chance: Chance) -> Draft:
        width = min(self.width, context.max_room)
        if width == 0:
            return context.empty_draft()
        raw = self.logits(context)[:, None].expand(-1, width, -1)
        if not context.settings.draws:
            return Draft(raw.argmax(-1), context.room.clamp(max=width))
        noise = self.noise(context, chance, width)
        tokens = (self.warped(context, raw) + noise).argmax(-1)
        tokens = torch.where(self.drawing(context), tokens, raw.argmax(-1))
        honest = warp_rows(raw, context.settings)
        return Draft(tokens, context.room.clamp(max=width), self.reported(row_probabilities(context, honest)))

    def logits(self, context: Context) -> Tensor:
        """Return logits [B, V] by each row's anchor."""
        tokens = torch.arange(context.vocabulary_size, dtype=torch.float64)
        return 2.5 * torch.cos(tokens * 1.7 + context.anchors[:, None])

    def drawing(self, context: Context) -> Tensor:
        drawing = context.settings.drawing
        return torch.ones(1, 1, dtype=torch.bool) if drawing is None else drawing[..., 0]

    def noise(self, context: Context, chance: Chance, width: int) -> Tensor:
        return chance.gumbel(context.keys, context.positions(width), context.vocabulary_size)

    def warped(self, context: Context, logits: Tensor) -> Tensor:
        """Return the logits [B, n, V] that are drawn from."""
        return warp_rows(logits, context.settings)

    def reported(self, q: Tensor) -> Tensor:
        return q


class FirstTemperature(Noisy):
    def propose(self, context: Context, chance: Chance) -> Draft:
        own = context.settings
        first = None if own.temperature is None else own.temperature[:1].expand_as(own.temperature)
        context.settings = replace(own, temperature=first, _cast={})
        try:
            return super().propose(context, chance)
        finally:
            context.settings = own


class FirstKey(Noisy):
    """Draw for all rows with the first one's noise, and so with its seed."""

    def noise(self, context: Context, chance: Chance, width: int) -> Tensor:
        return chance.gumbel(
            context.keys[:1].expand_as(context.keys), context.positions(width), context.vocabulary_size
        )


class HotLast(Noisy):
    def warped(self, context: Context, logits: Tensor) -> Tensor:
        cooled = super().warped(context, logits)
        return torch.cat([cooled[:, :-1], 0.3 * cooled[:, -1:]], 1)


class HotInLongTexts(Noisy):
    def warped(self, context: Context, logits: Tensor) -> Tensor:
        return super().warped(context, logits) * torch.where(context.lengths > 40, 0.4, 1.0)[:, None, None]


class HotRarely(Noisy):
    def warped(self, context: Context, logits: Tensor) -> Tensor:
        return super().warped(context, logits) * torch.where(context.lengths % 17 == 0, 0.3, 1.0)[:, None, None]


class OthersPlaces(Noisy):
    def noise(self, context: Context, chance: Chance, width: int) -> Tensor:
        return chance.gumbel(context.keys, context.positions(width).roll(1, 0), context.vocabulary_size)


class HalfNoise(Noisy):
    def noise(self, context: Context, chance: Chance, width: int) -> Tensor:
        return super().noise(context, chance, width).bfloat16()


class LargeSmalls(Noisy):
    """Report no probability below a hundredth."""

    def reported(self, q: Tensor) -> Tensor:
        raised = torch.where((q > 0) & (q < 0.01), 0.01, q)
        return raised / raised.sum(-1, keepdim=True)


class DrawnSmalls(LargeSmalls):
    """Draw without noise, and report no probability below a hundredth."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        width = min(2, context.max_room)
        if width == 0:
            return context.empty_draft()
        q = self.logits(context).mul(3).softmax(-1)[:, None].expand(-1, width, -1)
        return Draft(chance.categorical(q), context.room.clamp(max=width), self.reported(q))


class WrongFromThe33rd(Noisy):
    width = 40

    def reported(self, q: Tensor) -> Tensor:
        even = torch.full_like(q[:, 32:], 1 / q.shape[-1])
        return torch.cat([q[:, :32], even], 1)


class LearnsByDice(Cycling):
    learns = True

    def row(self, text: list[int], length: int) -> list[int]:
        return torch.randint(0, 2, (length,)).tolist()


class LearnsInTheClass(Cycling):
    """Remember in the class what followed every token."""

    learns = True
    seen: ClassVar[list[int]] = []

    def start(self, context: Context, rows: Sequence[int]) -> None:
        super().start(context, rows)
        for row in rows:
            self.seen.extend(self.texts[row])

    def row(self, text: list[int], length: int) -> list[int]:
        return super().row([*self.seen[-40:], *text], length)


class FreePasses(Cycling):
    """Draft by a pass through a view, and report none."""

    needs = frozenset({"views"})

    def __init__(self, target: Any = None) -> None:
        super().__init__(target)
        target.attach_view("free")

    def before(self, context: Context, chance: Chance) -> None:
        places = context.lengths[:, None] - 1
        self.target.forward(context, context.anchors[:, None], places, view="free")


BUGS = [
    Bug("drafter", "is right for 16 rows, and wrong for more", "many_rows_are_independent", GroupsOf16),
    Bug("drafter", "is wrong from the 129th row on", "many_rows_are_independent", GroupsOf128),
    Bug("drafter", "takes note of one row that ends in a cycle", "rows_may_end_together", OneEndACycle),
    Bug("drafter", "takes rows with one prompt for one", "equal_prompts_are_told_apart", ByPrompt),
    Bug(
        "drafter",
        "keeps what it drafted ahead for a row that a stop string ended",
        "stop_strings_leave_no_trace",
        AheadOfTheStopped,
    ),
    Bug("drafter", "says that its rows move, and leaves them", "rows_may_move", MovesNothing),
    Bug("drafter", "forgets a row's answer when rows are moved", "rows_may_move", OnlyPrompts),
    Bug(
        "drafter",
        "draws for all rows at the first one's temperature",
        "rows_have_settings_of_their_own",
        FirstTemperature,
    ),
    Bug("drafter", "draws for all rows with the first one's seed", "every_draw_is_reported", FirstKey),
    Bug("drafter", "draws its last token at another temperature", "every_draw_is_reported", HotLast),
    Bug("drafter", "draws at another temperature in long texts", "every_draw_is_reported", HotInLongTexts),
    Bug("drafter", "draws at another temperature now and then", "every_draw_is_reported", HotRarely),
    Bug("drafter", "draws with the noise of another row's places", "every_draw_is_reported", OthersPlaces),
    Bug("drafter", "adds its noise in bfloat16", "every_draw_is_reported", HalfNoise),
    Bug("drafter", "draws by noise, and reports small probabilities wrongly", "every_draw_is_reported", LargeSmalls),
    Bug("drafter", "reports small probabilities wrongly", "every_draw_is_reported", DrawnSmalls),
    Bug("drafter", "reports wrong probabilities from its 33rd token on", "every_draw_is_reported", WrongFromThe33rd),
    Bug("drafter", "learns, and draws from torch's own generator", "chance_is_all_that_is_random", LearnsByDice),
    Bug("drafter", "learns, and keeps what it learns in the class", "drafters_do_not_meet", LearnsInTheClass),
    Bug("drafter", "reports fewer passes than it took", "passes_are_counted", FreePasses),
]
HONEST = {"a drafter that draws with its places' noise": ("drafter", Noisy)}
