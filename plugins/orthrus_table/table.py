"""Makes the target `table` from its options."""

from __future__ import annotations

import torch

from orthrus import BuildError, Parts
from orthrus.reference import Letters, TableTarget
from orthrus.rounding import RoundsStates
from orthrus_table.options import TableOptions


def make(options: TableOptions, parts: Parts) -> TableTarget:
    """Return a target whose logits are drawn from the options' seed; raise BuildError for a cache that rounds."""
    if isinstance(parts.cache, RoundsStates):
        raise BuildError(
            f"target 'table' keeps its tokens as keys, which cache {type(parts.cache).__name__} rounds; set"
            " cache.name=dynamic, or another target"
        )
    size = len(options.alphabet)
    generator = torch.Generator().manual_seed(options.seed)
    table = torch.randn((size,) * (options.order + 1), generator=generator, dtype=torch.float64)
    ends = [options.alphabet.index(options.end)] if options.end else []
    return TableTarget(
        table,
        parts.cache,
        tokenizer=Letters(options.alphabet, hidden=ends),
        stop_token_ids=ends,
        max_length=options.max_length,
    )
