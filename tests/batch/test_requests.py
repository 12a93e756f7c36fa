"""What Python and prompt files may hand over as prompts: texts, token ids and dialogues; all else is one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.building import table_target
from support.trainable import tiny_model

import orthrus
from orthrus import InputError, read_prompts
from orthrus.prompts import check_request, encode

DIALOGUE = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "c"}, {"role": "user", "content": "d"}]


def written(path: Path, *lines: Any) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_a_dialogue_of_a_file_is_a_prompt(tmp_path: Path) -> None:
    parts = {"attention": {"name": "sdpa"}, "cache": {"name": "dynamic"}, "drafter": {"name": "none"}}
    target = {"name": "transformers", "source": str(tiny_model(tmp_path / "model")), "device": "cpu"}
    decoder = orthrus.load({"target": target, **parts, "stop": {"max_new_tokens": 2}})
    [record] = read_prompts(written(tmp_path / "prompts.jsonl", {"id": "talk", "messages": DIALOGUE}))
    assert record.id == "talk"
    result = decoder.generate([record.prompt], ids=[record.id])[0]
    assert result.prompt_token_ids == tuple(decoder.encode("uabucudv", chat=False))  # as the template has it
    with pytest.raises(InputError, match="prompt 'talk' is a dialogue"):
        _ = record.text


@pytest.mark.parametrize(
    "line",
    [
        {"messages": []},
        {"messages": "abc"},
        {"messages": [{"content": "abc"}]},
        {"messages": ["abc"]},
        {"messages": DIALOGUE, "prompt": "abc"},
        {"messages": [{"role": "user", "content": "\udcff"}]},
        {"text": "abc"},
    ],
)
def test_a_line_that_is_no_prompt_is_one_sentence(line: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 2: "):
        read_prompts(written(tmp_path / "prompts.jsonl", {"prompt": "abc"}, line))


NO_PROMPTS = [b"abc", bytearray(b"a"), None, 3, {"role": "user"}, ["a", 1], [1, "a"], [1, None], [1.0], [True, False]]
NO_PROMPTS += [[1, DIALOGUE[0]], [[1], [2]], torch.zeros(2, 2), torch.ones(2), torch.tensor(1), [], ""]


@pytest.mark.parametrize("prompt", NO_PROMPTS, ids=repr)
def test_what_is_no_prompt_is_refused(prompt: Any) -> None:
    with pytest.raises(InputError, match=r"^prompt '0'"):
        encode(table_target(), prompt)


@pytest.mark.parametrize("prompt", [[1, 2], (1, 2), torch.tensor([1, 2]), torch.tensor([1, 2]).numpy()], ids=repr)
def test_token_ids_of_any_kind_are_taken(prompt: Any) -> None:
    assert encode(table_target(), prompt) == [1, 2]


@pytest.mark.parametrize(
    ("prompts", "batch", "ids"),
    [
        ("abc", 1, None),
        (b"abc", 1, None),
        (None, 1, None),
        (3, 1, None),
        (["abc"], None, None),
        (["abc"], True, None),
        (["abc"], 0, None),
        (["abc"], 1.0, None),
        (["abc"], 1, [1]),
        (["abc"], 1, "a"),
        (["abc"], 1, 5),
        (["abc"], 1, ["a", "b"]),
    ],
)
def test_a_request_is_checked_before_anything_runs(prompts: Any, batch: Any, ids: Any) -> None:
    if ids == "a":
        assert check_request(prompts, batch, ids) == ["a"]  # a text alone is the id of the one prompt
        return
    with pytest.raises(InputError):
        check_request(prompts, batch, ids)


def test_ids_are_numbers_where_none_are_given() -> None:
    assert check_request(["a", "b"], 1, None) == ["0", "1"]
    assert check_request(("a", "b"), 2, ("x", "y")) == ["x", "y"]
