"""`orthrus validate`: every config of the house is valid, and a copy with one thing broken is not."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.program import CONFIGS, ERROR, ROOT, InProcess
from support.thorough import nightly_but

from orthrus.cli.validate import find_configs

FILES = sorted(path for path in CONFIGS.rglob("*") if path.is_file())
BROKEN_EVERY_TIME = [CONFIGS / "parts" / "gpu.yaml", CONFIGS / "recipes" / "table-prompt-lookup.yaml"]
OTHER_TYPE: dict[type, Any] = {
    str: [7],
    int: "seven",
    float: "half",
    bool: "maybe",
    list: 7,
    dict: 7,
}  # block: auto may be a number
# Where null says that there is none.
MAY_BE_NULL = {"drafter.block", "drafter.tree", "fit.minutes", "fit.successor_rank", "trace", "training.start"}


def checked(out: str) -> dict[str, str]:
    return dict(re.findall(r"^(.+\.ya?ml): (.+)$", out, flags=re.MULTILINE))


def test_every_config_of_the_house_is_found_checked_and_valid(orthrus: InProcess) -> None:
    done = orthrus("validate", CONFIGS)
    assert (done.code, done.err) == (0, "")
    assert checked(done.out) == {str(file): "ok" for file in FILES}  # nothing in configs is anything but a config
    assert done.out.splitlines()[-1] == f"{len(FILES)} files checked, 0 with errors"
    assert len(FILES) >= 5


def test_the_recipes_that_the_readme_promises_are_there() -> None:
    names = {file.relative_to(CONFIGS).as_posix() for file in FILES}
    assert {"recipes/smollm2-plain.yaml", "recipes/smollm2-prompt-lookup.yaml"} <= names


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_header_is_the_command_that_runs_the_file(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    header = [line for line in lines if line.startswith("#")]
    assert lines[: len(header)] == header
    if file.parent.name == "recipes":
        path = file.relative_to(ROOT)
        run, bench = f"#   orthrus run --config {path} --prompt ", f"#   orthrus bench --config {path} --baseline "
        text = file.read_text(encoding="utf-8")
        command = bench if "shape:" in text else run  # a shape has no tokenizer
        if "parallel:" in text:
            command = command.replace("orthrus", "torchrun --nproc-per-node 2 -m orthrus", 1)
        assert header[-1].startswith(command)


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_folders_are_searched_for_both_endings_and_files_are_taken_as_they_are(tmp_path: Path) -> None:
    first = write(tmp_path, "a/deep/one.yaml", "")
    second = write(tmp_path, "a/two.yml", "")
    write(tmp_path, "a/three.txt", "")
    (tmp_path / "a" / "folder.yaml").mkdir()
    odd = write(tmp_path, "odd.conf", "")
    assert find_configs([tmp_path / "a", odd, first]) == [first, second, odd]


def test_a_piece_need_not_name_every_part_and_a_run_file_must(tmp_path: Path, orthrus: InProcess) -> None:
    piece = write(tmp_path, "parts/piece.yaml", "seed: 1")
    whole = write(tmp_path, "recipes/run.yaml", "use: [../parts/piece.yaml]")
    done = orthrus("validate", tmp_path)
    assert done.code == 2
    assert checked(done.out) == {str(piece): "ok", str(whole): "2 errors"}
    assert done.out.splitlines()[-1] == "2 files checked, 1 with errors"


def test_a_piece_is_a_piece_seen_from_its_own_folder(
    tmp_path: Path, orthrus: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "parts/piece.yaml", "seed: 1")
    monkeypatch.chdir(tmp_path / "parts")
    assert orthrus("validate", "piece.yaml").code == 0


def test_what_is_wrong_in_a_file_that_several_use_is_told_once(tmp_path: Path, orthrus: InProcess) -> None:
    base = write(tmp_path, "parts/base.yaml", "sed: 1")
    write(tmp_path, "parts/one.yaml", "use: [base.yaml]")
    write(tmp_path, "more/parts/two.yaml", "use: [../../parts/base.yaml]")
    done = orthrus("validate", tmp_path)
    assert set(checked(done.out).values()) == {"1 error"}
    assert len(checked(done.out)) == 3
    [line] = done.err.splitlines()
    assert line.startswith(f"{ERROR}{base}: sed: unknown key 'sed' (did you mean 'seed'?)")


@pytest.mark.parametrize(("path", "error"), [("gone", "there is no file or directory"), (".", "there are no .yaml")])
def test_nothing_to_check_is_an_error(path: str, error: str, tmp_path: Path, orthrus: InProcess) -> None:
    assert orthrus("validate", tmp_path / path).error().startswith(error)


def test_a_file_that_is_not_yaml_does_not_hide_the_others(tmp_path: Path, orthrus: InProcess) -> None:
    bad = write(tmp_path, "parts/bad.yaml", "a: [")
    good = write(tmp_path, "parts/good.yaml", "seed: 1")
    done = orthrus("validate", tmp_path)
    assert checked(done.out) == {str(bad): "1 error", str(good): "ok"}
    assert f"{ERROR}{bad}: is not valid YAML: " in done.err


Broken = tuple[str, str, dict[str, Any]]  # what was done, the key that must be complained of, the broken config


def breakages(config: dict[str, Any]) -> Iterator[Broken]:
    """Yield copies of a config with one thing broken in each."""
    for key, value in config.items():
        yield from _break(config, [key], value)
        for name, item in value.items() if isinstance(value, dict) else ():
            yield from _break(config, [key, name], item)
        if isinstance(value, dict):
            yield "unknown option", f"{key}.wrong", _changed(config, [key, "wrong"], 1)
        if isinstance(value, dict) and "name" in value:
            wrong = _changed(config, [key, "name"], f"{value['name']}x")
            yield "misspelled name", f"{key}.name", wrong
    yield "unknown key", "wrong", {**config, "wrong": 1}


def _break(config: dict[str, Any], path: list[str], value: Any) -> Iterator[Broken]:
    dotted = ".".join(path)
    complained = path[0] if path[1:] == ["name"] else dotted
    yield f"wrong type of {dotted}", complained, _changed(config, path, OTHER_TYPE[type(value)])
    if dotted not in MAY_BE_NULL:
        yield f"null for {dotted}", complained, _changed(config, path, None)
    renamed = copy.deepcopy(config)
    inner = renamed if len(path) == 1 else renamed[path[0]]
    inner[f"{path[-1]}x"] = inner.pop(path[-1])
    if path[-1] != "name":  # without a name it is the part that is complained of
        yield f"renamed {dotted}", f"{dotted}x", renamed
    else:
        yield f"renamed {dotted}", path[0], renamed


def _changed(config: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(config)
    (changed if len(path) == 1 else changed[path[0]])[path[-1]] = value
    return changed


def keys(file: Path) -> set[str]:
    """Return the dotted keys of a config."""
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    return {f"{key}.{name}" for key, value in config.items() for name in (value if isinstance(value, dict) else ("",))}


def with_every_key() -> list[Path]:
    """Return configs that have each key between them: those broken in every run, and some that have further keys."""
    chosen = list(BROKEN_EVERY_TIME)
    for file in FILES:
        if keys(file) - set().union(*map(keys, chosen)):
            chosen.append(file)
    return chosen


@pytest.mark.parametrize(
    "file", nightly_but(BROKEN_EVERY_TIME, FILES, thorough=with_every_key()), ids=lambda file: file.name
)
def test_a_broken_copy_is_complained_of_at_the_broken_key(file: Path, tmp_path: Path, orthrus: InProcess) -> None:
    shutil.copytree(CONFIGS, tmp_path / "configs")
    target = tmp_path / "configs" / file.relative_to(CONFIGS)
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    cases = list(breakages(config))
    assert len(cases) > 8
    copies = [target.with_name(f"broken-{number}.yaml") for number in range(len(cases))]
    for broken_copy, (_, _, broken) in zip(copies, cases, strict=True):
        broken_copy.write_text(yaml.safe_dump(broken), encoding="utf-8")
    done = orthrus("validate", *copies)
    assert done.code == 2
    for broken_copy, (what, key, _) in zip(copies, cases, strict=True):
        prefix = f"{ERROR}{broken_copy}: "
        complained = [line.removeprefix(prefix).partition(": ")[0] for line in done.err.splitlines() if prefix in line]
        inherited = f"{key}.namex"  # where a file that is used names the part, it is the option that nobody knows
        assert {key, inherited} & set(complained), (what, done.err)
