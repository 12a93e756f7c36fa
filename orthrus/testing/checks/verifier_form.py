"""Checks of a single verdict: its form, the definition, and a function of nothing but its arguments."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.batch.row_settings import RowSettings
from orthrus.batch.validation import check_verdict
from orthrus.chance import Chance
from orthrus.errors import shown
from orthrus.interfaces import Verifier
from orthrus.optional import is_coupled
from orthrus.reference.verifiers import agreed
from orthrus.testing.check import BrokenRuleError, Check, Factory, check
from orthrus.testing.checks.contracts import hold_declared, hold_members
from orthrus.testing.doubles.drafters import Scripted
from orthrus.testing.doubles.spies import FixedChance, WatchedVerifier, decoded
from orthrus.testing.doubles.verifiers import Dictated
from orthrus.testing.scenes import Scene, ladder
from orthrus.values import Draft, Verdict

Ask = Callable[[Verifier, Context, Draft, Tensor], None]  # raises BrokenRuleError
GREEDY = ladder(12, batch=None)
TIES = [replace(scene, gap=gap) for gap in (1e-3, 1e-6) for scene in GREEDY[4:8]]
SCENES = [*GREEDY[:6], *ladder(4, batch=None, temperature=0.8), *ladder(4, batch=None, temperature=1.3, top_k=2)]


@check("verifier", SCENES[:1])
def declares_itself(make: Factory, scene: Scene) -> None:
    """It says whether it decodes greedily only, True or False, and has a method `verify`."""
    verifier = make()
    hold_members("verifier", verifier)
    hold_declared("verifier", verifier)


def rule(scenes: Sequence[Scene]) -> Callable[[Ask], Check]:
    """Make a check of what a verifier must answer about every draft of the scenes, in dictated histories."""

    def asked(ask: Ask) -> Check:
        @wraps(ask)
        def body(make: Factory, scene: Scene) -> None:
            asking(make, scene, ask)

        return check("verifier", scenes)(body)

    return asked


def asking(make: Factory, scene: Scene, ask: Ask) -> None:
    """Ask about every draft of a dictated history: mostly right, ragged, sometimes empty; then with probabilities."""
    verifier: Verifier = make()
    if scene.temperature > 0 and verifier.greedy:
        return  # such a scene is never decoded with it
    target = scene.target()
    texts = dict(zip(scene.keys(), _likely(scene), strict=True))

    def look(context: Context, draft: Draft, logits: Tensor, verdict: Verdict) -> None:
        ask(verifier, context, draft, logits)
        if scene.temperature > 0 and draft.tokens.shape[1]:
            ask(verifier, context, _with_probabilities(draft, scene), logits)

    for right, lengths in ((0.8, (0, 1, 2, 3, 5)), (0.5, (2,))):
        drafter = Scripted(texts, scene.vocabulary, scene.seed, right, lengths)
        decoded(scene, target, drafter, WatchedVerifier(Dictated(scene.seed), look))


def _likely(scene: Scene) -> list[tuple[int, ...]]:
    """Return a text for each prompt that often is the target's choice, however the history goes."""
    target = scene.target()
    best = target.logits([*range(scene.vocabulary)], scene.vocabulary).argmax(-1).tolist()
    return [tuple(best[(offset + index) % len(best)] for offset in range(64)) for index in range(len(scene.prompts))]


def _with_probabilities(draft: Draft, scene: Scene) -> Draft:
    """Return the draft as if it had been drawn from something that gives its tokens most."""
    drawn = torch.nn.functional.one_hot(draft.tokens, scene.vocabulary).double() * 0.7 + 0.3 / scene.vocabulary
    return Draft(draft.tokens, draft.lengths, drawn)


class _CarefulChance(FixedChance):
    """Draw from nothing that is no number."""

    def categorical(self, probabilities: Tensor) -> Tensor:
        """Return the first index [...] up to which a distribution [..., V] has half of its weight."""
        if not probabilities.isfinite().all():
            raise BrokenRuleError("it draws from probabilities that are not finite", "chance.categorical")
        return super().categorical(probabilities)


def verdict_of(verifier: Verifier, context: Context, draft: Draft, logits: Tensor) -> list[tuple[int, int]]:
    """Return (accepted, next token) of each row, with chance that depends on distributions alone."""
    verdict = verifier.verify(context, draft, logits, _CarefulChance(7))
    check_verdict(verdict)
    return list(zip(verdict.accepted.tolist(), verdict.next_tokens.tolist(), strict=True))


@rule(SCENES)
def verdict_has_its_form(verifier: Verifier, context: Context, draft: Draft, logits: Tensor) -> None:
    """A verdict is a Verdict: accepted [B] within each draft's length, next_tokens [B] in the vocabulary; int64."""
    verdict = verifier.verify(context, draft, logits, Chance(7))
    check_verdict(verdict)
    for name, numbers in (("accepted", verdict.accepted), ("next_tokens", verdict.next_tokens)):
        if numbers.shape != draft.lengths.shape or numbers.dtype != torch.int64 or numbers.device != context.device:
            raise BrokenRuleError(
                f"{name} is {list(numbers.shape)}, {numbers.dtype}, on {numbers.device}; wanted"
                f" {list(draft.lengths.shape)}, torch.int64, on {context.device}",
                _cycle(context),
            )
    for row, (length, accepted, token) in enumerate(
        zip(draft.lengths.tolist(), verdict.accepted.tolist(), verdict.next_tokens.tolist(), strict=True)
    ):
        if not 0 <= accepted <= length:
            raise BrokenRuleError(f"{accepted} of {length} tokens accepted", f"row {row}, {_cycle(context)}")
        if not 0 <= token < logits.shape[-1]:
            raise BrokenRuleError(
                f"next token {token}; the vocabulary has {logits.shape[-1]}", f"row {row}, {_cycle(context)}"
            )


@rule([*GREEDY, *TIES])
def keeps_only_the_targets_choices(verifier: Verifier, context: Context, draft: Draft, logits: Tensor) -> None:
    """At temperature 0 what is kept is the target's choices: drafts equal to the argmax, then the argmax after them."""
    choices = logits.argmax(-1).tolist()
    for row, (accepted, token) in enumerate(verdict_of(verifier, context, draft, logits)):
        tokens = draft.tokens[row, : int(draft.lengths[row])].tolist()
        right = agreed(choices[row], tokens)
        if accepted > right:
            raise BrokenRuleError(
                f"{accepted} tokens of the draft {tokens} accepted; the target's choices are {choices[row]}",
                f"row {row}, {_cycle(context)}",
            )
        if token != choices[row][accepted]:
            raise BrokenRuleError(
                f"{token} follows on {accepted} accepted tokens; the target's choice there is {choices[row][accepted]}",
                f"row {row}, {_cycle(context)}",
            )


@rule(SCENES)
def accepts_all_it_may(verifier: Verifier, context: Context, draft: Draft, logits: Tensor) -> None:
    """The longest prefix of the target's choices is accepted, at temperature 0 and under coupled noise."""
    if context.sampling.temperature > 0:
        if not is_coupled(verifier):
            return  # how much may be accepted is a matter of chance
        positions = context.lengths[:, None] + torch.arange(logits.shape[1])
        logits, raw = logits + FixedChance(7).gumbel(context.keys, positions, logits.shape[-1]), logits
    else:
        raw = logits
    choices = logits.argmax(-1).tolist()
    for row, (accepted, _) in enumerate(verdict_of(verifier, context, draft, raw)):
        tokens = draft.tokens[row, : int(draft.lengths[row])].tolist()
        right = agreed(choices[row], tokens)
        if accepted < right:
            raise BrokenRuleError(
                f"{accepted} tokens of the draft {tokens} accepted; {right} are the target's choices",
                f"row {row}, {_cycle(context)}",
            )


@rule(SCENES)
def says_nothing_impossible(verifier: Verifier, context: Context, draft: Draft, logits: Tensor) -> None:
    """No token is kept that the processed logits make impossible, whatever is drafted."""
    hidden = logits.clone()
    if draft.tokens.shape[1] and hidden.shape[-1] > 2:  # the first drafted token is made impossible, too
        hidden[:, 0].scatter_(1, draft.tokens[:, :1], float("-inf"))
    for row, (accepted, token) in enumerate(verdict_of(verifier, context, draft, hidden)):
        committed = [*draft.tokens[row, :accepted].tolist(), token]
        for index, committed_token in enumerate(committed):
            if hidden[row, index, committed_token] == float("-inf"):
                raise BrokenRuleError(
                    f"token {committed_token}, whose logit is -inf", f"place {index} of row {row}, {_cycle(context)}"
                )


@rule(SCENES)
def empty_drafts_are_plain_decoding(verifier: Verifier, context: Context, draft: Draft, logits: Tensor) -> None:
    """For an empty draft nothing is accepted, whether it has no columns or lengths of 0, and the target goes on."""
    nothing = torch.zeros_like(draft.lengths)
    narrow = verdict_of(verifier, context, Draft(draft.tokens[:, :0], nothing), logits[:, :1])
    wide = verdict_of(verifier, context, Draft(draft.tokens, nothing, draft.probabilities), logits)
    for name, verdicts in (("no columns", narrow), ("lengths of 0", wide)):
        for row, (accepted, token) in enumerate(verdicts):
            location = f"row {row} of a draft with {name}, {_cycle(context)}"
            if accepted != 0:
                raise BrokenRuleError(f"{accepted} tokens accepted", location)
            if context.sampling.temperature == 0 and token != int(logits[row, 0].argmax()):
                raise BrokenRuleError(f"token {token} instead of {int(logits[row, 0].argmax())}", location)
    if narrow != wide:
        raise BrokenRuleError(f"{narrow} without columns, {wide} with lengths of 0", _cycle(context))


@rule(SCENES)
def what_is_beyond_a_length_does_not_count(verifier: Verifier, context: Context, draft: Draft, logits: Tensor) -> None:
    """Tokens and probabilities beyond a draft's length change nothing."""
    width = draft.tokens.shape[1]
    beyond = torch.arange(width) >= draft.lengths[:, None]  # [B, n]
    expected = verdict_of(verifier, context, draft, logits)
    tempting = logits[:, :width].argmax(-1)
    for tokens in (tempting, (draft.tokens + 1) % logits.shape[-1]):
        q = None if draft.probabilities is None else draft.probabilities.roll(1, -1)
        q = q if q is None or draft.probabilities is None else torch.where(beyond[..., None], q, draft.probabilities)
        actual = verdict_of(
            verifier, context, Draft(torch.where(beyond, tokens, draft.tokens), draft.lengths, q), logits
        )
        if actual != expected:
            value = f"{actual} instead of {expected} (accepted, next token) with other tokens beyond the lengths"
            raise BrokenRuleError(value, _cycle(context))


@rule(SCENES)
def places_that_are_not_finite_do_not_count(verifier: Verifier, context: Context, draft: Draft, logits: Tensor) -> None:
    """Logits after a refused token, which a draft alone asked for, may be NaN or infinite: they change nothing."""
    if draft.tokens.shape[1] < 2 or logits.shape[-1] < 3:
        return
    hidden = logits.clone()
    choices = hidden[:, 0].argmax(-1)
    refused = (choices + 1) % hidden.shape[-1]  # [B] it is made impossible, and so refused
    hidden[:, 0].scatter_(1, refused[:, None], float("-inf"))
    tokens = torch.cat([refused[:, None], draft.tokens[:, 1:]], 1)
    wrong = Draft(tokens, draft.lengths, _drawn_from(tokens, draft, hidden))
    expected = verdict_of(verifier, context, wrong, hidden)
    for number in (float("nan"), float("inf"), float("-inf")):
        hidden[:, 1:][draft.lengths > 0] = number
        actual = verdict_of(verifier, context, wrong, hidden)
        if actual != expected:
            value = f"{actual} instead of {expected} (accepted, next token) with {number} after the first place"
            raise BrokenRuleError(value, _cycle(context))


def _drawn_from(tokens: Tensor, draft: Draft, logits: Tensor) -> Tensor | None:
    """Return probabilities that have drawn other tokens, if the draft has any."""
    if draft.probabilities is None:
        return None
    return torch.nn.functional.one_hot(tokens, logits.shape[-1]).to(draft.probabilities) * 0.7 + 0.3 / logits.shape[-1]


@rule(SCENES)
def rows_are_independent(verifier: Verifier, context: Context, draft: Draft, logits: Tensor) -> None:
    """A row's verdict is the same in any order of the rows, and alone."""
    every = list(range(len(context.rows)))
    hold_alike(verifier, context, draft, logits, [[*reversed(every)], *([row] for row in every)])


@rule(SCENES)
def verdict_is_a_function(verifier: Verifier, context: Context, draft: Draft, logits: Tensor) -> None:
    """The same arguments give the same verdict, whatever was verified in between."""
    expected = verdict_of(verifier, context, draft, logits)
    verdict_of(verifier, context, draft, logits.roll(1, -1))
    actual = verdict_of(verifier, context, draft, logits)
    if actual != expected:
        raise BrokenRuleError(f"{actual}, and {expected} before (accepted, next token)", _cycle(context))


@rule(SCENES)
def inputs_are_left_alone(verifier: Verifier, context: Context, draft: Draft, logits: Tensor) -> None:
    """A verifier changes neither context, draft nor logits."""
    before = _state(context, draft, logits)
    verdict_of(verifier, context, draft, logits)
    for name, value in _state(context, draft, logits).items():
        if value != before[name]:
            raise BrokenRuleError(f"it changed {name} from {shown(before[name])} to {shown(value)}", _cycle(context))


def _state(context: Context, draft: Draft, logits: Tensor) -> dict[str, Any]:
    names = ("tokens", "lengths", "room", "keys", "prompt_lengths", "anchors")
    return {
        **{f"context.{name}": getattr(context, name).tolist() for name in names},
        "the draft's tokens": draft.tokens.tolist(),
        "the draft's lengths": draft.lengths.tolist(),
        "the draft's probabilities": None if draft.probabilities is None else draft.probabilities.tolist(),
        "the logits": logits.tolist(),
    }


def selected(context: Context, rows: Sequence[int]) -> Context:
    """Return a context of some rows, in this order, as a verifier sees it."""
    chosen = copy.copy(context)
    for name in ("tokens", "lengths", "room", "keys", "prompt_lengths", "anchors"):
        setattr(chosen, name, getattr(context, name)[list(rows)])
    chosen.rows = [context.rows[row] for row in rows]
    chosen.settings = RowSettings.of(chosen.rows, context.vocabulary_size, context.device)
    return chosen


def hold_alike(
    verifier: Verifier, context: Context, draft: Draft, logits: Tensor, groups: Sequence[Sequence[int]]
) -> list[tuple[int, int]]:
    """Return the verdicts; raise BrokenRuleError if rows of a group have others when it is asked about by itself."""
    expected = verdict_of(verifier, context, draft, logits)
    for rows in map(list, groups):
        q = None if draft.probabilities is None else draft.probabilities[rows]
        part = Draft(draft.tokens[rows], draft.lengths[rows], q)
        actual = verdict_of(verifier, selected(context, rows), part, logits[rows])
        if actual != [expected[row] for row in rows]:
            value = f"{actual} instead of {[expected[row] for row in rows]} (accepted, next token)"
            raise BrokenRuleError(value, f"the rows {rows} of {len(expected)} by themselves, {_cycle(context)}")
    return expected


def at_place(context: Context, row: int) -> str:
    """Return where a verdict is, in words."""
    return f"row {row}, {_cycle(context)}"


def _cycle(context: Context) -> str:
    return f"cycle {context.cycle + 1}"


VERIFIER_VERDICTS = (
    declares_itself,
    verdict_has_its_form,
    keeps_only_the_targets_choices,
    accepts_all_it_may,
    says_nothing_impossible,
    empty_drafts_are_plain_decoding,
    what_is_beyond_a_length_does_not_count,
    places_that_are_not_finite_do_not_count,
    rows_are_independent,
    verdict_is_a_function,
    inputs_are_left_alone,
)
