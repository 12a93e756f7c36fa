"""The rules of the architecture, each a function from files to complaints; an empty list means that the rule holds."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import orthrus

LONGEST = 500  # lines of a file
KERNELS = {  # what models of plugins are made of on a GPU
    f"orthrus.kernels.{name}"
    for name in (
        "argmax",
        "available",
        "launch",
        "lookups",
        "normed",
        "skinny_linear",
        "summed_linear",
        "small_ops",
        "tiles",
        "triton_skinny_linear",
        "triton_wait",
        "two_weights",
    )
}
DRAFTER_MODELS = {  # building blocks of drafters with weights of their own
    f"orthrus.drafter_models.{name}"
    for name in (
        "attention",
        "captured",
        "checkpoint",
        "config_keys",
        "fit",
        "key_values",
        "narrow",
        "rotary",
        "row_store",
        "source",
        "trials",
        "vocabulary",
        "whole_weights",
    )
}
RANKS = {
    f"orthrus.ranks.{name}" for name in ("direct_sum", "group", "launch", "together")
}  # of processes that share a model
PUBLIC = {
    "orthrus",
    "orthrus.choices",
    "orthrus.draft_memory",
    "orthrus.draft_states",
    "orthrus.errors",
    "orthrus.files",
    "orthrus.unfinished_files",
    "orthrus.hookspecs",
    "orthrus.one_pass",
    "orthrus.optional",
    "orthrus.paths",
    "orthrus.progress",
    "orthrus.reference",
    "orthrus.rounding",
    "orthrus.state_marks",
    "orthrus.sampling",
    "orthrus.testing",
    "orthrus.trees",
    *DRAFTER_MODELS,
    *KERNELS,
    *RANKS,
}
BUILT_ON = {"orthrus_ray": {"orthrus_serve"}}  # plugins that are another one's front, and which


@dataclass(frozen=True)
class Import:
    """One imported module, with the names taken from it, and whether only type checkers see it."""

    file: Path
    line: int
    module: str
    names: tuple[str, ...]
    typing_only: bool

    @property
    def root(self) -> str:
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        names = f" import {', '.join(self.names)}" if self.names else ""
        return f"{self.file.name}:{self.line}: {self.module}{names}"


def imports(folder: Path) -> Iterator[Import]:
    """Yield every import below a folder (or of one file), those inside functions too."""
    for file in [folder] if folder.is_file() else sorted(folder.rglob("*.py")):
        yield from _imports_in(file, file.read_text(encoding="utf-8"))


@functools.cache
def _imports_in(file: Path, text: str) -> tuple[Import, ...]:
    return tuple(_each_import(file, ast.parse(text)))


def _each_import(file: Path, tree: ast.Module) -> Iterator[Import]:
    guarded = {id(inner) for node in ast.walk(tree) if _is_guard(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        typing_only = id(node) in guarded
        if isinstance(node, ast.Import):
            yield from (Import(file, node.lineno, alias.name, (), typing_only) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            yield Import(file, node.lineno, "." * node.level + (node.module or ""), names, typing_only)


def _is_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def forbidden(folder: Path, roots: Sequence[str]) -> list[str]:
    """Complain about imports of packages whose name starts with one of the roots."""
    return [str(imported) for imported in imports(folder) if imported.root.startswith(tuple(roots))]


def private_doors(plugins: Path) -> list[str]:
    """Complain about plugins that import what is not public in orthrus, or one another."""
    packages = {path.name for path in plugins.iterdir() if path.is_dir()}
    complaints: list[str] = []
    for package in sorted(packages):
        for imported in imports(plugins / package):
            if imported.root == "orthrus" and not _is_public(imported):
                complaints.append(f"{package}: {imported} is not public")
            if imported.root in packages - {package} - BUILT_ON.get(package, set()):
                complaints.append(f"{package}: {imported} is another plugin")
    return complaints


def _is_public(imported: Import) -> bool:
    if imported.names and {f"{imported.module}.{name}" for name in imported.names} <= PUBLIC:
        return True  # modules of a package
    if imported.module not in PUBLIC:
        return False
    public = {*orthrus.__all__, *orthrus.REEXPORTED} | {module.partition(".")[2] for module in PUBLIC}
    return imported.module != "orthrus" or set(imported.names) <= public


def too_long(folder: Path) -> list[str]:
    """Complain about files with too many lines."""
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in sorted(folder.rglob("*.py"))}
    return [f"{file.name} has {lines} lines" for file, lines in lengths.items() if lines > LONGEST]


def missing_names(module: object) -> list[str]:
    """Complain about names in a module's `__all__` that it does not have."""
    return [name for name in getattr(module, "__all__", ()) if not hasattr(module, name)]


def loaded(code: str, roots: Sequence[str], arguments: Sequence[str] = ()) -> list[str]:
    """Return which packages, of those whose name starts with a root, a new process holds after running some code."""
    watched = "import atexit, sys\nsys.stdout = sys.stderr\nshow = lambda: print(*sys.modules, file=sys.__stdout__)\n"
    program = f"{watched}atexit.register(show)\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return sorted(name for name in done.stdout.split() if "." not in name and name.startswith(tuple(roots)))
