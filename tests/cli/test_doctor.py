"""`orthrus doctor`: what helps a drafter whose drafts are refused, what is said where nothing does, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import outsiders
from support.program import TABLE, InProcess
from support.site import Site

COLUMNS = ["change", "override", "accepted_length", "tokens_per_cycle", "gain", "helps", "same text"]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in ("ab", "dg", "hhc")))
    return file


@pytest.fixture
def config(site: Site, tmp_path: Path) -> Path:
    site.install("somebody", outsiders.CODE)
    file = tmp_path / "run.yaml"
    file.write_text(outsiders.CONFIG)
    return file


def test_what_helps_is_named_with_what_to_write(config: Path, prompts: Path, orthrus: InProcess) -> None:
    done = orthrus("doctor", "--config", config, "--prompts", prompts)
    assert (done.code, done.err) == (0, "")
    for column in COLUMNS:
        assert column in done.out
    assert "not tried: gone: drafter.gone: nobody is there\n" in done.out
    assert "not tried: misspelt: trial: drafter.trned: unknown option 'trned'" in done.out
    end = "It seems that the drafter turns too far. Write into the config:\ndrafter: {turned: 0}\n"
    assert done.out.splitlines()[-2].startswith("turned by 0: 3.00 accepted tokens a cycle instead of 0.00.")
    assert done.out.endswith(end)


def test_json_ranks_and_what_it_says_comes_true(config: Path, prompts: Path, orthrus: InProcess) -> None:
    told = orthrus("doctor", "--config", config, "--prompts", prompts, "--json").json()
    assert (told["drafter"], told["prompts"], told["best"]) == ("knowing", 3, "turned by 0")
    assert [trial["name"] for trial in told["trials"]] == ["turned by 0", "turned by 2", "gone", "misspelt"]
    assert [trial["helps"] for trial in told["trials"]] == [True, False, False, False]
    assert [trial["identical"] for trial in told["trials"]] == [3, 3, None, None]
    assert told["trials"][0]["write"] == {"drafter": {"turned": 0}}
    for overrides, expected in (([], told["as_configured"]), (["drafter.turned=0"], told["trials"][0])):
        ran = orthrus("run", "--config", config, "--prompts", prompts, "--json", *overrides).out.splitlines()
        results = [json.loads(line) for line in ran]
        accepted, cycles = (
            sum(sum(result["accepted_per_cycle"]) for result in results),
            sum(result["cycles"] for result in results),
        )
        assert expected["accepted_length"]["pooled"] == pytest.approx(accepted / cycles)


def test_nothing_helps(config: Path, prompts: Path, orthrus: InProcess) -> None:
    done = orthrus("doctor", "--config", config, "--prompts", prompts, "drafter.turned=4")
    assert done.code == 0
    assert done.out.splitlines()[-1] == (
        "Nothing helps: none of 2 changes wins 0.2 accepted tokens a cycle, beyond chance, over the 0.00 that drafter"
        " 'knowing' has as it is."
    )


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["drafter.name=none"], "drafter.name: 'none' drafts nothing, so there is nothing to find out about it"),
        (["drafter.name=prompt_lookup"], "drafter 'prompt_lookup' offers nothing to try"),
        (["stop.max_new_tokens=1"], "fewer than 2 of 3 prompts took a cycle"),
        (["drafter.gone=true"], "drafter.gone: nobody is there"),
        (["--limit=1"], "greater than or equal to 2"),
        (["--batch=0"], "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_examined(
    overrides: list[str], words: str, config: Path, prompts: Path, orthrus: InProcess
) -> None:
    assert words in orthrus("doctor", "--config", config, "--prompts", prompts, *overrides).error()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "does not exist"),
        ("", "holds no prompts"),
        ('{"prompt": "ab"}\n', "holds one prompt; two or more are needed"),
        ('{"prompt": ""}\n', "is empty"),
    ],
)
def test_wrong_prompts(text: str | None, words: str, config: Path, tmp_path: Path, orthrus: InProcess) -> None:
    file = tmp_path / "wrong.jsonl"
    if text is not None:
        file.write_text(text)
    assert words in orthrus("doctor", "--config", config, "--prompts", file).error()


def test_a_config_without_a_drafter(prompts: Path, tmp_path: Path, orthrus: InProcess) -> None:
    file = tmp_path / "bare.yaml"
    file.write_text(
        TABLE.read_text(encoding="utf-8")
        .replace("drafter: {name: prompt_lookup}\n", "")
        .replace("../", f"{TABLE.parent.parent}/")
    )
    assert "drafter: the config names no drafter" in orthrus("doctor", "--config", file, "--prompts", prompts).error()
