"""Checks of targets against their own logits from scratch. A factory is handed a cache.

`lambda cache: MyTarget(cache)`, for one; a target that has a cache of its own does without it.
B: rows, n: width of a draft, V: size of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.batch.scheduler import Scheduler
from orthrus.errors import BuildError, InputError
from orthrus.interfaces import Target
from orthrus.reference.cache import PlainCache
from orthrus.reference.verifiers import PlainConsensus
from orthrus.testing.check import BrokenRuleError, Check, Factory, NotApplicableError, check, expecting
from orthrus.testing.checks.contracts import hold_declared, hold_members
from orthrus.testing.checks.target_company import rows_do_not_see_each_other
from orthrus.testing.checks.target_passes import hold_close, hold_scores, scripted, spread_over
from orthrus.testing.checks.target_sizes import TARGET_SIZES
from orthrus.testing.checks.target_states import TARGET_STATES
from orthrus.testing.checks.trees import TARGET_TREES
from orthrus.testing.doubles.drafters import Scripted
from orthrus.testing.doubles.spies import compare_texts, decoded
from orthrus.testing.doubles.verifiers import Dictated
from orthrus.testing.scenes import Scene
from orthrus.values import Draft, Step

LONGEST = 512  # a context length that is worth trying to its end

SHORT = Scene(prompts=((0, 1, 2),), max_new_tokens=3)
RAGGED = Scene(seed=1, prompts=((0,), (1, 2, 3, 0, 1), (2, 2, 1)), max_new_tokens=8)
LONG = Scene(seed=2, prompts=((0, 3, 1, 2), (1,)), max_new_tokens=24)
WAITING = Scene(
    seed=3, prompts=((1, 2), (0, 1, 3, 2, 0), (3,), (2, 0, 1), (1, 3), (0, 2, 2)), max_new_tokens=9, batch=2
)


@check("target", [SHORT])
def declares_itself(make: Factory, scene: Scene) -> None:
    """It has the members of a Target, and they are of their types; its own stop tokens are in its vocabulary."""
    target = make(PlainCache())
    hold_members("target", target)
    hold_declared("target", target)
    foreign = [token for token in target.stop_token_ids if not 0 <= token < target.vocabulary_size]
    if foreign:
        raise BrokenRuleError(
            f"{foreign}; the vocabulary has {target.vocabulary_size}", "the attribute `stop_token_ids`"
        )
    if not isinstance(target.device, torch.device):
        raise BrokenRuleError(f"{target.device!r}, wanted a torch.device", "the attribute `device`")
    if "tokenizer" in target.capabilities and target.tokenizer is None:
        raise BrokenRuleError("None, and `tokenizer` is declared", "the attribute `tokenizer`")


@check("target", [SHORT, RAGGED])
def logits_are_from_scratch(make: Factory, scene: Scene) -> None:
    """`logits` is a function of the tokens: the last places of a text have what its beginnings have at their ends."""
    target: Target = make(PlainCache())
    for prompt in spread_over(scene, target).prompts:
        text = [*prompt, *prompt]
        whole = target.logits(text, len(text))
        if whole.shape != (len(text), target.vocabulary_size):
            raise BrokenRuleError(f"{list(whole.shape)}, wanted {[len(text), target.vocabulary_size]}", "logits")
        for index in range(len(text)):
            hold_close(
                target, target.logits(text[: index + 1], 1)[0], whole[index], f"logits after {text[: index + 1]}"
            )


@check("target", [SHORT, RAGGED])
def prefill_gives_its_own_logits(make: Factory, scene: Scene) -> None:
    """A prefill of rows of any lengths gives the logits after each prompt's last token."""
    _hold(make, replace(scene, max_new_tokens=1))


@check("target", [SHORT, replace(RAGGED, max_new_tokens=6)])
def score_gives_its_own_logits(make: Factory, scene: Scene) -> None:
    """Scoring a draft gives the logits after the anchor and after each draft token, in rows of any lengths."""
    _hold(make, scene, cycles=1)


@check("target", [RAGGED, LONG])
def keep_forgets_what_was_rejected(make: Factory, scene: Scene) -> None:
    """However much of each draft was kept, the next pass sees what was committed and nothing else."""
    _hold(make, scene)


@check("target", [replace(WAITING, batch=1), WAITING, replace(WAITING, seed=5, batch=3)])
def rows_take_new_prompts(make: Factory, scene: Scene) -> None:
    """A row that ended takes another prompt: nothing of the first is left, and the other rows go on as they were."""
    _hold(make, scene)


@check("target", [RAGGED])
def start_forgets_everything(make: Factory, scene: Scene) -> None:
    """A second context on the same target, with other rows, is as if it were the first."""
    target: Target = make(PlainCache())
    for variant in (scene, replace(WAITING, batch=None), SHORT):
        hold_scores(target, variant)


@check("target", [SHORT, RAGGED, LONG])
def greedy_text(make: Factory, scene: Scene) -> None:
    """Decoding with right and wrong drafts gives the text of greedy decoding by `logits` alone."""
    target: Target = make(PlainCache())
    scene = spread_over(scene, target)
    if target.logits(scene.prompts[0], 1).dtype not in (torch.float32, torch.float64):
        raise NotApplicableError("in halves near-ties flip; score_gives_its_own_logits says how close it is")
    truths = scene.truths(target)
    texts = {key: answer.token_ids for key, answer in zip(scene.keys(), truths, strict=True)}
    compare_texts(decoded(scene, target, Scripted(texts, target.vocabulary_size), PlainConsensus()), truths)


@check("target", [SHORT])
def a_context_can_be_filled(make: Factory, scene: Scene) -> None:
    """Prompt and answer together may be as long as `max_length`, to the last token."""
    target: Target = make(PlainCache())
    if target.max_length is None or target.max_length > LONGEST:
        raise NotApplicableError(f"its max_length is {target.max_length}: there is no end to try")
    prompt = tuple(index % 3 for index in range(max(1, target.max_length - 6)))
    hold_scores(target, replace(scene, prompts=(prompt, (0,)), max_new_tokens=target.max_length, seed=4))


@check("target", [RAGGED])
def inputs_are_left_alone(make: Factory, scene: Scene) -> None:
    """A target changes neither context nor draft."""
    target: Target = make(PlainCache())
    guarded = _Guarded(target)
    scene = spread_over(scene, target)
    decoded(scene, guarded, scripted(scene, target), Dictated(scene.seed))


@check("target", [SHORT])
def an_older_context_is_refused(make: Factory, scene: Scene) -> None:
    """Asked for a context that is not its newest, whose cache is gone, it raises InputError."""
    target: Target = make(PlainCache())
    scene = spread_over(scene, target)
    older, newer = scene.context(target), scene.context(target)
    for context in (older, newer):
        target.start(context)
        target.prefill(context, Scheduler(context).refill())
    try:
        target.score(older, older.empty_draft())
    except InputError:
        return
    raise BrokenRuleError("it returned logits", "score with the context before the newest")


@check("target", [RAGGED])
def views_write_scratch_only(make: Factory, scene: Scene) -> None:
    """A pass through a view changes nothing of what is committed: what is scored after it is the target's own."""
    target: Any = make(PlainCache())
    if "views" not in target.capabilities:
        raise NotApplicableError("the target does not declare `views`")
    name = "conformance"
    try:
        target.attach_view(name)
    except BuildError as refusal:  # of a model that has no attention, for one
        raise NotApplicableError(str(refusal)) from refusal
    try:
        hold_scores(target, scene, look=lambda context, draft: _draft_a_block(target, context, name))
    finally:
        target.detach_view(name)


def _hold(make: Factory, scene: Scene, cycles: int | None = None) -> None:
    hold_scores(make(PlainCache()), scene, cycles)


def _draft_a_block(target: Any, context: Context, view: str) -> None:
    """Run a block of up to four tokens through the view, as a drafter would."""
    width = min(3, context.max_room) + 1
    columns = torch.arange(1 - width, 1, device=context.device) + context.room.clamp(max=width - 1)[:, None]
    tokens = torch.where(columns > 0, 1, context.anchors[:, None])
    target.forward(context, tokens, context.lengths[:, None] - 1 + columns.clamp(min=0), view=view, kind="block")


class _Guarded:  # a Target
    """A target of which context and draft are compared before and after each call."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.capabilities, self.vocabulary_size = target.capabilities, target.vocabulary_size
        self.max_length, self.stop_token_ids = target.max_length, target.stop_token_ids
        self.device, self.tokenizer = target.device, target.tokenizer

    def start(self, context: Context) -> None:
        self._target.start(context)

    def keep(self, step: Step) -> None:
        self._target.keep(step)

    def logits(self, token_ids: Sequence[int], last: int) -> Tensor:
        return self._target.logits(token_ids, last)

    def prefill(self, context: Context, rows: Sequence[int]) -> Tensor:
        before = _state(context)
        logits = self._target.prefill(context, rows)
        _unchanged(before, _state(context), "prefill")
        return logits

    def score(self, context: Context, draft: Draft) -> Tensor:
        before = {**_state(context), "the draft": (draft.tokens.tolist(), draft.lengths.tolist())}
        logits = self._target.score(context, draft)
        after = {**_state(context), "the draft": (draft.tokens.tolist(), draft.lengths.tolist())}
        _unchanged(before, after, f"score, cycle {context.cycle + 1}")
        return logits


def _state(context: Context) -> dict[str, Any]:
    names = ("tokens", "lengths", "room", "keys", "prompt_lengths", "anchors")
    return {f"context.{name}": getattr(context, name).tolist() for name in names}


def _unchanged(before: Mapping[str, Any], after: Mapping[str, Any], location: str) -> None:
    for name, value in after.items():
        if value != before[name]:
            raise BrokenRuleError(f"it changed {name} from {before[name]} to {value}", location)


TARGET_CHECKS = (
    declares_itself,
    logits_are_from_scratch,
    prefill_gives_its_own_logits,
    score_gives_its_own_logits,
    keep_forgets_what_was_rejected,
    rows_take_new_prompts,
    start_forgets_everything,
    greedy_text,
    a_context_can_be_filled,
    *TARGET_TREES,
    *TARGET_SIZES,
    rows_do_not_see_each_other,
    *TARGET_STATES,
    inputs_are_left_alone,
    an_older_context_is_refused,
    views_write_scratch_only,
)


def target_checks(expect: Mapping[str, str] | None = None) -> list[Check]:
    """Return the checks of targets, each to be called with a factory `cache -> target`.

    expect: for checks that are known to fail, by name, the reason; one that passes all the same is a failure. Raises
    InputError for a name that is none.
    """
    return expecting(TARGET_CHECKS, expect)
