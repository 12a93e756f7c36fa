"""The graph of imports between files and folders: circles in it, and what each folder says that it may import.

Imports inside functions and for type checkers count as any others: they tie files together for a reader all the same.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from architecture_checks import Import, imports

Graph = Mapping[str, set[str]]
RULE = re.compile(r"May import: (.*?)\.\s*$", re.DOTALL)  # ends the docstring of a folder's __init__.py
NOTHING = "nothing else"


def modules(*roots: Path) -> dict[str, Path]:
    """Return the file of every module, by dotted name, of the packages that lie directly in these folders."""
    packages = [folder for root in roots for folder in sorted(root.iterdir()) if (folder / "__init__.py").is_file()]
    return {_dotted(file, package.parent): file for package in packages for file in sorted(package.rglob("*.py"))}


def _dotted(file: Path, root: Path) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def file_graph(known: Mapping[str, Path]) -> Graph:
    """Return which modules each module imports."""
    return {
        name: {target for imported in imports(file) for target in _targets(imported, known)} - {name}
        for name, file in known.items()
    }


def _targets(imported: Import, known: Mapping[str, Path]) -> Iterator[str]:
    if imported.module in known and not imported.names:
        yield imported.module
    for name in imported.names if imported.module in known else ():
        inner = f"{imported.module}.{name}"
        yield inner if inner in known else imported.module


def folder_graph(files: Graph, package: str) -> Graph:
    """Return which direct children of a package, files and folders, import which; its __init__.py is left out."""
    graph: dict[str, set[str]] = {}
    for name, targets in files.items():
        if source := _child(name, package):
            graph.setdefault(source, set()).update(filter(None, (_child(target, package) for target in targets)))
            graph[source].discard(source)
    return graph


def _child(name: str, package: str) -> str | None:
    """Return the direct child of a package that a module is, or lies in; None for others and for the package."""
    inside = name.removeprefix(f"{package}.")
    return None if inside == name else f"{package}.{inside.partition('.')[0]}"


def circles(graph: Graph) -> list[tuple[str, ...]]:
    """Return the largest sets of nodes that all reach one another, sorted; a node alone is none."""
    reach = {name: _reached(graph, name) for name in graph}
    groups = {tuple(sorted(other for other in reach[name] if name in reach.get(other, ()))) for name in graph}
    return sorted(circle for circle in groups if len(circle) > 1)


def _reached(graph: Graph, start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for target in graph.get(waiting.pop(), set()) - seen:
            seen.add(target)
            waiting.append(target)
    return seen


def all_circles(known: Mapping[str, Path]) -> list[tuple[str, ...]]:
    """Return the circles between files, and those between the files and folders of each package."""
    files = file_graph(known)
    folders = [circle for name in packages(known) for circle in circles(folder_graph(files, name))]
    return sorted({*circles(files), *folders})


def packages(known: Mapping[str, Path]) -> list[str]:
    """Return the names of the packages among the modules."""
    return [name for name, file in known.items() if file.name == "__init__.py"]


def unexpected(existing: Iterable[tuple[str, ...]], excepted: Iterable[tuple[str, ...]]) -> list[str]:
    """Complain about circles that are no exceptions, and about exceptions that are no circles any more."""
    existing, excepted = list(existing), list(excepted)
    return [
        *(f"a circle: {', '.join(circle)}" for circle in existing if circle not in excepted),
        *(
            f"no circle any more, to be taken from the list: {', '.join(circle)}"
            for circle in excepted
            if circle not in existing
        ),
    ]


def broken_rules(known: Mapping[str, Path]) -> list[str]:
    """Complain about folders inside a package whose docstring gives no rule, or another than their imports follow."""
    files = file_graph(known)
    return [complaint for name in packages(known) if "." in name for complaint in _broken(name, known[name], files)]


def _broken(folder: str, file: Path, files: Graph) -> Iterator[str]:
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    rule = RULE.search(text)
    if rule is None or not text.partition("May import: ")[0].strip():
        yield f"{folder}: its docstring must say what it is, and end with 'May import: ... .'"
        return
    allowed = set() if rule[1] == NOTHING else set(re.split(r",\s+", rule[1]))
    imported = outside(folder, files)
    yield from (
        f"{folder}: imports {module}, which its docstring does not allow" for module in sorted(imported - allowed)
    )
    yield from (
        f"{folder}: its docstring allows {module}, which it does not import" for module in sorted(allowed - imported)
    )


def outside(folder: str, files: Graph) -> set[str]:
    """Return the files and folders of the same package that a folder imports, by name from the package's root.

    What lies in another folder counts as that folder, the outermost that is not a folder of both.
    """
    root = folder.partition(".")[0]
    inside = {name for name in files if name == folder or name.startswith(f"{folder}.")}
    targets = {target for name in inside for target in files[name] - inside if target.startswith(f"{root}.")}
    return {_nearest(folder, target).removeprefix(f"{root}.") for target in targets}


def _nearest(folder: str, target: str) -> str:
    here, there = folder.split("."), target.split(".")
    shared = next((i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b), min(len(here), len(there)))
    return ".".join(there[: shared + 1])
