"""Calls that may run foreign code: each says `trust_remote_code=`; nothing unpickles weights or asks on stdin."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from support.program import ROOT

LOADERS = {"from_pretrained", "from_config"}
NEVER = {"input", "torch.load", "torch.hub.load", "get_class_from_dynamic_module", "exec", "eval"}
FOLDERS = ("orthrus", "plugins", "docs")


def untrusting(folder: Path) -> list[str]:
    """Return the calls below a folder that leave open whether foreign code runs, or that no code here may make."""
    complaints = []
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (complaint := _complaint(node)):
                complaints.append(f"{file.relative_to(folder)}, line {node.lineno}: {complaint}")
    return complaints


def _complaint(call: ast.Call) -> str | None:
    name = ast.unparse(call.func)
    if name in NEVER or name.rpartition(".")[2] == "get_class_from_dynamic_module":
        return f"{name} is never called"
    loads = name.rpartition(".")[2] in LOADERS
    if loads and "trust_remote_code" not in [keyword.arg for keyword in call.keywords]:
        return f"{name} does not say trust_remote_code="
    return None


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_foreign_loader_is_told_whether_code_may_run(folder: str) -> None:
    assert untrusting(ROOT / folder) == []


@pytest.mark.parametrize(
    "planted",
    [
        "AutoConfig.from_pretrained(folder)",
        "transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)",
        "AutoTokenizer.from_pretrained(folder, **options)",
        "input('Do you wish to run the custom code? [y/N]')",
        "torch.load(file)",
    ],
)
def test_a_call_that_does_not_say_is_noticed(planted: str, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "planted.py").write_text(f"def load(folder):\n    return {planted}\n", encoding="utf-8")
    (tmp_path / "fine.py").write_text("AutoConfig.from_pretrained(folder, trust_remote_code=False)\n", encoding="utf-8")
    [complaint] = untrusting(tmp_path)
    assert complaint.startswith("inner/planted.py, line 2")
