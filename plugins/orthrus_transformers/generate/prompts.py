"""Prompts of a batch that is padded on the left. B: rows, n: columns."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from orthrus import InputError


def padding_lengths(input_ids: Tensor, attention_mask: Tensor | None) -> list[int]:
    """Return how many columns of each row of input_ids [B, n] are padding; None: no mask, so none is.

    Raises InputError for a mask that hides anything but columns on the left.
    """
    if attention_mask is None:
        return [0] * len(input_ids)
    if attention_mask.shape != input_ids.shape:
        raise InputError(
            f"attention_mask has the shape {list(attention_mask.shape)}, not that of the tokens,"
            f" {list(input_ids.shape)}; give one value a token"
        )
    return [_padding(row, visible) for row, visible in enumerate((attention_mask != 0).tolist())]


def _padding(row: int, visible: Sequence[bool]) -> int:
    if True not in visible:
        raise InputError(f"row {row} of the batch is empty: its attention_mask hides every token")
    padding = visible.index(True)
    if False in visible[padding:]:
        raise InputError(
            f"row {row} of attention_mask hides tokens after the first visible one; pad on the left, with"
            " tokenizer.padding_side='left'"
        )
    return padding


def prompts_of(input_ids: Tensor, padding: Sequence[int]) -> list[list[int]]:
    """Return each row's own tokens."""
    return [tokens[count:] for tokens, count in zip(input_ids.tolist(), padding, strict=True)]
