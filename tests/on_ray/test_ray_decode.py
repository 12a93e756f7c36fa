"""Datasets decoded by two actors: the same as one process decodes, killed and gone on with, too."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.program import ERROR, PROGRAM, TABLE, InProcess
from support.ray_cluster import SECONDS, environment, processes, wait_for

import orthrus
from orthrus_ray.dataset.json_lines import JsonLines, JsonLinesReader

pytestmark = pytest.mark.ray
parquet = pytest.importorskip("pyarrow.parquet")
pyarrow = pytest.importorskip("pyarrow")
ROWS, PART = 200, 16
SETTINGS = ["verifier.name=coupled", "sampling.temperature=1", "stop.max_new_tokens=96"]
WORKER = "MapWorker"


def rows() -> list[dict[str, Any]]:
    """Return rows, each with a text of its own."""
    chooser = random.Random(0)
    return [
        {
            "id": f"row {number}",
            "prompt": "".join(chooser.choices("abcdefgh", k=chooser.randint(1, 30))),
            "label": number,
        }
        for number in range(ROWS)
    ]


@pytest.fixture(scope="module")
def expected() -> list[str]:
    """Give the answers of one process."""
    decoder = orthrus.load(TABLE, dotted=SETTINGS)
    prompts = rows()
    results = decoder.generate([row["prompt"] for row in prompts], ids=[row["id"] for row in prompts], batch=8)
    return [result.text for result in results]


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """Give a file of JSON lines."""
    file = tmp_path / "in.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows()), encoding="utf-8")
    return file


def words(source: Path, output: Path, *more: object, settings: Sequence[str] = SETTINGS) -> list[object]:
    """Return the arguments of the command."""
    sizes = ["--workers", 2, "--cpus", 0.5, "--batch", 8, "--part-rows", PART]
    return ["ray", "decode", "--config", TABLE, *settings, "--input", source, "--output", output, *sizes, *more]


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start the program."""
    return subprocess.Popen(
        [*PROGRAM, *map(str, arguments)], env=environment(), stderr=subprocess.PIPE, encoding="utf-8"
    )


def decode(*arguments: object) -> str:
    """Run the program to its end; return what it said last."""
    process = start(*arguments)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said
    return said.splitlines()[-1]


def answers(output: Path) -> list[str]:
    """Return the answers of an output, in the order of the rows; assert that its other columns are the input's."""
    table = parquet.read_table(output).sort_by("label")
    assert table["label"].to_pylist() == list(range(ROWS))
    assert table["prompt"].to_pylist() == [row["prompt"] for row in rows()]
    assert table["answer_error"].to_pylist() == [None] * ROWS
    texts: list[str] = table["answer"].to_pylist()
    return texts


def parts(output: Path) -> dict[str, int]:
    """Return the parts of an output, each with the time at which it was written."""
    return {file.name: file.stat().st_mtime_ns for file in output.glob("part-*.parquet")}


def test_two_actors_decode_what_one_process_does(
    address: str, lines: Path, expected: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    said = decode(*words(lines, output, "--address", address))
    assert said == f"{ROWS} rows are done, {ROWS} of them now; {ROWS * 96} new tokens"
    assert answers(output) == expected and len(parts(output)) == 13  # 12 of 16 rows, one of 8
    table = parquet.read_table(output)
    assert set(table["answer_finish_reason"].to_pylist()) == {"length"}
    assert {len(ids) for ids in table["answer_token_ids"].to_pylist()} == {96}
    before = parts(output)
    assert decode(*words(lines, output)) == f"{ROWS} rows are done, 0 of them now; 0 new tokens"  # without a cluster
    assert parts(output) == before


@pytest.mark.parametrize("victim", ["program", "actor"])
def test_what_is_killed_is_gone_on_with(
    victim: str, address: str, lines: Path, expected: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    process = start(*words(lines, output, "--address", address))
    wait_for(lambda: len(parts(output)) >= 3)
    if victim == "actor":
        os.kill(processes(WORKER)[0], signal.SIGKILL)
        _, said = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, said
        assert answers(output) == expected
        return
    process.kill()
    process.communicate()
    wait_for(lambda: not processes(WORKER))
    before = parts(output)
    assert len(before) < 13
    cut = output / min(before)
    cut.write_bytes(cut.read_bytes()[:-50])  # as a disk that lost power may leave it
    said = decode(*words(lines, output, "--address", address))
    assert said.startswith(f"{ROWS} rows are done, {ROWS - PART * (len(before) - 1)} of them now")
    assert answers(output) == expected
    after = parts(output)
    assert {name: after[name] for name in before if name != cut.name} == {
        name: time for name, time in before.items() if name != cut.name
    }
    assert not [file for file in output.iterdir() if file.name.startswith(".part")]  # what the killed ones left


def test_parquet_files_and_rows_that_cannot_be_answered(address: str, tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    questions = [["abc", "xyz", None, ""], ["abc", "abd"]]
    for number, prompts in enumerate(questions):
        table = pyarrow.table({"question": prompts, "score": [0.5] * len(prompts)})
        parquet.write_table(table, source / f"{number}.parquet", row_group_size=1)
    said = decode(*words(source, output, "--address", address, "--column", "question", "--part-rows", 3))
    assert "3 of them with an error" in said
    table = parquet.read_table(output)
    assert table.column_names[:2] == ["question", "score"]
    found = table.to_pylist()
    assert [row["question"] for row in found] == [*questions[0], *questions[1]]
    decoder = orthrus.load(TABLE, dotted=SETTINGS)
    wanted = decoder.generate(["abc", "abc", "abd"], ids=["1", "5", "6"])
    assert [row["answer"] for row in found if row["answer"]] == [result.text for result in wanted]
    assert [bool(row["answer_error"]) for row in found] == [False, True, True, True, False, False]
    assert found[1]["answer_error"] == "prompt '2': 'x' is not in the alphabet 'abcdefgh '"


def test_prompts_of_json_lines_are_texts_dialogues_or_token_ids(address: str, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out"
    prompts: list[Any] = ["abc", [0, 1, 2], {"no": "prompt"}, [0, 99]]
    source.write_text("".join(f"{json.dumps({'prompt': prompt})}\n" for prompt in prompts), encoding="utf-8")
    assert "2 of them with an error" in decode(*words(source, output, "--address", address))
    found = parquet.read_table(output).to_pylist()
    wanted = orthrus.load(TABLE, dotted=SETTINGS).generate(["abc", "abc"], ids=["1", "2"])
    assert [row["answer"] for row in found] == [wanted[0].text, wanted[1].text, None, None]
    assert [json.loads(row["prompt"]) for row in found] == prompts


def test_a_text_that_looks_like_a_list_is_a_text(tmp_path: Path) -> None:
    (file := tmp_path / "in.jsonl").write_text('{"prompt": "[1]"}\n', encoding="utf-8")
    lines = JsonLines([file])
    reader = JsonLinesReader(lines.kinds)
    [chunk] = lines.chunks(4)
    assert reader.values(reader.read(chunk), "prompt") == ["[1]"]


def test_a_decoder_that_cannot_be_loaded_is_said(address: str, lines: Path, tmp_path: Path) -> None:
    absent = ["target.name=transformers", "target.source=/absent/model", "attention.name=sdpa", "cache.name=dynamic"]
    process = start(*words(lines, tmp_path / "out", "--address", address, settings=absent))
    _, said = process.communicate(timeout=SECONDS)
    [line] = [line for line in said.splitlines() if line.startswith(ERROR)]
    assert process.returncode == 2 and "/absent/model" in line and "orthrus-error" not in line
    assert "Traceback" not in said


def test_what_cannot_be_decoded_is_said_before_anything_is(lines: Path, tmp_path: Path, orthrus: InProcess) -> None:
    output = tmp_path / "out"
    assert "unknown column 'question'" in orthrus(*words(lines, output, "--column", "question")).error()
    assert "--id-column: unknown column" in orthrus(*words(lines, output, "--id-column", "name")).error()
    assert "does not exist" in orthrus(*words(tmp_path / "absent.jsonl", output)).error()
    assert "must be a file" in orthrus(*words(TABLE, output)).error()
    (empty := tmp_path / "empty.jsonl").write_text("\n", encoding="utf-8")
    assert "holds no rows" in orthrus(*words(empty, output)).error()
    (damaged := tmp_path / "in.parquet").write_bytes(b"PAR1")
    assert "is no Parquet file" in orthrus(*words(damaged, output)).error()
    parquet.write_table(pyarrow.table({"prompt": ["a"], "answer": ["b"]}), tmp_path / "answered.parquet")
    assert "has a column 'answer'" in orthrus(*words(tmp_path / "answered.parquet", output)).error()
    assert not output.exists()


def test_an_output_from_another_config_is_left_alone(
    address: str, lines: Path, tmp_path: Path, orthrus: InProcess
) -> None:
    output = tmp_path / "out"
    short = [*SETTINGS[:2], "stop.max_new_tokens=2"]
    decode(*words(lines, output, "--address", address, settings=short))
    before = parts(output)
    said = orthrus(*words(lines, output)).error()
    assert "exists from another config ('config.stop.max_new_tokens' differs)" in said
    lines.write_text(lines.read_text(encoding="utf-8").replace("a", "b"), encoding="utf-8")
    assert "exists from another input" in orthrus(*words(lines, output, settings=short)).error()
    assert parts(output) == before
