"""The drafter `draft_model`: a smaller model of the same vocabulary. B: rows, n: width of a draft, V: vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from orthrus import AutoBlock, Chance, Context, Draft, Step, Target, Trial
from orthrus.sampling import add_noise, row_probabilities, warp_rows, widen
from orthrus_draft_model.facts import ModelFacts
from orthrus_draft_model.mirror import Mirror
from orthrus_draft_model.vocabulary import fitted


class DraftModel:
    """Draft what a smaller model says, one pass a token, over a cache of its own.

    Its own passes are those of any target, so an engine that captures passes captures these. Where tokens are drawn, it
    draws with the noise that a coupled verifier draws the target's with, and says from what.
    """

    name = "draft_model"
    needs: frozenset[str] = frozenset()
    fingerprint: Callable[[], str]  # of the draft model, if it has one

    def __init__(
        self,
        target: Target,
        own: Target | None,
        length: int = 5,
        confidence: float | None = None,
        *,
        auto: bool = False,
        branches: int = 1,
        trials: Sequence[Trial] = (),
        notify: Callable[[str], None] = lambda text: None,
        facts: ModelFacts | None = None,
    ) -> None:
        """Draft up to `length` tokens, or with `auto` as many of them as it chooses.

        own: the draft model, which nobody else uses; None: another process holds it, and start, _rooms and _draft are
        those of a drafter that follows it. confidence: a token less likely than this is the last of a draft.
        branches: tokens for each place, the likeliest; the draft goes on behind the first of them.
        trials: changes of the options that it was made with. facts: of the draft model, if they were told already.
        """
        if facts is None:
            assert own is not None, "facts of a model that another process holds are told"
            facts = ModelFacts.of(own, target)
        self._own = own
        self._length = length
        self._confidence = confidence
        self._branches = branches
        self.drafts_trees = branches > 1
        self._trials = trials
        self._share = facts.share
        self._mirror: Mirror | None = None
        self._counted = 0  # passes that drafts have reported
        drafting = (f"draft_model {facts.identity}", self._measured)
        self._auto = AutoBlock(target, length, drafting=drafting, notify=notify) if auto else None
        self.learns = auto  # how much of its drafts was accepted
        self.prefix_consistent = not auto and branches == 1
        self.moves_rows = facts.moves_rows
        if facts.fingerprint is not None:
            self.fingerprint = facts.fingerprint

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Forget what was in these rows; their prompts are passed over when they are first drafted for."""
        if self._mirror is None or not self._mirror.fits(context):
            assert self._own is not None, "a drafter without the model keeps no mirror"
            self._mirror, self._counted = Mirror(self._own, context), 0
        self._mirror.forget(rows)
        if self._auto:
            self._auto.start(rows)

    def note_choices(self, chooses: bool) -> None:
        """Tell who chooses which passes to measure."""
        if self._auto:
            self._auto.note_choices(chooses)

    def move_rows(self, sources: Sequence[int]) -> None:
        """Move the rows of the draft model's cache."""
        if self._mirror:
            self._mirror.move_rows(sources)
        if self._auto:
            self._auto.move_rows(sources)

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return what the draft model says of each row: its likeliest tokens, or drawn ones."""
        rooms = self._rooms(context)
        length = self._auto.choose(context, [room or None for room in rooms]) if self._auto else self._length
        return self._draft(context, rooms, length, chance, self._confidence)

    def observe(self, step: Step) -> None:
        """Crop what was not committed, and tell who chooses."""
        if self._mirror:
            self._mirror.settle()
        if self._auto:
            self._auto.observe(step)

    def trials(self) -> Sequence[Trial]:
        """Return what could be set wrongly: the dtype of the draft model."""
        return self._trials

    def report(self) -> Mapping[str, Any]:
        """Return what `auto` chose."""
        return self._auto.report() if self._auto else {}

    def _rooms(self, context: Context) -> list[int]:
        """Return how many tokens can be drafted for each row."""
        return self._of(context).rooms()

    def _of(self, context: Context) -> Mirror:
        assert self._mirror is not None, "rows are started before they are drafted for"
        return self._mirror

    def _measured(self, context: Context, length: int) -> Draft:
        """Draft so many tokens, whatever they are, for those who measure."""
        return self._draft(context, self._rooms(context), length, Chance(0, context.device), None)

    def _draft(
        self, context: Context, rooms: Sequence[int], length: int, chance: Chance, confidence: float | None
    ) -> Draft:
        width = places_for(rooms, length, self._branches)
        if width < 1:
            return context.empty_draft()
        mirror = self._of(context)
        logits = mirror.catch_up([room > 0 for room in rooms])
        uploaded = torch.tensor(rooms).to(context.device, non_blocking=True)
        chosen = DraftChoices(context, chance, confidence, uploaded, self._branches)
        chosen.add(logits)
        while chosen.places < width and chosen.go_on:
            chosen.add(mirror.advance(chosen.last))
        mirror.copy_drafted()
        passes, self._counted = mirror.passes - self._counted, mirror.passes
        return chosen.draft(passes * self._share)


def places_for(rooms: Sequence[int], length: int, branches: int) -> int:
    """Return how many places a draft has, each of as many tokens as there are branches."""
    return min(length, -(-max(rooms) // branches))


class DraftChoices:
    """The tokens of a draft as they are chosen, those of one place of each row at a time."""

    def __init__(
        self, context: Context, chance: Chance, confidence: float | None, rooms: Tensor, branches: int
    ) -> None:
        self._tokens: list[Tensor] = []  # [B, branches] each
        self._branches = branches
        self._context = context
        self._chance = chance
        self._confidence = confidence
        self._rooms = rooms  # [B]
        self._lengths = torch.zeros_like(rooms)
        self._goes_on = rooms > 0  # [B]
        self._probabilities: list[Tensor] = []  # [B, branches, V] each, where tokens are drawn

    @property
    def places(self) -> int:
        """How many places have tokens."""
        return len(self._tokens)

    @property
    def last(self) -> Tensor:
        """The tokens [B] behind which the draft goes on."""
        return self._tokens[-1][:, 0]

    @property
    def go_on(self) -> bool:
        """Whether a further token is wanted by any row; only a confidence makes the host wait for it."""
        return self._confidence is None or bool(self._goes_on.any())

    def add(self, logits: Tensor) -> None:
        """Choose each row's next token by logits [B, U] of the draft model, and others for its place.

        A token of little confidence is the last, and not left out: a draw that was left out for what it is would leave
        the others another distribution than is reported.
        """
        context, place = self._context, self.places
        logits = fitted(logits[:, None], context.vocabulary_size)  # [B, 1, V]
        warped = warp_rows(logits, context.settings) if context.settings.draws else logits
        scores = add_noise(context, warped, self._chance, first=place)
        tokens = scores.argmax(-1)  # [B, 1]
        if self._branches > 1:
            tokens = scores[:, 0].topk(min(self._branches, scores.shape[-1]), dim=-1).indices
        if context.settings.draws:
            self._probabilities.append(drawn_in_turn(row_probabilities(context, warped)[:, 0], tokens))
        self._tokens.append(tokens)
        if self._confidence is not None:
            certain = widen(logits)[:, 0].softmax(-1).gather(-1, tokens[:, :1])[:, 0]  # [B]
            self._lengths = self._lengths + self._goes_on
            self._goes_on = self._goes_on & (self._rooms > place + 1) & (certain >= self._confidence)

    def add_unknown(self) -> None:
        """Take any tokens for a place, those of another process being what counts.

        Where tokens are drawn they are said to be drawn from all alike: any that it draws can be drawn from that.
        """
        context = self._context
        size, rows = context.vocabulary_size, len(self._rooms)
        tokens = self._rooms.new_zeros(rows, min(self._branches, size))
        if context.settings.draws:
            alike = torch.full((), 1 / size, device=context.device).expand(*tokens.shape, size)
            self._probabilities.append(alike)
        self._tokens.append(tokens)

    def draft(self, passes: float) -> Draft:
        """Return the draft."""
        lengths = self._rooms.clamp(max=self.places) if self._confidence is None else self._lengths
        probabilities = torch.cat(self._probabilities, dim=1) if self._probabilities else None
        tokens = torch.cat(self._tokens, dim=1)  # [B, places * branches], place after place
        if self._branches == 1:
            return Draft(tokens, lengths, probabilities, passes=passes)
        branches = tokens.shape[1] // self.places
        parents = (torch.arange(self.places, device=tokens.device) - 1).mul(branches).clamp(min=-1)
        parents = parents.repeat_interleave(branches).repeat(len(tokens), 1)
        lengths = torch.minimum(lengths * branches, self._rooms)
        return Draft(tokens, lengths, probabilities, parents, passes)


def drawn_in_turn(probabilities: Tensor, tokens: Tensor) -> Tensor:
    """Return what each of tokens [B, b] was drawn from, none of which is drawn twice: [B, b, V].

    Those with the largest noise are a sample without replacement: the first is drawn from probabilities [B, V], each
    further one from what is left of them. What nothing is left for was chosen.
    """
    given = [probabilities]
    for index in range(1, tokens.shape[1]):
        left = probabilities.scatter(1, tokens[:, :index], 0.0)
        total = left.sum(-1, keepdim=True)
        token = tokens[:, index : index + 1]
        certain = torch.zeros_like(left).scatter_(1, token, 1.0)
        drawable = left.gather(1, token) > 0
        given.append(torch.where(drawable, left / total, certain))
    return torch.stack(given, dim=1)
