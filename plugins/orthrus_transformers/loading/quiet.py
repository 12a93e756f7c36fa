"""Keeps transformers and the hub's client from printing progress bars and warnings of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers for a while and put everything back as it was."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def without_hub_bars() -> Iterator[None]:
    """Keep the hub's client from drawing progress bars; afterwards it is as it was."""
    from huggingface_hub.constants import HF_HUB_DISABLE_PROGRESS_BARS
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled() or HF_HUB_DISABLE_PROGRESS_BARS is not None:  # the variable has the last word
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
