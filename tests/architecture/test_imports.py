"""What may import what, how long a file may be; every rule is also shown to notice a file that breaks it."""

from __future__ import annotations

from pathlib import Path

import architecture_checks as checks
import pytest
from support.program import CONFIGS, ROOT

import orthrus
import orthrus.testing

HEAVY = ("torch", "transformers", "matplotlib")
MAIN = "from orthrus.cli import main; main()"
QUICK = {
    "import orthrus": ("import orthrus", []),
    "orthrus --help": (MAIN, ["--help"]),
    "orthrus plugins --json": (MAIN, ["plugins", "--json"]),
    "orthrus validate configs": (MAIN, ["validate", str(CONFIGS)]),
}


def plant(folder: Path, code: str, name: str = "planted.py") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(code, encoding="utf-8")
    return file


@pytest.mark.parametrize("name", QUICK)
def test_what_must_be_quick_loads_no_torch(name: str) -> None:
    code, arguments = QUICK[name]
    packages = checks.loaded(code, [*HEAVY, "orthrus"], arguments)
    assert "orthrus" in packages  # it did run
    assert [package for package in packages if package.startswith(HEAVY)] == []


def test_the_runtime_imports_no_plugin_and_no_transformers() -> None:
    assert checks.forbidden(ROOT / "orthrus", ["orthrus_", "transformers", "huggingface_hub"]) == []


def test_the_loop_imports_no_machinery() -> None:
    decode = ROOT / "orthrus" / "decode.py"
    assert checks.forbidden(decode, ["pluggy", "omegaconf", "transformers"]) == []
    assert checks.forbidden(decode, ["torch"])  # the file is read


@pytest.mark.parametrize(
    "code",
    ["import orthrus_caches", "def later():\n    from transformers import AutoModel", "import transformers.utils as u"],
)
def test_a_forbidden_import_is_noticed(code: str, tmp_path: Path) -> None:
    plant(tmp_path, code)
    assert len(checks.forbidden(tmp_path, ["orthrus_", "transformers"])) == 1


def test_plugins_use_no_private_door() -> None:
    assert checks.private_doors(ROOT / "plugins") == []


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("from orthrus.decoder import Decoder", "orthrus_one: planted.py:1: orthrus.decoder import Decoder"),
        ("from orthrus import Draft, decoder", "orthrus_one: planted.py:1: orthrus import Draft, decoder"),
        ("from orthrus import *", "orthrus_one: planted.py:1: orthrus import *"),
        ("import orthrus.plugins", "orthrus_one: planted.py:1: orthrus.plugins"),
        ("from orthrus.config import Config", "orthrus_one: planted.py:1: orthrus.config import Config"),
        ("def later():\n    import orthrus_two.part", "orthrus_one: planted.py:2: orthrus_two.part"),
    ],
)
def test_a_private_door_is_noticed(code: str, complaint: str, tmp_path: Path) -> None:
    plant(tmp_path / "orthrus_one", code)
    plant(tmp_path / "orthrus_two", "from orthrus import Draft", "part.py")
    [door] = checks.private_doors(tmp_path)
    assert door.startswith(complaint)


def test_a_plugin_may_be_built_on_another_but_not_the_other_on_it(tmp_path: Path) -> None:
    plant(tmp_path / "orthrus_ray", "from orthrus_serve.state import ServerState")
    plant(tmp_path / "orthrus_serve", "import orthrus_ray")
    assert checks.private_doors(tmp_path) == ["orthrus_serve: planted.py:1: orthrus_ray is another plugin"]


@pytest.mark.parametrize(
    "code",
    [
        "import orthrus\nfrom orthrus import Draft, option\nfrom orthrus.testing import greedy",
        "from orthrus.hookspecs import Register\nfrom orthrus.sampling import accept_greedy",
        "if TYPE_CHECKING:\n    from orthrus import Config",
        "from orthrus_one.options import Options",
    ],
)
def test_a_public_door_is_open(code: str, tmp_path: Path) -> None:
    plant(tmp_path / "orthrus_one", code)
    assert checks.private_doors(tmp_path) == []


@pytest.mark.parametrize("folder", ["orthrus", "plugins", "tests"])
def test_no_file_is_long(folder: str) -> None:
    assert checks.too_long(ROOT / folder) == []


def test_a_long_file_is_noticed(tmp_path: Path) -> None:
    plant(tmp_path, "\n" * checks.LONGEST, "full.py")
    plant(tmp_path / "inner", "\n" * (checks.LONGEST + 1), "long.py")
    assert checks.too_long(tmp_path) == ["long.py has 501 lines"]


@pytest.mark.thorough
def test_the_kit_stands_alone() -> None:
    assert checks.loaded("import orthrus.testing", ["orthrus_", "transformers", "hypothesis", "pytest"]) == []


def test_hypothesis_is_imported_at_one_place() -> None:
    assert {complaint.split(":")[0] for complaint in checks.forbidden(ROOT / "orthrus", ["hypothesis"])} == {
        "with_hypothesis.py"
    }


def test_public_names_exist() -> None:
    assert checks.missing_names(orthrus) == []
    assert checks.missing_names(orthrus.testing) == []
    assert sorted(orthrus.__all__) == dir(orthrus)
    assert [name for name in orthrus.REEXPORTED if not hasattr(orthrus, name) or name in orthrus.__all__] == []


def test_a_public_name_that_does_not_exist_is_noticed() -> None:
    class Module:
        __all__ = ("here", "gone")
        here = 1

    assert checks.missing_names(Module) == ["gone"]
    with pytest.raises(AttributeError, match="module 'orthrus' has no attribute 'gone'"):
        _ = orthrus.gone
