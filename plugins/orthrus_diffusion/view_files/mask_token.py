"""The mask token of a view, and which tokens may be one."""

from __future__ import annotations

from orthrus import InputError
from orthrus.optional import ViewTarget

AROUND = "a"  # a text to look at a token in: by itself, its spaces may be lost


def check_mask_token(target: ViewTarget, mask_token_id: int, *, allow_ordinary: bool = False) -> None:
    """Raise InputError if a token cannot be the mask of a view of the target, or stands for text and may not.

    An ordinary token would mean two things to the view: the text that it stands for, where it is an anchor, and nothing
    yet. What is drafted is verified all the same, so that it may be allowed. Call it before training and before saving.
    """
    if mask_token_id >= target.vocabulary_size:
        raise InputError(
            f"the mask token {mask_token_id} is not in the vocabulary of '{target.name}', which has"
            f" {target.vocabulary_size} tokens"
        )
    text = _text_of(target, mask_token_id)
    if text and not allow_ordinary:
        raise InputError(
            f"the mask token {mask_token_id} is an ordinary token of '{target.name}': it stands for {text!r}, which a"
            " view could not tell from what is not known yet; choose a special or an unused token, or set"
            " allow_ordinary_mask=true"
        )


def _text_of(target: ViewTarget, token: int) -> str:
    """Return what a token adds to a text: nothing, if it is special, has no text, or the target has no tokenizer."""
    if target.tokenizer is None:
        return ""
    around = target.tokenizer.encode(AROUND, chat=False)
    without, within = (target.tokenizer.decode([*around, *between, *around]) for between in ([], [token]))
    return "" if within == without else within.removeprefix(AROUND).removesuffix(AROUND)
