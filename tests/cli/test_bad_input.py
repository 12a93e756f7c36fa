"""Bad input: one clear sentence on standard error, exit 2, no traceback (unless --debug), nothing written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.program import ERROR, INSTALLED, TABLE, InProcess, outcome

RUN = ["run", "--config", TABLE]
ASK = [*RUN, "--prompt", "abc"]
GREEDY = "attention: {name: eager}\ncache: {name: dynamic}\ndrafter: {name: none}\nverifier: {name: consensus}\n"


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder, so that whatever is written shows."""
    folder = tmp_path / "somewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ORTHRUS_CACHE", str(folder / "cache"))
    return folder


SENTENCES = {
    "unknown key": (
        [*ASK, "stopp.max_new_tokens=1"],
        "override: stopp: unknown key 'stopp' (did you mean 'stop'?); kn",
    ),
    "unknown option": ([*ASK, "stop.max_tokens=1"], "override: stop.max_tokens: unknown option 'max_tokens' (did you "),
    "unknown name": (
        [*ASK, "drafter.name=nune"],
        "override: drafter.name: unknown drafter 'nune' (did you mean 'none'",
    ),
    "wrong type": ([*ASK, "stop.max_new_tokens=many"], "override: stop.max_new_tokens: must be an integer, not 'many'"),
    "misspelled word": (
        [*ASK, "drafter.length=auot"],
        "override: drafter.length: must be an integer or 'auto', not 'auot'",
    ),
    "misspelled word or null": (
        [*ASK, "drafter={name: diffusion, block: auot}"],
        "override: drafter.block: must be an integer or 'auto' or null, not 'auot'",
    ),
    "negative limit": ([*ASK, "stop.max_new_tokens=-1"], "override: stop.max_new_tokens: must be at least 0, not -1"),
    "no key=value": ([*ASK, "drafter"], "override: 'drafter': must be written key=value"),
    "missing config": (["run", "--config", "gone.yaml", "--prompt", "a"], "there is no config file 'gone.yaml'"),
    "config is a folder": (["run", "--config", ".", "--prompt", "a"], ".: is a directory, not a file"),
    "no config": (["run", "--prompt", "a"], "Missing option '--config' (see orthrus run --help)"),
    "no prompt": (RUN, "give either --prompt TEXT or --prompts FILE.jsonl"),
    "two prompts": ([*ASK, "--prompts", "x.jsonl"], "give either --prompt TEXT or --prompts FILE.jsonl"),
    "empty prompt": ([*RUN, "--prompt", ""], "the prompt is empty"),
    "blank prompt": ([*RUN, "--prompt", " \n\t"], "the prompt is empty"),
    "stray byte": ([*RUN, "--prompt", "ab\udcff"], "the prompt is not Unicode text: '\\udcff' at character 2"),
    "foreign letter": ([*RUN, "--prompt", "xyz"], "prompt '0': 'x' is not in the alphabet 'abcdefgh '"),
    "long prompt": (
        [*RUN, "--prompt", "abcdefgh", "target.max_length=8"],
        "prompt '0' has 8 tokens; the model's context of 8 leaves no room to answer",
    ),
    "foreign stop token": (
        [*ASK, "stop.token_ids=[9]"],
        "stop.token_ids: 9 is no token of the target; it has 9 tokens",
    ),
    "cold": ([*ASK, "sampling.temperature=-1"], "override: sampling.temperature: must be at least 0.0, not -1"),
    "endless heat": (
        [*ASK, "sampling.temperature=.inf"],
        "override: sampling.temperature: must be a finite number, not inf",
    ),
    "warm consensus": (
        [*ASK, "sampling.temperature=0.7"],
        "override: sampling.temperature: must be 0 with verifier 'consensus', which decodes greedily, not 0.7",
    ),
    "no top-k": ([*ASK, "sampling.top_k=0"], "override: sampling.top_k: must be at least 1, not 0"),
    "no top-p": ([*ASK, "sampling.top_p=0"], "override: sampling.top_p: must be more than 0 and at most 1, not 0"),
    "more than all": ([*ASK, "sampling.top_p=1.5"], "override: sampling.top_p: must be at most 1.0, not 1.5"),
    "no penalty": (
        [*ASK, "sampling.repetition_penalty=0"],
        "override: sampling.repetition_penalty: must be more than 0",
    ),
    "empty bad word": (
        [*ASK, 'sampling.bad_words=[""]'],
        "override: sampling.bad_words: an empty bad word would forbid",
    ),
    "bad word of no tokens": (
        [*ASK, "sampling.bad_words=[[]]"],
        "override: sampling.bad_words: an empty bad word would",
    ),
    "foreign bad word": ([*ASK, "sampling.bad_words=[xyz]"], "sampling.bad_words: 'x' is not in the alphabet"),
    "bad word of foreign tokens": (
        [*ASK, "sampling.bad_words=[[1, 77]]"],
        "sampling.bad_words: 77 is no token of the target; it has 9 tokens",
    ),
    "foreign bias": (
        [*ASK, "sampling.logit_bias={99: 1}"],
        "sampling.logit_bias: 99 is no token of the target; it has 9 tokens",
    ),
    "bias of no token": ([*ASK, "sampling.logit_bias={a: 1}"], "override: sampling.logit_bias: must be a mapping from"),
    "endless bias": (
        [*ASK, "sampling.logit_bias={1: .inf}"],
        "override: sampling.logit_bias: a bias must be a finite number, or -.inf for a token that never comes",
    ),
    "no batch": ([*ASK, "--batch", "0"], "--batch must be at least 1, not 0"),
    "batch of what": ([*ASK, "--batch", "two"], "Invalid value for '--batch': "),
    "unknown flag": ([*ASK, "--promt", "x"], "No such option: --promt"),
    "unknown command": (["rum"], "No such command 'rum'"),
    "missing prompt file": ([*RUN, "--prompts", "gone.jsonl"], "the prompt file 'gone.jsonl' does not exist"),
    "prompt file is a folder": ([*RUN, "--prompts", "."], "the prompt file '.' is a directory"),
    "nothing to validate": (["validate", "gone"], "there is no file or directory 'gone'"),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_one_sentence_and_nothing_written(name: str, orthrus: InProcess, somewhere: Path) -> None:
    arguments, sentence = SENTENCES[name]
    assert orthrus(*arguments).error().startswith(sentence)
    assert list(somewhere.iterdir()) == []


@pytest.mark.parametrize("name", ["unknown option", "missing config", "empty prompt", "unknown flag"])
def test_debug_shows_the_traceback_too(name: str, orthrus: InProcess) -> None:
    arguments, sentence = SENTENCES[name]
    done = orthrus(*arguments, "--debug")
    assert done.code == 2
    assert "Traceback (most recent call last)" in done.err
    assert f"\n{ERROR}{sentence}" in done.err


def test_a_program_of_its_own_does_the_same() -> None:
    arguments, sentence = SENTENCES["stray byte"]
    assert outcome(*arguments, program=INSTALLED).error().startswith(sentence)


def test_several_errors_are_a_line_each(orthrus: InProcess) -> None:
    done = orthrus(*ASK, "stop.max_new_tokens=-1", "seed=x", "drafter.length=0")
    assert (done.code, done.out) == (2, "")
    assert [line.split(": ")[3] for line in done.err.splitlines()] == ["drafter.length", "stop.max_new_tokens", "seed"]
    assert all(line.startswith(ERROR) for line in done.err.splitlines())


GOOD = '{"id": "good", "prompt": "abc"}'
LINES = {
    "no JSON": ('{"prompt": "a"', "is not JSON: Expecting ',' delimiter (column 15)"),
    "bare text": ("abc", "is not JSON: Expecting value (column 1)"),
    "a list": ("[1]", 'must be an object with a text "prompt"'),
    "no prompt": ('{"id": "x"}', 'must be an object with a text "prompt"'),
    "a number": ('{"prompt": 7}', 'must be an object with a text "prompt"'),
    "empty": ('{"prompt": ""}', "the prompt is empty"),
    "blank": ('{"prompt": " "}', "the prompt is empty"),
    "half a pair": ('{"prompt": "a\\ud800"}', "the prompt is not Unicode text: '\\ud800' at character 1"),
    "odd id": ('{"id": {"a": 1}, "prompt": "a"}', 'the "id" must be text or an integer, not {"a": 1}'),
    "null id": ('{"id": null, "prompt": "a"}', 'the "id" must be text or an integer, not null'),
    "long number": ('{"n": ' + "1" * 5000 + ', "prompt": "a"}', "cannot be read: Exceeds the limit (4300 digits)"),
}


@pytest.mark.parametrize("command", ["run", "verify"])
@pytest.mark.parametrize("name", LINES)
def test_malformed_jsonl_is_told_with_file_and_line(name: str, command: str, orthrus: InProcess) -> None:
    line, sentence = LINES[name]
    file = Path("prompts.jsonl")
    file.write_text(f"{GOOD}\n\n{line}\n{GOOD}\n", encoding="utf-8")
    error = orthrus(command, "--config", TABLE, "--prompts", file).error()
    assert error.startswith(f"prompts.jsonl, line 3: {sentence}")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"", "holds no prompts"), (b"\n \n", "holds no prompts"), (b'{"prompt": "\xff"}', "is not UTF-8 text")],
)
def test_a_prompt_file_without_prompts(content: bytes, sentence: str, orthrus: InProcess) -> None:
    Path("prompts.jsonl").write_bytes(content)
    assert orthrus(*RUN, "--prompts", "prompts.jsonl").error() == f"the prompt file 'prompts.jsonl' {sentence}"


def test_a_line_ends_where_json_lines_end(orthrus: InProcess) -> None:
    """U+2028 and its like are letters of a JSON text, whatever str.splitlines thinks of them."""
    prompt = "ab\u2028\u0085\x1c"
    Path("prompts.jsonl").write_bytes(json.dumps({"prompt": prompt}, ensure_ascii=False).encode() + b"\r\n")
    error = orthrus(*RUN, "--prompts", "prompts.jsonl").error()
    assert error.startswith("prompt '1': '\\u2028' is not in the alphabet")


def test_one_bad_prompt_of_many_is_told_before_anything_is_answered(orthrus: InProcess) -> None:
    Path("prompts.jsonl").write_text(f'{GOOD}\n{{"id": "long", "prompt": "aaaaaaaa"}}\n', encoding="utf-8")
    error = orthrus(*RUN, "--prompts", "prompts.jsonl", "--json", "target.max_length=8").error()
    assert error.startswith("prompt 'long' has 8 tokens; ")


SOURCES = {
    "gone/model": "target.source: 'gone/model' is no local path, it is not in the hub's cache on this machine, and the",
    "hub:gone/model": "target.source: 'gone/model' is no local path, it is not in the hub's cache on this machine, and",
    "./gone": "target.source: there is no file or directory './gone'",
    "path:gone/model": "target.source: there is no file or directory 'gone/model'",
    "gone/model.gguf": "target.source: there is no file or directory 'gone/model.gguf'",
    "~nobody-here/model": "target.source: there is no file or directory '~nobody-here/model'",
    "package:json": "target.source: 'package:json' must be written package:MODULE/FILE",
    "package:no_such_module/model.gguf": "target.source: there is no installed package 'no_such_module'",
    "package:json/model.gguf": "target.source: there is no file 'model.gguf' in the package 'json'",
    "package:bisect/model.gguf": "target.source: there is no installed package 'bisect'",
    "hup:gone/model": "override: target.source: 'hup:gone/model': unknown source 'hup' (did you mean 'hub'?); known:",
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_model_that_is_not_there(
    source: str, orthrus: InProcess, somewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(somewhere / "hub"))
    Path("run.yaml").write_text(f"{GREEDY}target: {{name: transformers, source: nowhere}}\n", encoding="utf-8")
    done = orthrus("run", "--config", "run.yaml", "--prompt", "abc", f"target.source={source}")
    notes, _, error = done.err.rpartition(ERROR)
    tried = "is not in the hub's cache" in SOURCES[source]
    assert notes == ("fetching gone/model from the hub\n" if tried else "")
    assert (done.code, done.out) == (2, "")
    assert error.startswith(SOURCES[source])
    assert error.count("\n") == 1
    assert [path.name for path in somewhere.iterdir()] == ["run.yaml"]
