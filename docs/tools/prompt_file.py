"""Writes a file of prompts that a program made, or says in a sentence why it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from orthrus import InputError
from orthrus.terminal import echo


def write_prompts(out: Path, make: Callable[[], Sequence[tuple[str, str]]]) -> int:
    """Write prompts, of which each kind and text is given; return the exit code."""
    try:
        prompts = make()
        lines = (json.dumps({"id": f"{kind}-{index}", "prompt": text}) for index, (kind, text) in enumerate(prompts))
        out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except (InputError, OSError) as error:
        echo(f"error: {error}", err=True)
        return 2
    echo(f"{len(prompts)} prompts in {out}")
    return 0
