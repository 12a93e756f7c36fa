"""The Makefile names folders that exist: a move must not leave a target behind."""

from __future__ import annotations

import re
from pathlib import Path

from support.program import ROOT

MENTIONED = re.compile(r"(?:tests|docs|configs)/[\w./-]+")


def missing_paths(makefile: str, root: Path) -> list[str]:
    return [path for path in MENTIONED.findall(makefile) if not (root / path).exists()]


def test_every_path_of_the_makefile_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert MENTIONED.findall(makefile)
    assert missing_paths(makefile, ROOT) == []


def test_a_path_that_is_not_there_is_noticed() -> None:
    assert missing_paths("\tpytest tests/gone tests/lossless\n", ROOT) == ["tests/gone"]
