"""The trials of one config: those that its drafter offers, and those of its prompts and its target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from orthrus.config.schema import Config
from orthrus.decoder import Decoder
from orthrus.errors import InputError
from orthrus.optional import HasDtype, OffersTrials, name_of
from orthrus.options import HasChat, HasDtypeName, HasSource, HasTokenizerSource
from orthrus.values import Prompt

DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


@dataclass(frozen=True)
class PlannedTrial:
    """A change of one thing. write: what it lays over the config, options by section.

    same_text: whether the target is asked the same, so that its text must stay what it was. chat: how the prompts are
    put to the target that is there; None: as its options say.
    """

    name: str
    sentence: str
    write: Mapping[str, Mapping[str, Any]]
    same_text: bool = False
    chat: bool | None = None


def plan_trials(config: Config, decoder: Decoder, prompts: Sequence[Prompt]) -> list[PlannedTrial]:
    """Return all trials, those that need another target last; raise InputError if the drafter offers none."""
    drafter = decoder.drafter
    if not isinstance(drafter, OffersTrials):
        raise InputError(
            f"drafter '{name_of(drafter)}' offers nothing to try (it is no orthrus.optional.OffersTrials): it has no"
            " options that could be set wrongly, or does not tell of them"
        )
    offered = [
        PlannedTrial(trial.name, trial.sentence, {"drafter": dict(trial.options)}, same_text=True)
        for trial in drafter.trials()
    ]
    return [*offered, *_template(config, decoder, prompts), *_tokenizer(config), *_dtypes(config, decoder)]


def _template(config: Config, decoder: Decoder, prompts: Sequence[Prompt]) -> Iterator[PlannedTrial]:
    """Yield the trial without the chat template where it is applied, or with it where it is not, if there is one."""
    if config.target is None or not isinstance(config.target.options, HasChat):
        return
    asked = _encoded(decoder, prompts, chat=None)
    try:
        other = _encoded(decoder, prompts, chat=False) == asked
        changed = _encoded(decoder, prompts, chat=other)
    except InputError:  # there is no template, or it refuses these prompts
        return
    if changed != asked:
        yield PlannedTrial(
            "with the chat template" if other else "without the chat template",
            "prompts lack the chat template that the drafter was trained with"
            if other
            else "prompts have the chat template already, or the drafter was trained on plain text",
            {"target": {"chat": other}},
            chat=other,
        )


def _encoded(decoder: Decoder, prompts: Sequence[Prompt], *, chat: bool | None) -> list[list[int]]:
    return [decoder.encode(prompt, chat=chat) for prompt in prompts]


def _tokenizer(config: Config) -> Iterator[PlannedTrial]:
    """Yield the trial of the tokenizer that comes with the drafter."""
    assert config.target is not None and config.drafter is not None
    target, drafter = config.target.options, config.drafter.options
    source = drafter.source if isinstance(drafter, HasSource) else None
    if isinstance(target, HasTokenizerSource) and isinstance(source, str) and target.tokenizer != source:
        yield PlannedTrial(
            "the drafter's tokenizer",
            "the drafter was trained on the tokens, or the chat template, of another tokenizer",
            {"target": {"tokenizer": source}},
        )


def _dtypes(config: Config, decoder: Decoder) -> Iterator[PlannedTrial]:
    """Yield the trials of other dtypes of the target."""
    target = decoder.target
    if config.target is None or not isinstance(config.target.options, HasDtypeName) or not isinstance(target, HasDtype):
        return
    for dtype, name in DTYPES.items():
        if dtype != target.dtype:
            yield PlannedTrial(
                f"target in {name}",
                f"the drafter was trained on states of the target in {name}",
                {"target": {"dtype": name}},
            )
