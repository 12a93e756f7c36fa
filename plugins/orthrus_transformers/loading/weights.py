"""Loads weights, all of them: transformers fills what a file lacks with random numbers, and only warns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orthrus import BuildError
from orthrus.errors import first_of, reason
from orthrus_transformers.loading.patterns import matches
from orthrus_transformers.loading.quiet import quiet

# Buffers that old checkpoints hold, and that follow from the config.
WITHOUT_EFFECT = ("*rotary_emb.inv_freq", "*.attn.bias", "*.attn.masked_bias", "*.attention.bias", "*.masked_bias")
BESIDE = ("*_diff.weight", "*_diff.bias")  # of a view that a released checkpoint holds, which a drafter reads


def load_weights(
    directory: Path, ignored: Sequence[str] = (), *, trust_remote_code: bool = False, **options: Any
) -> Any:
    """Return the causal language model in a directory; raise BuildError if it cannot be loaded whole.

    ignored: names of tensors, with * for anything, that the model has no place for and need not have.
    trust_remote_code: run Python code of the directory. options: others of transformers' from_pretrained.
    """
    from transformers import AutoModelForCausalLM

    try:
        with quiet():
            model, info = AutoModelForCausalLM.from_pretrained(
                directory,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                trust_remote_code=trust_remote_code,
                **options,
            )
    except Exception as error:  # damaged files and unknown models fail in many ways; the cause is chained
        raise BuildError(f"no model can be loaded from '{directory}' ({reason(error)})") from error
    missing = [f"{name} is missing" for name in sorted(info["missing_keys"])]
    misshapen = sorted(info["mismatched_keys"])  # (name, shape in the file, shape in the model)
    wrong = missing + [f"{name} has the shape {list(has)}, not {list(needs)}" for name, has, needs in misshapen]
    if wrong:
        raise BuildError(
            f"the weights in '{directory}' do not make the model that its config describes: {first_of(wrong)}"
        )
    check_unexpected(directory, sorted(info["unexpected_keys"]), ignored)
    return model


def check_unexpected(directory: Path, names: Sequence[str], ignored: Sequence[str]) -> None:
    """Raise BuildError for weights of a directory that its model has no place for, but for those that are ignored."""
    left = [name for name in names if not matches(name, (*WITHOUT_EFFECT, *BESIDE, *ignored))]
    if not left:
        return
    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
    raise BuildError(
        f"'{directory}' holds weights that its config has no place for: {', '.join(left[:3])}{more}. A config.json that"
        " announces them would load them (attention_bias: true, for biases of projections); if they change nothing, say"
        f" so with target.ignore: [{left[0]}]"
    )
