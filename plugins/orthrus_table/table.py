"""Makes the target `table` from its options."""

from __future__ import annotations

import torch

from orthrus import Parts
from orthrus.reference import Letters, TableTarget
from orthrus_table.options import TableOptions


def make(options: TableOptions, parts: Parts) -> TableTarget:
    """Return a target whose logits are drawn from the options' seed."""
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
