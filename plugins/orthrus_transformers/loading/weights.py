"""Loads weights, all of them: transformers fills what a file lacks with random numbers, and only warns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orthrus import BuildError
from orthrus_transformers.loading.quiet import quiet


def load_weights(directory: Path, what: str, **options: Any) -> Any:
    """Return the causal language model in a directory; raise BuildError, naming `what`, if it cannot be loaded whole.

    options: those of transformers' from_pretrained.
    """
    from transformers import AutoModelForCausalLM

    try:
        with quiet():
            model, info = AutoModelForCausalLM.from_pretrained(
                directory, output_loading_info=True, ignore_mismatched_sizes=True, **options
            )
    except Exception as error:  # damaged files and unknown models fail in many ways; the cause is chained
        raise BuildError(f"no model can be loaded from {what} ({short(error)})") from error
    missing = [f"{name} is missing" for name in sorted(info["missing_keys"])]
    misshapen = sorted(info["mismatched_keys"])  # (name, shape in the file, shape in the model)
    wrong = missing + [f"{name} has the shape {list(has)}, not {list(needs)}" for name, has, needs in misshapen]
    if wrong:
        more = f" (and {len(wrong) - 1} more such)" if len(wrong) > 1 else ""
        raise BuildError(f"the weights in {what} do not make the model that its config describes: {wrong[0]}{more}")
    return model


def short(error: Exception, most: int = 200) -> str:
    """Return the class and the first line of an error of somebody else's code."""
    said = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {said if len(said) <= most else said[:most] + '...'}"
