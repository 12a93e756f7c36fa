"""What passes cost is kept whole or not at all, and what is damaged is measured anew."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from orthrus.drafting.cost_cache import cost_file, read_costs, write_costs

IDENTITY = {"pass": "verify", "rows": 1}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path / "cache"))


def damage_json(file: Path) -> None:
    file.write_text("{")


def damage_bytes(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")


def lose_seconds(file: Path) -> None:
    change(file, seconds=None)


def negative(file: Path) -> None:
    change(file, seconds={"0": -1.0})


def endless(file: Path) -> None:
    change(file, seconds={"0": float("inf")})


def text(file: Path) -> None:
    change(file, seconds={"0": "quick"})


def no_size(file: Path) -> None:
    change(file, seconds={"none": 1.0})


def other_format(file: Path) -> None:
    change(file, format="orthrus-pass-costs 0")


def other_machine(file: Path) -> None:
    change(file, identity={**IDENTITY, "device": "another"})


def nothing(file: Path) -> None:
    file.write_text("null")


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


DAMAGES = [
    damage_json, damage_bytes, lose_seconds, negative, endless, text, no_size, other_format, other_machine, nothing,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_told_of_and_measured_anew(damage: Callable[[Path], None]) -> None:
    notes: list[str] = []
    write_costs(IDENTITY, {0: 1.0, 1: 1.5}, notes.append)
    assert read_costs(IDENTITY, notes.append) == {0: 1.0, 1: 1.5}
    file = cost_file(IDENTITY)
    damage(file)
    assert read_costs(IDENTITY, notes.append) == {}
    assert notes == [f"the costs of passes in '{file}' are damaged; they are measured anew"]
    write_costs(IDENTITY, {0: 2.0}, notes.append)
    assert read_costs(IDENTITY, notes.append) == {0: 2.0}
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_two_writers_leave_one_whole_file() -> None:
    threads = [threading.Thread(target=write_costs, args=(IDENTITY, {0: 1.0 * n}, print)) for n in (1, 2)]
    for thread in threads:
        thread.start()
        thread.join()
    assert read_costs(IDENTITY, print) == {0: 2.0}
