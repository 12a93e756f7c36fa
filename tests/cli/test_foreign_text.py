"""Text of others on a terminal: ids, names, paths and errors come without control characters, whoever wrote them."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text
from support.program import called
from support.site import Site
from support.trainable import put_tokenizer

from orthrus import terminal
from orthrus.progress import bar
from orthrus.terminal import console, echo, to_json

TITLE = "\x1b]0;red\x07\x9b31m"
ESCAPED = TITLE.encode("unicode_escape").decode()
TABLE = "target: {name: table}\ncache: {name: dynamic}\ndrafter: {name: none}\nstop: {max_new_tokens: 4}\n"
TINY = Path(__file__).parents[1] / "data" / "tiny-orthrus-qwen3"
MODEL = "attention: {name: sdpa}\ncache: {name: dynamic}\ntarget: {name: transformers, source: model, device: cpu}\n"
STYLES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # what rich writes by itself


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def screens(monkeypatch: pytest.MonkeyPatch, kind: type[io.StringIO] = Screen) -> Iterator[tuple[Any, Any]]:
    with monkeypatch.context() as patched:
        out, err = kind(), kind()
        patched.setattr(sys, "stdout", out)
        patched.setattr(sys, "stderr", err)
        yield out, err


def controls(text: str) -> set[str]:
    left = STYLES.sub("", text).replace("\r", "")
    return {letter for letter in left if unicodedata.category(letter) == "Cc"} - {"\n", "\t"}


@given(st.text(), st.booleans())
def test_a_terminal_gets_no_control_characters_and_a_file_gets_all(text: str, err: bool) -> None:
    for kind in (Screen, io.StringIO):
        with pytest.MonkeyPatch.context() as monkeypatch, screens(monkeypatch, kind) as (out, other):
            echo(text, err=err)
            shown, silent = (other, out) if err else (out, other)
            assert silent.getvalue() == ""
            expected = terminal.harmless(text) if kind is Screen else text
            assert shown.getvalue() == f"{expected}\n"
            assert kind is not Screen or not controls(expected.replace("\r", "_"))


@given(st.lists(st.text()) | st.dictionaries(st.text(), st.text() | st.integers()))
def test_json_escapes_every_control_character_and_says_the_same(value: Any) -> None:
    text = to_json(value)
    assert json.loads(text) == value
    assert all(unicodedata.category(letter) != "Cc" for letter in text)


def test_tables_bars_and_titles_are_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    with screens(monkeypatch) as (out, err):
        table = Table(TITLE, title=TITLE)
        table.add_row(Text(f"{TITLE}cell"))
        console().print(table)
        console().print(f"[bold]{TITLE}", style="dim")
        with console(err=True).status(TITLE), bar(TITLE, 2) as advance:
            advance(None)
    assert "cell" in out.getvalue() and "\x1b[" in out.getvalue()
    assert controls(out.getvalue()) == controls(err.getvalue()) == set()


def an_id(folder: Path) -> list[str]:
    (folder / "ids.jsonl").write_text(json.dumps({"id": f"{TITLE}one", "prompt": "abc"}) + "\n", encoding="utf-8")
    return ["run", "--config", "table.yaml", "--prompts", "ids.jsonl"]


def an_id_in_json(folder: Path) -> list[str]:
    return [*an_id(folder), "--json"]


def an_id_in_an_error(folder: Path) -> list[str]:
    (folder / "ids.jsonl").write_text(json.dumps({"id": f"{TITLE}one", "prompt": "xyz"}) + "\n", encoding="utf-8")
    return ["run", "--config", "table.yaml", "--prompts", "ids.jsonl"]


def a_used_path(folder: Path) -> list[str]:
    (folder / "use.yaml").write_text(f'use: ["{ESCAPED}"]\n', encoding="utf-8")
    return ["validate", "use.yaml"]


def a_key(folder: Path) -> list[str]:
    (folder / "key.yaml").write_text(f'{TABLE}"{ESCAPED}": 1\n', encoding="utf-8")
    return ["validate", "key.yaml"]


def an_override(folder: Path) -> list[str]:
    return ["run", "--config", "table.yaml", "--prompt", "abc", f"stop.{TITLE}=1", f"{TITLE}=1"]


def a_model_type(folder: Path) -> list[str]:
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text(json.dumps({"model_type": f"{TITLE}x"}), encoding="utf-8")
    (folder / "model" / "model.safetensors").write_bytes(b"")
    return ["run", "--config", "model.yaml", "--prompt", "a"]


def a_template_that_raises(folder: Path) -> list[str]:
    shutil.copytree(TINY, folder / "model")
    put_tokenizer(folder / "model", template=f"{{{{ raise_exception('{ESCAPED}') }}}}")
    return ["run", "--config", "model.yaml", "--prompt", "a"]


def a_views_base(folder: Path) -> list[str]:
    shutil.copytree(TINY, folder / "model")
    (folder / "view").mkdir()
    view = {"format": "orthrus-view", "version": 1, "block_size": 4, "mask_token_id": 126}
    view["base"] = {"name": f"{TITLE}x", "fingerprint": "0" * 64}
    (folder / "view" / "config.json").write_text(json.dumps(view), encoding="utf-8")
    drafter = "drafter={name: diffusion, view: view}"
    return ["run", "--config", "model.yaml", "--prompt", "a", drafter]


CASES = [value for name, value in list(globals().items()) if name.startswith(("a_", "an_"))]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_no_command_hands_on_what_could_steer(case: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.yaml").write_text(TABLE, encoding="utf-8")
    (tmp_path / "model.yaml").write_text(MODEL + "drafter: {name: none}\n", encoding="utf-8")
    arguments = case(tmp_path)
    with screens(monkeypatch) as (out, err):
        called("orthrus", *arguments)
    shown = out.getvalue() + err.getvalue()
    assert "red" in shown  # it was shown
    assert controls(shown) == set()


def test_what_a_plugin_says_of_itself_is_clean(site: Site, monkeypatch: Any) -> None:
    site.install("broken", f"raise RuntimeError('{ESCAPED}')")
    with screens(monkeypatch) as (out, err):
        called("orthrus", "plugins")
        called("orthrus", "validate", "nothing.yaml")  # which warns of it
    for shown in (out.getvalue(), err.getvalue()):
        assert "red" in shown
        assert controls(shown) == set()
