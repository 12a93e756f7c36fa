"""Which rows of a dataset are decoded together, and whose output they may go into; without Ray and Arrow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orthrus import InputError
from orthrus.testing.profiles import fewer
from orthrus_ray.dataset.json_lines import JsonLines, joined, kind_of
from orthrus_ray.dataset.manifest import NAME, claim
from orthrus_ray.dataset.settings import DatasetSettings

VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3) | st.just([1])
ROWS = st.lists(st.dictionaries(st.sampled_from("ab"), VALUES), min_size=1, max_size=12)
INPUT = [{"name": "in.jsonl", "size": 3, "digest": "d", "rows": 1}]


@fewer(3)
@given(rows=ROWS, size=st.integers(1, 5), data=st.data())
def test_chunks_are_all_rows_of_all_files_once(
    rows: list[dict[str, Any]], size: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("files")
    cut = data.draw(st.integers(0, len(rows)))
    files = [folder / "one.jsonl", folder / "two.jsonl"]
    for file, some in zip(files, (rows[:cut], rows[cut:]), strict=True):
        blank = data.draw(st.sampled_from(["", "\n", "  \n\n"]))
        file.write_text("".join(f"{blank}{json.dumps(row, ensure_ascii=False)}\n" for row in some), encoding="utf-8")
    lines = JsonLines(files)
    read: list[object] = []
    for number, chunk in enumerate(lines.chunks(size)):
        assert (chunk.number, chunk.row) == (number, len(read)) and 1 <= chunk.rows <= size
        content = Path(chunk.file).read_bytes()[chunk.start :].splitlines()
        read += [json.loads(line) for line in content if line.strip()][: chunk.rows]
    assert read == rows
    assert [file["rows"] for file in lines.identity] == [cut, len(rows) - cut]


@given(st.lists(VALUES, max_size=6))
def test_a_column_has_one_kind_whatever_the_order_of_its_values(values: list[Any]) -> None:
    kinds = set()
    for ordered in (values, values[::-1], sorted(values, key=repr)):
        kind = None
        for value in ordered:
            kind = joined(kind, kind_of(value))
        kinds.add(kind)
    [kind] = kinds
    each = {kind_of(value) for value in values} - {None}
    assert (kind is None) == (not each) and (len(each) < 2 or kind == "json" or each == {"int64", "float64"})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: is not JSON"),
        ("[1]", "line 2: must be an object"),
        ('"x"', "must be an object"),
        (r'{"prompt": "half: \ud83d"}', r"line 2: \\ud83d is half of a letter"),
        (r'{"half \udc00": 1}', r"line 2: \\udc00 is half of a letter"),
    ],
)
def test_a_line_that_is_no_row_is_said(line: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(f"{{}}\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match=said):
        JsonLines([file])


@pytest.fixture
def settings(tmp_path: Path) -> DatasetSettings:
    """Give the settings of a decoding into a new folder."""
    config: Mapping[str, Any] = {"seed": 1, "stop": {"max_new_tokens": 8}}
    return DatasetSettings(config, tmp_path / "in.jsonl", tmp_path / "out")


def test_the_same_decoding_goes_on_with_its_parts(settings: DatasetSettings) -> None:
    first = claim(replace(settings, part_rows=7), INPUT, "id")
    assert claim(replace(settings, workers=5, batch=1), INPUT, "id") == first and first.part_rows == 7


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"config": {"seed": 2, "stop": {"max_new_tokens": 8}}}, r"from another config \('config.seed' differs"),
        ({"config": {"seed": 1, "stop": {}}}, r"another config \('config.stop.max_new_tokens' differs"),
        ({"column": "question"}, "another column of prompts"),
        ({"part_rows": 3}, "parts of another size"),
        ({"chat": False}, r"\('chat' differs"),
    ],
)
def test_another_decoding_is_kept_from_an_output(changed: dict[str, Any], said: str, settings: DatasetSettings) -> None:
    claim(settings, INPUT, "id")
    with pytest.raises(InputError, match=said):
        claim(replace(settings, **changed), INPUT, "id")


def test_another_input_is_kept_from_an_output(settings: DatasetSettings) -> None:
    claim(settings, INPUT, "id")
    with pytest.raises(InputError, match="from another input"):
        claim(settings, [{**INPUT[0], "digest": "e"}], "id")


def test_a_folder_of_something_else_is_left_alone(settings: DatasetSettings) -> None:
    settings.output.mkdir()
    (settings.output / "thesis.txt").write_text("all of it", encoding="utf-8")
    with pytest.raises(InputError, match="no output of this command"):
        claim(settings, INPUT, None)
    assert [file.name for file in settings.output.iterdir()] == ["thesis.txt"]


def test_a_damaged_manifest_is_said(settings: DatasetSettings) -> None:
    claim(settings, INPUT, None)
    (settings.output / NAME).write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="is damaged"):
        claim(settings, INPUT, None)
