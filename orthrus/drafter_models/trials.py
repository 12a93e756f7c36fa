"""Trials that drafters with weights of their own share: wrong taps, rotary positions, masks and dtypes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice

import torch

from orthrus.interfaces import Target
from orthrus.optional import HasSpecialTokens, HasVocabulary
from orthrus.values import TapPoint, Trial

THETAS = (10_000, 500_000, 1_000_000, 5_000_000)  # that models are published with
DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
MASKS = 8  # that are tried, at most


def tap_trials(taps: Sequence[TapPoint], layers: int) -> Iterator[Trial]:
    """Yield trials of what is tapped: every tap one layer off, and the last one on the other side of the final norm."""
    boundaries = [layers if tap == "final" else int(tap) for tap in taps]
    for step, where, wrong in ((-1, "lower", "high"), (1, "higher", "low")):
        moved = [boundary + step for boundary in boundaries]
        if all(0 <= boundary <= layers for boundary in moved):
            yield Trial(
                f"taps one layer {where}",
                f"the checkpoint's layer ids are read one layer too {wrong}",
                {"boundaries": moved},
            )
    if layers in boundaries:
        side = "before" if "final" in taps else "after"
        yield Trial(
            f"last tap {side} the final norm",
            f"the drafter was trained on the last state {side} the final norm",
            {"final_norm": "final" not in taps},
        )


def rotary_trials(theta: float, offset: int) -> Iterator[Trial]:
    """Yield trials of rotary positions: other bases, and drafts that stand elsewhere behind their text."""
    for base in THETAS:
        if base != theta:
            yield Trial(
                f"rotary base {base:,}", f"the drafter was trained with the rotary base {base:,}", {"rope_theta": base}
            )
    for other in (-1, 0, 1):
        if other != offset:
            yield Trial(
                f"position offset {other}",
                f"the drafter was trained with drafts at an offset of {other} behind their text",
                {"position_offset": other},
            )


def dtype_trials(dtype: torch.dtype) -> Iterator[Trial]:
    """Yield trials of the dtype of the drafter's weights."""
    for other, name in DTYPES.items():
        if other != dtype:
            yield Trial(f"drafter in {name}", f"the drafter's weights do not bear {_spelled(dtype)}", {"dtype": name})


def mask_trials(mask: int, target: Target) -> Iterator[Trial]:
    """Yield trials of other masks: special tokens, those that say so first, and tokens that stand for nothing."""
    for other in islice((token for token in _masks(target) if token != mask), MASKS):
        yield Trial(
            f"mask token {other}", f"the drafter was trained with the mask token {other}", {"mask_token_id": other}
        )


def _masks(target: Target) -> Iterator[int]:
    tokenizer, size = target.tokenizer, target.vocabulary_size
    special: Mapping[str, int] = tokenizer.special_tokens if isinstance(tokenizer, HasSpecialTokens) else {}
    telling = sorted(special, key=lambda text: ("mask" not in text.lower(), "pad" not in text.lower()))
    first = [special[text] for text in telling if "mask" in text.lower() or "pad" in text.lower()]
    known = tokenizer.vocabulary().values() if isinstance(tokenizer, HasVocabulary) else ()
    beyond = max(known, default=size - 2) + 1
    tokens = chain(first, (beyond, size - 1), (special[text] for text in telling))
    return iter(dict.fromkeys(token for token in tokens if 0 <= token < size))


def _spelled(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
