"""`orthrus new`: packages whose own tests pass at once; names and folders that are refused; never half a package."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from support.program import InProcess
from support.site import Site
from support.thorough import nightly_but
from support.wheels import INSTALL, Environment, build_wheel

from orthrus.scaffold.package_names import KINDS, PackageNames
from orthrus.scaffold.write_package import package_files, write_package

ROOT = Path(__file__).parents[2]
ORTHRUS = ("-c", "from orthrus.cli import main; main()")
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
TESTS_AND_RECIPES = """
import sys, pytest
from orthrus.cli import main

if code := pytest.main(["-q", "-p", "no:cacheprovider"]):
    sys.exit(code)
sys.argv = ["orthrus", "validate", "recipes"]
main()
"""
NAME = "my_own"
DRAFTER = [
    "README.md",
    "orthrus_my_own/__init__.py",
    "orthrus_my_own/drafter.py",
    "orthrus_my_own/options.py",
    "pyproject.toml",
    "recipes/my_own.yaml",
    "tests/conftest.py",
    "tests/test_conformance.py",
    "tests/test_recipe.py",
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_a_package_is_written_into_a_folder_of_its_name(orthrus: InProcess, here: Path) -> None:
    done = orthrus("new", "drafter", NAME)
    assert (done.code, done.err) == (0, "")
    assert entries(here) == ["orthrus-my-own"]  # and nothing unfinished beside it
    assert contents(here / "orthrus-my-own") == DRAFTER
    listed = done.out.splitlines()
    assert listed[:-1] == [f"orthrus-my-own/{path}" for path in DRAFTER]
    assert listed[-1].endswith("pip install -e './orthrus-my-own[test]'")


@pytest.mark.parametrize("kind", nightly_but([], KINDS, thorough=["target"]))  # and a drafter below
def test_its_tests_pass_and_its_recipe_is_valid(kind: str, orthrus: InProcess, here: Path) -> None:
    assert orthrus("new", kind, NAME, "package").code == 0
    zipfile.ZipFile(build_wheel(here / "package", here)).extractall(here / "site")  # pip's part is in the next test
    path = os.pathsep.join([str(here / "site"), *map(str, (ROOT, ROOT / "plugins"))])
    variables = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", TESTS_AND_RECIPES]
    done = subprocess.run(command, cwd=here / "package", env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " checks ran: " in done.stdout


@pytest.mark.thorough  # wheels, an environment, and programs in it
def test_it_works_where_orthrus_is_installed_from_its_wheel(here: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "environment", build_wheel(ROOT, tmp_path))
    for kind in KINDS:
        done = environment.run(*ORTHRUS, "new", kind, f"{NAME}_{kind}", kind, cwd=here)
        assert done.returncode == 0, done.stderr
    pip = [sys.executable, "-m", "pip", "--python", str(environment.python), *INSTALL]
    subprocess.run([*pip, str(build_wheel(here / "drafter", tmp_path))], check=True, capture_output=True)
    recipe = f"recipes/{NAME}_drafter.yaml"
    for command in (  # those of its README
        PYTEST,
        (*ORTHRUS, "check", f"{NAME}_drafter", "--kind", "drafter"),
        (*ORTHRUS, "validate", "recipes"),
        (*ORTHRUS, "run", "--config", recipe, "--prompt", "abc"),
    ):
        done = environment.run(*command, cwd=here / "drafter")
        assert done.returncode == 0, done.stdout + done.stderr
    taken = environment.run(*ORTHRUS, "new", "drafter", f"{NAME}_drafter", "another", cwd=here)
    assert taken.returncode == 2
    assert "there is a drafter 'my_own_drafter' already, of plugin 'orthrus_my_own_drafter'" in taken.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_in_good_style(kind: str, here: Path) -> None:
    write_package(PackageNames(kind, NAME), here / "package")
    for command in (["check", "--select", "E,F,I,UP,B,RET,SIM"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", "--no-cache", "--line-length", "120", "."],
            cwd=here / "package",  # which tells ruff what is the package's own
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["drafter", "prompt_lookup"],
            "there is a drafter 'prompt_lookup' already, of plugin 'orthrus_drafters'; choose",
        ),
        (["attention", "sdpa"], "there is an attention 'sdpa' already, of plugin 'orthrus_attention'"),
        (["cache", "caches"], "there is a package 'orthrus_caches' installed already; choose another name"),
        (["engine", "mine"], "unknown kind of part 'engine'; known: attention, cache, drafter, target, verifier"),
        (["draftr", "mine"], "unknown kind of part 'draftr' (did you mean 'drafter'?)"),
        *[
            (["drafter", name], f"{name!r} cannot name a part: write up to 40 of a-z, 0-9 and single underscores")
            for name in ("", "My", "my-own", "my own", "1st", "_a", "a_", "a__b", "../up", "a.b", "naïve", "a" * 41)
        ],
    ],
)
def test_names_that_cannot_be_taken_are_refused(
    arguments: list[str], sentence: str, orthrus: InProcess, here: Path
) -> None:
    assert orthrus("new", *arguments).error().startswith(sentence)
    assert entries(here) == []


def test_a_name_that_another_plugin_has_is_taken_for_its_kind_only(orthrus: InProcess, site: Site) -> None:
    code = """
    import orthrus

    @orthrus.hookimpl
    def register_drafters(register):
        register("theirs", "their_package:Drafter")
    """
    site.install("their_package", code)
    assert (
        "there is a drafter 'theirs' already, of plugin 'their_package'" in orthrus("new", "drafter", "theirs").error()
    )
    assert orthrus("new", "cache", "theirs").code == 0


@pytest.mark.parametrize("there", ["folder", "empty folder", "file", "link to nowhere"])
def test_what_is_there_is_left_as_it_is(there: str, orthrus: InProcess, here: Path) -> None:
    place = here / "place"
    if there == "file":
        place.write_text("mine")
    elif there == "link to nowhere":
        place.symlink_to(here / "nowhere")
    else:
        place.mkdir()
    if there == "folder":
        (place / "README.md").write_text("mine")
    before = {path: path.read_text() for path in here.rglob("*") if path.is_file()}
    sentence = orthrus("new", "verifier", NAME, "place").error()
    assert sentence == "'place' exists already, and nothing in it was changed; name another folder"
    assert {path: path.read_text() for path in here.rglob("*") if path.is_file()} == before
    assert entries(here) == ["place"]


def test_nothing_is_left_of_what_could_not_be_written(
    orthrus: InProcess, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    own = Path.write_text

    def until_full(self: Path, *given: Any, **more: Any) -> int:
        written.append(self)
        if len(written) == 4:
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return own(self, *given, **more)

    monkeypatch.setattr(Path, "write_text", until_full)
    assert orthrus("new", "cache", NAME).error() == "'orthrus-my-own' cannot be written: No space left on device"
    assert len(written) == 4
    assert entries(here) == []


def test_a_folder_below_a_file_is_refused(orthrus: InProcess, here: Path) -> None:
    (here / "file").write_text("mine")
    assert orthrus("new", "target", NAME, "file/below").error().startswith("'file/below' cannot be written: ")
    assert (here / "file").read_text() == "mine"


def test_names_are_put_everywhere() -> None:
    for kind in KINDS:
        files = dict(package_files(PackageNames(kind, NAME)))
        assert {f"orthrus_my_own/{kind}.py", "recipes/my_own.yaml"} <= set(files)
        assert "class MyOwn" + kind.capitalize() in files[f"orthrus_my_own/{kind}.py"]
        for path, text in files.items():
            words = (word for line in text.splitlines() if not line.startswith("$ ") for word in line.split())
            assert [word for word in words if "$" in word] == [], path
            assert not {"PACKAGE", "NAME"} & {*path.split("/")}, path
