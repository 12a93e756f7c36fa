"""Transformers' tensor-parallel plan of a model: what is sharded and how, and how many ranks can share it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch

from orthrus import BuildError
from orthrus.ranks.group import divisors

WHOLE = {"replicate", "replicated_with_grad_allreduce"}  # styles of what every rank has
SHARDED = {"colwise", "rowwise"}
OF_LOGITS = {"colwise_gather_output", "colwise_rep", "colwise"}
NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")  # of a layer


def read_plan(model: Any, count: int) -> Callable[[str], str | None]:
    """Return what tells a module's style by its path: colwise, rowwise, vocabulary, or None if it is held whole.

    Raises BuildError if so many ranks cannot share the model.
    """
    plan: Mapping[str, str] = getattr(model, "tp_plan", None) or {}
    names = {module: path for path, module in model.named_modules()}
    vocabulary = {names[module] for module in (model.get_input_embeddings(), model.get_output_embeddings())}
    inner = {pattern: style for pattern, style in plan.items() if pattern not in vocabulary}
    paths = {NUMBER.sub("*", path): module for path, module in model.named_modules()}
    _check_plan(model, inner, paths)
    _check_sizes(model, count)

    def style_of(path: str) -> str | None:
        if path in vocabulary:
            return "vocabulary"
        style = inner.get(NUMBER.sub("*", path))
        return style if style in SHARDED else None

    return style_of


def _check_plan(model: Any, plan: Mapping[str, str], paths: Mapping[str, Any]) -> None:
    kind = model.config.model_type
    if not any(style == "colwise" for style in plan.values()):
        raise BuildError(
            f"transformers has no tensor-parallel plan for the layers of model type '{kind}'; set target.parallel=1"
        )
    for pattern, style in plan.items():
        module = paths.get(pattern)
        if style in WHOLE or module is None:  # a plan has lines for what other models of the family have
            continue
        if style not in SHARDED or type(module) is not torch.nn.Linear:
            raise BuildError(
                f"model type '{kind}' cannot be shared by several processes: transformers' plan shards {pattern} as"
                f" '{style}', and known are {', '.join(sorted(SHARDED))} of linear layers; set target.parallel=1"
            )


def _check_sizes(model: Any, count: int) -> None:
    config = model.config.get_text_config()
    sizes = {
        "attention heads": config.num_attention_heads,
        "heads of keys": getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
        "inner size": getattr(config, "intermediate_size", None) or config.num_attention_heads,
    }
    if all(size % count == 0 for size in sizes.values()):
        return
    working = [number for number in divisors(list(sizes.values())) if number > 1]
    listing = ", ".join(f"{size} {name}" for name, size in sizes.items())
    work = f"{', '.join(map(str, working))} would work" if working else "no number of processes above 1 does"
    raise BuildError(
        f"target.parallel: {count} processes cannot share a model of {listing}, which {count} does not divide; {work}"
    )
