"""Counts of scored passes by what they hand on: logits, or choices as a GPU's do at temperature 0."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from torch import Tensor

from orthrus_transformers.engines.forward_pass import ForwardPass
from orthrus_transformers.target import TransformersTarget

Kind = Literal["choices", "logits"]


def count_passes(target: TransformersTarget) -> Counter[Kind]:
    """Let a target score choices, as a GPU's does, and return the counter of its scored passes."""
    target.scores_choices = True
    passes: Counter[Kind] = Counter()
    run = target.engine.run

    def counted(forward_pass: ForwardPass) -> Tensor:
        if forward_pass.scored:
            passes["choices" if forward_pass.choices else "logits"] += 1
        return run(forward_pass)

    target.engine.run = counted  # type: ignore[method-assign]  # a spy in its place
    return passes
