"""No circle between files or folders, and each folder says what it may import; both are also shown to notice faults."""

from __future__ import annotations

from pathlib import Path

import import_graph as graph
import pytest
from support.program import ROOT

KNOWN = graph.modules(ROOT, ROOT / "plugins")

# Circles that there are still. The list may only become shorter: one that is cut must be taken from it.
STILL: list[tuple[str, ...]] = []


def planted(folder: Path, files: dict[str, str]) -> dict[str, Path]:
    """Write a package of these files and return its modules."""
    for name, code in files.items():
        file = folder / "house" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code, encoding="utf-8")
        for parent in file.relative_to(folder).parents[:-1]:
            (folder / parent / "__init__.py").touch()
    return graph.modules(folder)


def test_there_is_no_circle() -> None:
    assert graph.unexpected(graph.all_circles(KNOWN), STILL) == []


def test_every_package_is_seen() -> None:
    assert {"orthrus", "orthrus_transformers"} < {name for name in KNOWN if "." not in name}
    assert "orthrus.decode" in graph.file_graph(KNOWN)["orthrus.decoder"]


@pytest.mark.parametrize(
    "code",
    [
        "import house.two",
        "from house import two",
        "from house.two import thing",
        "def later():\n    from house.two import thing",
        "if TYPE_CHECKING:\n    from house.two import Thing",
    ],
)
def test_a_circle_of_files_is_noticed(code: str, tmp_path: Path) -> None:
    known = planted(tmp_path, {"one.py": code, "two.py": "import house.three", "three.py": "import house.one"})
    assert graph.all_circles(known) == [("house.one", "house.three", "house.two")]


def test_a_circle_of_folders_is_noticed_where_no_file_is_in_one(tmp_path: Path) -> None:
    files = {"a/one.py": "import house.b.two", "a/three.py": "", "b/two.py": "from house.a import three"}
    assert graph.all_circles(planted(tmp_path, files)) == [("house.a", "house.b")]
    inner = {f"inner/{name}": code.replace("house.", "house.inner.") for name, code in files.items()}
    circles_found = graph.all_circles(planted(tmp_path, inner))
    assert ("house.inner.a", "house.inner.b") in circles_found


def test_a_stale_exception_is_noticed(tmp_path: Path) -> None:
    known = planted(tmp_path, {"one.py": "import house.two", "two.py": "import house.one"})
    pair = ("house.one", "house.two")
    assert graph.unexpected(graph.all_circles(known), [pair]) == []
    assert graph.unexpected([], [pair]) == ["no circle any more, to be taken from the list: house.one, house.two"]
    assert graph.unexpected([pair], []) == ["a circle: house.one, house.two"]


def test_folders_import_what_they_say() -> None:
    assert graph.broken_rules(KNOWN) == []


@pytest.mark.parametrize(
    ("docstring", "complaints"),
    [
        ("Rows.\n\nMay import: b, c.", []),
        ("Rows.\n\nMay import:\n    b,\n    c.", ["house.a: its docstring must say"]),
        ("Rows.", ["house.a: its docstring must say"]),
        ("May import: b, c.", ["house.a: its docstring must say"]),
        ("Rows.\n\nMay import: b.", ["house.a: imports c, which its docstring does not allow"]),
        ("Rows.\n\nMay import: b,\nc, d.", ["house.a: its docstring allows d, which it does not import"]),
        ("Rows.\n\nMay import: nothing else.", ["house.a: imports b, which", "house.a: imports c, which"]),
    ],
)
def test_a_broken_rule_is_noticed(docstring: str, complaints: list[str], tmp_path: Path) -> None:
    files = {"a/one.py": "import house.b.two\nimport house.c\nimport torch", "b/two.py": "", "c.py": "", "d.py": ""}
    planted(tmp_path, files)
    (tmp_path / "house" / "b" / "__init__.py").write_text('"""B.\n\nMay import: nothing else.\n"""', encoding="utf-8")
    (tmp_path / "house" / "a" / "__init__.py").write_text(f'"""{docstring}\n"""', encoding="utf-8")
    broken = graph.broken_rules(graph.modules(tmp_path))
    assert len(broken) == len(complaints)
    assert all(complaint.startswith(start) for complaint, start in zip(broken, complaints, strict=True)), broken


def test_folders_of_a_folder_are_named_from_the_nearest_common_one(tmp_path: Path) -> None:
    files = {"a/b/one.py": "import house.a.c.two\nimport house.d.e.three", "a/c/two.py": "", "d/e/three.py": ""}
    imported = graph.file_graph(planted(tmp_path, files))
    assert graph.outside("house.a.b", imported) == {"a.c", "d"}
    assert graph.outside("house.a", imported) == {"d"}
