"""Everything that is written to a terminal goes through `orthrus.terminal`; nothing else opens a way of its own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from support.program import ROOT

WRITERS = {"print", "echo", "secho", "print_exc", "Console", "sys.stdout.write", "sys.stderr.write"}
THE_PLACE = "terminal.py"


def other_writers(folder: Path) -> list[str]:
    """Return the calls below a folder that write to a terminal by themselves."""
    complaints = []
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and file.name != THE_PLACE and _writes(ast.unparse(node.func)):
                complaints.append(f"{file.relative_to(folder)}, line {node.lineno}: {ast.unparse(node.func)}")
    return complaints


def _writes(name: str) -> bool:
    module, _, last = name.rpartition(".")
    return name in WRITERS - {"echo"} or (module in ("typer", "click", "traceback", "rich") and last in WRITERS)


@pytest.mark.parametrize("folder", ["orthrus", "plugins"])
def test_there_is_one_way_to_the_terminal(folder: str) -> None:
    assert other_writers(ROOT / folder) == []


@pytest.mark.parametrize(
    "planted",
    ["print(text)", "typer.echo(text, err=True)", "Console()", "sys.stderr.write(text)", "traceback.print_exc()"],
)
def test_another_way_is_noticed(planted: str, tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text(f"def say(text):\n    {planted}\n    echo(text)\n", encoding="utf-8")
    (tmp_path / THE_PLACE).write_text("sys.stdout.write('')\n", encoding="utf-8")
    [complaint] = other_writers(tmp_path)
    assert complaint.startswith("planted.py, line 2")
