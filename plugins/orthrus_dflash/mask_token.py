"""The mask token of a drafter, which must not stand for text."""

from __future__ import annotations

from orthrus import InputError, Tokenizer

AROUND = "a"  # a text to look at a token in: by itself, its spaces may be lost


def check_mask_token(mask_token_id: int, tokenizer: Tokenizer | None, source: str, *, allow_ordinary: bool) -> None:
    """Raise InputError if the mask stands for text, where a tokenizer can tell; a drafter was trained with one mask.

    An ordinary token in a drafter's config is nearly always the wrong id: then it drafts badly, though nothing fails.
    """
    if tokenizer is None or allow_ordinary:
        return
    around = tokenizer.encode(AROUND, chat=False)
    without, within = (tokenizer.decode([*around, *between, *around]) for between in ([], [mask_token_id]))
    if within != without:
        text = within.removeprefix(AROUND).removesuffix(AROUND)
        raise InputError(
            f"the mask token {mask_token_id} of '{source}' is an ordinary token of the target: it stands for {text!r};"
            " if the drafter was trained with it, set allow_ordinary_mask=true"
        )
