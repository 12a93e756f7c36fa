"""From logits to tokens: pure functions, the target's logits processor, and settings made concrete for a target.

May import: batch, chance, errors, interfaces, kernels, optional, options, paths, settings, values.
"""

from orthrus.batch.commit import append_bonus, cut_at_stop
from orthrus.sampling.agreement import keep_agreed
from orthrus.sampling.drawn_draft import draw_draft, warp_draft
from orthrus.sampling.functions import (
    NEVER,
    accept_greedy,
    acceptance,
    accepted_counts,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalize_repetition,
    residual,
    suppress_tokens,
    token_probabilities,
    warp,
    widen,
)
from orthrus.sampling.rows import add_noise, row_probabilities, warp_rows

__all__ = [
    "NEVER",
    "accept_greedy",
    "acceptance",
    "accepted_counts",
    "add_noise",
    "append_bonus",
    "cut_at_stop",
    "draw_draft",
    "keep_agreed",
    "keep_min_p",
    "keep_top_k",
    "keep_top_p",
    "penalize_repetition",
    "residual",
    "row_probabilities",
    "suppress_tokens",
    "token_probabilities",
    "warp",
    "warp_draft",
    "warp_rows",
    "widen",
]
