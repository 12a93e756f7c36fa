"""`docs/tools/view_acceptance.py`: what it measures of a tiny view, and the file that holds the shipped view's."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from docs_pages import ROOT
from support.released import RELEASED
from support.view_programs import example

from orthrus import summarize

SHIPPED = ROOT / "docs" / "evidence" / "training" / "2026-11-28-third-acceptance.json"
PROMPTS = {"few": ["abcdefgh", "bdfhjlnp"], "more": ["adgjmpsv", "cegikmoq", "b"]}  # it knows such sequences


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return example("view_acceptance")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "model.safetensors"):
        (model / name).write_bytes((RELEASED / name).read_bytes())
    words = {chr(ord("a") + index): index for index in range(26)}
    tokenizer = Tokenizer(models.WordLevel(words))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(model)
    for name, prompts in PROMPTS.items():
        lines = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    run = tmp_path / "run.yaml"
    run.write_text(
        f"target: {{name: transformers, source: '{model}', device: cpu}}\nattention: {{name: sdpa}}\n"
        "cache: {name: dynamic}\nverifier: {name: consensus}\ndrafter: {name: diffusion}\n"
    )
    return run


def found_by(program: ModuleType, config: Path, *words: str) -> dict[str, Any]:
    files = [str(config.parent / f"{name}.jsonl") for name in PROMPTS]
    out = config.parent / "out.json"
    program.main(
        [
            *("--config", str(config), "--prompts", *files, "--out", str(out), "--max-new-tokens", "24", *words),
            *("target.dtype=float32", "cache.name=static"),
        ]
    )
    measured: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return measured


def test_it_counts_what_the_decoder_does(program: ModuleType, config: Path) -> None:
    import orthrus

    measured = found_by(program, config, "--block", "4", "--batch", "2")
    assert list(measured) == ["float, block 4", "environment"]
    decoder = orthrus.load(config, drafter={"block": 4}, stop={"max_new_tokens": 24}, dotted=["target.dtype=float32"])
    for name, prompts in {**PROMPTS, "all": [prompt for some in PROMPTS.values() for prompt in some]}.items():
        results = decoder.generate(prompts)
        wanted = summarize([result.measures for result in results]).tokens_per_cycle
        figures = measured["float, block 4"][name]
        assert (figures["pooled"], figures["prompts"]) == (wanted.pooled, len(prompts))
        assert figures["per_prompt"] == pytest.approx(wanted.per_prompt)
        assert figures["ended"] == sum(result.finish_reason == "stop_token" for result in results) / len(results)
    assert {"device", "torch", "transformers", "batch", "max_new_tokens", "model"} <= set(measured["environment"])


@pytest.mark.thorough
def test_storages_and_blocks_are_compared(program: ModuleType, config: Path) -> None:
    measured = found_by(program, config, "--block", "2", "8", "--storage-compare", "--limit", "1")
    assert list(measured) == [f"{storage}, block {block}" for storage in ("float", "int8") for block in (2, 8)] + [
        "environment"
    ]
    assert {measured[label]["all"]["prompts"] for label in list(measured)[:-1]} == {2}
    assert measured["float, block 2"]["all"]["pooled"] <= 2 < measured["float, block 8"]["all"]["pooled"]


def test_int8_is_what_the_storage_keeps(program: ModuleType, config: Path, tmp_path: Path) -> None:
    """Rounding in place gives the very weights that a view which was written as int8 has."""
    import orthrus
    from orthrus_diffusion.view_files.convert import to_view

    to_view(RELEASED, tmp_path / "view", "int8", "tiny")
    kept = orthrus.load(config, drafter={"view": str(tmp_path / "view")}, dotted=["target.dtype=float32"]).target
    rounded = orthrus.load(config, dotted=["target.dtype=float32"]).target
    program.round_views(rounded)
    [[kept_name], [other]] = kept.view_names, rounded.view_names
    wanted, rounded_weights = kept.view_weights(kept_name), rounded.view_weights(other)
    assert all(rounded_weights[name].equal(weight) for name, weight in wanted.items())


def test_bad_input_is_one_sentence(
    program: ModuleType, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from orthrus_diffusion.view_files.convert import to_view

    to_view(RELEASED, tmp_path / "view", "int8", "tiny")
    for words, says in (
        (["--view", str(tmp_path / "gone")], "there is no file or directory"),
        (["--view", str(tmp_path / "view"), "--storage-compare"], "the view is kept as int8 already"),
        (["--prompts", str(tmp_path / "gone.jsonl")], "does not exist"),
    ):
        with pytest.raises(SystemExit) as left:
            found_by(program, config, *words)
        captured = capsys.readouterr()
        assert left.value.code == 2 and says in captured.err and captured.err.count("\n") == 1
    with pytest.raises(SystemExit):
        found_by(program, config, "--blocks", "2")


def test_the_shipped_views_figures_have_this_form() -> None:
    held = json.loads(SHIPPED.read_text(encoding="utf-8"))
    keys = {
        "pooled", "per_prompt", "ended_pooled", "ended_per_prompt", "ended", "prompts"
    }  # fmt: skip
    assert held
    for figures in held.values():
        assert set(figures) == {"mt_bench", "gsm8k_200", "humaneval", "all"}
        assert all(set(figure) - {"seconds"} == keys for figure in figures.values())
