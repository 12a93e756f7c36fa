"""Tests look at what is public: no private attribute of the product, nor a private name of another module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.program import ROOT

ALLOWED = {  # of other packages, which tell it nowhere else
    "_C": "torch: what it was built with",
    "_has_mkldnn": "torch: whether it was built with oneDNN, taken away to see what happens without",
    "_is_mkldnn_bf16_supported": "torch: whether oneDNN has bfloat16 on this machine",
    "_reorder_linear_weight": "torch: the operator that copies a weight, which is made to find no memory",
    "_inductor": "torch: where its compiler looks for one of C++",
    "_dynamo": "torch: how many graphs were compiled",
    "_schema": "torch: the name of an operator, and whether it returns a view",
    "_attn_implementation": "transformers: which attention a model has",
    "_experts_implementation": "transformers: which kernels a model's experts have",
    "_subclasses": "torch: tensors that hold no values, with which a wait for the host is found",
    "_forward_hooks": "torch: hooks of a module, which are to be gone",
    "_forward_pre_hooks": "torch: the same, of what comes before",
    "_exit": "the standard library: ends a process without tidying up",
}
SETTERS = {"getattr", "setattr", "hasattr", "delattr"}  # functions, and methods of pytest's monkeypatch


def private_names(folder: Path) -> list[str]:
    """Return the places below a folder that reach for a private name which is not their own class's."""
    return [
        f"{file.relative_to(folder)}:{line}: {name}"
        for file in sorted(folder.rglob("*.py"))
        for line, name in _reached_for(ast.parse(file.read_text(encoding="utf-8")), in_class=False)
        if name not in ALLOWED
    ]


def _reached_for(node: ast.AST, in_class: bool) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Attribute) and _is_private(node.attr) and not (in_class and _is_own(node.value)):
        yield node.lineno, node.attr
    if isinstance(node, ast.ImportFrom):
        yield from ((node.lineno, alias.name) for alias in node.names if _is_private(alias.name))
    if isinstance(node, ast.Call) and _called(node.func) in SETTERS:
        for argument in node.args:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield from ((node.lineno, name) for name in argument.value.split(".") if _is_private(name))
    for child in ast.iter_child_nodes(node):
        yield from _reached_for(child, in_class or isinstance(node, ast.ClassDef))


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name.isidentifier() and name != "_"


def _is_own(value: ast.expr) -> bool:
    return isinstance(value, ast.Name) and value.id in ("self", "cls")


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def test_tests_reach_for_nothing_private() -> None:
    assert private_names(ROOT / "tests") == []


PLANTED = {
    "an attribute": ("target._engine.run()", "_engine"),
    "an attribute that is set": ("bench._advance = print", "_advance"),
    "one of a class": ("write = Cache._write", "_write"),
    "one by its name": ("getattr(target, '_engine')", "_engine"),
    "one that is patched": ("monkeypatch.setattr(Cache, '_write', print)", "_write"),
    "one that is patched by its path": ("patch.setattr('orthrus.sampling._after', print)", "_after"),
    "a name that is imported": ("from orthrus.sampling import _after", "_after"),
    "one of what is only called self": ("def swap(self):\n    self._keys = []", "_keys"),
    "one of the class above": ("class Mutant(Cache):\n    def grow(self):\n        super()._grow()", "_grow"),
}


@pytest.mark.parametrize("how", PLANTED)
def test_what_reaches_for_something_private_is_noticed(how: str, tmp_path: Path) -> None:
    code, name = PLANTED[how]
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "planted.py").write_text(code + "\n", encoding="utf-8")
    [complaint] = private_names(tmp_path)
    assert complaint.startswith("inner/planted.py:") and complaint.endswith(f": {name}")


def test_what_is_a_classs_own_or_public_is_not(tmp_path: Path) -> None:
    code = (
        "class Spy:\n    def see(self):\n        self._seen = 1\n        return self.__dict__, torch._dynamo, a._, '_x'"
    )
    (tmp_path / "honest.py").write_text(code + "\n", encoding="utf-8")
    assert private_names(tmp_path) == []
