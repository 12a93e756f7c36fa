"""The drafter `draft_model`: a smaller model of the same vocabulary. B: rows, n: width of a draft, V: vocabulary."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from orthrus import AutoBlock, BuildError, Chance, ConfigError, Context, Draft, InputError, Parts, Step, Target, Trial
from orthrus.drafter_models.trials import dtype_trials
from orthrus.optional import HasDtype, HasFingerprint, HasPassIdentity, MeasuredTarget, MovesRows, name_of
from orthrus.sampling import add_noise, row_probabilities, warp_rows, widen
from orthrus_draft_model.mirror import Mirror
from orthrus_draft_model.options import DraftModelOptions
from orthrus_draft_model.vocabulary import check_vocabulary, fitted

LONGEST = 15  # drafts that `auto` may choose: with the anchor, a pass of 16 tokens


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
        own: Target,
        length: int = 5,
        confidence: float | None = None,
        *,
        auto: bool = False,
        branches: int = 1,
        trials: Sequence[Trial] = (),
        notify: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Draft up to `length` tokens, or with `auto` as many of them as it chooses.

        own: the draft model, which nobody else uses. confidence: a token less likely than this is the last of a draft.
        branches: tokens for each place, the likeliest; the draft goes on behind the first of them.
        trials: changes of the options that it was made with.
        """
        self._own = own
        self._length = length
        self._confidence = confidence
        self._branches = branches
        self.drafts_trees = branches > 1
        self._trials = trials
        self._share = share_of_weights(own, target)
        self._mirror: Mirror | None = None
        self._counted = 0  # passes that drafts have reported
        drafting = (f"draft_model {_identity(own)}", self._measured)
        self._auto = AutoBlock(target, length, drafting=drafting, notify=notify) if auto else None
        self.learns = auto  # how much of its drafts was accepted
        self.prefix_consistent = not auto and branches == 1
        self.moves_rows = isinstance(own, MovesRows) and own.moves_rows
        if isinstance(own, HasFingerprint):
            self.fingerprint = own.fingerprint

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Forget what was in these rows; their prompts are passed over when they are first drafted for."""
        if self._mirror is None or not self._mirror.fits(context):
            self._mirror, self._counted = Mirror(self._own, context), 0
        self._mirror.forget(rows)
        if self._auto:
            self._auto.start(rows)

    def move_rows(self, sources: Sequence[int]) -> None:
        """Move the rows of the draft model's cache."""
        if self._mirror:
            self._mirror.move_rows(sources)
        if self._auto:
            self._auto.move_rows(sources)

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return what the draft model says of each row: its likeliest tokens, or drawn ones."""
        rooms = self._of(context).rooms()
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

    def _of(self, context: Context) -> Mirror:
        assert self._mirror is not None, "rows are started before they are drafted for"
        return self._mirror

    def _measured(self, context: Context, length: int) -> Draft:
        """Draft so many tokens, whatever they are, for those who measure."""
        rooms = self._of(context).rooms()
        return self._draft(context, rooms, length, Chance(0, context.device), None)

    def _draft(
        self, context: Context, rooms: Sequence[int], length: int, chance: Chance, confidence: float | None
    ) -> Draft:
        width = min(length, -(-max(rooms) // self._branches))  # places, each of as many tokens as there are branches
        if width < 1:
            return context.empty_draft()
        mirror = self._of(context)
        logits = mirror.catch_up([room > 0 for room in rooms])
        uploaded = torch.tensor(rooms).to(context.device, non_blocking=True)
        chosen = _Choices(context, chance, confidence, uploaded, self._branches)
        chosen.add(logits)
        while chosen.places < width and chosen.go_on:
            chosen.add(mirror.advance(chosen.last))
        mirror.copy_drafted()
        passes, self._counted = mirror.passes - self._counted, mirror.passes
        return chosen.draft(passes * self._share)


class _Choices:
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


def share_of_weights(own: Target, target: Target) -> float:
    """Return the weights that a pass of the draft model reads over those of the target's, by number and not by size.

    1 if a target does not tell: too much rather than too little.
    """
    weights = [
        part.pass_bytes([]) / part.dtype.itemsize
        for part in (own, target)
        if isinstance(part, MeasuredTarget) and isinstance(part, HasDtype)
    ]
    return weights[0] / weights[1] if len(weights) == 2 else 1.0


def make(options: DraftModelOptions, parts: Parts) -> DraftModel:
    """Return the drafter with its model loaded; raise BuildError or InputError if it cannot draft for the target."""
    target: Target = parts.target
    own = _made(options, parts)
    if own.device != target.device:
        raise BuildError(f"draft model '{name_of(own)}' is on {own.device}, its target on {target.device}")
    check_vocabulary(own, target)
    length = LONGEST if options.length == "auto" else options.length
    auto, trials = options.length == "auto", list(_trials(options, own))
    return DraftModel(
        target,
        own,
        length,
        options.confidence,
        auto=auto,
        branches=options.branches,
        trials=trials,
        notify=parts.notify,
    )


def _trials(options: DraftModelOptions, own: Target) -> Iterator[Trial]:
    """Yield trials of the draft model's dtype, where the options say whose model it is."""
    for trial in dtype_trials(own.dtype) if isinstance(own, HasDtype) else ():
        within = None if options.target is None else {"target": {**options.target, **trial.options}}
        yield trial if within is None else replace(trial, options=within)


def _made(options: DraftModelOptions, parts: Parts) -> Target:
    """Return the draft model; what is wrong with it is told by the drafter's keys."""
    try:
        own: Target = parts.make("target", _settings(options, parts.target))
    except ConfigError as error:
        keys = [replace(problem, key=f"drafter.{problem.key}") for problem in error.problems]
        raise ConfigError(keys) from error
    except (BuildError, InputError) as error:
        raise type(error)(f"the draft model of drafter 'draft_model': {error}") from error
    return own


def _settings(options: DraftModelOptions, target: Target) -> dict[str, Any]:
    """Return the draft model as a config writes a target."""
    if options.target is not None:
        return dict(options.target)
    dtype = options.dtype
    if dtype == "auto" and isinstance(target, HasDtype):
        dtype = str(target.dtype).removeprefix("torch.")  # type: ignore[assignment]
    return {"name": "transformers", "source": options.source, "dtype": dtype, "device": str(target.device)}


def _identity(own: Target) -> str:
    """Return what tells the costs of one draft model from those of another."""
    facts = dict(own.pass_identity()) if isinstance(own, HasPassIdentity) else {"model": name_of(own)}
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:8]
