"""Loading of a decoder, with progress on standard error."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from orthrus.terminal import console

if TYPE_CHECKING:
    from orthrus.decoder import Decoder
    from orthrus.registry.plugins import Plugins


def load_decoder(config: Path, overrides: Sequence[str] | None, plugins: Plugins) -> Decoder:
    """Return the decoder of a run file, telling what is being waited for."""
    terminal = console(err=True)
    with terminal.status("loading"):
        from orthrus.build import load
        from orthrus.ranks.together import check_shared

        notify = partial(terminal.print, markup=False, soft_wrap=True)
        decoder = load(config, dotted=overrides or [], plugins=plugins, notify=notify)
        check_shared(decoder.target)
        return decoder
