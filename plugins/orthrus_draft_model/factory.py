"""Makes the drafter of its options: with its model, or where another process holds that, without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from orthrus import BuildError, ConfigError, InputError, Parts, Target, Trial
from orthrus.drafter_models.trials import dtype_trials
from orthrus.optional import HasDtype, name_of
from orthrus.ranks.together import together_of
from orthrus_draft_model.drafter import DraftModel
from orthrus_draft_model.held_by_lead import Drafting, held_by_lead
from orthrus_draft_model.options import DraftModelOptions
from orthrus_draft_model.vocabulary import check_vocabulary

LONGEST = 15  # drafts that `auto` may choose: with the anchor, a pass of 16 tokens


def make(options: DraftModelOptions, parts: Parts) -> DraftModel:
    """Return the drafter with its model loaded; raise BuildError or InputError if it cannot draft for the target."""
    target: Target = parts.target
    drafting = Drafting(
        length=LONGEST if options.length == "auto" else options.length,
        auto=options.length == "auto",
        branches=options.branches,
        notify=parts.notify,
    )
    together = together_of(target)
    if options.held_by == "lead" and together.several:
        return held_by_lead(target, lambda: _fitting(options, parts), drafting, together)
    own = _fitting(options, parts)
    trials = list(_trials(options, own))
    return DraftModel(target, own, confidence=options.confidence, trials=trials, **drafting)


def _fitting(options: DraftModelOptions, parts: Parts) -> Target:
    """Return the draft model, which is on the target's device and has its vocabulary."""
    target, own = parts.target, _made(options, parts)
    if own.device != target.device:
        raise BuildError(f"draft model '{name_of(own)}' is on {own.device}, its target on {target.device}")
    check_vocabulary(own, target)
    return own


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
        dtype = str(target.dtype).removeprefix("torch.")  # type: ignore[assignment]  # one of the names
    return {"name": "transformers", "source": options.source, "dtype": dtype, "device": str(target.device)}
